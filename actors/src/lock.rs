//! The lock actor owns the claims in flight and held.
//!
//! It is the only caller of the locker port. Job actors ask it for claims and tell it of ends; while a round trip is under
//! way it collects, and everything collected goes into the next one, so that there is no waiting timer and at low load a
//! claim goes out at once. Ends go before claims, in the order of the locker's contract. When the session is lost it fails
//! what is pending, tells the jobs whose keys are gone, and opens another session. Nothing survives a restart.

mod ends;
mod halves;
mod hearing;
mod history;
mod proofs;
mod suspects;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use actix::prelude::*;
use foldhash::HashMap;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::oneshot;

pub(crate) use self::{ends::Conclusion, proofs::AllEnrolled};
use self::{
    halves::in_halves,
    hearing::{HeardFirst, Hearing},
    history::History,
    proofs::Proofs,
    suspects::{Answered, Suspects},
};
use crate::{
    CALL_DEADLINE,
    contained::{NoAnswer, caught, contained, contained_within},
    core::{
        backoff::Backoff,
        job::{Advance, Claim, Input},
        operation::Operation,
        round_trip::{LeaseChange, LeaseTooShort, LeaseWatch},
        text::{TEXT_MAX, bounded, cut, one_line},
    },
    definition::Definition,
    election::{ElectionActor, TermRefused},
    event::EventKind,
    health::NO_SESSION,
    job::{Content, Letter},
    name::{FencingToken, JobName, LockKey, RunId, Term},
    node::{JobRef, Node, RefusedStep},
    port::{
        Authority, ClaimRequest, ClosedRuns, Completed, Completion, CursorMove, Debt, Declaration, Enrolled,
        Enrolment, Forgotten, GrantedRun, Inquiry, LockError, Locker, LostRun, Moved, Obstacle,
        OtherZoneData, Pause, RoundAnswers, Session, Standing, Verdict,
    },
    supervisor::{RunsLost, SessionNews, TakenByLeader, UnknownToStore},
};

/// The most claims, ends or cursor moves in one round trip.
pub(crate) const BATCH_MAX: usize = 1_024;
/// The first pause before another session is opened after one could not be.
pub(crate) const REOPEN_MIN: Duration = Duration::from_millis(250);
/// The longest pause while the store is away: when it is back, its nodes are back within a second, and not all at once.
pub(crate) const AWAY_MAX: Duration = Duration::from_millis(750);
/// The longest pause while the store refuses the node: somebody has to change something first.
pub(crate) const REFUSED_MAX: Duration = Duration::from_secs(2);
/// The deadline of opening a session, which may have to change the store's schema first, or wait for a node that does.
pub(crate) const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// The pause before what somebody else has locked is asked again; it doubles up to [`LOCKED_MAX`].
pub(crate) const LOCKED_MIN: Duration = Duration::from_millis(2);
/// The longest pause before what somebody else has locked is asked again.
pub(crate) const LOCKED_MAX: Duration = Duration::from_millis(250);
/// The pause before ends that the store did not record are asked again; it doubles up to [`ENDS_AGAIN_MAX`].
pub(crate) const ENDS_AGAIN_MIN: Duration = Duration::from_millis(250);
/// The longest pause before ends that the store did not record are asked again.
pub(crate) const ENDS_AGAIN_MAX: Duration = Duration::from_secs(5);

/// How often a claim or a move may be found locked before the job is told, half a second after the first time.
pub(crate) const LOCKED_TRIES_MAX: u32 = 8;

/// Asks the store for a run. The answer goes to the job's machine.
pub(crate) struct ClaimRun {
    pub(crate) job: Arc<JobRef>,
    pub(crate) claim: Claim,
    /// The lock key of which it takes a slot: that of the definition under which the run was asked for first.
    pub(crate) key: LockKey,
    /// How often it was found locked.
    pub(crate) tries: u32,
}

/// Asks the store to move a job's cursor over skipped ticks. The answer goes to the job's machine.
pub(crate) struct AdvanceCursor {
    pub(crate) job: Arc<JobRef>,
    pub(crate) advance: Advance,
    /// How often it was found locked.
    pub(crate) tries: u32,
}

/// A run is over: record it, and free its key.
pub(crate) struct CompleteRun {
    pub(crate) conclusion: Conclusion,
    /// The job's next tick counts from this end.
    pub(crate) from_completion: bool,
}

/// What a job asks.
pub(crate) enum Ask {
    Claim(ClaimRun),
    Advance(AdvanceCursor),
    Complete(CompleteRun),
}

