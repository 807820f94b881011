//! The election actor owns the term.
//!
//! It campaigns, renews and resigns through the elector port, and tells the supervisor when this node starts or stops
//! to lead. Its answer to "does this node lead?" stands in [`Leadership`](crate::node::Leadership), so that nobody has to
//! ask it. The supervisor tells it about sessions, the lock actor about refused terms. It is not started again when it dies:
//! its node leads no more, and is not live.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use crate::{
    contained::contained,
    core::{
        election::{Effect, Effects, ElectionMachine, Input},
        operation::Operation,
        zone_data::changed,
    },
    event::{EventKind, StepDownReason},
    lock::ReadClock,
    name::Term,
    node::Node,
    port::{Campaign, Elector},
    supervisor::{ElectionDied, LeadershipChanged},
};

/// The session with the store was opened or lost.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum SessionChanged {
    Opened,
    Lost,
}

/// The store refused a claim of this node's term.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TermRefused(pub(crate) Term);

/// Gives the term up for good. Answers when the store knows, or does not answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Resign;

/// This node must not go on leading.
#[derive(Message)]
#[rtype(result = "()")]
struct Unfit(StepDownReason);

/// Asks whether the actor is there.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PingElection;

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopElection;

/// Performs the effects of one [`ElectionMachine`].
pub(crate) struct ElectionActor {
    node: Arc<Node>,
    elector: Arc<dyn Elector>,
    machine: ElectionMachine,
    timer: Option<SpawnHandle>,
    /// The campaign or renewal under way. It ends with its session.
    call: Option<SpawnHandle>,
    /// Since when the threads of the job actors are asked whether they turn; `None` once all have answered.
    asked_arbiters_at: Option<Duration>,
    stall_max: Duration,
}

impl ElectionActor {
    pub(crate) fn new(node: Arc<Node>, elector: Arc<dyn Elector>) -> Self {
        Self {
            node,
            elector,
            machine: ElectionMachine::default(),
            timer: None,
            call: None,
            asked_arbiters_at: None,
            stall_max: STALL_MAX,
        }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let effects = self.machine.step(self.node.clock.elapsed(), input);
        self.show();
        self.perform(effects, ctx);
        self.arm(ctx);
    }

    /// Shows the machine's answer to everybody, before anybody is told.
    fn show(&self) {
        let term = self.machine.term(self.node.clock.elapsed());
        self.node.leadership.set(term.map(|(term, _)| term), term.and_then(|(_, until)| until));
    }

    fn perform(&mut self, effects: Effects, ctx: &mut Context<Self>) {
        let node = self.node.clone();
        let meters = &node.meters;
        for effect in effects {
            match effect {
                Effect::Campaign => self.campaign(ctx),
                Effect::Renew(term) => self.renew(term, ctx),
                Effect::Resign(term) => {
                    let elector = self.elector.clone();
                    // Whether the store heard it or not, the term lapses.
                    let resigned = async move { answer_of(async { elector.resign(term).await }).await };
                    ctx.spawn(resigned.into_actor(self).map(|resigned, actor, _| actor.resigned(&resigned)));
                }
                Effect::Gained(term, former) => {
                    meters.leader.set(1);
                    meters.term.set(term.0 as f64);
                    meters.leadership_changes.increment(1);
                    node.publisher.publish(|| EventKind::LeadershipGained { term });
                    if let Some((from, to)) = changed(former, &node.zone_data) {
                        let (from, to) = (from.to_string(), to.to_string());
                        node.publisher.publish(|| EventKind::ZoneDataChanged { from, to });
                    }
                    node.supervisor().do_send(LeadershipChanged(Some(term)));
                }
                Effect::Lost(term, why) => {
                    node.leader.heard(node.id, node.clock.elapsed());
                    meters.leader.set(0);
                    meters.leadership_changes.increment(1);
                    node.publisher.publish(|| EventKind::LeadershipLost { term, why });
                    node.supervisor().do_send(LeadershipChanged(None));
                }
            }
        }
    }

    fn campaign(&mut self, ctx: &mut Context<Self>) {
        let elector = self.elector.clone();
        let started = self.node.clock.elapsed();
        let unfit = self.examine(ctx);
        let call = async move {
            match unfit {
                Some((_, reason)) => Err(reason),
                None => answer_of(async { elector.campaign().await }).await,
            }
        };
        let answered = call.into_actor(self).map(move |answer, actor, ctx| {
            let answer = actor.heard(Operation::Campaign, answer);
            if let Some(Campaign::Lost { leader: Some(leader), .. }) = answer {
                actor.node.leader.heard(leader, actor.node.clock.elapsed());
            }
            // Whichever term it was, it is not renewed any more.
            actor.node.failures.dropped(Operation::Renew);
            actor.step(Input::CampaignEnded { started, answer }, ctx);
        });
        if let Some(former) = self.call.replace(ctx.spawn(answered)) {
            ctx.cancel_future(former);
        }
    }

    fn renew(&mut self, term: Term, ctx: &mut Context<Self>) {
        if let Some((why, reason)) = self.examine(ctx) {
            tracing::warn!(target: "callsheet", %term, reason, "this node is not fit to lead");
            ctx.notify(Unfit(why));
            return;
        }
        let elector = self.elector.clone();
        let started = self.node.clock.elapsed();
        let call = async move { answer_of(async { elector.renew(term).await }).await };
        let answered = call.into_actor(self).map(move |answer, actor, ctx| {
            let answer = actor.heard(Operation::Renew, answer);
            actor.step(Input::RenewalEnded { term, started, answer }, ctx);
        });
        if let Some(former) = self.call.replace(ctx.spawn(answered)) {
            ctx.cancel_future(former);
        }
    }

