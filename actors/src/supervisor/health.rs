//! How the supervisor finds out how the node is.
//!
//! [`HealthReport::judge`] decides what is live, ready and healthy. Here the facts are collected: what the
//! node knows already, and what its parts answer within the deadline. A part that does not answer is a fact
//! as well.

use std::{collections::BTreeMap, time::Duration};

use actix::prelude::*;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, Entry, Phase, SupervisorActor};
use crate::{
    candidacy::Candidacy,
    core::{
        duration::DurationText,
        operation::Operation,
        policy::Fires,
        round_trip::LeaseTooShort,
        text::{TEXT_MAX, bounded},
    },
    election::PingElection,
    health::{HealthReport, Part, Problem, ProblemJobs, STALL_MAX, before},
    lock::{AskLockHealth, LockHealth},
    message::Health,
    name::{JobName, NodeId, Term},
    node::Node,
    port::{Obstacle, Role},
};

/// A round trip to the store that takes longer, or a body that waits longer for a thread, makes the node
/// unhealthy.
const STALL: Duration = Duration::from_secs(2);

impl SupervisorActor {
    /// Whether this node fires a job.
    pub(super) fn fires_here(&self, entry: &Entry) -> bool {
        entry.firing.fires() == Fires::Local || self.authority(entry).is_some()
    }

    /// What this actor knows by itself.
    fn known_problems(&mut self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let leaves = !matches!(self.phase, Phase::Running);
        if self.shutdown_announced || leaves {
            problems.push(Problem::ShuttingDown);
        }
        let (node, lease) = (self.node(), self.parts.lease);
        let (wall, elapsed) = node.clock.read();
        let may_follow =
            !self.parts.able.single_node || matches!(node.candidacy(), Candidacy::Withdrawn { .. });
        // One that leaves has given up the lead, and starts nothing more whoever leads.
        if may_follow
            && !leaves
            && node.leadership.term(elapsed).is_none()
            && let Some(leaderless) = node.leader.last().leaderless_for(elapsed, lease)
        {
            problems.push(Problem::NoLeader { since: before(wall, leaderless) });
        }
        problems.extend(node.failures.problems(wall, lease));
        problems.extend(node.overdue.problem(elapsed, lease));
        problems.extend(self.late_turns());
        problems.extend(self.overdue_problem());
        let fires = |job: &JobName| self.jobs.get(job).is_some_and(|entry| self.fires_here(entry));
        problems.extend(node.failing.problem(fires));
        let blocked = node.bodies.silences().into_iter().filter(|(_, silence)| *silence > STALL);
        problems.extend(
            blocked
                .map(|(threads, silence)| Problem::BodiesBlocked { threads, since: before(wall, silence) }),
        );
        let follows = node.leadership.term(elapsed).is_none();
        let said = node.overdue.leader_said().filter(|_| follows);
        problems.extend(said.map(|since| Problem::TicksUndecidedOnLeader { since }));
        // The others are well again.
        let jobs = &self.jobs;
        let troubled = |entry: &Entry| {
            entry.firing.broken().is_some() || entry.firing.refused().is_some() || entry.parked.is_some()
        };
        self.troubled.retain(|name| jobs.get(name).is_some_and(troubled));
        let are = |is: fn(&Entry) -> bool| -> Vec<&JobName> {
            self.troubled.iter().filter(|name| jobs.get(*name).is_some_and(is)).collect()
        };
        let broken = are(|entry| entry.firing.broken().is_some());
        problems.extend(ProblemJobs::of(broken.into_iter()).map(|jobs| Problem::Broken { jobs }));
        let conflicting = are(|entry| entry.firing.is_contradicted());
        problems.extend(ProblemJobs::of(conflicting.into_iter()).map(|jobs| Problem::Conflicting { jobs }));
        let parked = are(|entry| entry.parked.is_some());
        problems.extend(ProblemJobs::of(parked.into_iter()).map(|jobs| Problem::Parked { jobs }));
        problems.extend(self.stored_problem());
        problems.extend(self.one_shots_problem());
        problems
    }
}

