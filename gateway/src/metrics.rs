//! What a core counts, and how an operator sees it.
//!
//! A core counts in plain integers of its own and publishes them once a turn into atomics that
//! nobody else writes; a scrape adds the cores up. So counting costs an addition and no core waits
//! for a scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use wire::CloseCode;

use crate::memory::{Account, Part, Resident};
use crate::shell::Shell;

macro_rules! counts {
    (counters { $($counter:ident: $counter_help:literal,)* }
     gauges { $($gauge:ident: $gauge_help:literal,)* }) => {
        /// One core's numbers.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct CoreCounts {
            $(#[doc = $counter_help] pub $counter: u64,)*
            $(#[doc = $gauge_help] pub $gauge: u64,)*
            /// Closes by code, in the order of `CloseCode::ALL`.
            pub closes: [u64; CloseCode::ALL.len()],
            /// What its parts hold.
            pub memory: Account,
        }

        /// The same, as the other threads see it.
        #[derive(Debug, Default)]
        pub struct PublishedCounts {
            $($counter: AtomicU64,)*
            $($gauge: AtomicU64,)*
            closes: [AtomicU64; CloseCode::ALL.len()],
            memory: [AtomicU64; Part::ALL.len()],
        }

        impl PublishedCounts {
            /// Called by the core alone.
            pub fn publish(&self, counts: &CoreCounts) {
                $(self.$counter.store(counts.$counter, Ordering::Relaxed);)*
                $(self.$gauge.store(counts.$gauge, Ordering::Relaxed);)*
                for (published, count) in self.closes.iter().zip(counts.closes) {
                    published.store(count, Ordering::Relaxed);
                }
                for (published, part) in self.memory.iter().zip(Part::ALL) {
                    published.store(counts.memory.get(part), Ordering::Relaxed);
                }
            }
        }

        const COUNTERS: &[Metric] = &[$(
            (stringify!($counter), $counter_help, |counts| &counts.$counter),
        )*];
        const GAUGES: &[Metric] = &[$(
            (stringify!($gauge), $gauge_help, |counts| &counts.$gauge),
        )*];
    };
}

type Metric = (&'static str, &'static str, fn(&PublishedCounts) -> &AtomicU64);

counts! {
    counters {
        accepted: "Connections accepted",
        accepts_paused: "Times accepting paused for want of places or descriptors",
        crowds: "Times accepting paused because as many waited as can be served in time",
        handshakes: "WebSocket handshakes completed",
        handshakes_refused: "WebSocket handshakes refused",
        logins: "Sessions begun",
        logins_refused: "Hellos refused for their token or ticket",
        admissions_deferred: "Connections that waited for their turn to come in",
        admissions_dropped: "Connections ended because they had waited too long",
        logins_deferred: "Tokens that waited for their turn to be looked at",
        ends_deferred: "Connections whose end waited for the next turn",
        catch_ups_deferred: "Reads of sessions that catch up which waited for others",
        evacuated: "Sessions sent away by an evacuation",
        displaced: "Sessions displaced by a newer one of their device",
        passes_failed: "Connections that did not fit into their user's core",
        protocol_errors: "Connections that broke RFC 6455",
        session_bytes_exceeded: "Sessions closed because they held more than they may",
        typing_shed: "Typing frames dropped for want of memory",
        slow_consumers_shed: "Sessions closed for want of memory, the largest send queue first",
        new_sessions_shed: "Hellos refused for want of memory",
        received_shed: "Connections ended for want of memory for what they sent, or for its answer",
        slow_consumers: "Sessions closed because they read too slowly",
        stalls: "Times a connection was not read for want of room",
        frames_in: "Frames received from sessions",
        frames_out: "Frames queued to connections",
        posts: "Posts received",
        sequenced: "Entries given a place in their channel",
        repeats: "Repeated sends answered again",
        rejected: "Requests refused",
        delivered: "Inbox entries delivered to sessions",
        sequencing_paused: "Turns that left offers waiting for the disk or for peers",
        folds: "Inboxes folded into chunks",
        reads: "Questions to the store",
        reads_failed: "Questions that the store could not answer",
        ring_enters: "System calls into the ring",
        ring_buffers_exhausted: "Receives that found no buffer",
        ring_overflows: "Times the completion queue was full",
    }
    gauges {
        connections: "Connections open",
        sessions: "Sessions live",
        admissions_waiting: "Connections that wait to come in",
        catch_ups_waiting: "Catch-up reads that wait for others",
        channels_in_memory: "Channels in memory",
        users_in_memory: "Users whose inbox state is in memory",
        unfolded_entries: "Inbox entries that only the journal holds",
        waiting_for_disk: "Entries and deliveries that wait for the disk",
        send_blocks_out: "Send blocks in use",
        session_memory_bytes: "Bytes of memory that sessions hold",
        session_memory_bytes_max: "Bytes of memory that sessions may hold now",
        shedding: "What is given up for want of memory: the sum of each core's stages",
    }
}

impl CoreCounts {
    /// Counts a close.
    pub fn count_close(&mut self, code: CloseCode) {
        if let Some(index) = CloseCode::ALL.iter().position(|known| *known == code) {
            self.closes[index] += 1;
        }
    }
}

/// Everything that is exported.
#[derive(Debug)]
pub struct Metrics {
    /// By core.
    pub cores: Box<[PublishedCounts]>,
    /// The store's, once it has started.
    pub store: Arc<store::Service>,
    /// What the cores run on.
    pub shell: Shell,
}

impl Metrics {
    /// Numbers of `cores` cores and of a store.
    #[must_use]
    pub fn new(cores: u16, shell: Shell, store: Arc<store::Service>) -> Self {
        Self { cores: (0..cores).map(|_| PublishedCounts::default()).collect(), store, shell }
    }

    /// Sessions that evacuations have sent away.
    #[must_use]
    pub fn evacuated(&self) -> u64 {
        self.sum(|counts| &counts.evacuated)
    }

    /// The sum of one number over the cores.
    fn sum(&self, of: fn(&PublishedCounts) -> &AtomicU64) -> u64 {
        self.cores.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
    }

    /// Sessions live on all cores.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sum(|counts| &counts.sessions)
    }
}

