//! What stores of records on SQL databases share: the records of a scope are rows of one table, its sessions rows of
//! another.
//!
//! * `plan`: which rows a commit locks, in which order, and what it writes once they are read.
//! * `lane`: a connection that makes one call at a time, made again when it is lost, and the deadline of every call.
//! * `names`: the column of a record's name.

pub(super) mod lane;
pub(super) mod names;
pub(super) mod plan;

use std::{ops::RangeInclusive, time::Duration};

use callsheet_actors::{
    adapter::Backoff,
    port::{RecordLimits, RecordsError},
};
use tokio::time::sleep;

use self::lane::Failure;
use super::random::random;

/// For how long what a silent node holds is kept, unless given.
pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(15);
pub(super) const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest deadline unless given.
pub(super) const DEADLINE_DEFAULT: Duration = Duration::from_secs(2);
/// The times to live that sessions may have.
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// The most records of a page of a list: 16 MiB, if all are as large as they may be.
pub(super) const PAGE_MAX: usize = 256;
/// How many sessions that are long gone are deleted when another one is opened.
pub(super) const SWEPT_MAX: usize = 64;
/// How often a call is made that the server rolled back for what others did at the same time.
pub(super) const TRIES_MAX: usize = 6;
/// The pauses in between.
const TRY_AGAIN_MIN: Duration = Duration::from_millis(2);
const TRY_AGAIN_MAX: Duration = Duration::from_millis(50);
/// How long one statement waits for a row that somebody else has locked.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// What one call may hold.
pub(super) fn limits() -> RecordLimits {
    RecordLimits {
        // 16 MiB, if all are as large as they may be.
        reads: 256,
        units: 1_024,
        unit_records: 256,
        commit_records: 2_048,
        record_bytes: 64 * 1_024,
        commit_bytes: 1_024 * 1_024,
        ttl: TTL,
    }
}

/// A time to live as a number of microseconds: never less than asked for.
pub(super) fn micros(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// What became of one try.
pub(super) enum Tried<T> {
    Done(T),
    /// The server rolled it back for what others did at the same time.
    Again,
}

/// The tries of one call.
pub(super) struct Tries {
    left: usize,
    backoff: Backoff,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { left: TRIES_MAX, backoff: Backoff::new(TRY_AGAIN_MIN, TRY_AGAIN_MAX, random()) }
    }

    /// Waits for a moment after one that failed, unless it was the last one.
    pub(super) async fn failed(&mut self) -> Result<(), Failure> {
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            sleep(self.backoff.failed()).await;
            return Ok(());
        }
        Err(Failure::Answered(RecordsError::NotDone {
            reason: format!(
                "the server rolled it back {TRIES_MAX} times for what others did at the same time; it is asked again"
            ),
        }))
    }
}
