//! What the lock actor is told and asked, besides what the jobs [ask](crate::job::Ask).

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use futures_util::future::ready;
use tokio::sync::oneshot;

use super::{
    actor::{BATCH_MAX, LockActor},
    calls::{call, one_each},
    halves::in_halves,
    notifications::HeardFirst,
};
use crate::{
    core::{
        operation::Operation,
        round_trip::{LeaseTooShort, LeaseWatch},
        text::{TEXT_MAX, one_line},
    },
    health::NO_SESSION,
    job::JobHandle,
    name::{JobName, LockKey, RunId, Term},
    port::{
        ClosedRuns, Declaration, Enrolled, Enrolment, Forgotten, Inquiry, LeaderView, LockError, Obstacle,
        OtherZoneData, Pause, PendingRetryOfJob,
    },
};

/// Marks jobs as scheduled under a term and answers their cursors.
#[derive(Message)]
#[rtype(result = "Result<Vec<Enrolled>, LockError>")]
pub(crate) struct EnrolJobs(pub(crate) Vec<Enrolment>);

/// Asks what the leader does with jobs. Refused without a wait while there is no session.
#[derive(Message)]
#[rtype(result = "Result<Vec<LeaderView>, LockError>")]
pub(crate) struct InquireJobs {
    pub(crate) jobs: Vec<Inquiry>,
    pub(crate) purpose: InquiryPurpose,
}

/// Why the standing of jobs is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InquiryPurpose {
    /// They may have to be fired here: no answer is a failure of the node.
    Firing,
    /// Somebody looks at them, and is told why there is no answer. How often somebody looks does not count as
    /// failures.
    Status,
}

/// Asks which policies for keys others declare that jobs are not to have.
#[derive(Message)]
#[rtype(result = "Result<Vec<Option<String>>, LockError>")]
pub(crate) struct FindConflicts(pub(crate) Vec<Declaration>);

/// Says that this node declares no policy for keys any more.
#[derive(Message)]
#[rtype(result = "Result<(), LockError>")]
pub(crate) struct RetractKeys(pub(crate) Vec<LockKey>);

/// Says that jobs were removed on purpose. Answers when the store knows, or does not answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WithdrawJobs {
    pub(crate) term: Term,
    pub(crate) jobs: Vec<JobName>,
}

/// Pauses jobs for all nodes, or resumes them. Answers which were changed by it, and why others are refused
/// for their data.
#[derive(Message)]
#[rtype(result = "Result<Vec<Result<bool, String>>, LockError>")]
pub(crate) struct PauseInStore {
    pub(crate) jobs: Vec<JobName>,
    pub(crate) pause: Option<Pause>,
}

/// Closes open runs of dead sessions, up to [`BATCH_MAX`].
#[derive(Message)]
#[rtype(result = "Result<ClosedRuns, LockError>")]
pub(crate) struct CloseLostRuns;

/// Forgets what is out of use, as the leader of a term.
#[derive(Message)]
#[rtype(result = "Result<Forgotten, LockError>")]
pub(crate) struct ForgetNames {
    pub(crate) term: Term,
    pub(crate) after: Duration,
}

/// Says that this node fires these jobs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KeepNames {
    pub(crate) jobs: Vec<JobName>,
    /// What was said for so short a time need not be said again.
    pub(crate) fresh: Duration,
}

/// Asks for a page of pending retries, after a run.
#[derive(Message)]
#[rtype(result = "Result<Vec<PendingRetryOfJob>, LockError>")]
pub(crate) struct AskPendingRetries(pub(crate) Option<RunId>);

/// Asks by which time zone data other nodes go, if not by that of this one.
#[derive(Message)]
#[rtype(result = "Result<Vec<OtherZoneData>, LockError>")]
pub(crate) struct AskOtherZoneData;

/// Answers when a session is open, or when the next attempt to open one fails.
#[derive(Message)]
#[rtype(result = "Result<(), LockError>")]
pub(crate) struct AwaitSession;

/// Reads what the session measured last: how far the node's clock is from the store's, and what a round trip
/// takes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReadClock;

/// Asks how the actor is.
#[derive(Message)]
#[rtype(result = "LockHealth")]
pub(crate) struct AskLockHealth;

pub(crate) struct LockHealth {
    /// How long there has been no session; `None` if there is one.
    pub(crate) without_session: Option<Duration>,
    /// How long the round trip under way has been.
    pub(crate) waiting: Option<Duration>,
    /// What somebody else holds in the store, and this node needs.
    pub(crate) obstacles: Vec<Obstacle>,
    pub(crate) lease_too_short: Option<LeaseTooShort>,
}

