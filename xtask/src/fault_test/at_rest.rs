//! Damage to the data directory of a server that was killed: each copy of it is damaged in one
//! way, and started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::host::{Host, Place, ending};
use super::mounts::{Mount, cannot_mount};
use super::table::{Row, shown};
use crate::environment;

/// Bits that are flipped in a file, each in a copy of its own.
const FLIPS: u64 = 5;

/// (name in the table, folder, beginning and end of the file's name, tried by the short form).
const FILES: [(&str, &str, &str, &str, bool); 12] = [
    ("FORMAT", "", "FORMAT", "", false),
    ("DURABLE", "", "DURABLE", "", true),
    ("LOCK", "", "LOCK", "", false),
    ("db/CURRENT", "db", "CURRENT", "", false),
    ("db/MANIFEST", "db", "MANIFEST-", "", true),
    ("db/OPTIONS", "db", "OPTIONS-", "", false),
    ("db/IDENTITY", "db", "IDENTITY", "", false),
    ("db/LOCK", "db", "LOCK", "", false),
    ("db/*.log", "db", "", ".log", true),
    ("db/*.sst", "db", "", ".sst", false),
    ("keys/*.pem", "keys", "", ".pem", false),
    ("keys/ticket.key", "keys", "ticket.key", "", false),
];

/// How the process answers to damage that is found by a full check, or by the read that needs what
/// is damaged.
const CHECKED: &str = "starts; `mooring check` tells";

/// What is done to a file.
#[derive(Clone, Copy)]
enum Damage {
    Removed,
    Emptied,
    Halved,
    /// One bit, at so many of so many parts of the file.
    Flipped(u64),
}

impl Damage {
    const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Emptied => "emptied",
            Self::Halved => "cut in half",
            Self::Flipped(_) => "a bit flipped",
        }
    }

    /// Whether a start may pass over it: bits in the data of a table, all of which no start reads.
    fn is_left_to_reads(self, file_end: &str) -> bool {
        file_end == ".sst" && matches!(self, Self::Flipped(_))
    }

    fn all() -> impl Iterator<Item = Self> {
        [Self::Removed, Self::Emptied, Self::Halved]
            .into_iter()
            .chain((0..FLIPS).map(Self::Flipped))
    }

    fn apply(self, path: &Path) -> Result<()> {
        let mut bytes = fs::read(path)?;
        match self {
            Self::Removed => return Ok(fs::remove_file(path)?),
            Self::Emptied => bytes.clear(),
            Self::Halved => bytes.truncate(bytes.len() / 2),
            Self::Flipped(part) => {
                let parts = usize::try_from(FLIPS)?;
                let at = bytes.len() * (2 * usize::try_from(part)? + 1) / (2 * parts);
                *bytes.get_mut(at).context("an empty file has no bit")? ^= 0x10;
            }
        }
        Ok(fs::write(path, bytes)?)
    }
}

/// What came of a damage.
#[derive(PartialEq, Eq)]
struct Outcome {
    seen: String,
    answer: String,
    verdict: String,
    wrong: Option<String>,
}

/// Adds a row for each damage that came out differently.
pub(super) fn rows(
    host: &Host<'_>,
    wants: impl Fn(&str, bool) -> bool,
    mut add: impl FnMut(Row),
) -> Result<()> {
    let mut base = None;
    for (name, folder, begin, end, is_short) in FILES {
        if !wants(name, is_short) {
            continue;
        }
        let base = match &base {
            Some(base) => base,
            None => base.insert(Base::make(host)?),
        };
        let mut outcomes: Vec<(Vec<&str>, Outcome)> = Vec::new();
        for damage in Damage::all() {
            let outcome = base.damaged(host, (folder, begin, end), damage)?;
            match outcomes.iter_mut().find(|(_, known)| *known == outcome) {
                Some((damages, _)) => damages.push(damage.name()),
                None => outcomes.push((vec![damage.name()], outcome)),
            }
        }
        for (damages, outcome) in outcomes {
            add(outcome.row(name, &counted(&damages)));
        }
    }
    for (name, run) in DIRECTORIES {
        if wants(name, false) {
            add(run(host, name)?);
        }
    }
    Ok(())
}

