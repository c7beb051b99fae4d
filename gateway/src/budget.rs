//! What the sessions of a core hold of its memory, against what they may hold; and what is given
//! up, in which order, when that comes to an end.
//!
//! The process has `limits.memory_bytes_max`. What the store may take is set aside, and each core
//! has an even share of the rest: a number, so no core asks another (docs/decisions, 0014). Of its
//! share a core sets aside what its tables and caches hold, which have bounds of their own; the
//! rest is the *room* of its sessions: send queues, and what was received and not yet handled.
//!
//! ```text
//!  share of a core: | tables and caches |                 room                  |
//!  held by sessions:                    |=====================>   |     |      | |
//!                                                              typing slow  new  end
//! ```
//!
//! At the end of the room a session gets nothing more and is closed, to resume. Before that a core
//! sheds, in the order of [`Shed::ALL`].

/// What is given up when memory becomes short, the most easily missed first. (Presence will be the
/// first of them, once there is presence.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shed {
    /// Who is typing is told to nobody.
    Typing,
    /// Sessions are closed, and resume: the largest send queue first.
    SlowConsumers,
    /// Whoever says Hello is closed, to come again later.
    NewSessions,
}

impl Shed {
    /// In their order.
    pub const ALL: [Self; 3] = [Self::Typing, Self::SlowConsumers, Self::NewSessions];

    /// At which hundredths of the room it begins, and below which it ends. Between the two it stays
    /// as it is: or each frame that comes or goes would begin or end it.
    #[must_use]
    pub const fn hundredths(self) -> (usize, usize) {
        match self {
            Self::Typing => (70, 60),
            Self::SlowConsumers => (85, 75),
            Self::NewSessions => (95, 85),
        }
    }

    /// For logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::SlowConsumers => "slow consumers",
            Self::NewSessions => "new sessions",
        }
    }
}

/// Sessions have this part of a core's share even if its tables and caches take more: those who are
/// here can be served, and nobody new comes in.
const LEAST_ROOM: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub struct Budget {
    share: usize,
    room_max: usize,
    /// Held by tables and caches.
    base: usize,
    /// Held by sessions.
    held: usize,
    sheds: [bool; Shed::ALL.len()],
}

impl Budget {
    /// Of `share` bytes, of which sessions get `room_max` at most.
    #[must_use]
    pub const fn new(share: usize, room_max: usize) -> Self {
        Self { share, room_max, base: 0, held: 0, sheds: [false; Shed::ALL.len()] }
    }

    /// Tables and caches have grown or shrunk to so many bytes.
    pub const fn set_base(&mut self, bytes: usize) {
        self.base = bytes;
    }

    /// What one session holds has changed.
    ///
    /// # Panics
    /// If more is given back than is held.
    pub fn recount(&mut self, before: usize, after: usize) {
        self.held = (self.held + after).checked_sub(before).expect("what is counted is held");
    }

    /// Bytes that sessions hold.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Bytes that they may hold.
    #[must_use]
    pub fn room(&self) -> usize {
        self.share.saturating_sub(self.base).max(self.least_room()).min(self.room_max)
    }

    /// What is left of the room.
    #[must_use]
    pub fn left(&self) -> usize {
        self.room().saturating_sub(self.held)
    }

    /// Whether sessions hold more than they may: tables and caches have grown into their room, or
    /// more was received than there was room for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held > self.room()
    }

    /// Whether this is given up now.
    #[must_use]
    pub const fn sheds(&self, what: Shed) -> bool {
        self.sheds[what as usize]
    }

    /// How many bytes sessions should let go of, for no more of them to be closed.
    #[must_use]
    pub fn surplus(&self) -> usize {
        let (_, end) = Shed::SlowConsumers.hundredths();
        self.held.saturating_sub(self.room() / 100 * end)
    }

    /// Now and then: what begins to be given up (`true`), or is so no longer.
    pub fn poll_edge(&mut self) -> Option<(Shed, bool)> {
        let edge = |what: &Shed| {
            let (begin, end) = what.hundredths();
            let is_on = self.sheds(*what);
            let level = self.level(*what);
            let wants = if is_on { level >= end } else { level >= begin };
            (wants != is_on).then_some((*what, wants))
        };
        let (what, begins) = Shed::ALL.iter().find_map(edge)?;
        self.sheds[what as usize] = begins;
        Some((what, begins))
    }

    /// How far it is, in hundredths. For those who would come in, the tables count as well: they
    /// would make them larger.
    fn level(&self, what: Shed) -> usize {
        let of_room = hundredths(self.held, self.room());
        match what {
            Shed::Typing | Shed::SlowConsumers => of_room,
            Shed::NewSessions => of_room.max(hundredths(self.base, self.share - self.least_room())),
        }
    }

    const fn least_room(&self) -> usize {
        self.share / LEAST_ROOM
    }
}

/// Rounded down.
const fn hundredths(part: usize, whole: usize) -> usize {
    part.saturating_mul(100) / if whole == 0 { 1 } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What changes when sessions hold so much.
    fn edges(budget: &mut Budget, held: usize) -> Vec<(Shed, bool)> {
        budget.recount(budget.held(), held);
        std::iter::from_fn(|| budget.poll_edge()).collect()
    }

    #[test]
    fn each_is_given_up_in_its_order_and_taken_back_with_a_distance() {
        use Shed::{NewSessions, SlowConsumers, Typing};
        let mut budget = Budget::new(1000, usize::MAX);
        let rows: [(usize, &[(Shed, bool)]); 11] = [
            (699, &[]),
            (700, &[(Typing, true)]),
            (849, &[]),
            (850, &[(SlowConsumers, true)]),
            (840, &[]),
            (950, &[(NewSessions, true)]),
            (850, &[]),
            (849, &[(NewSessions, false)]),
            (749, &[(SlowConsumers, false)]),
            (599, &[(Typing, false)]),
            (1000, &[(Typing, true), (SlowConsumers, true), (NewSessions, true)]),
        ];
        for (held, expected) in rows {
            assert_eq!(edges(&mut budget, held), expected, "{held}");
        }
        assert_eq!(budget.surplus(), 250);
    }

    #[test]
    fn tables_take_of_the_room_but_not_all_of_it_and_nobody_new_makes_them_larger() {
        // Bytes of tables, room of sessions, and whether new ones are refused.
        let rows = [
            (0, 1000, false),
            (400, 600, false),
            (712, 288, false),
            (713, 287, true),
            (750, 250, true),
            (5000, 250, true),
        ];
        for (base, room, refuses) in rows {
            let mut budget = Budget::new(1000, usize::MAX);
            budget.set_base(base);
            let expected = if refuses { vec![(Shed::NewSessions, true)] } else { Vec::new() };
            assert_eq!((budget.room(), edges(&mut budget, 0)), (room, expected), "{base}");
        }
    }

    #[test]
    fn what_is_left_ends_at_the_room() {
        let mut budget = Budget::new(1000, 300);
        for (held, left, is_over) in [(0, 300, false), (300, 0, false), (301, 0, true)] {
            budget.recount(budget.held(), held);
            assert_eq!((budget.left(), budget.is_over()), (left, is_over), "{held}");
        }
    }

    #[test]
    #[should_panic(expected = "what is counted is held")]
    fn nothing_is_given_back_twice() {
        let mut budget = Budget::new(1000, 300);
        budget.recount(0, 10);
        budget.recount(10, 0);
        budget.recount(10, 0);
    }
}
