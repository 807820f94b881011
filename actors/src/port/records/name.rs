//! What records and sessions are called.

use std::{fmt, sync::Arc};

/// The longest id of a record, in bytes.
pub const RECORD_ID_MAX: usize = 256;

/// What a record is about. Records of different kinds never share a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// In which format the records of the scope are written; one record.
    Format,
    /// Who leads; one record, which [`Commit::leader`](super::Commit::leader) guards.
    Leader,
    /// Up to where names were forgotten; one record.
    Floor,
    /// What leaders said last about what is due; one record.
    Decided,
    /// What the newest leader leaves to the next one; one record.
    Handover,
    /// Which server of the store answered last, and since when; one record.
    Server,
    /// What a session says of its node; by the session.
    Manifest,
    /// A job, a lock key, or both of one name.
    Name,
    /// The pending retries of a job.
    Pending,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Format,
        Self::Leader,
        Self::Floor,
        Self::Decided,
        Self::Handover,
        Self::Server,
        Self::Manifest,
        Self::Name,
        Self::Pending,
    ];

    /// Short lower-case letters that never change, for the names under which a store keeps records.
    pub fn code(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Leader => "leader",
            Self::Floor => "floor",
            Self::Decided => "decided",
            Self::Handover => "handover",
            Self::Server => "server",
            Self::Manifest => "session",
            Self::Name => "name",
            Self::Pending => "pending",
        }
    }
}

/// The name of a record.
///
/// The id is any text of at most [`RECORD_ID_MAX`] bytes, empty where a kind has one record. It may hold any
/// character that names of jobs may: quotes, slashes, colons and white space among them, and no control
/// characters. Ids are compared byte by byte: `a` is not `A`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordName {
    /// What it is about.
    pub kind: RecordKind,
    /// Which one.
    pub id: Arc<str>,
}

impl RecordName {
    /// The record of a kind with this id.
    pub fn new(kind: RecordKind, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The one record of a kind that has one.
    pub fn only(kind: RecordKind) -> Self {
        Self::new(kind, "")
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.code(), self.id)
    }
}

/// A session of a client: a lease on the life of its node, or of its term.
///
/// Never 0, and never used again: random, or given by the store. With ids of 64 random bits a store that opens
/// a session every second for a hundred years meets one id twice with a probability of less than one in a
/// million, and then after the first one has long gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordSession(pub u64);

/// Which server of a store answers. Opaque: equal or not.
///
/// Each start of a server gives it a number that no server of the store ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordServer(pub u64);

/// Which write of a record it is. Opaque: equal or not.
///
/// Each write gives a record a version that it never had, also if it was deleted in between: a counter of its
/// own that starts again does not do, a counter of the store or a random number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(pub u64);

impl Version {
    /// There is no such record.
    pub const ABSENT: Self = Self(0);

    /// Whether there is such a record.
    pub fn is_present(self) -> bool {
        self != Self::ABSENT
    }
}
