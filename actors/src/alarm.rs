//! The alarm of one job, shared by its actor, its bodies and the supervisor.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::alarm::Alarm;

/// The alarm of one job. Jobs of which nothing is expected have none.
#[derive(Debug)]
pub(crate) struct JobAlarm(Mutex<Alarm>);

impl JobAlarm {
    pub(crate) fn new(alarm: Alarm) -> Self {
        Self(Mutex::new(alarm))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Alarm> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
