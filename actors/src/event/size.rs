//! How much memory an event takes that waits for a subscriber.

use super::EventKind;
use crate::port::DivergedRun;

impl EventKind {
    /// How many bytes its texts take, but for the name of the job, which it shares with the job.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::JobPaused { pause, .. } => pause.note.as_ref().map_or(0, String::len),
            Self::JobBroken { reason: text, .. }
            | Self::JobConflicting { reason: text, .. }
            | Self::JobParked { reason: text, .. }
            | Self::RunRetried { error: text, .. }
            | Self::RunFailed { error: text, .. }
            | Self::RunPanicked { message: text, .. }
            | Self::CandidacyWithdrawn { reason: text, .. } => text.len(),
            Self::RunCancelled { reason, .. } => reason.as_ref().map_or(0, |text| text.len()),
            Self::LockUnavailable { reason, .. } | Self::LeadershipUnavailable { reason } => reason.len(),
            Self::ZoneDataChanged { from, to } => from.len() + to.len(),
            Self::ZoneDataDiffers { own, other, .. } => own.len() + other.len(),
            Self::HistoryDiverged { runs, .. } => {
                runs.iter().map(|run| size_of::<DivergedRun>() + run.job.as_str().len()).sum()
            }
            Self::JobAdded { .. }
            | Self::JobRemoved { .. }
            | Self::JobUpdated { .. }
            | Self::JobResumed { .. }
            | Self::JobRestarted { .. }
            | Self::JobRevived { .. }
            | Self::JobUnparked { .. }
            | Self::TickHeld { .. }
            | Self::TickSkipped { .. }
            | Self::RunStarted { .. }
            | Self::RunSucceeded { .. }
            | Self::RunTimedOut { .. }
            | Self::RunLost { .. }
            | Self::LockContended { .. }
            | Self::LockLost { .. }
            | Self::LeadershipGained { .. }
            | Self::LeadershipLost { .. }
            | Self::CandidacyRestored
            | Self::LeaseTooShort { .. }
            | Self::LeaseLongEnough { .. }
            | Self::ClockStepped { .. }
            | Self::ShutdownStarted { .. }
            | Self::ShutdownFinished { .. } => 0,
        }
    }
}
