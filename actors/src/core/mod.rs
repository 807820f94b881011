//! Decides: values and state machines. No actix, no tokio, no clock, no I/O.
//!
//! It is public for those who read and simulate the decisions, and may change in any release.

pub mod backoff;
pub mod bisect;
pub(crate) mod byte_budget;
pub mod clock;
pub mod contract;
pub mod duration;
pub mod election;
pub mod end_text;
pub mod failures;
pub mod job;
pub mod ledger;
pub mod log_budget;
pub mod misfire;
pub mod operation;
pub mod outcome;
pub mod pause;
pub mod policy;
pub mod restarts;
pub mod round_trip;
pub mod seldom;
pub mod skip;
pub mod step_down;
pub mod storable;
pub mod suspects;
pub mod sweep;
pub mod text;
pub mod time;
pub mod trials;
pub mod undelivered;
pub mod witnesses;
pub mod zone_data;
