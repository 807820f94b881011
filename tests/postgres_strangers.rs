//! Whoever may connect to the database can take any advisory lock that is free, and notify any channel whose
//! name is known, as often as they like. It does the nodes no harm.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, Job, JobName, JobState, LockKey, NodeId, RunId,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Enrolled, Enrolment, Notification, ScheduleIdentity,
        Verdict,
    },
    schedule::every,
};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use self::{
    harness::{PASSWORD, scope, server},
    log::Log,
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// How many transactions of so many notifications each.
const TRANSACTIONS: usize = 10;
const NOTIFICATIONS: usize = 5_000;
/// Of two kinds, five a minute each, of which it is said how many were left out; and a net for a busy
/// machine.
const LINES_MAX: usize = 60;
/// What the log must not show.
const GARBAGE: &str = "sesame";

/// The lease of the tests that take locks.
const LEASE: Duration = Duration::from_secs(2);
/// For how long a connection remembers, at most, which sessions it has seen alive.
const REMEMBERED: Duration = Duration::from_millis(100);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// A job that counts its runs.
fn job(name: &str, runs: &Arc<AtomicU64>) -> Job {
    Job::new(name, every(Duration::from_millis(100))).run_with(runs.clone(), async |_, runs| {
        runs.fetch_add(1, Ordering::SeqCst);
    })
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is().await {
        assert!(Instant::now() < until, "not {what}\n{}", Log::keep().text());
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_flood_of_a_strangers_notifications_is_ignored() {
    let log = Log::keep();
    let admin = connect(&server().url()).await;
    admin.batch_execute("CREATE DATABASE strangers").await.expect("it is made");
    drop(stranger().await);
    let at = format!("127.0.0.1:{}/strangers", server().port());
    let admin = connect(&format!("postgres://{}:{PASSWORD}@{at}", harness::USER)).await;
    let scope = scope("strangers");
    let (runs, held_runs) = (Arc::default(), Arc::default());
    let node = Callsheet::builder()
        .backend(Postgres::new(&scope, format!("postgres://{}:{PASSWORD}@{at}", harness::USER)))
        .job(job("job", &runs))
        .job(job("held", &held_runs))
        .start()
        .await
        .expect("it starts");
    let has_run = async |times: u64| {
        let before = runs.load(Ordering::SeqCst);
        until("run", async || runs.load(Ordering::SeqCst) >= before + times).await;
    };
    has_run(3).await;
    node.pause("held").await.expect("it is paused");
    has_run(3).await;
    let held = held_runs.load(Ordering::SeqCst);

    let stranger = connect(&format!("postgres://stranger:{PASSWORD}@{at}")).await;
    // As one who has found the name of the channel out.
    let channel = channel(&admin, &scope).await;
    let notify =
        |payloads: &str| format!("SELECT pg_notify('{channel}', payload) FROM ({payloads}) AS p (payload)");
    for nth in 0..TRANSACTIONS {
        // Of equal ones in a transaction the server sends one.
        let flood = format!("SELECT '{GARBAGE} {nth} ' || n FROM generate_series(1, {NOTIFICATIONS}) AS n");
        stranger.batch_execute(&notify(&flood)).await.expect("it may");
    }
    let run = "0190a000-0000-7000-8000-000000000001";
    let forged = format!(
        r#"VALUES ('{{"pause": {{"job": "held", "pause": null}}}}'),
           ('{{"pause": {{"job": "job", "pause": {{"until": null, "note": null}}}}}}'), ('{{"stop": {{"beacon": 7, "run": "{run}"}}}}'),
           ('{{"owed": {{"job": "job", "owed": {{"run": "{run}", "fire_time": null, "losses": 0}}}}}}')"#
    );
    stranger.batch_execute(&notify(&forged)).await.expect("it may");

    until("read by the node", async || {
        let row = admin.query_one("SELECT pg_notification_queue_usage()", &[]).await.expect("an answer");
        row.get::<_, f64>(0) == 0.0
    })
    .await;
    has_run(20).await;
    let health = node.health().await.expect("it runs");
    assert!(health.healthy && health.problems.is_empty(), "{health:?}");
    let status = node.details("held").await.expect("it is there");
    assert_eq!((status.state, held_runs.load(Ordering::SeqCst)), (JobState::Paused, held));
    let text = log.text();
    let lines = text.lines().filter(|line| line.contains("notification")).count();
    assert!((1..=LINES_MAX).contains(&lines), "{lines} lines\n{text}");
    assert!(!text.contains(GARBAGE) && !text.contains("the session is lost"), "{text}");
    node.shutdown(Duration::from_secs(5)).await;
}

/// A role that may connect, and nothing else.
async fn stranger() -> Client {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    MADE.get_or_init(async || {
        let admin = connect(&server().url()).await;
        let role = format!("CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'");
        admin.batch_execute(&role).await.expect("it is made");
    })
    .await;
    connect(&server().url().replace("callsheet:", "stranger:")).await
}

async fn channel(admin: &Client, scope: &str) -> String {
    let row = admin.query_one("SELECT channel FROM callsheet.scopes WHERE scope = $1", &[&scope]).await;
    row.expect("a channel").get(0)
}

async fn open(scope: &str) -> Postgres {
    let node = Postgres::new(scope, server().url()).lease(LEASE);
    node.locker().open().await.expect("a session opens");
    node
}

/// Takes advisory locks as soon as they are free.
async fn takes(stranger: &Client, keys: &[i64]) {
    for key in keys {
        stranger.query("SELECT pg_advisory_lock($1)", &[key]).await.expect("it may");
    }
}

/// The advisory locks of the nodes of a scope that others can see.
async fn keys(scope: &str) -> Vec<i64> {
    let held =
        "SELECT l.classid::int8 << 32 | l.objid::int8 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE $1";
    let like = format!("callsheet % {scope}");
    let rows = stranger().await.query(held, &[&like]).await.expect("anybody may look");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn wins(node: &Postgres) {
    let until = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < until, "nobody leads");
        match node.elector().campaign(Duration::MAX).await.expect("an answer") {
            Campaign::Won(_) => return,
            Campaign::Lost { retry_in, .. } => sleep(retry_in).await,
        }
    }
}

fn manual() -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    ClaimRequest::new(JobName::new("job").expect("a name"), LockKey::new("key").expect("a key"), run)
}

async fn claim(node: &Postgres) -> Verdict {
    node.locker().claim(&[manual()]).await.expect("an answer").pop().expect("one verdict")
}

#[tokio::test]
async fn a_stranger_with_the_leadership_lock_is_led_past_and_named() {
    let log = Log::keep();
    let scope = scope("lock");
    let stranger = stranger().await;
    let pid: i32 = stranger.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);
    let take = "SELECT pg_advisory_lock(hashtextextended('callsheet leader callsheet/' || $1, 0))";
    stranger.query(take, &[&scope]).await.expect("it may");
    let runs = Arc::default();
    let start = || {
        let backend = Postgres::new(&scope, server().url()).lease(LEASE);
        Callsheet::builder().backend(backend).job(job("job", &runs)).start()
    };
    let first = start().await.expect("it starts");
    until("led", async || first.health().await.expect("it runs").term.is_some()).await;
    let second = start().await.expect("it starts");

    // It goes on for several leases, and so does its successor.
    for _ in 0..3 {
        let before = runs.load(Ordering::SeqCst);
        sleep(LEASE).await;
        until("run", async || runs.load(Ordering::SeqCst) >= before + 10).await;
        assert!(first.health().await.expect("it runs").term.is_some());
    }
    // The nodes are superusers here: they may end it, once it was silent for a lease.
    until("named", async || log.text().contains(&format!("process {pid} of the server (role \"stranger\"")))
        .await;
    first.shutdown(Duration::from_secs(1)).await;
    until("succeeded", async || second.health().await.expect("it runs").term.is_some()).await;
    second.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_dead_leaders_beacon_in_a_strangers_hands_does_not_make_it_live() {
    let scope = scope("leader");
    let (leader, follower) = (open(&scope).await, open(&scope).await);
    wins(&leader).await;
    let stranger = stranger().await;
    let keys = keys(&scope).await;
    // Whatever becomes free of them, the leadership lock and the beacon.
    let followers = &follower;
    let taken = async {
        let beacon = "SELECT beacon FROM callsheet.leader WHERE scope = $1";
        let admin = connect(&server().url()).await;
        let beacon: i64 = admin.query_one(beacon, &[&scope]).await.expect("a leader").get(0);
        assert!(keys.contains(&beacon));
        takes(&stranger, &[beacon]).await;
    };
    // Far longer than what follows takes.
    let term = "UPDATE callsheet.leader SET expires_at = now() + interval '1 hour' WHERE scope = $1";
    connect(&server().url()).await.execute(term, &[&scope]).await.expect("an answer");

    drop(leader);
    taken.await;

    wins(followers).await;
}

#[tokio::test]
async fn a_dead_runs_beacon_in_a_strangers_hands_keeps_no_key() {
    let scope = scope("run");
    let (victim, heir, other) = (open(&scope).await, open(&scope).await, open(&scope).await);
    assert!(matches!(claim(&victim).await, Verdict::Granted { .. }));
    assert!(matches!(claim(&heir).await, Verdict::Busy { .. }), "its session lives");
    let admin = connect(&server().url()).await;
    let beacon = "SELECT beacon FROM callsheet.names WHERE scope = $1 AND run IS NOT NULL";
    let beacon: i64 = admin.query_one(beacon, &[&scope]).await.expect("a run").get(0);
    let stranger = stranger().await;

    drop(victim);
    takes(&stranger, &[beacon]).await;
    sleep(REMEMBERED).await;

    // A claim takes the key over, and what a search finds is closed.
    assert!(matches!(claim(&heir).await, Verdict::Granted { lost: Some(_), .. }));
    let beacon = "SELECT beacon FROM callsheet.names WHERE scope = $1 AND run IS NOT NULL";
    let beacon: i64 = admin.query_one(beacon, &[&scope]).await.expect("a run").get(0);
    drop(heir);
    takes(&stranger, &[beacon]).await;
    let closed = other.locker().close_lost(10).await.expect("an answer");
    assert_eq!(closed.lost.len(), 1, "{closed:?}");
}

#[tokio::test]
async fn no_stranger_sees_the_channel_and_notifications_are_checked() {
    let scope = scope("channel");
    let node = open(&scope).await;
    let locker = node.locker();
    let name = JobName::new("job").expect("a name");
    let enrolment = Enrolment::new(name.clone(), ScheduleIdentity::of_text("text"), Authority::Any);
    let enrolled = locker.enrol(&[enrolment]).await.expect("an answer");
    assert!(matches!(enrolled[..], [Enrolled::Done { .. }]), "{enrolled:?}");
    let (stranger, admin) = (stranger().await, connect(&server().url()).await);
    let channel = channel(&admin, &scope).await;

    let shown = "SELECT string_agg(a::text, ' ') || coalesce((SELECT string_agg(c, ' ') FROM pg_listening_channels() AS c), '')
                 FROM pg_stat_activity a";
    let shown: String = stranger.query_one(shown, &[]).await.expect("anybody may look").get(0);
    assert!(!shown.contains(&channel), "{shown}");
    assert!(stranger.query("SELECT FROM callsheet.scopes", &[]).await.is_err(), "it may not read it");

    // What comes on it all the same is what the store says.
    let forge = |payload: String| {
        let (stranger, channel) = (&stranger, &channel);
        async move {
            stranger.execute("SELECT pg_notify($1, $2)", &[channel, &payload]).await.expect("it may");
        }
    };
    let run = NodeId::random().as_uuid();
    forge(format!(
        r#"{{"owed": {{"job": "job", "owed": {{"run": "{run}", "fire_time": null, "losses": 0}}}}}}"#
    ))
    .await;
    forge(r#"{"pause": {"job": "unknown", "pause": null}}"#.to_owned()).await;
    forge(r#"{"pause": {"job": "job", "pause": {"until": null, "note": "forged"}}}"#.to_owned()).await;
    let session = callsheet::port::Session(beacon_of(&admin, &scope).await.cast_unsigned());
    let heard =
        tokio::time::timeout(DEADLINE, locker.next_notification(session)).await.expect("something is heard");

    assert_eq!(heard, Notification::PauseChanged { job: name, pause: None });
}

async fn beacon_of(admin: &Client, scope: &str) -> i64 {
    admin
        .query_one("SELECT beacon FROM callsheet.sessions WHERE scope = $1", &[&scope])
        .await
        .expect("one")
        .get(0)
}
