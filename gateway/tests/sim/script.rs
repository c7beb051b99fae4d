//! Scenarios as text. A line is an act or an expectation:
//!
//! ```text
//! u1 > hello                 user 1 connects on device 1; `u1.2` is her device 2, and what
//!                            follows a `/` tells apart two connections of one device
//! u1 > post u2 n7 "hi"       she sends; then everything that can happen does
//! u1 > post u2 n8 "ho" &     she sends, and nothing happens yet
//! s1 > hello                 a service connects
//! s1 > as u2 post u1 n1 "a"  it sends for user 2
//! hold                       batches wait for `commit`
//! u2 < @1 u1:u2#1 u1 "hi"    the next thing that user 2 has heard
//! ```
//!
//! A transcript is exact: at the end nobody may have heard anything that no line names. Only a
//! device's copies of what it did itself are apart: in their own order, but anywhere.

use std::collections::{BTreeMap, HashMap};

use store::Pressure;
use wire::client::{
    ChannelAddMembers, ChannelCreate, ChannelLeave, ChannelList, ChannelRemoveMembers, CursorAck,
    Direction, History, MarkRead, Ping, Post, SessionsEnd, Sync, Typing, UserErase,
};
use wire::{
    ChannelId, ChannelKind, DeviceId, Epoch, InboxSeq, Nonce, Role, Seq, Timestamp, UserId,
};

use super::client::{Client, From};
use super::heard::{Heard, Names, line};
use super::host::Host;
use super::pace::Pace;
use super::setup::{BEGIN, Setup, service_token, token_of};

/// Seeds under which every scenario is run besides the even pace.
const SEEDS: u64 = 12;

/// Runs a scenario at the even pace and under some seeds: every one must come to the same.
pub(crate) fn play(setup: &Setup, text: &str) {
    play_at(setup, text, Pace::Even, "even pace");
    for seed in 0..SEEDS {
        play_at(setup, text, Pace::seeded(seed), &format!("seed {seed}"));
    }
}

/// Runs a scenario at one pace; gives the host as it is at the end.
pub(crate) fn play_at(setup: &Setup, text: &str, pace: Pace, name: &str) -> Host {
    let mut script = Script::new(Host::new(setup.clone(), pace));
    script.run_all(text, name);
    script.place = format!("at the end ({name})");
    script.end();
    script.host
}

/// A scenario on its way.
pub(crate) struct Script {
    pub(crate) host: Host,
    /// Where it is, for failures.
    place: String,
    clients: BTreeMap<String, usize>,
    names: Names,
    groups: HashMap<String, ChannelId>,
    /// Groups whose number is not known: who makes them, under which nonce.
    making: Vec<(usize, Nonce, String)>,
    connections: usize,
}

/// The words of a line, from left to right. Quoted ones keep their first quote.
struct Words(std::vec::IntoIter<String>);

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = match rest.strip_prefix('"') {
                Some(quoted) => 1 + quoted.find('"').expect("a closing quote"),
                None => rest.find(' ').unwrap_or(rest.len()),
            };
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start_matches('"').trim_start();
        }
        Self(words.into_iter())
    }

    fn maybe(&mut self) -> Option<String> {
        self.0.next()
    }

    fn next(&mut self) -> String {
        self.maybe().expect("one more word")
    }

    /// The number behind a mark: `n7`, `#3`, `@9`, `u2`.
    fn number(&mut self, mark: &str) -> u64 {
        number(&self.next(), mark)
    }

    fn users(&mut self) -> Vec<UserId> {
        self.0.by_ref().map(|word| user(&word)).collect()
    }

    fn limit(&mut self) -> u16 {
        self.maybe().map_or(0, |word| word.parse().expect("a limit"))
    }
}

fn number(word: &str, mark: &str) -> u64 {
    let digits = word.strip_prefix(mark).unwrap_or_else(|| panic!("`{word}`: expected {mark}"));
    digits.parse().unwrap_or_else(|_| panic!("`{word}`: expected {mark} and a number"))
}

