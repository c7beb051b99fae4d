//! One thread: a ring, its sessions and a scenario's script. It turns completions into the
//! sessions' input, what they write into sends, and the time into stages.
//!
//! ```text
//!  Connecting --all live--> Preparing --all made--> Waiting --start--> Running
//!     --window over--> Draining --nothing owed, or silence--> Leaving --all gone--> end
//! ```

/// The sessions as a script sees them: the fields of the engine that it may use while the script,
/// another field, is at work.
macro_rules! desk {
    ($engine:expr) => {
        crate::engine::Desk {
            slots: &mut $engine.slots,
            kit: &mut $engine.kit,
            blocks: &mut $engine.blocks,
            dirty: &mut $engine.dirty,
        }
    };
}

mod absence;
mod blocks;
mod connecting;
mod leaving;
mod slot;
mod timers;
mod traffic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use uring::{Ring, Waker};

use crate::client::{Client, Kit};
use crate::clock::{Clock, Nanos};
use crate::cpu::{self, Usage};
use crate::scenario::{Progress, Script, Traffic, Window};
use crate::target::Target;
use crate::tokens::DEVICE;
pub(crate) use absence::{Absence, AbsencePlan};
use blocks::Blocks;
pub(crate) use slot::Desk;
use slot::{Life, Slot};
use timers::Timers;

/// Sessions of one thread: a ring's table holds as many files as RLIMIT_NOFILE permits, which is
/// often 20,000 or less.
pub(crate) const SESSIONS_PER_THREAD_MAX: u32 = 18_000;

/// Descriptors of a ring that are not a session's.
pub(crate) const DESCRIPTORS_SPARE: u32 = 64;

/// What a scenario makes before the run must be there after this long without news of it.
const PREPARE_SILENCE_MAX: Duration = Duration::from_secs(20);

/// After the window a generator that is behind goes on sending for this long; what is left then is
/// dropped.
const OVERTIME_MAX: Duration = Duration::from_secs(10);

/// In the drain nothing has come for this long: nothing will.
const DRAIN_SILENCE_MAX: Duration = Duration::from_secs(3);

/// A drain takes no longer, however much still comes: the server is hopelessly behind.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Between two words about progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Completions handled before the clock is read again: a few microseconds of work each.
const COMPLETIONS_PER_READING: u32 = 32;

/// What all threads are told.
#[derive(Debug)]
pub(crate) struct Signals {
    /// When the warm-up begins, in nanoseconds; [`Nanos::NEVER`] until everybody is ready.
    pub(crate) start: AtomicU64,
    /// The run is given up.
    pub(crate) stop: AtomicBool,
    /// Somebody asks for an earlier end of the window, with a drain and a report.
    pub(crate) finish: Arc<AtomicBool>,
    /// Who has hung up on purpose.
    pub(crate) absence: Absence,
}

impl Signals {
    /// Of a run in which so many sessions hang up on purpose.
    pub(crate) fn new(leaving: u32) -> Self {
        let (stop, finish) = (AtomicBool::new(false), Arc::default());
        let absence = Absence::new(leaving);
        Self { start: AtomicU64::new(Nanos::NEVER.0), stop, finish, absence }
    }
}

/// What a thread tells.
pub(crate) enum Word {
    /// It has a ring, which this wakes and which offers this.
    Begun(Waker, String),
    /// All its sessions are live (or given up), and the script is prepared.
    Ready(Tally),
    /// Once a second.
    Progress(Box<Progress>, Tally),
    /// It has ended well.
    Done(Box<Outcome>),
    /// It could not go on.
    Failed(anyhow::Error),
}

/// Sessions in numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Asked for.
    pub(crate) wanted: u32,
    /// Live now.
    pub(crate) live: u32,
    /// Live at the end of the hold, before we left.
    pub(crate) held: u32,
    /// Never became live, after all attempts.
    pub(crate) given_up: u32,
    /// Attempts after the first of a session.
    pub(crate) retries: u64,
    /// When the last one became live.
    pub(crate) last_live: Nanos,
    /// Attempts that failed, by why.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Live sessions that ended for good before we left, by why.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Sessions that are to come back.
    pub(crate) down: u32,
    /// Live sessions that ended to come back, by why.
    pub(crate) broken: BTreeMap<String, u64>,
    /// Sessions that came back.
    pub(crate) reconnects: u64,
    /// Of those, gone on from their cursor.
    pub(crate) resumed: u64,
    /// When sessions hung up on purpose; 0 if none has.
    pub(crate) left_at: Nanos,
    /// When the last of them was back.
    pub(crate) back_at: Nanos,
}

/// What a thread did.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) traffic: Option<Traffic>,
    /// Over the measured window.
    pub(crate) usage: Usage,
    pub(crate) ring: uring::Stats,
}