/// Jobs have asked something: see [`Node::ask`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TakeAsks;

/// Marks jobs as scheduled under a term and answers their cursors.
#[derive(Message)]
#[rtype(result = "Result<Vec<Enrolled>, LockError>")]
pub(crate) struct EnrolJobs(pub(crate) Vec<Enrolment>);

/// Asks what the leader does with jobs. Refused without a wait while there is no session.
#[derive(Message)]
#[rtype(result = "Result<Vec<Standing>, LockError>")]
pub(crate) struct InquireJobs {
    pub(crate) jobs: Vec<Inquiry>,
    pub(crate) purpose: InquiryPurpose,
}

/// Why the standing of jobs is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InquiryPurpose {
    /// They may have to be fired here: no answer is a failure of the node.
    Firing,
    /// Somebody looks at them, and is told why there is no answer. How often somebody looks does not count as failures.
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

/// Pauses jobs for all nodes, or resumes them. Answers which were changed by it, and why others are refused for their data.
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
pub(crate) struct HoldJobs {
    pub(crate) jobs: Vec<JobName>,
    /// What was said for so short a time need not be said again.
    pub(crate) fresh: Duration,
}

/// Asks for a page of what jobs owe, after a run.
#[derive(Message)]
#[rtype(result = "Result<Vec<Debt>, LockError>")]
pub(crate) struct AskDebts(pub(crate) Option<RunId>);

/// Asks by which time zone data other nodes go, if not by that of this one.
#[derive(Message)]
#[rtype(result = "Result<Vec<OtherZoneData>, LockError>")]
pub(crate) struct AskOtherZoneData;

/// Answers when a session is open, or when the next attempt to open one fails.
#[derive(Message)]
#[rtype(result = "Result<(), LockError>")]
pub(crate) struct AwaitSession;

/// Reads what the session measured last: how far the node's clock is from the store's, and what a round trip takes.
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
#[rtype(result = "Option<Arc<JobRef>>")]
pub(crate) struct FindHolder(pub(crate) RunId);

/// Writes the ends that are not recorded yet, then ends the session and the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseSession;

/// A claim that was granted and whose end is not recorded.
struct Held {
    job: Arc<JobRef>,
    key: LockKey,
    token: FencingToken,
    /// How often its end was found locked.
    tries: u32,
    /// Its body is over; whether the job's next tick counts from there.
    ended: Option<Box<(Conclusion, bool)>>,
}

/// Batches what the jobs ask, and keeps what they hold.
pub(crate) struct LockActor {
    node: Arc<Node>,
    locker: Arc<dyn Locker>,
    election: Addr<ElectionActor>,
    session: Option<Session>,
    /// Since when there is none, if there is none.
    session_lost_at: Duration,
    away_backoff: Backoff,
    refused_backoff: Backoff,
    /// Who waits for a session.
    awaiting: Vec<oneshot::Sender<Result<(), LockError>>>,
    claims: VecDeque<ClaimRun>,
    moves: VecDeque<AdvanceCursor>,
    ends: VecDeque<Completion>,
    /// Ends were not recorded: none is asked before this reading.
    ends_not_before: Duration,
    ends_backoff: Backoff,
    /// What the store refused for its data, until the bad items stand alone.
    suspects: Suspects,
    /// How many batches wait to be asked again.
    delayed: u32,
    held: HashMap<RunId, Held>,
    /// What former sessions held, and whose ends got no answer before they were lost.
    unanswered: HashMap<RunId, Held>,
    hearing: Option<Hearing>,
    /// `None`: nothing has to be proved.
    proofs: Option<Proofs>,
    /// What this node was granted; `None` if the store has one node.
    history: Option<History>,
    /// Whether that lease is long enough for the network.
    lease: Option<LeaseWatch>,
    /// When a claim was granted last.
    claimed_at: Duration,
    round_started: Option<Duration>,
    closing: Option<oneshot::Sender<()>>,
}

impl LockActor {
    /// `lease`: `None` if the store has one node.
    pub(crate) fn new(node: Arc<Node>, election: Addr<ElectionActor>, lease: Option<Duration>) -> Self {
        Self {
            away_backoff: Backoff::new(REOPEN_MIN, AWAY_MAX, node.seed()),
            refused_backoff: Backoff::new(REOPEN_MIN, REFUSED_MAX, node.seed()),
            session_lost_at: node.clock.elapsed(),
            ends_not_before: Duration::ZERO,
            ends_backoff: Backoff::new(ENDS_AGAIN_MIN, ENDS_AGAIN_MAX, node.seed()),
            suspects: Suspects::default(),
            locker: node.locker.clone(),
            node,
            election,
            session: None,
            awaiting: Vec::new(),
            claims: VecDeque::new(),
            moves: VecDeque::new(),
            ends: VecDeque::new(),
            delayed: 0,
            held: HashMap::default(),
            unanswered: HashMap::default(),
            hearing: None,
            proofs: lease.map(Proofs::new),
            history: lease.map(|_| History::default()),
            lease: lease.map(LeaseWatch::new),
            claimed_at: Duration::ZERO,
            round_started: None,
            closing: None,
        }
    }

