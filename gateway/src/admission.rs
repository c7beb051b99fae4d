//! Who comes in next: the budget of a core for connections that have no session yet, and the lines
//! in which they wait for it.
//!
//! Sessions that are established come first. What a new connection costs (handshake, Hello, the
//! passing on, the welcome) is paid from a credit: so much a turn, so that nobody waits long behind
//! it, and so much a second while there is talk, so that a storm of returning clients leaves the
//! processors to those who are here. Who finds no credit stands in a line:
//!
//! ```text
//!             no credit                        a token, and no credit
//!  accepted ------------> Doorway --its turn--> handshake, Hello ----------> Desk --its turn--> in
//!                            |                            | a ticket                      ^
//!                            +-- too long: ended          +-------------------------------+
//! ```
//!
//! Both lines are served from their newest end: when not all can be served in time, those who have
//! just come still wait for an answer, and those who have waited longest have given up. A ticket is
//! a hundredth of the work of a token, so resumes do not stand at the desk at all.
//!
//! Nor is the line longer than can be served while its last one waits: a connection that is
//! accepted and then dropped has cost its client and this host a handshake for nothing. Beyond that
//! the core is *crowded* and accepts nobody until most of them are through; who comes meanwhile
//! waits in the kernel's queue of the listening socket, and beyond that repeats its SYN. (A ring
//! that accepts again takes all that are in that queue, so the lines may hold them on top.)
//!
//! No clock and no connection in here: places are named, ticks passed in.

use router::sessions::ConnId;

use crate::clock::TICK;

/// Connections begun in one turn of a core, at most: some two milliseconds of work, which is the
/// longest that a message can wait behind them.
pub const ADMISSIONS_PER_TURN: u32 = 16;

/// Connections that stand in the lines of one core, at most (but for those that come together in
/// one turn): a fraction of a second of work where there is no talk.
pub const CROWD_MAX: usize = 1024;

/// A crowded core accepts again when this part of what made it crowded is left: the line is served
/// from its newest end, so who is left has waited longest, and should be few.
const CROWD_LEFT: usize = 8;

/// What one admission costs, so that a core's part of any rate in one tick is a whole number.
const ADMISSION: u64 = 1000;

/// What a turn has.
const TURN: u64 = ADMISSIONS_PER_TURN as u64 * ADMISSION;

/// What the signature of a token costs beside it: measured, about as much as all the rest.
const LOGIN: u64 = ADMISSION;

/// Of each turn this part is kept for the desk: or a long doorway would leave those who have
/// shaken hands already to time out behind it.
const DESK_SHARE: u64 = 4;

/// See the module's documentation.
#[derive(Debug)]
pub struct Admission {
    /// A tick's credit while there is talk.
    tick_credit: u64,
    credit: u64,
    turn: u64,
    /// There is no talk: only the turn bounds.
    is_calm: bool,
    doorway: Vec<ConnId>,
    desk: Vec<ConnId>,
    /// How many may stand in line: without talk, and with.
    crowd_max: (usize, usize),
    is_crowded: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// A connection that was accepted: it may speak.
    Accepted(ConnId),
    /// A connection whose token waits to be looked at.
    Login(ConnId),
}

impl Admission {
    /// For one of `cores` cores, which together admit `per_second` while there is talk. Who is not
    /// served within `waiting_ticks` is dropped, so no more may wait than a quarter of that time is
    /// enough for (a login costs twice, and not all who come are seen at once), and `crowd_max` at
    /// most.
    #[must_use]
    pub fn new(per_second: u32, cores: u16, waiting_ticks: u32, crowd_max: usize) -> Self {
        let tick = u64::try_from(TICK.as_millis()).expect("a tick is short");
        let of_one = u64::from(per_second) * tick / u64::from(cores.max(1));
        let tick_credit = of_one.max(1);
        let in_time = tick_credit * u64::from(waiting_ticks) / 4 / ADMISSION;
        let with_talk = usize::try_from(in_time).unwrap_or(usize::MAX).clamp(1, crowd_max);
        Self {
            tick_credit,
            credit: ADMISSION,
            turn: TURN,
            is_calm: true,
            doorway: Vec::new(),
            desk: Vec::new(),
            crowd_max: (crowd_max, with_talk),
            is_crowded: false,
        }
    }

