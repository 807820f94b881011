//! Pausing and resuming jobs, and skipping what they have missed.

use actix::Message;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::selector::Selector;
use crate::{
    error::{PauseError, SkipMissedError},
    name::{By, JobName},
    note::{Attribution, says_who_and_why},
    port::Pause,
};

/// Pauses jobs on all nodes: their ticks do not run until they are [resumed](ResumeJobs), or until the pause
/// is over. Runs in progress go on, and manual triggers run. A tick that comes due meanwhile is *held*: it
/// runs if the job is resumed within its misfire window, and is skipped with the reason `paused` once that is
/// over or a newer tick takes its place: see [`Misfire`](crate::Misfire).
///
/// Answers the jobs that were not paused in this way before: asking twice is harmless. A
/// [`Local`](crate::Fires::Local) job is paused on this node.
///
/// # Errors
///
/// [`PauseError`]: a name was given, and no job of this node has it; the note or the end of the pause breaks
/// a rule; the store did not answer, or refuses some of the jobs for their data. The others may be paused
/// then.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<JobName>, PauseError>")]
#[non_exhaustive]
pub struct PauseJobs {
    /// Which jobs.
    pub jobs: Selector,
    /// Until when; `None`: until they are resumed.
    pub until: Option<DateTime<Utc>>,
    /// Why, for those who wonder; at most [`PAUSE_NOTE_MAX`](crate::PAUSE_NOTE_MAX) bytes.
    pub note: Option<String>,
    /// Who asks.
    pub by: Option<By>,
}

impl PauseJobs {
    /// Until they are resumed, without a note.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), until: None, note: None, by: None }
    }

    /// As this pause says: until when, why if it says so, and who asks if it names somebody.
    #[must_use]
    pub fn with(self, pause: Pause) -> Self {
        let Pause { until, note, by } = pause;
        Self { until, note: note.or(self.note), by: by.or(self.by), ..self }
    }

    /// Until then; `None`: until they are resumed.
    #[must_use]
    pub fn until(self, until: impl Into<Option<DateTime<Utc>>>) -> Self {
        Self { until: until.into(), ..self }
    }

    /// Why, for those who wonder; at most [`PAUSE_NOTE_MAX`](crate::PAUSE_NOTE_MAX) bytes.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Says who asks.
    #[must_use]
    pub fn by(self, by: impl Into<Option<By>>) -> Self {
        Self { by: by.into(), ..self }
    }
}

/// Ends the pause of jobs, on all nodes. Those of this node that are [broken](crate::JobState::Broken) fire
/// again, with a new budget of restarts, and those that are [parked](crate::JobState::Parked) are tried
/// again. What they missed is decided by their misfire policies. Answers those that were paused, broken or
/// parked.
///
/// # Errors
///
/// [`PauseError`]: a name was given, and no job of this node has it; the store did not answer, or refuses
/// some of the jobs for their data. The others may be resumed then.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<JobName>, PauseError>")]
pub struct ResumeJobs {
    pub(crate) jobs: Selector,
    pub(crate) asked: Attribution,
}

impl ResumeJobs {
    /// The selected jobs.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), asked: Attribution::default() }
    }
}

/// Skips everything that jobs have missed until now, and that is not decided: after a downtime, instead of letting
/// their [misfire policies](crate::Misfire) make up for it. Answers of each job how many ticks were skipped, none
/// included, once the store knows it.
///
/// What is meant is each tick that is due and has no run: missed ticks that wait for their
/// [turn](crate::EngineOptions::catch_up_per_second), for a run to end or for a permit, and those that a pause
/// holds. They are skipped with the reason [`operator`](crate::SkipReason::Operator). Runs in progress go on, a
/// tick that is being claimed runs if it is granted, and ticks that come due from now on are as ever. A lost run
/// that is to be [retried](crate::OnLost::Retry) is none of them: it had begun. [Cancel](crate::CancelRuns) it.
///
/// The cursors are moved by the node that decides: of a [`Leader`](crate::Fires::Leader) job the leader, of an
/// [`AnyNode`](crate::Fires::AnyNode) one each node, for all of them; of a [`Local`](crate::Fires::Local) one this
/// node for itself.
///
/// # Errors
///
/// [`SkipMissedError`]: a name was given, and no job of this node has it; another node
/// decides the ticks of some of the jobs, and which one leads, if that is known: ask there. Nothing
/// was skipped then. Or some jobs, or the store, did not answer: each has 5 s, and all of them together, however many
/// they are, have 30 s. The others were skipped; ask again, it does no harm.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<SkippedMissed>, SkipMissedError>")]
pub struct SkipMissed {
    pub(crate) jobs: Selector,
    pub(crate) asked: Attribution,
}

impl SkipMissed {
    /// What the selected jobs have missed.
    pub fn new(jobs: impl Into<Selector>) -> Self {
        Self { jobs: jobs.into(), asked: Attribution::default() }
    }
}

/// What was skipped of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SkippedMissed {
    /// The job.
    pub job: JobName,
    /// How many ticks.
    pub count: u64,
    /// There may have been more: counting stopped at its bound, 10,000.
    pub at_least: bool,
}

says_who_and_why!(ResumeJobs, SkipMissed);
