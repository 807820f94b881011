//! Backfills: fire times of the past that are run once more, or at last, one after the other.
//!
//! A *row* of the store says what a backfill is and how far it is; [`BackfillMachine`] decides what the leader
//! does next. What holds over crashes follows from three rules:
//!
//! * A fire time is written to the row as *in flight* before a run of it is asked for.
//! * The run of a fire time has the same id whoever asks for it: see [`BackfillId::run`]. So a claim of it is
//!   granted once, as that of every run.
//! * A run is granted only while its fire time is in flight, and once. Of one that was granted the store knows
//!   whether and how it ended, however long ago that was, and whatever lock key the job has by now.
//!
//! Whoever drives the backfill next asks again for what is in flight, and no more.

mod id;
mod machine;
#[cfg(test)]
mod machine_tests;
mod row;
mod status;
#[cfg(test)]
mod walk;

pub(crate) use self::machine::{Asked, BackfillEffect, BackfillInput, BackfillMachine, Moved};
pub use self::{
    id::BackfillId,
    row::{BackfillMoved, BackfillProgress, BackfillPut, BackfillState, StoredBackfill},
    status::BackfillStatus,
};

use std::time::Duration;

/// The most fire times of a backfill.
pub const BACKFILL_TICKS_MAX: usize = 1_000;
/// The most backfills of a scope that are open at a time.
pub const BACKFILLS_OPEN_MAX: usize = 100;
/// How many backfills that are over are kept of a scope, the newest.
pub const BACKFILLS_KEPT_MAX: usize = 100;
/// The most runs of a backfill at a time.
pub const BACKFILL_CONCURRENT_MAX: u32 = 100;
/// The longest time from the start of one run of a backfill to that of the next.
pub const BACKFILL_SPACING_MAX: Duration = Duration::from_hours(24);
