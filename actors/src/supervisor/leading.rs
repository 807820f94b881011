//! What the supervisor does when this node connects to the store, and when it starts or stops leading.
//!
//! [`Firing`](crate::core::firing::Firing) decides what each job is told: to stop, to be enrolled again, to
//! take back what was declared for its key. Here it is told so, and the tasks of a session and of a term are
//! started.

use actix::prelude::*;

use super::{Phase, SupervisorActor, leaderless::INQUIRE_FIRST};
use crate::{
    core::{job::Input, operation::Operation, policy::Fires},
    election::{SessionChanged, StandAside},
    event::{EventKind, StepDownReason},
    message::Resign,
    name::Term,
};

impl SupervisorActor {
    /// A session with the store was opened.
    pub(super) fn on_session_opened(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.phase, Phase::Running) {
            self.on_connected(ctx);
            self.compare_zone_data(ctx);
            self.begin_serving(ctx);
            self.begin_describing(ctx);
        }
        self.parts.election.do_send(SessionChanged::Opened);
    }

    /// The session with the store was lost.
    pub(super) fn on_session_lost(&mut self) {
        self.on_disconnected();
        self.parts.election.do_send(SessionChanged::Lost);
    }

    /// Enrols the jobs that any node may fire, and looks for those that the leader does not have.
    fn on_connected(&mut self, ctx: &mut Context<Self>) {
        self.connected = true;
        self.connected_since = self.node().clock.elapsed();
        self.park_again(Fires::AnyNode);
        let any = self.jobs.values().filter(|entry| entry.firing.fires() == Fires::AnyNode);
        let any: Vec<_> = any.map(|entry| entry.job.definition.name.clone()).collect();
        self.enrolling.extend(any);
        self.enrol(ctx);
        self.keep_names_later(ctx);
        if !std::mem::replace(&mut self.inquiring, true) {
            ctx.run_later(INQUIRE_FIRST, Self::inquire_and_go_on);
        } else if self.node().failures.reason(Operation::Inquire).is_some() {
            // What failed with the last session would be said to fail until the next question, half a minute
            // later.
            ctx.run_later(INQUIRE_FIRST, |actor, ctx| actor.inquire(ctx));
        }
    }

    fn on_disconnected(&mut self) {
        self.connected = false;
        self.suspects.forget_refusals();
        self.keys.on_disconnected();
        for entry in self.jobs.values_mut() {
            if entry.firing.session_lost() {
                entry.job.send(Input::Suspend);
            }
        }
    }

    /// The term in which this node leads from now on.
    pub(super) fn on_leadership_changed(&mut self, term: Option<Term>, ctx: &mut Context<Self>) {
        let led = self.term.is_some();
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.term = term;
        // A leader does not inquire, and who stops leading neither enrols what it led nor closes what others
        // lost.
        self.node().failures.dropped(Operation::Inquire);
        self.node().failures.dropped(Operation::Enrol);
        self.node().failures.dropped(Operation::CloseLost);
        // What it claimed and moved as the leader is the next one's; what it still asks fails again.
        self.node().failures.dropped(Operation::Claim);
        self.node().failures.dropped(Operation::Advance);
        self.enrolling.forget_locks();
        let leads = term.is_some();
        self.leave_backfills(ctx);
        let (mut to_enrol, mut to_retract) = (Vec::new(), Vec::new());
        for entry in self.jobs.values_mut() {
            let definition = &entry.job.definition;
            let change = entry.firing.term_changed(led, leads);
            if change.suspends {
                entry.job.send(Input::Suspend);
            }
            to_enrol.extend(change.enrols.then(|| definition.name.clone()));
            if change.retracts {
                to_retract.extend(definition.noted_under());
            }
        }
        if leads {
            self.term_since = self.node().clock.elapsed();
            self.park_again(Fires::Leader);
            self.enrolling.extend(to_enrol);
            self.close_lost_runs(ctx);
            self.forget_later(ctx);
            self.prune_later(ctx);
            self.enrol(ctx);
            self.look_at_backfills(ctx);
        } else if led {
            self.retract(to_retract, ctx);
        }
    }

    /// The election actor died while this node led, in this term.
    pub(super) fn on_election_died(&mut self, term: Term, ctx: &mut Context<Self>) {
        let node = self.node();
        node.leader.led(node.clock.elapsed());
        node.meters.leader.set(0);
        node.meters.leadership_changes.increment(1);
        node.publisher.publish(|| EventKind::LeadershipLost { term, why: StepDownReason::Died });
        self.on_leadership_changed(None, ctx);
    }
}

impl Handler<Resign> for SupervisorActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, _: Resign, _: &mut Self::Context) -> Self::Result {
        if !matches!(self.phase, Phase::Running) {
            return Box::pin(async { false });
        }
        // The change reaches this actor before the answer reaches whoever asks.
        let led = self.parts.election.send(StandAside);
        Box::pin(async move { led.await.unwrap_or(false) })
    }
}

/// Kills the election actor, for a rig.
#[cfg(any(test, feature = "testkit"))]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KillElection;

#[cfg(any(test, feature = "testkit"))]
impl Handler<KillElection> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: KillElection, _: &mut Self::Context) {
        self.parts.election.do_send(crate::election::Die);
    }
}
