//! Backfills: how they are asked for, listed and cancelled, on any node; and how the leader drives them.
//!
//! [`BackfillMachine`] decides what is done next for each. Here its effects are performed: the row in the store
//! is changed, and the job's actor is asked for a run. The claim of that run decides whether it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use futures_util::FutureExt;
use tokio::time::timeout;

use super::{Entry, Phase, SupervisorActor};
use crate::{
    CALL_DEADLINE,
    contained::caught,
    core::{
        backfill::{
            Asked, BackfillEffect, BackfillId, BackfillInput, BackfillMachine, BackfillProgress,
            BackfillState, BackfillStatus, Moved, StoredBackfill,
        },
        backoff::Backoff,
        job::Refusal,
        operation::Operation,
        policy::Fires,
        text::{TEXT_MAX, bounded},
        time::FireTime,
    },
    error::BackfillError,
    event::EventKind,
    explain::backfilled,
    job::{JobHandle, JobMessage, TriggeredRun, record_operation},
    message::{CancelBackfill, ListBackfills},
    metrics::GaugeShare,
    name::{RunId, Term},
    note::{Attribution, Note},
    port::{BackfillMoved, Backfills, JobOperation, LockError},
    run::Origin,
};

/// How often the leader looks which backfills there are: it may have missed a notification.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The pause between two looks that are asked for at once, by notifications that anybody may have sent.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The first pause after a look that failed; it doubles up to [`LOOK_EVERY`].
const FAILED_MIN: Duration = Duration::from_millis(250);

/// What the leader drives.
pub(super) struct Driving {
    driven: BTreeMap<BackfillId, Driven>,
    /// How many machines there were.
    count: u64,
    /// It is asking which backfills there are.
    looking: bool,
    /// It is to ask once more when it has the answer.
    look_again: bool,
    /// The timer of the next look.
    next_look: Option<SpawnHandle>,
    backoff: Backoff,
}

struct Driven {
    machine: BackfillMachine,
    /// Which one of all machines: an answer that was asked for by another one is not for this.
    number: u64,
    timer: Option<SpawnHandle>,
    /// How many of its runs have not ended, as the metrics show it.
    remaining: GaugeShare,
}

impl Driving {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            driven: BTreeMap::new(),
            count: 0,
            looking: false,
            look_again: false,
            next_look: None,
            backoff: Backoff::new(FAILED_MIN, LOOK_EVERY, seed),
        }
    }
}

/// One call to the store, whose adapter may panic.
pub(super) async fn call<T>(called: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
    match caught(async move { timeout(CALL_DEADLINE, called).await }).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(LockError::Timeout),
        Err(_) => Err(LockError::NotDone { reason: "the adapter panicked".to_owned() }),
    }
}

impl SupervisorActor {
    /// This node leads no more, or shuts down: the next leader goes on.
    pub(super) fn leave_backfills(&mut self, ctx: &mut Context<Self>) {
        for (_, driven) in std::mem::take(&mut self.driving.driven) {
            driven.timer.map(|timer| ctx.cancel_future(timer));
        }
        self.driving.next_look.take().map(|timer| ctx.cancel_future(timer));
        self.node().failures.dropped(Operation::Backfills);
    }

    /// Asks which backfills are to be driven, if this node leads.
    pub(super) fn look_at_backfills(&mut self, ctx: &mut Context<Self>) {
        let (Some(term), Some(store)) = (self.term, self.parts.backfills.clone()) else { return };
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if std::mem::replace(&mut self.driving.looking, true) {
            self.driving.look_again = true;
            return;
        }
        self.driving.next_look.take().map(|timer| ctx.cancel_future(timer));
        let listed = async move { call(store.rows(None, true)).await };
        ctx.spawn(listed.into_actor(self).map(move |listed, actor, ctx| {
            actor.driving.looking = false;
            let again = std::mem::take(&mut actor.driving.look_again);
            if actor.term != Some(term) {
                actor.node().failures.dropped(Operation::Backfills);
                return actor.look_at_backfills(ctx);
            }
            let pause = match listed {
                Ok(rows) => {
                    actor.node().failures.succeeded(Operation::Backfills);
                    actor.driving.backoff.succeeded();
                    actor.follow_backfills(rows, ctx);
                    match again {
                        true => Some(LOOK_AGAIN),
                        // Whatever changes, the only node has changed it.
                        false => (!actor.parts.able.single_node).then_some(LOOK_EVERY),
                    }
                }
                Err(error) => {
                    actor.node().failures.failed(Operation::Backfills, &error);
                    Some(actor.driving.backoff.failed())
                }
            };
            actor.driving.next_look =
                pause.map(|pause| actor.look_again(pause, ctx, Self::look_at_backfills));
        }));
    }

