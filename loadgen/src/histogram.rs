//! Latencies: recorded by each thread for itself, added up at the end.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::Serialize;

/// What is longer is recorded as this: a run waits less for its last message.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Significant decimal digits of a recorded value.
const DIGITS: u8 = 3;

/// Latencies from 1 µs to ten minutes, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// The figures of a histogram, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// One row of a drawn histogram: how many values lie in `(from, to]`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Band {
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    pub(crate) count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let max = u64::try_from(LATENCY_MAX.as_micros()).expect("ten minutes");
        Self(Histogram::new_with_bounds(1, max, DIGITS).expect("bounds that are in order"))
    }
}

impl Latencies {
    /// Counts one value; longer than ten minutes counts as ten minutes.
    pub(crate) fn record(&mut self, latency: Duration) {
        let microseconds = latency.min(LATENCY_MAX).as_micros();
        self.0.saturating_record(u64::try_from(microseconds).expect("at most ten minutes"));
    }

    /// Adds another thread's values.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Forgets all values.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// The value below which this part of all lies, in milliseconds; 0 if there is none.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        milliseconds(self.0.value_at_quantile(quantile).min(self.0.max()))
    }

    /// The figures of the report.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            count: self.0.len(),
            mean: (self.0.mean() / 1e3 * 1e4).round() / 1e4,
            p50: self.quantile_ms(0.5),
            p90: self.quantile_ms(0.9),
            p99: self.quantile_ms(0.99),
            p999: self.quantile_ms(0.999),
            max: milliseconds(self.0.max()),
        }
    }

    /// All values in bands, each twice as wide as the one before (with a middle one at 1.5), from
    /// the first with a value to the last.
    pub(crate) fn bands(&self) -> Vec<Band> {
        let mut bands = Vec::new();
        let (mut from, mut step) = (0_u64, 0_u32);
        while from < self.0.max() {
            let base = 1_u64 << (step / 2);
            let to = if step.is_multiple_of(2) { base } else { base + base / 2 };
            step += 1;
            if to <= from {
                continue;
            }
            let count = self.0.iter_recorded().filter(|value| {
                let value = value.value_iterated_to();
                from < value && value <= to || from == 0 && value == 0
            });
            let count = count.map(|value| value.count_since_last_iteration()).sum();
            if count > 0 || !bands.is_empty() {
                bands.push(Band { from_ms: milliseconds(from), to_ms: milliseconds(to), count });
            }
            from = to;
        }
        bands
    }

    /// HdrHistogram's own compressed form (V2 with deflate, in base64), values in microseconds.
    pub(crate) fn encoded(&self) -> String {
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        written.expect("a Vec takes everything");
        STANDARD.encode(bytes)
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    fn of(milliseconds: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        milliseconds.iter().for_each(|value| latencies.record(Duration::from_millis(*value)));
        latencies
    }

    #[test]
    fn figures_are_those_of_the_values_to_three_digits() {
        let values: Vec<u64> = (1..=1000).collect();
        let figures = of(&values).figures();
        assert_eq!(figures.count, 1000);
        let rows = [
            (figures.mean, 500.5),
            (figures.p50, 500.0),
            (figures.p90, 900.0),
            (figures.p99, 990.0),
            (figures.p999, 999.0),
            (figures.max, 1000.0),
        ];
        for (found, expected) in rows {
            assert!((found - expected).abs() / expected < 0.002, "{found}, not {expected}");
        }
        let none = Latencies::default().figures();
        assert_eq!((none.count, none.p99, none.max, none.mean), (0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn histograms_of_threads_add_up() {
        let mut sum = of(&[1, 2]);
        sum.add(&of(&[3, 700_000]));
        assert_eq!(sum.figures().count, 4);
        let max = sum.figures().max;
        assert!((max - 600_000.0).abs() < 1_000.0, "ten minutes are the most: {max}");
    }

    #[test]
    fn bands_hold_every_value_once() {
        for values in [&[1, 1, 2, 3, 9, 250][..], &[0, 0, 5], &[70_000], &[]] {
            let latencies = of(values);
            let bands = latencies.bands();
            let counted: u64 = bands.iter().map(|band| band.count).sum();
            let expected = if latencies.figures().max > 0.0 { values.len() } else { 0 };
            assert_eq!(counted, expected as u64, "{values:?}: {bands:?}");
            assert!(bands.is_sorted_by(|one, next| one.to_ms <= next.from_ms), "{bands:?}");
        }
    }

    #[test]
    fn the_encoded_form_is_read_back_by_hdrhistogram() {
        let latencies = of(&[1, 20, 300]);
        let bytes = STANDARD.decode(latencies.encoded()).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(read, latencies.0);
    }
}
