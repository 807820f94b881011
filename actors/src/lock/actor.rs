//! The lock actor: its session with the store, what it holds, and what waits.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::prelude::*;
use foldhash::HashMap;
use tokio::sync::oneshot;

use super::{
    calls::call_within,
    history::History,
    holdings::{Held, Holdings},
    notifications::NotificationStream,
    proofs::Proofs,
    refused_batches::RefusedBatches,
    report::Report,
    rounds::Rounds,
    set_back::UnknownHolder,
};
use crate::{
    catch_ups::CatchUps,
    contained::{caught, contained},
    core::{
        backfill::BackfillId,
        backoff::Backoff,
        job::{Claim, Input},
        operation::Operation,
        round_trip::{LeaseChange, LeaseTooShort, LeaseWatch},
    },
    event::{EventKind, Outcome},
    health::NO_SESSION,
    job::{AdvanceCursor, Ask, Asks, AsksWait, ClaimRun, JobHandle},
    name::{JobName, RunId},
    node::Node,
    port::{
        Advanced, Authority, Completion, Decision, DecisionRecord, LockError, Locker, LostRun, RunOrigin,
        RunRecord, Session, Verdict,
    },
};

/// The most claims, ends or cursor moves in one round trip.
pub(crate) const BATCH_MAX: usize = 1_024;
/// The first pause before another session is opened after one could not be.
pub(crate) const REOPEN_MIN: Duration = Duration::from_millis(250);
/// The longest pause while the store is away: when it is back, its nodes are back within a second, and not
/// all at once.
pub(crate) const AWAY_MAX: Duration = Duration::from_millis(750);
/// The longest pause while the store refuses the node: somebody has to change something first.
pub(crate) const REFUSED_MAX: Duration = Duration::from_secs(2);
/// The deadline of opening a session, which may have to change the store's schema first, or wait for a node
/// that does.
pub(crate) const OPEN_DEADLINE: Duration = Duration::from_secs(60);

/// The pause before ends that the store did not record are asked again; it doubles up to [`ENDS_AGAIN_MAX`].
pub(crate) const ENDS_AGAIN_MIN: Duration = Duration::from_millis(250);
/// The longest pause before ends that the store did not record are asked again.
pub(crate) const ENDS_AGAIN_MAX: Duration = Duration::from_secs(5);

/// Batches what the jobs ask, and keeps what they hold.
pub(crate) struct LockActor {
    pub(super) node: Arc<Node>,
    /// What the jobs ask.
    pub(super) asks: Arc<Asks>,
    pub(super) reports: Recipient<Report>,
    pub(super) locker: Arc<dyn Locker>,
    pub(super) session: Option<Session>,
    /// Since when there is none, if there is none.
    pub(super) session_lost_at: Duration,
    pub(super) away_backoff: Backoff,
    pub(super) refused_backoff: Backoff,
    /// Who waits for a session.
    pub(super) awaiting: Vec<oneshot::Sender<Result<(), LockError>>>,
    pub(super) claims: VecDeque<ClaimRun>,
    pub(super) advances: VecDeque<AdvanceCursor>,
    pub(super) ends: VecDeque<Completion>,
    /// Ends were not recorded: none is asked before this reading.
    pub(super) ends_not_before: Duration,
    pub(super) ends_backoff: Backoff,
    /// What the store refused for its data, until the bad items stand alone.
    pub(super) refused: RefusedBatches,
    /// How many batches wait to be asked again.
    pub(super) delayed: u32,
    pub(super) held: Arc<Holdings>,
    /// What former sessions held, and whose ends got no answer before they were lost.
    pub(super) unanswered: HashMap<RunId, Held>,
    pub(super) notifications: Option<NotificationStream>,
    /// `None`: nothing has to be proved.
    pub(super) proofs: Option<Proofs>,
    /// What this node was granted; `None` if the store has one node.
    pub(super) history: Option<History>,
    /// Whether the lease is long enough for the network.
    pub(super) lease: Option<LeaseWatch>,
    pub(super) unknown_holder: UnknownHolder,
    /// When a claim was granted last.
    pub(super) claimed_at: Duration,
    pub(super) round_started: Option<Duration>,
    pub(super) closing: Option<oneshot::Sender<()>>,
}

