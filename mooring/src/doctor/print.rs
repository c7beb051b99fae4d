//! The report on standard output: for a person, in colour on a terminal; or JSON, for a script.

use std::io::{self, Write};

use console::{Style, style};

use super::judge::grouped;
use super::report::{Answer, Finding, Report, Verdict};

/// One object, in lines.
pub(crate) fn json(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)
}

/// A line or two for each finding, then what they come to. `console` leaves colours away in a pipe
/// and where `NO_COLOR` asks for that.
pub(crate) fn text(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n", style(format!("For {} sessions", grouped(report.sessions))).bold())?;
    for finding in &report.findings {
        write_finding(&mut out, finding)?;
    }
    writeln!(out)?;
    let capacity = match (report.capacity.sessions, report.capacity.narrowest) {
        (Some(sessions), Some(name)) => {
            format!("about {} sessions; the narrowest is {name}", grouped(sessions))
        }
        _ => "nothing that bounds it could be read".to_owned(),
    };
    writeln!(out, "capacity as it stands  {capacity}")?;
    writeln!(
        out,
        "start it with          mooring serve --cores {}, limits.connections_per_core_max = {}",
        report.serve.cores, report.serve.connections_per_core_max
    )?;
    writeln!(out, "answer                 {}", answer(report.answer))
}

fn write_finding(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let (word, look) = look(finding.verdict);
    write!(out, "{}  {:<12} {}", look.apply_to(format!("{word:>7}")), finding.name, finding.found)?;
    if !finding.needed.is_empty() {
        write!(out, "  {}", Style::new().dim().apply_to(format!("({})", finding.needed)))?;
    }
    writeln!(out)?;
    if let Some(mend) = &finding.mend {
        writeln!(out, "{:>7}  {:<12} {}", "", "", Style::new().cyan().apply_to(mend))?;
    }
    Ok(())
}

fn look(verdict: Verdict) -> (&'static str, Style) {
    match verdict {
        Verdict::Fits => ("fits", Style::new().green()),
        Verdict::Hinders => ("hinders", Style::new().yellow().bold()),
        Verdict::Unknown => ("unknown", Style::new().magenta().bold()),
        Verdict::Blocks => ("blocks", Style::new().red().bold()),
    }
}

fn answer(answer: Answer) -> String {
    match answer {
        Answer::Fit => style("fit").green().bold().to_string(),
        Answer::Unfit => {
            format!("{}: see what blocks above", style("not fit").red().bold())
        }
        Answer::Unknown => {
            format!("{}: what decides could not be read", style("unknown").magenta().bold())
        }
    }
}
