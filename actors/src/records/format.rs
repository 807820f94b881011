//! How records are written: MessagePack maps with short names, which any tool of that format shows.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    core::ledger::RetryRow,
    name::{JobName, LockKey, NodeId, RunId},
    port::{HINT_BYTES_MAX, RecordsError},
};

/// The format of the records of this version. A node refuses to coordinate over records of a newer one: it would
/// drop the fields that it does not know.
pub(super) const FORMAT: u32 = 1;

/// The one record that says in which format the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FormatRow {
    pub(super) format: u32,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LeaderRow {
    pub(super) term: u64,
    pub(super) node: NodeId,
    /// The session that lives as long as the term.
    pub(super) lives: u64,
    /// The version of the time zone data by which the leader goes; empty if it is not known.
    #[serde(default)]
    pub(super) zones: String,
}

/// What a session says of its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestRow {
    pub(super) node: NodeId,
    #[serde(default)]
    pub(super) zones: String,
    /// What people call the node; empty if it has no name.
    #[serde(default)]
    pub(super) name: String,
    /// It is a candidate, to whom others leave the lead that would rather not have it.
    pub(super) stands: bool,
}

/// Which server of the store answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerRow {
    pub(super) server: u64,
    /// Since when, in microseconds since 1970; `None`: it is the first one.
    #[serde(default)]
    pub(super) since: Option<i64>,
}

/// What leaders said last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct DecidedRow {
    /// The leader of this term said it.
    pub(super) term: u64,
    /// Since when a tick is due and not decided, in microseconds since 1970.
    #[serde(default)]
    pub(super) overdue: Option<i64>,
    /// How often a leader said that all is decided, and when it did last.
    pub(super) mark: u64,
    pub(super) at: i64,
    /// By when each missed tick that waits for its turn is to have begun, in microseconds since 1970.
    #[serde(default)]
    pub(super) catching_up_until: Option<i64>,
}

/// The pending retries of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct PendingRow {
    pub(super) retries: Vec<RetryRow>,
}

/// What nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hint {
    /// The leader changed, or nobody leads.
    Leader,
    /// The pause of a job changed.
    Pause(JobName),
    /// A run of a job was lost, and is to be retried.
    Retry(JobName, RunId),
    /// A run of a session, which has this key, is to stop.
    Stop(u64, RunId, LockKey),
}

/// A row as it is stored.
pub(super) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, RecordsError> {
    rmp_serde::to_vec_named(row).map_err(|error| unreadable(&error))
}

/// A row that was stored.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordsError> {
    rmp_serde::from_slice(bytes).map_err(|error| unreadable(&error))
}

/// A hint as it is told, if it is short enough, as all are.
pub(super) fn encode_hint(hint: &Hint) -> Option<std::sync::Arc<[u8]>> {
    let bytes = rmp_serde::to_vec(hint).ok()?;
    (bytes.len() <= HINT_BYTES_MAX).then(|| bytes.into())
}

fn unreadable(error: &dyn std::error::Error) -> RecordsError {
    let reason = format!("a record cannot be read: {error}; it was not written by this application's nodes");
    RecordsError::NotDone { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::NodeId;

    #[test]
    fn rows_are_read_as_they_were_written_and_fields_that_are_new_have_defaults() {
        let leader =
            LeaderRow { term: 7, node: NodeId::numbered(1), lives: u64::MAX, zones: "2031a".to_owned() };
        let bytes = encode(&leader).expect("it is encoded");
        assert_eq!(decode::<LeaderRow>(&bytes).expect("it is decoded"), leader);

        #[derive(Serialize)]
        struct Former {
            node: NodeId,
            stands: bool,
        }
        let former = encode(&Former { node: NodeId::numbered(1), stands: true }).expect("it is encoded");
        let read: ManifestRow = decode(&former).expect("it is decoded");
        assert_eq!(
            read,
            ManifestRow {
                node: NodeId::numbered(1),
                zones: String::new(),
                name: String::new(),
                stands: true
            }
        );
        assert!(decode::<LeaderRow>(b"not a row").is_err());
    }

    #[test]
    fn the_longest_hint_is_short_enough() {
        let job = JobName::new("x".repeat(crate::NAME_MAX)).expect("a name");
        let hint = Hint::Retry(job, RunId::from(uuid::Uuid::max()));
        let bytes = encode_hint(&hint).expect("it is short enough");
        assert_eq!(rmp_serde::from_slice::<Hint>(&bytes).expect("it is decoded"), hint);
    }
}
