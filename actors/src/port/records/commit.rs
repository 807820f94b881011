//! What a store of records is asked to write, and what it answers.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    HINT_BYTES_MAX, RECORD_ID_MAX, RecordLimits, RecordName, RecordServer, RecordSession, RecordsError,
    Version, error::at_most,
};

/// Guards, and units that are made under them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// The sessions that must be alive when each unit is made: the client's own, and that of its term. At most
    /// [`ALIVE_MAX`](Self::ALIVE_MAX).
    pub alive: Vec<RecordSession>,
    /// The version that the [leader](super::RecordKind::Leader)'s record must have when each unit is made, unless
    /// it does not matter. Only a unit of a commit with a single unit changes that record; it names the same
    /// version then.
    pub leader: Option<Version>,
    /// The [server](super::Records::server) that must make the units, unless it does not matter.
    pub server: Option<RecordServer>,
    /// What is to be done. No record occurs twice in one unit, nor in two, except that several units may
    /// [keep](Change::Keep) the same one in the same version.
    pub units: Vec<Unit>,
}

/// Changes that are made together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    /// The records that it rests on and changes. One without records is made.
    pub records: Vec<RecordChange>,
    /// What subscribers are told once it is made, each at most [`HINT_BYTES_MAX`] bytes. One that is not made
    /// tells nothing.
    pub hints: Vec<Arc<[u8]>>,
}

/// What becomes of one record, and what it must be like before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordChange {
    /// Which one.
    pub name: RecordName,
    /// The version that it must have; [`Version::ABSENT`] if there must be none.
    pub version: Version,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it is only compared.
    Keep,
    /// It is written, and gets a new version, also if the bytes are the same.
    Put(Vec<u8>),
    /// It is deleted. Deleting one that is absent changes nothing.
    Delete,
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The guards held.
    Units {
        /// What became of each unit, in their order.
        answers: Vec<UnitAnswer>,
        /// The store's time at some instant between the call and its answer, if the store
        /// [has one](super::RecordTraits::time).
        time: Option<DateTime<Utc>>,
    },
    /// This session of [`Commit::alive`] is gone. Nothing was done.
    Dead(RecordSession),
    /// The leader's record has another version. Nothing was done.
    LeaderMoved,
    /// Another server than [`Commit::server`] would have made the units. Nothing was done.
    OtherServer,
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitAnswer {
    /// It was made.
    Made {
        /// The versions of its records from then on, in their order.
        versions: Vec<Version>,
    },
    /// A record has another version than it names. Nothing of the unit was done.
    Conflict,
}

impl Commit {
    /// The most sessions that guard a commit.
    pub const ALIVE_MAX: usize = 2;

    /// Checks it against the limits of a store and the rules of the port. Every adapter does so before it asks
    /// the store.
    ///
    /// # Errors
    ///
    /// [`RecordsError::OverLimit`], with the first limit or rule that it breaks.
    pub fn check(&self, limits: &RecordLimits) -> Result<(), RecordsError> {
        at_most("sessions that guard a commit", self.alive.len(), Self::ALIVE_MAX)?;
        at_most("units of a commit", self.units.len(), limits.units)?;
        let (mut records, mut bytes) = (0, 0);
        for unit in &self.units {
            at_most("records of a unit", unit.records.len(), limits.unit_records)?;
            records += unit.records.len();
            for change in &unit.records {
                at_most("bytes of the id of a record", change.name.id.len(), RECORD_ID_MAX)?;
                let written = change.change.bytes();
                at_most("bytes of a record", written, limits.record_bytes)?;
                bytes += written;
            }
            for hint in &unit.hints {
                at_most("bytes of a hint", hint.len(), HINT_BYTES_MAX)?;
            }
        }
        at_most("records of a commit", records, limits.commit_records)?;
        at_most("bytes of a commit", bytes, limits.commit_bytes)?;
        self.check_names(records)
    }

    /// A record occurs once, unless all that name it only compare it.
    fn check_names(&self, records: usize) -> Result<(), RecordsError> {
        if records < 2 {
            return Ok(());
        }
        let mut seen: HashMap<&RecordName, (usize, &RecordChange)> = HashMap::with_capacity(records);
        for (at, unit) in self.units.iter().enumerate() {
            for change in &unit.records {
                let Some((unit, before)) = seen.insert(&change.name, (at, change)) else { continue };
                let kept = unit != at && *before == *change && change.change == Change::Keep;
                at_most("times that a record is changed in a commit", if kept { 1 } else { 2 }, 1)?;
            }
        }
        Ok(())
    }
}

impl Change {
    /// How many bytes are written.
    fn bytes(&self) -> usize {
        match self {
            Self::Put(bytes) => bytes.len(),
            Self::Keep | Self::Delete => 0,
        }
    }
}
