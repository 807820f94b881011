//! What follows from the answers of a round trip.

use std::{fmt, time::Duration};

use actix::prelude::*;

use super::{
    actor::{LockActor, always_locked},
    consequences::{after_advance, after_claim, after_end, note_end},
    holdings::Held,
};
use crate::{
    core::{
        backoff::doubled,
        job::{Claim, Input},
        operation::Operation,
        text::{TEXT_MAX, bounded},
    },
    job::{AdvanceCursor, ClaimRun, JobMessage, RefusedStep},
    name::FencingToken,
    port::{Advanced, Completed, Completion, GrantedRun, LockError, LostRun, Session, Verdict},
};

/// The pause before what somebody else has locked is asked again; it doubles up to [`LOCKED_MAX`].
pub(crate) const LOCKED_MIN: Duration = Duration::from_millis(2);
/// The longest pause before what somebody else has locked is asked again.
pub(crate) const LOCKED_MAX: Duration = Duration::from_millis(250);
/// How often a claim or a move may be found locked before the job is told, half a second after the first
/// time.
pub(crate) const LOCKED_TRIES_MAX: u32 = 8;

const SET_BACK: &str =
    "the store says that this session holds a run whose end it had recorded: it was restored from before";

/// The bytes that the reasons of one round trip take: jobs whose thread is busy take them later. Each beyond is
/// cut at [`REASON_SHORT`] bytes.
const ROUND_REASON_BYTES_MAX: usize = 4 * TEXT_MAX;
const REASON_SHORT: usize = 256;

impl LockActor {
    /// What a session that is lost was asked in vain is asked in the next one, by
    /// [`ask_unanswered`](Self::ask_unanswered).
    pub(super) fn on_ended(
        &mut self,
        session: Session,
        ends: Vec<Completion>,
        ended: Result<Vec<Completed>, LockError>,
        ctx: &mut Context<Self>,
    ) {
        let is_lost = self.session != Some(session);
        match ended {
            Ok(answers) => {
                self.ends_backoff.succeeded();
                let mut locked = Contended::default();
                let mut refused = None;
                for (end, answer) in ends.into_iter().zip(answers) {
                    if let Completed::Locked | Completed::Unavailable { .. } = answer {
                        let again = |held: &mut Held| {
                            held.tries = held.tries.saturating_add(1);
                            held.tries
                        };
                        if let Some(tries) = self.with_held(end.run, again).filter(|_| !is_lost) {
                            if let Completed::Unavailable { reason } = answer {
                                refused.get_or_insert(bounded(reason, TEXT_MAX));
                            } else if tries > LOCKED_TRIES_MAX {
                                refused.get_or_insert_with(|| always_locked(&end.job));
                            }
                            locked.add(tries, end);
                        }
                        continue;
                    }
                    let held = self.let_go(end.run);
                    if is_lost {
                        self.ends.retain(|again| again.run != end.run);
                    }
                    if matches!(answer, Completed::Recorded { .. }) {
                        self.refused.ended.took(&end.job);
                        held.iter().for_each(|held| self.tell_taken(&held.job, RefusedStep::End));
                    }
                    if let Some(held) = held {
                        self.on_recorded(held, end.from_completion, &answer);
                    }
                    note_end(&self.node, &end, &answer, &self.reports);
                }
                self.note_round(Operation::Complete, refused);
                let pause = locked.pause();
                self.complete_later(pause, locked.items, ctx);
            }
            Err(error) if is_lost => self.failed(Operation::Complete, &error),
            Err(LockError::BadData { reason }) => self.suspect_ends(ends, &reason, ctx),
            Err(error) => {
                self.failed(Operation::Complete, &error);
                // With those that come meanwhile: all of them in one call, and not one call for each that
                // comes.
                let pause = self.ends_backoff.failed();
                self.ends_not_before = self.node.clock.elapsed().saturating_add(pause);
                self.complete_later(pause, ends, ctx);
            }
        }
    }

    /// What became of the end of a run, and what it did to its job.
    pub(super) fn on_recorded(&self, held: Held, from_completion: bool, answer: &Completed) {
        let Held { job, ended, .. } = held;
        if let Some(ended) = ended {
            ended.0.on_answered(answer);
        }
        for input in after_end(&job, from_completion, answer) {
            job.send(input);
        }
    }

    /// Again, until it is recorded or the session is lost; the number is bounded by what is held.
    pub(super) fn complete_later(&mut self, pause: Duration, ends: Vec<Completion>, ctx: &mut Context<Self>) {
        let session = self.session;
        self.later(pause, ends, ctx, move |actor, ends| {
            if actor.session == session {
                ends.into_iter().for_each(|end| actor.take_end(end));
            }
        });
    }

