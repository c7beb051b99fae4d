//! Whole runs of the program against a scripted peer: exit codes, what is printed, and that every
//! broken promise is found.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which the lint does not see as such")]

mod peer;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use peer::Fault;
use tempfile::TempDir;

/// Runs `loadgen run ...` and gives back what it said and its JSON. `None` where the environment
/// permits to go without a ring.
fn run(address: SocketAddr, flags: &str) -> Option<(Output, serde_json::Value)> {
    if let Err(error) = uring::probe() {
        let permitted = std::env::var_os("MOORING_ALLOW_NO_URING").is_some_and(|v| v == "1");
        assert!(permitted, "{error}\n(MOORING_ALLOW_NO_URING=1 skips the tests of the ring)");
        return None;
    }
    let dir = data();
    let json = dir.path().join("report.json");
    let output = command(address, flags, &dir).arg("--json").arg(&json).output().unwrap();
    let report = fs::read(&json).unwrap_or_default();
    Some((output, serde_json::from_slice(&report).unwrap_or_default()))
}

/// What stands for a server's data directory.
fn data() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let pem = SigningKey::from_bytes(&[5; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
    fs::write(dir.path().join("keys/first.pem"), pem.as_bytes()).unwrap();
    dir
}

fn command(address: SocketAddr, flags: &str, dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("run").args(flags.split_whitespace());
    command.args(["--url", &format!("ws://{address}"), "--data"]).arg(dir.path());
    command
}

fn said(output: &Output) -> String {
    let (out, errors) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(errors)
}

const CHAT: &str = "chat --pairs 6 --groups 2 --group-size 5 --rate 400 --threads 2 \
                    --warmup 100ms --duration 500ms";

#[test]
fn a_peer_that_keeps_its_promises_is_found_to_keep_them() {
    for arrivals in ["uniform", "poisson"] {
        let address = peer::start(Fault::None);
        let Some((output, report)) = run(address, &format!("{CHAT} --arrivals {arrivals}")) else {
            return;
        };
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(report["verdict"], "fine");
        assert_eq!(report["sessions"]["held"], 22);
        let count = |path: &str| report.pointer(path).unwrap().as_u64().unwrap();
        let posted = count("/posted/count");
        assert_eq!(posted, count("/sent/count"));
        if arrivals == "uniform" {
            // Half a second of 400 a second, less or more what the random phases put beside it.
            assert!(posted.abs_diff(200) <= 22, "{posted}");
        }
        // One receiver in a pair, four in a group: in proportion to who sends.
        assert!(count("/delivered/count") > posted, "{posted}");
        assert_eq!(count("/ack_ms/count"), posted);
        assert_eq!(count("/deliver_ms/count"), count("/delivered/count"));
    }
}

#[test]
fn each_broken_promise_is_found_by_its_name_and_ends_with_its_code() {
    let rows = [
        (Fault::Lose, "lost", 1),
        (Fault::Duplicate, "duplicated", 1),
        (Fault::Swap, "reordered", 1),
        (Fault::Alter, "altered", 1),
        (Fault::SkipSeq, "gaps", 1),
    ];
    for (fault, finding, code) in rows {
        let Some((output, report)) = run(peer::start(fault), CHAT) else { return };
        assert_eq!(output.status.code(), Some(code), "{fault:?}: {}", said(&output));
        let found = report["oracle"][finding].as_u64().unwrap();
        assert!(found > 0, "{fault:?}: {report:#}");
        assert_eq!(report["verdict"], "broken", "{fault:?}");
    }
}

#[test]
fn lost_sessions_and_missing_answers_fail_the_run_without_a_finding_of_the_oracle() {
    for (fault, expected) in
        [(Fault::CloseSender, "live sessions ended"), (Fault::NoAnswer, "never answered")]
    {
        let Some((output, report)) = run(peer::start(fault), CHAT) else { return };
        let text = said(&output);
        assert!(text.contains(expected), "{fault:?}: {text}");
        assert_eq!(output.status.code(), Some(3), "{fault:?}: {text}");
        assert_eq!(report["verdict"], "failed", "{fault:?}");
    }
}

#[test]
fn sessions_that_break_come_back_and_everything_is_posted_and_delivered_once() {
    let address = peer::start(Fault::Break);
    let Some((output, report)) = run(address, &format!("{CHAT} --reconnect")) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let count = |path: &str| report.pointer(path).unwrap().as_u64().unwrap();
    assert!(count("/sessions/reconnects") > 0, "{report:#}");
    assert_eq!(count("/sessions/resumed"), count("/sessions/reconnects"));
    assert_eq!(count("/sessions/held"), 22);
    assert!(count("/posted/retried") > 0, "{report:#}");
    assert_eq!(count("/posted/count"), count("/sent/count"));
}

#[test]
fn each_promise_of_a_resume_that_is_broken_is_found_by_its_name() {
    let rows = [
        (Fault::BreakAndLose, "lost"),
        (Fault::BreakAndDuplicate, "duplicated"),
        (Fault::BreakAndMove, "duplicated"),
        (Fault::BreakAndReuse, "reused"),
        (Fault::BreakAndForget, "lost"),
    ];
    for (fault, finding) in rows {
        let Some((output, report)) = run(peer::start(fault), &format!("{CHAT} --reconnect")) else {
            return;
        };
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {}", said(&output));
        let found = report["oracle"][finding].as_u64().unwrap();
        assert!(found > 0, "{fault:?}: {report:#}");
    }
}

#[test]
fn an_interrupt_ends_the_window_with_a_drain_and_a_report() {
    if uring::probe().is_err() {
        // `run` above tells whether that is permitted.
        return;
    }
    let dir = data();
    let json = dir.path().join("report.json");
    let address = peer::start(Fault::None);
    let mut child = command(address, "chat --pairs 2 --rate 100 --duration 1h --warmup 0s", &dir)
        .arg("--json")
        .arg(&json)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    let pid = rustix::process::Pid::from_child(&child);
    let mut peers_turn = String::new();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    out.read_to_string(&mut peers_turn).unwrap();
    let status = child.wait().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    // Whether anything was sent before the interrupt is a matter of time; that all was answered is
    // not.
    assert!(matches!(status.code(), Some(0 | 3)), "{peers_turn}");
    assert_eq!(report["posted"]["unanswered"], 0);
    assert_eq!(report["posted"]["count"], report["sent"]["count"]);
    assert!(report["measured_s"].as_f64().unwrap() < 3600.0, "{report:#}");
}

#[test]
fn idle_sessions_are_held_and_told_in_one_line() {
    let address = peer::start(Fault::None);
    let flags = "idle --sessions 50 --threads 2 --warmup 0s --duration 400ms";
    let Some((output, report)) = run(address, flags) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.lines().any(|line| line == "held 50"), "{out}");
    assert_eq!(report["sessions"]["held"], 50);
    assert!(report.get("posted").is_none());
}