fn user(word: &str) -> UserId {
    UserId::new(number(word, "u")).expect("users are numbered from 1")
}

/// Milliseconds after the begin of time.
fn time(word: &str) -> Timestamp {
    Timestamp(BEGIN.0 + word.parse::<u64>().expect("milliseconds"))
}

/// `"text"`, or `x*5000`.
fn body(word: &str) -> Vec<u8> {
    match word.strip_prefix('"') {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let (byte, count) = word.split_once('*').expect("`\"text\"` or `x*5000`");
            byte.as_bytes().repeat(count.parse().expect("a count"))
        }
    }
}

impl Script {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            place: String::new(),
            clients: BTreeMap::new(),
            names: Names::new(),
            groups: HashMap::new(),
            making: Vec::new(),
            connections: 0,
        }
    }

    /// Runs all lines of a text, which need not be the last.
    pub(crate) fn run_all(&mut self, text: &str, name: &str) {
        for (number, text) in (1..).zip(text.lines()) {
            let text = text.split_once("//").map_or(text, |(before, _)| before).trim();
            if !text.is_empty() {
                self.place = format!("line {number} ({name}): {text}");
                self.run(text);
            }
        }
    }

    fn run(&mut self, text: &str) {
        if let Some((who, expected)) = text.split_once(" < ") {
            return self.expect(who.trim(), expected.trim());
        }
        let (act, waits) = match text.strip_suffix('&') {
            Some(act) => (act, true),
            None => (text, false),
        };
        match act.split_once(" > ") {
            Some((who, what)) => self.say(who.trim(), what),
            None => self.act(act),
        }
        if !waits {
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.host.settle();
        for (client, nonce, name) in std::mem::take(&mut self.making) {
            let made = self.host.clients[client].heard.iter().find_map(|heard| match heard {
                Heard::Ready { channel, nonce: known, .. } if *known == nonce => Some(*channel),
                _ => None,
            });
            let Some(channel) = made else {
                self.making.push((client, nonce, name));
                continue;
            };
            let before = self.groups.insert(name.clone(), channel);
            assert!(before.is_none_or(|before| before == channel), "{}: another", self.place);
            self.names.insert(channel, name);
        }
    }

    fn expect(&mut self, who: &str, expected: &str) {
        let client = self.client(who);
        let client = &mut self.host.clients[client];
        let own = client.own.front().map(|own| line(own, &self.names));
        if own.is_some_and(|own| own == expected) {
            client.own.pop_front();
            return;
        }
        let heard = client.heard.pop_front();
        let heard = heard.map_or_else(|| "nothing".to_owned(), |heard| line(&heard, &self.names));
        assert_eq!(heard, expected, "{}\n then: {}", self.place, self.unheard());
    }

    /// What everyone has heard and no line has named.
    fn unheard(&self) -> String {
        let clients = self.clients.iter().map(|(who, client)| {
            let Client { heard, own, .. } = &self.host.clients[*client];
            let lines: Vec<String> =
                heard.iter().chain(own).map(|heard| line(heard, &self.names)).collect();
            if lines.is_empty() { String::new() } else { format!("\n  {who}: {lines:?}") }
        });
        clients.collect()
    }

    fn end(&mut self) {
        self.settle();
        let unheard = self.unheard();
        assert!(unheard.is_empty(), "{}: nobody has expected {unheard}", self.place);
        self.host.disk.check();
    }

    fn client(&self, who: &str) -> usize {
        *self.clients.get(who).unwrap_or_else(|| panic!("{}: who is {who}?", self.place))
    }

    /// Acts that are nobody's.
    fn act(&mut self, act: &str) {
        let mut words = Words::of(act);
        match words.next().as_str() {
            "hold" => self.host.holds_commits = true,
            "release" => self.host.holds_commits = false,
            "commit" => {
                let count = words.maybe().map(|count| count.parse().expect("a count"));
                let count = count.unwrap_or_else(|| self.host.disk.submitted());
                self.host.commit(count);
            }
            "tick" => self.host.tick(words.next().parse().expect("a count")),
            "crash" => {
                let cores = words.maybe().map(|cores| cores.parse().expect("a count"));
                self.host.crash(7, cores.unwrap_or(self.host.setup.cores));
            }
            "drain" => self.host.drain(),
            "disk" => self.host.disk.set_full(words.next() == "full"),
            "pressure" => {
                let stop = words.next() == "stop";
                self.host.disk.pressure = if stop { Pressure::Stop } else { Pressure::None };
            }
            "reads" => self.host.disk.fails_reads = words.next() == "fail",
            "table" => self.host.kernel.set_places_max(words.next().parse().expect("a count")),
            "exited" => {
                for core in 0..self.host.cores() {
                    assert!(self.host.has_exited(core), "{}: core {core} runs", self.place);
                }
            }
            "running" => {
                let running = (0..self.host.cores()).any(|core| !self.host.has_exited(core));
                assert!(running, "{}: every core has exited", self.place);
            }
            other => panic!("{}: no such act: {other}", self.place),
        }
    }

    fn say(&mut self, who: &str, what: &str) {
        let mut words = Words::of(what);
        let verb = words.next();
        if verb == "hello" {
            return self.hello(who, words);
        }
        let client = self.client(who);
        if verb == "as" {
            self.host.clients[client].as_user = Some(user(&words.next()));
            let verb = words.next();
            self.say_frame(client, &verb, words);
            self.host.clients[client].as_user = None;
            return;
        }
        match verb.as_str() {
            "cut" => self.host.cut(client),
            "pause" => self.host.clients[client].reads = false,
            "go" => self.host.clients[client].reads = true,
            "bye" => {
                let bytes = self.host.clients[client].goodbye();
                self.host.send(client, &bytes);
            }
            "wsping" => {
                let bytes = Client::ws_ping(&body(&words.next()));
                self.host.send(client, &bytes);
            }
            verb => self.say_frame(client, verb, words),
        }
    }

    /// `hello [at CORE] [epoch N] [ticket] [issued MS] [@CURSOR]`: the cursor is of this epoch
    /// unless it says another; without a cursor the device is new. The token is issued so long
    /// after the begin of time.
    fn hello(&mut self, who: &str, mut words: Words) {
        let (name, device) = match who.split_once('/').unwrap_or((who, "")).0 {
            service if service.starts_with('s') => ("u1", "0"),
            device => device.split_once('.').unwrap_or((device, "1")),
        };
        let device = DeviceId(device.parse().expect("a device's number"));
        let mut issued_at = BEGIN;
        let mut from = From { epoch: Epoch::NONE, cursor: InboxSeq::ZERO, ticket: None };
        let mut epoch = Host::epoch();
        let mut core = self.connections % self.host.cores();
        self.connections += 1;
        while let Some(word) = words.maybe() {
            match word.as_str() {
                "at" => core = words.next().parse().expect("a core"),
                "issued" => issued_at = time(&words.next()),
                "epoch" => epoch = Epoch(words.next().parse().expect("an epoch")),
                "ticket" => {
                    let old = self.client(who);
                    from.ticket = Some(self.host.clients[old].ticket.clone());
                }
                cursor => {
                    from.cursor = InboxSeq::new(number(cursor, "@"));
                    from.epoch = epoch;
                }
            }
        }
        let token = match device {
            DeviceId(0) => service_token(),
            device => token_of(user(name), device, issued_at),
        };
        let client = self.host.connect_with(core, user(name), device, &from, &token);
        if let Some(old) = self.clients.insert(who.to_owned(), client) {
            let Client { heard, own, .. } = &self.host.clients[old];
            let left = heard.len() + own.len();
            assert_eq!(left, 0, "{}: its last connection has heard more", self.place);
        }
    }

    fn channel(&self, client: usize, word: &str) -> ChannelId {
        match self.groups.get(word) {
            Some(channel) => *channel,
            None if word.starts_with('c') => {
                ChannelId::numbered(number(word, "c")).expect("channels are numbered from 1")
            }
            None => match word.split_once(':') {
                Some((one, other)) => ChannelId::direct(user(one), user(other)),
                None => {
                    let client = &self.host.clients[client];
                    ChannelId::direct(client.as_user.unwrap_or(client.user), user(word))
                }
            },
        }
    }

    fn say_frame(&mut self, client: usize, verb: &str, mut words: Words) {
        if verb == "create" {
            return self.create(client, words);
        }
        match verb {
            "ack" => {
                let inbox_seq = InboxSeq::new(words.number("@"));
                return self.host.say(client, CursorAck { inbox_seq });
            }
            "sync" => {
                let after = InboxSeq::new(words.number("@"));
                return self.host.say(client, Sync { after, limit: words.limit() });
            }
            "list" => {
                let word = words.maybe();
                let with_last = word.as_deref() == Some("last");
                let before = word.filter(|_| !with_last).map_or(0, |word| number(&word, "@"));
                let before = InboxSeq::new(before);
                let list = ChannelList { before, limit: words.limit(), with_last };
                return self.host.say(client, list);
            }
            "end" => {
                let word = words.next();
                let (name, device) = word.split_once('.').unwrap_or((&word, "0"));
                let device = Some(device.parse().expect("a device")).filter(|device| *device != 0);
                let before = words.maybe().map(|word| time(&word));
                let end = SessionsEnd { user: user(name), device: device.map(DeviceId), before };
                return self.host.say(client, end);
            }
            "erase" => {
                return self.host.say(client, UserErase { user: user(&words.next()) });
            }
            "ping" => {
                let opaque = words.next().parse().expect("a number");
                return self.host.say(client, Ping { opaque });
            }
            _ => {}
        }
        let channel = self.channel(client, &words.next());
        match verb {
            "post" => {
                let nonce = Nonce(words.number("n"));
                let body = body(&words.next());
                let retry = words.maybe().is_some_and(|word| word == "retry");
                self.host.say(client, Post { channel, nonce, kind: 0, body: &body, retry });
            }
            "add" => {
                let nonce = Nonce(words.number("n"));
                let role = match words.next().as_str() {
                    "member" => Role::Member,
                    "admin" => Role::Admin,
                    other => panic!("{}: no role {other}", self.place),
                };
                let members = words.users();
                let members = members.as_slice().into();
                self.host.say(client, ChannelAddMembers { channel, nonce, members, role });
            }
            "remove" => {
                let nonce = Nonce(words.number("n"));
                let members = words.users();
                let members = members.as_slice().into();
                self.host.say(client, ChannelRemoveMembers { channel, nonce, members });
            }
            "leave" => {
                let nonce = Nonce(words.number("n"));
                self.host.say(client, ChannelLeave { channel, nonce });
            }
            "read" => {
                let seq = Seq::new(words.number("#"));
                self.host.say(client, MarkRead { channel, seq });
            }
            "typing" => self.host.say(client, Typing { channel }),
            "history" => {
                let direction = match words.next().as_str() {
                    "back" => Direction::Backward,
                    "on" => Direction::Forward,
                    other => panic!("{}: no direction {other}", self.place),
                };
                let from = Seq::new(words.number("#"));
                let limit = words.limit();
                self.host.say(client, History { channel, direction, from, limit });
            }
            other => panic!("{}: nobody says {other}", self.place),
        }
    }

    fn create(&mut self, client: usize, mut words: Words) {
        let name = words.next();
        let nonce = Nonce(words.number("n"));
        let title = words.next();
        let title = title.strip_prefix('"').expect("a title in quotes");
        let members = words.users();
        let members = members.as_slice().into();
        let kind = ChannelKind::Group;
        self.making.push((client, nonce, name));
        self.host.say(client, ChannelCreate { nonce, kind, title, members });
    }
}
