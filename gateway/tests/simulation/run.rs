//! One life from its beginning to its end, or to its failure.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::plan::Plan;
use crate::trace::{Stats, Trace};
use crate::world::World;

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// How a life has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// Which check: its file and line.
    pub(crate) place: String,
    pub(crate) message: String,
}

/// How a life went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failure: Option<Failure>,
    pub(crate) stats: Stats,
    pub(crate) lines: Vec<String>,
}

/// Lives the acts of a plan whose indices are in `kept`.
pub(crate) fn run(plan: &Plan, kept: &[usize], keeps_lines: bool) -> Outcome {
    catch_quietly();
    let trace = Trace::new(keeps_lines);
    let of_world = trace.clone();
    let live = AssertUnwindSafe(|| {
        let mut world = World::new(plan, of_world);
        for index in kept {
            world.act(*index, &plan.acts[*index]);
        }
    });
    IS_CATCHING.set(true);
    let result = catch_unwind(live);
    IS_CATCHING.set(false);
    let failure = result.err().map(|_| CAUGHT.take().expect("the hook has seen it"));
    Outcome { failure, stats: trace.stats(), lines: trace.lines() }
}

/// Panics of lives are written down and not printed; all others are as ever.
fn catch_quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_CATCHING.get() {
                return before(info);
            }
            let place = info
                .location()
                .map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            let message = info.payload_as_str().unwrap_or("(no text)").to_owned();
            CAUGHT.set(Some(Failure { place, message }));
        }));
    });
}
