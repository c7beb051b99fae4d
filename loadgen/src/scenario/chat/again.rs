//! What is sent again: everything unanswered when a session has come back, and what the server
//! refused for a while.

use std::time::Duration;

use wire::server::Rejected;
use wire::{Nonce, RejectCode};

use super::Chat;
use crate::clock::Nanos;
use crate::engine::Desk;
use crate::scenario::members::Link;

/// After a refusal that does not tell how long to wait.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What is to be sent again.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// Sessions that have come back.
    back: Vec<u32>,
    /// Messages that were put off. One that its session has sent again meanwhile, or that was
    /// answered, is passed over.
    put_off: Vec<PutOff>,
}

#[derive(Clone, Copy, Debug)]
struct PutOff {
    until: Nanos,
    session: u32,
    nonce: Nonce,
}

impl Chat {
    /// The session is live again.
    pub(super) fn handle_back(&mut self, session: u32) {
        self.members[session as usize].link = Link::Back;
        self.again.back.push(session);
    }

    /// Whether the refused message stays in the outbox, to be sent again later.
    pub(super) fn is_put_off(&mut self, session: u32, rejected: &Rejected<'_>, now: Nanos) -> bool {
        let is_passing = rejected.retry_after_ms > 0 || rejected.code == RejectCode::Draining;
        let member = &mut self.members[session as usize];
        let nonce = rejected.nonce;
        let refused = member.pending.iter_mut().find(|pending| pending.nonce == nonce);
        let Some(pending) = refused.filter(|_| is_passing && self.options.reconnects) else {
            return false;
        };
        pending.is_refused = true;
        let told = Duration::from_millis(rejected.retry_after_ms.into());
        let until = now.plus(if told.is_zero() { AGAIN_AFTER } else { told });
        self.again.put_off.push(PutOff { until, session, nonce });
        true
    }

    /// Sends again what is due; tells when the next is.
    pub(super) fn go_on(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Nanos {
        for session in std::mem::take(&mut self.again.back) {
            // It may have ended again.
            if self.members[session as usize].link == Link::Back {
                self.members[session as usize].link = Link::Up;
                for index in 0..self.members[session as usize].pending.len() {
                    self.transmit_pending(session, index, now, desk);
                }
            }
        }
        let due = |put_off: &mut PutOff| put_off.until <= now;
        let due: Vec<PutOff> = self.again.put_off.extract_if(.., due).collect();
        for PutOff { session, nonce, .. } in due {
            let member = &self.members[session as usize];
            let wanted = |pending: &super::Pending| pending.nonce == nonce && pending.is_refused;
            let index = member.pending.iter().position(wanted);
            if let Some(index) = index.filter(|_| member.link == Link::Up) {
                self.transmit_pending(session, index, now, desk);
            }
        }
        self.again.put_off.iter().map(|put_off| put_off.until).min().unwrap_or(Nanos::NEVER)
    }

    fn transmit_pending(&mut self, session: u32, index: usize, now: Nanos, desk: &mut Desk<'_>) {
        let mut pending = self.members[session as usize].pending[index];
        if self.transmit(session, &mut pending, now, desk) {
            self.members[session as usize].pending[index] = pending;
        }
    }
}
