//! Asking the kernel what is ready, without waiting for it.
//!
//! monoio asks the kernel when its root future waits, and then it blocks unless some task wants to
//! run. So there is a task that exists to want to: a glance wakes it and waits for it to have run,
//! and monoio looks at the kernel in between.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Default)]
struct Asked {
    is_asked: Cell<bool>,
    task: RefCell<Option<Waker>>,
    root: RefCell<Option<Waker>>,
}

/// See the module's documentation.
pub(super) struct Glance(Rc<Asked>);

impl Glance {
    /// Starts the task, on the runtime that runs now.
    pub(super) fn start() -> Self {
        let asked = Rc::new(Asked::default());
        let task = Rc::clone(&asked);
        monoio::spawn(poll_fn(move |context| {
            task.task.borrow_mut().get_or_insert_with(|| context.waker().clone());
            if task.is_asked.replace(false)
                && let Some(root) = &*task.root.borrow()
            {
                root.wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        Self(asked)
    }

    /// Returns when the kernel was asked. What is ready has knocked by then.
    pub(super) async fn look(&self) {
        let asked = &self.0;
        asked.is_asked.set(true);
        poll_fn(|context| {
            if !asked.is_asked.get() {
                return Poll::Ready(());
            }
            asked.root.borrow_mut().get_or_insert_with(|| context.waker().clone());
            // Until its first run it stands in the queue by itself.
            if let Some(task) = &*asked.task.borrow() {
                task.wake_by_ref();
            }
            Poll::Pending
        })
        .await;
    }
}

/// The task holds its own waker, and by it itself: it would outlive the runtime.
impl Drop for Glance {
    fn drop(&mut self) {
        self.0.task.take();
        self.0.root.take();
    }
}
