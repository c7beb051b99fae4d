//! What happened, for whoever has to understand a failure; and how a life went, in numbers.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Lines that are kept: the last ones.
const LINES_MAX: usize = 300;

/// Numbers of one life, or of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) steps: u64,
    pub(crate) acts: u64,
    pub(crate) entries: u64,
    pub(crate) told: u64,
    pub(crate) recoveries: u64,
    pub(crate) calms: u64,
    /// What crashes cut off, and how often.
    pub(crate) crash_points: BTreeMap<&'static str, u64>,
    /// Bounds that were reached, and how often they were found so.
    pub(crate) bounds: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.acts += other.acts;
        self.entries += other.entries;
        self.told += other.told;
        self.recoveries += other.recoveries;
        self.calms += other.calms;
        for (mine, theirs) in
            [(&mut self.crash_points, &other.crash_points), (&mut self.bounds, &other.bounds)]
        {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    dropped: usize,
    stats: Stats,
}

/// Shared with whoever looks at it after a life has ended in a panic.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    inner: Rc<RefCell<Inner>>,
    keeps_lines: bool,
}

impl Trace {
    pub(crate) fn new(keeps_lines: bool) -> Self {
        Self { inner: Rc::default(), keeps_lines }
    }

    /// Notes a line, if anybody wants it.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if !self.keeps_lines {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        if inner.lines.len() == LINES_MAX {
            inner.lines.pop_front();
            inner.dropped += 1;
        }
        inner.lines.push_back(line());
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.inner.borrow_mut().stats);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.inner.borrow().stats.clone()
    }

    /// The lines that are left, after a line that says how many are not.
    pub(crate) fn lines(&self) -> Vec<String> {
        let inner = self.inner.borrow();
        let head = format!("({} lines before)", inner.dropped);
        let head = (inner.dropped > 0).then_some(head);
        head.into_iter().chain(inner.lines.iter().cloned()).collect()
    }
}