    fn open_session(&mut self, ctx: &mut Context<Self>) {
        let locker = self.locker.clone();
        let call = async move { call_within(OPEN_DEADLINE, async { locker.open().await }).await };
        ctx.spawn(call.into_actor(self).map(|opened, actor, ctx| actor.on_opened(opened, ctx)));
    }

    fn on_opened(&mut self, opened: Result<Session, LockError>, ctx: &mut Context<Self>) {
        for waiting in self.awaiting.drain(..) {
            // Whoever waited may have given up.
            let _ = waiting.send(opened.as_ref().map(drop).map_err(Clone::clone));
        }
        if self.closing.is_some() {
            return;
        }
        match opened {
            Ok(session) => {
                self.session = Some(session);
                self.node.failures.succeeded(Operation::Open);
                self.node.failures.succeeded(Operation::Session);
                // What there was to record ended with the session before.
                self.node.failures.dropped(Operation::Complete);
                // Before anybody campaigns on it.
                self.read_measured();
                self.away_backoff.succeeded();
                self.refused_backoff.succeeded();
                let locker = self.locker.clone();
                // A panic in there leaves the session in doubt, which is as good as lost.
                let lost = caught(async move { locker.lost(session).await });
                ctx.spawn(lost.into_actor(self).map(move |reason, actor, ctx| {
                    let reason = reason.unwrap_or_else(|_| "the adapter panicked".to_owned());
                    actor.on_lost(session, &reason, ctx);
                }));
                self.listen(session, ctx);
                self.prove_later(ctx);
                self.ask_unanswered(ctx);
                self.compare_history(ctx);
                self.node.supervisor().do_send(SessionNews::Opened);
            }
            Err(error) => {
                self.failed(Operation::Open, &error);
                self.reopen_later(matches!(error, LockError::Refused { .. }), ctx);
            }
        }
    }

    /// Reads what the session measured last.
    fn read_measured(&mut self) {
        self.node.set_clock_ahead(self.locker.clock_ahead());
        let Some(round_trip) = self.locker.round_trip() else { return };
        self.node.meters.store_round_trip.set(round_trip.as_secs_f64());
        if self.session.is_none() {
            // They are those of a session that is lost.
            return;
        }
        let change = self.lease.as_mut().and_then(|lease| lease.look(self.node.clock.elapsed(), round_trip));
        match change {
            Some(LeaseChange::TooShort(LeaseTooShort { round_trip, lease_min, .. })) => {
                self.node.publisher.publish(|| EventKind::LeaseTooShort { round_trip, lease_min });
            }
            Some(LeaseChange::Enough) => {
                self.node.publisher.publish(|| EventKind::LeaseLongEnough { round_trip })
            }
            None => {}
        }
    }

    fn reopen_later(&mut self, refused: bool, ctx: &mut Context<Self>) {
        let pause = if refused { self.refused_backoff.failed() } else { self.away_backoff.failed() };
        ctx.run_later(pause, |actor, ctx| actor.open_session(ctx));
    }

    /// Everything that this node held is gone.
    fn on_lost(&mut self, session: Session, reason: &str, ctx: &mut Context<Self>) {
        if self.session != Some(session) {
            return;
        }
        self.session = None;
        // What keeps the next one from being opened is said by that attempt.
        self.lease.iter_mut().for_each(LeaseWatch::forget);
        self.session_lost_at = self.node.clock.elapsed();
        self.failed(Operation::Session, &format_args!("the session is lost: {reason}"));
        self.node.supervisor().do_send(SessionNews::Lost);
        self.ends.clear();
        self.ends_backoff.succeeded();
        self.ends_not_before = Duration::ZERO;
        let held = std::mem::take(&mut self.held).into_iter();
        let (ended, mut held): (Vec<_>, Vec<_>) = held.partition(|(_, held)| held.ended.is_some());
        // The next session tells whether their ends are recorded.
        self.unanswered.extend(ended);
        self.unanswered.values_mut().for_each(|held| held.tries = 0);
        self.node.meters.locks_lost.increment(held.len() as u64);
        self.node.meters.locks_held.set(0);
        held.sort_unstable_by_key(|(run, _)| *run);
        for (run, Held { job, .. }) in held {
            Letter::send(&job, Input::LockLost { run });
        }
        self.refuse_pending();
        if self.closing.is_none() {
            self.open_session(ctx);
        }
    }

