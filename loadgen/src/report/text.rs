//! The report as people read it: a table, the shape of the latencies, and what to beware of.

use std::fmt::Write;

use console::{Style, StyledObject};

use super::{Report, Verdict};
use crate::histogram::{Band, Figures};

/// Characters of the longest bar.
const BAR_CHARACTERS: usize = 48;

/// What is set off, and whether by colour.
struct Paint {
    is_coloured: bool,
}

impl Paint {
    fn with<'a>(&self, style: Style, text: &'a str) -> StyledObject<&'a str> {
        style.force_styling(self.is_coloured).apply_to(text)
    }

    fn title<'a>(&self, text: &'a str) -> StyledObject<&'a str> {
        self.with(Style::new().bold(), text)
    }

    fn good<'a>(&self, text: &'a str) -> StyledObject<&'a str> {
        self.with(Style::new().green().bold(), text)
    }

    fn bad<'a>(&self, text: &'a str) -> StyledObject<&'a str> {
        self.with(Style::new().red().bold(), text)
    }

    fn caution<'a>(&self, text: &'a str) -> StyledObject<&'a str> {
        self.with(Style::new().yellow().bold(), text)
    }
}

/// The whole report; with colours if the reader's terminal shows them.
pub(crate) fn render(report: &Report, is_coloured: bool) -> String {
    let paint = Paint { is_coloured };
    let mut out = String::new();
    write_all(report, &paint, &mut out).expect("a String takes everything");
    out
}

fn write_all(report: &Report, paint: &Paint, out: &mut String) -> std::fmt::Result {
    let machine = &report.machine;
    let (processors, kernel) = (machine.processors, &machine.kernel);
    writeln!(out)?;
    writeln!(out, "{} {}", paint.title("loadgen"), paint.title(report.scenario))?;
    writeln!(out, "  machine     {}, {processors} processors, Linux {kernel}", machine.cpu)?;
    write_sessions(report, out)?;
    write_absence(report, out)?;
    if report.messages.is_some() {
        write_messages(report, out)?;
        write_latencies(report, paint, out)?;
        write_bands(&report.bands, paint, out)?;
    }
    write_generator(report, out)?;
    write_verdict(report, paint, out)
}

fn write_sessions(report: &Report, out: &mut String) -> std::fmt::Result {
    let sessions = &report.sessions;
    writeln!(
        out,
        "  sessions    {} held of {}, opened in {:.2} s ({:.0}/s), {} retries",
        sessions.held, sessions.wanted, sessions.opening_s, sessions.opened_rate, sessions.retries
    )?;
    if sessions.reconnects > 0 {
        let (reconnects, resumed) = (sessions.reconnects, sessions.resumed);
        writeln!(out, "    came back {reconnects:>8}  of them {resumed} resumed by cursor")?;
    }
    let rows = [
        ("failed", &sessions.failures),
        ("broken", &sessions.broken),
        ("dropped", &sessions.dropped),
    ];
    for (title, counts) in rows {
        for (label, count) in counts {
            writeln!(out, "    {title:<8}  {count:>8}  {label}")?;
        }
    }
    Ok(())
}

fn write_absence(report: &Report, out: &mut String) -> std::fmt::Result {
    if let Some(connect) = &report.connect {
        let rows = [("token", Some(connect.fresh)), ("ticket", connect.resume)];
        for (with, rate) in rows.iter().filter_map(|(with, rate)| Some((with, (*rate)?))) {
            let (sessions, seconds, rate) = (rate.sessions, rate.seconds, rate.rate);
            writeln!(out, "  {with:<10}{rate:>11.0}/s  {sessions} sessions in {seconds:.2} s")?;
        }
    }
    let Some(storm) = &report.storm else { return Ok(()) };
    match storm.return_s {
        Some(seconds) => writeln!(out, "  storm       everyone was back after {seconds:.1} s")?,
        None => writeln!(out, "  storm       not everyone came back")?,
    }
    let phases = &storm.deliver_ms;
    for (name, figures) in
        [("before", phases.before), ("during", phases.during), ("after", phases.after)]
    {
        let (p50, p99, max) = (figures.p50, figures.p99, figures.max);
        writeln!(out, "    {name:<8}  p50 {p50:>9.3}  p99 {p99:>9.3}  max {max:>9.3} ms")?;
    }
    writeln!(out, "    p99 during over before: {:.2}", storm.p99_ratio)
}

