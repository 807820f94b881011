//! What a store of records answers to those who read.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Version;

/// A record as it was at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Which write it is of; [`Version::ABSENT`] if there is no such record.
    pub version: Version,
    /// What was written; empty if there is no such record.
    pub bytes: Vec<u8>,
}

impl StoredRecord {
    /// No such record.
    pub const ABSENT: Self = Self { version: Version::ABSENT, bytes: Vec::new() };
}

/// Records and sessions, all as at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSnapshot {
    /// The records, in the order in which they were asked for.
    pub records: Vec<StoredRecord>,
    /// Which sessions are alive, in the order in which they were asked for. `false` is final.
    pub alive: Vec<bool>,
    /// The store's time at some instant between the call and its answer, if the store
    /// [has one](super::RecordTraits::time): microseconds or better.
    pub time: Option<DateTime<Utc>>,
}

/// A record of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRecord {
    /// Which one of its kind.
    pub id: Arc<str>,
    /// What is in it.
    pub record: StoredRecord,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordPage {
    /// In the order of their ids.
    pub records: Vec<ListedRecord>,
    /// There may be more after the last one: ask again. A page that is empty has no more.
    pub more: bool,
}
