//! Whose credentials are refused, up to which time of issue: what services have ended.
//!
//! Kept for the users in memory that have any, which are few; read with the user's head, so that no
//! session begins before it is known. An ending for ever is that of a user who was erased: nothing
//! is placed in her inbox any more.

use wire::{BatchNumber, DeviceId, Timestamp, UserId};

use super::Inboxes;
use crate::Map;

/// Devices of one user whose credentials were ended one by one. Beyond it only all of them can be
/// ended together, which is one record again.
pub const ENDED_DEVICES_MAX: usize = 256;

/// Up to which time of issue credentials are refused: of one device, or of all.
pub type Ending = (Option<DeviceId>, Timestamp);

/// The user has [`ENDED_DEVICES_MAX`] endings of single devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{ENDED_DEVICES_MAX} devices of this user were ended one by one; end all her sessions")]
pub struct TooManyEnded;

/// What to write about an ending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// Nothing: it was so already.
    Nothing,
    /// This record beside the others.
    One(Ending),
    /// These in place of all that there are.
    All(Vec<Ending>),
}

#[derive(Debug, Default)]
pub(super) struct Endings {
    of: Map<UserId, Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    list: Vec<Ending>,
    /// In the batches up to this one, which may not be durable: not to be forgotten.
    written_in: BatchNumber,
}

impl Endings {
    pub(super) fn handle_loaded(&mut self, user: UserId, list: Vec<Ending>) {
        if !list.is_empty() {
            self.of.insert(user, Ended { list, written_in: BatchNumber::ZERO });
        }
    }

    pub(super) fn is_erased(&self, user: UserId) -> bool {
        !self.of.is_empty() && self.before(user, None) == Timestamp::FOREVER
    }

    /// Forgets what is known of a user, unless some of it may not be durable: tells which.
    pub(super) fn forget_if_stored(&mut self, user: UserId, released: BatchNumber) -> bool {
        if self.of.get(&user).is_some_and(|ended| ended.written_in > released) {
            return false;
        }
        self.of.remove(&user);
        true
    }

    fn before(&self, user: UserId, device: Option<DeviceId>) -> Timestamp {
        let list = self.of.get(&user).map_or(&[][..], |ended| &ended.list);
        let of_device = list.iter().filter(|(of, _)| of.is_none() || *of == device);
        of_device.map(|(_, before)| *before).max().unwrap_or_default()
    }

    fn end(
        &mut self,
        user: UserId,
        (device, before): Ending,
        batch: BatchNumber,
    ) -> Result<Written, TooManyEnded> {
        if self.before(user, device) >= before {
            return Ok(Written::Nothing);
        }
        let ended = self.of.entry(user).or_default();
        let known = ended.list.iter().position(|(of, _)| *of == device);
        match known {
            Some(known) => ended.list[known].1 = before,
            None if device.is_some() && ended.list.len() >= ENDED_DEVICES_MAX => {
                return Err(TooManyEnded);
            }
            None => ended.list.push((device, before)),
        }
        ended.written_in = batch;
        if device.is_some() {
            return Ok(Written::One((device, before)));
        }
        ended.list.retain(|(of, until)| of.is_none() || *until > before);
        Ok(Written::All(ended.list.clone()))
    }
}

impl Inboxes {
    /// Refuses credentials of a user whose head is known, up to a time. What it returns is to be
    /// written into the open batch, `batch`.
    ///
    /// # Errors
    /// Nothing has changed: too many of her devices were ended one by one.
    pub fn end(
        &mut self,
        user: UserId,
        ending: Ending,
        batch: BatchNumber,
    ) -> Result<Written, TooManyEnded> {
        self.endings.end(user, ending, batch)
    }

    /// Whether a credential of a user whose head is known may begin a session.
    #[must_use]
    pub fn permits(&self, user: UserId, device: DeviceId, issued_at: Timestamp) -> bool {
        self.endings.of.is_empty() || issued_at > self.endings.before(user, Some(device))
    }

