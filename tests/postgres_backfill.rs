//! Backfills on a real PostgreSQL server, whose leaders are killed again and again.

#![allow(clippy::print_stdout, reason = "what a node that is killed says to its parent")]

#[path = "common/postgres.rs"]
mod harness;
#[path = "process/mod.rs"]
mod process;

use std::{
    collections::BTreeSet,
    env,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Backfill, BackfillId, BackfillState, BackfillStatus, By, Callsheet, Fires, Job, JobName, Origin, Run,
    RunHistory, RunOrigin, backend::Postgres, schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use self::{
    harness::{connect, scope, server},
    process::Process,
};

/// The variables that make this program a node of a scope, which leads until it is killed.
const LEADER: &str = "CALLSHEET_BACKFILL_LEADER";
const LEADER_URL: &str = "CALLSHEET_BACKFILL_URL";

/// The test that such a program runs.
const LEADER_TEST: &str = "leaders_that_are_killed_in_a_row_start_each_fire_time_once";

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

const TICKS: usize = 300;

/// What bodies did, written by each through a connection of its own.
const WORK: &str = "SELECT pg_advisory_xact_lock(7); CREATE TABLE IF NOT EXISTS backfill_work (scope text, run uuid, fire_time timestamptz, of_backfill uuid)";

/// A job whose body writes what it sees.
async fn job(scope: &str, url: &str) -> Job {
    #[derive(Clone)]
    struct State {
        scope: String,
        client: Arc<Client>,
    }
    async fn work(run: Run, State { scope, client }: State) -> Result<(), tokio_postgres::Error> {
        let Origin::Backfill { backfill, fire_time, .. } = run.origin() else { return Ok(()) };
        let insert = "INSERT INTO backfill_work VALUES ($1, $2, $3, $4)";
        client
            .execute(insert, &[&scope, &run.id().as_uuid(), &fire_time.instant(), &backfill.as_uuid()])
            .await?;
        sleep(Duration::from_millis(2)).await;
        Ok(())
    }
    let client = Arc::new(connect(url).await);
    Job::new("job", every(Duration::from_hours(1))).run_with(State { scope: scope.to_owned(), client }, work)
}

async fn node(scope: &str, url: &str, may_lead: bool) -> Callsheet {
    let builder = Callsheet::builder()
        .backend(Postgres::new(scope, url).lease(Duration::from_secs(2)))
        .job(job(scope, url).await);
    let builder = if may_lead { builder } else { builder.may_lead(async || false) };
    builder.start().await.expect("it starts")
}

/// The last full hours before now, so many.
fn last_hours(ticks: usize) -> Backfill {
    let to = Utc::now();
    let hours = i64::try_from(ticks).expect("few");
    Backfill::new("job", to - TimeDelta::hours(hours), to).again(true)
}

async fn status(jobs: &Callsheet, id: BackfillId) -> BackfillStatus {
    let all = jobs.backfills(Some(&JobName::new("job").expect("a good name"))).await.expect("an answer");
    all.into_iter().find(|one| one.id == id).expect("it is kept")
}

async fn until(
    jobs: &Callsheet,
    id: BackfillId,
    what: &str,
    so: impl Fn(&BackfillStatus) -> bool,
) -> BackfillStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = status(jobs, id).await;
        if so(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what}: {status:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn start_leader(scope: &str) -> Process {
    let mut program = Command::new(env::current_exe().expect("a path"));
    program.args(["--exact", LEADER_TEST, "--nocapture"]).env(LEADER, scope).env(LEADER_URL, server().url());
    Process::start(&mut program)
}

#[tokio::test]
async fn leaders_that_are_killed_in_a_row_start_each_fire_time_once() {
    if let (Ok(scope), Ok(url)) = (env::var(LEADER), env::var(LEADER_URL)) {
        let jobs = node(&scope, &url, true).await;
        println!("\nstarted");
        sleep(DEADLINE * 2).await;
        drop(jobs);
        return;
    }
    let scope = scope("backfill");
    let admin = connect(&server().url()).await;
    admin.batch_execute(WORK).await.expect("an answer");
    let jobs = node(&scope, &server().url(), false).await;
    let kept = jobs.backfill(last_hours(TICKS)).await.expect("it is kept");
    let ticks = usize::try_from(kept.ticks).expect("few");
    assert!((TICKS..=TICKS + 1).contains(&ticks));

    let mut done = 0;
    for nth in 0..6_u64 {
        let mut leader = start_leader(&scope);
        leader.wait_for("started");
        until(&jobs, kept.id, "this leader goes on", |status| status.done > done + 8).await;
        // Not always at the same step.
        sleep(Duration::from_micros(700 * nth)).await;
        leader.signal(Signal::KILL);
        assert_eq!(leader.end().0, None, "it was killed");
        done = status(&jobs, kept.id).await.done;
    }
    assert!(done < kept.ticks, "the last leader has something to do");
    let mut last = start_leader(&scope);
    last.wait_for("started");
    until(&jobs, kept.id, "it finishes", |status| status.state == BackfillState::Finished).await;
    last.signal(Signal::KILL);
    last.end();

    let runs = "SELECT run, outcome FROM callsheet.all_runs WHERE scope = $1";
    let runs = admin.query(runs, &[&scope]).await.expect("an answer");
    let wanted: BTreeSet<_> = (0..kept.ticks).map(|nth| kept.id.run(nth).as_uuid()).collect();
    let granted: Vec<uuid::Uuid> = runs.iter().map(|row| row.get("run")).collect();
    assert_eq!(granted.len(), ticks, "each was granted once");
    assert_eq!(granted.into_iter().collect::<BTreeSet<_>>(), wanted);
    let lost = runs.iter().filter(|row| row.get::<_, Option<&str>>("outcome") == Some("lost")).count();
    let did =
        "SELECT count(*), count(DISTINCT fire_time), count(DISTINCT run) FROM backfill_work WHERE scope = $1";
    let did = admin.query_one(did, &[&scope]).await.expect("an answer");
    let [bodies, fire_times, distinct] = [0, 1, 2].map(|column| did.get::<_, i64>(column));
    assert_eq!((bodies, bodies), (fire_times, distinct), "no body started twice");
    let lost = i64::try_from(lost).expect("few");
    assert!(bodies + lost >= i64::from(kept.ticks), "{bodies} bodies, {lost} lost");
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_follower_asks_cancels_and_sees_what_the_leader_did() {
    let (scope, url) = (scope("backfill_follower"), server().url());
    connect(&url).await.batch_execute(WORK).await.expect("an answer");
    let leader = node(&scope, &url, true).await;
    let follower = node(&scope, &url, false).await;

    let by = By::new("alice").expect("a good name");
    let kept = follower.backfill(last_hours(3).by(by.clone())).await.expect("it is kept");
    let heard = Instant::now();
    until(&follower, kept.id, "it finishes", |status| status.state == BackfillState::Finished).await;
    assert!(
        heard.elapsed() < Duration::from_secs(30),
        "the leader was told, and did not only look once a minute"
    );

    let asked = RunHistory::new().job(kept.job.clone());
    let deadline = Instant::now() + DEADLINE;
    let runs = loop {
        let page = follower.runs(asked.clone()).await.expect("an answer");
        if page.runs.len() == kept.ticks as usize {
            break page.runs;
        }
        assert!(Instant::now() < deadline, "{:?}", page.runs);
        sleep(Duration::from_millis(100)).await;
    };
    let origin = RunOrigin::Backfill { backfill: kept.id, by: Some(by) };
    assert!(runs.iter().all(|run| run.origin == origin), "{runs:?}");
    // What ran is known to the database's history.
    let again = Backfill::new("job", kept.from, kept.to);
    assert_eq!(follower.preview_backfill(again).await.expect("an answer").left_out.len(), runs.len());

    let slow = last_hours(100).spacing(Duration::from_secs(1));
    let kept = leader.backfill(slow).await.expect("it is kept");
    until(&leader, kept.id, "it starts", |status| status.done >= 1).await;
    let left = follower.cancel_backfill(kept.id).await.expect("it is running");
    assert_eq!(left.state, BackfillState::Cancelled);
    assert!(left.remaining > 90, "{left:?}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(status(&leader, kept.id).await.done, left.done, "nothing more was taken up");
    for jobs in [follower, leader] {
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn of_two_nodes_that_ask_at_once_each_fire_time_runs_once() {
    let (scope, url) = (scope("backfill_at_once"), server().url());
    let admin = connect(&url).await;
    admin.batch_execute(WORK).await.expect("an answer");
    let leader = node(&scope, &url, true).await;
    let follower = node(&scope, &url, false).await;
    // Long before the jobs were there, so that none of them had a run.
    let to = Utc::now() - TimeDelta::hours(2);
    for round in 0..10 {
        let to = to - TimeDelta::days(round);
        let hours = |hours: i64| Backfill::new("job", to - TimeDelta::hours(hours), to);

        let (first, second) = tokio::join!(leader.backfill(hours(4)), follower.backfill(hours(6)));

        let kept: Vec<_> = [first, second].into_iter().flatten().collect();
        assert_eq!(kept.iter().map(|one| one.ticks).sum::<u32>(), 6, "{kept:?}");
        for one in kept {
            until(&leader, one.id, "it finishes", |status| status.state == BackfillState::Finished).await;
        }
    }

    let did = "SELECT count(*), count(DISTINCT fire_time) FROM backfill_work WHERE scope = $1";
    let did = admin.query_one(did, &[&scope]).await.expect("an answer");
    assert_eq!((did.get::<_, i64>(0), did.get::<_, i64>(1)), (60, 60));
    for jobs in [follower, leader] {
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}

/// The fire times of runs that started.
type Started = Arc<Mutex<Vec<Option<DateTime<Utc>>>>>;

async fn long(run: Run, started: Started) {
    started.lock().expect("nobody panics").push(run.fire_time());
    sleep(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn what_another_node_has_just_started_is_not_run_again() {
    let (scope, url) = (scope("backfill_just_started"), server().url());
    let started = Started::default();
    let node = async |leads: bool| {
        let job = Job::new("long", every(Duration::from_secs(1))).run_with(started.clone(), long);
        let builder = Callsheet::builder().backend(Postgres::new(&scope, &url)).job(job);
        let builder = if leads { builder } else { builder.prefer_not_to_lead() };
        builder.start().await.expect("it starts")
    };
    let leader = node(true).await;
    let follower = node(false).await;
    let tick = until_some("a run starts", || *started.lock().expect("nobody panics").first()?).await;

    // The other ticks overlap with it, and have no run.
    let asked = follower.backfill(Backfill::new("long", tick, tick)).await;

    let refused = asked.expect_err("its run is in progress").to_string();
    assert!(refused.contains("all of which had a run"), "{refused}");
    for jobs in [follower, leader] {
        jobs.shutdown(Duration::ZERO).await;
    }
}

async fn until_some<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A job that any node fires has its backfill driven by the leader as well.
#[tokio::test]
async fn a_job_that_any_node_fires_has_a_backfill_too() {
    let (scope, url) = (scope("backfill_any"), server().url());
    connect(&url).await.batch_execute(WORK).await.expect("an answer");
    let backend = Postgres::new(&scope, &url);
    let any = job(&scope, &url).await.fires(Fires::AnyNode);
    let jobs = Callsheet::builder().backend(backend).job(any).start().await.expect("it starts");

    let kept = jobs.backfill(last_hours(5)).await.expect("it is kept");

    let finished =
        until(&jobs, kept.id, "it finishes", |status| status.state == BackfillState::Finished).await;
    assert_eq!((finished.done, finished.failed), (kept.ticks, 0));
    let tick: Option<DateTime<Utc>> =
        jobs.next_fire_times("job", 1).await.expect("an answer").first().copied();
    assert!(tick.expect("it goes on") > Utc::now(), "its cursor stands where it stood");
    jobs.shutdown(Duration::from_secs(5)).await;
}
