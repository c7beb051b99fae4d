use std::path::PathBuf;

use super::*;
use crate::clock::Nanos;
use crate::engine::Outcome;
use crate::plan::{ChatPlan, IdlePlan, KeySource, Scenario};
use crate::schedule::Arrivals;
use crate::target::Target;

fn plan(scenario: Scenario) -> Plan {
    Plan {
        scenario,
        targets: vec![Target::parse("ws://127.0.0.1:4400").unwrap()],
        key: KeySource::Key(PathBuf::from("k.pem")),
        threads: 2,
        warmup: Duration::from_secs(1),
        duration: Duration::from_secs(10),
        first_user: 1,
        reconnects: false,
        json: None,
        hdr: true,
        seed: None,
        command: "loadgen run".to_owned(),
    }
}

fn chat() -> Scenario {
    Scenario::Chat(ChatPlan {
        pairs: 2,
        groups: 0,
        group_size: 10,
        rate: 100.0,
        bytes: 128,
        arrivals: Arrivals::Uniform,
        unanswered_max: 256,
    })
}

fn traffic() -> Traffic {
    let mut traffic = Traffic {
        sent: 500,
        sent_within: 495,
        posted: 500,
        posted_within: 490,
        delivered: 500,
        delivered_within: 480,
        ..Traffic::default()
    };
    traffic.durability.insert("durable", 500);
    for milliseconds in 1..=500 {
        let latency = Duration::from_millis(milliseconds);
        traffic.ack.record(latency);
        traffic.deliver.record(2 * latency);
        traffic.lag.record(Duration::from_micros(20));
    }
    traffic
}

fn outcome(traffic: Option<Traffic>) -> Outcome {
    Outcome {
        tally: Tally { wanted: 2, held: 2, last_live: Nanos(5), ..Tally::default() },
        traffic,
        usage: Usage {
            wall: Duration::from_secs(10),
            cpu: Duration::from_secs(4),
            starved: Duration::ZERO,
        },
        ring: uring::Stats::default(),
    }
}

fn ended(outcomes: Vec<Outcome>) -> Ended {
    Ended {
        outcomes,
        window_begin: Nanos(0),
        all_back: true,
        opening: Duration::from_millis(500),
        ring: "io_uring".to_owned(),
        resident_bytes: 3 << 20,
        measured: Duration::from_secs(10),
    }
}

fn machine() -> Machine {
    Machine { kernel: "6.18".into(), cpu: "A".into(), processors: 2, memory_bytes: 1 << 30 }
}

fn of_chat(change: impl FnOnce(&mut Outcome)) -> Report {
    let mut first = outcome(Some(traffic()));
    change(&mut first);
    Report::new(&plan(chat()), &ended(vec![first, outcome(Some(traffic()))]), machine())
}

#[test]
fn the_json_of_a_chat_has_what_scripts_rely_on() {
    let report = of_chat(|_| {});
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    let rows = [
        ("/scenario", "\"chat\""),
        ("/command", "\"loadgen run\""),
        ("/verdict", "\"fine\""),
        ("/machine/kernel", "\"6.18\""),
        ("/machine/processors", "2"),
        ("/ring", "\"io_uring\""),
        ("/options/rate", "100.0"),
        ("/options/arrivals", "\"uniform\""),
        ("/options/duration_s", "10.0"),
        ("/sessions/held", "4"),
        ("/sessions/opened_rate", "8.0"),
        ("/sent/count", "1000"),
        ("/sent/rate", "99.0"),
        ("/sent/dropped", "0"),
        ("/posted/count", "1000"),
        ("/posted/rate", "98.0"),
        ("/posted/unanswered", "0"),
        ("/posted/durability/durable", "1000"),
        ("/delivered/count", "1000"),
        ("/delivered/rate", "96.0"),
        ("/oracle/lost", "0"),
        ("/oracle/duplicated", "0"),
        ("/oracle/reordered", "0"),
        ("/oracle/gaps", "0"),
        ("/oracle/altered", "0"),
        ("/oracle/reused", "0"),
        ("/options/reconnect", "false"),
        ("/measured_s", "10.0"),
        ("/sessions/reconnects", "0"),
        ("/sessions/resumed", "0"),
        ("/posted/retried", "0"),
        ("/generator/cpu_saturated", "false"),
        ("/generator/cpu", "0.4"),
        ("/generator/lag_ms/p99", "0.02"),
    ];
    for (path, expected) in rows {
        let found = json.pointer(path).map(ToString::to_string);
        assert_eq!(found.as_deref(), Some(expected), "{path}");
    }
    for latency in ["ack_ms", "deliver_ms", "ack_service_ms", "deliver_service_ms"] {
        for figure in ["count", "mean", "p50", "p90", "p99", "p999", "max"] {
            assert!(json[latency][figure].is_number(), "{latency}.{figure}");
        }
    }
    assert!((json["ack_ms"]["p50"].as_f64().unwrap() - 250.0).abs() < 1.0);
    assert!(json["hdr"]["deliver"].is_string());
}

