//! The tests of the process once more, on the portable shell: `common/process.rs` goes by the name
//! of this test binary.
#![allow(
    clippy::duplicate_mod,
    reason = "each of them brings what it has in common with the others"
)]

#[path = "doors.rs"]
mod doors;
#[path = "examples.rs"]
mod examples;
#[path = "lifecycle.rs"]
mod lifecycle;
