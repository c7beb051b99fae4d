//! What happens to the host: time, the disk, the processor, and its ends.

use store::{Fault, Pressure};

use crate::act::{Restart, What};
use crate::sim::disk::Recovered;
use crate::world::World;

/// Steps that are taken at most until what a crash waits for is under way.
const WAIT_STEPS_MAX: usize = 80;

/// Ticks in which a host that is asked to end must have ended.
const DRAIN_TICKS_MAX: usize = 400;

/// Steps of one tick, of a host that is being waited for.
pub(crate) const TICK_STEPS_MAX: usize = 200_000;

/// Ticks after which the free space is looked at again.
const PROBE_TICKS: usize = 6;

/// Ticks after which deadlines have gone by: `hello_ticks` is the shortest.
const LATE_TICKS: u16 = 50;

/// What a crash can cut off. Each is counted when one did.
const POINTS: [&str; 14] = [
    "nothing under way",
    "places given, batch open",
    "batch submitted, not written",
    "batch written, core not told",
    "batch refused, disk full",
    "group held, disk full",
    "fan-out under way",
    "offer in a lane",
    "delivery in a lane",
    "delivery behind a full lane",
    "frames queued, not sent",
    "post unanswered",
    "question to the store unanswered",
    "entries in the journal alone",
];

impl World {
    pub(crate) fn act_of_the_host(&mut self, what: What) {
        match what {
            What::Tick { count } => {
                for _ in 0..count {
                    self.host.begin_tick();
                    self.take_steps(40);
                }
            }
            What::Sleep { ticks } => {
                self.faults.late |= ticks >= LATE_TICKS;
                self.host.sleep_ticks(ticks.into());
            }
            What::WallClock { seconds } => {
                self.faults.wall_clock = true;
                self.host.step_wall_clock(i64::from(seconds) * 1000);
            }
            What::HoldCommits(holds) => self.host.holds_commits = holds,
            What::Full(full) => {
                self.faults.full |= full;
                self.host.disk.set_full(full);
            }
            What::FullForOne => self.full_for_one(),
            What::NoSpace(full) => {
                self.faults.full |= full;
                self.host.disk.set_fault(if full { Fault::Full } else { Fault::None });
            }
            What::Pressure(stop) => {
                self.host.disk.pressure = if stop { Pressure::Stop } else { Pressure::None };
            }
            What::FailReads(fails) => {
                self.faults.reads_failed |= fails;
                self.host.disk.fails_reads = fails;
            }
            What::Rest { core, rests } => {
                let core = usize::from(core) % self.host.cores();
                self.host.set_rests(core, rests);
            }
            What::Places { count } => self.host.kernel.set_places_max(count.into()),
            What::Crash { waits_for, restart } => self.crash_at(waits_for, restart),
            What::DieInWrite { is_kept, restart } => self.die_in_write(is_kept, restart),
            What::Drain { restart } => self.drain(restart),
            other => unreachable!("a device's: {other:?}"),
        }
    }

    /// The watch on free space sees a full disk at one write, and a free one at the next.
    fn full_for_one(&mut self) {
        self.faults.full = true;
        self.host.holds_commits = true;
        self.bustle();
        self.bustle();
        for full in [true, false] {
            self.host.disk.set_full(full);
            for _ in 0..PROBE_TICKS {
                self.host.begin_tick();
                self.take_steps(5);
            }
            if self.host.disk.committable() > 0 {
                self.host.commit(1);
                self.look();
            }
        }
        self.host.holds_commits = false;
    }