    /// Whether so many stand in line that nobody is to be accepted: from when there are more than
    /// may be until most of them are through.
    pub fn is_crowded(&mut self) -> bool {
        let (calm, with_talk) = self.crowd_max;
        let most = if self.is_calm { calm } else { with_talk };
        let bound = if self.is_crowded { most / CROWD_LEFT } else { most };
        self.is_crowded = self.doorway.len() + self.desk.len() > bound;
        self.is_crowded
    }

    /// A tick has begun; `has_talk`: messages went through this core a short time ago.
    pub fn handle_tick(&mut self, has_talk: bool) {
        self.is_calm = !has_talk;
        // Nothing is saved up beyond a tick, or beyond one admission where a tick is less.
        let most = self.tick_credit.max(ADMISSION);
        self.credit = (self.credit + self.tick_credit).min(most);
    }

    /// A turn has begun.
    pub fn handle_turn(&mut self) {
        self.turn = TURN;
    }

    /// A connection was accepted. `false`: it stands in line, to be named by
    /// [`Self::next_admitted`].
    #[must_use]
    pub fn admit(&mut self, conn: ConnId) -> bool {
        let goes_in = self.doorway.is_empty() && self.spend(ADMISSION);
        if !goes_in {
            self.doorway.push(conn);
        }
        goes_in
    }

    /// A token is to be looked at. `false`: it stands in line.
    #[must_use]
    pub fn log_in(&mut self, conn: ConnId) -> bool {
        let goes_in = self.desk.is_empty() && self.spend(LOGIN);
        if !goes_in {
            self.desk.push(conn);
        }
        goes_in
    }

    /// Who is next, as long as there is credit. The caller drops names of connections that have
    /// ended, which cost nothing: it gives back what was spent, with [`Self::give_back`].
    pub fn next_admitted(&mut self) -> Option<Next> {
        let is_desks = self.doorway.is_empty() || self.turn <= TURN / DESK_SHARE;
        if is_desks && !self.desk.is_empty() {
            let is_spent = self.spend(LOGIN);
            return is_spent.then(|| self.desk.pop()).flatten().map(Next::Login);
        }
        let is_spent = !self.doorway.is_empty() && self.spend(ADMISSION);
        is_spent.then(|| self.doorway.pop()).flatten().map(Next::Accepted)
    }

    /// What was named last is gone.
    pub fn give_back(&mut self) {
        self.turn += ADMISSION;
        self.credit += if self.is_calm { 0 } else { ADMISSION };
    }

    /// Whether another turn now would admit somebody.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let waits = !(self.doorway.is_empty() && self.desk.is_empty());
        waits && (self.is_calm || self.credit >= ADMISSION)
    }

    /// How many stand in the doorway, and at the desk; some of them may be gone.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.doorway.len(), self.desk.len())
    }

    /// Nobody waits any more: the core admits no one.
    pub fn close(&mut self) {
        (self.doorway, self.desk) = (Vec::new(), Vec::new());
    }

    fn spend(&mut self, cost: u64) -> bool {
        let has_credit = self.is_calm || self.credit >= cost;
        if self.turn < cost || !has_credit {
            return false;
        }
        self.turn -= cost;
        self.credit -= if self.is_calm { 0 } else { cost };
        true
    }
}

const _: () = assert!(LOGIN == ADMISSION, "`give_back` and `has_work` know one cost");

#[cfg(test)]
mod tests {
    use super::*;

    const fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    /// `per_second` of one core, at the begin of a tick and a turn.
    fn door(per_second: u32, has_talk: bool) -> Admission {
        let mut door = Admission::new(per_second, 1, 100, CROWD_MAX);
        door.handle_tick(has_talk);
        door.handle_turn();
        door
    }

    fn served(door: &mut Admission) -> Vec<Next> {
        std::iter::from_fn(|| door.next_admitted()).collect()
    }

    #[test]
    fn without_talk_a_turn_is_the_only_bound() {
        let mut door = door(1, false);
        let admitted = (0..1000).filter(|slot| door.admit(conn(*slot))).count();
        assert_eq!(admitted, ADMISSIONS_PER_TURN as usize);
        assert!(door.has_work() && served(&mut door).is_empty(), "not in this turn");
        door.handle_turn();
        assert_eq!(served(&mut door).len(), ADMISSIONS_PER_TURN as usize);
    }

