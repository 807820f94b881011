//! How the history is told who did what to which job.
//!
//! Pauses are recorded where they are [told](super::pausing) to the jobs. Nothing is decided here.

use std::sync::Arc;

use super::SupervisorActor;
use crate::{
    name::{By, JobName},
    node::Node,
    port::{JobOperation, OperationRecord},
};

/// Records what somebody did to a job.
pub(super) fn record(
    node: &Node,
    job: &JobName,
    operation: JobOperation,
    by: Option<&By>,
    note: impl FnOnce() -> Option<Arc<str>>,
) {
    node.recorder.operation(|| {
        let record = OperationRecord::new(job.clone(), operation, node.store_time(), node.id);
        OperationRecord { by: by.cloned(), note: note(), ..record }
    });
}

impl SupervisorActor {
    /// Records what somebody did to a job, without more words.
    pub(super) fn record(&self, job: &JobName, operation: JobOperation, by: Option<&By>) {
        record(self.node(), job, operation, by, || None);
    }
}
