//! Whom an event is about.

use super::kind::EventKind;
use crate::name::JobName;

impl EventKind {
    /// The job that the event is about, if it is about one.
    pub fn job(&self) -> Option<&JobName> {
        match self {
            Self::JobAdded { job, .. }
            | Self::JobRemoved { job, .. }
            | Self::JobUpdated { job, .. }
            | Self::JobPaused { job, .. }
            | Self::JobResumed { job, .. }
            | Self::JobRestarted { job, .. }
            | Self::JobBroken { job, .. }
            | Self::JobRevived { job }
            | Self::JobConflicting { job, .. }
            | Self::JobParked { job, .. }
            | Self::JobUnparked { job }
            | Self::JobOverdue { job, .. }
            | Self::JobRecovered { job, .. }
            | Self::BackfillStarted { job, .. }
            | Self::BackfillFinished { job, .. }
            | Self::BackfillCancelled { job, .. }
            | Self::TickHeld { job, .. }
            | Self::TickSkipped { job, .. }
            | Self::RunStarted { job, .. }
            | Self::RunProgressed { job, .. }
            | Self::RunRetried { job, .. }
            | Self::RunSucceeded { job, .. }
            | Self::RunFailed { job, .. }
            | Self::RunPanicked { job, .. }
            | Self::RunTimedOut { job, .. }
            | Self::RunCancelled { job, .. }
            | Self::RunLost { job, .. }
            | Self::LockContended { job, .. }
            | Self::LockUnavailable { job, .. }
            | Self::LockLost { job, .. } => Some(job),
            Self::LeadershipGained { .. }
            | Self::LeadershipLost { .. }
            | Self::CandidacyWithdrawn { .. }
            | Self::CandidacyRestored
            | Self::LeadershipUnavailable { .. }
            | Self::LeaderOverdue { .. }
            | Self::LeaderRecovered { .. }
            | Self::LeaseTooShort { .. }
            | Self::LeaseLongEnough { .. }
            | Self::ClockStepped { .. }
            | Self::ZoneDataChanged { .. }
            | Self::ZoneDataDiffers { .. }
            | Self::JobSetDrift { .. }
            | Self::HistoryDiverged { .. }
            | Self::ShutdownStarted { .. }
            | Self::ShutdownFinished { .. } => None,
        }
    }
}
