//! Lives from seeds: services end sessions and erase people, the disk is slow, and the process dies
//! anywhere in between. What was answered holds from then on, whatever comes; what was not answered
//! may hold or not, until it is asked again.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which the lint does not see as such")]

use wire::client::{ChannelCreate, ChannelList, Direction, History, SessionsEnd, UserErase};
use wire::{ChannelId, ChannelKind, DeviceId, Epoch, InboxSeq, Nonce, Seq, Timestamp, UserId};

use crate::sim::client::From;
use crate::sim::heard::{Heard, What};
use crate::sim::host::Host;
use crate::sim::pace::{Pace, Rng};
use crate::sim::setup::{BEGIN, Setup, service_token, token_of};

const FRESH: From = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };
const LIVES: u64 = 60;
const DEEDS: usize = 40;
const USERS: usize = 3;

/// What is known of one person.
#[derive(Clone, Copy, Debug, Default)]
struct Person {
    /// Up to this time of issue she is refused: answered.
    ended: u64,
    /// Asked, but perhaps not done.
    asked: u64,
    erased: bool,
    erasure_asked: bool,
    /// Her connection, and when its token was issued.
    session: Option<(usize, u64)>,
}

struct Life {
    host: Host,
    rng: Rng,
    /// Times of issue only grow.
    clock: u64,
    service: usize,
    people: [Person; USERS],
    /// Of all of them and one more, who stays.
    group: ChannelId,
}

fn user(index: usize) -> UserId {
    UserId::new(index as u64 + 1).unwrap()
}

/// Who is never erased.
fn witness() -> UserId {
    UserId::new(USERS as u64 + 1).unwrap()
}

impl Life {
    fn begin(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let cores = 1 + u16::try_from(rng.below(3)).unwrap();
        let setup = Setup::cores(cores).with(|limits| {
            limits.bounds.unfolded_max = [2, 1000][rng.below(2)];
        });
        let mut host = Host::new(setup, Pace::seeded(seed));
        let service = Self::connect_service(&mut host);
        host.clients[service].as_user = Some(witness());
        let members: Vec<UserId> = (0..USERS).map(user).collect();
        let (nonce, kind) = (Nonce(1), ChannelKind::Group);
        let create = ChannelCreate { nonce, kind, title: "", members: members.as_slice().into() };
        host.say(service, create);
        host.settle();
        let mut heard = host.clients[service].heard.drain(..);
        let group = heard.find_map(|heard| match heard {
            Heard::Ready { channel, .. } => Some(channel),
            _ => None,
        });
        let group = group.expect("the group is made");
        drop(heard);
        Self { host, rng, clock: 100, service, people: Default::default(), group }
    }

    fn connect_service(host: &mut Host) -> usize {
        let service = host.connect_with(0, witness(), DeviceId(0), &FRESH, &service_token());
        host.settle();
        assert_eq!(host.clients[service].heard.pop_front(), Some(Heard::Service));
        service
    }

    fn live(&mut self) {
        for _ in 0..DEEDS {
            self.clock += 1;
            let index = self.rng.below(USERS);
            match self.rng.below(12) {
                0..4 => self.log_in(index),
                4..7 => self.end(index),
                7 => self.erase(index),
                8 => self.host.holds_commits = true,
                9 => self.release(),
                10 => self.host.tick(1),
                _ => self.crash(),
            }
            self.hear();
        }
        self.release();
        (0..USERS).for_each(|index| self.judge(index));
        self.host.disk.check();
    }

    /// With a token that is new, or one from before.
    fn log_in(&mut self, index: usize) {
        self.release();
        let issued = self.clock - [0, 3, 20][self.rng.below(3)];
        let token = token_of(user(index), DeviceId(1), Timestamp(BEGIN.0 + issued));
        let core = self.rng.below(self.host.cores());
        let client = self.host.connect_with(core, user(index), DeviceId(1), &FRESH, &token);
        self.host.settle();
        let heard = &self.host.clients[client].heard;
        let is_in = heard.iter().any(|heard| matches!(heard, Heard::Welcome { .. }));
        let is_refused =
            heard.iter().any(|heard| matches!(heard, Heard::Closed { code: 4411, .. }));
        assert!(is_in != is_refused, "{heard:?}");
        let person = &mut self.people[index];
        if person.erased || issued <= person.ended {
            assert!(is_refused, "what was answered holds: {issued}, {person:?}");
        }
        if !person.erasure_asked && issued > person.asked {
            assert!(is_in, "nobody has asked for that: {issued}, {person:?}");
        }
        if is_in {
            person.session = Some((client, issued));
        }
    }