    /// Answers everything that waits for a session that is not there.
    fn refuse_pending(&mut self) {
        let reason = || NO_SESSION.to_owned();
        let (claims, moves) = self.suspects.clear();
        self.claims.extend(claims);
        self.moves.extend(moves);
        for ClaimRun { job, claim: Claim { run, .. }, .. } in self.claims.drain(..) {
            Letter::send(&job, Input::Claimed { run, verdict: Verdict::Unavailable { reason: reason() } });
        }
        for AdvanceCursor { job, .. } in self.moves.drain(..) {
            Letter::send(&job, Input::Advanced(Moved::Unavailable { reason: reason() }));
        }
    }

    fn failed(&self, operation: Operation, error: &dyn std::fmt::Display) {
        self.node.failures.failed(operation, error);
    }

    /// Whether this node goes on to ask by what it asked by: the next leader asks for a former one, who would be said to fail for long.
    fn still_decides(&self, authority: Option<Authority>) -> bool {
        let term = authority.and_then(Authority::term);
        term.is_none() || term == self.node.leadership.term(self.node.clock.elapsed())
    }

    /// Keeps whether something that was asked in a round was refused.
    fn note_round(&self, operation: Operation, refused: Option<String>) {
        match refused {
            None => self.node.failures.succeeded(operation),
            Some(reason) => self.node.failures.failed(operation, &reason),
        }
    }

    /// Keeps whether an operation failed, and hands its answer on.
    fn noted<T>(&self, operation: Operation, answer: Result<T, LockError>) -> Result<T, LockError> {
        match &answer {
            Ok(_) => self.node.failures.succeeded(operation),
            Err(error) => self.node.failures.failed(operation, error),
        }
        answer
    }

