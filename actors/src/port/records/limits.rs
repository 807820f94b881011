//! What a store of records takes, and what it can do.

use std::{ops::RangeInclusive, time::Duration};

use super::{RECORD_ID_MAX, RecordName, RecordSession, RecordsError, error::at_most};
use crate::core::duration::DurationText;

/// What one call may hold. The engine cuts what it asks accordingly; what breaks a limit all the same is
/// refused, see [`Commit::check`](super::Commit::check).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordLimits {
    /// The most records and sessions in one read. At least 64.
    pub reads: usize,
    /// The most units in one commit. At least 1: then each is a commit of its own.
    pub units: usize,
    /// The most records in one unit. At least 16.
    pub unit_records: usize,
    /// The most records in one commit, those that are kept included. At least as many as in one unit.
    pub commit_records: usize,
    /// The most bytes of one record. At least 64 KiB: a thousand pending retries of a job
    /// are one record.
    pub record_bytes: usize,
    /// The most bytes that one commit writes, without the names. At least as many as in one record.
    pub commit_bytes: usize,
    /// The times to live that sessions may have.
    pub ttl: RangeInclusive<Duration>,
}

impl RecordLimits {
    /// Checks a read. Every adapter does so before it asks the store.
    ///
    /// # Errors
    ///
    /// [`RecordsError::OverLimit`], with the first limit that it breaks.
    pub fn check_reads(&self, names: &[RecordName], sessions: &[RecordSession]) -> Result<(), RecordsError> {
        at_most("records and sessions of a read", names.len() + sessions.len(), self.reads)?;
        names.iter().try_for_each(|name| at_most("bytes of the id of a record", name.id.len(), RECORD_ID_MAX))
    }

    /// Checks the time to live of a session that is to be opened. Every adapter does so before it asks the
    /// store.
    ///
    /// # Errors
    ///
    /// [`RecordsError::Refused`] if the store takes no such time.
    pub fn check_ttl(&self, ttl: Duration) -> Result<(), RecordsError> {
        if self.ttl.contains(&ttl) {
            return Ok(());
        }
        let [ttl, least, most] = [ttl, *self.ttl.start(), *self.ttl.end()].map(DurationText);
        let reason =
            format!("a lease of {ttl}; the store keeps sessions for {least} to {most}: choose another lease");
        Err(RecordsError::Refused { reason })
    }
}

/// What a store can do beyond what every store can, and how well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTraits {
    /// What the store is called in health reports and errors: `redis`, `etcd`.
    pub name: &'static str,
    /// It answers its own time with every [snapshot](super::RecordSnapshot::time) and
    /// [commit](super::Records::commit). Otherwise the engine takes the time of the node.
    pub time: bool,
    /// Hints of one client reach the others. Otherwise nodes look now and then.
    pub hints: bool,
    /// Records outlive the processes that wrote them. A store in the memory of a process has no such records.
    pub durable: bool,
    /// How much longer than its time to live a session that is not renewed may live. The time within which a
    /// dead node is noticed grows by as much.
    pub expires_within: Duration,
}