    /// What a crash would cut off now.
    fn points(&mut self) -> Vec<&'static str> {
        let mut found = [false; POINTS.len()];
        for core in 0..self.host.cores() {
            let holdings = self.host.holdings(core);
            let (offers, deliveries) = self.host.mesh_of(core);
            let here = [
                false,
                holdings.open_bytes > 0,
                false,
                false,
                holdings.batches_refused > 0,
                false,
                holdings.fans_outstanding > 0,
                offers,
                deliveries,
                holdings.owed > 0,
                holdings.queue_bytes.1 > 0,
                holdings.posts_in_flight.1 > 0,
                holdings.asked.0 + holdings.asked.1 > 0,
                holdings.unfolded > 0,
            ];
            found.iter_mut().zip(here).for_each(|(found, here)| *found |= here);
        }
        found[2] = self.host.disk.submitted() > 0;
        found[3] = self.host.disk.unreleased() > 0;
        found[5] = self.host.disk.is_holding();
        found[0] = !found[1..].contains(&true);
        let named = POINTS.into_iter().zip(found);
        named.filter_map(|(name, found)| found.then_some(name)).collect()
    }

    fn crash_at(&mut self, waits_for: u8, restart: Restart) {
        let point = POINTS[usize::from(waits_for) % POINTS.len()];
        self.bustle();
        let mut left = WAIT_STEPS_MAX;
        while left > 0 && !self.points().contains(&point) && self.take_steps(1) > 0 {
            left -= 1;
        }
        self.crash(restart, None);
    }

    /// Devices post and mark, so that a crash finds something under way.
    fn bustle(&mut self) {
        for device in 0..self.devices.len() {
            let channel = u8::try_from(self.rng.below(256)).expect("small");
            match self.rng.below(4) {
                0 | 1 => self.post(device, channel, 30),
                2 => self.mark_read(device, channel),
                _ => {}
            }
        }
        let steps = self.rng.below(60);
        self.take_steps(steps);
    }

    /// The process dies now, and comes back.
    fn crash(&mut self, restart: Restart, in_write: Option<&'static str>) {
        let mut points = self.points();
        points.extend(in_write);
        let cores = restart.cores.into();
        let deaths: Vec<u64> = restart.deaths.into_iter().flatten().map(u64::from).collect();
        let seed = self.rng.next();
        let Recovered { died_before, .. } = self.host.crash_often(seed, cores, &deaths);
        points.extend(died_before);
        self.trace.note(|| format!("  crash: {points:?}; then {cores} cores"));
        self.trace.count(|stats| {
            for point in points {
                *stats.crash_points.entry(point).or_default() += 1;
            }
        });
        self.host.holds_commits = false;
        self.restarted();
    }

    /// A failed write ends the process: what the disk keeps of it is in doubt.
    pub(crate) fn dies_of_its_disk(&mut self) {
        let fatal = self.host.fatal.take();
        self.trace.note(|| format!("  {fatal:?}"));
        let cores = u8::try_from(self.host.cores()).expect("few");
        self.crash(Restart { cores, deaths: [None; 2] }, Some("in a write"));
    }

    fn die_in_write(&mut self, is_kept: bool, restart: Restart) {
        self.bustle();
        let mut left = WAIT_STEPS_MAX;
        while left > 0 && self.host.disk.committable() == 0 && self.take_steps(1) > 0 {
            left -= 1;
        }
        let count = self.host.disk.committable();
        if count == 0 {
            return;
        }
        self.host.disk.dies_in_next_write(is_kept);
        let count = 1 + self.rng.below(count);
        self.host.commit(count);
        self.look();
        let is_dead = self.host.fatal.take().is_some();
        self.trace.note(|| format!("  a write of {count} batches; dead: {is_dead}"));
        // A full disk refuses before it writes: then this is a crash like any other.
        self.crash(restart, is_dead.then_some("in a write"));
    }

    fn drain(&mut self, restart: Restart) {
        self.heal();
        self.is_calm = true;
        self.faults.drained = true;
        self.host.drain();
        let cores = self.host.cores();
        for _ in 0..DRAIN_TICKS_MAX {
            if (0..cores).all(|core| self.host.has_exited(core)) {
                break;
            }
            self.host.begin_tick();
            self.take_steps(TICK_STEPS_MAX);
        }
        for core in 0..cores {
            let holdings = self.host.holdings(core);
            assert!(
                self.host.has_exited(core),
                "liveness: core {core} drains for ever: {holdings:?}"
            );
        }
        self.is_calm = false;
        self.trace.note(|| "  drained".to_owned());
        self.crash(restart, Some("after a drain"));
    }

    /// No fault goes on.
    pub(crate) fn heal(&mut self) {
        self.host.holds_commits = false;
        self.host.disk.set_full(false);
        self.host.disk.set_fault(Fault::None);
        self.host.disk.fails_reads = false;
        self.host.disk.pressure = Pressure::None;
        self.host.kernel.set_places_max(10_000);
        self.host.set_wall_clock_right();
        (0..self.host.cores()).for_each(|core| self.host.set_rests(core, false));
        for device in &self.devices {
            if let Some(client) = device.client {
                self.host.clients[client].reads = true;
            }
        }
    }
}
