//! What is asked of a node is done: by the messages that an application on it would send.

use actix::{Addr, MailboxError};
use tokio::time::Instant;
use tracing::Span;

use super::{
    super::{
        SupervisorActor,
        cancelling::{CancelRunHere, CancelRunsHere, CancelledHere, NotFound},
        pausing::{PauseUnwritten, ResumeUnwritten},
    },
    nodes::HowNow,
    serving::AwaitVersion,
    wire::{Ask, Reply},
};
use crate::{
    core::text::{TEXT_MAX, bounded},
    error::{ErrorKind, PauseError, TriggerError},
    job::JobState,
    message::{ActiveRuns, CancelRun, CancelRuns, JobDetails, ListJobs, PauseJobs, ResumeJobs, TriggerJob},
    name::JobName,
    note::Attribution,
};

/// Does what is asked, for whoever asks, who waits for it until an instant.
pub(super) async fn perform(
    node: &Addr<SupervisorActor>,
    ask: Ask,
    asked: Attribution,
    until: Instant,
) -> Reply {
    match performed(node, ask, asked, until).await {
        Ok(reply) => reply,
        Err(MailboxError::Closed | MailboxError::Timeout) => {
            Reply::refused(ErrorKind::Stopped, "the scheduler has stopped")
        }
    }
}

async fn performed(
    node: &Addr<SupervisorActor>,
    ask: Ask,
    asked: Attribution,
    until: Instant,
) -> Result<Reply, MailboxError> {
    Ok(match ask {
        Ask::Now => Reply::Now(node.send(HowNow).await?),
        Ask::Runs { limit } => Reply::Runs(node.send(ActiveRuns::default().limit(limit)).await?),
        Ask::CancelRun { run } => match node.send(CancelRunHere(CancelRun { run, asked })).await? {
            Ok(job) => Reply::Cancelled { runs: vec![(job, run)], is_partial: false },
            Err(NotFound::Unknown) => Reply::Unknown,
            Err(NotFound::Unanswered) => Reply::Cancelled { runs: Vec::new(), is_partial: true },
        },
        Ask::CancelRuns { jobs } => match node.send(CancelRunsHere(CancelRuns { jobs, asked })).await? {
            Ok(CancelledHere { runs, is_partial }) => Reply::Cancelled { runs, is_partial },
            Err(_) => Reply::Unknown,
        },
        Ask::Pause { jobs, until, note, written } => {
            let Attribution { by, note: why } = asked;
            let note = note.or_else(|| why.map(String::from));
            changed(node.send(PauseUnwritten(PauseJobs { jobs, until, note, by }, written)).await?)
        }
        Ask::Resume { jobs, written } => {
            changed(node.send(ResumeUnwritten(ResumeJobs { jobs, asked }, written)).await?)
        }
        Ask::Trigger { job, fire_time, arguments } => {
            let trigger =
                TriggerJob { job, fire_time, arguments: arguments.map(Ok), asked, request: Span::current() };
            match node.send(trigger).await? {
                Ok(run) => Reply::Triggered(run.triggered()),
                Err(TriggerError::UnknownJob { .. }) => Reply::Unknown,
                Err(error) => Reply::refused(error.kind(), bounded(error, TEXT_MAX)),
            }
        }
        Ask::Details { job } => match node.send(JobDetails(job)).await? {
            Some(status) => Reply::Details(Box::new(status)),
            None => Reply::Unknown,
        },
        Ask::List { prefix, tag, state, after, limit } => {
            Reply::Page(node.send(ListJobs { prefix, tag, state, after, limit }).await?)
        }
        Ask::Catalogue { version } => match node.send(AwaitVersion { version, until }).await? {
            Some(()) => Reply::Known,
            None => Reply::refused(ErrorKind::Unavailable, "it keeps to no catalogue"),
        },
    })
}

fn changed(answer: Result<Vec<JobName>, PauseError>) -> Reply {
    match answer {
        Ok(jobs) => Reply::Changed(jobs),
        Err(PauseError::Select(_)) => Reply::Unknown,
        Err(error) => Reply::refused(error.kind(), bounded(error, TEXT_MAX)),
    }
}

/// Whether a node can trigger a job that it has in this state, as far as is known.
pub(super) fn is_triggerable(state: JobState) -> bool {
    match state {
        JobState::Scheduled
        | JobState::Standby
        | JobState::Paused
        | JobState::Running
        | JobState::StillRunning
        | JobState::Exhausted => true,
        JobState::Conflicting
        | JobState::Parked
        | JobState::Broken
        | JobState::Unresponsive
        | JobState::Removed => false,
    }
}
