//! Callsheet, a job scheduler for actix applications.

pub mod schedule;
