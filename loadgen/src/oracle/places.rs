//! Which places of a gapless sequence have been seen: a watermark, and the few holes behind it.

/// Holes that are kept. A hole beyond them (the oldest) is given up: what comes into it later
/// counts as a duplicate, and its places stay missing.
const HOLES_MAX: usize = 256;

/// Consecutive places that were passed over; both ends belong to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hole {
    first: u64,
    last: u64,
}

/// What a place is to those seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The next one, or the first of all.
    Next,
    /// It lies ahead: places before it are missing, so far.
    Ahead,
    /// It was missing.
    Late,
    /// It has been seen.
    Duplicate,
}

/// The places seen. In order they cost two words; memory is bounded by [`HOLES_MAX`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The lowest place that counts; 0 while nothing is known.
    first: u64,
    /// One above the highest seen.
    next: u64,
    /// `first` was told and not inferred: what lies below it does not belong here.
    is_told: bool,
    /// Ascending, apart from each other, below `next`.
    holes: Vec<Hole>,
    /// Places of holes that were given up.
    given_up: u64,
}

impl Places {
    /// From here on every place must come.
    pub(crate) const fn expect_from(first: u64) -> Self {
        Self { first, next: first, is_told: true, holes: Vec::new(), given_up: 0 }
    }

    /// A place came.
    pub(crate) fn insert(&mut self, place: u64) -> Verdict {
        let verdict = if place == self.next && self.next > 0 {
            self.next += 1;
            Verdict::Next
        } else if self.next == 0 {
            (self.first, self.next) = (place, place + 1);
            Verdict::Next
        } else if place > self.next {
            self.pass_over(Hole { first: self.next, last: place - 1 });
            self.next = place + 1;
            Verdict::Ahead
        } else if place < self.first && !self.is_told {
            self.extend_down(place);
            Verdict::Late
        } else {
            self.fill(place)
        };
        self.check();
        verdict
    }

    /// The lowest place that counts, and the highest seen; `None` if none has been.
    pub(crate) const fn range(&self) -> Option<(u64, u64)> {
        if self.next > self.first { Some((self.first, self.next - 1)) } else { None }
    }

    /// Places between the two that have not been seen.
    pub(crate) fn missing(&self) -> u64 {
        let of = |hole: &Hole| hole.last - hole.first + 1;
        self.given_up + self.holes.iter().map(of).sum::<u64>()
    }

    /// How many places have been seen.
    pub(crate) fn seen(&self) -> u64 {
        self.next - self.first - self.missing()
    }

    fn pass_over(&mut self, hole: Hole) {
        if self.holes.len() == HOLES_MAX {
            let oldest = self.holes.remove(0);
            self.given_up += oldest.last - oldest.first + 1;
        }
        self.holes.push(hole);
    }

    /// An earlier beginning than the one inferred from the first that came.
    fn extend_down(&mut self, place: u64) {
        if place + 1 < self.first {
            let hole = Hole { first: place + 1, last: self.first - 1 };
            if self.holes.len() < HOLES_MAX {
                self.holes.insert(0, hole);
            } else {
                self.given_up += hole.last - hole.first + 1;
            }
        }
        self.first = place;
    }

    fn fill(&mut self, place: u64) -> Verdict {
        let index = self.holes.partition_point(|hole| hole.last < place);
        let Some(hole) = self.holes.get_mut(index).filter(|hole| hole.first <= place) else {
            return Verdict::Duplicate;
        };
        match (hole.first == place, hole.last == place) {
            (true, true) => drop(self.holes.remove(index)),
            (true, false) => hole.first += 1,
            (false, true) => hole.last -= 1,
            (false, false) => {
                let above = Hole { first: place + 1, last: hole.last };
                hole.last = place - 1;
                if self.holes.len() < HOLES_MAX {
                    self.holes.insert(index + 1, above);
                } else {
                    self.given_up += above.last - above.first + 1;
                }
            }
        }
        Verdict::Late
    }

    fn check(&self) {
        debug_assert!(self.first <= self.next);
        debug_assert!(self.holes.iter().all(|hole| hole.first <= hole.last));
        debug_assert!(self.holes.is_sorted_by(|one, next| one.last < next.first));
        assert!(self.holes.len() <= HOLES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Ahead, Duplicate, Late, Next};
    use super::*;

    fn check(start: Places, places: &[u64], verdicts: &[Verdict], missing: u64, seen: u64) {
        let mut set = start;
        let found: Vec<Verdict> = places.iter().map(|place| set.insert(*place)).collect();
        assert_eq!(found, verdicts, "{places:?}");
        assert_eq!((set.missing(), set.seen()), (missing, seen), "{places:?}");
    }

    #[test]
    fn each_place_gets_its_verdict() {
        let any = Places::default;
        check(any(), &[5, 6, 7], &[Next, Next, Next], 0, 3);
        check(any(), &[5, 7], &[Next, Ahead], 1, 2);
        check(any(), &[5, 7, 6, 8], &[Next, Ahead, Late, Next], 0, 4);
        check(any(), &[5, 5], &[Next, Duplicate], 0, 1);
        check(any(), &[5, 7, 6, 6], &[Next, Ahead, Late, Duplicate], 0, 3);
        check(any(), &[5, 9, 7, 6, 8], &[Next, Ahead, Late, Late, Late], 0, 5);
        check(any(), &[5, 9, 6, 8, 7], &[Next, Ahead, Late, Late, Late], 0, 5);
        check(any(), &[5, 3, 4], &[Next, Late, Late], 0, 3);
        check(any(), &[5, 2], &[Next, Late], 2, 2);
    }

    #[test]
    fn a_told_beginning_counts_what_never_came_and_refuses_what_lies_before_it() {
        check(Places::expect_from(2), &[2, 3], &[Next, Next], 0, 2);
        check(Places::expect_from(2), &[4], &[Ahead], 2, 1);
        check(Places::expect_from(2), &[2, 1], &[Next, Duplicate], 0, 1);
        check(Places::expect_from(2), &[], &[], 0, 0);
        assert_eq!(Places::expect_from(2).range(), None);
    }

    #[test]
    fn holes_beyond_the_bound_stay_missing() {
        let mut set = Places::expect_from(1);
        let count = 2 * HOLES_MAX as u64;
        (1..=count).for_each(|place| assert_eq!(set.insert(2 * place), Ahead));
        assert_eq!((set.missing(), set.seen()), (count, count));
        assert_eq!(set.insert(1), Duplicate, "given up");
        assert_eq!(set.insert(2 * count - 1), Late, "kept");
        assert_eq!(set.missing(), count - 1);
    }
}
