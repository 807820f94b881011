//! Decides: values and state machines. No actix, no tokio, no clock, no I/O.
//!
//! What adapters of ports need of it is public in [`adapter`](crate::adapter); what applications name, at the
//! root of this crate.

pub(crate) mod alarm;
pub(crate) mod backfill;
pub(crate) mod backoff;
pub(crate) mod bisect;
pub(crate) mod byte_budget;
pub(crate) mod catalogue;
pub(crate) mod clock;
pub(crate) mod contract;
pub(crate) mod control;
pub(crate) mod due_queue;
pub(crate) mod due_ticks;
pub(crate) mod duration;
pub(crate) mod election;
pub(crate) mod end_text;
pub(crate) mod enrolling;
pub(crate) mod failures;
pub(crate) mod firing;
pub(crate) mod job;
pub(crate) mod key_policies;
pub(crate) mod ledger;
pub(crate) mod log_budget;
pub(crate) mod misfire;
pub(crate) mod operation;
pub(crate) mod outcome;
pub(crate) mod own_arguments;
pub(crate) mod pacer;
pub(crate) mod pause;
pub(crate) mod policy;
pub(crate) mod reported;
pub(crate) mod restarts;
pub(crate) mod round_trip;
pub(crate) mod seldom;
pub(crate) mod skip;
pub(crate) mod step_down;
pub(crate) mod storable;
pub(crate) mod suspects;
pub(crate) mod sweep;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod trials;
pub(crate) mod undelivered;
pub(crate) mod witnesses;
pub(crate) mod zone_data;