/// `removed, a bit flipped (3 of 5)`.
fn counted(damages: &[&str]) -> String {
    let flipped = Damage::Flipped(0).name();
    let flips = damages.iter().filter(|name| **name == flipped).count();
    let mut names: Vec<String> =
        damages.iter().filter(|name| **name != flipped).map(|name| (*name).to_owned()).collect();
    if flips > 0 {
        let all = flips as u64 == FLIPS;
        names.push(if all {
            flipped.to_owned()
        } else {
            format!("{flipped} ({flips} of {FLIPS})")
        });
    }
    names.join(", ")
}

impl Outcome {
    fn row(self, file: &str, damage: &str) -> Row {
        let Self { seen, answer, verdict, wrong } = self;
        Row { fault: vec![file.to_owned(), damage.to_owned()], seen, answer, verdict, wrong }
    }
}

/// The directory that is damaged, of which everything is known.
struct Base {
    data: PathBuf,
    /// What a check counts in it.
    counts: String,
    messages: u64,
}

impl Base {
    /// Tables from a first run, a log from a second; both were killed when all was answered.
    fn make(host: &Host<'_>) -> Result<Self> {
        let place = host
            .place(None, "[store]\nmemtable_bytes = 1048576\ndisk_free_bytes_min = 67108864\n")?;
        for _ in 0..2 {
            let mut server = place.start_ready()?;
            let load = place.load()?;
            load.run_for(std::time::Duration::from_secs(3))?;
            load.stop()?;
            server.kill()?;
        }
        let copy = host.place(None, "")?;
        copy_tree(&place.data, &copy.data)?;
        let text = copy.check()?;
        let text = text.map_err(|text| anyhow::anyhow!("the undamaged directory: {text}"))?;
        let messages = count(&text, "messages").context("the check counts no messages")?;
        ensure!(messages > 1000, "{messages} messages are too few to be damaged");
        Ok(Self { data: place.data, counts: counts(&text), messages })
    }

    /// Damages a copy, and starts it.
    fn damaged(
        &self,
        host: &Host<'_>,
        (folder, begin, end): (&str, &str, &str),
        damage: Damage,
    ) -> Result<Outcome> {
        let place = host.place(None, "")?;
        copy_tree(&self.data, &place.data)?;
        let file = largest(&place.data.join(folder), begin, end)?;
        if fs::metadata(&file)?.len() > 0 || matches!(damage, Damage::Removed) {
            damage.apply(&file)?;
        }
        let outcome = self.started(&place, damage.is_left_to_reads(end));
        fs::remove_dir_all(&place.data)?;
        outcome
    }

    fn started(&self, place: &Place<'_>, is_left_to_reads: bool) -> Result<Outcome> {
        let mut server = place.start()?;
        if let Some(status) = server.ready_or_ended()? {
            return Ok(Outcome {
                seen: shown(&place.logged("")?, &place.data),
                answer: ending(status),
                verdict: "none served".to_owned(),
                wrong: (status.code() != Some(1)).then(|| "this is no refusal".to_owned()),
            });
        }
        server.kill()?;
        Ok(match place.check()? {
            Ok(text) if counts(&text) == self.counts => Outcome {
                seen: "nothing".to_owned(),
                answer: "starts".to_owned(),
                verdict: format!("all {} there", self.messages),
                wrong: None,
            },
            Ok(text) => {
                let left = count(&text, "messages").unwrap_or(0);
                let verdict = format!("{left} of {} there", self.messages);
                Outcome {
                    seen: "nothing".to_owned(),
                    answer: "starts".to_owned(),
                    wrong: Some(format!("a silent loss: {verdict}")),
                    verdict,
                }
            }
            Err(text) => Outcome {
                seen: shown(text.lines().last().unwrap_or_default(), &place.data),
                answer: CHECKED.to_owned(),
                verdict: "some damaged or lost".to_owned(),
                wrong: (!is_left_to_reads).then(|| "the start does not tell".to_owned()),
            },
        })
    }
}

