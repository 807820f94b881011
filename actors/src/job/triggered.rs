//! What becomes of a manual trigger.

use std::pin::pin;

use futures_util::future::{Either, select};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::{
    core::job::Refusal,
    error::TriggerError,
    event::Outcome,
    name::{JobName, RunId},
    run::Origin,
};

/// A run that was triggered, whose end can be waited for.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct TriggeredRun {
    triggered: Triggered,
    /// Dropped with the job's actor, unless the run ends before.
    #[serde(skip)]
    end: oneshot::Receiver<Outcome>,
    /// The engine has stopped.
    #[serde(skip)]
    over: CancellationToken,
}

impl TriggeredRun {
    pub(crate) fn new(
        triggered: Triggered,
        end: oneshot::Receiver<Outcome>,
        over: CancellationToken,
    ) -> Self {
        Self { triggered, end, over }
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.triggered.run()
    }

    /// Whether it has started, or waits for its turn.
    pub fn triggered(&self) -> Triggered {
        self.triggered
    }

    /// Waits until the run has ended, and answers how. There is always an answer:
    ///
    /// | what happens | the answer |
    /// |---|---|
    /// | its body ends, after its last attempt, and the store has recorded it | that of its last attempt |
    /// | it waits for its turn and is dropped: it is cancelled, its job is removed, the node shuts down | [`Cancelled`](Outcome::Cancelled) |
    /// | a `before` hook vetoes it | [`Cancelled`](Outcome::Cancelled) |
    /// | the node's session with the store is lost | [`Lost`](Outcome::Lost); it may [go on](crate::OnLost::Retry), on any node |
    /// | a shutdown leaves it behind, since it does not end | [`Lost`](Outcome::Lost) |
    ///
    /// A body that waits for a run of its own job, or of its own lock key, waits for itself.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends no run.
    pub async fn finished(self) -> Outcome {
        let Self { end, over, .. } = self;
        let over = pin!(over.cancelled());
        match select(end, over).await {
            Either::Left((outcome, _)) => outcome.unwrap_or(Outcome::Lost),
            // It may have ended just before.
            Either::Right(((), mut end)) => end.try_recv().unwrap_or(Outcome::Lost),
        }
    }
}

/// What is known of who asked for a run.
pub(super) struct Asked {
    pub(super) run: RunId,
    pub(super) origin: Origin,
    /// The span in which it was asked for, until the run starts.
    pub(super) request: Option<Span>,
}

impl Asked {
    pub(super) fn new(run: RunId, origin: Origin) -> Self {
        Self { run, origin, request: None }
    }
}

/// Who waits to hear what became of a run.
pub(super) enum TriggerReply {
    /// Whoever triggered the job.
    Caller(oneshot::Sender<Result<TriggeredRun, TriggerError>>),
    /// The leader, of a run of a backfill.
    Leader(oneshot::Sender<Result<TriggeredRun, Refusal>>),
}

/// What became of a manual trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "run", rename_all = "snake_case")]
pub enum Triggered {
    /// The run has started.
    Started(RunId),
    /// The run starts when its turn comes, unless the node dies before. If it is dropped (the node shuts
    /// down, the job is removed from it, the runs are cancelled),
    /// [`RunCancelled`](crate::EventKind::RunCancelled) says so.
    Queued(RunId),
}

impl Triggered {
    /// The run.
    pub fn run(self) -> RunId {
        match self {
            Self::Started(run) | Self::Queued(run) => run,
        }
    }
}

/// Why a job was not triggered, as its caller is told.
pub(super) fn not_triggered(job: &JobName, refusal: Refusal) -> TriggerError {
    let job = job.clone();
    match refusal {
        Refusal::Overlap { holder } => TriggerError::Overlap { job, holder },
        Refusal::Concurrency => TriggerError::Concurrency { job },
        Refusal::Cancelled => TriggerError::Cancelled { job },
        Refusal::Closing => TriggerError::ShuttingDown,
        Refusal::Unavailable { reason } => TriggerError::Unavailable { job, reason },
        Refusal::Parked { reason } => TriggerError::Parked { job, reason },
        // Of runs of backfills, which no trigger asks for.
        Refusal::Paused | Refusal::RanBefore { .. } => TriggerError::Cancelled { job },
    }
}