/// What a thread works with.
pub(crate) struct Assignment {
    /// The number of the thread.
    pub(crate) index: usize,
    /// The number of its first session within the run.
    pub(crate) first: u32,
    /// The user of its first session; the others follow.
    pub(crate) first_user: u64,
    /// One for each session.
    pub(crate) tokens: Vec<Box<str>>,
    pub(crate) targets: Arc<[Target]>,
    pub(crate) connects_max: u32,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Sessions that end come back.
    pub(crate) reconnects: bool,
    /// Some hang up on purpose.
    pub(crate) absence: Option<AbsencePlan>,
    /// Those of this thread do.
    pub(crate) leaves: bool,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
    pub(crate) signals: Arc<Signals>,
    pub(crate) words: mpsc::Sender<(usize, Word)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Connecting,
    Preparing,
    Waiting,
    Running,
    Draining,
    Leaving,
    Ended,
}

/// See the module's head.
struct Engine<S> {
    ring: Ring,
    slots: Vec<Slot>,
    script: S,
    kit: Kit,
    timers: Timers,
    blocks: Blocks,
    /// Who was to hang up on purpose has.
    has_hung_up: bool,
    /// As far as they have: the sessions before this one.
    hung_up: u32,
    /// The session that is looked at is where it was before it hung up.
    came_back: bool,
    /// Who is to say good-bye, from here on.
    leaves: u32,
    /// Who has said good-bye and is still connected.
    farewells: u32,
    /// Sessions that have written something.
    dirty: Vec<u32>,
    /// Sessions whose receive found no buffer.
    starved: Vec<u32>,
    due: Vec<u32>,
    connects: connecting::Connects,
    tally: Tally,
    stage: Stage,
    stage_since: Nanos,
    window: Window,
    last_news: Nanos,
    progress_at: Nanos,
    at_begin: Usage,
    usage: Usage,
    work: Assignment,
}

/// Runs a thread to its end and tells how it went. `make` makes its script.
pub(crate) fn run<S: Script>(work: Assignment, make: impl FnOnce() -> S) {
    let (index, words) = (work.index, work.words.clone());
    let word = match Engine::new(work, make()).and_then(Engine::run) {
        Ok(outcome) => Word::Done(Box::new(outcome)),
        Err(error) => Word::Failed(error),
    };
    // Nobody listens any more if another thread has failed.
    let _ = words.send((index, word));
}

impl<S: Script> Engine<S> {
    fn new(mut work: Assignment, script: S) -> Result<Self> {
        let sessions = u32::try_from(work.tokens.len()).context("sessions of a thread")?;
        let options = slot::ring_options(sessions, work.connects_max, script.lively());
        let ring = Ring::new(&options)?;
        if !ring.support().connect {
            bail!("connecting by ring needs Linux {}", uring::KERNEL_FOR_CONNECT);
        }
        let begun = Word::Begun(ring.waker(), ring.support().to_string());
        work.words.send((work.index, begun)).context("the run has ended")?;
        let tokens = std::mem::take(&mut work.tokens).into_iter().zip(work.first_user..);
        let slots: Vec<Slot> = tokens
            .map(|(token, user)| {
                let user = wire::UserId::new(user).expect("users are numbered from 1");
                Slot::new(Client::new(user, DEVICE, token, work.reconnects))
            })
            .collect();
        let now = work.clock.now();
        let is_lively = script.lively() > 0;
        let block_bytes = if is_lively { blocks::TALK_BYTES } else { blocks::HEARTBEAT_BYTES };
        Ok(Self {
            ring,
            script,
            kit: Kit { encoder: wire::Encoder::default(), rng: SmallRng::seed_from_u64(work.seed) },
            timers: Timers::new(slots.len()),
            blocks: Blocks::new(block_bytes),
            has_hung_up: false,
            hung_up: 0,
            came_back: false,
            leaves: 0,
            farewells: 0,
            dirty: Vec::new(),
            starved: Vec::new(),
            due: Vec::new(),
            connects: connecting::Connects::new(sessions, work.connects_max),
            tally: Tally { wanted: sessions, ..Tally::default() },
            stage: Stage::Connecting,
            stage_since: now,
            window: Window::default(),
            last_news: now,
            progress_at: now.plus(PROGRESS_EVERY),
            at_begin: Usage::default(),
            usage: Usage::default(),
            slots,
            work,
        })
    }

    fn run(mut self) -> Result<Outcome> {
        let result = self.run_stages();
        self.hang_up();
        result?;
        let Self { tally, script, usage, ring, .. } = self;
        let stats = ring.stats();
        drop(ring);
        Ok(Outcome { tally, traffic: script.finish(), usage, ring: stats })
    }

    fn run_stages(&mut self) -> Result<()> {
        while self.stage < Stage::Ended {
            let now = self.work.clock.now();
            if self.work.signals.stop.load(Ordering::Relaxed) {
                bail!("given up");
            }
            let wake_at = self.step(now)?.min(self.timers.next()).min(self.progress_at);
            self.handle_timers(now);
            self.flush();
            let connects = self.stage < Stage::Leaving && self.connects.has_room();
            let wake_at = if connects { now } else { wake_at };
            let wait = wake_at.since(self.work.clock.now());
            self.ring.submit_and_wait(u32::from(!wait.is_zero()), Some(wait))?;
            self.handle_completions();
            self.tell_progress();
        }
        Ok(())
    }