/// Asks whose run it is, if the store granted it to this node and its end is not recorded.
#[derive(Message)]
#[rtype(result = "Option<Arc<JobHandle>>")]
pub(crate) struct FindHolder(pub(crate) RunId);

/// Asks for the jobs of all claims that the store granted to this node and whose ends are not recorded: a job for each.
#[derive(Message)]
#[rtype(result = "Vec<Arc<JobHandle>>")]
pub(crate) struct ListHolders;

/// Writes the ends that are not recorded yet, then ends the session and the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSession;

impl Handler<EnrolJobs> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<Enrolled>, LockError>>;

    fn handle(&mut self, EnrolJobs(jobs): EnrolJobs, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let enrolled =
            async move { call(async { locker.enrol(&jobs).await }).await.and_then(one_each(jobs.len())) };
        Box::pin(enrolled.into_actor(self).map(|enrolled, actor, _| {
            // Before any of the jobs is resumed by the store's time.
            actor.read_measured();
            if let Err(error) = &enrolled {
                // The caller finds out whether it succeeded: all of it may be locked.
                actor.failed(Operation::Enrol, error);
            }
            enrolled
        }))
    }
}

impl Handler<InquireJobs> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<LeaderView>, LockError>>;

    fn handle(&mut self, InquireJobs { jobs, purpose }: InquireJobs, _: &mut Self::Context) -> Self::Result {
        if self.session.is_none() {
            return Box::pin(
                ready(Err(LockError::Unavailable { reason: NO_SESSION.to_owned() })).into_actor(self),
            );
        }
        let locker = self.locker.clone();
        let asked = async move {
            let answers = in_halves(&jobs, async |page| {
                call(async { locker.inquire(page).await }).await.and_then(one_each(page.len()))
            });
            // One that the store refuses is left to the leader: the next inquiry asks again.
            let left = |answer: Result<_, _>| answer.unwrap_or(LeaderView::Scheduled);
            Ok(answers.await?.into_iter().map(left).collect())
        };
        Box::pin(asked.into_actor(self).map(move |answer, actor, _| match purpose {
            InquiryPurpose::Status if answer.is_err() => answer,
            InquiryPurpose::Status | InquiryPurpose::Firing => actor.noted(Operation::Inquire, answer),
        }))
    }
}

impl Handler<FindConflicts> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<Option<String>>, LockError>>;

    fn handle(&mut self, FindConflicts(asked): FindConflicts, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let found = async move {
            let answers = in_halves(&asked, async |page| {
                call(async { locker.conflicts(page).await }).await.and_then(one_each(page.len()))
            });
            // Of one that the store refuses it is not known: its enrolment decides.
            Ok(answers.await?.into_iter().map(Result::unwrap_or_default).collect())
        };
        Box::pin(found.into_actor(self).map(|answer, actor, _| actor.noted(Operation::Conflicts, answer)))
    }
}

impl Handler<RetractKeys> for LockActor {
    type Result = ResponseActFuture<Self, Result<(), LockError>>;

    fn handle(&mut self, RetractKeys(keys): RetractKeys, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let retracted = async move {
            let answers = in_halves(&keys, async |page| {
                call(async { locker.retract(page).await }).await.map(|()| vec![(); page.len()])
            });
            // Of one that the store refuses the declaration stands until the session, or the term, ends.
            answers.await.map(|answers| warn_refused(Operation::Retract, answers))
        };
        Box::pin(retracted.into_actor(self).map(|answer, actor, _| actor.noted(Operation::Retract, answer)))
    }
}

impl Handler<WithdrawJobs> for LockActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, WithdrawJobs { term, jobs }: WithdrawJobs, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let withdrawn = async move {
            let answers = in_halves(&jobs, async |page| {
                call(async { locker.withdraw(term, page).await }).await.map(|()| vec![(); page.len()])
            });
            // One that the store refuses counts as held until the term is over.
            answers.await.map(|answers| warn_refused(Operation::Withdraw, answers))
        };
        Box::pin(withdrawn.into_actor(self).map(|answer, actor, _| {
            // It is of no use to the caller.
            let _ = actor.noted(Operation::Withdraw, answer);
        }))
    }
}

impl Handler<PauseInStore> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<Result<bool, String>>, LockError>>;

    fn handle(&mut self, PauseInStore { jobs, pause }: PauseInStore, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let paused = async move {
            in_halves(&jobs, async |page| {
                call(async { locker.pause(page, pause.as_ref()).await }).await.and_then(one_each(page.len()))
            })
            .await
        };
        let heard_first = HeardFirst::new(paused);
        Box::pin(heard_first.map(|answer, actor: &mut Self, _| actor.noted(Operation::Pause, answer)))
    }
}