    /// The next round trip, if there is anything to do.
    fn next_round(&mut self) -> Option<BoxFuture<'static, Round>> {
        let now = self.node.clock.elapsed();
        let ends_wait = self.ends.is_empty() || now < self.ends_not_before;
        if self.claims.is_empty() && self.moves.is_empty() && ends_wait && !self.suspects.are_due(now) {
            return None;
        }
        let Some(session) = self.session else {
            self.refuse_pending();
            return None;
        };
        self.round_started = Some(now);
        let ends = if ends_wait { Vec::new() } else { take_batch(&mut self.ends) };
        let claims = take_batch(&mut self.claims);
        let moves = take_batch(&mut self.moves);
        let requests: Vec<_> = claims.iter().map(request).collect();
        let cursor_moves: Vec<_> = moves.iter().map(cursor_move).collect();
        // On top of what is asked anyway, and after it.
        let trial = self.suspects.take(now);
        let locker = self.locker.clone();
        Some(Box::pin(async move {
            let round = match ends.is_empty() && requests.is_empty() && cursor_moves.is_empty() {
                true => {
                    Ok(RoundAnswers { ended: Ok(Vec::new()), claimed: Ok(Vec::new()), moved: Ok(Vec::new()) })
                }
                false => contained(async { locker.round(&ends, &requests, &cursor_moves).await }).await,
            };
            // Whatever it asked may have been done.
            let round = round.unwrap_or_else(|_| RoundAnswers::failed(&LockError::Timeout));
            let ended = round.ended.and_then(one_each(ends.len()));
            let claimed = round.claimed.and_then(one_each(requests.len()));
            let moved = round.moved.and_then(one_each(cursor_moves.len()));
            let tried = match trial {
                Some(trial) => Some(trial.ask(&*locker).await),
                None => None,
            };
            Round { session, ended: (ends, ended), claimed: (claims, claimed), moved: (moves, moved), tried }
        }))
    }

    fn on_round(&mut self, round: Round, ctx: &mut Context<Self>) {
        self.read_measured();
        let started = self.round_started.take();
        let Round { session, ended: (ends, ended), claimed: (claims, claimed), moved: (moves, moved), tried } =
            round;
        if !ends.is_empty() {
            self.on_ended(session, ends, ended, ctx);
        }
        if !claims.is_empty() {
            let took = started.map(|started| self.node.clock.elapsed().saturating_sub(started));
            self.node.meters.claim_duration.record(took.unwrap_or_default().as_secs_f64());
            self.on_claimed(session, claims, claimed, ctx);
        }
        if !moves.is_empty() {
            self.on_moved(moves, moved, ctx);
        }
        match tried {
            Some(Answered::Ends(ends, ended)) => self.on_ended(session, ends, ended, ctx),
            Some(Answered::Claims(claims, claimed)) => self.on_claimed(session, claims, claimed, ctx),
            Some(Answered::Moves(moves, moved)) => self.on_moved(moves, moved, ctx),
            Some(Answered::Released { end, released, reason }) => {
                self.on_released(end, released, &reason, ctx)
            }
            None => {}
        }
        if self.session != Some(session) {
            self.node.failures.dropped(Operation::Complete);
        }
        self.wake_for_suspects(ctx);
        self.node.meters.locks_held.set(self.held.len() as f64);
    }

    /// What a session that is lost was asked in vain is asked in the next one, by [`ask_unanswered`](Self::ask_unanswered).
    fn on_ended(
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
                let mut locked = Locked::default();
                let mut refused = None;
                for (end, answer) in ends.into_iter().zip(answers) {
                    if let Completed::Locked | Completed::Unavailable { .. } = answer {
                        if let Some(held) = self.held(end.run).filter(|_| !is_lost) {
                            held.tries = held.tries.saturating_add(1);
                            if let Completed::Unavailable { reason } = answer {
                                refused.get_or_insert(bounded(reason, TEXT_MAX));
                            } else if held.tries > LOCKED_TRIES_MAX {
                                refused.get_or_insert_with(|| always_locked(&end.job));
                            }
                            locked.add(held.tries, end);
                        }
                        continue;
                    }
                    let held = self.let_go(end.run);
                    if is_lost {
                        self.ends.retain(|again| again.run != end.run);
                    }
                    if matches!(answer, Completed::Recorded { .. }) {
                        self.suspects.ended.took(&end.job);
                        held.iter().for_each(|held| self.tell_taken(&held.job, RefusedStep::End));
                    }
                    if let Some(held) = held {
                        self.on_recorded(held, end.from_completion, &answer);
                    }
                    if answer == Completed::Unknown {
                        self.node.supervisor().do_send(UnknownToStore(end.job.clone()));
                    }
                    if matches!(answer, Completed::Stale | Completed::Unknown) {
                        self.node.meters.coordination_error(Operation::StaleCompletion);
                        tracing::warn!(target: "callsheet", job = %end.job, run = %end.run, "a completion was refused");
                    }
                }
                self.note_round(Operation::Complete, refused);
                let pause = locked.pause();
                self.complete_later(pause, locked.items, ctx);
            }
            Err(error) if is_lost => self.failed(Operation::Complete, &error),
            Err(LockError::BadData { reason }) => self.suspect_ends(ends, &reason, ctx),
            Err(error) => {
                self.failed(Operation::Complete, &error);
                // With those that come meanwhile: all of them in one call, and not one call for each that comes.
                let pause = self.ends_backoff.failed();
                self.ends_not_before = self.node.clock.elapsed().saturating_add(pause);
                self.complete_later(pause, ends, ctx);
            }
        }
    }

    /// What became of the end of a run, and what it did to its job.
    fn on_recorded(&self, held: Held, from_completion: bool, answer: &Completed) {
        let Held { job, ended, .. } = held;
        if let Some(ended) = ended {
            ended.0.on_answered(answer);
        }
        let (cursor, pause) = match answer {
            Completed::Recorded { cursor, pause } => (*cursor, pause.as_ref()),
            Completed::Stale | Completed::Unknown | Completed::Locked | Completed::Unavailable { .. } => {
                (None, None)
            }
        };
        if from_completion {
            // Whatever the answer is: the job waits for it.
            Letter::send(&job, Input::Anchored { cursor });
        }
        if let Some(pause) = pause {
            let (name, pause) = (job.definition.name.clone(), pause.clone().cut());
            self.node.publisher.publish(|| EventKind::JobPaused { job: name, pause: pause.clone() });
            Letter::send(&job, Input::Pause(Some(pause)));
        }
    }

    /// Again, until it is recorded or the session is lost; the number is bounded by what is held.
    fn complete_later(&mut self, pause: Duration, ends: Vec<Completion>, ctx: &mut Context<Self>) {
        let session = self.session;
        self.later(pause, ends, ctx, move |actor, ends| {
            if actor.session == session {
                ends.into_iter().for_each(|end| actor.take_end(end));
            }
        });
    }

    /// Keeps a batch until it is asked again. One timer for all of it: each costs the actor something at every wake-up.
    fn later<T: 'static>(
        &mut self,
        pause: Duration,
        batch: Vec<T>,
        ctx: &mut Context<Self>,
        again: impl FnOnce(&mut Self, Vec<T>) + 'static,
    ) {
        if batch.is_empty() {
            return;
        }
        self.delayed += 1;
        ctx.run_later(pause, move |actor, ctx| {
            actor.delayed -= 1;
            again(actor, batch);
            // The rounds were polled before this timer was; nothing else may wake them for long.
            ctx.notify(TakeAsks);
        });
    }

    fn on_claimed(
        &mut self,
        session: Session,
        claims: Vec<ClaimRun>,
        claimed: Result<Vec<Verdict>, LockError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(LockError::BadData { reason }) = &claimed {
            return self.suspect_claims(claims, reason);
        }
        let none = |error| Verdict::Unavailable { reason: bounded(error, TEXT_MAX) };
        let verdicts = claimed.unwrap_or_else(|error| vec![none(error); claims.len()]);
        let mut locked = Locked::default();
        let (mut granted, mut refused) = (false, None);
        for (mut asked, mut verdict) in claims.into_iter().zip(verdicts) {
            if matches!(verdict, Verdict::Locked { .. }) && asked.tries < LOCKED_TRIES_MAX {
                asked.tries += 1;
                locked.add(asked.tries, asked);
                continue;
            }
            if let Verdict::BadData { reason } = &verdict {
                if !self.refuse_claim(asked, reason) {
                    refused.get_or_insert_with(|| reason.clone());
                }
                continue;
            }
            let ClaimRun { job, claim: Claim { run, tick, slot, .. }, key, .. } = asked;
            match &mut verdict {
                Verdict::Unavailable { reason } => {
                    cut(reason, TEXT_MAX);
                    refused.get_or_insert_with(|| reason.clone());
                }
                Verdict::Locked { holder: None } => {
                    if self.still_decides(tick.map(|tick| tick.authority)) {
                        refused.get_or_insert_with(|| always_locked(&job.definition.name));
                    }
                }
                Verdict::Granted { token, lost } => {
                    granted = true;
                    self.suspects.claimed.took(&job.definition.name);
                    self.tell_taken(&job, RefusedStep::Claim);
                    if tick.is_some_and(|tick| tick.skips.total() > 0) {
                        // It moved the cursor over skipped ticks as well.
                        self.tell_taken(&job, RefusedStep::Move);
                    }
                    if let Some(lost) = lost {
                        publish_lost(&self.node, lost);
                        self.node.supervisor().do_send(RunsLost(vec![(**lost).clone()]));
                    }
                    if let Some(tick) = &tick {
                        job.meters.committed(1, &tick.skips);
                    }
                    if self.session != Some(session) {
                        // Granted to a session that died before the answer was read: whoever takes over closes the run.
                        self.node.meters.locks_lost.increment(1);
                        Letter::send(&job, Input::Claimed { run, verdict: Verdict::GrantedBefore });
                        continue;
                    }
                    let key = key.slot(slot);
                    if let Some(history) = &mut self.history {
                        let (job, key) = (job.definition.name.clone(), key.clone());
                        let fire_time = tick.map(|tick| tick.fire_time);
                        history.add(GrantedRun { job, key, run, fire_time, token: *token });
                    }
                    self.held
                        .insert(run, Held { job: job.clone(), key, token: *token, tries: 0, ended: None });
                    Letter::post(&job, Content::Granted { session, run, verdict });
                    continue;
                }
                Verdict::GrantedBefore => {
                    // Nobody else knows what was skipped with it.
                    if let Some(tick) = &tick {
                        job.meters.committed(1, &tick.skips);
                    }
                }
                Verdict::Deposed { .. } => {
                    if let Some(term) = tick.and_then(|tick| tick.authority.term()) {
                        self.election.do_send(TermRefused(term));
                    }
                }
                Verdict::Led => {
                    self.node.supervisor().do_send(TakenByLeader(job.definition.name.clone()));
                }
                Verdict::Unknown => {
                    self.node.supervisor().do_send(UnknownToStore(job.definition.name.clone()));
                }
                Verdict::Moved { .. }
                | Verdict::NotGranted
                | Verdict::AlreadyRun { .. }
                | Verdict::Busy { .. }
                | Verdict::NotYet { .. }
                | Verdict::Paused(_)
                | Verdict::Exhausted
                | Verdict::BadData { .. }
                | Verdict::Locked { holder: Some(_) } => {}
            }
            Letter::send(&job, Input::Claimed { run, verdict });
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

    fn on_moved(
        &mut self,
        moves: Vec<AdvanceCursor>,
        moved: Result<Vec<Moved>, LockError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(LockError::BadData { reason }) = &moved {
            return self.suspect_moves(moves, reason);
        }
        let none = |error| Moved::Unavailable { reason: bounded(error, TEXT_MAX) };
        let answers = moved.unwrap_or_else(|error| vec![none(error); moves.len()]);
        let mut locked = Locked::default();
        let mut refused = None;
        for (mut asked, mut answer) in moves.into_iter().zip(answers) {
            if answer == Moved::Locked && asked.tries < LOCKED_TRIES_MAX {
                asked.tries += 1;
                locked.add(asked.tries, asked);
                continue;
            }
            if let Moved::BadData { reason } = &answer {
                if !self.refuse_move(&asked.job, reason) {
                    refused.get_or_insert_with(|| reason.clone());
                }
                continue;
            }
            let AdvanceCursor { job, advance, .. } = asked;
            match &mut answer {
                Moved::Done => {
                    self.suspects.claimed.took(&job.definition.name);
                    self.tell_taken(&job, RefusedStep::Move);
                    job.meters.committed(0, &advance.skips);
                }
                Moved::Deposed { .. } => {
                    if let Some(term) = advance.authority.term() {
                        self.election.do_send(TermRefused(term));
                    }
                }
                Moved::Led => {
                    self.node.supervisor().do_send(TakenByLeader(job.definition.name.clone()));
                }
                Moved::Unknown => {
                    self.node.supervisor().do_send(UnknownToStore(job.definition.name.clone()));
                }
                Moved::Locked if self.still_decides(Some(advance.authority)) => {
                    refused.get_or_insert_with(|| always_locked(&job.definition.name));
                }
                Moved::Unavailable { reason } => {
                    cut(reason, TEXT_MAX);
                    refused.get_or_insert_with(|| reason.clone());
                }
                Moved::Elsewhere { .. } | Moved::BadData { .. } | Moved::Locked => {}
            }
            Letter::send(&job, Input::Advanced(answer));
        }
        self.note_round(Operation::Advance, refused);
        let pause = locked.pause();
        self.later(pause, locked.items, ctx, |actor, moves| {
            moves.into_iter().for_each(|advance| actor.take_move(advance));
        });
    }

    /// Ends the session once nothing is left to write.
    fn close_if_done(&mut self, ctx: &mut Context<Self>) {
        let busy = self.session.is_some()
            && !(self.ends.is_empty()
                && self.delayed == 0
                && self.claims.is_empty()
                && self.suspects.are_done());
        if busy || self.closing.is_none() || self.round_started.is_some() {
            return;
        }
        let Some(done) = self.closing.take() else { return };
        self.session = None;
        let locker = self.locker.clone();
        let closed = async move {
            // The store frees what it held when it notices that the session is gone.
            let _ = contained(async { locker.close().await }).await;
        };
        // Nobody asks any more what became of these ends.
        self.unanswered.clear();
        ctx.spawn(closed.into_actor(self).map(|(), _, ctx| {
            drop(done);
            ctx.stop();
        }));
    }
}

/// What one round trip asked, and the answers.
struct Round {
    session: Session,
    ended: (Vec<Completion>, Result<Vec<Completed>, LockError>),
    claimed: (Vec<ClaimRun>, Result<Vec<Verdict>, LockError>),
    moved: (Vec<AdvanceCursor>, Result<Vec<Moved>, LockError>),
    /// What was tried of the suspects.
    tried: Option<Answered>,
}

/// What of a batch somebody else has locked.
struct Locked<T> {
    items: Vec<T>,
    /// How often the freshest of them was found locked.
    tries: u32,
}

impl<T> Default for Locked<T> {
    fn default() -> Self {
        Self { items: Vec::new(), tries: u32::MAX }
    }
}

impl<T> Locked<T> {
    fn add(&mut self, tries: u32, item: T) {
        self.tries = self.tries.min(tries);
        self.items.push(item);
    }

    /// How long to wait: as the freshest of them wants it.
    fn pause(&self) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(16);
        LOCKED_MIN.saturating_mul(1 << doublings).min(LOCKED_MAX)
    }
}

