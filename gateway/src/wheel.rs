//! A hashed timing wheel (Varghese and Lauck 1987) over the connections of one core.
//!
//! One deadline a connection, in ticks. A connection that speaks only moves its deadline; the
//! wheel finds out when it comes to the old one, and puts it further on. So the hot path never
//! touches the wheel, and a tick costs what is due in it.
//!
//! The lists are made of slot numbers, 8 bytes a connection, allocated once.

/// Ticks of one turn of the wheel: a power of two. Deadlines further away go round several times.
const TICKS: usize = 512;

const NONE: u32 = u32::MAX;

/// A point in time, in ticks since the core started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// `count` ticks later.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.saturating_add(count))
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

/// The wheel. Slots are the connections' slots.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32; TICKS]>,
    links: Vec<Link>,
    /// Which list each slot is in; `NONE` for none.
    lists: Vec<u32>,
    now: Tick,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Wheel {
    /// An empty wheel with room for `count` slots.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self {
            heads: Box::new([NONE; TICKS]),
            links: Vec::with_capacity(count),
            lists: Vec::with_capacity(count),
            now: Tick(0),
        }
    }

    /// The tick up to which everything due has been given out.
    #[must_use]
    pub const fn now(&self) -> Tick {
        self.now
    }

    /// Bytes of the lists.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.links.len() * (size_of::<Link>() + size_of::<u32>()) + TICKS * size_of::<u32>()
    }

    /// Puts a slot where `deadline` will find it, from wherever it was.
    pub fn set(&mut self, slot: u32, deadline: Tick) {
        self.remove(slot);
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Link { before: NONE, after: NONE });
            self.lists.resize(index + 1, NONE);
        }
        let due = deadline.max(self.now.plus(1));
        let list = due.0 as usize % TICKS;
        let after = std::mem::replace(&mut self.heads[list], slot);
        self.links[index] = Link { before: NONE, after };
        if let Some(link) = self.links.get_mut(after as usize) {
            link.before = slot;
        }
        self.lists[index] = u32::try_from(list).expect("below TICKS");
    }

    /// Takes a slot out, if it is in.
    pub fn remove(&mut self, slot: u32) {
        let index = slot as usize;
        let Some(list) = self.lists.get_mut(index) else { return };
        let list = std::mem::replace(list, NONE);
        if list == NONE {
            return;
        }
        let Link { before, after } = self.links[index];
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => self.heads[list as usize] = after,
        }
        if let Some(link) = self.links.get_mut(after as usize) {
            link.before = before;
        }
    }

    /// Goes on to `now` and takes out every slot whose list comes by, into `due`. The caller
    /// compares deadlines: those that moved, and those of a later turn, it sets again.
    pub fn advance(&mut self, now: Tick, due: &mut Vec<u32>) {
        let steps = now.0.saturating_sub(self.now.0).min(u32::try_from(TICKS).expect("small"));
        let first = now.0 - steps;
        self.now = self.now.max(now);
        for tick in first + 1..=first + steps {
            let list = tick as usize % TICKS;
            let mut slot = std::mem::replace(&mut self.heads[list], NONE);
            while slot != NONE {
                due.push(slot);
                self.lists[slot as usize] = NONE;
                slot = self.links[slot as usize].after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(Tick(now), &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn each_slot_comes_up_at_its_tick() {
        let mut wheel = Wheel::default();
        for (slot, deadline) in [(3, 5), (9, 5), (1, 6)] {
            wheel.set(slot, Tick(deadline));
        }
        assert_eq!(due(&mut wheel, 4), [0_u32; 0]);
        assert_eq!(due(&mut wheel, 5), [3, 9]);
        assert_eq!(due(&mut wheel, 9), [1]);
        assert_eq!(due(&mut wheel, 2000), [0_u32; 0]);
    }

    #[test]
    fn a_slot_leaves_from_any_place_of_its_list_and_can_move() {
        for leaves in 1..=3 {
            let mut wheel = Wheel::default();
            (1..=3).for_each(|slot| wheel.set(slot, Tick(7)));
            wheel.remove(leaves);
            wheel.remove(leaves);
            let stay: Vec<u32> = (1..=3).filter(|slot| *slot != leaves).collect();
            assert_eq!(due(&mut wheel, 7), stay);
        }
        let mut wheel = Wheel::default();
        wheel.set(4, Tick(5));
        wheel.set(4, Tick(8));
        assert_eq!((due(&mut wheel, 7), due(&mut wheel, 8)), (vec![], vec![4]));
    }

    #[test]
    fn a_deadline_in_the_past_comes_up_at_the_next_tick() {
        let mut wheel = Wheel::default();
        assert_eq!(due(&mut wheel, 100), [0_u32; 0]);
        wheel.set(1, Tick(3));
        assert_eq!(due(&mut wheel, 101), [1]);
    }

    #[test]
    fn a_long_pause_gives_out_everything_once() {
        let mut wheel = Wheel::default();
        (0..600).for_each(|slot| wheel.set(slot, Tick(slot + 1)));
        assert_eq!(due(&mut wheel, 100_000).len(), 600);
        assert_eq!(due(&mut wheel, 100_001), [0_u32; 0]);
    }
}