    /// These are running, and no others.
    fn follow_backfills(&mut self, rows: Vec<StoredBackfill>, ctx: &mut Context<Self>) {
        let running: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
        let gone: Vec<_> = self.driving.driven.keys().filter(|id| !running.contains(id)).copied().collect();
        for id in gone {
            self.drive(id, BackfillInput::Gone, ctx);
        }
        for row in rows {
            let id = row.id;
            if self.driving.driven.contains_key(&id) {
                self.drive(id, BackfillInput::Read(row), ctx);
                continue;
            }
            self.driving.count += 1;
            let number = self.driving.count;
            let now = self.node().clock.elapsed();
            let machine = BackfillMachine::new(row, now, self.node().seed() ^ number);
            let remaining = match self.jobs.get(&machine.stored().job) {
                Some(entry) => entry.job.meters.backfill_remaining(),
                None => self.node().meters.of_stranger(&machine.stored().job).backfill_remaining(),
            };
            self.driving.driven.insert(id, Driven { machine, number, timer: None, remaining });
            self.drive(id, BackfillInput::WakeUp, ctx);
        }
    }

    /// Feeds the machine of a backfill, and does what it says.
    fn drive(&mut self, id: BackfillId, input: BackfillInput, ctx: &mut Context<Self>) {
        let (Some(term), true) = (self.term, matches!(self.phase, Phase::Running)) else { return };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now = self.node().clock.elapsed();
            let Some(driven) = self.driving.driven.get_mut(&id) else { return };
            let number = driven.number;
            for effect in driven.machine.step(now, input) {
                match effect {
                    BackfillEffect::Move(progress) => self.move_backfill(id, number, term, progress, ctx),
                    BackfillEffect::Ask { nth, run, fire_time } => {
                        let asked = self.ask_for_run(id, number, nth, (run, fire_time), ctx);
                        inputs.extend(asked.map(|answer| BackfillInput::Asked { nth, answer }));
                    }
                    BackfillEffect::Over(state) => self.on_backfill_over(id, Some(state), ctx),
                    BackfillEffect::Stop => self.on_backfill_over(id, None, ctx),
                }
            }
        }
        let Some(driven) = self.driving.driven.get_mut(&id) else { return };
        driven.timer.take().map(|timer| ctx.cancel_future(timer));
        let wait = driven.machine.wakes_at();
        driven.remaining.set(usize::try_from(driven.machine.stored().remaining()).unwrap_or(usize::MAX));
        let now = self.node().clock.elapsed();
        let timer = wait.map(|at| {
            ctx.run_later(at.saturating_sub(now), move |actor, ctx| {
                actor.drive(id, BackfillInput::WakeUp, ctx);
            })
        });
        if let Some(driven) = self.driving.driven.get_mut(&id) {
            driven.timer = timer;
        }
    }

    /// The answer is for the machine that asked.
    fn drive_if(&mut self, (id, number): (BackfillId, u64), input: BackfillInput, ctx: &mut Context<Self>) {
        if self.driving.driven.get(&id).is_some_and(|driven| driven.number == number) {
            self.drive(id, input, ctx);
        }
    }

    fn move_backfill(
        &mut self,
        id: BackfillId,
        number: u64,
        term: Term,
        progress: BackfillProgress,
        ctx: &mut Context<Self>,
    ) {
        let Some(store) = self.parts.backfills.clone() else { return };
        let moved = async move { call(store.advance(term, id, &progress)).await };
        ctx.spawn(moved.into_actor(self).map(move |moved, actor, ctx| {
            let failures = &actor.node().failures;
            if actor.term != Some(term) {
                return failures.dropped(Operation::Backfills);
            }
            let moved = match moved {
                Ok(moved) => {
                    failures.succeeded(Operation::Backfills);
                    match moved {
                        BackfillMoved::Done => Moved::Done,
                        BackfillMoved::Elsewhere(row) => Moved::Elsewhere(row),
                        BackfillMoved::Deposed => Moved::Deposed,
                    }
                }
                Err(error) => {
                    failures.failed(Operation::Backfills, &error);
                    Moved::Unknown
                }
            };
            actor.drive_if((id, number), BackfillInput::Moved(moved), ctx);
        }));
    }

    /// Asks the job for a run. Answers at once if it cannot be asked.
    fn ask_for_run(
        &mut self,
        id: BackfillId,
        number: u64,
        nth: u32,
        (run, fire_time): (RunId, FireTime),
        ctx: &mut Context<Self>,
    ) -> Option<Asked> {
        let stored = self.driving.driven.get(&id)?.machine.stored();
        let by = stored.by.clone();
        let able = self.jobs.get(&stored.job).filter(|entry| is_able(entry)).map(|entry| entry.job.clone());
        let Some(job) = able else { return Some(Asked::NotNow) };
        let origin = Origin::Backfill { backfill: id, fire_time, by };
        let answer = job.ask(|reply| JobMessage::Backfill { run, origin, reply });
        ctx.spawn(answer.into_actor(self).map(move |answer, actor, ctx| {
            let (answer, started) = match answer {
                Ok(Ok(started)) => (Asked::Started, Some(started)),
                Ok(Err(Refusal::RanBefore { outcome })) => (Asked::RanBefore { outcome }, None),
                // Its actor died, or it refuses for now.
                Ok(Err(_)) | Err(_) => (Asked::NotNow, None),
            };
            actor.drive_if((id, number), BackfillInput::Asked { nth, answer }, ctx);
            if let Some(started) = started {
                actor.await_end((id, number), nth, started, ctx);
            }
        }));
        None
    }

    fn await_end(&self, driven: (BackfillId, u64), nth: u32, started: TriggeredRun, ctx: &mut Context<Self>) {
        ctx.spawn(started.finished().into_actor(self).map(move |outcome, actor, ctx| {
            actor.drive_if(driven, BackfillInput::Ended { nth, outcome }, ctx);
        }));
    }

    fn on_backfill_over(&mut self, id: BackfillId, state: Option<BackfillState>, ctx: &mut Context<Self>) {
        let Some(driven) = self.driving.driven.remove(&id) else { return };
        let (job, ticks) = (driven.machine.stored().job.clone(), driven.machine.stored().ticks());
        let failed = driven.machine.stored().progress.failed;
        driven.timer.map(|timer| ctx.cancel_future(timer));
        if state == Some(BackfillState::Finished) {
            self.publish(|| EventKind::BackfillFinished { job, backfill: id, ticks, failed });
        }
    }

    /// Says that a backfill was kept, and drives it if this node leads.
    pub(super) fn on_backfill_kept(
        &mut self,
        kept: &StoredBackfill,
        note: Option<Note>,
        ctx: &mut Context<Self>,
    ) {
        let (job, backfill, by, ticks) = (kept.job.clone(), kept.id, kept.by.clone(), kept.ticks());
        let asked = Attribution { by: by.clone(), note };
        record_operation(self.node(), &job, JobOperation::Backfilled, &asked, || {
            let (asked, StoredBackfill { from, to, .. }) = (backfilled(backfill), kept);
            Some(format!("{asked}{ticks} fire times from {from} to {to}").into())
        });
        self.publish(|| EventKind::BackfillStarted { job, backfill, ticks, by });
        self.look_at_backfills(ctx);
    }

    fn on_backfill_cancelled(&mut self, left: &BackfillStatus, asked: Attribution, ctx: &mut Context<Self>) {
        let (job, backfill, remaining) = (left.job.clone(), left.id, left.remaining);
        record_operation(self.node(), &job, JobOperation::BackfillCancelled, &asked, || {
            Some(format!("{}{remaining} fire times left", backfilled(backfill)).into())
        });
        let by = asked.by;
        self.publish(|| EventKind::BackfillCancelled { job, backfill, remaining, by });
        self.drive(backfill, BackfillInput::Gone, ctx);
    }

    /// Where backfills are kept.
    pub(super) fn backfill_store(&self) -> Result<Arc<dyn Backfills>, BackfillError> {
        if !matches!(self.phase, Phase::Running) {
            return Err(BackfillError::ShuttingDown);
        }
        let backend = self.parts.able.backend;
        self.parts.backfills.clone().ok_or(BackfillError::NotKept { backend })
    }
}