#[test]
fn the_json_of_idle_sessions_has_no_messages() {
    let mut first = outcome(None);
    first.tally.given_up = 1;
    first.tally.dropped.insert("closed 1001: bye".to_owned(), 1);
    let ended = ended(vec![first, outcome(None)]);
    let report =
        Report::new(&plan(Scenario::Idle(IdlePlan { idle: 4, chat: None })), &ended, machine());
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    for absent in ["posted", "ack_ms", "oracle"] {
        assert!(json.get(absent).is_none(), "{absent}");
    }
    assert_eq!(json["sessions"]["dropped"]["closed 1001: bye"], 1);
    assert_eq!(json["generator"]["lag_ms"], serde_json::Value::Null);
    assert_eq!(report.verdict(), Verdict::Failed);
}

#[test]
fn verdicts_and_warnings_follow_what_happened() {
    type Change = fn(&mut Outcome);
    fn messages(outcome: &mut Outcome) -> &mut Traffic {
        outcome.traffic.as_mut().unwrap()
    }
    let rows: [(&str, Verdict, Change); 9] = [
        ("", Verdict::Fine, |_| {}),
        ("", Verdict::Broken, |done| messages(done).findings.gaps = 1),
        ("never answered", Verdict::Failed, |done| messages(done).unanswered = 3),
        ("look better than", Verdict::Fine, |done| messages(done).dropped = 2),
        ("7 messages were rejected", Verdict::Fine, |done| {
            messages(done).rejected.insert("Overloaded", 7);
        }),
        ("promise no durability", Verdict::Fine, |done| {
            messages(done).durability.insert("accepted", 1);
        }),
        ("generator is saturated", Verdict::Fine, |done| {
            done.usage.cpu = Duration::from_secs(10);
        }),
        ("generator is saturated", Verdict::Fine, |done| {
            for _ in 0..50 {
                messages(done).lag.record(Duration::from_millis(6));
            }
        }),
        ("live sessions ended", Verdict::Failed, |done| {
            done.tally.dropped.insert("x".to_owned(), 1);
        }),
    ];
    for (warning, verdict, change) in rows {
        let report = of_chat(change);
        assert_eq!(report.verdict(), verdict, "{warning}");
        let warnings = report.warnings.join("\n");
        assert_eq!(warnings.is_empty(), warning.is_empty(), "{warnings}");
        assert!(warnings.contains(warning), "{warnings}");
    }
}

#[test]
fn people_read_a_table_a_histogram_and_the_verdict_in_colour_only_if_asked() {
    let report = of_chat(|done| done.traffic.as_mut().unwrap().findings.lost = 2);
    let plain = render(&report, false);
    let parts = [
        "4 held of 4",
        "p99.9",
        "deliver, from intended",
        "█",
        "100.000 %",
        "2 lost, 0 duplicated",
        "the server broke its promises",
    ];
    for part in parts {
        assert!(plain.contains(part), "{part}:\n{plain}");
    }
    assert!(!plain.contains('\u{1b}'));
    let coloured = render(&report, true);
    assert!(coloured.contains('\u{1b}'));
    assert_eq!(console::strip_ansi_codes(&coloured), plain);
}
