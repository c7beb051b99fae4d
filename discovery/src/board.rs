//! What is known of all gateways now, and the answer to those who ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::choose::{Asker, candidates, choose};
use crate::record::{Record, Rollout};

/// How long a client may go by an answer. Longer than a connection takes, shorter than a gateway
/// needs to fill up.
const TTL_SECONDS: u32 = 30;

/// Gateways of one board. More are not taken, and said in the log.
const GATEWAYS_MAX: usize = 10_000;

/// The gateways that are known. Many may ask at the same time.
///
/// Methods: `put`, `remove` and the like are told what has happened; [`Self::answer`] is asked.
#[derive(Debug, Default)]
pub struct Board(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    gateways: BTreeMap<String, Entry>,
    rollout: Option<Rollout>,
    /// Since when nothing was heard of changes.
    stale_since: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    /// How often it was recommended since it told its load.
    promised: u64,
    /// It was not among those read after an outage: it goes then, unless it comes back.
    missing_until: Option<Instant>,
}

/// One gateway of an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Recommended {
    /// Where to connect.
    pub url: String,
    /// Where it stands.
    pub region: String,
}

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// Try them in this order; none if no gateway is known.
    pub gateways: Vec<Recommended>,
    /// How long the answer is good.
    pub ttl_seconds: u32,
    /// What is known is old: the source of it cannot be reached.
    pub stale: bool,
    /// How old, in seconds; 0 if it is not stale.
    pub stale_seconds: u64,
}

impl Board {
    /// A gateway has come, or tells its load anew.
    pub fn put(&self, record: Record) {
        let mut known = self.known();
        if known.gateways.len() >= GATEWAYS_MAX && !known.gateways.contains_key(&record.id) {
            tracing::error!(id = record.id, "more gateways than {GATEWAYS_MAX}: left out");
            return;
        }
        let id = record.id.clone();
        known.gateways.insert(id, Entry { record, promised: 0, missing_until: None });
    }

    /// A gateway has gone.
    pub fn remove(&self, id: &str) {
        self.known().gateways.remove(id);
    }

    /// All gateways that there are. Those that are known and not among them stay for `patience`: an
    /// outage may have cost them their registration as well, and they are about to come back.
    pub fn replace(&self, records: Vec<Record>, now: Instant, patience: Duration) {
        let mut known = self.known();
        let mut before = std::mem::take(&mut known.gateways);
        drop(known);
        for record in records {
            before.remove(&record.id);
            self.put(record);
        }
        let mut known = self.known();
        for (id, mut entry) in before {
            let until = *entry.missing_until.get_or_insert(now + patience);
            if now < until {
                known.gateways.insert(id, entry);
            }
        }
    }

    /// A rollout has begun, or ended.
    pub fn set_rollout(&self, rollout: Option<Rollout>) {
        self.known().rollout = rollout;
    }

    /// From now on nothing is heard of changes, or again everything.
    pub fn set_stale(&self, is_stale: bool, now: Instant) {
        let mut known = self.known();
        known.stale_since = is_stale.then(|| known.stale_since.unwrap_or(now));
    }

    /// How many gateways are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known().gateways.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What to tell a client. `seed` is any random number.
    #[must_use]
    pub fn answer(&self, asker: Asker<'_>, now: Instant, seed: u64) -> Answer {
        let mut known = self.known();
        let known = &mut *known;
        let is_there =
            |_: &String, entry: &mut Entry| entry.missing_until.is_none_or(|until| now < until);
        known.gateways.retain(is_there);
        let rollout = known.rollout.as_ref();
        let gateways = known.gateways.values().map(|entry| (&entry.record, entry.promised));
        let mut dice = Dice(seed);
        let chosen = choose(candidates(gateways, rollout, asker), |below| dice.below(below));
        let first = chosen.first().map(|record| record.id.clone());
        let recommended = |record: &Record| Recommended {
            url: record.url.clone(),
            region: record.region.clone(),
        };
        let gateways = chosen.into_iter().map(recommended).collect();
        if let Some(entry) = first.and_then(|id| known.gateways.get_mut(&id)) {
            entry.promised += 1;
        }
        let stale = known.stale_since.map(|since| now.saturating_duration_since(since).as_secs());
        Answer {
            gateways,
            ttl_seconds: TTL_SECONDS,
            stale: stale.is_some(),
            stale_seconds: stale.unwrap_or(0),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nobody panics while it is held")
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to spread clients, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        let scaled = (u128::from(x) * u128::from(below)) >> 64;
        u64::try_from(scaled).expect("below a u64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(id: &str, sessions: u64) -> Record {
        Record {
            id: id.into(),
            url: format!("ws://{id}"),
            region: "eu".into(),
            release: 1,
            sessions,
            sessions_max: 100,
            draining: false,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "an Instant is made in no other way")]
    fn now() -> Instant {
        Instant::now()
    }

    fn firsts(board: &Board, count: u64) -> BTreeMap<String, u64> {
        let mut firsts = BTreeMap::new();
        for seed in 0..count {
            let answer = board.answer(Asker::default(), now(), seed);
            *firsts.entry(answer.gateways[0].url.clone()).or_default() += 1;
        }
        firsts
    }

    #[test]
    fn many_who_ask_between_two_reports_are_spread_by_the_room_that_is_left() {
        let board = Board::default();
        board.put(gateway("a", 0));
        board.put(gateway("b", 90));
        let firsts = firsts(&board, 110);
        assert_eq!(firsts.values().sum::<u64>(), 110);
        assert_eq!(firsts["ws://b"], 10, "as many as it has room for, and then nobody");
    }

    #[test]
    fn what_an_outage_hides_stays_for_a_while_and_is_said_to_be_old() {
        let (board, begin, patience) = (Board::default(), now(), Duration::from_secs(9));
        let at = |seconds| begin + Duration::from_secs(seconds);
        board.put(gateway("a", 0));
        board.put(gateway("b", 0));
        let urls = |seconds| board.answer(Asker::default(), at(seconds), 1).gateways.len();
        board.set_stale(true, at(1));
        board.set_stale(true, at(2));
        let answer = board.answer(Asker::default(), at(5), 1);
        assert_eq!((answer.stale, answer.stale_seconds, answer.gateways.len()), (true, 4, 2));
        board.set_stale(false, at(6));
        board.replace(vec![gateway("a", 0)], at(6), patience);
        assert!(!board.answer(Asker::default(), at(6), 1).stale);
        assert_eq!((urls(14), urls(15)), (2, 1), "b has not come back");
        board.replace(vec![gateway("b", 0)], at(20), patience);
        board.put(gateway("a", 0));
        assert_eq!(urls(60), 2, "a has");
    }

    #[test]
    fn who_goes_is_gone_and_nobody_is_an_answer_too() {
        let board = Board::default();
        board.put(gateway("a", 0));
        board.remove("a");
        assert!(board.is_empty());
        assert_eq!(board.answer(Asker::default(), now(), 1).gateways, []);
    }
}