#[test]
fn a_share_of_the_held_sessions_talks_and_is_followed_like_any_chat() {
    let flags = "idle --sessions 50 --chat-percent 20 --rate 200 --threads 2 --warmup 100ms \
                 --duration 500ms";
    let Some((output, report)) = run(peer::start(Fault::None), flags) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).lines().any(|line| line == "held 50"), "{}", said(&output));
    assert_eq!((&report["sessions"]["held"], &report["options"]["pairs"]), (&50.into(), &5.into()));
    let count = |path: &str| report.pointer(path).unwrap().as_u64().unwrap();
    assert!(count("/posted/count") > 0);
    assert_eq!(count("/deliver_ms/count"), count("/posted/count"), "one receiver in a pair");
    let Some((output, report)) = run(peer::start(Fault::Lose), flags) else { return };
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(report["oracle"]["lost"].as_u64().unwrap() > 0, "{report:#}");
}

const STORM: &str = "storm --sessions 40 --established 10 --rate 200 --calm 500ms --threads 3 \
                     --jitter 100ms --warmup 100ms";

#[test]
fn all_who_hang_up_come_back_by_cursor_while_the_others_talk() {
    let Some((output, report)) = run(peer::start(Fault::None), STORM) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let count = |path: &str| report.pointer(path).unwrap().as_u64().unwrap();
    assert_eq!((count("/sessions/reconnects"), count("/sessions/resumed")), (40, 40));
    assert_eq!((count("/sessions/held"), count("/oracle/lost")), (50, 0));
    assert!(report["storm"]["return_s"].as_f64().unwrap() > 0.0, "{report:#}");
    let slots = report["storm"]["timeline"].as_array().unwrap();
    let in_slots: u64 = slots.iter().map(|slot| slot["count"].as_u64().unwrap()).sum();
    assert_eq!(in_slots, count("/delivered/count"));
    for phase in ["before", "during", "after"] {
        assert!(count(&format!("/storm/deliver_ms/{phase}/count")) > 0, "{report:#}");
    }
}

#[test]
fn what_does_not_come_back_to_who_was_away_is_found() {
    for (fault, finding) in [(Fault::BreakAndLose, "gaps"), (Fault::BreakAndForget, "lost")] {
        let Some((output, report)) = run(peer::start(fault), STORM) else { return };
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {}", said(&output));
        assert!(report["oracle"][finding].as_u64().unwrap() >= 40, "{fault:?}: {report:#}");
    }
}

#[test]
fn sessions_begin_with_tokens_and_again_with_tickets() {
    for (flags, resumed) in [("--resume", Some(50)), ("", None)] {
        let flags = format!("connect --sessions 50 --threads 2 {flags}");
        let Some((output, report)) = run(peer::start(Fault::None), &flags) else { return };
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(report["connect"]["fresh"]["sessions"], 50, "{report:#}");
        assert_eq!(report["connect"]["resume"]["sessions"].as_u64(), resumed, "{report:#}");
        assert!(report["connect"]["fresh"]["rate"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn nobody_there_is_told_with_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let Some((output, _)) = run(address, "idle --sessions 2 --duration 1s") else { return };
    assert_eq!(output.status.code(), Some(3));
    let text = said(&output);
    assert!(text.contains("cannot be opened") && text.contains("Connection refused"), "{text}");
}

#[test]
fn a_wrong_command_line_has_a_code_of_its_own() {
    let address = "127.0.0.1:1".parse().unwrap();
    let Some((output, _)) = run(address, "chat --pairs 1 --size 5") else { return };
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--size 5: it must be from 32"), "{}", said(&output));
}