impl SupervisorActor {
    /// Since when a part of the engine has been asked without an answer: from now on, if it had answered
    /// before.
    fn ask_part(&mut self, part: Part, ctx: &mut Context<Self>) -> Duration {
        if let Some(asked_at) = self.asked_parts[part as usize] {
            return asked_at;
        }
        let node = self.node().clone();
        let answer: BoxFuture<'static, bool> = match part {
            Part::Election => self.parts.election.send(PingElection).map(|answer| answer.is_ok()).boxed(),
            Part::Lock => self.parts.lock.send(AskLockHealth).map(|answer| answer.is_ok()).boxed(),
            Part::Jobs => node.job_threads.ping().boxed(),
        };
        // It is asked until it answers, however long whoever asks for the health waits.
        ctx.spawn(answer.into_actor(self).map(move |answered, actor, _| {
            if answered {
                actor.asked_parts[part as usize] = None;
            }
        }));
        *self.asked_parts[part as usize].insert(node.clock.elapsed())
    }

    /// The node that leads: this one, or another one of which it has heard within the last lease.
    pub(super) fn known_leader(&self) -> Option<NodeId> {
        let node = self.node();
        let elapsed = node.clock.elapsed();
        if node.leadership.term(elapsed).is_some() {
            return Some(node.id);
        }
        node.leader.last().other(elapsed, self.parts.lease)
    }

    /// What this node is to its cluster, if it leads in this term.
    pub(super) fn role(&self, term: Option<Term>) -> Role {
        match (self.parts.able.single_node, term) {
            (true, _) => Role::Local,
            (false, Some(_)) => Role::Leader,
            (false, None) => Role::Follower,
        }
    }

    /// What is known without asking anybody; whether it is live, ready and healthy is not judged yet.
    fn known_health(&mut self) -> HealthReport {
        let problems = self.known_problems();
        let node = self.node();
        let elapsed = node.clock.elapsed();
        let term = node.leadership.term(elapsed);
        HealthReport {
            node: node.id,
            name: node.name.to_string(),
            backend: self.parts.able.backend.to_owned(),
            role: self.role(term),
            term,
            candidacy: node.candidacy(),
            leader: self.known_leader(),
            zone_data: node.zone_data.to_string(),
            jobs: self.jobs.len(),
            live: false,
            ready: false,
            healthy: false,
            problems,
            warning: self.parts.warning.as_deref().map(str::to_owned),
            catching_up: self.catching_up(),
            named: BTreeMap::new(),
        }
    }
}

impl Handler<Health> for SupervisorActor {
    type Result = ResponseFuture<HealthReport>;

    fn handle(&mut self, _: Health, ctx: &mut Self::Context) -> Self::Result {
        let mut report = self.known_health();
        let node = self.node().clone();
        let running = matches!(self.phase, Phase::Running);
        let lease = self.parts.lease;
        let asked_at = Part::ALL.map(|part| self.ask_part(part, ctx));
        let lock = self.parts.lock.send(AskLockHealth);
        let election = self.parts.election.send(PingElection);
        let arbiters = node.job_threads.ping();
        Box::pin(async move {
            let asked = futures_util::future::join3(
                timeout(ANSWER_DEADLINE, election),
                timeout(ANSWER_DEADLINE, lock),
                timeout(ANSWER_DEADLINE, arbiters),
            );
            let (election, lock, arbiters) = asked.await;
            // Whether it answers; `None`: it is gone.
            let answers = [
                election.map_or(Some(false), |answer| answer.ok().map(|()| true)),
                lock.as_ref().map_or(Some(false), |answer| answer.as_ref().ok().map(|_| true)),
                arbiters.map_or(Some(false), |all| all.then_some(true)),
            ];
            let (wall, elapsed) = node.clock.read();
            let mut live = true;
            for ((part, asked_at), answer) in Part::ALL.into_iter().zip(asked_at).zip(answers) {
                // It has done its part of the shutdown, others have not yet.
                if answer.is_none() && !running {
                    continue;
                }
                if answer != Some(true) {
                    let silent = elapsed.saturating_sub(asked_at);
                    report.problems.push(Problem::Stalled { part, since: before(wall, silent) });
                    live &= answer.is_some() && silent < STALL_MAX;
                }
            }
            if let Ok(Ok(lock)) = lock {
                add_store(&mut report.problems, &node, lock);
            }
            add_undecided(&mut report.problems, &node, lease);
            report.judge(live);
            report
        })
    }
}