impl LockActor {
    /// `watched`: the lease, and the missed ticks that wait for their turns, of which other nodes are told; `None` if
    /// the store has one node.
    pub(crate) fn new(
        node: Arc<Node>,
        asks: Arc<Asks>,
        held: Arc<Holdings>,
        reports: Recipient<Report>,
        watched: Option<(Duration, Arc<CatchUps<Arc<JobHandle>>>)>,
    ) -> Self {
        let lease = watched.as_ref().map(|(lease, _)| *lease);
        Self {
            away_backoff: Backoff::new(REOPEN_MIN, AWAY_MAX, node.seed()),
            refused_backoff: Backoff::new(REOPEN_MIN, REFUSED_MAX, node.seed()),
            session_lost_at: node.clock.elapsed(),
            ends_not_before: Duration::ZERO,
            ends_backoff: Backoff::new(ENDS_AGAIN_MIN, ENDS_AGAIN_MAX, node.seed()),
            refused: RefusedBatches::default(),
            locker: node.locker.clone(),
            node,
            asks,
            reports,
            session: None,
            awaiting: Vec::new(),
            claims: VecDeque::new(),
            advances: VecDeque::new(),
            ends: VecDeque::new(),
            delayed: 0,
            held,
            unanswered: HashMap::default(),
            notifications: None,
            proofs: watched.map(|(lease, catch_ups)| Proofs::new(lease, catch_ups)),
            history: lease.map(|_| History::default()),
            lease: lease.map(LeaseWatch::new),
            unknown_holder: UnknownHolder::default(),
            claimed_at: Duration::ZERO,
            round_started: None,
            closing: None,
        }
    }

    pub(super) fn open_session(&mut self, ctx: &mut Context<Self>) {
        let locker = self.locker.clone();
        let call = async move { call_within(OPEN_DEADLINE, async { locker.open().await }).await };
        ctx.spawn(call.into_actor(self).map(|opened, actor, ctx| actor.on_opened(opened, ctx)));
    }

    pub(super) fn on_opened(&mut self, opened: Result<Session, LockError>, ctx: &mut Context<Self>) {
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
                let now = self.node.clock.elapsed();
                self.node.overdue.on_opened(now, now.saturating_sub(self.session_lost_at));
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
                self.compare_history(0, ctx);
                self.report(Report::SessionOpened);
            }
            Err(error) => {
                self.failed(Operation::Open, &error);
                self.reopen_later(matches!(error, LockError::Refused { .. }), ctx);
            }
        }
    }

    /// Reads what the session measured last.
    pub(super) fn read_measured(&mut self) {
        if self.node.measure_store_clock() {
            self.report(Report::StoreClockMoved);
        }
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

    pub(super) fn reopen_later(&mut self, refused: bool, ctx: &mut Context<Self>) {
        let pause = if refused { self.refused_backoff.failed() } else { self.away_backoff.failed() };
        ctx.run_later(pause, |actor, ctx| actor.open_session(ctx));
    }

    /// Everything that this node held is gone.
    pub(super) fn on_lost(&mut self, session: Session, reason: &str, ctx: &mut Context<Self>) {
        if self.session != Some(session) {
            return;
        }
        self.session = None;
        // What keeps the next one from being opened is said by that attempt.
        self.lease.iter_mut().for_each(LeaseWatch::forget);
        self.session_lost_at = self.node.clock.elapsed();
        self.failed(Operation::Session, &format_args!("the session is lost: {reason}"));
        self.report(Report::SessionLost);
        self.ends.clear();
        self.ends_backoff.succeeded();
        self.ends_not_before = Duration::ZERO;
        let held = self.held.take_all().into_iter();
        let (ended, mut held): (Vec<_>, Vec<_>) = held.partition(|(_, held)| held.ended.is_some());
        // The next session tells whether their ends are recorded.
        self.unanswered.extend(ended);
        self.unanswered.values_mut().for_each(|held| held.tries = 0);
        self.node.meters.locks_lost.increment(held.len() as u64);
        held.sort_unstable_by_key(|(run, _)| *run);
        for (run, Held { job, .. }) in held {
            job.send(Input::LockLost { run });
        }
        self.refuse_pending();
        if self.closing.is_none() {
            self.open_session(ctx);
        }
    }

    /// Answers everything that waits for a session that is not there.
    pub(super) fn refuse_pending(&mut self) {
        let reason = || NO_SESSION.to_owned();
        let (claims, advances) = self.refused.clear();
        self.claims.extend(claims);
        self.advances.extend(advances);
        for ClaimRun { job, claim: Claim { run, .. }, .. } in self.claims.drain(..) {
            job.send(Input::Claimed { run, verdict: Verdict::Unavailable { reason: reason() } });
        }
        for AdvanceCursor { job, .. } in self.advances.drain(..) {
            job.send(Input::Advanced(Advanced::Unavailable { reason: reason() }));
        }
    }

    /// Tells the supervisor of the jobs.
    pub(super) fn report(&self, report: Report) {
        self.reports.do_send(report);
    }

    pub(super) fn failed(&self, operation: Operation, error: &dyn std::fmt::Display) {
        self.node.failures.failed(operation, error);
    }

    /// Whether this node goes on to ask by what it asked by: the next leader asks for a former one, who would
    /// be said to fail for long.
    pub(super) fn still_decides(&self, authority: Option<Authority>) -> bool {
        let term = authority.and_then(Authority::term);
        term.is_none() || term == self.node.leadership.term(self.node.clock.elapsed())
    }

    /// Keeps whether something that was asked in a round was refused.
    pub(super) fn note_round(&self, operation: Operation, refused: Option<String>) {
        match refused {
            None => self.node.failures.succeeded(operation),
            Some(reason) => self.node.failures.failed(operation, &reason),
        }
    }

    /// Keeps whether an operation failed, and hands its answer on.
    pub(super) fn noted<T>(
        &self,
        operation: Operation,
        answer: Result<T, LockError>,
    ) -> Result<T, LockError> {
        match &answer {
            Ok(_) => self.node.failures.succeeded(operation),
            Err(error) => self.node.failures.failed(operation, error),
        }
        answer
    }

    /// Keeps a batch until it is asked again. One timer for all of it: each costs the actor something at
    /// every wake-up.
    pub(super) fn later<T: 'static>(
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
            ctx.notify(AsksWait);
        });
    }

    /// Ends the session once nothing is left to write.
    pub(super) fn close_if_done(&mut self, ctx: &mut Context<Self>) {
        let busy = self.session.is_some()
            && !(self.ends.is_empty()
                && self.delayed == 0
                && self.claims.is_empty()
                && self.refused.are_done());
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

impl Actor for LockActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(Rounds::default());
        self.open_session(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.asks.close();
    }
}

