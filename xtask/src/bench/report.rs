//! What was measured, as a page with plots.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::figures::median;
use super::plot::{Bars, Line, bars, lines};
use super::profile::Profile;
use super::{Arguments, Measured, Sample};
use crate::console;

/// Up to which p99 of post to delivered a rate counts as carried, in milliseconds.
const P99_MAX_MS: f64 = 50.0;

/// Medians over the rounds at one rate.
struct Row {
    rate: u64,
    delivered_rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    p99_range: (f64, f64),
    found: u64,
    server_micros: f64,
    waited: f64,
}

impl Row {
    /// A server that falls behind shows it here too: latency counts from the intended time.
    fn is_carried(&self) -> bool {
        self.found == 0 && self.p99_ms <= P99_MAX_MS
    }
}

/// Writes the page and its plots into `out`.
pub(super) fn write(out: &Path, arguments: &Arguments, measured: &Measured) -> Result<()> {
    let (pairs, groups) = (rows(&measured.pairs), rows(&measured.groups));
    let (echo, fan_out) = (median(&measured.echo), median(&measured.fan_out));
    let best = pairs.iter().rev().find(|row| row.is_carried());
    let best_group = groups.iter().rev().find(|row| row.is_carried());
    let p50: Vec<_> = pairs.iter().map(|row| (row.delivered_rate, row.p50_ms)).collect();
    let p99: Vec<_> = pairs.iter().map(|row| (row.delivered_rate, row.p99_ms)).collect();
    lines(
        &out.join("latency.svg"),
        "Post to delivered, 500 pairs, every message durable",
        ("messages/s", "ms"),
        P99_MAX_MS,
        &[Line { name: "p99", points: &p99 }, Line { name: "p50", points: &p50 }],
    )?;
    let at = profiled_rate(measured).unwrap_or(0);
    let sizes = group_sizes(&measured.pairs, at);
    let title = format!("Messages of a commit group at {at} messages/s");
    bars(&Bars {
        path: &out.join("commit-groups.svg"),
        title: &title,
        x_name: "messages, up to",
        y_name: "share of groups",
        bars: &sizes,
    })?;

    let mut page = String::new();
    writeln!(page, "# The core, measured\n")?;
    writeln!(
        page,
        "`cargo xtask bench --rounds {} --seconds {} --cores {}` on {}, shared and noisy:",
        arguments.rounds, arguments.seconds, arguments.cores, measured.machine
    )?;
    writeln!(page, "medians over the rounds, the load generator on the same processors as the")?;
    writeln!(page, "server, `store.sync = always`. The ring: {}.\n", measured.driver)?;
    headline(&mut page, "Pairs", "messages/s", best.map(|row| (row, echo)), "the bare ring echo")?;
    headline(
        &mut page,
        "Groups of 100",
        "deliveries/s",
        best_group.map(|row| (row, fan_out)),
        "a bare ring that writes as many bytes to as many sockets",
    )?;
    table(&mut page, "500 pairs, 64 bytes", "bare ring echo", echo, &pairs)?;
    writeln!(page, "![Latency over rate](latency.svg)\n")?;
    writeln!(page, "![Commit groups](commit-groups.svg)\n")?;
    table(&mut page, "10 groups of 100, 64 bytes", "bare ring fan-out", fan_out, &groups)?;
    if let Some(profile) = &measured.profile {
        profile_section(&mut page, profile)?;
    }
    writeln!(page, "Server time is of all its threads, RocksDB's among them, over the messages")?;
    writeln!(page, "posted. The last column says how long the load generator waited for a")?;
    writeln!(
        page,
        "processor: it and the server share them, so the latencies are theirs together."
    )?;
    let path = out.join("README.md");
    std::fs::write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    console::answer(&page);
    Ok(())
}

/// The rate that is looked at closely: the highest that was carried, or else the lowest of all.
pub(super) fn profiled_rate(measured: &Measured) -> Option<u64> {
    let pairs = rows(&measured.pairs);
    let best = pairs.iter().rev().find(|row| row.is_carried());
    best.or_else(|| pairs.first()).map(|row| row.rate)
}

fn profile_section(page: &mut String, profile: &Profile) -> Result<()> {
    writeln!(page, "## Where the server's time goes at {} messages/s\n", profile.rate)?;
    writeln!(page, "A run of its own with `perf record` looking on; the percentages are of the")?;
    writeln!(page, "samples of all its threads. Right: time in the function itself.\n")?;
    writeln!(page, "| thread | % | function | % |\n| --- | ---: | --- | ---: |")?;
    let cells = |shares: &[(String, f64)], index: usize| {
        shares.get(index).map_or_else(
            || " |".to_owned(),
            |(name, share)| format!("`{name}` | {:.1}", share * 100.0),
        )
    };
    for index in 0..profile.leaves.len().max(profile.threads.len()) {
        let (thread, leaf) = (cells(&profile.threads, index), cells(&profile.leaves, index));
        writeln!(page, "| {thread} | {leaf} |")?;
    }
    writeln!(page, "\n[The flame graph](profile.svg)\n")?;
    Ok(())
}

