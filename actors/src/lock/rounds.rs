//! Round trips to the store, one after the other: what is asked in each.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::prelude::*;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done};
use tracing::Instrument;

use super::{
    actor::{BATCH_MAX, LockActor},
    calls::one_each,
    refused_batches::Answered,
    round_span::{self, Asked},
};
use crate::{
    contained::contained,
    core::{
        job::{Advance, Claim},
        operation::Operation,
    },
    definition::Definition,
    job::{AdvanceCursor, ClaimRun, JobHandle},
    name::LockKey,
    port::{
        Advanced, ClaimRequest, Completed, Completion, CursorAdvance, LockError, RoundAnswers, Session,
        Verdict,
    },
};

/// What one round trip asked, and the answers.
pub(super) struct Round {
    pub(super) session: Session,
    pub(super) ended: (Vec<Completion>, Result<Vec<Completed>, LockError>),
    pub(super) claimed: (Vec<ClaimRun>, Result<Vec<Verdict>, LockError>),
    pub(super) advanced: (Vec<AdvanceCursor>, Result<Vec<Advanced>, LockError>),
    /// What was tried of the suspects.
    pub(super) tried: Option<Answered>,
    /// When it was asked, and how long the answers took.
    asked_at: Duration,
    took: Duration,
}

impl Round {
    /// Nothing was refused as a whole, so that its answers change nothing about what is asked next.
    fn is_plain(&self) -> bool {
        self.ended.1.is_ok() && self.claimed.1.is_ok() && self.advanced.1.is_ok() && self.tried.is_none()
    }
}

impl LockActor {
    /// The next round trip, if there is anything to do.
    pub(super) fn next_round(&mut self) -> Option<BoxFuture<'static, Round>> {
        let now = self.node.clock.elapsed();
        let ends_wait = self.ends.is_empty() || now < self.ends_not_before;
        if self.claims.is_empty() && self.advances.is_empty() && ends_wait && !self.refused.are_due(now) {
            return None;
        }
        let Some(session) = self.session else {
            self.refuse_pending();
            return None;
        };
        self.round_started = Some(now);
        let ends = if ends_wait { Vec::new() } else { take_batch(&mut self.ends) };
        let claims = take_batch(&mut self.claims);
        let advances = take_batch(&mut self.advances);
        let requests: Vec<_> =
            claims.iter().map(|asked| request(&asked.job, &asked.claim, &asked.key)).collect();
        let cursor_advances: Vec<_> =
            advances.iter().map(|asked| cursor_advance(&asked.job, &asked.advance)).collect();
        // On top of what is asked anyway, and after it.
        let trial = self.refused.take(now);
        let locker = self.locker.clone();
        let asked = Asked { ends: ends.len(), claims: claims.len(), advances: advances.len() };
        let span = round_span::of(self.node.id, &asked);
        let within = span.clone();
        let round = async move {
            let round = match ends.is_empty() && requests.is_empty() && cursor_advances.is_empty() {
                true => Ok(RoundAnswers {
                    ended: Ok(Vec::new()),
                    claimed: Ok(Vec::new()),
                    advanced: Ok(Vec::new()),
                }),
                false => contained(async { locker.round(&ends, &requests, &cursor_advances).await }).await,
            };
            // Whatever it asked may have been done.
            let round = round.unwrap_or_else(|_| RoundAnswers::failed(&LockError::Timeout));
            let ended = round.ended.and_then(one_each(ends.len()));
            let claimed = round.claimed.and_then(one_each(requests.len()));
            let advanced = round.advanced.and_then(one_each(cursor_advances.len()));
            let tried = match trial {
                Some(trial) => Some(trial.ask(&*locker).await),
                None => None,
            };
            let round = Round {
                session,
                ended: (ends, ended),
                claimed: (claims, claimed),
                advanced: (advances, advanced),
                tried,
                asked_at: now,
                took: Duration::ZERO,
            };
            round_span::answered(&span, &round);
            round
        };
        Some(if within.is_disabled() { Box::pin(round) } else { Box::pin(round.instrument(within)) })
    }

    pub(super) fn on_round(&mut self, round: Round, ctx: &mut Context<Self>) {
        self.read_measured();
        let Round {
            session,
            ended: (ends, ended),
            claimed: (claims, claimed),
            advanced: (advances, advanced),
            tried,
            took,
            ..
        } = round;
        if !ends.is_empty() {
            self.on_ended(session, ends, ended, ctx);
        }
        if !claims.is_empty() {
            self.node.meters.claim_duration.record(took.as_secs_f64());
            self.on_claimed(session, claims, claimed, ctx);
        }
        if !advances.is_empty() {
            self.on_advanced(advances, advanced, ctx);
        }
        match tried {
            Some(Answered::Ends(ends, ended)) => self.on_ended(session, ends, ended, ctx),
            Some(Answered::Claims(claims, claimed)) => self.on_claimed(session, claims, claimed, ctx),
            Some(Answered::Advances(advances, advanced)) => self.on_advanced(advances, advanced, ctx),
            Some(Answered::Released { end, released }) => self.on_released(end, released, ctx),
            None => {}
        }
        if self.session != Some(session) {
            self.node.failures.dropped(Operation::Complete);
        }
        self.wake_for_suspects(ctx);
    }
}

