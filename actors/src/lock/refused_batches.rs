//! What the store refused for its data, until it is known which item is to blame.
//!
//! Nobody is to blame while everybody is refused: what stands alone is asked again until something of another
//! job gets through.
//!
//! | refused alone | while nobody else gets through | refused again after another job got through |
//! |---|---|---|
//! | the claim of a tick, of a lost run, of a trigger that is queued | asked again, at growing pauses | its job is parked; the tick is skipped as such, a trigger is told so |
//! | the claim of a trigger whose caller waits | the caller is told at once, and nothing is started later | the same |
//! | a recheck of a claim | asked again | asked again: a grant must not be given up |
//! | a move of a cursor | asked again, at growing pauses | its job is parked, and goes on to skip |
//! | an end | asked again, at growing pauses | its key is freed and nothing else is kept of it; its job is parked, since the next end would be refused as well |

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{
    actor::LockActor,
    answers::LOCKED_MAX,
    calls::{call, one_each},
    report::Report,
    rounds::{cursor_advance, request},
};
use crate::{
    core::{
        bisect::Bisect,
        job::Input,
        operation::Operation,
        text::{PARKED_REASON_BYTES_MAX, TEXT_MAX, bounded, one_line},
        witnesses::Witnesses,
    },
    job::{AdvanceCursor, AsksWait, ClaimRun, JobHandle, RefusedStep},
    port::{Advanced, Completed, Completion, LockError, Locker, Verdict},
};

/// The items of refused batches.
#[derive(Default)]
pub(super) struct RefusedBatches {
    ends: Bisect<Completion>,
    claims: Bisect<ClaimRun>,
    advances: Bisect<AdvanceCursor>,
    pub(super) ended: Witnesses,
    /// Of claims and of moves: both write where a job stands.
    pub(super) claimed: Witnesses,
    /// Ends that were refused alone.
    bad_ends: Vec<Completion>,
    /// A timer is set for the next group.
    waking: bool,
}

/// The pause before a key is to be freed once more, if the store did not do it.
const RELEASE_AGAIN: Duration = Duration::from_secs(5);

/// A group of suspects that is to be asked by itself.
pub(super) enum Trial {
    Ends(Vec<Completion>),
    Claims(Vec<ClaimRun>),
    Advances(Vec<AdvanceCursor>),
    Release(Completion),
}

/// A group with its answer.
pub(super) enum Answered {
    Ends(Vec<Completion>, Result<Vec<Completed>, LockError>),
    Claims(Vec<ClaimRun>, Result<Vec<Verdict>, LockError>),
    Advances(Vec<AdvanceCursor>, Result<Vec<Advanced>, LockError>),
    Released { end: Completion, released: Result<Vec<Completed>, LockError> },
}

impl RefusedBatches {
    /// The next group, if it is time for one. What frees keys goes first.
    pub(super) fn take(&mut self, now: Duration) -> Option<Trial> {
        if let Some(end) = self.bad_ends.pop() {
            return Some(Trial::Release(end));
        }
        let ends = self.ends.take(now).map(Trial::Ends);
        let claims = || self.claims.take(now).map(Trial::Claims);
        let advances = || self.advances.take(now).map(Trial::Advances);
        ends.or_else(claims).or_else(advances)
    }

    /// When the next group is to be asked, if there is one.
    fn wake_at(&self) -> Option<Duration> {
        if !self.bad_ends.is_empty() {
            return Some(Duration::ZERO);
        }
        [self.ends.wake_at(), self.claims.wake_at(), self.advances.wake_at()].into_iter().flatten().min()
    }

    pub(super) fn are_due(&self, now: Duration) -> bool {
        self.wake_at().is_some_and(|at| at <= now)
    }

    /// Nothing is left to be asked.
    pub(super) fn are_done(&self) -> bool {
        self.wake_at().is_none()
    }

    /// The session is gone, and with it the right to complete. Answers what else is left.
    pub(super) fn clear(&mut self) -> (Vec<ClaimRun>, Vec<AdvanceCursor>) {
        self.bad_ends.clear();
        self.ended.forget_all();
        self.claimed.forget_all();
        self.ends.drain().for_each(drop);
        (self.claims.drain().collect(), self.advances.drain().collect())
    }
}

