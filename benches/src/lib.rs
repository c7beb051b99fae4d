//! What the baselines in `runtimes/` share: pinned threads, rounds, and a report that says on what
//! it was measured. The benches of single stages are in `benches/`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod echo;
pub mod options;
pub mod report;
pub mod rounds;
pub mod sides;
pub mod stopwatch;
pub mod subjects;
pub mod threads;
