//! What was found, in the form in which it is told: stable names for scripts.

use serde::Serialize;

use super::plan::Plan;

/// The whole answer. `docs/operations.md` lists its fields; scripts go by them.
#[derive(Serialize, Debug)]
pub(crate) struct Report {
    /// The version of the program.
    pub(crate) mooring: &'static str,
    /// The target.
    pub(crate) sessions: u64,
    pub(crate) answer: Answer,
    pub(crate) capacity: Capacity,
    pub(crate) serve: Plan,
    pub(crate) findings: Vec<Finding>,
}

/// Whether the machine carries the target; its exit status.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Fit,
    Unfit,
    Unknown,
}

/// Sessions that the machine carries as it stands.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capacity {
    /// None if nothing that bounds them could be read.
    pub(crate) sessions: Option<u64>,
    /// The finding that bounds them.
    pub(crate) narrowest: Option<&'static str>,
}

/// One thing that was looked at.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) verdict: Verdict,
    /// What there is.
    pub(crate) found: String,
    /// What the target needs, or why it matters.
    pub(crate) needed: String,
    /// Sessions that it permits, if it bounds them.
    pub(crate) capacity: Option<u64>,
    /// How to mend it: a command, or a line of a file.
    pub(crate) mend: Option<String>,
    /// Whether there is no answer while this is unknown.
    #[serde(skip)]
    pub(crate) decides: bool,
}

/// What a finding means for the target, mildest first.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Fits,
    /// The target is reached, but something is slower or dearer than it need be.
    Hinders,
    Unknown,
    /// The target is not reached.
    Blocks,
}

impl Finding {
    pub(crate) fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        let (needed, capacity, mend) = (String::new(), None, None);
        Self { name, verdict, found: found.into(), needed, capacity, mend, decides: false }
    }

    /// A value could not be had.
    pub(crate) fn unknown(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Verdict::Unknown, why)
    }

    pub(crate) fn needs(mut self, needed: impl Into<String>) -> Self {
        self.needed = needed.into();
        self
    }

    pub(crate) fn permits(mut self, sessions: u64) -> Self {
        self.capacity = Some(sessions);
        self
    }

    pub(crate) fn decides(mut self) -> Self {
        self.decides = true;
        self
    }

    /// Kept only where there is something to mend.
    pub(crate) fn mend(mut self, how: impl Into<String>) -> Self {
        if self.verdict != Verdict::Fits {
            self.mend = Some(how.into());
        }
        self
    }
}

impl Report {
    /// Sums the findings up.
    pub(crate) fn new(sessions: u64, serve: Plan, findings: Vec<Finding>) -> Self {
        let any = |verdict, decides: bool| {
            findings.iter().any(|it| it.verdict == verdict && (it.decides || !decides))
        };
        let answer = if any(Verdict::Blocks, false) {
            Answer::Unfit
        } else if any(Verdict::Unknown, true) {
            Answer::Unknown
        } else {
            Answer::Fit
        };
        let narrowest = findings
            .iter()
            .filter_map(|it| it.capacity.map(|sessions| (sessions, it.name)))
            .min_by_key(|(sessions, _)| *sessions);
        let (least, name) = narrowest.unzip();
        let capacity = Capacity { sessions: least, narrowest: name };
        Self { mooring: env!("CARGO_PKG_VERSION"), sessions, answer, capacity, serve, findings }
    }
}