impl Handler<CloseLostRuns> for LockActor {
    type Result = ResponseActFuture<Self, Result<ClosedRuns, LockError>>;

    fn handle(&mut self, _: CloseLostRuns, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let closed = async move { call(async { locker.close_lost(BATCH_MAX).await }).await };
        Box::pin(closed.into_actor(self).map(|answer, actor, _| actor.noted(Operation::CloseLost, answer)))
    }
}

impl Handler<ForgetNames> for LockActor {
    type Result = ResponseActFuture<Self, Result<Forgotten, LockError>>;

    fn handle(&mut self, ForgetNames { term, after }: ForgetNames, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let forgotten = async move { call(async { locker.forget(term, after).await }).await };
        Box::pin(forgotten.into_actor(self).map(|answer, actor, _| actor.noted(Operation::Forget, answer)))
    }
}

impl Handler<KeepNames> for LockActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, KeepNames { jobs, fresh }: KeepNames, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let kept = async move { call(async { locker.keep_names(&jobs, fresh).await }).await };
        Box::pin(
            kept.into_actor(self).map(|answer, actor, _| drop(actor.noted(Operation::KeepNames, answer))),
        )
    }
}

impl Handler<AskPendingRetries> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<PendingRetryOfJob>, LockError>>;

    fn handle(&mut self, AskPendingRetries(after): AskPendingRetries, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let pending_retries =
            async move { call(async { locker.pending_retries(after, BATCH_MAX).await }).await };
        Box::pin(
            pending_retries
                .into_actor(self)
                .map(|answer, actor, _| actor.noted(Operation::PendingRetries, answer)),
        )
    }
}

impl Handler<AskOtherZoneData> for LockActor {
    type Result = ResponseFuture<Result<Vec<OtherZoneData>, LockError>>;

    fn handle(&mut self, _: AskOtherZoneData, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        Box::pin(async move { call(async { locker.other_zone_data().await }).await })
    }
}

impl Handler<AwaitSession> for LockActor {
    type Result = ResponseFuture<Result<(), LockError>>;

    fn handle(&mut self, _: AwaitSession, _: &mut Self::Context) -> Self::Result {
        if self.session.is_some() {
            return Box::pin(async { Ok(()) });
        }
        let (reply, opened) = oneshot::channel();
        self.awaiting.push(reply);
        let died = || LockError::Unavailable { reason: "the lock actor died".to_owned() };
        Box::pin(async move { opened.await.unwrap_or_else(|_| Err(died())) })
    }
}

impl Handler<ReadClock> for LockActor {
    type Result = ();

    fn handle(&mut self, _: ReadClock, _: &mut Self::Context) {
        self.read_measured();
        self.node.meters.snapshot_age.set(self.locker.snapshot_age().as_secs_f64());
    }
}

impl Handler<FindHolder> for LockActor {
    type Result = MessageResult<FindHolder>;

    fn handle(&mut self, FindHolder(run): FindHolder, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.held.holder(run))
    }
}

impl Handler<ListHolders> for LockActor {
    type Result = MessageResult<ListHolders>;

    fn handle(&mut self, _: ListHolders, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.held.holders())
    }
}

impl Handler<AskLockHealth> for LockActor {
    type Result = MessageResult<AskLockHealth>;

    fn handle(&mut self, _: AskLockHealth, _: &mut Self::Context) -> Self::Result {
        self.read_measured();
        let now = self.node.clock.elapsed();
        MessageResult(LockHealth {
            without_session: match self.session {
                Some(_) => None,
                None => Some(now.saturating_sub(self.session_lost_at)),
            },
            waiting: self.round_started.map(|started| now.saturating_sub(started)),
            obstacles: self.locker.obstacles(),
            lease_too_short: self.lease.as_ref().and_then(LeaseWatch::short),
        })
    }
}

impl Handler<CloseSession> for LockActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CloseSession, _: &mut Self::Context) -> Self::Result {
        let (done, closed) = oneshot::channel();
        self.closing = Some(done);
        // An error is the expected end: the sender is dropped when the session is closed.
        Box::pin(async move { drop(closed.await) })
    }
}

/// Says which items of a page the store refuses for their data. Nothing more can be done for them.
fn warn_refused(operation: Operation, answers: Vec<Result<(), String>>) {
    let mut refused = answers.into_iter().filter_map(Result::err);
    if let Some(reason) = refused.next() {
        let more = refused.count();
        let reason = one_line(reason, TEXT_MAX);
        tracing::warn!(target: "callsheet", %operation, more, "the store refuses something for its data: {reason}");
    }
}
