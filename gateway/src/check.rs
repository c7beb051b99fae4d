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

/// Opens and recovers the data directory at `data`, reads everything in it and compares it. Takes
/// as long as reading the whole database does.
///
/// # Errors
/// The directory is in use, foreign or damaged, or a record cannot be decoded; what contradicts is
/// in the report.
pub fn check(data: &Path, limits: &Limits) -> Result<Checked, StoreError> {
    let (store, recovery) = Store::open(data, &limits.store)?;
    let report = store.check()?;
    Ok(Checked { recovery, report })
}
