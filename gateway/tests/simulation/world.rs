//! A host, its devices and what is true of them; acts are done to it and steps taken, and after
//! every step everything is looked at.

use std::collections::{BTreeMap, BTreeSet};

use store::{ConversationKey, CursorKey, Key, MessageKey, SyncMode, Table};
use wire::ChannelId;

use crate::act::{Act, What};
use crate::device::{Device, Session};
use crate::model::Model;
use crate::plan::Plan;
use crate::sim::host::{Host, Step};
use crate::sim::pace::{Pace, Rng};
use crate::sim::platter::Written;
use crate::trace::Trace;

/// Steps between two looks at what would be left after a crash at that moment.
const WHAT_IF_EVERY: u64 = 97;

/// Steps between two looks at every bound.
const BOUNDS_EVERY: u64 = 5;

/// See the module's documentation.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) model: Model,
    pub(crate) devices: Vec<Device>,
    /// By client.
    pub(crate) sessions: BTreeMap<usize, Session>,
    /// Groups whose number is known, in the order in which it was.
    pub(crate) groups: Vec<ChannelId>,
    /// Of the act that is being done.
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    /// Faults that a client may be told of, since all was calm.
    pub(crate) faults: Faults,
    /// Channels of writes that did not come back, since the last crash.
    in_doubt: BTreeSet<ChannelId>,
    steps: u64,
    /// Devices do nothing of their own but what is owed.
    pub(crate) is_calm: bool,
}

/// What has gone wrong by intention.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) full: bool,
    pub(crate) reads_failed: bool,
    pub(crate) drained: bool,
    pub(crate) wall_clock: bool,
    /// Time passed while something was held up, so that deadlines went by.
    pub(crate) late: bool,
}

impl World {
    pub(crate) fn new(plan: &Plan, trace: Trace) -> Self {
        let setup = plan.setup.clone();
        let window = setup.limits.sequencer.nonce_window;
        Self {
            host: Host::new(setup, Pace::seeded(plan.seed)),
            model: Model::new(plan.users, window),
            devices: plan.devices.iter().map(|(user, id)| Device::new(*user, *id)).collect(),
            sessions: BTreeMap::new(),
            groups: Vec::new(),
            rng: Rng::new(plan.seed),
            trace,
            faults: Faults::default(),
            in_doubt: BTreeSet::new(),
            steps: 0,
            is_calm: false,
        }
    }

    /// Does an act and takes the steps that follow it.
    pub(crate) fn act(&mut self, number: usize, act: &Act) {
        self.trace.note(|| format!("act {number}: {:?}", act.what));
        self.trace.count(|stats| stats.acts += 1);
        self.rng = Rng::new(act.seed);
        self.host.pace = Pace::seeded(!act.seed);
        match act.what {
            What::Calm => self.calm(),
            what => {
                if !self.act_of_a_device(what) {
                    self.act_of_the_host(what);
                }
            }
        }
        self.take_steps(act.steps.into());
    }

    /// Takes up to so many steps; how many there were.
    pub(crate) fn take_steps(&mut self, count: usize) -> usize {
        for taken in 0..count {
            let Some(step) = self.host.step() else { return taken };
            self.after(step);
        }
        count
    }

    fn after(&mut self, step: Step) {
        if let Step::Commit = step {
            self.trace.note(|| "  the store commits".to_owned());
        }
        self.steps += 1;
        self.trace.count(|stats| stats.steps += 1);
        self.look();
        if self.host.fatal.is_some() {
            self.dies_of_its_disk();
        }
    }

    /// Looks at everything that may have changed.
    pub(crate) fn look(&mut self) {
        for written in self.host.disk.take_written() {
            self.follow(&written);
        }
        for client in self.host.take_heard() {
            self.hear(client);
        }
        if let Some(core) = self.host.slept_through() {
            panic!("awake: core {core} sleeps, a delivery waits, nobody is about to wake it");
        }
        if self.steps.is_multiple_of(BOUNDS_EVERY) {
            self.check_bounds();
        }
        if self.steps.is_multiple_of(WHAT_IF_EVERY) {
            self.check_what_is_left();
        }
    }

    /// What would be left after a crash now, at its worst, has all that anybody was told.
    pub(crate) fn check_what_is_left(&mut self) {
        if self.host.disk.sync_mode() != SyncMode::Always && !self.in_doubt.is_empty() {
            return; // What a write that failed has left may be kept or not.
        }
        self.trace.count(|stats| stats.recoveries += 1);
        let left = self.host.disk.what_if();
        self.model.check_logs(&left, &BTreeSet::new());
        self.model.check_inboxes(&left);
        if self.rng.below(4) == 0 {
            let report = store::check(&left).expect("every record can be read");
            assert!(report.is_sound(), "sound: {report:?}");
        }
    }

    fn follow(&mut self, written: &Written) {
        for change in &written.changes {
            if change.value.is_none() {
                continue;
            }
            match change.table {
                Table::Messages => {
                    let MessageKey { channel, seq } =
                        MessageKey::parse(&change.key).expect("the store writes valid keys");
                    if !written.is_done {
                        self.in_doubt.insert(channel);
                        continue;
                    }
                    let entry = self.host.disk.entry(channel, seq).expect("just written");
                    self.trace.note(|| format!("  on disk: {channel}{seq} of {}", entry.sender));
                    self.trace.count(|stats| stats.entries += 1);
                    self.model.written(entry);
                }
                Table::Inbox if written.is_done => {
                    self.follow_cursor(&change.key);
                    self.follow_conversation(&change.key);
                }
                Table::Inbox | Table::Meta | Table::Journal => {}
            }
        }
    }

    fn follow_cursor(&mut self, key: &[u8]) {
        let Ok(CursorKey { user, device }) = CursorKey::parse(key) else { return };
        let (_, cursors) = self.host.disk.inbox_state(user);
        let stored = cursors.iter().find(|(of, _)| *of == device);
        let (_, cursor) = stored.expect("just written");
        let known = self.devices.iter().find(|known| (known.user, known.id) == (user, device));
        let acknowledged = known.expect("a cursor is a device's").acknowledged;
        self.model.stores_cursor((user, device), *cursor, acknowledged);
    }

    fn follow_conversation(&mut self, key: &[u8]) {
        let Ok(ConversationKey { user, channel }) = ConversationKey::parse(key) else { return };
        let conversation = self.host.disk.conversation(user, channel);
        self.model.stores_conversation((user, channel), conversation);
    }

    /// After a restart: what was durable is there, and nothing else has changed.
    pub(crate) fn restarted(&mut self) {
        let in_doubt = std::mem::take(&mut self.in_doubt);
        self.model.forget_conversations();
        self.trace.count(|stats| stats.recoveries += 1);
        let left = self.host.disk.what_if();
        self.model.check_logs(&left, &in_doubt);
        self.model.check_inboxes(&left);
        self.host.disk.check();
    }
}
