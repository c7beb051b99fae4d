//! Sessions that are open and say nothing but heartbeats.

use super::Script;

/// The script of `idle`: the engine does it all.
#[derive(Debug, Default)]
pub(crate) struct Idle;

impl Script for Idle {}