fn take_batch<T>(pending: &mut VecDeque<T>) -> Vec<T> {
    pending.drain(..pending.len().min(BATCH_MAX)).collect()
}

pub(super) fn request(job: &JobHandle, claim: &Claim, key: &LockKey) -> ClaimRequest {
    let Definition { name, policies, .. } = &*job.definition;
    let Claim { run, tick, recheck, resume_lost, replace, slot, named, window } = *claim;
    let (job, key, limit) = (name.clone(), key.slot(slot), policies.limit);
    ClaimRequest { job, key, run, tick, named, recheck, resume_lost, replace, limit, window }
}

pub(super) fn cursor_advance(job: &JobHandle, advance: &Advance) -> CursorAdvance {
    let Advance { id, expected, to, skips, authority } = *advance;
    CursorAdvance { id, job: job.definition.name.clone(), expected, to, skips, authority }
}

/// Makes round trips one after the other. One future for the life of the actor: it is polled after the
/// mailbox was emptied, so that what came together goes out together.
///
/// What waits when a round was answered goes out before its answers are handed on, so that the store is not
/// idle meanwhile.
#[derive(Default)]
pub(super) struct Rounds {
    under_way: Option<MaybeDone<BoxFuture<'static, Round>>>,
    /// One that was answered, while the next one is under way.
    answered: Option<Round>,
}

impl Rounds {
    /// Whether a round is under way that is not answered; starts the next one if there is none.
    fn is_pending(&mut self, actor: &mut LockActor, task: &mut TaskContext<'_>) -> Option<bool> {
        if self.under_way.is_none() {
            self.under_way = actor.next_round().map(maybe_done);
        }
        let under_way = self.under_way.as_mut()?;
        Some(Pin::new(under_way).poll(task).is_pending())
    }

    fn take_answered(&mut self, actor: &mut LockActor) -> Option<Round> {
        let mut round = Pin::new(&mut self.under_way.take()?).take_output()?;
        actor.round_started = None;
        round.took = actor.node.clock.elapsed().saturating_sub(round.asked_at);
        Some(round)
    }
}

impl ActorFuture<LockActor> for Rounds {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut LockActor,
        ctx: &mut Context<LockActor>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        for _ in 0..ROUNDS_PER_TURN {
            if let Some(round) = self.answered.take() {
                actor.on_round(round, ctx);
            }
            match self.is_pending(actor, task) {
                None => {
                    actor.close_if_done(ctx);
                    return Poll::Pending;
                }
                Some(true) => return Poll::Pending,
                Some(false) => {}
            }
            let Some(round) = self.take_answered(actor) else { continue };
            if round.is_plain() && self.is_pending(actor, task) == Some(true) {
                // The connection has its turn first.
                self.answered = Some(round);
                break;
            }
            actor.on_round(round, ctx);
        }
        // A store that answers at once must not keep the thread from everything else.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

const ROUNDS_PER_TURN: usize = 8;
