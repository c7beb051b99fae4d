//! One core, driven as the reactor drives it: completions, turns, effects, sleep.

use std::collections::VecDeque;

use gateway::event::{Effect, Event};
use gateway::policy::{Policy, Starved};
use gateway::shard::Shard;
use router::sessions::ConnId;

use super::host::Host;
use super::kernel::Done;

/// Connections that a core accepts before it comes round.
const ACCEPTS_PER_TURN: usize = 2;

/// See the module's documentation.
pub(super) struct Core {
    pub(super) shard: Shard,
    /// Something happened since its last turn.
    pub(super) busy: bool,
    /// It has announced that it sleeps, and nothing has woken it.
    pub(super) asleep: bool,
    /// Somebody has rung its bell, or a tick is due.
    pub(super) woken: bool,
    /// It gets no processor.
    pub(super) rests: bool,
    pub(super) accepts: bool,
    /// It accepts nobody until further notice.
    pub(super) is_held: bool,
    /// Who waits for that, in the kernel's queue.
    pub(super) lobby: VecDeque<usize>,
    pub(super) exited: bool,
    /// Receives that found no buffer.
    pub(super) starved: Vec<ConnId>,
}

impl Host {
    /// A core that sleeps although a delivery waits for it and nobody is about to wake it.
    pub(crate) fn slept_through(&self) -> Option<usize> {
        let idle = |core: &Core| core.asleep && !core.woken;
        (0..self.cores.len()).find(|index| {
            let core = &self.cores[*index];
            let mut others = self.cores.iter().enumerate().filter(|(other, _)| other != index);
            idle(core) && core.shard.has_work() && others.all(|(_, other)| !other.busy)
        })
    }

    /// Tells the cores that something has come back from the disk.
    pub(super) fn ring(&mut self) {
        for (index, core) in self.cores.iter_mut().enumerate() {
            if self.disk.take_notified(index) && core.shard.mesh().bell().ring() {
                core.woken = true;
            }
        }
    }

    pub(super) fn take_done(&mut self, core: usize) {
        let event = match self.kernel.next_done(core).expect("a completion waits") {
            Done::Received { conn, mut bytes, armed } => {
                return self.tell(core, Event::Received { conn, bytes: &mut bytes, armed });
            }
            Done::Starved { conn } => {
                self.cores[core].starved.push(conn);
                self.cores[core].busy = true;
                return;
            }
            Done::End { conn } => Event::Disconnected { conn },
            Done::Sent { conn, bytes, complete } => Event::Sent { conn, bytes, complete },
            Done::Stopped { conn } => Event::ReceiveStopped { conn },
            Done::Passed { conn, slot } => Event::Passed { conn, slot },
        };
        self.tell(core, event);
    }

    pub(super) fn receive(&mut self, core: usize, slot: u32) {
        let waiting = self.kernel.received_bytes(core, slot);
        let bytes = if waiting == 0 {
            0
        } else {
            self.pace.part(waiting.min(self.setup.limits.ring.buffer_bytes as usize))
        };
        let by_itself = self.pace.seldom();
        self.kernel.receive(core, slot, bytes, by_itself);
    }

    /// The loop of a core comes round, as the reactor's does.
    pub(super) fn turn(&mut self, core: usize) {
        self.awake(core);
        while let Some(through) = self.disk.next_through(core) {
            self.tell(core, Event::Stored(through));
        }
        while let Some(answer) = self.disk.next_answer(core) {
            self.tell(core, Event::Answered(answer));
        }
        self.let_in(core);
        let (pressure, full) = (self.disk.pressure, self.disk.is_full());
        self.tell(core, Event::TurnBegins { pressure, full });
        if self.is_ending && !self.cores[core].shard.is_draining() {
            self.tell(core, Event::Drain);
        }
        if self.pace.seldom() {
            // There is more to be handled already: what is to be sent gathers.
            self.tell(core, Event::TurnGoesOn);
            return self.wake_others(core);
        }
        self.tell(core, Event::TurnEnds);
        self.wake_others(core);
        self.rearm(core);
        self.sleep(core);
    }

    /// Accepts some of those who wait in the kernel's queue, if the core lets anybody in.
    pub(super) fn let_in(&mut self, core: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.cores[core].is_held {
                return;
            }
            let Some(socket) = self.cores[core].lobby.pop_front() else { return };
            let accepts = self.cores[core].accepts;
            match accepts.then(|| self.kernel.place(core, socket)).flatten() {
                Some(slot) => self.tell(core, Event::Accepted { slot }),
                None => self.kernel.sockets[socket].core_ended = true,
            }
        }
    }

    fn wake_others(&mut self, core: usize) {
        let wakes: Vec<_> = self.cores[core].shard.mesh().drain_wakes().collect();
        for target in wakes {
            self.cores[usize::from(target.0)].woken = true;
        }
    }

    /// Receives that were starved of buffers, as far as there are some again.
    fn rearm(&mut self, core: usize) {
        let free = self.kernel.buffers_free(core);
        let starved = &mut self.cores[core].starved;
        let starved: Vec<ConnId> = starved.drain(..starved.len().min(free)).collect();
        for conn in starved {
            match self.cores[core].shard.starved(conn) {
                Starved::Gone => {}
                Starved::Stopped => self.tell(core, Event::ReceiveStopped { conn }),
                Starved::Once => self.kernel.apply(core, Effect::ReceiveOnce(conn)),
                Starved::Many => self.kernel.apply(core, Effect::ReceiveMany(conn)),
            }
        }
    }

    /// As the reactor waits: it announces that it sleeps, and looks once more.
    fn sleep(&mut self, index: usize) {
        let has_completed = self.kernel.has_done(index) || self.disk.has_completions(index);
        let core = &mut self.cores[index];
        core.shard.mesh().bell().announce_sleep();
        // Nobody wakes it when a lane has room again that is full: it looks every millisecond.
        let retries = core.shard.mesh().owed() > 0;
        let somebody_comes = !core.is_held && !core.lobby.is_empty();
        if has_completed || core.shard.has_work() || retries || somebody_comes {
            core.shard.mesh().bell().awake();
            core.busy = true;
        } else {
            (core.busy, core.asleep) = (false, true);
        }
    }

    pub(super) fn awake(&mut self, core: usize) {
        let core = &mut self.cores[core];
        core.shard.mesh().bell().awake();
        (core.asleep, core.woken) = (false, false);
    }

    /// Tells a core what happened, and does what it wants.
    pub(crate) fn tell(&mut self, core: usize, event: Event<'_>) {
        if self.cores[core].asleep {
            self.awake(core);
        }
        let now = self.clock();
        let mut effects = std::mem::take(&mut self.effects);
        let shard = &mut self.cores[core].shard;
        let mut event = Some(event);
        (self.around)(&mut || {
            let event = event.take().expect("called once");
            shard.handle(event, now, &mut effects);
        });
        for effect in effects.drain(..) {
            match effect {
                Effect::Submit(batch) => self.disk.submit(batch),
                Effect::Read(ticket, read) => self.disk.ask(core, ticket, read),
                Effect::PauseAccepting => self.cores[core].is_held = true,
                Effect::ResumeAccepting => self.cores[core].is_held = false,
                Effect::StopAccepting => {
                    // Who waits is turned away.
                    (self.cores[core].accepts, self.cores[core].is_held) = (false, false);
                }
                Effect::Exit => {
                    assert!(!self.cores[core].exited, "a core exits once");
                    self.cores[core].exited = true;
                }
                effect => self.kernel.apply(core, effect),
            }
        }
        self.effects = effects;
        self.cores[core].busy = true;
    }
}
