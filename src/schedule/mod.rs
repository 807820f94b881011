//! When jobs are due.
//!
//! | constructor | fires |
//! |---|---|
//! | [`cron`] | at the civil times of a five-field cron expression, in a time zone |
//! | [`every`] | once in every period, counted from an anchor that is the same on every node |
//! | [`at`] | at one instant, or at each of a list |
//!
//! A schedule is a pure rule: it answers the same on every node and after every restart, in whole milliseconds. The
//! constructors never fail; what they are given is checked when the job is added (all faults of all jobs are
//! reported together), or early by `check()`.
//!
//! Civil times (cron) become instants through one resolver, whose treatment of the hours that daylight saving time
//! removes and repeats is a stated policy: [`Gap`] and [`Fold`].
//!
//! ```
//! use callsheet::schedule::{IntoSchedule, Schedule, cron};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let standup = cron("30 9 * * MON-FRI").timezone("Europe/Lisbon").into_schedule()?;
//!
//! let friday_noon = "2026-03-27T12:00:00Z".parse()?;
//! let monday = standup.next_after(friday_noon).ok_or("none")?;
//!
//! // Between the two days the clocks in Lisbon went forward: half past nine is 08:30 UTC from now on.
//! assert_eq!(monday.to_rfc3339(), "2026-03-30T08:30:00+00:00");
//! assert_eq!(standup.to_string(), "cron 30 9 * * MON-FRI (Europe/Lisbon)");
//! # Ok(())
//! # }
//! ```

mod at;
mod civil;
mod cron;
mod dst;
mod duration;
mod every;
mod expression;
mod field;
mod instant;
mod normal;
mod pattern;
mod source;
mod zone;

pub use callsheet_actors::port::{IntoSchedule, Schedule};

pub use self::{
    at::{At, IntoInstants, at},
    cron::{Cron, cron},
    dst::{Fold, Gap},
    duration::parse_duration,
    every::{Every, every},
};
