//! A run is wanted now.

use actix::Message;
use serde::Serialize;
use tracing::Span;

use crate::{
    arguments::Arguments,
    core::time::FireTime,
    error::{Fault, TriggerError},
    job::TriggeredRun,
    note::{Attribution, says_who_and_why},
};

/// Starts a run now, on this node, under the job's lock key, without moving the schedule. Answers what really
/// happened, once it is decided: the overlap policy and the node's bound of runs hold for it as for ticks.
///
/// # Errors
///
/// [`TriggerError`]: why nothing was started. No job of this node has the name; the fire time that it is to
/// name has not come; its task cannot read the arguments, or it runs none; its overlap policy or the
/// node's bound of runs refuses the trigger; it was cancelled meanwhile; the job is broken, conflicting or
/// parked; the store did not answer; or the engine shuts down.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<TriggeredRun, TriggerError>")]
pub struct TriggerJob {
    pub(crate) job: String,
    pub(crate) fire_time: Option<FireTime>,
    pub(crate) arguments: Option<Result<Arguments, Fault>>,
    pub(crate) asked: Attribution,
    /// In which it was asked for.
    pub(crate) request: Span,
}

impl TriggerJob {
    /// The job of this name.
    ///
    /// The [span](crate::Run::span) of the run follows from the one that is current here, such as that of a
    /// request, if a subscriber wants both. That one closes no sooner than the run starts, or is refused.
    pub fn new(job: impl Into<String>) -> Self {
        Self {
            job: job.into(),
            fire_time: None,
            arguments: None,
            asked: Attribution::default(),
            request: Span::current(),
        }
    }

    /// Has the run *name* a fire time that has passed: "run last night's report again". The body reads it as
    /// [`Run::fire_time`](crate::Run::fire_time), by its [origin](crate::Origin) it knows that somebody
    /// triggered it, and [`RunStarted`](crate::EventKind::RunStarted) has it as `names`. It is a run of its
    /// own all the same: it takes no tick and moves no cursor, however often it is asked for, and the tick
    /// may have run or not. The instant need not be one at which the present schedule fires.
    ///
    /// The store keeps it with the run: if the node dies and the run is [retried](crate::OnLost::Retry), it still
    /// names it. Of who triggered it nothing is known then.
    #[must_use]
    pub fn fire_time(self, fire_time: impl Into<FireTime>) -> Self {
        Self { fire_time: Some(fire_time.into()), ..self }
    }

    /// Gives the run arguments of its own, in the place of those of its job: the [task](crate::Task) itself, or any
    /// value that is written as the same JSON. They are read before anything is started. The job runs with its own ones
    /// as ever. If it is changed to run another task, or code, before an attempt of the run starts, that attempt fails,
    /// and nothing gets them.
    ///
    /// The history says of the run that it had [some](crate::RunOrigin::Trigger), and the operation quotes their
    /// beginning. The store does not keep them: if the node dies, the run is lost, and
    /// [never goes on](crate::OnLost::Retry). A retry that was to be is closed, and the history keeps the run as lost.
    #[must_use]
    pub fn arguments(self, arguments: &impl Serialize) -> Self {
        Self { arguments: Some(Arguments::of(arguments)), ..self }
    }
}

says_who_and_why!(TriggerJob);
