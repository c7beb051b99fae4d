//! The bounded queues between cores, and when to wake a core that sleeps.
//!
//! Each core has two queues that every other core may push to, its *lanes*:
//!
//! - `offers` carry what sessions ask of channels. A full lane is refused, and the core that asked
//!   stops reading the connection: back-pressure ends at the client.
//! - `deliveries` carry what is owed: answers, fan-outs, their acknowledgements, connections on
//!   their way to their user's core. Handling a delivery never pushes an offer and never waits for
//!   another core, so this lane always empties and two cores cannot wait for each other. A core
//!   that meets a full lane keeps what it owes in its own backlog and stops draining offers until
//!   the backlog is gone; the commit window bounds how much that can be ([`BACKLOG_MAX`]).
//!
//! A core pushes to itself through a plain queue. Order: what one core pushes to another in one
//! lane arrives in that order. Whether a peer is local is known in this file alone.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use variants::Variant;
use wire::CoreId;

use crate::atomic::{AtomicBool, Ordering, fence};

/// Places in each `offers` lane: a turn's worth of posts from every peer; beyond it readers wait.
pub const OFFERS_MAX: usize = 4096;

/// Places in each `deliveries` lane: an offer becomes at most an answer and a fan-out.
pub const DELIVERIES_MAX: usize = 2 * OFFERS_MAX;

/// What a core may owe one peer beyond a full lane: all that its commit window and one drained
/// lane of offers can turn into. More is a bug of the core, not a load.
pub const BACKLOG_MAX: usize = 4 * (crate::commit_window::WINDOW_MAX + OFFERS_MAX);

const _: () = assert!(DELIVERIES_MAX >= OFFERS_MAX, "answers must not be scarcer than offers");

/// The sleep flag of one core: whoever finds it set clears it and wakes the core.
///
/// The owner announces that it will sleep, then looks at its queues once more; a producer pushes,
/// then looks at the flag. The two fences make sure that at least one of them sees the other
/// (Dekker's pattern), so no push is slept through, and only the first push after the
/// announcement pays for a wake-up.
#[derive(Debug, Default)]
pub struct Bell(CachePadded<AtomicBool>);

impl Bell {
    /// The owner is about to sleep; it must look at its queues after this and before it sleeps.
    pub fn announce_sleep(&self) {
        self.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake: producers need not wake it.
    pub fn awake(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// After a push: whether the pusher must wake the owner.
    #[must_use]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let sleeps = self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed);
        sleeps && !variants::is(Variant::WakeLost)
    }
}

/// One core's incoming side.
#[derive(Debug)]
struct Inlet<O, D> {
    offers: ArrayQueue<O>,
    deliveries: ArrayQueue<D>,
    bell: Arc<Bell>,
}

impl<O, D> Inlet<O, D> {
    /// A place of a lane is a value and the number of its lap.
    fn memory_bytes(&self) -> usize {
        let of_place = size_of::<usize>();
        self.offers.capacity() * (size_of::<O>() + of_place)
            + self.deliveries.capacity() * (size_of::<D>() + of_place)
    }
}

/// A core's end of the mesh.
#[derive(Debug)]
pub struct MeshPort<O, D> {
    core: CoreId,
    inlets: Arc<[Inlet<O, D>]>,
    own_offers: VecDeque<O>,
    own_deliveries: VecDeque<D>,
    offers_max: usize,
    backlogs: Box<[VecDeque<D>]>,
    owed: usize,
    /// Cores to be woken at the end of the turn, each once.
    wakes: Vec<CoreId>,
}

/// How many places the lanes have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes {
    /// For offers.
    pub offers_max: usize,
    /// For deliveries.
    pub deliveries_max: usize,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { offers_max: OFFERS_MAX, deliveries_max: DELIVERIES_MAX }
    }
}

/// Makes the mesh of `cores` cores: one port each, in order.
#[must_use]
pub fn mesh<O, D>(cores: u16) -> Vec<MeshPort<O, D>> {
    mesh_of(cores, Lanes::default())
}

