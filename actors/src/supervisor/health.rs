//! How the supervisor finds out how the node is.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::timeout;

use super::{ANSWER_DEADLINE, Phase, SupervisorActor};
use crate::{
    election::PingElection,
    lock::AskLockHealth,
    message::{Health, HealthReport},
    port::Role,
};

/// A round trip to the store that takes longer makes the node unhealthy.
const STALL: Duration = Duration::from_secs(2);

impl Handler<Health> for SupervisorActor {
    type Result = ResponseFuture<HealthReport>;

    fn handle(&mut self, _: Health, _: &mut Self::Context) -> Self::Result {
        let node = self.node();
        let term = node.leadership.term(node.clock.elapsed());
        let role = match (self.parts.single_node, term) {
            (true, _) => Role::Local,
            (false, Some(_)) => Role::Leader,
            (false, None) => Role::Follower,
        };
        let mut problems = Vec::new();
        if !matches!(self.phase, Phase::Running) {
            problems.push("the engine shuts down".to_owned());
        }
        let mut report = HealthReport {
            node: node.id,
            backend: self.parts.backend,
            role,
            term,
            zone_data: node.zone_data.to_string(),
            jobs: self.jobs.len(),
            healthy: false,
            problems,
        };
        let lock = node.lock().send(AskLockHealth);
        let election = self.parts.election.send(PingElection);
        let arbiters = node.placement.ping();
        Box::pin(async move {
            let asked = futures_util::future::join3(
                timeout(ANSWER_DEADLINE, lock),
                timeout(ANSWER_DEADLINE, election),
                timeout(ANSWER_DEADLINE, arbiters),
            );
            let (lock, election, arbiters) = asked.await;
            match lock {
                Ok(Ok(lock)) => {
                    if !lock.session_open {
                        report.problems.push("there is no session with the store".to_owned());
                    }
                    if let Some(waiting) = lock.waiting.filter(|waiting| *waiting > STALL) {
                        report.problems.push(format!("the store has not answered for {waiting:.1?}"));
                    }
                }
                Ok(Err(_)) | Err(_) => report.problems.push("the lock actor does not answer".to_owned()),
            }
            if !matches!(election, Ok(Ok(()))) {
                report.problems.push("the election actor does not answer".to_owned());
            }
            if !matches!(arbiters, Ok(true)) {
                report.problems.push("a thread of the job actors does not answer".to_owned());
            }
            report.healthy = report.problems.is_empty();
            report
        })
    }
}