impl Trial {
    pub(super) async fn ask(self, locker: &dyn Locker) -> Answered {
        match self {
            Self::Ends(ends) => {
                let ended = call(async { locker.complete(&ends).await }).await.and_then(one_each(ends.len()));
                Answered::Ends(ends, ended)
            }
            Self::Claims(claims) => {
                let requests: Vec<_> =
                    claims.iter().map(|asked| request(&asked.job, &asked.claim, &asked.key)).collect();
                let claimed = call(async { locker.claim(&requests).await }).await;
                Answered::Claims(claims, claimed.and_then(one_each(requests.len())))
            }
            Self::Advances(advances) => {
                let asked: Vec<_> =
                    advances.iter().map(|asked| cursor_advance(&asked.job, &asked.advance)).collect();
                let advanced = call(async { locker.advance(&asked).await }).await;
                Answered::Advances(advances, advanced.and_then(one_each(asked.len())))
            }
            Self::Release(end) => {
                let released = call(async { locker.release(std::slice::from_ref(&end)).await }).await;
                Answered::Released { end, released: released.and_then(one_each(1)) }
            }
        }
    }
}

impl LockActor {
    /// The store refuses these ends for their data, or one of them.
    pub(super) fn suspect_ends(&mut self, ends: Vec<Completion>, reason: &str, ctx: &mut Context<Self>) {
        let now = self.node.clock.elapsed();
        let bad = self.refused.ends.refused(now, ends);
        if let Some(end) = bad.as_ref().filter(|end| !self.refused.ended.blame(now, &end.job)) {
            self.failed(Operation::Complete, &reason);
            return self.end_again(end.clone(), ctx);
        }
        self.node.meters.coordination_error(Operation::Complete);
        if let Some(end) = &bad {
            tracing::error!(
                target: "callsheet", job = %end.job, run = %end.run, outcome = %end.outcome,
                "the store refuses the end of a run for its data, and keeps nothing of it: {}",
                one_line(reason, TEXT_MAX)
            );
            if let Some(job) = self.held(end.run).map(|held| held.job.clone()) {
                let reason = format!("the end of its run {} cannot be recorded: {reason}", end.run);
                self.park(&job, &reason, RefusedStep::End);
            }
        }
        if bad.is_some() {
            self.node.failures.dropped(Operation::Complete);
        }
        self.refused.bad_ends.extend(bad);
    }

    pub(super) fn suspect_claims(&mut self, claims: Vec<ClaimRun>, reason: &str) {
        match self.refused.claims.refused(self.node.clock.elapsed(), claims) {
            Some(bad) => {
                self.refuse_claim(bad, reason);
            }
            None => self.node.meters.coordination_error(Operation::Claim),
        }
    }

    /// The store refuses this claim for its data, alone. Answers whether its job is to blame.
    pub(super) fn refuse_claim(&mut self, bad: ClaimRun, reason: &str) -> bool {
        self.failed(Operation::Claim, &reason);
        let ClaimRun { job, claim, .. } = bad;
        let (run, reason) = (claim.run, bounded(reason, TEXT_MAX));
        let now = self.node.clock.elapsed();
        let is_blamed = !claim.recheck && self.refused.claimed.blame(now, &job.definition.name);
        let answer = if claim.recheck {
            // Whether an earlier claim was granted is not known: the job goes on to ask.
            Input::Claimed { run, verdict: Verdict::Unavailable { reason } }
        } else if is_blamed {
            self.node.failures.dropped(Operation::Claim);
            self.park(&job, &reason, RefusedStep::Claim);
            Input::Claimed { run, verdict: Verdict::BadData { reason } }
        } else {
            Input::ClaimRefused { run, reason }
        };
        job.send(answer);
        is_blamed
    }

    pub(super) fn suspect_advances(&mut self, advances: Vec<AdvanceCursor>, reason: &str) {
        match self.refused.advances.refused(self.node.clock.elapsed(), advances) {
            Some(bad) => {
                self.refuse_advance(&bad.job, reason);
            }
            None => self.node.meters.coordination_error(Operation::Advance),
        }
    }

