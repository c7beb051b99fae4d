//! How long the disk of a directory takes to make a write durable.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::clock::Clock;

/// Enough for a 99th percentile that two slow syncs do not make.
const SYNCS_MAX: usize = 200;

/// On a slow disk fewer must do.
const TIME_MAX: Duration = Duration::from_secs(2);

/// One small group of the store's log.
const BLOCK: [u8; 4096] = [0xA5; 4096];

/// File systems without a disk beneath, by the number that `statfs` tells: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58F6];

/// What was measured.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SyncTimes {
    /// Where: the directory itself, or the nearest one above it that exists.
    pub(crate) directory: String,
    pub(crate) count: usize,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Nothing there survives a loss of power.
    pub(crate) is_memory: bool,
}

/// Measures in `data`, or where it would be made.
///
/// The store writes its log over old files, whose blocks are allocated: so does this.
///
/// # Errors
///
/// No directory is there, it cannot be written to, or a sync failed.
pub(crate) fn measure(data: &Path) -> Result<SyncTimes, String> {
    let directory = existing(data).ok_or_else(|| format!("{}: no directory", data.display()))?;
    let told = |error: io::Error| format!("{}: {error}", directory.display());
    let times = sync_times(&directory).map_err(told)?;
    let kind = rustix::fs::statfs(&directory).map_err(|errno| told(errno.into()))?.f_type;
    let is_memory = u64::try_from(kind).is_ok_and(|kind| IN_MEMORY.contains(&kind));
    Ok(summary(&directory, times, is_memory))
}

/// The directory, or the nearest one above that exists.
fn existing(data: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(data).ok()?;
    absolute.ancestors().find(|path| path.exists()).map(Path::to_path_buf)
}

fn sync_times(directory: &Path) -> io::Result<Vec<Duration>> {
    // It has no name, or loses it at once: nothing is left behind by any end of this process.
    let mut file = tempfile::tempfile_in(directory)?;
    for _ in 0..SYNCS_MAX {
        file.write_all(&BLOCK)?;
    }
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let clock = Clock::start();
    let mut times = Vec::with_capacity(SYNCS_MAX);
    while times.len() < SYNCS_MAX && clock.elapsed() < TIME_MAX {
        let started = clock.elapsed();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        times.push(clock.elapsed().saturating_sub(started));
    }
    Ok(times)
}

fn summary(directory: &Path, mut times: Vec<Duration>, is_memory: bool) -> SyncTimes {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    SyncTimes {
        directory: directory.display().to_string(),
        count: times.len(),
        median_ms: at(50),
        p99_ms: at(99),
        max_ms: at(100),
        is_memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let found = summary(Path::new("d"), times, false);
        assert_eq!((found.count, found.median_ms, found.p99_ms), (200, 100.0, 198.0));
        assert!((found.max_ms - 200.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_directory_that_is_still_to_be_made_is_measured_above_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let found = measure(&folder.path().join("data/deeper")).unwrap();
        assert_eq!(Path::new(&found.directory), folder.path());
        assert!((1..=SYNCS_MAX).contains(&found.count));
        assert!(found.median_ms > 0.0 && found.p99_ms >= found.median_ms, "{found:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        std::fs::write(&file, "").unwrap();
        let error = measure(&file).unwrap_err();
        assert!(error.starts_with(&file.display().to_string()), "{error}");
    }
}
