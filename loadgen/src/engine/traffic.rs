//! Bytes between the ring and the sessions.

use uring::{BufferId, Completion, Shots, Start, Token};

use super::Engine;
use super::slot::Life;
use crate::clock::Nanos;
use crate::ending::Ending;
use crate::scenario::Script;

impl<S: Script> Engine<S> {
    /// Sends what sessions have written: one send a session at a time, and what gathers meanwhile
    /// goes into the next.
    pub(super) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|&session| {
            let slot = &mut self.slots[session as usize];
            let Some(descriptor) = slot.descriptor.filter(|_| !slot.is_sending) else {
                // The end of the send marks it again.
                slot.is_dirty = slot.is_sending && !slot.out.is_empty();
                return false;
            };
            if slot.out.is_empty() {
                slot.is_dirty = false;
                slot.return_block(&mut self.blocks);
                return false;
            }
            let bytes = std::mem::take(&mut slot.out).freeze();
            match self.ring.send(descriptor, Token::new(session, 0), bytes) {
                Ok(()) => {
                    slot.is_sending = true;
                    slot.is_dirty = false;
                    slot.operations += 1;
                    false
                }
                Err(uring::Full(bytes)) => {
                    slot.out = bytes.try_into_mut().unwrap_or_else(|shared| shared[..].into());
                    true
                }
            }
        });
        // Sessions that were marked meanwhile: none, but nothing may be lost if that changes.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    pub(super) fn handle_completion(&mut self, completion: Completion, now: Nanos) {
        let ended = completion.ended();
        match completion {
            Completion::Received { token, buffer, armed, more_waiting } => {
                self.handle_received(token.slot(), buffer, now);
                if !armed {
                    let start = if more_waiting { Start::TryFirst } else { Start::PollFirst };
                    self.listen(token.slot(), start);
                }
            }
            Completion::Sent { token, bytes, result } => {
                let whole = bytes.len();
                self.blocks.give_back_sent(bytes);
                let slot = &mut self.slots[token.slot() as usize];
                slot.is_sending = false;
                match result {
                    Ok(sent) if sent as usize == whole => {
                        slot.is_dirty = !slot.out.is_empty();
                        if slot.is_dirty {
                            self.dirty.push(token.slot());
                        }
                    }
                    Ok(_) => self.handle_ending(token.slot(), now, &Ending::EndOfStream),
                    Err(errno) => self.handle_ending(token.slot(), now, &Ending::Broken(errno)),
                }
            }
            Completion::Connected { token, descriptor } => {
                self.handle_connected(token.slot(), descriptor);
            }
            Completion::ConnectFailed { token, errno } => {
                self.handle_ending(token.slot(), now, &Ending::Connect(errno));
            }
            Completion::EndOfStream { token } => {
                self.handle_ending(token.slot(), now, &Ending::EndOfStream);
            }
            Completion::ReceiveFailed { token, errno }
            | Completion::PollFailed { token, errno } => {
                self.handle_ending(token.slot(), now, &Ending::Broken(errno));
            }
            Completion::Ready { token, .. } => {
                let slot = &mut self.slots[token.slot() as usize];
                slot.is_polled = false;
                if let Some(descriptor) = slot.descriptor {
                    slot.operations += 1;
                    self.ring.receive(descriptor, token, Shots::One, Start::TryFirst);
                }
            }
            Completion::BuffersExhausted { token } => self.starved.push(token.slot()),
            // Nothing but the end of an operation, or never asked for.
            Completion::Closed { .. }
            | Completion::Cancelled { .. }
            | Completion::Woken
            | Completion::Accepted { .. }
            | Completion::AcceptFailed { .. }
            | Completion::Passed { .. }
            | Completion::ShutDown { .. } => {}
        }
        if let Some(token) = ended {
            self.slots[token.slot() as usize].operations -= 1;
            self.settle(token.slot(), now);
        }
    }

    fn handle_received(&mut self, session: u32, buffer: BufferId, now: Nanos) {
        let global = (self.work.first + session) as usize;
        let target = &self.work.targets[global % self.work.targets.len()];
        let slot = &mut self.slots[session as usize];
        if !matches!(slot.life, Life::Opening | Life::Live) {
            self.ring.recycle(buffer);
            return;
        }
        slot.take_block(&mut self.blocks);
        let bytes = self.ring.buffer(&buffer);
        let (script, last_news) = (&mut self.script, &mut self.last_news);
        let came_back = &mut self.came_back;
        let result = slot.client.handle_bytes(
            &mut self.kit,
            target,
            now,
            bytes,
            &mut slot.out,
            &mut |news| {
                *last_news = now;
                *came_back |= script.handle_news(session, news, now);
            },
        );
        self.ring.recycle(buffer);
        if slot.out.is_empty() {
            slot.return_block(&mut self.blocks);
        } else {
            slot.mark(session, &mut self.dirty);
        }
        self.timers.arm(session, slot.client.deadline());
        let is_back = std::mem::take(&mut self.came_back);
        let became_live = slot.life == Life::Opening && slot.client.is_live();
        if became_live {
            self.handle_live(session, now);
        }
        if is_back {
            self.handle_back_again(now);
        }
        if let Err(ending) = result {
            self.handle_ending(session, now, &ending);
        }
    }

    /// Receives what the server will say. For a session of which little is expected an armed
    /// receive would be most of what it costs: it is polled, and received from when it is time.
    pub(super) fn listen(&mut self, session: u32, start: Start) {
        let slot = &mut self.slots[session as usize];
        let Some(descriptor) = slot.descriptor else { return };
        let token = Token::new(session, 0);
        slot.operations += 1;
        slot.is_polled = !self.script.is_lively(session);
        if slot.is_polled {
            self.ring.poll(descriptor, token, Shots::One);
        } else {
            self.ring.receive(descriptor, token, Shots::Many, start);
        }
    }

    /// Receives that ended for want of a buffer go on, as many as there are buffers now.
    pub(super) fn feed_starved(&mut self) {
        let count = self.starved.len().min(self.ring.buffers_free().into());
        let fed: Vec<u32> = self.starved.drain(..count).collect();
        for session in fed {
            self.listen(session, Start::PollFirst);
        }
    }
}
