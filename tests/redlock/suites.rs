//! What every elector does, what all votes are, and what is not declared.

use std::{sync::Arc, time::Duration};

use callsheet::{
    FireTime, JobName, LockKey, NodeId,
    backend::{Elected, Redlock},
    port::{
        Authority, Backend, Capabilities, Capability, ClaimRequest, Clock, Election, Enrolled, Enrolment,
        ScheduleIdentity, Skips, SystemClock, TickClaim, TickVotes, Verdict,
    },
    testkit::conformance::{self, Cluster},
};
use callsheet_actors::RunIds;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use super::{Quorum, SECOND};

/// Longer than a check takes on a busy machine.
const LEASE: Duration = Duration::from_secs(5);

struct Nodes {
    quorum: Quorum,
    scope: &'static str,
}

impl Nodes {
    async fn start(scope: &'static str) -> Self {
        let quorum = Quorum::start(3).await;
        let nodes = Self { quorum, scope };
        nodes.of_scope().reach().await.expect("the servers answer");
        tokio::time::sleep(LEASE).await;
        nodes
    }

    fn of_scope(&self) -> Redlock {
        Redlock::new(self.scope, self.quorum.urls()).lease(LEASE)
    }
}

impl Cluster for Nodes {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn knows_followers(&self) -> bool {
        false
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let node: Arc<dyn Backend> = Arc::new(Elected::new(self.of_scope()));
        async move { node }.boxed()
    }

    /// A node that is dead says nothing more: the lease lapses.
    fn kill(&mut self, _: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

#[tokio::test]
async fn redlock_is_an_elector() {
    conformance::elector(&mut Nodes::start("elector").await).await;
}

#[tokio::test]
async fn a_quorum_gives_ticks_to_one_node_and_cannot_do_anything_else() {
    let mut nodes = Nodes::start("limits").await;
    let able = nodes.node().await.capabilities();
    assert_eq!(able, Capabilities::NONE.with(Capability::ClusterTicks));

    conformance::limits(&mut nodes).await;
}

#[tokio::test]
async fn three_and_five_servers_vote_on_ticks() {
    for servers in [3, 5] {
        let quorum = Quorum::start(servers).await;
        let nodes: Vec<Arc<dyn TickVotes>> = (0..3).map(|_| quorum.votes()).collect();

        let suite = conformance::tick_votes(&nodes, Utc::now);
        tokio::time::timeout(120 * SECOND, suite).await.expect("it ends");
    }
}

/// A clock that is ahead.
#[derive(Debug, Default)]
struct Ahead(SystemClock);

/// By so much.
const AHEAD: TimeDelta = TimeDelta::seconds(10);

impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        self.0.now() + AHEAD
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Nobody but the clocks of the nodes orders them.
#[tokio::test]
async fn the_tokens_of_two_nodes_are_not_ordered() {
    let mut nodes = Nodes::start("tokens").await;
    let (ahead, right) = (nodes.node().await, nodes.node().await);
    ahead.set_clock(Arc::new(Ahead::default()));
    let mut tokens = Vec::new();
    // What it holds since then is due now, by each clock.
    for (node, known_for) in [(ahead, AHEAD.to_std().expect("short")), (right, Duration::ZERO)] {
        let locker = node.locker();
        locker.open().await.expect("a session opens");
        let job = JobName::new("job").expect("a name");
        let schedule = ScheduleIdentity::of_text("a schedule");
        let mut enrolment = Enrolment::new(job.clone(), schedule, Authority::Any);
        enrolment.known_for = known_for;
        let enrolled = locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { cursor, .. }] = enrolled[..] else { panic!("{enrolled:?}") };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let tick = TickClaim {
            fire_time: FireTime::new(cursor + TimeDelta::milliseconds(20)),
            expected: cursor,
            skips: Skips::default(),
            authority: Authority::Any,
        };
        let run = RunIds::of(NodeId::random()).next(Utc::now());
        let mut claim = ClaimRequest::new(job, LockKey::new("key").expect("a key"), run);
        (claim.tick, claim.window) = (Some(tick), 60 * SECOND);
        match locker.claim(&[claim]).await.expect("an answer").pop() {
            Some(Verdict::Granted { token, .. }) => tokens.push(token),
            refused => panic!("{refused:?}"),
        }
    }
    assert!(tokens[1] < tokens[0], "it has fencing after all: {tokens:?}");
}
