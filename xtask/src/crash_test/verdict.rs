//! What a crash test came to.

use std::process::ExitStatus;

use anyhow::{Context, Result};
use serde_json::Value;

use super::rounds::{Rounds, milliseconds};
use crate::console;

/// The oracle's findings that the report of the load generator must have, all of them 0.
const FINDINGS: [&str; 6] = ["lost", "duplicated", "reordered", "gaps", "altered", "reused"];

/// The facts, and whether they are as promised.
pub(crate) struct Verdict {
    /// What the table shows: names and values.
    facts: Vec<(&'static str, String)>,
    /// What was found, by name.
    findings: Vec<(&'static str, u64)>,
    /// What is wrong besides.
    faults: Vec<String>,
}

impl Verdict {
    /// Puts together what was measured. `check` is what `mooring check` said, `Err` if it found
    /// something.
    pub(crate) fn new(
        rounds: Rounds,
        report: &str,
        status: ExitStatus,
        check: Result<String, String>,
    ) -> Result<Self> {
        let report: Value = serde_json::from_str(report).context("the report is not JSON")?;
        let count = |path: &str| {
            let value = report.pointer(path).and_then(Value::as_u64);
            value.with_context(|| format!("the report has no number {path}"))
        };
        let findings = FINDINGS
            .iter()
            .map(|name| Ok((*name, count(&format!("/oracle/{name}"))?)))
            .collect::<Result<Vec<_>>>()?;
        let mut faults = Vec::new();
        // What the oracle finds is told by name.
        if !status.success() && findings.iter().all(|(_, count)| *count == 0) {
            let warnings = report["warnings"].as_array().into_iter().flatten();
            let warnings: Vec<_> = warnings.filter_map(Value::as_str).collect();
            faults.push(format!("the load generator: {status}; {}", warnings.join("; ")));
        }
        if count("/sessions/resumed")? != count("/sessions/reconnects")? {
            faults.push("sessions came back and could not resume".to_owned());
        }
        let (sent, posted) = (count("/sent/count")?, count("/posted/count")?);
        if sent != posted {
            faults
                .push(format!("{sent} messages were sent, and {posted} posted after all retries"));
        }
        if let Err(text) = &check {
            faults.push(format!("mooring check: {text}"));
        }
        let text = |path: &str| count(path).map(|count| count.to_string());
        let (min, median, max) = rounds.spread().unwrap_or_default();
        let facts = vec![
            ("rounds", rounds.count().to_string()),
            ("kills during recovery", rounds.interrupted.to_string()),
            ("messages posted", text("/posted/count")?),
            ("messages delivered", text("/delivered/count")?),
            ("sent again", text("/posted/retried")?),
            ("sessions resumed", text("/sessions/resumed")?),
            ("recovery, shortest", milliseconds(min)),
            ("recovery, median", milliseconds(median)),
            ("recovery, longest", milliseconds(max)),
            ("never answered", text("/posted/unanswered")?),
            ("data directory", check.map_or("torn", |_| "sound").to_owned()),
        ];
        Ok(Self { facts, findings, faults })
    }

    /// Nothing was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.findings.iter().all(|(_, count)| *count == 0)
    }

    /// What is wrong, in one line.
    pub(crate) fn summary(&self) -> String {
        let found = self.findings.iter().filter(|(_, count)| *count > 0);
        let found = found.map(|(name, count)| format!("{count} {name}"));
        found.chain(self.faults.iter().cloned()).collect::<Vec<_>>().join("; ")
    }

    /// Prints the table; what is wrong in red.
    pub(super) fn show(&self, command: &str) {
        console::answer("");
        for (name, value) in &self.facts {
            console::answer(&format!("{name:<24} {value:>12}"));
        }
        for (name, count) in &self.findings {
            console::answer(&format!(
                "{name:<24} {}",
                console::judged(&format!("{count:>12}"), *count == 0)
            ));
        }
        for fault in &self.faults {
            console::answer(&console::judged(fault, false));
        }
        console::answer(&format!("\nrepeat with: {command}"));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn report(change: &str, value: u64) -> String {
        let mut report = serde_json::json!({
            "warnings": ["3 messages were never answered"],
            "oracle": {
                "lost": 0, "duplicated": 0, "reordered": 0, "gaps": 0, "altered": 0, "reused": 0
            },
            "sent": { "count": 9 },
            "posted": { "count": 9, "retried": 2, "unanswered": 0 },
            "delivered": { "count": 9 },
            "sessions": { "reconnects": 4, "resumed": 4 },
        });
        // An empty pointer is the whole report; here it means no change.
        if !change.is_empty()
            && let Some(place) = report.pointer_mut(change)
        {
            *place = value.into();
        }
        report.to_string()
    }

    #[test]
    fn anything_that_is_not_as_promised_is_found_and_named() -> Result<()> {
        let (fine, failed) = (ExitStatus::from_raw(0), ExitStatus::from_raw(3 << 8));
        let (sound, torn) = (|| Ok("sound".to_owned()), || Err("1 contradictions".to_owned()));
        let rows = [
            (report("", 0), fine, sound(), ""),
            (report("/oracle/lost", 2), fine, sound(), "2 lost"),
            (report("/oracle/duplicated", 1), fine, sound(), "1 duplicated"),
            (report("/oracle/reordered", 1), fine, sound(), "1 reordered"),
            (report("/oracle/gaps", 7), fine, sound(), "7 gaps"),
            (report("/oracle/altered", 1), fine, sound(), "1 altered"),
            (report("/oracle/reused", 1), fine, sound(), "1 reused"),
            (report("/sent/count", 10), fine, sound(), "10 messages were sent, and 9 posted"),
            (report("/sessions/resumed", 3), fine, sound(), "could not resume"),
            (report("", 0), failed, sound(), "3 messages were never answered"),
            (report("", 0), fine, torn(), "1 contradictions"),
        ];
        for (report, status, check, expected) in rows {
            let verdict = Verdict::new(Rounds::default(), &report, status, check)?;
            assert_eq!(verdict.is_clean(), expected.is_empty(), "{expected}");
            assert!(verdict.summary().contains(expected), "{expected}: {}", verdict.summary());
        }
        Ok(())
    }

    #[test]
    fn a_report_that_lacks_a_figure_is_no_clean_one() {
        let report = report("", 0).replace("reused", "other");
        let verdict =
            Verdict::new(Rounds::default(), &report, ExitStatus::from_raw(0), Ok(String::new()));
        let error = verdict.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("/oracle/reused"), "{error}");
    }
}