/// The exposition in the OpenMetrics text format.
///
/// # Errors
/// Never, into a string.
pub fn expose(metrics: &Arc<Metrics>) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("mooring");
    registry.register_collector(Box::new(Exposition(Arc::clone(metrics))));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Exposition(Arc<Metrics>);

impl prometheus_client::collector::Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, of) in COUNTERS {
            let counter = ConstCounter::new(self.0.sum(*of));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        for (name, help, of) in GAUGES {
            #[expect(clippy::cast_possible_wrap, reason = "counts of things in memory")]
            let gauge = ConstGauge::new(self.0.sum(*of) as i64);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        let mut closes =
            encoder.encode_descriptor("closes", "Closes by code", None, MetricType::Counter)?;
        for (index, code) in CloseCode::ALL.iter().enumerate() {
            let sum = self.0.cores.iter().map(|core| core.closes[index].load(Ordering::Relaxed));
            let labels = [("code", code.number().to_string()), ("name", code.name().to_owned())];
            ConstCounter::new(sum.sum::<u64>()).encode(closes.encode_family(&labels)?)?;
        }
        let mut io = encoder.encode_descriptor(
            "io",
            "1 for what the cores run on",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(1).encode(io.encode_family(&[("shell", self.0.shell.name())])?)?;
        encode_memory(&self.0, &mut encoder)?;
        encode_store(&self.0.store, &mut encoder)
    }
}

/// The account: the cores' parts, the store's, the files of the binary, and what is left of what
/// the operating system reports.
fn encode_memory(
    metrics: &Metrics,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let resident = Resident::read();
    let of_cores = |part: Part| -> u64 {
        let of_core = |core: &PublishedCounts| core.memory[part as usize].load(Ordering::Relaxed);
        metrics.cores.iter().map(of_core).sum()
    };
    let mut parts: Vec<(&str, u64)> =
        Part::ALL.iter().map(|&part| (part.name(), of_cores(part))).collect();
    parts.push(("store", metrics.store.memory_bytes()));
    parts.push(("files", resident.files));
    let known: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    parts.push(("other", resident.all.saturating_sub(known)));
    let help = "What is resident, by part";
    let mut family = encoder.encode_descriptor("memory_bytes", help, None, MetricType::Gauge)?;
    for (part, bytes) in parts {
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&[("part", part)])?)?;
    }
    let help = "What the operating system reports as resident";
    let gauge = ConstGauge::new(i64::try_from(resident.all).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor("resident_bytes", help, None, gauge.metric_type())?)
}

/// The store's histograms: name, help, which, and by what its values are divided.
type Distribution = (&'static str, &'static str, fn(&store::Metrics) -> &store::Histogram, f64);

const DISTRIBUTIONS: &[Distribution] = &[
    ("store_group_batches", "Batches of one write", |m| &m.group_batches, 1.0),
    ("store_group_messages", "Messages of one write", |m| &m.group_messages, 1.0),
    ("store_group_bytes", "Bytes of one write", |m| &m.group_bytes, 1.0),
    ("store_write_seconds", "One write, its sync included", |m| &m.write_micros, 1e6),
    ("store_sync_seconds", "One sync by itself", |m| &m.sync_micros, 1e6),
    ("store_read_seconds", "One read of the disk", |m| &m.read_micros, 1e6),
];

type StoreCounter = (&'static str, &'static str, fn(&store::Metrics) -> &store::Counter);

const STORE_COUNTERS: &[StoreCounter] = &[
    ("store_refused_batches", "Batches refused for want of space", |m| &m.refused_batches),
    ("store_held_groups", "Writes held for want of space", |m| &m.held_groups),
    ("store_reads", "Reads answered", |m| &m.reads),
    ("store_reads_coalesced", "Of those, with another's disk read", |m| &m.reads_coalesced),
    ("store_reads_failed", "Reads that failed", |m| &m.reads_failed),
];

/// The store's numbers have no labels.
type NoLabels = [(&'static str, &'static str); 0];

fn encode_store(
    store: &store::Service,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let gauges = [
        (
            "store_pressure",
            "How near the engine is to stalling: 0, 1 or 2",
            store.pressure() as i64,
        ),
        ("store_full", "1 while the disk is full", i64::from(store.is_full())),
        (
            "store_batches_in_flight",
            "Batches on their way to the disk",
            i64::try_from(store.batches_in_flight()).unwrap_or(i64::MAX),
        ),
    ];
    for (name, help, value) in gauges {
        let gauge = ConstGauge::new(value);
        gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
    }
    for (name, help, of) in STORE_COUNTERS {
        let counter = ConstCounter::new(of(store.metrics()).get());
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    for (name, help, of, divisor) in DISTRIBUTIONS {
        let histogram = of(store.metrics());
        let mut below = 0;
        #[expect(clippy::cast_precision_loss, reason = "bounds and sums for a plot")]
        let buckets: Vec<(f64, u64)> = histogram
            .cumulative()
            .map(|(bound, count)| {
                let within = count - std::mem::replace(&mut below, count);
                (bound.map_or(f64::INFINITY, |bound| bound as f64 / divisor), within)
            })
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "bounds and sums for a plot")]
        let sum = histogram.sum() as f64 / divisor;
        encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabels>(sum, histogram.count(), &buckets, None)?;
    }
    Ok(())
}
