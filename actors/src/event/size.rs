//! How much memory an event takes that waits for a subscriber.

use super::EventKind;
use crate::{name::By, port::DivergedRun};

impl EventKind {
    /// How many bytes its texts take, but for the name of the job, which it shares with the job.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::JobPaused { pause, .. } => {
                pause.note.as_ref().map_or(0, String::len) + by_bytes(pause.by.as_ref())
            }
            Self::JobAdded { by, .. }
            | Self::JobRemoved { by, .. }
            | Self::JobUpdated { by, .. }
            | Self::JobResumed { by, .. }
            | Self::BackfillStarted { by, .. }
            | Self::BackfillCancelled { by, .. }
            | Self::RunStarted { by, .. } => by_bytes(by.as_ref()),
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
            Self::JobRestarted { .. }
            | Self::JobRevived { .. }
            | Self::JobUnparked { .. }
            | Self::JobOverdue { .. }
            | Self::JobRecovered { .. }
            | Self::BackfillFinished { .. }
            | Self::TickHeld { .. }
            | Self::TickSkipped { .. }
            | Self::RunProgressed { .. }
            | Self::RunSucceeded { .. }
            | Self::RunTimedOut { .. }
            | Self::RunLost { .. }
            | Self::LockContended { .. }
            | Self::LockLost { .. }
            | Self::LeadershipGained { .. }
            | Self::LeadershipLost { .. }
            | Self::LeaderOverdue { .. }
            | Self::LeaderRecovered { .. }
            | Self::CandidacyRestored
            | Self::LeaseTooShort { .. }
            | Self::LeaseLongEnough { .. }
            | Self::ClockStepped { .. }
            | Self::JobSetDrift { .. }
            | Self::ShutdownStarted { .. }
            | Self::ShutdownFinished { .. } => 0,
        }
    }
}

fn by_bytes(by: Option<&By>) -> usize {
    by.map_or(0, |by| by.as_str().len())
}
