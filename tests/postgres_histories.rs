//! A standby that is promoted without the last commits of its primary, and what a node says that goes on with it.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, DivergedRun, Event, EventFilter, EventKind, EventName, EventStream, Job, JobName, LockKey,
    NodeId, Outcome, RunId,
    backend::Postgres,
    port::{Backend, ClaimRequest, Completion, Divergence, GrantedRun, KnownHistory, Locker, Verdict},
    schedule::{at, every},
};
use chrono::{SubsecRound, TimeDelta, Utc};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use self::harness::{PASSWORD, Server, Stop, scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// From when a job is added until its only tick: enough to cut the replication in between.
const SOON: TimeDelta = TimeDelta::seconds(8);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is().await {
        assert!(Instant::now() < until, "not {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn next(events: &mut EventStream) -> Event {
    timeout(DEADLINE, events.next()).await.expect("in time").expect("it runs")
}

/// The next divergence: how many runs, and those that are named.
async fn diverged(events: &mut EventStream) -> (u64, Vec<DivergedRun>) {
    match next(events).await.kind {
        EventKind::HistoryDiverged { count, runs, .. } => (count, runs),
        other => panic!("{other}"),
    }
}

fn often() -> Job {
    Job::new("often", every(Duration::from_millis(500))).run(async |_| {})
}

/// The ids of so many runs that end from now on.
async fn ended(ends: &mut EventStream, job: &str, count: usize) -> BTreeSet<RunId> {
    let mut ended = BTreeSet::new();
    while ended.len() < count {
        if let EventKind::RunSucceeded { job: of, run, .. } = next(ends).await.kind
            && of.as_str() == job
        {
            ended.insert(run);
        }
    }
    ended
}

/// A node on a primary, or on its standby once that is promoted.
async fn node(servers: [&Server; 2]) -> Callsheet {
    let [primary, standby] = servers.map(Server::port);
    let hosts = format!("127.0.0.1:{primary},127.0.0.1:{standby}");
    let backend = Postgres::new("histories", format!("postgres://callsheet:{PASSWORD}@{hosts}/postgres"));
    let backend = backend.lease(Duration::from_secs(2));
    Callsheet::builder().backend(backend).job(often()).start().await.expect("it starts")
}

#[tokio::test]
async fn the_runs_that_a_promoted_standby_does_not_know_are_named() {
    let primary = Arc::new(Server::start());
    let of_primary = primary.clone();
    let copied = tokio::task::spawn_blocking(move || Server::standby_of(&of_primary));
    let standby = copied.await.expect("it is made");
    let jobs = node([&primary, &standby]).await;
    let mut ends = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded]));
    let mut events = jobs.events(EventFilter::new().kinds([EventName::HistoryDiverged]));
    ended(&mut ends, "often", 2).await;
    let tick = (Utc::now() + SOON).trunc_subsecs(3);
    jobs.add(Job::new("once", at([tick])).run(async |_| {})).await.expect("a good job");
    let on_standby = connect(&standby.url()).await;
    until("replicated", async || {
        let find = "SELECT FROM callsheet.names WHERE name = 'once' AND cursor IS NOT NULL";
        on_standby.query(find, &[]).await.is_ok_and(|rows| !rows.is_empty())
    })
    .await;

    for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
        on_standby.batch_execute(statement).await.expect("an answer");
    }
    until("cut off", async || {
        let receives = "SELECT FROM pg_stat_wal_receiver";
        on_standby.query(receives, &[]).await.expect("an answer").is_empty()
    })
    .await;
    assert!(Utc::now() < tick, "the tick is due only now");
    let once = ended(&mut ends, "once", 1).await;
    let unknown = ended(&mut ends, "often", 3).await;
    on_standby.batch_execute("SELECT pg_promote()").await.expect("it is promoted");
    tokio::task::spawn_blocking(move || primary.stop(Stop::Immediate)).await.expect("it is carried out");

    let (count, runs) = diverged(&mut events).await;
    let named: BTreeSet<_> = runs.iter().map(|run| run.run).collect();
    assert!(unknown.is_subset(&named) && once.is_subset(&named), "{unknown:?} {once:?} of {runs:?}");
    assert!(count >= runs.len() as u64 && runs.len() >= 4, "{count}: {runs:?}");

    // Its tick is due on the other server as well, and nothing there says that it ran.
    let again = ended(&mut ends, "once", 1).await;
    let (_, twice) = diverged(&mut events).await;
    let [DivergedRun { run, fire_time: Some(fire_time), tick_also: Some(other), .. }] = &twice[..] else {
        panic!("{twice:?}")
    };
    assert_eq!((once.contains(run), again.contains(other)), (true, true), "{twice:?}");
    assert_eq!(fire_time.instant(), tick);
    jobs.shutdown(Duration::from_secs(1)).await;
}

async fn granted(locker: &dyn Locker, key: &str) -> GrantedRun {
    let (job, key) = (JobName::new(key).expect("a name"), LockKey::new(key).expect("a name"));
    let run = RunId::from(NodeId::random().as_uuid());
    let claim = ClaimRequest::new(job.clone(), key.clone(), run);
    match locker.claim(&[claim]).await.expect("an answer")[..] {
        [Verdict::Granted { token, .. }] => GrantedRun { job, key, run, fire_time: None, token },
        ref other => panic!("{other:?}"),
    }
}

/// A session that was lost for another reason says nothing.
#[tokio::test]
async fn a_server_knows_what_it_granted_whatever_became_of_it() {
    let (scope, admin) = (scope("known"), connect(&server().url()).await);
    let node = Postgres::new(&scope, server().url());
    let locker = node.locker();
    locker.open().await.expect("a session opens");
    let mut runs = Vec::new();
    for key in ["open", "ended", "claimed_again", "claimed_again", "forgotten"] {
        let run = granted(&*locker, key).await;
        if key != "open" {
            let end =
                Completion::new(run.job.clone(), run.key.clone(), run.run, run.token, Outcome::Succeeded);
            locker.complete(&[end]).await.expect("an answer");
        }
        runs.push(run);
    }
    let forget = "WITH gone AS (DELETE FROM callsheet.names WHERE scope = $1 AND name = 'forgotten' RETURNING token)
                  INSERT INTO callsheet.leader (scope, epoch, node, beacon, granted_at, expires_at, token_bound)
                  SELECT $1, 1, gen_random_uuid(), 1, now(), '-infinity', token FROM gone";
    admin.execute(forget, &[&scope]).await.expect("an answer");

    let known = KnownHistory { term: None, runs: runs.clone() };
    assert_eq!(locker.compare(&known).await.expect("an answer"), Divergence::default());

    // As another history has it.
    let [open, ended, ..] = &runs[..] else { panic!("{runs:?}") };
    let greater = GrantedRun { token: callsheet::FencingToken(ended.token.0 + 1), ..ended.clone() };
    let other = GrantedRun { run: RunId::from(NodeId::random().as_uuid()), ..open.clone() };
    let known = KnownHistory { term: Some(callsheet::Term(2)), runs: vec![greater.clone(), other.clone()] };
    let divergence = locker.compare(&known).await.expect("an answer");
    assert_eq!(divergence.term, Some(callsheet::Term(1)));
    let [first, second] = &divergence.runs[..] else { panic!("{divergence:?}") };
    assert_eq!((first.run, first.token_also), (greater.run, None));
    assert_eq!((second.run, second.token_also), (other.run, Some(open.run)));
}