/// Publishes a run that was closed because its session is dead.
pub(crate) fn publish_lost(node: &Node, lost: &LostRun) {
    let LostRun { job, run, fire_time, .. } = lost.clone();
    node.publisher.publish(|| EventKind::RunLost { job, run, fire_time });
}

/// What is wrong with a row that was found locked again and again.
pub(crate) fn always_locked(job: &JobName) -> String {
    format!(
        "the row of {job:?} cannot be changed; somebody else keeps it locked, or a trigger or row security of the store drops the \
         change: find out who"
    )
}

fn take_batch<T>(pending: &mut VecDeque<T>) -> Vec<T> {
    pending.drain(..pending.len().min(BATCH_MAX)).collect()
}

fn request(ClaimRun { job, claim, key, .. }: &ClaimRun) -> ClaimRequest {
    let Definition { name, policies, .. } = &*job.definition;
    let Claim { run, tick, settle, retake, replace, slot } = *claim;
    let key = key.slot(slot);
    ClaimRequest { job: name.clone(), key, run, tick, settle, retake, replace, limit: policies.limit }
}

fn cursor_move(AdvanceCursor { job, advance, .. }: &AdvanceCursor) -> CursorMove {
    let Advance { id, expected, to, skips, authority } = *advance;
    CursorMove { id, job: job.definition.name.clone(), expected, to, skips, authority }
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

async fn call<T>(call: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
    call_within(CALL_DEADLINE, call).await
}

async fn call_within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, LockError>>,
) -> Result<T, LockError> {
    match contained_within(deadline, call).await {
        Ok(answer) => answer,
        // Whatever it asked may have been done.
        Err(NoAnswer::Deadline | NoAnswer::Panic) => Err(LockError::Timeout),
    }
}