    pub(super) fn on_claimed(
        &mut self,
        session: Session,
        claims: Vec<ClaimRun>,
        claimed: Result<Vec<Verdict>, LockError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(LockError::BadData { reason }) = &claimed {
            return self.suspect_claims(claims, reason);
        }
        let none = |reason| Verdict::Unavailable { reason };
        let mut verdicts = claimed.unwrap_or_else(|error| Reasons::of_all(claims.len(), &error, none));
        self.look_for_a_store_set_back(session, &claims, &mut verdicts);
        let mut reasons = Reasons::default();
        let mut locked = Contended::default();
        let (mut granted, mut refused) = (false, None);
        for (mut asked, verdict) in claims.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Locked { .. } if asked.tries < LOCKED_TRIES_MAX => {
                    asked.tries += 1;
                    locked.add(asked.tries, asked);
                }
                Verdict::BadData { reason } => {
                    let reason = reasons.take(reason);
                    if !self.refuse_claim(asked, &reason) {
                        refused.get_or_insert(reason);
                    }
                }
                Verdict::Granted { token, lost } => {
                    granted = true;
                    self.on_granted(session, asked, token, lost);
                }
                verdict => {
                    if let Some(reason) = self.on_not_granted(asked, verdict, &mut reasons) {
                        refused.get_or_insert(reason);
                    }
                }
            }
        }
        if granted {
            self.claimed_at = self.node.clock.elapsed();
            self.node.failures.proved();
        }
        self.note_round(Operation::Claim, refused);
        let pause = locked.pause();
        self.later(pause, locked.items, ctx, |actor, claims| {
            claims.into_iter().for_each(|claim| actor.take_claim(claim));
        });
    }

    /// The session holds a key for a run that this node does not hold: its claim or its end is on the way, so
    /// the key is asked for again; or the store was set back. Then the session is given up, so that its keys
    /// can be taken over.
    fn look_for_a_store_set_back(&mut self, session: Session, claims: &[ClaimRun], verdicts: &mut [Verdict]) {
        let now = self.node.clock.elapsed();
        for verdict in verdicts {
            let Verdict::Busy { holder: Some(run), own: true } = *verdict else { continue };
            if self.held.holder(run).is_some() || claims.iter().any(|asked| asked.claim.run == run) {
                continue;
            }
            *verdict = if self.unknown_holder.meet(session, run, now) {
                self.locker.discard(session, SET_BACK);
                Verdict::Unavailable { reason: SET_BACK.to_owned() }
            } else {
                Verdict::Locked { holder: None }
            };
        }
    }

    /// A claim is granted: this node holds the run, unless its session died before the answer was read.
    fn on_granted(
        &mut self,
        session: Session,
        asked: ClaimRun,
        token: FencingToken,
        lost: Option<Box<LostRun>>,
    ) {
        let ClaimRun { job, claim: Claim { run, tick, slot, .. }, key, .. } = asked;
        self.refused.claimed.took(&job.definition.name);
        self.tell_taken(&job, RefusedStep::Claim);
        if tick.is_some_and(|tick| tick.skips.total() > 0) {
            // It moved the cursor over skipped ticks as well.
            self.tell_taken(&job, RefusedStep::Advance);
        }
        let verdict = Verdict::Granted { token, lost };
        after_claim(&job, tick.as_ref(), &verdict, &self.reports);
        if self.session != Some(session) {
            // The next node closes the run.
            self.node.meters.locks_lost.increment(1);
            return job.send(Input::Claimed { run, verdict: Verdict::GrantedBefore });
        }
        let key = key.slot(slot);
        if let Some(history) = &mut self.history {
            let (job, key) = (job.definition.name.clone(), key.clone());
            let fire_time = tick.map(|tick| tick.fire_time);
            history.add(GrantedRun { job, key, run, fire_time, token });
        }
        self.held.hold(run, Held::new(job.clone(), key, token));
        job.post(JobMessage::Granted { session, run, verdict });
    }

    /// A claim is not granted: the job hears why. Answers the reason, if the store could not decide.
    fn on_not_granted(
        &mut self,
        asked: ClaimRun,
        mut verdict: Verdict,
        reasons: &mut Reasons,
    ) -> Option<String> {
        let ClaimRun { job, claim: Claim { run, tick, .. }, .. } = asked;
        after_claim(&job, tick.as_ref(), &verdict, &self.reports);
        let mut undecided = None;
        match &mut verdict {
            Verdict::Unavailable { reason } => {
                *reason = reasons.take(&*reason);
                undecided = Some(reason.clone());
            }
            Verdict::Locked { holder: None } => {
                let decides = self.still_decides(tick.map(|tick| tick.authority));
                undecided = decides.then(|| always_locked(&job.definition.name));
            }
            Verdict::Granted { .. }
            | Verdict::GrantedBefore
            | Verdict::RanBefore { .. }
            | Verdict::Deposed { .. }
            | Verdict::HasLeader
            | Verdict::Unknown
            | Verdict::Elsewhere { .. }
            | Verdict::NotGranted
            | Verdict::AlreadyRun { .. }
            | Verdict::Busy { .. }
            | Verdict::NotYet { .. }
            | Verdict::Paused(_)
            | Verdict::Exhausted
            | Verdict::Contended
            | Verdict::TakenElsewhere { .. }
            | Verdict::Lapsed { .. }
            | Verdict::BadData { .. }
            | Verdict::Locked { holder: Some(_) } => {}
        }
        job.send(Input::Claimed { run, verdict });
        undecided
    }

    pub(super) fn on_advanced(
        &mut self,
        advances: Vec<AdvanceCursor>,
        advanced: Result<Vec<Advanced>, LockError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(LockError::BadData { reason }) = &advanced {
            return self.suspect_advances(advances, reason);
        }
        let none = |reason| Advanced::Unavailable { reason };
        let answers = advanced.unwrap_or_else(|error| Reasons::of_all(advances.len(), &error, none));
        let mut reasons = Reasons::default();
        let mut locked = Contended::default();
        let mut refused = None;
        for (mut asked, mut answer) in advances.into_iter().zip(answers) {
            if answer == Advanced::Locked && asked.tries < LOCKED_TRIES_MAX {
                asked.tries += 1;
                locked.add(asked.tries, asked);
                continue;
            }
            if let Advanced::BadData { reason } = &answer {
                let reason = reasons.take(reason);
                if !self.refuse_advance(&asked.job, &reason) {
                    refused.get_or_insert(reason);
                }
                continue;
            }
            let AdvanceCursor { job, advance, .. } = asked;
            after_advance(&job, &advance, &answer, &self.reports);
            match &mut answer {
                Advanced::Done => {
                    self.refused.claimed.took(&job.definition.name);
                    self.tell_taken(&job, RefusedStep::Advance);
                }
                Advanced::Locked if self.still_decides(Some(advance.authority)) => {
                    refused.get_or_insert_with(|| always_locked(&job.definition.name));
                }
                Advanced::Unavailable { reason } => {
                    *reason = reasons.take(&*reason);
                    refused.get_or_insert_with(|| reason.clone());
                }
                Advanced::Deposed { .. }
                | Advanced::HasLeader
                | Advanced::Unknown
                | Advanced::Elsewhere { .. }
                | Advanced::BadData { .. }
                | Advanced::Locked => {}
            }
            job.send(Input::Advanced(answer));
        }
        self.note_round(Operation::Advance, refused);
        let pause = locked.pause();
        self.later(pause, locked.items, ctx, |actor, advances| {
            advances.into_iter().for_each(|advance| actor.take_advance(advance));
        });
    }
}

