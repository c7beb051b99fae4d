//! The choice, as a pure function.
//!
//! What counts, in this order:
//!
//! 1. A gateway that drains is never recommended.
//! 2. One with room comes before one that is full.
//! 3. One that is about to go comes last.
//! 4. For who is moved by a rollout, one of the new release comes before one of the old: she
//!    lands where nothing moves her again. It holds as long as the new ones have room. So a rollout
//!    starts some of them before it drains the first of the old, and those who come by themselves
//!    are spread over all: their number is not in the rollout's hand.
//! 5. The asker's region comes before others.
//!
//! Among equals chance decides, in proportion to the room: so all fill up evenly although what is
//! known of their load is some seconds old. What was recommended since a gateway last told its load
//! counts as taken.

use crate::record::{Record, Rollout};

/// Gateways of one answer: the first to try, and others if it does not answer.
pub const CHOICES_MAX: usize = 3;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asker<'a> {
    /// Where she is, if she says so.
    pub region: Option<&'a str>,
    /// Her gateway has sent her away.
    pub is_moved: bool,
}

/// A gateway that may be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<'r> {
    /// Which.
    pub record: &'r Record,
    /// Its part of those who ask, beside the other candidates'; at least 1.
    pub weight: u64,
}

/// The gateways among which chance decides: those that rank first. `promised` is how often a
/// gateway was recommended since it told its load.
pub fn candidates<'r>(
    gateways: impl IntoIterator<Item = (&'r Record, u64)>,
    rollout: Option<&Rollout>,
    asker: Asker<'_>,
) -> Vec<Candidate<'r>> {
    let mut best = None;
    let mut found = Vec::new();
    for (record, promised) in gateways {
        if record.draining {
            continue;
        }
        let room = record.sessions_max.saturating_sub(record.sessions.saturating_add(promised));
        let goes_next = rollout.is_some_and(|rollout| rollout.next.contains(&record.id));
        let is_old = rollout.is_some_and(|rollout| record.release < rollout.release);
        let is_far = asker.region.is_some_and(|region| region != record.region);
        let rank = (room == 0, goes_next, asker.is_moved && is_old, is_far);
        if best.is_none_or(|best| rank < best) {
            best = Some(rank);
            found.clear();
        }
        if best == Some(rank) {
            found.push(Candidate { record, weight: room.max(1) });
        }
    }
    found
}

