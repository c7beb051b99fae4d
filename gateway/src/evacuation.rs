//! An evacuation as it is ordered: from the admin port, by way of what all cores share, to each
//! core's policy.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How sessions are sent away. The process goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// All are to be gone after so long; they go evenly over it.
    pub over: Duration,
    /// What each is told to wait before it connects again.
    pub after: Duration,
    /// Where each is told to connect; none for where it was.
    pub url: Option<Arc<str>>,
}

/// The order in force, if there is one. A core looks at the number in each turn, and at the order
/// when the number has changed.
#[derive(Debug, Default)]
pub struct Evacuation {
    number: AtomicU32,
    order: Mutex<Option<Arc<Order>>>,
}

impl Evacuation {
    /// Replaces the order; `None`: whoever is here stays, and others may come again.
    pub fn set(&self, order: Option<Order>) {
        // Whoever panicked while holding it has left a whole value behind.
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = order.map(Arc::new);
        // After it: who sees the number sees the order.
        self.number.fetch_add(1, Ordering::Release);
    }

    /// The order in force.
    #[must_use]
    pub fn order(&self) -> Option<Arc<Order>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The order, if it is another than the one that `seen` was told with.
    pub fn changed(&self, seen: &mut u32) -> Option<Option<Arc<Order>>> {
        let number = self.number.load(Ordering::Acquire);
        (std::mem::replace(seen, number) != number).then(|| self.order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_seen_once_by_everybody() {
        let evacuation = Evacuation::default();
        let (mut one, mut other) = (0, 0);
        assert_eq!(evacuation.changed(&mut one), None);
        let second = Duration::from_secs(1);
        let order = Order { over: second, after: second, url: None };
        evacuation.set(Some(order.clone()));
        assert_eq!(evacuation.changed(&mut one), Some(Some(Arc::new(order))));
        assert_eq!(evacuation.changed(&mut one), None);
        evacuation.set(None);
        assert_eq!(
            (evacuation.changed(&mut one), evacuation.changed(&mut other)),
            (Some(None), Some(None))
        );
    }
}