fn write_messages(report: &Report, out: &mut String) -> std::fmt::Result {
    let Some(messages) = &report.messages else { return Ok(()) };
    let (sent, posted, delivered) = (&messages.sent, &messages.posted, &messages.delivered);
    writeln!(
        out,
        "  sent        {:>10}  {:>9.0}/s  {} late, {} dropped",
        sent.count, sent.rate, sent.late, sent.dropped
    )?;
    let promises: Vec<&str> = posted.durability.keys().copied().collect();
    writeln!(
        out,
        "  posted      {:>10}  {:>9.0}/s  {} unanswered, {} sent again{}",
        posted.count,
        posted.rate,
        posted.unanswered,
        posted.retried,
        promises.iter().map(|promise| format!(", {promise}")).collect::<String>()
    )?;
    for (code, count) in &posted.rejected {
        writeln!(out, "    rejected  {count:>8}  {code}")?;
    }
    writeln!(out, "  delivered   {:>10}  {:>9.0}/s", delivered.count, delivered.rate)
}

fn write_latencies(report: &Report, paint: &Paint, out: &mut String) -> std::fmt::Result {
    let Some(messages) = &report.messages else { return Ok(()) };
    writeln!(out)?;
    let head = format!(
        "  {:<22}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "latency, ms", "mean", "p50", "p90", "p99", "p99.9", "max"
    );
    writeln!(out, "{}", paint.title(&head))?;
    let rows = [
        ("ack, from intended", messages.ack_ms),
        ("deliver, from intended", messages.deliver_ms),
        ("ack, from sent", messages.ack_service_ms),
        ("deliver, from sent", messages.deliver_service_ms),
    ];
    for (name, figures) in rows {
        write_figures(name, &figures, out)?;
    }
    if let Some(lag) = &report.generator.lag_ms {
        write_figures("generator's lag", lag, out)?;
    }
    Ok(())
}

fn write_figures(name: &str, figures: &Figures, out: &mut String) -> std::fmt::Result {
    let Figures { mean, p50, p90, p99, p999, max, .. } = figures;
    write!(out, "  {name:<22}")?;
    for value in [mean, p50, p90, p99, p999, max] {
        write!(out, "{value:>10.3}")?;
    }
    writeln!(out)
}

fn write_bands(bands: &[Band], paint: &Paint, out: &mut String) -> std::fmt::Result {
    let all: u64 = bands.iter().map(|band| band.count).sum();
    let most = bands.iter().map(|band| band.count).max().unwrap_or(0);
    if all == 0 {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "{}", paint.title("  deliver, from intended"))?;
    let mut below = 0;
    for band in bands {
        below += band.count;
        let bar = bar(band.count, most);
        let share = 100.0 * below as f64 / all as f64;
        writeln!(out, "  {:>10.3} ms  {share:>7.3} %  {bar} {}", band.to_ms, band.count)?;
    }
    Ok(())
}

/// As long as its share of the longest; what is there at all shows.
fn bar(count: u64, most: u64) -> String {
    let characters = (BAR_CHARACTERS as u64 * count).checked_div(most).unwrap_or(0);
    let characters = usize::try_from(characters).expect("at most the longest");
    if count > 0 && characters == 0 { "▏".to_owned() } else { "█".repeat(characters) }
}

fn write_generator(report: &Report, out: &mut String) -> std::fmt::Result {
    let generator = &report.generator;
    writeln!(out)?;
    writeln!(
        out,
        "  generator   {} threads, busiest {:.0} % of a processor, waiting {:.0} %, {:.1} MiB",
        report.options.threads,
        100.0 * generator.cpu,
        100.0 * generator.cpu_waiting,
        generator.resident_bytes as f64 / f64::from(1 << 20)
    )
}

fn write_verdict(report: &Report, paint: &Paint, out: &mut String) -> std::fmt::Result {
    if let Some(messages) = &report.messages {
        let found = &messages.oracle;
        let text = format!(
            "{} lost, {} duplicated, {} reordered, {} gaps, {} altered, {} reused",
            found.lost, found.duplicated, found.reordered, found.gaps, found.altered, found.reused
        );
        let text = if found.is_clean() { paint.good(&text) } else { paint.bad(&text) };
        writeln!(out, "  oracle      {text}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "  {} {warning}", paint.caution("warning"))?;
    }
    let verdict = match report.verdict {
        Verdict::Fine => paint.good("fine"),
        Verdict::Broken => paint.bad("the server broke its promises"),
        Verdict::Failed => paint.bad("the run is incomplete"),
    };
    writeln!(out, "  verdict     {verdict}")
}