/// The lines of a check that count what is stored, without what recovery did.
fn counts(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("recovered"));
    lines.collect::<Vec<_>>().join("\n")
}

fn count(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().last()?.parse().ok()
}

/// The largest file whose name begins and ends so.
fn largest(folder: &Path, begin: &str, end: &str) -> Result<PathBuf> {
    let mut found: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_meant = name.starts_with(begin) && name.ends_with(end);
        let candidate = (entry.metadata()?.len(), entry.path());
        if is_meant && found.as_ref().is_none_or(|found| *found < candidate) {
            found = Some(candidate);
        }
    }
    let found = found.with_context(|| format!("no {begin}*{end} in {}", folder.display()))?;
    Ok(found.1)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    environment::output(Command::new("cp").arg("--archive").arg(from).arg(to)).map(drop)
}

type Trial = fn(&Host<'_>, &str) -> Result<Row>;

const DIRECTORIES: [(&str, Trial); 4] = [
    ("a second process on the directory", second_process),
    ("the directory is read-only", read_only),
    ("a file in the directory's place", file_in_its_place),
    ("the directory is gone", gone),
];

fn refused(place: &Place<'_>, name: &str) -> Result<Row> {
    let mut server = place.start()?;
    let status = server.ready_or_ended()?;
    if status.is_none() {
        server.kill()?;
    }
    Ok(Row {
        fault: vec!["–".to_owned(), name.to_owned()],
        seen: shown(&place.logged("")?, &place.data),
        answer: status.map_or_else(|| "starts".to_owned(), ending),
        verdict: "–".to_owned(),
        wrong: (status.and_then(|status| status.code()) != Some(1))
            .then(|| "it is not refused".to_owned()),
    })
}

fn second_process(host: &Host<'_>, name: &str) -> Result<Row> {
    let place = host.place(None, "")?;
    let mut first = place.start_ready()?;
    let second = host.place(Some(place.data), "")?;
    let row = refused(&second, name)?;
    first.signal(Signal::TERM)?;
    ensure!(first.end()?.success(), "the first does not end well");
    Ok(row)
}

fn read_only(host: &Host<'_>, name: &str) -> Result<Row> {
    if let Some(why) = cannot_mount() {
        return Ok(Row { fault: vec!["–".into(), name.into()], ..Row::skipped(name, why) });
    }
    let place = host.place(None, "")?;
    place.start_ready()?.kill()?;
    let mount = Mount::read_only(place.data.clone())?;
    let row = refused(&place, name)?;
    mount.end()?;
    Ok(row)
}

fn file_in_its_place(host: &Host<'_>, name: &str) -> Result<Row> {
    let place = host.place(None, "")?;
    fs::write(&place.data, "")?;
    refused(&place, name)
}

fn gone(host: &Host<'_>, name: &str) -> Result<Row> {
    let place = host.place(None, "")?;
    let made = || -> Result<String> {
        place.start_ready()?.kill()?;
        Ok(fs::read_to_string(place.data.join("FORMAT"))?)
    };
    let before = made()?;
    fs::remove_dir_all(&place.data)?;
    let is_new = made()? != before;
    Ok(Row {
        fault: vec!["–".to_owned(), name.to_owned()],
        seen: "nothing".to_owned(),
        answer: "makes a new one, of another epoch: every device loads anew".to_owned(),
        verdict: "–".to_owned(),
        wrong: (!is_new).then(|| "the epoch is the same".to_owned()),
    })
}
