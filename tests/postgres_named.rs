//! Most jobs on Redis, the critical one on PostgreSQL: one store is stopped while the other goes on.

#![allow(clippy::duplicate_mod, reason = "each harness of a server brings what it stands on")]

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/redis.rs"]
mod redis;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, FireTime, Job, JobName, Operations, RunHistory, StartError,
    backend::{Postgres, Redis},
    port::Role,
    schedule::every,
};
use tokio::time::sleep;

use harness::{Server, Stop};

const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for what is to happen in real time.
const SOON: Duration = Duration::from_secs(60);
const CRITICAL: &str = "critical";

/// How often each tick of each job ran.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<BTreeMap<(&'static str, FireTime), u32>>>);

impl Runs {
    fn job(&self, name: &'static str) -> Job {
        let runs = self.clone();
        Job::new(name, every(SECOND / 5)).run(move |run| {
            if let Some(tick) = run.fire_time() {
                let mut runs = runs.0.lock().expect("nobody panicked");
                *runs.entry((name, FireTime::new(tick))).or_default() += 1;
            }
            async {}
        })
    }

    fn of(&self, name: &str) -> usize {
        self.0.lock().expect("nobody panicked").keys().filter(|(job, _)| *job == name).count()
    }

    /// Waits until so many more ticks of a job ran.
    async fn go_on(&self, name: &str, ticks: usize) {
        let (before, began) = (self.of(name), Instant::now());
        while self.of(name) < before + ticks {
            assert!(began.elapsed() < SOON, "{name} does not run");
            sleep(SECOND / 20).await;
        }
    }

    fn assert_none_twice(&self) {
        let runs = self.0.lock().expect("nobody panicked");
        let twice: Vec<_> = runs.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    async fn node(&self, redis: &str, postgres: &str) -> Callsheet {
        Callsheet::builder()
            .backend(Redis::new("billing", redis).lease(2 * SECOND))
            .backend_named(CRITICAL, Postgres::new("billing", postgres).lease(2 * SECOND))
            .job(self.job("cleanup"))
            .job(self.job("invoices").on(CRITICAL))
            .start()
            .await
            .expect("it starts")
    }
}

async fn leaders(nodes: &[Callsheet]) -> [usize; 2] {
    let mut leaders = [0; 2];
    for node in nodes {
        let health = node.health().await.expect("it runs");
        leaders[0] += usize::from(health.role == Role::Leader);
        leaders[1] += usize::from(health.named[CRITICAL].role == Role::Leader);
    }
    leaders
}

#[tokio::test]
async fn one_store_goes_away_and_the_jobs_on_the_other_go_on() {
    let (redis, postgres) = (redis::Server::start(redis::Durability::Always), Server::start());
    let runs = Runs::default();
    let nodes =
        [runs.node(&redis.url(), &postgres.url()).await, runs.node(&redis.url(), &postgres.url()).await];
    for job in ["cleanup", "invoices"] {
        runs.go_on(job, 10).await;
    }
    assert_eq!(leaders(&nodes).await, [1, 1], "each store has a leader of its own");

    redis.kill();
    runs.go_on("invoices", 30).await;
    let health = nodes[0].health().await.expect("it runs");
    assert!(health.live && !health.ready && health.named[CRITICAL].ready, "{health:?}");
    redis.start_again();
    runs.go_on("cleanup", 10).await;

    postgres.stop(Stop::Immediate);
    runs.go_on("cleanup", 30).await;
    let health = nodes[0].health().await.expect("it runs");
    assert!(health.live && !health.ready && !health.named[CRITICAL].ready, "{health:?}");
    postgres.start_again();
    runs.go_on("invoices", 10).await;
    runs.assert_none_twice();

    // The history is where the store keeps one: in PostgreSQL, and nowhere on Redis.
    let invoices = JobName::new("invoices").expect("a name");
    assert!(!nodes[0].runs(RunHistory::new().job(invoices)).await.expect("it is kept").runs.is_empty());
    let cleanup = JobName::new("cleanup").expect("a name");
    assert!(nodes[0].runs(RunHistory::new().job(cleanup)).await.is_err());
    nodes[1].by("alice").expect("a name").pause("invoices").await.expect("the store answers");
    let paused = nodes[0].details("invoices").await.expect("it is there");
    assert_eq!(paused.backend.as_deref(), Some(CRITICAL));
    let operations = nodes[1].operations(Operations::new()).await.expect("one of the stores keeps them");
    assert!(operations.operations.iter().all(|one| one.job.as_str() == "invoices"), "{operations:?}");

    for node in nodes {
        let report = node.shutdown(5 * SECOND).await;
        assert_eq!((report.still_running, report.unanswered), (0, false), "{report:?}");
    }
}

#[tokio::test]
async fn a_node_does_not_start_without_its_other_store() {
    let redis = redis::server();
    let runs = Runs::default();
    let started = Callsheet::builder()
        .backend(Redis::new(redis::scope("alone"), redis.url()))
        .backend_named(CRITICAL, Postgres::new("billing", "postgres://me:pw@127.0.0.1:1/app"))
        .connect_timeout(2 * SECOND)
        .job(runs.job("cleanup"))
        .start()
        .await;

    let Err(error) = started else { panic!("it started") };
    assert!(matches!(error, StartError::Unreachable { backend: "postgres", .. }), "{error}");
    let ran = runs.of("cleanup");
    sleep(SECOND).await;
    assert_eq!(runs.of("cleanup"), ran, "nothing is left running");
}
