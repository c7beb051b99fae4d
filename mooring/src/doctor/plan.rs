//! How many rings a target takes, and how large: a ring's table of descriptors is bounded by the
//! limit of open files.

use serde::Serialize;

/// `server.cores` at most; `gateway::limits` checks it.
pub(crate) const CORES_MAX: u64 = 256;

/// Descriptors of a ring's table beside its connections; `gateway::limits` adds them.
pub(crate) const TABLE_SPARE: u64 = 256;

/// `limits.connections_per_core_max` at most; `gateway::limits` checks it.
const CONNECTIONS_PER_CORE_MAX: u64 = 1_000_000;

/// How to start the server for the target.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// `--cores`.
    pub(crate) cores: u64,
    /// `limits.connections_per_core_max`.
    pub(crate) connections_per_core_max: u64,
}

impl Plan {
    /// As few rings as `nofile` permits, at least one a processor and at most [`CORES_MAX`]. None
    /// is no limit, and the ring's own bound remains.
    pub(crate) fn new(sessions: u64, nofile: Option<u64>, processors: u64) -> Self {
        let connections = connections_max(nofile);
        let average = average(connections).max(1);
        let cores = sessions.div_ceil(average).max(processors).clamp(1, CORES_MAX);
        let connections_per_core_max =
            uneven(sessions.div_ceil(cores)).clamp(1, connections.max(1));
        Self { cores, connections_per_core_max }
    }

    /// Sessions that [`CORES_MAX`] rings hold under `nofile`.
    pub(crate) fn capacity(nofile: Option<u64>) -> u64 {
        average(connections_max(nofile)) * CORES_MAX
    }

    /// The limit of open files with which one ring a processor holds `sessions`.
    pub(crate) const fn nofile_for(sessions: u64, processors: u64) -> u64 {
        let each = sessions.div_ceil(if processors == 0 { 1 } else { processors });
        let root = each.saturating_sub(1).isqrt() + 1;
        (root + 2).pow(2) + TABLE_SPARE
    }
}

fn connections_max(nofile: Option<u64>) -> u64 {
    nofile.map_or(CONNECTIONS_PER_CORE_MAX, |files| {
        files.saturating_sub(TABLE_SPARE).min(CONNECTIONS_PER_CORE_MAX)
    })
}

/// Users are spread over the cores by a hash, so the fullest core has more than the average. Four
/// standard deviations of the count are passed by none of 256 cores in 99 of 100 machines.
const fn uneven(average: u64) -> u64 {
    average + 4 * (average.isqrt() + 1)
}

/// The greatest square for which [`uneven`] stays within `connections`: of `r²` it is `(r + 2)²`.
const fn average(connections: u64) -> u64 {
    connections.isqrt().saturating_sub(2).pow(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway::config::Config;
    use gateway::limits::Limits;

    #[test]
    fn rings_are_as_many_as_the_limit_of_open_files_asks_for() {
        let rows = [
            // sessions, nofile, processors; cores, connections of each
            (1_000_000, Some(20_000), 2, (53, 19_420)),
            (1_000_000, Some(1_048_576), 2, (2, 502_832)),
            (1_000_000, Some(1_048_576), 16, (16, 63_504)),
            (1_000_000, None, 1, (2, 502_832)),
            (10_000, Some(1024), 2, (16, 729)),
            (1, Some(20_000), 2, (2, 9)),
            // Not enough: as many as there may be.
            (1_000_000, Some(1024), 2, (256, 768)),
            (1_000_000, Some(100), 2, (256, 1)),
        ];
        for (sessions, nofile, processors, expected) in rows {
            let plan = Plan::new(sessions, nofile, processors);
            let found = (plan.cores, plan.connections_per_core_max);
            assert_eq!(found, expected, "{sessions} with {nofile:?} files on {processors}");
        }
    }

    #[test]
    fn a_plan_within_the_capacity_has_room_for_the_fullest_core() {
        for nofile in [300, 1024, 4096, 20_000, 65_536, 1 << 20] {
            let capacity = Plan::capacity(Some(nofile));
            assert!(capacity > 0, "{nofile}");
            let plan = Plan::new(capacity, Some(nofile), 1);
            assert_eq!(plan.cores, CORES_MAX, "{nofile}");
            assert!(plan.connections_per_core_max >= uneven(capacity / CORES_MAX), "{nofile}");
            assert!(plan.connections_per_core_max + TABLE_SPARE <= nofile, "{nofile}");
        }
        assert_eq!(Plan::capacity(Some(TABLE_SPARE)), 0);
    }

    #[test]
    fn one_ring_a_processor_needs_what_the_plan_then_takes() {
        for (sessions, processors) in [(1_000_000, 2), (100_000, 2), (1_000_000, 64), (1, 1)] {
            let nofile = Plan::nofile_for(sessions, processors);
            assert_eq!(Plan::new(sessions, Some(nofile), processors).cores, processors);
        }
    }

    #[test]
    fn the_bounds_are_those_of_the_gateway() {
        let with = |toml: String| {
            let config: Config = toml::from_str(&toml).unwrap();
            Limits::new(&config)
        };
        let cores = |count| with(format!("[server]\ncores = {count}"));
        assert!(cores(CORES_MAX).is_ok() && cores(CORES_MAX + 1).is_err());
        let connections = |count| with(format!("[limits]\nconnections_per_core_max = {count}"));
        assert!(connections(CONNECTIONS_PER_CORE_MAX + 1).is_err());
        let limits = connections(CONNECTIONS_PER_CORE_MAX).unwrap();
        let spare = u64::from(limits.ring.descriptors_max - limits.connections_max);
        assert_eq!(spare, TABLE_SPARE);
    }
}