    /// Why this node must not lead at present, if it must not.
    fn examine(&mut self, ctx: &mut Context<Self>) -> Option<(StepDownReason, String)> {
        self.node.lock().do_send(ReadClock);
        let now = self.node.clock.elapsed();
        let asked_at = match self.asked_arbiters_at {
            Some(asked_at) => asked_at,
            None => {
                let turned = self.node.placement.ping();
                ctx.spawn(turned.into_actor(self).map(|_, actor, _| actor.asked_arbiters_at = None));
                *self.asked_arbiters_at.insert(now)
            }
        };
        let silent = now.saturating_sub(asked_at);
        if let Some(lease) = self.machine.lease() {
            self.stall_max = lease.duration * STALL_LEASES;
        }
        if silent > self.stall_max {
            let reason = format!("a thread of the job actors has not answered for {silent:.1?}");
            return Some((StepDownReason::Stalled, reason));
        }
        self.node.clock_offset.refusal().map(|reason| (StepDownReason::ClockOffset, reason))
    }

    fn heard<T>(&mut self, operation: Operation, answer: Result<T, String>) -> Option<T> {
        self.call = None;
        match answer {
            Ok(answer) => {
                self.node.failures.succeeded(operation);
                Some(answer)
            }
            Err(reason) => {
                self.node.failures.failed(operation, &reason);
                self.node.publisher.publish(|| EventKind::LeadershipUnavailable { reason });
                None
            }
        }
    }

    /// What could not be given up must lapse.
    fn resigned(&self, answer: &Result<(), String>) {
        match answer {
            Ok(()) => self.node.failures.succeeded(Operation::Resign),
            Err(reason) => self.node.failures.failed(Operation::Resign, reason),
        }
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = self.machine.wake_in(self.node.clock.elapsed()).map(|wait| {
            ctx.run_later(wait.max(TIMER_MIN), |actor, ctx| {
                actor.timer = None;
                actor.step(Input::WakeUp, ctx);
            })
        });
    }
}

/// A leader whose job actors have not answered for so many leases leaves the lead to another node.
const STALL_LEASES: u32 = 2;
/// The same for a node that never led.
const STALL_MAX: Duration = Duration::from_secs(10);
/// The shortest timer: a reading just before an instant must not make the actor spin.
const TIMER_MIN: Duration = Duration::from_millis(1);

/// The answer of the elector, or why there is none.
async fn answer_of<T, E: std::error::Error>(call: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match contained(call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(none) => Err(none.as_str().to_owned()),
    }
}

impl Actor for ElectionActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        // It was told to, and has given the term up before. Or it dies of a panic, and nobody renews the term any more:
        // during the unwinding nothing here may panic again, as clocks and metrics of others may.
        if let Some(term) = self.machine.abandon() {
            self.node.leadership.set(None, None);
            self.node.supervisor().do_send(ElectionDied(term));
        }
    }
}

impl Handler<SessionChanged> for ElectionActor {
    type Result = ();

    fn handle(&mut self, change: SessionChanged, ctx: &mut Self::Context) {
        if let Some(call) = self.call.take() {
            ctx.cancel_future(call);
        }
        match change {
            SessionChanged::Opened => self.step(Input::SessionOpened, ctx),
            SessionChanged::Lost => {
                // Neither is asked without a session; that there is none is said by itself.
                self.node.failures.dropped(Operation::Campaign);
                self.node.failures.dropped(Operation::Renew);
                self.step(Input::SessionLost, ctx);
            }
        }
    }
}

impl Handler<TermRefused> for ElectionActor {
    type Result = ();

    fn handle(&mut self, TermRefused(term): TermRefused, ctx: &mut Self::Context) {
        self.step(Input::Deposed { term }, ctx);
    }
}

impl Handler<Unfit> for ElectionActor {
    type Result = ();

    fn handle(&mut self, Unfit(why): Unfit, ctx: &mut Self::Context) {
        self.step(Input::Unfit { why }, ctx);
    }
}

impl Handler<Resign> for ElectionActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Resign, ctx: &mut Self::Context) -> Self::Result {
        // The call under way goes on: a renewal that is given up half-way may have been made, and an elector that gave up its
        // connection with it could not end the term any more; a term that is won now is given back.
        let term = self.machine.term(self.node.clock.elapsed()).map(|(term, _)| term);
        let effects = self.machine.step(self.node.clock.elapsed(), Input::Resign);
        self.show();
        let others = effects.into_iter().filter(|effect| !matches!(effect, Effect::Resign(_))).collect();
        self.perform(others, ctx);
        self.arm(ctx);
        let elector = self.elector.clone();
        let resigned = async move {
            match term {
                Some(term) => answer_of(async { elector.resign(term).await }).await,
                None => Ok(()),
            }
        };
        Box::pin(resigned.into_actor(self).map(|resigned, actor, _| actor.resigned(&resigned)))
    }
}

impl Handler<PingElection> for ElectionActor {
    type Result = ();

    fn handle(&mut self, _: PingElection, _: &mut Self::Context) {}
}

impl Handler<StopElection> for ElectionActor {
    type Result = ();

    fn handle(&mut self, _: StopElection, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
