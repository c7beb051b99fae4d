//! Leaves acts out of a life as long as it still fails at the same place.

use crate::plan::Plan;
use crate::run::{Failure, run};

/// Lives that are tried at most.
const TRIES_MAX: usize = 400;

/// The indices of the acts that are left.
pub(crate) fn shrink(plan: &Plan, kept: Vec<usize>, failure: &Failure) -> Vec<usize> {
    let mut kept = kept;
    let mut tries = 0;
    let mut fails = |kept: &[usize]| {
        tries += 1;
        let found = run(plan, kept, false).failure;
        (found.is_some_and(|found| found.place == failure.place), tries >= TRIES_MAX)
    };
    let mut size = kept.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < kept.len() {
            let end = (start + size).min(kept.len());
            let rest: Vec<usize> = [&kept[..start], &kept[end..]].concat();
            let (still, is_enough) = fails(&rest);
            if still {
                kept = rest;
            } else {
                start = end;
            }
            if is_enough {
                return kept;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2).min(size - 1) };
    }
    kept
}
