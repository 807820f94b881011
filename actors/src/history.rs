//! Recording what happens, for a [`History`](crate::port::History).
//!
//! * `options`: what an engine is told: whether a history is kept, where, and how much of it.
//! * `recorder`: where the actors say what happened. It waits for nothing, and holds a bounded number of records.
//! * `writer`: it hands on what was recorded to a history that takes its time, and asks it.
//! * `memory`, `job_row`: a history in the memory of this process.

mod job_row;
mod memory;
mod open_runs;
mod options;
mod pending;
mod recorder;
mod writer;

pub use self::{
    memory::MemoryHistory,
    options::{HISTORY_QUEUE_MIN, HistoryOptions},
};
pub(crate) use self::{open_runs::OpenRun, recorder::Recorder, writer::HistoryThread};
