//! Elections and votes by a majority of real Redis servers that know nothing of each other: a minority of them is
//! killed, frozen, and comes back with nothing; a majority is; votes are split, and expire.

#[path = "../common/redis.rs"]
mod harness;
#[path = "../common/records_store.rs"]
mod store;

mod elector;
mod nodes;
mod refusals;
mod restarts;
mod suites;
mod ticks;

use std::{sync::Arc, time::Duration};

use callsheet::{
    FireTime, JobName, NodeId,
    backend::Redlock,
    port::{Campaign, Election, Elector, Grant, TickVote, TickVoted, TickVotes},
};
use callsheet_actors::RunIds;
use chrono::Utc;

use self::harness::{Durability, PASSWORD, Server};

const SECOND: Duration = Duration::from_secs(1);
/// Of most tests: what waits for the end of a lease waits in real time.
const LEASE: Duration = Duration::from_secs(2);
/// How late a tick may be, unless a test waits for the end of it.
const WINDOW: Duration = Duration::from_secs(60);

/// Servers that remember nothing when they end.
struct Quorum(Vec<Server>);

impl Quorum {
    /// New servers, each of which votes already: it knows that it has not voted for a lease.
    async fn start(servers: usize) -> Self {
        let quorum = Self((0..servers).map(|_| Server::start(Durability::Nothing)).collect());
        quorum.settle("scope").await;
        quorum
    }

    async fn settle(&self, scope: &str) {
        self.node(scope).reach().await.expect("the servers answer");
        // Some hear of it a little later than a majority.
        tokio::time::sleep(LEASE + SECOND / 2).await;
    }

    fn urls(&self) -> Vec<String> {
        self.0.iter().map(Server::url).collect()
    }

    /// A node of a scope, with a short lease.
    fn node(&self, scope: &str) -> Redlock {
        Redlock::new(scope, self.urls()).lease(LEASE).deadline(SECOND / 2)
    }

    fn elector(&self) -> Arc<dyn Elector> {
        self.node("scope").elector()
    }

    fn votes(&self) -> Arc<dyn TickVotes> {
        self.node("scope").votes().expect("it votes")
    }
}

/// Campaigns until the term is won.
async fn win(elector: &Arc<dyn Elector>) -> Grant {
    for _ in 0..30 {
        match elector.campaign(SECOND).await {
            Ok(Campaign::Won(grant)) => return grant,
            Ok(Campaign::Lost { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody wins");
}

/// A tick of a job that is due now, for a run of its own.
fn tick(job: &str) -> TickVote {
    tick_at(job, FireTime::new(Utc::now()))
}

fn tick_at(job: &str, fire_time: FireTime) -> TickVote {
    let run = RunIds::of(NodeId::random()).next(Utc::now());
    TickVote { job: JobName::new(job).expect("a name"), fire_time, run, window: WINDOW }
}

/// The same tick for another run.
fn rival(tick: &TickVote) -> TickVote {
    TickVote { run: RunIds::of(NodeId::random()).next(Utc::now()), ..tick.clone() }
}

/// What becomes of a tick, asked once.
async fn ask(votes: &Arc<dyn TickVotes>, tick: &TickVote) -> TickVoted {
    votes.ask(std::slice::from_ref(tick)).await.pop().expect("one answer")
}