/// Takes up to [`CHOICES_MAX`] of the candidates, each in proportion to its weight among those that
/// are left. `dice` gives a number below the one it is given.
pub fn choose<'r>(
    mut candidates: Vec<Candidate<'r>>,
    mut dice: impl FnMut(u64) -> u64,
) -> Vec<&'r Record> {
    let mut chosen = Vec::with_capacity(CHOICES_MAX);
    while chosen.len() < CHOICES_MAX && !candidates.is_empty() {
        let total = candidates.iter().fold(0_u64, |sum, one| sum.saturating_add(one.weight));
        let mut at = dice(total);
        let index = candidates.iter().position(|candidate| {
            let is_it = at < candidate.weight;
            at = at.saturating_sub(candidate.weight);
            is_it
        });
        chosen.push(candidates.remove(index.unwrap_or(0)).record);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(text: &str) -> (Record, u64) {
        // `id region release sessions/max [draining] [+promised]`
        let words: Vec<&str> = text.split(' ').collect();
        let (sessions, sessions_max) = words[3].split_once('/').unwrap();
        let promised = words.iter().find_map(|word| word.strip_prefix('+'));
        let record = Record {
            id: words[0].into(),
            url: "ws://x".into(),
            region: words[1].into(),
            release: words[2].parse().unwrap(),
            sessions: sessions.parse().unwrap(),
            sessions_max: sessions_max.parse().unwrap(),
            draining: words.contains(&"draining"),
        };
        (record, promised.map_or(0, |count| count.parse().unwrap()))
    }

    /// `asker`: a region, or `moved`, or both.
    fn found(gateways: &[&str], rollout: Option<u64>, asker: &str) -> Vec<(String, u64)> {
        let region = asker.split(' ').find(|word| !word.is_empty() && *word != "moved");
        let asker = Asker { region, is_moved: asker.contains("moved") };
        let gateways: Vec<_> = gateways.iter().map(|text| gateway(text)).collect();
        let known = gateways.iter().map(|(record, promised)| (record, *promised));
        let rollout = rollout.map(|release| Rollout { release, next: vec!["next".into()] });
        let found = candidates(known, rollout.as_ref(), asker);
        found.iter().map(|one| (one.record.id.clone(), one.weight)).collect()
    }

    #[test]
    fn who_ranks_first_is_a_candidate_by_its_room() {
        type Row = (
            &'static str,
            &'static [&'static str],
            Option<u64>,
            &'static str,
            &'static [(&'static str, u64)],
        );
        let rows: &[Row] = &[
            ("nobody", &[], None, "", &[]),
            ("by room", &["a eu 1 0/9", "b eu 1 6/9"], None, "", &[("a", 9), ("b", 3)]),
            ("promised", &["a eu 1 0/9 +4", "b eu 1 6/9"], None, "", &[("a", 5), ("b", 3)]),
            ("never one that drains", &["a eu 1 0/9 draining"], None, "", &[]),
            ("its region", &["a eu 1 0/9", "b us 1 0/9"], None, "us", &[("b", 9)]),
            ("a full region", &["a eu 1 0/9", "b us 1 9/9"], None, "us", &[("a", 9)]),
            ("an unknown region", &["a eu 1 0/9"], None, "moon", &[("a", 9)]),
            ("all full", &["a eu 1 9/9", "b us 1 9/9"], None, "us", &[("b", 1)]),
            ("new", &["a eu 1 0/9", "b eu 2 8/9"], Some(2), "moved", &[("b", 1)]),
            ("newer", &["a eu 1 0/9", "b eu 3 8/9"], Some(2), "moved", &[("b", 1)]),
            ("far", &["a eu 1 0/9", "b us 2 0/9"], Some(2), "eu moved", &[("b", 9)]),
            ("new and full", &["a eu 1 0/9", "b eu 2 9/9"], Some(2), "moved", &[("a", 9)]),
            ("none new yet", &["a eu 1 0/9"], Some(2), "moved", &[("a", 9)]),
            ("by herself", &["a eu 1 0/9", "b eu 2 8/9"], Some(2), "", &[("a", 9), ("b", 1)]),
            ("no rollout", &["a eu 1 0/9", "b eu 2 8/9"], None, "moved", &[("a", 9), ("b", 1)]),
            ("about to go", &["next eu 1 0/9", "b us 1 8/9"], Some(2), "eu", &[("b", 1)]),
            ("only that", &["next eu 1 0/9", "b us 1 9/9"], Some(2), "eu", &[("next", 9)]),
        ];
        for (name, gateways, rollout, asker, expected) in rows {
            let expected: Vec<_> = expected.iter().map(|(id, w)| ((*id).to_owned(), *w)).collect();
            assert_eq!(found(gateways, *rollout, asker), expected, "{name}");
        }
    }

    #[test]
    fn chance_follows_the_weights_and_takes_nobody_twice() {
        let gateways = ["a eu 1 0/1", "b eu 1 0/2", "c eu 1 0/3", "d eu 1 0/4"].map(gateway);
        let known = || {
            let gateways = gateways.iter().map(|(record, _)| (record, 0));
            candidates(gateways, None, Asker::default())
        };
        let mut firsts = std::collections::BTreeMap::<&str, u64>::new();
        for first in 0..10 {
            let mut rolls = [first, 0, 0].into_iter();
            let chosen = choose(known(), |_| rolls.next().unwrap());
            assert_eq!(chosen.len(), CHOICES_MAX);
            let mut ids: Vec<&str> = chosen.iter().map(|record| &*record.id).collect();
            *firsts.entry(ids[0]).or_default() += 1;
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), CHOICES_MAX, "each once");
        }
        assert_eq!(Vec::from_iter(firsts), [("a", 1), ("b", 2), ("c", 3), ("d", 4)]);
    }
}
