//! What a real PostgreSQL server keeps of a schedule, across builds that tell schedules by other versions of
//! identities.

#[path = "common/postgres.rs"]
mod harness;

use std::{fmt, time::Duration};

use callsheet::{
    Callsheet, Job, Misfire,
    backend::Postgres,
    schedule::{IntoSchedule, Schedule, ScheduleIdentity, every},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_postgres::NoTls;

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_millis(100);
/// Nobody runs for so long: some ticks.
const AWAY: Duration = Duration::from_millis(700);

/// The same rule as a build of another version tells it.
#[derive(Debug)]
struct OtherBuild(u32);

impl fmt::Display for OtherBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every 100ms, in other words")
    }
}

impl Schedule for OtherBuild {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        every(PERIOD).into_schedule().ok()?.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        every(PERIOD).into_schedule().ok()?.previous_before(before)
    }

    fn identity(&self) -> ScheduleIdentity {
        ScheduleIdentity::of_text("another form of the same rule").with_version(self.0)
    }
}

type Ticks = mpsc::UnboundedReceiver<DateTime<Utc>>;

async fn node(scope: &str, schedule: impl IntoSchedule) -> (Callsheet, Ticks) {
    let (say, ticks) = mpsc::unbounded_channel();
    let job = Job::new("job", schedule)
        // Whatever is late is caught up with, also what is late by less than a second.
        .misfire_after(Duration::ZERO)
        .misfire(Misfire::All { max: 1_000, within: Duration::from_mins(5) })
        .run_with(say, async |run, say: mpsc::UnboundedSender<DateTime<Utc>>| {
            // An error: the test is over.
            run.fire_time().map_or(Ok(()), |tick| say.send(tick))
        });
    let backend = Postgres::new(scope, server().url());
    let node = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
    (node, ticks)
}

async fn next(ticks: &mut Ticks) -> DateTime<Utc> {
    timeout(DEADLINE, ticks.recv()).await.expect("the job runs").expect("the job lives")
}

async fn stored_identity(scope: &str) -> String {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let stored = "SELECT schedule FROM callsheet.names WHERE scope = $1 AND name = 'job'";
    client.query_one(stored, &[&scope]).await.expect("the job has a row").get(0)
}

#[tokio::test]
async fn ticks_missed_between_two_builds_are_owed() {
    let current = ScheduleIdentity::VERSION;
    for (test, other) in [("older", 0), ("newer", current + 1)] {
        let scope = scope(test);
        let (old, mut ticks) = node(&scope, OtherBuild(other)).await;
        let mut last = next(&mut ticks).await;
        old.shutdown(DEADLINE).await;
        while let Ok(tick) = ticks.try_recv() {
            last = tick;
        }
        assert!(stored_identity(&scope).await.starts_with(&format!("v{other}:")));
        sleep(AWAY).await;
        let back_at = Utc::now();

        let (new, mut ticks) = node(&scope, every(PERIOD)).await;
        let mut ran = vec![last];
        while ran.last().is_none_or(|tick| *tick < back_at) {
            ran.push(next(&mut ticks).await);
        }
        let expected = every(PERIOD).into_schedule().expect("it is right").identity().to_string();
        assert_eq!(stored_identity(&scope).await, expected, "it took the place of the {test} one");
        new.shutdown(DEADLINE).await;

        let period = TimeDelta::from_std(PERIOD).expect("it is short");
        assert!(ran.windows(2).all(|pair| pair[1] - pair[0] == period), "no tick is lost: {ran:?}");
        assert!(ran.len() > 6, "some were missed: {ran:?}");
    }
}

#[tokio::test]
async fn ticks_missed_before_a_change_are_not_owed() {
    let scope = scope("changed");
    let (old, mut ticks) = node(&scope, OtherBuild(ScheduleIdentity::VERSION)).await;
    next(&mut ticks).await;
    old.shutdown(DEADLINE).await;
    sleep(AWAY).await;
    let back_at = Utc::now();

    let (new, mut ticks) = node(&scope, every(PERIOD)).await;
    let first = next(&mut ticks).await;
    new.shutdown(DEADLINE).await;

    // The clock of the database is the one of this machine.
    assert!(first > back_at, "{first} was before {back_at}");
}
