//! What a job's actor is told and asked, and how it gets there.

use std::sync::{Arc, Mutex, PoisonError};

use actix::{dev::channel::AddressReceiver, prelude::*};
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;
use tracing::Span;

use super::{
    actor::JobActor, explain::TickViews, handle::JobHandle, report::Report, status::JobStatus,
    triggered::TriggeredRun,
};
use crate::{
    core::{
        job::{Input, NotSkipped, Refusal, Skipped},
        time::FireTime,
    },
    drain::Drain,
    error::TriggerError,
    explain::When,
    name::{JobName, RunId},
    note::Attribution,
    port::{Pause, Session, Verdict},
    run::Origin,
};

/// What a job's actor is told or asked.
///
/// Everything takes one way, in one order: a question that is asked after a command was answered is handled
/// after that command.
pub(crate) enum JobMessage {
    /// An input for the machine.
    Input(Input),
    /// A claim was granted to a session.
    Granted { session: Session, run: RunId, verdict: Verdict },
    /// The engine shuts down: no tick is armed any more; the drain is kept until nothing runs.
    Drain {
        drain: Arc<Drain>,
        /// This node fired the job until now.
        fires: bool,
    },
    /// The job has another definition from now on.
    Redefine(Arc<JobHandle>),
    /// Somebody wants a run now.
    Trigger {
        /// Who, and the fire time that it names; `None` if neither is said.
        origin: Option<Origin>,
        /// The span in which it was asked for.
        request: Span,
        reply: oneshot::Sender<Result<TriggeredRun, TriggerError>>,
    },
    /// The leader wants this run of a backfill.
    Backfill { run: RunId, origin: Origin, reply: oneshot::Sender<Result<TriggeredRun, Refusal>> },
    /// Asks for the fire times of a range, its ends included; no more than one beyond `max`. `None` if the
    /// schedule breaks its contract.
    FireTimesIn {
        range: (DateTime<Utc>, DateTime<Utc>),
        max: usize,
        reply: oneshot::Sender<Option<Vec<FireTime>>>,
    },
    /// The runs in progress are to stop. Answers which they are.
    CancelAll { reply: oneshot::Sender<Vec<RunId>> },
    /// This run is to stop, if it is one of the job's: the job that has it answers.
    CancelRun { run: RunId, reply: Arc<FirstReply<JobName>> },
    /// A job without claims is paused, or resumed. Answers whether that changes anything.
    PauseLocal { pause: Option<Pause>, reply: oneshot::Sender<bool> },
    /// Somebody wants skipped what was due by an instant and is not decided. Answers what that is.
    SkipMissed { asked: Box<SkipAsked>, reply: oneshot::Sender<Result<Skipped, NotSkipped>> },
    /// Asks for the next fire times, up to so many.
    Upcoming { count: usize, reply: oneshot::Sender<Vec<FireTime>> },
    /// Asks what the schedule and the machine say of some instants.
    Explain { when: When, reply: oneshot::Sender<TickViews> },
    /// Asks how many fire times the schedule has in each span, its ends included; those that are too many are
    /// left out.
    CountFireTimes {
        spans: Vec<(FireTime, FireTime)>,
        reply: oneshot::Sender<Vec<(FireTime, FireTime, u64)>>,
    },
    /// Asks what the job is doing.
    Status { asks_schedule: AsksSchedule, reply: oneshot::Sender<JobStatus> },
    /// Somebody has an address of the actor, of which this is the mailbox.
    Open(Box<AddressReceiver<JobActor>>),
    /// The job was removed, or the engine is over: no tick is armed any more, and the actor stops when
    /// nothing runs.
    Retire { why: Retirement },
}

/// Somebody wants skipped what was missed.
#[derive(Debug, Clone)]
pub(crate) struct SkipAsked {
    /// What was due by this instant.
    pub(crate) until: DateTime<Utc>,
    pub(crate) by: Attribution,
}

/// Why an actor stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retirement {
    /// Its job was removed.
    Removed,
    /// Nobody answers any more what it asks.
    EngineOver,
}

/// Whether the schedule, which is code of the application, is asked for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsksSchedule {
    Yes,
    /// It has brought the job's actor down, or broke its contract.
    No,
}

/// A question to many of whom one answers. Whoever asked is told that nobody does once the last of them has
/// dropped it.
pub(crate) struct FirstReply<T>(Mutex<Option<oneshot::Sender<T>>>);

impl<T> FirstReply<T> {
    pub(crate) fn new() -> (Arc<Self>, oneshot::Receiver<T>) {
        let (reply, answer) = oneshot::channel();
        (Arc::new(Self(Mutex::new(Some(reply)))), answer)
    }

    pub(super) fn send(&self, answer: T) {
        let reply = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever asked may have given up.
        let _ = reply.map(|reply| reply.send(answer));
    }
}

/// A message on its way to a job's actor, which it names by place and generation. If that actor has stopped
/// by then, or its thread is gone, the message is dropped, and so comes back as a report: neither the end of
/// a run, nor a granted claim, nor a drain may get lost.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Envelope {
    job: Arc<JobHandle>,
    message: Option<JobMessage>,
}

impl Envelope {
    pub(super) fn new(job: Arc<JobHandle>, message: JobMessage) -> Self {
        Self { job, message: Some(message) }
    }

    /// The place of the actor that it is for, and its generation: another actor may have the place by now.
    pub(super) fn receiver(&self) -> (u32, u64) {
        (self.job.place, self.job.generation)
    }

    /// The schedule of the job, by the definition that its sender knows, may block.
    pub(super) fn may_block(&self) -> bool {
        self.job.definition.may_block
    }

    /// Takes the message out: it has arrived.
    pub(super) fn open(mut self) -> Option<JobMessage> {
        self.message.take()
    }
}

impl Drop for Envelope {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.job.report(Report::Undelivered(message));
        }
    }
}
