//! Records and sessions as a value.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::port::{
    Change, Commit, Committed, ListedRecord, RecordKind, RecordName, RecordPage, RecordSession,
    RecordSnapshot, StoredRecord, Unit, UnitAnswer, Version,
};

/// Records and sessions as a value: the rules of the port [`Records`](crate::port::Records), for a store that keeps
/// the whole of them in one place, such as a file or an object that is replaced if it is still the same.
///
/// Such an adapter loads it, lets it [expire](Self::expire), makes one call, stores it if that changed anything, and
/// answers, while nobody else does. `conformance::records` tells whether that is so. With serde it is a map in any
/// format
/// whose keys are texts.
///
/// Its clock is whatever the adapter says: a time since some instant that is the same for all clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordTable {
    /// The last version or session that was given: a number of the whole table, which never comes back.
    last: u64,
    /// By kind and id: the version and the bytes.
    records: BTreeMap<String, (u64, Vec<u8>)>,
    /// For how long each lives, and until when.
    sessions: BTreeMap<u64, (Duration, Duration)>,
}

impl RecordTable {
    /// Gives no version or session that another table gave, whose place it takes.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn follow(&mut self, former: &Self) {
        self.last = self.last.max(former.last);
    }

    /// Ends the sessions whose time is over, for good.
    pub fn expire(&mut self, now: Duration) {
        self.sessions.retain(|_, (_, until)| *until > now);
    }

    /// Opens a session.
    pub fn open(&mut self, now: Duration, ttl: Duration) -> RecordSession {
        self.last += 1;
        self.sessions.insert(self.last, (ttl, now.saturating_add(ttl)));
        RecordSession(self.last)
    }

    /// Lets a session live on: whether it was alive.
    pub fn renew(&mut self, now: Duration, RecordSession(session): RecordSession) -> bool {
        let Some((ttl, until)) = self.sessions.get_mut(&session) else { return false };
        *until = now.saturating_add(*ttl);
        true
    }

    /// Ends a session.
    pub fn end(&mut self, RecordSession(session): RecordSession) {
        self.sessions.remove(&session);
    }

    fn is_alive(&self, RecordSession(session): RecordSession) -> bool {
        self.sessions.contains_key(&session)
    }

    fn stored(&self, name: &RecordName) -> StoredRecord {
        self.records.get(&name.to_string()).map_or(StoredRecord::ABSENT, stored)
    }

    fn version_of(&self, name: &RecordName) -> Version {
        self.records.get(&name.to_string()).map_or(Version::ABSENT, |(version, _)| Version(*version))
    }

    /// Reads records and sessions. `time` is answered with them.
    pub fn read(
        &self,
        names: &[RecordName],
        sessions: &[RecordSession],
        time: Option<DateTime<Utc>>,
    ) -> RecordSnapshot {
        let records = names.iter().map(|name| self.stored(name)).collect();
        RecordSnapshot {
            records,
            alive: sessions.iter().map(|session| self.is_alive(*session)).collect(),
            time,
        }
    }

    /// Makes the units whose versions are the present ones, if the guards hold; [`Commit::server`] is for whoever has
    /// several servers. `time` is answered with that.
    pub fn commit(&mut self, commit: &Commit, time: Option<DateTime<Utc>>) -> Committed {
        if let Some(dead) = commit.alive.iter().find(|session| !self.is_alive(**session)) {
            return Committed::Dead(*dead);
        }
        let leader = self.version_of(&RecordName::only(RecordKind::Leader));
        if commit.leader.is_some_and(|expected| expected != leader) {
            return Committed::LeaderMoved;
        }
        Committed::Units { answers: commit.units.iter().map(|unit| self.make(unit)).collect(), time }
    }

    fn make(&mut self, unit: &Unit) -> UnitAnswer {
        if unit.records.iter().any(|change| self.version_of(&change.name) != change.version) {
            return UnitAnswer::Conflict;
        }
        let mut versions = Vec::with_capacity(unit.records.len());
        for change in &unit.records {
            versions.push(match &change.change {
                Change::Keep => change.version,
                Change::Put(bytes) => {
                    self.last += 1;
                    self.records.insert(change.name.to_string(), (self.last, bytes.clone()));
                    Version(self.last)
                }
                Change::Delete => {
                    self.records.remove(&change.name.to_string());
                    Version::ABSENT
                }
            });
        }
        UnitAnswer::Made { versions }
    }

    /// The records of a kind after an id, at most so many.
    pub fn list(&self, kind: RecordKind, after: Option<&str>, limit: usize) -> RecordPage {
        let of = |id: &str| RecordName::new(kind, id).to_string();
        let (prefix, after) = (of(""), after.map(of));
        let from = after.clone().unwrap_or_else(|| prefix.clone());
        let later = self.records.range(from..).skip_while(|(name, _)| Some(*name) == after.as_ref());
        let mut of_kind = later.map_while(|(name, record)| Some((name.strip_prefix(&prefix)?, record)));
        let listed = of_kind.by_ref().take(limit);
        let records =
            listed.map(|(id, record)| ListedRecord { id: id.into(), record: stored(record) }).collect();
        RecordPage { records, more: of_kind.next().is_some() }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

fn stored((version, bytes): &(u64, Vec<u8>)) -> StoredRecord {
    StoredRecord { version: Version(*version), bytes: bytes.clone() }
}
