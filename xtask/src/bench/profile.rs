//! Where the server's time goes at one rate: a flame graph, and who leads in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;

use super::server::Server;
use super::{Arguments, load_command};
use crate::environment::{self, Environment};
use crate::{console, prerequisites};

/// Samples a second and thread: a prime, so that it does not beat with ticks.
const SAMPLES_PER_SECOND: &str = "199";

/// Bytes of each stack that are taken down, to be unwound later.
const CALL_GRAPH: &str = "dwarf,16384";

/// Leaves of the graph that the page lists.
const LEAVES_MAX: usize = 12;

/// Shares of the samples, largest first.
type Shares = Vec<(String, f64)>;

/// What was sampled.
#[derive(Default)]
pub(crate) struct Profile {
    pub(super) rate: u64,
    pub(super) threads: Shares,
    /// Functions by the time in themselves.
    pub(super) leaves: Shares,
}

/// Runs one more time at `rate` with `perf` looking on; writes the graph. `None` where there is no
/// `perf`.
pub(super) fn profile(
    environment: &Environment,
    arguments: &Arguments,
    rate: u64,
    load: &[&str],
    graph: &Path,
) -> Result<Option<Profile>> {
    if !prerequisites::answers("perf", &["--version"]) {
        console::note("no profile: perf is not installed (Debian: apt-get install linux-perf)");
        return Ok(None);
    }
    let server = Server::start(environment, arguments.cores)?;
    let mut command = load_command(environment, arguments, &server, rate, load);
    let mut generator = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start loadgen")?;
    std::thread::park_timeout(Duration::from_secs(arguments.warmup));
    let folder = tempfile::Builder::new().prefix("mooring-profile-").tempdir()?;
    let samples = folder.path().join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "--freq", SAMPLES_PER_SECOND, "--call-graph", CALL_GRAPH, "--pid"]);
    perf.arg(server.id().to_string()).arg("--output").arg(&samples);
    perf.args(["--", "sleep", &arguments.seconds.to_string()]);
    let recorded = environment::output(&mut perf);
    generator.wait().context("cannot wait for loadgen")?;
    server.stop()?;
    recorded?;
    let folded = fold(&samples, folder.path())?;
    draw(&folded, graph)?;
    Ok(Some(Profile::read(&folded, rate)))
}

/// The samples as lines of `thread;caller;callee count`.
fn fold(samples: &Path, folder: &Path) -> Result<String> {
    let script = folder.join("perf.script");
    let status = Command::new("perf")
        .args(["script", "--no-inline", "--input"])
        .arg(samples)
        .stdout(File::create(&script)?)
        .stderr(Stdio::null())
        .status()
        .context("cannot start `perf script`")?;
    anyhow::ensure!(status.success(), "`perf script` ended with {status}");
    let mut folded = Vec::new();
    let script = BufReader::new(File::open(&script)?);
    Folder::default().collapse(script, &mut folded).context("cannot read what perf says")?;
    String::from_utf8(folded).context("perf has printed something else than text")
}

fn draw(folded: &str, graph: &Path) -> Result<()> {
    let mut options = flamegraph::Options::default();
    "The server's threads".clone_into(&mut options.title);
    // Narrower is not read, and would be most of the file.
    options.min_width = 0.2;
    options.deterministic = true;
    let file = BufWriter::new(
        File::create(graph).with_context(|| format!("cannot write {}", graph.display()))?,
    );
    flamegraph::from_lines(&mut options, folded.lines(), file).context("cannot draw the graph")
}

impl Profile {
    fn read(folded: &str, rate: u64) -> Self {
        let (mut threads, mut leaves) = (BTreeMap::new(), BTreeMap::new());
        let mut total = 0_u64;
        for line in folded.lines() {
            let Some((stack, count)) = line.rsplit_once(' ') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            let thread = stack.split(';').next().unwrap_or_default();
            let leaf = stack.rsplit(';').next().unwrap_or_default();
            *threads.entry(thread.to_owned()).or_default() += count;
            *leaves.entry(leaf.to_owned()).or_default() += count;
            total += count;
        }
        let mut leaves = shares(leaves, total);
        leaves.truncate(LEAVES_MAX);
        Self { rate, threads: shares(threads, total), leaves }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a report")]
fn shares(counts: BTreeMap<String, u64>, total: u64) -> Shares {
    let share = |(name, count): (String, u64)| (name, count as f64 / total.max(1) as f64);
    let mut shares: Shares = counts.into_iter().map(share).collect();
    shares.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    shares
}

/// Removes a graph of an earlier run, which would not belong to this page.
pub(super) fn forget(graph: &Path) -> Result<()> {
    match fs::remove_file(graph) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_samples_and_leaves_are_who_was_running() {
        let folded = "core-0;run;send 6\ncore-0;run 1\nstore-writer;write;send 3\nbroken\n";
        let profile = Profile::read(folded, 5);
        let named = |shares: &Shares| {
            shares.iter().map(|(name, share)| format!("{name} {share:.1}")).collect::<Vec<_>>()
        };
        assert_eq!(named(&profile.threads), ["core-0 0.7", "store-writer 0.3"]);
        assert_eq!(named(&profile.leaves), ["send 0.9", "run 0.1"]);
    }
}