    #[test]
    fn with_talk_so_many_a_second_come_in_and_nothing_is_saved_up() {
        // Admissions a second, cores, and how many come in within two seconds.
        for (per_second, cores, expected) in [(400, 1, 800), (400, 4, 200), (10, 1, 20), (3, 3, 2)]
        {
            let mut door = Admission::new(per_second, cores, 100, CROWD_MAX);
            (0..100).for_each(|_| door.handle_tick(true));
            door.turn = 0;
            (0..5000).for_each(|slot| assert!(!door.admit(conn(slot)), "the turn is spent"));
            let mut count = 0;
            for _ in 0..40 {
                door.handle_tick(true);
                for _ in 0..3 {
                    door.handle_turn();
                    count += served(&mut door).len();
                }
            }
            assert_eq!(count, expected, "{per_second} a second, {cores} cores");
            assert!(!door.has_work(), "until the next tick");
        }
    }

    #[test]
    fn the_newest_comes_in_first_and_nobody_overtakes_the_line() {
        let mut door = door(60, true);
        let admitted: Vec<bool> = (0..6).map(|slot| door.admit(conn(slot))).collect();
        assert_eq!(admitted, [true, true, true, false, false, false]);
        door.handle_tick(true);
        door.handle_turn();
        assert!(!door.admit(conn(6)), "others wait");
        let newest = [6, 5, 4].map(|slot| Next::Accepted(conn(slot)));
        assert_eq!(served(&mut door), newest);
        assert_eq!(door.waiting(), (1, 0));
    }

    #[test]
    fn tokens_wait_behind_the_doorway_but_for_their_share_of_a_turn() {
        let mut door = Admission::new(1, 1, 100, CROWD_MAX);
        door.turn = 0;
        for slot in 0..200 {
            assert!(!door.admit(conn(slot)) && !door.log_in(conn(1000 + slot)));
        }
        door.handle_tick(false);
        door.handle_turn();
        let served = served(&mut door);
        let logins = served.iter().filter(|next| matches!(next, Next::Login(_))).count();
        assert_eq!((served.len(), logins), (16, 4));
        assert_eq!(served[0], Next::Accepted(conn(199)));
        assert_eq!(served[15], Next::Login(conn(1196)));
    }

    #[test]
    fn a_crowd_is_what_cannot_be_served_in_time_and_is_one_until_most_are_through() {
        // Admissions a second, ticks that one may wait, talk; the most that may stand in line.
        let rows = [
            (400, 100, true, 500),
            (400, 20, true, 100),
            (4_000, 100, true, CROWD_MAX),
            (1, 1, true, 1),
            (1, 1, false, CROWD_MAX),
        ];
        for (per_second, waiting_ticks, has_talk, most) in rows {
            let mut door = Admission::new(per_second, 1, waiting_ticks, CROWD_MAX);
            door.handle_tick(has_talk);
            door.turn = 0;
            let fill = |door: &mut Admission| {
                (0..).take_while(|slot| !door.is_crowded() && !door.admit(conn(*slot))).count()
            };
            assert_eq!(fill(&mut door), most + 1, "{per_second} a second, {waiting_ticks} ticks");
            while door.doorway.len() > most / CROWD_LEFT {
                assert!(door.is_crowded(), "{} are left", door.doorway.len());
                door.doorway.pop();
            }
            assert!(!door.is_crowded());
        }
    }

    #[test]
    fn who_is_gone_costs_nothing() {
        let mut door = door(20, true);
        assert!(door.admit(conn(0)) && !door.admit(conn(1)) && !door.admit(conn(2)));
        door.handle_tick(true);
        assert_eq!(door.next_admitted(), Some(Next::Accepted(conn(2))));
        door.give_back();
        assert_eq!(door.next_admitted(), Some(Next::Accepted(conn(1))));
        assert_eq!(door.next_admitted(), None);
        door.close();
        assert_eq!((door.waiting(), door.has_work()), ((0, 0), false));
    }
}
