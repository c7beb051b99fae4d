//! Starts the threads, says when, listens to them, and adds up what they did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::clock::{Clock, Nanos, wall_seconds};
use crate::engine::{self, Assignment, Outcome, Signals, Tally, Word};
use crate::machine;
use crate::plan::{ChatPlan, IdlePlan, KeySource, Plan, Scenario, Share};
use crate::progress::{Second, Stage};
use crate::scenario::{Chat, ChatOptions, Idle, Returning, ReturningOptions};
use crate::screen::Screen;
use crate::tokens::Minter;

/// Connections on their way, of all threads together: below the usual backlog of a listener, so
/// that none has to be asked for twice.
const CONNECTS_MAX: u32 = 2048;

/// Connections on their way of one thread.
const CONNECTS_PER_THREAD_MAX: u32 = 512;

/// Between the word that everybody is ready and the first message: all threads must have heard.
const LEAD: Duration = Duration::from_millis(50);

/// What a run came to.
pub(crate) struct Ended {
    /// One for each thread.
    pub(crate) outcomes: Vec<Outcome>,
    /// When measuring began.
    pub(crate) window_begin: Nanos,
    /// Nobody who hung up on purpose is missing.
    pub(crate) all_back: bool,
    /// From the first connection asked for to the last session live.
    pub(crate) opening: Duration,
    /// What the rings offer.
    pub(crate) ring: String,
    /// Resident memory while everything was open.
    pub(crate) resident_bytes: u64,
    /// How long the window was: as the plan says, unless somebody has asked for an earlier end.
    pub(crate) measured: Duration,
}

/// What is known of the threads while they run.
struct Conductor<'a> {
    plan: &'a Plan,
    screen: &'a mut Screen,
    clock: Clock,
    signals: Arc<Signals>,
    wakers: Vec<uring::Waker>,
    ring: String,
    ready: usize,
    tallies: Vec<Tally>,
    second: Second,
    outcomes: Vec<Outcome>,
    resident_bytes: u64,
}

/// Runs the plan.
///
/// # Errors
/// Tokens cannot be made, no ring can be had, the server cannot be reached, or it does not do what
/// the scenario needs.
pub(crate) fn run(plan: &Plan, screen: &mut Screen) -> Result<Ended> {
    let clock = Clock::start();
    let mut tokens = mint(plan, screen)?.into_iter();
    let mut seeds = SmallRng::seed_from_u64(plan.seed.unwrap_or_else(rand::random));
    // Never the same, or a run would repeat the nonces of the one before.
    let run: u32 = rand::random();
    let (words, heard) = mpsc::channel();
    let absence = plan.scenario.absence();
    let signals = Arc::new(Signals::new(absence.map_or(0, |absence| absence.sessions)));
    watch_interrupts(&signals.finish).context("signals cannot be watched for")?;
    let targets: Arc<[_]> = plan.targets.as_slice().into();
    let connects_max = (CONNECTS_MAX / plan.threads).clamp(8, CONNECTS_PER_THREAD_MAX);
    let began = clock.now();
    let mut threads = Vec::new();
    for (index, share) in plan.scenario.shares(plan.threads).into_iter().enumerate() {
        let work = Assignment {
            index,
            first: share.first,
            first_user: plan.first_user + u64::from(share.first),
            tokens: tokens.by_ref().take(share.sessions as usize).collect(),
            targets: targets.clone(),
            connects_max,
            warmup: plan.warmup,
            duration: plan.duration,
            // Who hangs up comes back, and who stays may be sent away.
            reconnects: plan.reconnects || absence.is_some(),
            absence,
            leaves: absence.is_some() && share.pairs == 0,
            clock,
            seed: seeds.next_u64(),
            signals: signals.clone(),
            words: words.clone(),
        };
        let scenario = plan.scenario.clone();
        let body = move || start(scenario, share, run, work);
        let thread = thread::Builder::new().name(format!("load-{index}"));
        threads.push(thread.spawn(body).context("a thread cannot be started")?);
    }
    drop(words);
    let mut conductor = Conductor {
        plan,
        screen,
        clock,
        signals,
        wakers: Vec::new(),
        ring: String::new(),
        ready: 0,
        tallies: vec![Tally::default(); threads.len()],
        second: Second::default(),
        outcomes: Vec::new(),
        resident_bytes: 0,
    };
    let result = conductor.listen(&heard);
    for thread in threads {
        thread.join().expect("a panic aborts the process");
    }
    result?;
    let measured = conductor.measured();
    let last_live = conductor.outcomes.iter().map(|outcome| outcome.tally.last_live).max();
    let start = Nanos(conductor.signals.start.load(Ordering::Relaxed));
    Ok(Ended {
        window_begin: start.plus(plan.warmup),
        all_back: conductor.signals.absence.over_at().is_some(),
        opening: last_live.unwrap_or_default().since(began),
        ring: conductor.ring,
        resident_bytes: conductor.resident_bytes,
        measured,
        outcomes: conductor.outcomes,
    })
}

/// The first interrupt ends the window, with a drain and a report; the second ends the process.
fn watch_interrupts(finish: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first one finds the flag not set.
        flag::register_conditional_shutdown(signal, 128 + signal, finish.clone())?;
        flag::register(signal, finish.clone())?;
    }
    Ok(())
}