    /// The store refuses to move the cursor of this job for its data, alone. Answers whether the job is to
    /// blame.
    pub(super) fn refuse_advance(&mut self, job: &Arc<JobHandle>, reason: &str) -> bool {
        self.failed(Operation::Advance, &reason);
        let reason = bounded(reason, TEXT_MAX);
        let now = self.node.clock.elapsed();
        let is_blamed = self.refused.claimed.blame(now, &job.definition.name);
        let advanced = if is_blamed {
            self.node.failures.dropped(Operation::Advance);
            self.park(job, &reason, RefusedStep::Advance);
            Advanced::BadData { reason }
        } else {
            Advanced::Unavailable { reason }
        };
        job.send(Input::Advanced(advanced));
        is_blamed
    }

    /// The key of a run whose end the store refuses was freed, or not: then it stays taken until it can be,
    /// or the session ends.
    pub(super) fn on_released(
        &mut self,
        end: Completion,
        released: Result<Vec<Completed>, LockError>,
        ctx: &mut Context<Self>,
    ) {
        match released.as_deref() {
            Ok([Completed::Locked | Completed::Unavailable { .. }]) => {
                self.release_again(LOCKED_MAX, end, ctx)
            }
            Ok([answer]) => {
                if let Some(held) = self.let_go(end.run) {
                    self.on_recorded(held, end.from_completion, answer);
                }
            }
            // Somebody may mend the store.
            Ok(_) => self.release_again(RELEASE_AGAIN, end, ctx),
            Err(error) => {
                self.failed(Operation::Complete, error);
                self.release_again(RELEASE_AGAIN, end, ctx);
            }
        }
    }

    /// Asks again to free a key, for as long as the session lasts and is not about to end. Never among other
    /// ends: it would be refused with all of them.
    fn release_again(&mut self, pause: Duration, end: Completion, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            return;
        }
        self.later(pause, vec![end], ctx, |actor, mut ends| {
            ends.retain(|end| actor.held(end.run).is_some());
            actor.refused.bad_ends.extend(ends);
        });
    }

    fn end_again(&mut self, end: Completion, ctx: &mut Context<Self>) {
        let pause = self.ends_backoff.failed();
        self.complete_later(pause, vec![end], ctx);
    }

    /// Tells the supervisor: it keeps why.
    fn park(&self, job: &Arc<JobHandle>, reason: &str, step: RefusedStep) {
        let reason = bounded(reason, PARKED_REASON_BYTES_MAX).into();
        self.report(Report::Refused { job: job.clone(), reason, step });
    }

    /// Tells the supervisor, if the job was parked until the store takes this of it.
    pub(super) fn tell_taken(&self, job: &Arc<JobHandle>, step: RefusedStep) {
        if job.on_trial.is_for(step) {
            self.report(Report::Taken(job.clone()));
        }
    }

    pub(super) fn take_claim(&mut self, claim: ClaimRun) {
        self.refused.claimed.asks(|| self.node.clock.elapsed(), &claim.job.definition.name);
        match claim.job.on_trial.is_set() {
            true => self.refused.claims.add(self.node.clock.elapsed(), vec![claim]),
            false => self.claims.push_back(claim),
        }
    }

    pub(super) fn take_advance(&mut self, advance: AdvanceCursor) {
        self.refused.claimed.asks(|| self.node.clock.elapsed(), &advance.job.definition.name);
        match advance.job.on_trial.is_set() {
            true => self.refused.advances.add(self.node.clock.elapsed(), vec![advance]),
            false => self.advances.push_back(advance),
        }
    }

    /// Unless the session is lost that granted the run.
    pub(super) fn take_end(&mut self, end: Completion) {
        self.refused.ended.asks(|| self.node.clock.elapsed(), &end.job);
        match self.held(end.run).map(|held| held.job.on_trial.is_set()) {
            Some(true) => self.refused.ends.add(self.node.clock.elapsed(), vec![end]),
            Some(false) => self.ends.push_back(end),
            None => {}
        }
    }

    /// Looks at the suspects when it is time for the next group.
    pub(super) fn wake_for_suspects(&mut self, ctx: &mut Context<Self>) {
        let Some(at) = self.refused.wake_at() else { return };
        if std::mem::replace(&mut self.refused.waking, true) {
            return;
        }
        ctx.run_later(at.saturating_sub(self.node.clock.elapsed()), |actor, ctx| {
            actor.refused.waking = false;
            // The rounds were polled before this timer was; nothing else may wake them for long.
            ctx.notify(AsksWait);
        });
    }
}