    /// Forgets the inbox of a user who is erased for ever and durably so. Her entries were folded
    /// before, and none has come since. What the store has of it is the caller's to remove.
    pub fn erase(&mut self, user: UserId) {
        let Some(inbox) = self.users.get_mut(&user) else { return };
        assert_eq!(inbox.committed, inbox.head, "nothing is placed for {user} any more");
        assert_eq!(inbox.folded, inbox.head, "{user} was folded when she was closed");
        inbox.recent = None;
        inbox.cursors.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<DeviceId> = Some(DeviceId(1));
    const OTHER: Option<DeviceId> = Some(DeviceId(2));

    fn user() -> UserId {
        UserId::new(7).unwrap()
    }

    fn batch(number: u64) -> BatchNumber {
        BatchNumber::new(number)
    }

    #[test]
    fn what_was_issued_up_to_an_ending_is_refused_and_what_came_later_is_not() {
        // Each row: what was ended, then whether device 1 may come in with a credential of 50.
        type Row = (&'static str, &'static [(Option<DeviceId>, u64)], bool);
        let rows: &[Row] = &[
            ("nothing", &[], true),
            ("this device, later", &[(ONE, 60)], false),
            ("this device, at that time", &[(ONE, 50)], false),
            ("this device, before", &[(ONE, 49)], true),
            ("another device", &[(OTHER, 60)], true),
            ("all devices", &[(None, 60)], false),
            ("all devices, before", &[(None, 49)], true),
            ("all, then an older one of this device", &[(None, 60), (ONE, 40)], false),
            ("this device, then an older one of all", &[(ONE, 60), (None, 40)], false),
            ("twice, the older one repeated late", &[(ONE, 60), (ONE, 40)], false),
        ];
        for (name, ended, expected) in rows {
            let mut endings = Endings::default();
            for (device, before) in *ended {
                endings.end(user(), (*device, Timestamp(*before)), batch(1)).unwrap();
            }
            let is_permitted = Timestamp(50) > endings.before(user(), ONE);
            assert_eq!(is_permitted, *expected, "{name}");
        }
    }

    #[test]
    fn an_ending_is_written_once_and_one_of_all_devices_takes_the_place_of_older_ones() {
        let mut endings = Endings::default();
        let at = |device, before| (device, Timestamp(before));
        let mut end = |ending| endings.end(user(), ending, batch(1)).unwrap();
        assert_eq!(end(at(ONE, 50)), Written::One(at(ONE, 50)));
        assert_eq!(end(at(ONE, 50)), Written::Nothing);
        assert_eq!(end(at(OTHER, 90)), Written::One(at(OTHER, 90)));
        assert_eq!(end(at(None, 70)), Written::All(vec![at(OTHER, 90), at(None, 70)]));
        assert_eq!(end(at(ONE, 60)), Written::Nothing);
        assert_eq!(end(at(None, 95)), Written::All(vec![at(None, 95)]));
    }

    #[test]
    fn single_devices_are_bounded_and_all_together_make_room() {
        let mut endings = Endings::default();
        let mut end = |device: Option<u32>, before| {
            endings.end(user(), (device.map(DeviceId), Timestamp(before)), batch(1))
        };
        for device in 1..=u32::try_from(ENDED_DEVICES_MAX).unwrap() {
            end(Some(device), 5).unwrap();
        }
        assert_eq!(end(Some(9999), 5), Err(TooManyEnded));
        assert!(end(Some(1), 6).is_ok(), "one that it has already");
        assert_eq!(end(None, 7), Ok(Written::All(vec![(None, Timestamp(7))])));
        assert!(end(Some(9999), 8).is_ok());
    }

    #[test]
    fn an_ending_is_not_forgotten_before_it_is_durable() {
        let mut endings = Endings::default();
        endings.end(user(), (None, Timestamp::FOREVER), batch(3)).unwrap();
        assert!(endings.is_erased(user()));
        assert!(!endings.forget_if_stored(user(), batch(2)));
        assert!(endings.is_erased(user()));
        assert!(endings.forget_if_stored(user(), batch(3)));
        assert!(!endings.is_erased(user()));
    }
}