/// A thread's whole life.
fn start(scenario: Scenario, share: Share, run: u32, work: Assignment) {
    match scenario {
        Scenario::Idle(IdlePlan { chat: None, .. }) => engine::run(work, || Idle),
        Scenario::Idle(IdlePlan { chat: Some(chat), .. }) => {
            let options = ChatOptions { needs_all: false, ..options(&chat, share, run, &work) };
            engine::run(work, || Chat::new(options));
        }
        Scenario::Chat(chat) => {
            let options = options(&chat, share, run, &work);
            engine::run(work, || Chat::new(options));
        }
        Scenario::Connect(_) => start_returning(0, run, work),
        Scenario::Storm(storm) if share.pairs > 0 => {
            let options = options(&storm.chat, share, run, &work);
            engine::run(work, || Chat::new(ChatOptions { has_timeline: true, ..options }));
        }
        Scenario::Storm(storm) => {
            machine::lower_priority();
            start_returning(storm.waiting, run, work);
        }
    }
}

fn start_returning(waiting: u32, run: u32, work: Assignment) {
    let sessions = u32::try_from(work.tokens.len()).expect("sessions of a thread");
    let options = ReturningOptions { sessions, waiting, first_user: work.first_user, run };
    engine::run(work, || Returning::new(options));
}

fn options(chat: &ChatPlan, share: Share, run: u32, work: &Assignment) -> ChatOptions {
    let talking = 2 * share.pairs + share.groups * chat.group_size;
    let all = 2.0 * f64::from(chat.pairs) + f64::from(chat.groups) * f64::from(chat.group_size);
    ChatOptions {
        pairs: share.pairs,
        groups: share.groups,
        group_size: chat.group_size,
        first_user: work.first_user,
        rate: chat.rate * f64::from(talking) / all,
        arrivals: chat.arrivals,
        bytes: chat.bytes,
        unanswered_max: chat.unanswered_max,
        run,
        seed: work.seed,
        reconnects: work.reconnects,
        needs_all: true,
        has_timeline: false,
    }
}

fn mint(plan: &Plan, screen: &mut Screen) -> Result<Vec<Box<str>>> {
    let count = usize::try_from(plan.scenario.sessions())?;
    let minter = match &plan.key {
        KeySource::None => return Ok(vec![Box::default(); count]),
        KeySource::Data(data) => Minter::of_data(data, wall_seconds())?,
        KeySource::Key(key) => Minter::of_key(key, wall_seconds())?,
    };
    let tokens = minter.mint(plan.first_user, count, machine::processors(), |made| {
        screen.state(&format!("tokens {made} of {count}"));
    });
    screen.note(&format!("{count} tokens signed"));
    Ok(tokens)
}

impl Conductor<'_> {
    /// Until every thread has ended, or one has failed.
    fn listen(&mut self, heard: &mpsc::Receiver<(usize, Word)>) -> Result<()> {
        while let Ok((thread, word)) = heard.recv() {
            if let Err(error) = self.handle(thread, word) {
                self.signals.stop.store(true, Ordering::Relaxed);
                self.wakers.iter().for_each(uring::Waker::wake);
                // The first failure is the cause; the others are told to stop.
                while heard.recv().is_ok() {}
                return Err(error);
            }
        }
        if self.outcomes.len() < self.tallies.len() {
            bail!("a thread has ended without a word");
        }
        Ok(())
    }

    fn handle(&mut self, thread: usize, word: Word) -> Result<()> {
        match word {
            Word::Begun(waker, support) => {
                self.wakers.push(waker);
                self.ring = support;
            }
            Word::Ready(tally) => {
                self.tallies[thread] = tally;
                self.ready += 1;
                if self.ready == self.tallies.len() {
                    self.say_start();
                }
            }
            Word::Progress(progress, tally) => {
                self.tallies[thread] = tally;
                self.second.add(&progress);
                if self.second.threads as usize == self.tallies.len() - self.outcomes.len() {
                    self.show();
                }
            }
            Word::Done(outcome) => {
                self.tallies[thread] = outcome.tally.clone();
                self.outcomes.push(*outcome);
            }
            Word::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn say_start(&mut self) {
        self.resident_bytes = machine::resident_bytes();
        match self.plan.scenario {
            Scenario::Idle(_) => {
                let held: u32 = self.tallies.iter().map(|tally| tally.live).sum();
                self.screen.answer(&format!("held {held}"));
            }
            Scenario::Chat(_) | Scenario::Connect(_) | Scenario::Storm(_) => {
                self.screen.answer("started");
            }
        }
        let start = self.clock.now().plus(LEAD);
        self.signals.start.store(start.0, Ordering::Release);
        self.wakers.iter().for_each(uring::Waker::wake);
    }

    fn is_cut(&self) -> bool {
        self.signals.finish.load(Ordering::Relaxed)
    }

    fn measured(&self) -> Duration {
        let longest = self.outcomes.iter().map(|outcome| outcome.usage.wall).max();
        let ends_by_itself = self.plan.scenario.absence().is_some();
        longest.filter(|_| self.is_cut() || ends_by_itself).unwrap_or(self.plan.duration)
    }

    fn show(&mut self) {
        let second = std::mem::take(&mut self.second);
        let live: u32 = self.tallies.iter().map(|tally| tally.live).sum();
        let wanted = self.plan.scenario.sessions();
        let started = Nanos(self.signals.start.load(Ordering::Relaxed));
        let now = self.clock.now();
        let measured = started.plus(self.plan.warmup);
        let stage = if started == Nanos::NEVER {
            Stage::Opening
        } else if now < measured {
            Stage::Warmup
        } else if now < measured.plus(self.plan.duration) && !self.is_cut() {
            Stage::Measuring(now.since(measured))
        } else {
            Stage::Draining
        };
        self.screen.state(&second.line(stage, live, wanted));
    }
}
