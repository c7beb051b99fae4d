//! What a gateway says of itself.

use serde::{Deserialize, Serialize};

/// A gateway's id and region: a name that stands in paths of ZooKeeper.
pub const ID_BYTES_MAX: usize = 64;

/// A gateway as it makes itself known. Fields of later versions are ignored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name among all gateways; letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// Where clients connect: `ws://` or `wss://`.
    pub url: String,
    /// Where it stands; clients are sent to their own region first.
    pub region: String,
    /// What it runs, as a number that grows with each release.
    pub release: u64,
    /// Sessions it has.
    pub sessions: u64,
    /// Sessions it may have.
    pub sessions_max: u64,
    /// It sends its clients away.
    pub draining: bool,
}

/// A rollout in progress.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Rollout {
    /// What all are to run when it is over: gateways of an earlier one go some time.
    pub release: u64,
    /// Gateways that are about to go, by their ids: they get nobody any more.
    #[serde(default)]
    pub next: Vec<String>,
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A field breaks a rule.
    #[error("{field}: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// Not JSON of a record.
    #[error("not a gateway's record: {0}")]
    Json(#[from] serde_json::Error),
}

impl Record {
    /// Looks at what the types cannot say.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn check(&self) -> Result<(), RecordError> {
        let wrong = |field, problem| Err(RecordError::Field { field, problem });
        if !is_name(&self.id) {
            return wrong("id", "1 to 64 letters, digits, `-`, `_` or `.`");
        }
        if !is_name(&self.region) {
            return wrong("region", "1 to 64 letters, digits, `-`, `_` or `.`");
        }
        if !["ws://", "wss://"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return wrong("url", "must begin with ws:// or wss://");
        }
        Ok(())
    }

    /// As it stands in ZooKeeper.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers")
    }

    /// From what stands in ZooKeeper.
    ///
    /// # Errors
    /// Not JSON of a record, or a field breaks a rule.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_slice(bytes)?;
        record.check()?;
        Ok(record)
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // `.` and `..` mean something else in a path.
    (1..=ID_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_part)
        && name.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            id: "gw-1".into(),
            url: "ws://127.0.0.1:7700".into(),
            region: "eu".into(),
            release: 3,
            sessions: 4,
            sessions_max: 5,
            draining: false,
        }
    }

    #[test]
    fn a_record_is_read_back_and_fields_of_later_versions_are_ignored() {
        assert_eq!(Record::from_json(&record().to_json()).unwrap(), record());
        let later = String::from_utf8(record().to_json()).unwrap().replace("{", "{\"later\":1,");
        assert_eq!(Record::from_json(later.as_bytes()).unwrap(), record());
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_refused_by_its_field() {
        type Change = fn(&mut Record);
        let rows: [(&str, Change); 6] = [
            ("id", |record| record.id.clear()),
            ("id", |record| record.id = "..".into()),
            ("id", |record| record.id = "a/b".into()),
            ("id", |record| record.id = "a".repeat(ID_BYTES_MAX + 1)),
            ("region", |record| record.region = "e u".into()),
            ("url", |record| record.url = "http://x".into()),
        ];
        for (field, change) in rows {
            let mut record = record();
            change(&mut record);
            let error = record.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