fn headline(
    page: &mut String,
    name: &str,
    unit: &str,
    best: Option<(&Row, f64)>,
    beside: &str,
) -> Result<()> {
    match best {
        Some((row, bare)) => writeln!(
            page,
            "**{name}: {:.0} {unit}** at p99 {:.1} ms, nothing lost: {:.2} of {beside}\n({bare:.0} \
             a second in the same run).\n",
            row.delivered_rate,
            row.p99_ms,
            row.delivered_rate / bare
        ),
        None => writeln!(page, "**{name}: no rate was carried with p99 below {P99_MAX_MS} ms.**\n"),
    }?;
    Ok(())
}

fn table(page: &mut String, title: &str, bare_name: &str, bare: f64, rows: &[Row]) -> Result<()> {
    writeln!(page, "## {title}\n")?;
    writeln!(page, "{bare_name}: {bare:.0} a second.\n")?;
    writeln!(
        page,
        "| rate asked | delivered/s | of bare | p50 ms | p99 ms (min–max) | lost, doubled, \
        … | server µs a message | generator waited |"
    )?;
    writeln!(page, "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for row in rows {
        writeln!(
            page,
            "| {} | {:.0} | {:.2} | {:.1} | {:.1} ({:.1}–{:.1}) | {} | {:.1} | {:.0} % |",
            row.rate,
            row.delivered_rate,
            row.delivered_rate / bare,
            row.p50_ms,
            row.p99_ms,
            row.p99_range.0,
            row.p99_range.1,
            row.found,
            row.server_micros,
            row.waited * 100.0
        )?;
    }
    writeln!(page)?;
    Ok(())
}

fn rows(samples: &[Sample]) -> Vec<Row> {
    let mut rates: Vec<u64> = samples.iter().map(|sample| sample.rate).collect();
    rates.sort_unstable();
    rates.dedup();
    let row = |rate: u64| {
        let of: Vec<&Sample> = samples.iter().filter(|sample| sample.rate == rate).collect();
        let median_of = |field: fn(&Sample) -> f64| {
            median(&of.iter().map(|sample| field(sample)).collect::<Vec<_>>())
        };
        let p99 = || of.iter().map(|sample| sample.p99_ms);
        Row {
            rate,
            delivered_rate: median_of(|sample| sample.delivered_rate),
            p50_ms: median_of(|sample| sample.p50_ms),
            p99_ms: median_of(|sample| sample.p99_ms),
            p99_range: (p99().fold(f64::MAX, f64::min), p99().fold(0.0, f64::max)),
            found: of.iter().map(|sample| sample.found).sum(),
            server_micros: median_of(|sample| sample.server_micros),
            waited: median_of(|sample| sample.generator_waited),
        }
    };
    rates.into_iter().map(row).collect()
}

/// Shares of the commit groups by their number of messages, without the empty ends.
fn group_sizes(samples: &[Sample], rate: u64) -> Vec<(String, f64)> {
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.rate == rate) {
        for (index, (bound, count)) in sample.groups.iter().enumerate() {
            match sums.get_mut(index) {
                Some(sum) => sum.1 += count,
                None => sums.push((*bound, *count)),
            }
        }
    }
    let total: u64 = sums.iter().map(|(_, count)| count).sum();
    let last = sums.iter().rposition(|(_, count)| *count > 0).map_or(0, |index| index + 1);
    #[expect(clippy::cast_precision_loss, reason = "for a plot")]
    let share =
        |(bound, count): &(f64, u64)| (format!("{bound}"), *count as f64 / total.max(1) as f64);
    sums[..last].iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: u64, p99_ms: f64, found: u64) -> Sample {
        Sample {
            rate,
            delivered_rate: 1000.0,
            p50_ms: 1.0,
            p99_ms,
            found,
            generator_waited: 0.0,
            server_micros: 1.0,
            groups: vec![(1.0, 1), (2.0, 3), (4.0, 0)],
        }
    }

    #[test]
    fn a_row_is_the_median_of_its_rounds_and_sums_what_was_found() {
        let samples =
            [sample(1, 10.0, 0), sample(1, 90.0, 0), sample(1, 40.0, 0), sample(2, 1.0, 1)];
        let rows = rows(&samples);
        assert_eq!((rows[0].p99_ms, rows[0].p99_range), (40.0, (10.0, 90.0)));
        assert!(rows[0].is_carried());
        assert!(!rows[1].is_carried(), "something was found");
    }

    #[test]
    fn group_sizes_are_shares_without_the_empty_end() {
        let sizes = group_sizes(&[sample(1, 1.0, 0), sample(1, 1.0, 0), sample(2, 1.0, 0)], 1);
        assert_eq!(sizes, [("1".to_owned(), 0.25), ("2".to_owned(), 0.75)]);
    }
}
