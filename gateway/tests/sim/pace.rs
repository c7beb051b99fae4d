//! Who chooses what happens next, and how far it goes.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same in every release, so that a seed that
/// failed fails again.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let index = self.next() % u64::try_from(count).expect("64 bits");
        usize::try_from(index).expect("below a usize")
    }
}

/// The order of things.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// Always the first step, and all of it.
    Even,
    /// Any step, and any part of it.
    Seeded(Rng),
}

impl Pace {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self::Seeded(Rng::new(seed))
    }

    /// Which of `count` possible steps comes next.
    pub(crate) fn pick(&mut self, count: usize) -> usize {
        match self {
            Self::Even => 0,
            Self::Seeded(rng) => rng.below(count),
        }
    }

    /// Whether something happens that seldom does.
    pub(crate) fn seldom(&mut self) -> bool {
        match self {
            Self::Even => false,
            Self::Seeded(rng) => rng.below(8) == 0,
        }
    }

    /// How much of `max` moves: at least 1. Half of the time all of it, else often very little, as
    /// bounds are crossed by single bytes.
    pub(crate) fn part(&mut self, max: usize) -> usize {
        match self {
            Self::Even => max,
            Self::Seeded(rng) => match rng.below(4) {
                0 | 1 => max,
                2 => 1 + rng.below(max),
                _ => 1 + rng.below(max.min(8)),
            },
        }
    }
}
