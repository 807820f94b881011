//! How a node proves that it could claim, says what it knows of due ticks, and hears what is known of them.
//!
//! ```text
//! nothing is wrong           once in nine tenths of a lease
//! it leads, and has not said last that all is decided       four times a lease, or once a second
//! nobody has said so for two leases and the time of a call  the same, until somebody says it
//! ```

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, TimeDelta, Utc};

use super::{actor::LockActor, calls::call};
use crate::{
    CALL_DEADLINE,
    catch_ups::CatchUps,
    core::{operation::Operation, pacer::Waiting},
    event::EventKind,
    job::JobHandle,
    name::Term,
    node::Node,
    overdue::{LeaderChange, undecided_max},
    port::{Proof, Proved},
};

/// After which part of a lease, in tenths, a node proves again that a claim would be possible: before the
/// lease is over.
const TURN_TENTHS: u32 = 9;
/// How often in a lease it does while something is not known that should be, unless that is less often than
/// after each [`LOOK_MAX`].
const LOOKS: u32 = 4;
const LOOK_MAX: Duration = Duration::from_secs(1);
/// By which part of a lease it looks before what it knows is too old.
const MARGIN: u32 = 10;

/// All jobs of this node are enrolled under a term, so that each asks for what is due.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AllEnrolled(pub(crate) Term);

/// When this node proves that it could claim.
pub(super) struct Proofs {
    lease: Duration,
    /// The missed ticks that wait for their turns.
    catch_ups: Arc<CatchUps<Arc<JobHandle>>>,
    /// While none is under way.
    timer: Option<SpawnHandle>,
    /// The term under which all its jobs are enrolled, and since when.
    enrolled: Option<(Term, Duration)>,
    /// The term in which this node said that all is decided, if that is what it said last.
    decided_in: Option<Term>,
}

impl Proofs {
    pub(super) fn new(lease: Duration, catch_ups: Arc<CatchUps<Arc<JobHandle>>>) -> Self {
        Self { lease, catch_ups, timer: None, enrolled: None, decided_in: None }
    }

    /// What this node says of its jobs when the monotonic clock reads `now`, as the leader of a term if it is one.
    fn proof(&self, node: &Node, term: Option<Term>, now: Duration) -> Proof {
        if term.is_none() {
            return Proof::default();
        }
        let waiting = self.catch_ups.waiting(now);
        let late = self.catch_ups.late(now, 0).map(|late| late.first.instant());
        let by = |waiting: Waiting| after(node.store_time(), waiting.bound.saturating_sub(now));
        Proof {
            term,
            overdue_since: node.overdue.to_say(now, self.lease).into_iter().chain(late).min(),
            all_decided: node.overdue.is_empty() && waiting.is_none(),
            catching_up_until: waiting.map(by),
        }
    }
}

/// The instant so long after another one.
fn after(instant: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    let wait = TimeDelta::from_std(wait).ok();
    wait.and_then(|wait| instant.checked_add_signed(wait)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl LockActor {
    /// Proves now and then, for as long as the session lives, that a claim would be possible.
    pub(super) fn prove_later(&mut self, ctx: &mut Context<Self>) {
        let Some(pause) = self.proof_pause() else { return };
        let timer = ctx.run_later(pause, |actor, ctx| actor.prove(ctx));
        let former = self.proofs.as_mut().and_then(|proofs| proofs.timer.replace(timer));
        former.map(|former| ctx.cancel_future(former));
    }

    fn proof_pause(&self) -> Option<Duration> {
        let &Proofs { lease, decided_in, .. } = self.proofs.as_ref()?;
        let now = self.node.clock.elapsed();
        let (soon, turn) = ((lease / LOOKS).min(LOOK_MAX), lease * TURN_TENTHS / 10);
        let term = self.node.leadership.term(now);
        if term.is_some() && decided_in != term {
            return Some(soon);
        }
        let too_old_in = |at: Duration| (at + undecided_max(lease)).saturating_sub(now + lease / MARGIN);
        let decided_at = self.node.overdue.decided_at();
        Some(decided_at.map_or(turn, |at| too_old_in(at).clamp(soon, turn)))
    }

    fn prove(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session.filter(|_| self.closing.is_none()) else {
            self.proofs.iter_mut().for_each(|proofs| proofs.timer = None);
            return;
        };
        let asked_at = self.node.clock.elapsed();
        let term = self.knowing_term(asked_at);
        let Some(proofs) = &mut self.proofs else { return };
        proofs.timer = None;
        let proof = proofs.proof(&self.node, term, asked_at);
        let locker = self.locker.clone();
        let proved = async move { call(async { locker.prove(proof).await }).await };
        ctx.spawn(proved.into_actor(self).map(move |proved, actor, ctx| {
            // Of a node that claims nothing, no round measures it.
            actor.read_measured();
            match proved {
                Ok(proved) => actor.on_proved(proof, proved, asked_at),
                Err(error) => actor.failed(Operation::Prove, &error),
            }
            if actor.session == Some(session) {
                actor.prove_later(ctx);
            }
        }));
    }

    fn on_proved(&mut self, proof: Proof, proved: Proved, asked_at: Duration) {
        if let Some(proofs) = &mut self.proofs {
            proofs.decided_in = proof.term.filter(|_| proof.all_decided);
        }
        self.node.overdue.hear(proved, asked_at);
        self.say_of_leader();
        self.node.failures.proved();
    }

    /// Says that another node that leads fell behind, or did not go on to.
    fn say_of_leader(&self) {
        let node = &self.node;
        let follows = node.leadership.term(node.clock.elapsed()).is_none();
        match node.overdue.leader_changed(follows) {
            Some(LeaderChange::Overdue { since }) => {
                node.meters.leader_overdue.increment(1.0);
                node.publisher.publish(|| EventKind::LeaderOverdue { since });
            }
            Some(LeaderChange::Recovered { since }) => {
                node.meters.leader_overdue.decrement(1.0);
                node.publisher.publish(|| EventKind::LeaderRecovered { since });
            }
            None => {}
        }
    }

    /// The term in which this node leads, once it may say something of its jobs: all are enrolled, and since
    /// then the store has granted a claim, or nothing is under way, or the time of a call has passed. What a
    /// job asked for in vain is marked by then, as a rule: a job that has not asked yet, on a node that is
    /// slow, is marked when it has, and the next proof says so.
    fn knowing_term(&self, now: Duration) -> Option<Term> {
        let term = self.node.leadership.term(now)?;
        let Proofs { lease, enrolled, .. } = self.proofs.as_ref()?;
        let (_, since) = enrolled.filter(|(enrolled, _)| *enrolled == term)?;
        let asks = !self.claims.is_empty() || !self.advances.is_empty() || self.delayed > 0;
        let answered = self.claimed_at > since
            || (!asks && self.round_started.is_none())
            || now.saturating_sub(since) > CALL_DEADLINE.min(*lease);
        answered.then_some(term)
    }
}

impl Handler<AllEnrolled> for LockActor {
    type Result = ();

    fn handle(&mut self, AllEnrolled(term): AllEnrolled, ctx: &mut Self::Context) {
        let now = self.node.clock.elapsed();
        let Some(proofs) = &mut self.proofs else { return };
        if proofs.enrolled.is_none_or(|(enrolled, _)| enrolled != term) {
            proofs.enrolled = Some((term, now));
            self.history.iter_mut().for_each(|history| history.lead(term));
            if self.session.is_some() {
                self.prove_later(ctx);
            }
        }
    }
}
