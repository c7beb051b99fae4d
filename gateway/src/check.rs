//! A data directory that no gateway uses, looked through.

use std::path::Path;

use store::{CheckReport, RecoveryReport, Store, StoreError};

use crate::limits::Limits;

/// What was found.
#[derive(Debug)]
pub struct Checked {
    /// What recovery did before the check, as at a start.
    pub recovery: RecoveryReport,
    /// What the check found.
    pub report: CheckReport,
}

/// What to do if the log has lost what was on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Refuse, and leave the directory as it is.
    Refused,
    /// Go on with what can be read, under a new epoch: every device loads anew.
    Accepted,
}

/// Opens and recovers the data directory at `data`, reads everything in it and compares it. Takes
/// as long as reading the whole database does.
///
/// # Errors
/// The directory is in use, foreign or damaged, its log has lost something that is not accepted, or
/// a record cannot be decoded; what contradicts is in the report.
pub fn check(data: &Path, limits: &Limits, loss: Loss) -> Result<Checked, StoreError> {
    let (store, recovery) = match loss {
        Loss::Refused => Store::open(data, &limits.store)?,
        Loss::Accepted => Store::open_accepting_loss(data, &limits.store)?,
    };
    let report = store.check()?;
    Ok(Checked { recovery, report })
}