/// As [`mesh`], with lanes that a simulation can fill. No lane may be without a place.
#[must_use]
pub fn mesh_of<O, D>(cores: u16, lanes: Lanes) -> Vec<MeshPort<O, D>> {
    let Lanes { offers_max, deliveries_max } = lanes;
    let inlets: Arc<[Inlet<O, D>]> = (0..cores)
        .map(|_| Inlet {
            offers: ArrayQueue::new(offers_max),
            deliveries: ArrayQueue::new(deliveries_max),
            bell: Arc::default(),
        })
        .collect();
    (0..cores)
        .map(|core| MeshPort {
            core: CoreId(core),
            inlets: Arc::clone(&inlets),
            own_offers: VecDeque::new(),
            own_deliveries: VecDeque::new(),
            offers_max,
            backlogs: (0..cores).map(|_| VecDeque::new()).collect(),
            owed: 0,
            wakes: Vec::with_capacity(usize::from(cores)),
        })
        .collect()
}

impl<O, D> MeshPort<O, D> {
    /// Bytes of this core's lanes, of what it pushed to itself, and of what it owes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let lanes = self.inlets[usize::from(self.core.0)].memory_bytes();
        let own = self.own_offers.capacity() * size_of::<O>()
            + self.own_deliveries.capacity() * size_of::<D>();
        let owed = self.backlogs.iter().map(VecDeque::capacity).sum::<usize>() * size_of::<D>();
        lanes + own + owed
    }

    /// The core whose end this is.
    #[must_use]
    pub const fn core(&self) -> CoreId {
        self.core
    }

    /// This core's bell, for others that push to it (the store's threads).
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.inlet(self.core).bell)
    }

    /// Offers to the core that owns the channel.
    ///
    /// # Errors
    /// The lane is full: the offer comes back; stop reading the connection it came from.
    pub fn offer(&mut self, target: CoreId, offer: O) -> Result<(), O> {
        if target == self.core {
            if self.own_offers.len() >= self.offers_max {
                return Err(offer);
            }
            self.own_offers.push_back(offer);
            return Ok(());
        }
        let pushed = self.inlet(target).offers.push(offer);
        if !variants::is(Variant::OfferDropped) {
            pushed?;
        }
        self.note_push(target);
        Ok(())
    }

    /// Delivers to another core (or this one); never refused and never waits.
    ///
    /// # Panics
    /// If the backlog exceeds [`BACKLOG_MAX`]: a caller ignored [`Self::may_drain_offers`].
    pub fn deliver(&mut self, target: CoreId, delivery: D) {
        if target == self.core {
            self.own_deliveries.push_back(delivery);
            return;
        }
        let index = usize::from(target.0);
        let overtakes = variants::is(Variant::BacklogOvertaken);
        let refused = if self.backlogs[index].is_empty() || overtakes {
            self.inlet(target).deliveries.push(delivery).err()
        } else {
            Some(delivery) // Behind what is owed already: the lane keeps its order.
        };
        match refused {
            None => self.note_push(target),
            Some(delivery) => {
                assert!(self.backlogs[index].len() < BACKLOG_MAX, "backlog to {target} overflows");
                self.backlogs[index].push_back(delivery);
                self.owed += 1;
            }
        }
    }

    /// Moves what is owed into the lanes that have room again. Call it once a turn.
    pub fn flush_backlog(&mut self) {
        if self.owed == 0 {
            return;
        }
        for index in 0..self.backlogs.len() {
            let mut moved = 0;
            while let Some(delivery) = self.backlogs[index].pop_front() {
                if let Err(delivery) = self.inlets[index].deliveries.push(delivery) {
                    self.backlogs[index].push_front(delivery);
                    break;
                }
                moved += 1;
            }
            if moved > 0 {
                self.owed -= moved;
                self.note_push(CoreId(u16::try_from(index).expect("a core's index")));
            }
        }
    }

    /// Whether offers may be drained: not while anything is owed that a lane could not take.
    #[must_use]
    pub const fn may_drain_offers(&self) -> bool {
        self.owed == 0
    }

    /// What is owed to peers beyond their full lanes.
    #[must_use]
    pub const fn owed(&self) -> usize {
        self.owed
    }

    /// The next offer to this core.
    pub fn next_offer(&mut self) -> Option<O> {
        self.own_offers.pop_front().or_else(|| self.inlet(self.core).offers.pop())
    }

    /// The next delivery to this core.
    pub fn next_delivery(&mut self) -> Option<D> {
        self.own_deliveries.pop_front().or_else(|| self.inlet(self.core).deliveries.pop())
    }

    /// Whether an offer waits for this core.
    #[must_use]
    pub fn has_offers(&self) -> bool {
        !self.own_offers.is_empty() || !self.inlet(self.core).offers.is_empty()
    }

    /// Whether a delivery waits for this core.
    #[must_use]
    pub fn has_deliveries(&self) -> bool {
        !self.own_deliveries.is_empty() || !self.inlet(self.core).deliveries.is_empty()
    }

    /// Whether anything waits for this core, or for a peer's lane to empty.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.owed == 0 && !self.has_offers() && !self.has_deliveries()
    }

    /// Cores that were pushed to while they slept; the reactor wakes each once.
    pub fn drain_wakes(&mut self) -> impl Iterator<Item = CoreId> {
        self.wakes.drain(..)
    }

    fn note_push(&mut self, target: CoreId) {
        if self.inlet(target).bell.ring() {
            self.wakes.push(target);
        }
    }

    fn inlet(&self, core: CoreId) -> &Inlet<O, D> {
        &self.inlets[usize::from(core.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few places, so that full lanes are cheap under Miri, too.
    const LANES: Lanes = Lanes { offers_max: 32, deliveries_max: 64 };

    fn pair() -> (MeshPort<u32, u32>, MeshPort<u32, u32>) {
        let mut ports = mesh_of(2, LANES);
        let second = ports.pop().unwrap();
        (ports.pop().unwrap(), second)
    }

    #[test]
    fn a_full_offer_lane_hands_the_offer_back() {
        let (mut near, mut far) = pair();
        for number in 0..u32::try_from(LANES.offers_max).unwrap() {
            near.offer(CoreId(1), number).unwrap();
        }
        assert_eq!(near.offer(CoreId(1), 77), Err(77));
        assert_eq!(far.next_offer(), Some(0));
        assert_eq!(near.offer(CoreId(1), 77), Ok(()));
    }

    #[test]
    fn a_full_delivery_lane_keeps_order_through_the_backlog() {
        let (mut near, mut far) = pair();
        let sent = u32::try_from(LANES.deliveries_max).unwrap() + 10;
        for number in 0..sent {
            near.deliver(CoreId(1), number);
        }
        assert!(!near.may_drain_offers(), "something is owed");
        assert_eq!(far.next_delivery(), Some(0));
        near.deliver(CoreId(1), sent); // Must not overtake the backlog though the lane has room.
        let mut received = vec![0];
        while !near.is_idle() || !far.is_idle() {
            near.flush_backlog();
            received.extend(std::iter::from_fn(|| far.next_delivery()));
        }
        assert_eq!(received, (0..=sent).collect::<Vec<_>>());
        assert!(near.may_drain_offers());
    }

    #[test]
    fn only_the_first_push_after_an_announced_sleep_wakes() {
        let (mut near, far) = pair();
        let wakes = |port: &mut MeshPort<u32, u32>| port.drain_wakes().collect::<Vec<_>>();
        near.deliver(CoreId(1), 1);
        assert_eq!(wakes(&mut near), [], "awake");
        far.bell().announce_sleep();
        near.deliver(CoreId(1), 2);
        near.offer(CoreId(1), 3).unwrap();
        assert_eq!(wakes(&mut near), [CoreId(1)], "asleep, once");
        far.bell().announce_sleep();
        far.bell().awake();
        near.deliver(CoreId(1), 4);
        assert_eq!(wakes(&mut near), [], "awake again");
    }

    #[test]
    fn a_core_reaches_itself_without_waking_anyone() {
        let (mut near, _far) = pair();
        near.bell().announce_sleep();
        near.offer(CoreId(0), 5).unwrap();
        near.deliver(CoreId(0), 6);
        assert!(!near.is_idle());
        assert_eq!((near.next_offer(), near.next_delivery()), (Some(5), Some(6)));
        assert_eq!(near.drain_wakes().count(), 0);
    }
}