    fn end(&mut self, index: usize) {
        let before = self.clock - [0, 5, 30][self.rng.below(3)];
        self.people[index].asked = self.people[index].asked.max(before);
        let before = Some(Timestamp(BEGIN.0 + before));
        self.host.say(self.service, SessionsEnd { user: user(index), device: None, before });
        self.host.settle();
        if self.is_answered() {
            let person = &mut self.people[index];
            let before = before.map_or(0, |before| before.0 - BEGIN.0);
            person.ended = person.ended.max(before);
            self.assert_closed(index);
        }
    }

    fn erase(&mut self, index: usize) {
        self.people[index].erasure_asked = true;
        self.host.say(self.service, UserErase { user: user(index) });
        let ticks = self.rng.below(6);
        (0..ticks).for_each(|_| {
            self.host.settle();
            self.host.tick(1);
        });
        if self.is_answered() {
            self.people[index].erased = true;
            self.assert_closed(index);
        }
    }

    /// Whether the service has been answered; if not, it gives its session up, as nobody waits for
    /// what another session asked.
    fn is_answered(&mut self) -> bool {
        self.host.settle();
        let heard = self.host.clients[self.service].heard.pop_front();
        match heard {
            Some(Heard::Done(_)) => true,
            None => {
                self.host.cut(self.service);
                self.service = Self::connect_service(&mut self.host);
                false
            }
            other => panic!("{other:?}"),
        }
    }

    /// A session that an answered request should have ended has ended.
    fn assert_closed(&mut self, index: usize) {
        let person = self.people[index];
        let Some((client, issued)) = person.session else { return };
        if person.erased || issued <= person.ended {
            let heard = &self.host.clients[client].heard;
            let is_over =
                heard.iter().any(|heard| matches!(heard, Heard::Closed { .. } | Heard::Lost));
            assert!(is_over, "ended: {heard:?}");
            self.people[index].session = None;
        }
    }

    fn release(&mut self) {
        self.host.holds_commits = false;
        let submitted = self.host.disk.submitted();
        self.host.commit(submitted);
        self.host.settle();
    }

    fn crash(&mut self) {
        let cores = 1 + u16::try_from(self.rng.below(3)).unwrap();
        self.host.crash(self.rng.next(), cores);
        self.host.holds_commits = false;
        self.people.iter_mut().for_each(|person| person.session = None);
        self.service = Self::connect_service(&mut self.host);
    }

    /// Nothing but ends of sessions is looked at when it comes.
    fn hear(&mut self) {
        self.host.settle();
        for heard in self.host.clients[self.service].heard.drain(..) {
            assert!(matches!(heard, Heard::Done(_)), "{heard:?}");
        }
    }

    /// At the end: what was asked last is asked again, and is so.
    fn judge(&mut self, index: usize) {
        let person = self.people[index];
        if !person.erasure_asked {
            return;
        }
        self.host.say(self.service, UserErase { user: user(index) });
        for _ in 0..4 {
            self.host.settle();
            self.host.tick(1);
        }
        assert!(self.is_answered(), "an erasure ends");
        self.host.clients[self.service].as_user = Some(user(index));
        let list = ChannelList { before: InboxSeq::ZERO, limit: 0, with_last: false };
        self.host.say(self.service, list);
        self.host.clients[self.service].as_user = Some(witness());
        let (channel, direction, from) = (self.group, Direction::Forward, Seq::ZERO);
        self.host.say(self.service, History { channel, direction, from, limit: 0 });
        self.host.clients[self.service].as_user = None;
        self.host.settle();
        let mut leaves = 0;
        for heard in self.host.clients[self.service].heard.drain(..) {
            match heard {
                Heard::List { conversations, .. } => assert_eq!(conversations, [], "none is left"),
                Heard::History { entries, .. } => {
                    let her = [user(index)];
                    let is_hers = |what: &&What| match what {
                        What::Change { members, .. } => *members == her,
                        _ => false,
                    };
                    leaves += entries.iter().filter(is_hers).count();
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(leaves, 1, "she has left the group, once");
    }
}

#[test]
fn what_services_were_answered_holds_whatever_comes() {
    for seed in 0..LIVES {
        println!("life {seed}");
        Life::begin(seed).live();
    }
}