/// Refuses an answer that does not say something of each request: nobody may wait for one that never comes.
fn one_each<T>(asked: usize) -> impl FnOnce(Vec<T>) -> Result<Vec<T>, LockError> {
    move |answers| if answers.len() == asked { Ok(answers) } else { Err(LockError::Timeout) }
}

/// Makes round trips one after the other. One future for the life of the actor: it is polled after the mailbox was
/// emptied, so that whatever came together goes out together.
struct Rounds {
    under_way: Option<BoxFuture<'static, Round>>,
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
            if self.under_way.is_none() {
                self.under_way = actor.next_round();
            }
            let Some(round) = &mut self.under_way else {
                actor.close_if_done(ctx);
                return Poll::Pending;
            };
            let Poll::Ready(round) = round.as_mut().poll(task) else { return Poll::Pending };
            self.under_way = None;
            actor.on_round(round, ctx);
        }
        // A store that answers at once must not keep the thread from everything else.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

const ROUNDS_PER_TURN: usize = 8;

impl Actor for LockActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Rounds { under_way: None });
        self.open_session(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.node.close_asks();
    }
}

impl Handler<TakeAsks> for LockActor {
    type Result = ();

    fn handle(&mut self, _: TakeAsks, ctx: &mut Self::Context) {
        for ask in self.node.take_asks() {
            match ask {
                Ask::Claim(claim) => self.take_claim(claim),
                Ask::Advance(advance) => self.take_move(advance),
                Ask::Complete(end) => self.take_conclusion(end),
            }
        }
        self.wake_for_suspects(ctx);
    }
}

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
                // Whether it succeeded, whoever asked finds out: all of it may be locked.
                actor.failed(Operation::Enrol, error);
            }
            enrolled
        }))
    }
}

impl Handler<InquireJobs> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<Standing>, LockError>>;

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
            let left = |answer: Result<_, _>| answer.unwrap_or(Standing::Scheduled);
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
            // It is of no use to whoever asked.
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

impl Handler<HoldJobs> for LockActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, HoldJobs { jobs, fresh }: HoldJobs, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let held = async move { call(async { locker.hold(&jobs, fresh).await }).await };
        Box::pin(held.into_actor(self).map(|answer, actor, _| drop(actor.noted(Operation::Hold, answer))))
    }
}

impl Handler<AskDebts> for LockActor {
    type Result = ResponseActFuture<Self, Result<Vec<Debt>, LockError>>;

    fn handle(&mut self, AskDebts(after): AskDebts, _: &mut Self::Context) -> Self::Result {
        let locker = self.locker.clone();
        let debts = async move { call(async { locker.debts(after, BATCH_MAX).await }).await };
        Box::pin(debts.into_actor(self).map(|answer, actor, _| actor.noted(Operation::Debts, answer)))
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
        MessageResult(self.held.get(&run).map(|held| held.job.clone()))
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