/// Adds what the lock actor says of the store.
fn add_store(problems: &mut Vec<Problem>, node: &Node, lock: LockHealth) {
    let wall = node.clock.now();
    if let Some(without) = lock.without_session {
        // One problem is enough for one store that is away.
        problems.retain(|problem| {
            !matches!(
                problem,
                Problem::OperationFailing { operation: Operation::Open | Operation::Session, .. }
            )
        });
        let reason =
            [Operation::Open, Operation::Session].into_iter().find_map(|it| node.failures.reason(it));
        problems.push(Problem::NoSession { reason, since: before(wall, without) });
    }
    if let Some(waiting) = lock.waiting.filter(|waiting| *waiting > STALL) {
        problems.push(Problem::StoreSilent { since: before(wall, waiting) });
    }
    problems.extend(lock.lease_too_short.map(|LeaseTooShort { round_trip, lease_min, since }| {
        let (round_trip, lease_min) = (DurationText(rounded(round_trip)), DurationText(lease_min));
        let reason = format!(
            "a round trip to the store takes {round_trip}, and the lease is shorter than the {lease_min} that this needs"
        );
        let lasts = node.clock.elapsed().saturating_sub(since);
        Problem::LeaseTooShort { reason, since: before(wall, lasts) }
    }));
    problems.extend(lock.obstacles.into_iter().map(|Obstacle { reason, cure, held_for }| {
        let [reason, cure] = [reason, cure].map(|text| bounded(text, TEXT_MAX));
        Problem::Obstructed { reason, cure, since: before(wall, held_for) }
    }));
}

/// Adds that nobody says that what is due is decided, unless another problem tells why.
fn add_undecided(problems: &mut Vec<Problem>, node: &Node, lease: Duration) {
    let (wall, elapsed) = node.clock.read();
    let Some(undecided) = node.overdue.undecided_for(elapsed, node.store_time(), lease) else { return };
    let tells_why = |problem: &Problem| {
        matches!(
            problem,
            Problem::ShuttingDown
                | Problem::NoSession { .. }
                | Problem::StoreSilent { .. }
                | Problem::Obstructed { .. }
                | Problem::NoLeader { .. }
                | Problem::OperationFailing { .. }
                | Problem::TicksUndecided { .. }
                | Problem::TicksUndecidedOnLeader { .. }
        )
    };
    if !problems.iter().any(tells_why) {
        problems.push(Problem::Undecided { since: before(wall, undecided) });
    }
}

/// In whole milliseconds.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::DateTime;

    use super::*;
    use crate::{
        EngineOptions, Job,
        message::RemoveJobs,
        name::NodeId,
        testkit::{BadData, VirtualClock, fakes::Period, simulate},
    };

    #[derive(Message)]
    #[rtype(usize)]
    struct CountTroubled;

    impl Handler<CountTroubled> for SupervisorActor {
        type Result = usize;

        fn handle(&mut self, _: CountTroubled, _: &mut Self::Context) -> usize {
            self.troubled.len()
        }
    }

    #[test]
    fn a_removed_job_is_no_trouble_though_nobody_asks_for_the_health() {
        simulate("2026-01-05T00:00:00Z", async |rig| {
            rig.store().set_bad("bad", &[BadData::Enrolment]);
            let clock = VirtualClock::starting_at(DateTime::UNIX_EPOCH);
            let mut options = EngineOptions::new(Arc::new(rig.store().backend(NodeId::numbered(9), clock)));
            let job = |name| Job::new(name, Period::hours(1)).run(async |_| {});
            options.jobs.extend([job("bad"), job("good")]);
            let node = rig.node(options).await;
            rig.advance(Duration::from_secs(5)).await;
            assert_eq!(rig.send(node, CountTroubled).await, 1);

            rig.send(node, RemoveJobs::new("bad")).await.unwrap();

            assert_eq!(rig.send(node, CountTroubled).await, 0);
        });
    }
}
