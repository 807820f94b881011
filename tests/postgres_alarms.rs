//! Alarms on a real PostgreSQL: a follower notices that nobody takes over, by the store's time; a success counts from
//! before the restart; a store that is away is noticed, and so is its return.

#[path = "common/postgres.rs"]
mod harness;

use std::time::{Duration, Instant};

use callsheet::{
    Event, EventFilter, EventKind, EventName, EventStream, Expectation, JobName, Problem,
    backend::Postgres,
    port::{Clock, SystemClock},
    prelude::*,
    schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use harness::{Server, Stop, connect, scope, server};
use tokio::time::{sleep, timeout};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(1);

/// The clock of a machine that is an hour behind the server's: its node may not lead.
#[derive(Debug, Clone, Default)]
struct Behind(SystemClock);

impl Clock for Behind {
    fn now(&self) -> DateTime<Utc> {
        self.0.now() - TimeDelta::hours(1)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

fn often() -> Job {
    Job::new("often", every(Duration::from_secs(1)))
        .expect_start_within(Duration::from_secs(2))
        .run(async |_| {})
}

fn node(server: &Server, scope: &str) -> callsheet::Builder {
    Callsheet::builder().backend(Postgres::new(scope, server.url()).lease(LEASE))
}

fn alarms(jobs: &Callsheet) -> EventStream {
    jobs.events(EventFilter::new().kinds([EventName::JobOverdue, EventName::JobRecovered]))
}

async fn next(alarms: &mut EventStream) -> Event {
    timeout(DEADLINE, alarms.next()).await.expect("in time").expect("the node runs")
}

/// What becomes overdue next, and since when.
async fn overdue(alarms: &mut EventStream) -> (Expectation, DateTime<Utc>) {
    match next(alarms).await.kind {
        EventKind::JobOverdue { expectation, since, .. } => (expectation, since),
        other => panic!("nothing became overdue, but {other}"),
    }
}

async fn recovered(alarms: &mut EventStream) -> DateTime<Utc> {
    match next(alarms).await.kind {
        EventKind::JobRecovered { since, .. } => since,
        other => panic!("nothing recovered, but {other}"),
    }
}

/// Waits until the node says that a start is overdue in its health, or that none is.
async fn until_overdue(jobs: &Callsheet, is: bool) {
    let until = Instant::now() + DEADLINE;
    loop {
        let health = jobs.health().await.expect("it runs");
        let overdue = health.problems.iter().any(|problem| matches!(problem, Problem::Overdue { .. }));
        if overdue == is {
            return;
        }
        assert!(Instant::now() < until, "{is}: {health:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn store_time(server: &Server) -> DateTime<Utc> {
    let row = connect(&server.url()).await.query_one("SELECT clock_timestamp()", &[]).await;
    row.expect("it answers").get(0)
}

/// Waits for a run that starts.
async fn run_starts(jobs: &Callsheet) {
    let mut starts = jobs.events(EventFilter::new().kinds([EventName::RunStarted]));
    timeout(DEADLINE, starts.next()).await.expect("in time").expect("the node runs");
}

#[tokio::test]
async fn a_follower_notices_by_the_stores_time_that_nobody_takes_over() {
    let scope = scope("alarms_follower");
    let leader = node(server(), &scope).job(often()).start().await.expect("it starts");
    run_starts(&leader).await;
    let follower =
        node(server(), &scope).clock(Behind::default()).job(often()).start().await.expect("it starts");
    let mut alarms = alarms(&follower);
    run_starts(&leader).await;
    until_overdue(&follower, false).await;

    leader.shutdown(Duration::ZERO).await;
    let stopped_at = store_time(server()).await;
    let (expectation, since) = overdue(&mut alarms).await;

    assert_eq!(expectation, Expectation::Start);
    // The first tick without a run is due within a second or two, and is to start within two.
    let late = since - stopped_at;
    assert!(late > TimeDelta::seconds(-1) && late < TimeDelta::seconds(6), "{late}, by the store's time");
    let noticed = store_time(server()).await - since;
    // Two leases and the time of a call, which are 7 s, after the fire time; and a busy machine.
    assert!(noticed < TimeDelta::seconds(30), "{noticed}");
    until_overdue(&follower, true).await;

    let next_leader = node(server(), &scope).job(often()).start().await.expect("it starts");
    assert_eq!(recovered(&mut alarms).await, since);
    until_overdue(&follower, false).await;
    for jobs in [follower, next_leader] {
        jobs.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_success_is_expected_from_the_last_one_before_the_restart_on() {
    const WITHIN: Duration = Duration::from_secs(10);
    let scope = scope("alarms_restart");
    let report = || Job::new("report", cron("0 0 1 1 *")).expect_success_within(WITHIN).run(async |_| {});
    let before = node(server(), &scope).job(report()).start().await.expect("it starts");
    before.trigger("report").await.expect("nothing runs").finished().await;
    // It writes what it has to write.
    before.shutdown(Duration::from_secs(5)).await;

    let after = node(server(), &scope).job(report()).start().await.expect("it starts");
    let mut alarms = alarms(&after);
    let record = after
        .history(&JobName::new("report").expect("a name"))
        .await
        .expect("a history is kept")
        .expect("it ran");
    let success = record.last_success.expect("it succeeded");
    let (expectation, since) = overdue(&mut alarms).await;

    assert_eq!(expectation, Expectation::Success);
    assert_eq!(since, success + WITHIN, "from the status row on, not from the start of the node");
    after.trigger("report").await.expect("nothing runs").finished().await;
    assert_eq!(recovered(&mut alarms).await, since);
    after.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_noticed_and_so_is_its_return() {
    let server = Server::start();
    let scope = scope("alarms_away");
    let jobs = node(&server, &scope).job(often()).start().await.expect("it starts");
    let mut alarms = alarms(&jobs);
    run_starts(&jobs).await;

    server.stop(Stop::Immediate);
    let (expectation, since) = overdue(&mut alarms).await;

    assert_eq!(expectation, Expectation::Start);
    until_overdue(&jobs, true).await;
    server.start_again();
    assert_eq!(recovered(&mut alarms).await, since);
    until_overdue(&jobs, false).await;
    jobs.shutdown(Duration::ZERO).await;
}