/// Whether the job may be asked for runs on this node.
fn is_able(entry: &Entry) -> bool {
    let JobHandle { definition, .. } = &*entry.job;
    definition.policies.fires != Fires::Local
        && entry.firing.broken().is_none()
        && entry.firing.refused().is_none()
        && entry.parked.is_none()
}

pub(super) fn unavailable(error: impl fmt::Display) -> BackfillError {
    BackfillError::Unavailable { reason: bounded(error, TEXT_MAX) }
}

impl Handler<ListBackfills> for SupervisorActor {
    type Result = ResponseFuture<Result<Vec<BackfillStatus>, BackfillError>>;

    fn handle(&mut self, ListBackfills { job }: ListBackfills, _: &mut Self::Context) -> Self::Result {
        let store = self.backfill_store();
        async move { call(store?.list(job.as_ref())).await.map_err(unavailable) }.boxed_local()
    }
}

impl Handler<CancelBackfill> for SupervisorActor {
    type Result = ResponseActFuture<Self, Result<BackfillStatus, BackfillError>>;

    fn handle(&mut self, asked: CancelBackfill, _: &mut Self::Context) -> Self::Result {
        let CancelBackfill { backfill, asked } = asked;
        let (store, by) = (self.backfill_store(), asked.by.clone());
        let cancelled = async move {
            let left = call(store?.cancel(backfill, by.as_ref())).await.map_err(unavailable)?;
            left.ok_or(BackfillError::UnknownBackfill { backfill })
        };
        Box::pin(cancelled.into_actor(self).map(move |left, actor, ctx| {
            let left = left?;
            actor.on_backfill_cancelled(&left, asked, ctx);
            Ok(left)
        }))
    }
}
