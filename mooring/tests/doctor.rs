//! `mooring doctor` on the machine that runs the tests, and the files of `tuning/`.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::process::{Ended, Running, mooring};
use serde_json::Value;

/// What scripts go by. A name that is not here is new; one that is missing breaks them.
const NAMES: [&str; 15] = [
    "io_uring",
    "kernel",
    "processors",
    "nofile",
    "nr_open",
    "memlock",
    "file_max",
    "memory",
    "huge_pages",
    "tcp_mem",
    "conntrack",
    "somaxconn",
    "syn_backlog",
    "port_range",
    "disk_sync",
];

/// The command on this machine, without what its environment says of colours.
fn doctor(arguments: &[&str]) -> Ended {
    let mut command = mooring(&[&["doctor"], arguments].concat());
    command.env_remove("CLICOLOR_FORCE").env_remove("NO_COLOR").env("TERM", "xterm-256color");
    Running::start(&mut command).end()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn json_has_every_finding_and_the_status_of_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for sessions in ["1", "1000000", "1000000000"] {
        let ended = doctor(&["--json", "--sessions", sessions, "--data", data]);
        let report: Value = serde_json::from_str(&ended.stdout).expect("JSON and nothing else");
        assert_eq!(report["sessions"].to_string(), sessions);
        let names: Vec<_> = findings(&report).map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, NAMES);
        let verdicts = ["fits", "hinders", "unknown", "blocks"];
        for finding in findings(&report) {
            assert!(verdicts.contains(&finding["verdict"].as_str().unwrap()), "{finding}");
            let is_mended = finding["mend"].is_string();
            assert!(!is_mended || finding["verdict"] != "fits", "{finding}");
        }
        let answers = ["fit", "unfit", "unknown"];
        let status = usize::try_from(ended.status).unwrap();
        assert_eq!(report["answer"], answers[status], "{}", ended.stderr);
        assert!(report["serve"]["cores"].as_u64().unwrap() >= 1);
        assert_eq!(ended.stderr, "");
    }
}

fn findings(report: &Value) -> impl Iterator<Item = &Value> {
    report["findings"].as_array().expect("a list").iter()
}

#[test]
fn more_sessions_than_all_rings_hold_are_blocked() {
    let ended = doctor(&["--json", "--sessions", "1000000000"]);
    assert_eq!(ended.status, 1);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let blocks = findings(&report).find(|it| it["verdict"] == "blocks").expect("something does");
    assert!(blocks["mend"].is_string(), "{blocks}");
    let capacity = report["capacity"]["sessions"].as_u64().expect("this machine can be read");
    assert!(capacity < 1_000_000_000);
}

#[test]
fn a_pipe_gets_no_colours_and_every_finding_has_its_line() {
    let ended = doctor(&["--sessions", "1"]);
    assert!(!ended.stdout.contains('\u{1b}'), "{}", ended.stdout);
    for name in NAMES {
        let line = ended.stdout.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(line.is_some(), "{name} in\n{}", ended.stdout);
    }
    let last = ended.stdout.lines().last().unwrap();
    assert!(last.starts_with("answer "), "{last}");
}

#[test]
fn a_data_directory_that_cannot_be_measured_leaves_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    fs::write(&file, "").unwrap();
    let ended = doctor(&["--json", "--sessions", "1", "--data", file.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let disk = findings(&report).find(|it| it["name"] == "disk_sync").unwrap();
    assert_eq!(disk["verdict"], "unknown");
    assert!(disk["found"].as_str().unwrap().starts_with(file.to_str().unwrap()), "{disk}");
    assert_eq!(ended.status, 2, "{}", ended.stdout);
}

#[test]
fn bad_flags_are_named_with_status_2() {
    let range = "is not in 1..=1000000000";
    let rows: [(&[&str], &str); 5] = [
        (&["--sessions", "0"], range),
        (&["--sessions", "1000000001"], range),
        (&["--sessions", "many"], "invalid digit found in string"),
        (&["--sessions"], "a value is required for '--sessions <N>'"),
        (&["--quick"], "unexpected argument '--quick' found"),
    ];
    for (arguments, expected) in rows {
        let ended = doctor(arguments);
        let first = ended.stderr.lines().next().unwrap_or_default();
        assert!(first.contains(expected), "{arguments:?}: {first}");
        assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{arguments:?}");
    }
}

#[test]
fn the_findings_are_listed_in_operations() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, section) = text.split_once("\n## Is this machine fit?\n").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let listed: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name)
        .filter(|name| NAMES.contains(name))
        .collect();
    assert_eq!(listed, NAMES);
}

/// Key and value of each line that sets something; whether the kernel may lack it.
fn settings(text: &str) -> Vec<(&str, bool)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (key, _) = line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
            let key = key.trim();
            key.strip_prefix('-').map_or((key, false), |key| (key, true))
        })
        .collect()
}

#[test]
fn every_sysctl_is_the_kernels_and_is_explained() {
    let tuning = root().join("tuning");
    let text = fs::read_to_string(tuning.join("90-mooring-sysctl.conf")).unwrap();
    let readme = fs::read_to_string(tuning.join("README.md")).unwrap();
    let settings = settings(&text);
    assert!(settings.len() > 5, "{settings:?}");
    for (key, is_optional) in &settings {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        assert!(*is_optional || path.exists(), "{key} is not known to this kernel");
        assert!(readme.contains(&format!("`{key}`")), "{key} is not in tuning/README.md");
    }
    let keys: BTreeSet<_> = settings.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), settings.len(), "a key twice: {settings:?}");
}