/// What the store says of the items of one round trip, on its way to their jobs.
struct Reasons {
    room: usize,
}

impl Default for Reasons {
    fn default() -> Self {
        Self { room: ROUND_REASON_BYTES_MAX }
    }
}

impl Reasons {
    /// The same answer to each of so many items. What is taken of them once more is as it is.
    fn of_all<A>(items: usize, error: &LockError, answer: impl Fn(String) -> A) -> Vec<A> {
        let mut reasons = Self::default();
        (0..items).map(|_| answer(reasons.take(error))).collect()
    }

    /// In full while there is room, and the start of it afterwards.
    fn take(&mut self, reason: impl fmt::Display) -> String {
        let longest = if self.room < TEXT_MAX { REASON_SHORT } else { TEXT_MAX };
        let reason = bounded(reason, longest);
        self.room = self.room.saturating_sub(reason.len());
        reason
    }
}

/// What of a batch somebody else has locked.
struct Contended<T> {
    items: Vec<T>,
    /// How often the freshest of them was found locked.
    tries: u32,
}

impl<T> Default for Contended<T> {
    fn default() -> Self {
        Self { items: Vec::new(), tries: u32::MAX }
    }
}

impl<T> Contended<T> {
    fn add(&mut self, tries: u32, item: T) {
        self.tries = self.tries.min(tries);
        self.items.push(item);
    }

    /// How long to wait: as the freshest of them wants it.
    fn pause(&self) -> Duration {
        doubled(LOCKED_MIN, self.tries.saturating_sub(1), LOCKED_MAX)
    }
}