    /// Does what the stage asks for; when it wants to be called again at the latest.
    fn step(&mut self, now: Nanos) -> Result<Nanos> {
        if self.stage < Stage::Waiting && self.work.signals.finish.load(Ordering::Relaxed) {
            bail!("interrupted before the run began");
        }
        if self.stage < Stage::Leaving {
            self.start_connects(now)?;
        }
        match self.stage {
            Stage::Connecting => {
                self.check_opening(now)?;
                if self.tally.live + self.tally.given_up == self.tally.wanted {
                    self.enter(Stage::Preparing, now);
                    return Ok(now);
                }
            }
            Stage::Preparing => {
                let mut desk = desk!(self);
                if self.script.prepare(now, &mut desk)? {
                    self.enter(Stage::Waiting, now);
                    self.say(Word::Ready(self.tally.clone()));
                } else if now.since(self.last_news.max(self.stage_since)) > PREPARE_SILENCE_MAX {
                    bail!("the server is silent: {}", self.script.preparing());
                }
            }
            Stage::Waiting => {
                let start = Nanos(self.work.signals.start.load(Ordering::Acquire));
                if start != Nanos::NEVER {
                    let begin = start.plus(self.work.warmup);
                    let end = begin.plus(self.work.duration);
                    self.window = Window { start, begin, end };
                    self.script.begin(self.window);
                    self.enter(Stage::Running, now);
                    return Ok(now);
                }
            }
            Stage::Running => return Ok(self.run_on(now)),
            Stage::Draining => {
                let mut desk = desk!(self);
                let next = self.script.send_again(now, &mut desk);
                let is_silent = self.tally.down == 0
                    && now.since(self.last_news.max(self.stage_since)) > DRAIN_SILENCE_MAX;
                let is_long = now.since(self.stage_since) > DRAIN_MAX;
                if !self.script.is_owed() || is_silent || is_long {
                    self.leave(now);
                    return Ok(now);
                }
                return Ok(next);
            }
            Stage::Leaving => {
                if self.has_left(now) {
                    self.enter(Stage::Ended, now);
                    return Ok(now);
                }
            }
            Stage::Ended => {}
        }
        Ok(Nanos::NEVER)
    }

    fn run_on(&mut self, now: Nanos) -> Nanos {
        if now >= self.window.begin && self.at_begin.is_empty() {
            self.at_begin = cpu::thread_usage(now);
        }
        if now < self.window.end && self.work.signals.finish.load(Ordering::Relaxed) {
            self.window.end = now;
            self.script.cut(now);
        }
        let look = self.attend_absence(now);
        let mut desk = desk!(self);
        let again = self.script.send_again(now, &mut desk);
        let next = self.script.send_due(now, &mut desk);
        if now < self.window.end {
            return next.min(again).min(look).min(self.window.end);
        }
        if self.usage.is_empty() {
            self.usage = cpu::thread_usage(now).since(&self.at_begin);
        }
        // A generator that is behind sends the rest, late, for a while.
        if next == Nanos::NEVER || now.since(self.window.end) > OVERTIME_MAX {
            self.enter(Stage::Draining, now);
        }
        now
    }

    fn enter(&mut self, stage: Stage, now: Nanos) {
        (self.stage, self.stage_since) = (stage, now);
    }

    fn say(&self, word: Word) {
        // The conductor may have given up; `stop` tells.
        let _ = self.work.words.send((self.work.index, word));
    }

    fn tell_progress(&mut self) {
        let now = self.work.clock.now();
        if now < self.progress_at {
            return;
        }
        self.progress_at = now.plus(PROGRESS_EVERY);
        let progress = Box::new(self.script.progress(now));
        self.say(Word::Progress(progress, self.tally.clone()));
    }

    fn handle_timers(&mut self, now: Nanos) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(now, &mut due);
        for session in due.drain(..) {
            let slot = &mut self.slots[session as usize];
            match slot.life {
                Life::Live if slot.client.deadline() <= now => {
                    slot.take_block(&mut self.blocks);
                    slot.client.handle_deadline(&mut self.kit, now, &mut slot.out);
                    slot.mark(session, &mut self.dirty);
                    self.timers.arm(session, slot.client.deadline());
                }
                Life::Live => self.timers.arm(session, slot.client.deadline()),
                Life::Waiting | Life::Opening if slot.deadline > now => {
                    self.timers.arm(session, slot.deadline);
                }
                Life::Waiting => self.connects.push(session),
                Life::Opening => self.handle_ending(session, now, &crate::ending::Ending::Timeout),
                Life::Connecting | Life::Ending { .. } | Life::Gone => {}
            }
        }
        self.due = due;
    }

    fn handle_completions(&mut self) {
        let mut now = self.work.clock.now();
        let mut left = COMPLETIONS_PER_READING;
        while let Some(completion) = self.ring.next_completion() {
            self.handle_completion(completion, now);
            left -= 1;
            if left == 0 {
                (now, left) = (self.work.clock.now(), COMPLETIONS_PER_READING);
            }
        }
        self.feed_starved();
    }
}