impl Handler<AsksWait> for LockActor {
    type Result = ();

    fn handle(&mut self, _: AsksWait, ctx: &mut Self::Context) {
        for ask in self.asks.take() {
            match ask {
                Ask::Claim(claim) => self.take_claim(claim),
                Ask::Advance(advance) => self.take_advance(advance),
                Ask::RecordEnd(end) => self.take_conclusion(end),
            }
        }
        self.wake_for_suspects(ctx);
    }
}

/// Publishes and records a run that was closed because its session is dead.
pub(crate) fn publish_lost(node: &Node, lost: &LostRun) {
    let LostRun { job, run, node: ran_on, token, fire_time, retry } = lost.clone();
    node.recorder.decision(0, node.clock.elapsed(), || {
        let is_retried = retry.is_some() && !run.has_own_arguments();
        let decision = Decision::RunLost { run, is_retried };
        let (at, term) = (node.store_time(), node.leadership.term(node.clock.elapsed()));
        let record = DecisionRecord::new(Some(job.clone()), at, node.id, decision);
        DecisionRecord { first: fire_time, fire_time, term, ..record }
    });
    if node.recorder.is_on() {
        let origin = match BackfillId::of_run(run) {
            Some((backfill, _)) => RunOrigin::Backfill { backfill, by: None },
            None if fire_time.is_some() => RunOrigin::Tick,
            None => RunOrigin::Trigger { by: None, own_arguments: run.has_own_arguments() },
        };
        let (ended_at, outcome) = (Some(node.store_time()), Some(Outcome::Lost));
        let record = RunRecord::new(job.clone(), run, ran_on.unwrap_or(node.id));
        node.recorder.run(0, RunRecord { origin, token, fire_time, ended_at, outcome, ..record });
    }
    node.publisher.publish(|| EventKind::RunLost { job, run, fire_time });
}

/// What is wrong with a row that was found locked again and again.
pub(crate) fn always_locked(job: &JobName) -> String {
    format!(
        "the row of {job:?} cannot be changed; somebody else keeps it locked, or a trigger or row security of the store drops the \
         change: find out who"
    )
}
