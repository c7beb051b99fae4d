//! Which connections are live for a user: several devices, one session each.

use slab::Slab;
use variants::Variant;
use wire::{DeviceId, UserId};

use crate::Map;

/// A connection of this core, guarded against reuse: the slot's generation changes when its
/// connection ends, so whoever holds an old id finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnId {
    /// Its place in the core's table.
    pub slot: u32,
    /// Which of the connections that had that place.
    pub generation: u32,
}

impl ConnId {
    /// No connection has this name: what a core asks for itself comes from it.
    pub const NONE: Self = Self { slot: u32::MAX, generation: 0 };
}

/// The live sessions of this core's users. A user without one costs nothing.
#[derive(Debug, Default)]
pub struct Sessions {
    first: Map<UserId, u32>,
    nodes: Slab<Node>,
}

/// A user's sessions are a list: most have one or two.
#[derive(Debug)]
struct Node {
    conn: ConnId,
    device: DeviceId,
    next: u32,
}

const NO_NODE: u32 = u32::MAX;

/// A device has at most this many sessions of one user: the newest displaces the older, so it is
/// the number of devices that bounds a user's sessions.
pub const DEVICES_MAX: usize = 16;

/// A user already has sessions on [`DEVICES_MAX`] devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the user has sessions on {DEVICES_MAX} devices already; log one out")]
pub struct TooManyDevices;

impl Sessions {
    /// Makes `conn` the session of this device. The device's older session, if it has one, is
    /// displaced: it comes back, for the caller to close.
    ///
    /// # Errors
    /// The user has too many devices online; nothing changed.
    pub fn attach(
        &mut self,
        user: UserId,
        device: DeviceId,
        conn: ConnId,
    ) -> Result<Option<ConnId>, TooManyDevices> {
        let mut count = 0;
        let mut at = self.first.get(&user).copied().unwrap_or(NO_NODE);
        let head = at;
        while let Some(node) = self.nodes.get_mut(at as usize) {
            if node.device == device && !variants::is(Variant::DisplacedStays) {
                return Ok(Some(std::mem::replace(&mut node.conn, conn)));
            }
            count += 1;
            at = node.next;
        }
        if count >= DEVICES_MAX {
            return Err(TooManyDevices);
        }
        let index = self.nodes.insert(Node { conn, device, next: head });
        self.first.insert(user, u32::try_from(index).expect("bounded by the connection table"));
        Ok(None)
    }

    /// Forgets a session, unless a newer one of its device has displaced it.
    pub fn detach(&mut self, user: UserId, conn: ConnId) {
        let Some(&head) = self.first.get(&user) else { return };
        let (mut before, mut at) = (NO_NODE, head);
        while let Some(node) = self.nodes.get(at as usize) {
            let next = node.next;
            if node.conn != conn {
                (before, at) = (at, next);
                continue;
            }
            self.nodes.remove(at as usize);
            match self.nodes.get_mut(before as usize) {
                Some(node) => node.next = next,
                None if next == NO_NODE => drop(self.first.remove(&user)),
                None => drop(self.first.insert(user, next)),
            }
            return;
        }
    }

    /// The user's live sessions, newest device first.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = (DeviceId, ConnId)> + '_ {
        let mut at = self.first.get(&user).copied().unwrap_or(NO_NODE);
        std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            Some((node.device, node.conn))
        })
    }

    /// Whether the user has a live session.
    #[must_use]
    pub fn is_online(&self, user: UserId) -> bool {
        self.first.contains_key(&user)
    }

    /// Bytes that the table holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.first.allocation_size() + self.nodes.capacity() * size_of::<Node>()
    }

    /// How many sessions are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    fn user() -> UserId {
        UserId::new(7).unwrap()
    }

    fn slots(sessions: &Sessions) -> Vec<u32> {
        sessions.of(user()).map(|(_, conn)| conn.slot).collect()
    }

    #[test]
    fn the_newest_session_of_a_device_displaces_the_older() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.attach(user(), DeviceId(1), conn(10)), Ok(None));
        assert_eq!(sessions.attach(user(), DeviceId(2), conn(20)), Ok(None));
        assert_eq!(sessions.attach(user(), DeviceId(1), conn(11)), Ok(Some(conn(10))));
        assert_eq!(slots(&sessions), [20, 11]);
        sessions.detach(user(), conn(10));
        assert_eq!(slots(&sessions), [20, 11], "the displaced one takes nothing with it");
    }

    #[test]
    fn a_session_leaves_from_any_place_of_the_list() {
        for (leaves, stay) in [(1, [3, 2]), (2, [3, 1]), (3, [2, 1])] {
            let mut sessions = Sessions::default();
            for number in 1..=3 {
                sessions.attach(user(), DeviceId(number), conn(number)).unwrap();
            }
            sessions.detach(user(), conn(leaves));
            assert_eq!(slots(&sessions), stay, "without {leaves}");
        }
    }

    #[test]
    fn a_user_without_sessions_costs_nothing() {
        let mut sessions = Sessions::default();
        sessions.attach(user(), DeviceId(1), conn(1)).unwrap();
        sessions.detach(user(), conn(1));
        assert!(!sessions.is_online(user()));
        assert_eq!((sessions.first.len(), sessions.len()), (0, 0));
    }

    #[test]
    fn devices_are_bounded() {
        let mut sessions = Sessions::default();
        for number in 0..16 {
            sessions.attach(user(), DeviceId(number), conn(number)).unwrap();
        }
        assert_eq!(sessions.attach(user(), DeviceId(99), conn(99)), Err(TooManyDevices));
        assert_eq!(sessions.attach(user(), DeviceId(3), conn(99)), Ok(Some(conn(3))));
    }
}
