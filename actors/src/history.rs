//! Recording what happens, for a [`History`](crate::port::History).
//!
//! * `options`: what an engine is told: whether a history is kept, where, and how much of it.
//! * `recorder`: where the actors say what happened. It waits for nothing, and holds a bounded number of records.
//! * `attempts`: those of a run that failed, until it ends.
//! * `pending`: decisions that are counted together. `open_runs`: runs in progress.
//! * `collected`: records on their way, in parts. `dropped`: those that are not written are counted.
//! * `writer`: it hands on what was recorded to a history that takes its time, and asks it.
//! * `memory`: a history in the memory of this process. `job_row`: what such a one keeps of a job.

mod attempts;
mod collected;
mod dropped;
mod job_row;
mod memory;
mod open_runs;
mod options;
mod pending;
mod recorder;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    attempts::ATTEMPT_ERRORS_BYTES_MAX,
    job_row::JobRow,
    memory::MemoryHistory,
    options::{HISTORY_QUEUE_MIN, HistoryOptions},
};
pub(crate) use self::{
    attempts::Attempts,
    open_runs::OpenRun,
    recorder::Recorder,
    writer::{HistoryThread, Reader},
};
