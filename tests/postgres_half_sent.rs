//! Whatever a connection holds on a real PostgreSQL server, and whatever became of its client: it is ended,
//! or named, within its lease.

#[path = "common/freeze.rs"]
mod freeze;
#[path = "common/postgres.rs"]
mod harness;
#[path = "common/impostor.rs"]
mod impostor;
#[path = "common/log.rs"]
mod log;

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use callsheet::{
    Callsheet, HealthReport, Job, JobName, LockKey, NodeId, Outcome, Problem, RunId,
    backend::Postgres,
    port::{Authority, Backend, ClaimRequest, Completion, Enrolment, ScheduleIdentity, Verdict},
    schedule::every,
};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use self::{
    freeze::Frozen,
    harness::{PASSWORD, Server, connect, scope, server},
    impostor::{Gate, Withholder, gate, withholder},
    log::{Log, until},
};

const LEASE: Duration = Duration::from_secs(2);
/// What a busy machine may add to a lease.
const SLACK: Duration = Duration::from_secs(3);

async fn admin() -> Client {
    connect(&server().url()).await
}

/// The URL of the server by another way.
fn through(way: &Withholder) -> String {
    server().url().replace(&format!(":{}/", server().port()), &format!(":{}/", way.port))
}

fn name(name: &str) -> JobName {
    JobName::new(name).expect("a name")
}

/// When a job ran.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Vec<Instant>>>);

impl Runs {
    fn job(&self) -> Job {
        Job::new("job", every(Duration::from_millis(100))).run_with(self.clone(), async |_, runs| {
            runs.0.lock().expect("nobody panicked").push(Instant::now());
        })
    }

    fn count(&self) -> usize {
        self.0.lock().expect("nobody panicked").len()
    }

    /// Until it has run some more times.
    async fn go_on(&self) {
        let before = self.count();
        until("run", async || self.count() >= before + 3).await;
    }

    /// The longest time without a run since an instant.
    fn longest_gap(&self, since: Instant) -> Duration {
        let runs = self.0.lock().expect("nobody panicked");
        let runs: Vec<_> = runs.iter().copied().filter(|run| *run > since).collect();
        let ends = runs.iter().copied().chain([Instant::now()]);
        [since].into_iter().chain(runs.iter().copied()).zip(ends).map(|(a, b)| b - a).max().expect("a gap")
    }
}

/// A node with a job that runs ten times a second.
async fn node(backend: Postgres, runs: &Runs) -> Callsheet {
    let node = Callsheet::builder().backend(backend).job(runs.job()).start().await.expect("it starts");
    runs.go_on().await;
    node
}

fn plain(scope: &str) -> Postgres {
    Postgres::new(scope, server().url()).lease(LEASE)
}

/// The process that serves a connection of a node.
async fn pid(admin: &Client, node: &Postgres, purpose: &str) -> Option<i32> {
    let id = node.node().expect("an id").as_uuid().simple().to_string();
    let find = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1";
    let row = admin.query_opt(find, &[&format!("callsheet {} {purpose} %", &id[..12])]).await;
    row.expect("at most one").map(|row| row.get(0))
}

async fn is_there(admin: &Client, pid: i32) -> bool {
    admin
        .query_opt("SELECT FROM pg_stat_activity WHERE pid = $1", &[&pid])
        .await
        .expect("an answer")
        .is_some()
}

/// Until a process waits for the rest of what its client asks.
async fn is_half_asked(admin: &Client, pid: i32) {
    let half =
        "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND wait_event = 'ClientRead'";
    until("half asked", async || admin.query_opt(half, &[&pid]).await.expect("an answer").is_some()).await;
}

#[tokio::test]
async fn a_half_sent_statement_that_locks_the_leader_row_costs_a_lease() {
    let (scope, admin, runs) = (scope("half-sent"), admin().await, Runs::default());
    let leader = node(plain(&scope), &runs).await;
    let way = withholder(server().port()).await;
    let victim = Postgres::new(&scope, through(&way)).lease(LEASE);
    victim.locker().open().await.expect("a session opens");
    let victims = pid(&admin, &victim, "session").await.expect("its process");

    way.withhold("session");
    let locker = victim.locker();
    let asks = tokio::spawn(async move {
        let enrolment =
            Enrolment::new(name("other"), ScheduleIdentity::of_text("text"), Authority::Leaderless);
        let _ = locker.enrol(&[enrolment]).await;
    });
    is_half_asked(&admin, victims).await;
    let cut_at = Instant::now();
    asks.abort();
    drop(victim);

    until("ended", async || !is_there(&admin, victims).await).await;
    runs.go_on().await;
    let gap = runs.longest_gap(cut_at);
    assert!(gap < LEASE + SLACK, "{gap:?}");
    leader.shutdown(Duration::from_secs(1)).await;
}

fn manual(key: &str) -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    ClaimRequest::new(name("manual"), LockKey::new(key).expect("a key"), run)
}

#[tokio::test]
async fn the_keys_of_a_node_whose_end_was_half_sent_are_free_after_its_lease() {
    let (scope, admin) = (scope("half-ended"), admin().await);
    let way = withholder(server().port()).await;
    let victim = Postgres::new(&scope, through(&way)).lease(LEASE);
    victim.locker().open().await.expect("a session opens");
    let victims = pid(&admin, &victim, "session").await.expect("its process");
    let claim = manual("key");
    let verdicts = victim.locker().claim(std::slice::from_ref(&claim)).await.expect("an answer");
    let [Verdict::Granted { token, .. }] = verdicts[..] else { panic!("{verdicts:?}") };
    // It neither leads nor campaigns.
    let heir = plain(&scope);
    heir.locker().open().await.expect("a session opens");

    way.withhold("session");
    let (locker, run) = (victim.locker(), claim.run);
    let asks = tokio::spawn(async move {
        let key = LockKey::new("key").expect("a key");
        let end = Completion::new(name("manual"), key, run, token, Outcome::Succeeded);
        let _ = locker.complete(&[end]).await;
    });
    is_half_asked(&admin, victims).await;
    let cut_at = Instant::now();
    asks.abort();
    drop(victim);

    let heirs = heir.locker();
    until("taken over", async || {
        let verdicts = heirs.claim(&[manual("key")]).await.expect("an answer");
        matches!(verdicts[..], [Verdict::Granted { lost: Some(_), .. }])
    })
    .await;
    // A heartbeat may have come just before.
    assert!(cut_at.elapsed() < LEASE * 2 + SLACK, "{:?}", cut_at.elapsed());
}

#[tokio::test]
async fn a_stranger_who_keeps_the_leader_row_locked_and_says_nothing_is_ended() {
    let (scope, admin, runs) = (scope("locked"), admin().await, Runs::default());
    let leader = node(plain(&scope), &runs).await;
    let stranger = connect(&server().url()).await;
    let of_stranger: i32 =
        stranger.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);
    stranger.batch_execute("BEGIN").await.expect("an answer");
    let lock = "SELECT FROM callsheet.leader WHERE scope = $1 FOR SHARE";

    stranger.query(lock, &[&scope]).await.expect("an answer");
    let locked_at = Instant::now();

    // It is not asked itself: then it would say something.
    until("ended", async || !is_there(&admin, of_stranger).await).await;
    runs.go_on().await;
    let gap = runs.longest_gap(locked_at);
    assert!(gap < LEASE + SLACK, "{gap:?}");
    leader.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_stranger_who_goes_on_just_before_its_end_is_not_ended() {
    let (scope, runs) = (scope("goes-on"), Runs::default());
    // What ends it comes late.
    let Gate { port, reached, open } = gate(server().port(), "pg_terminate_backend(pid) AS ended").await;
    let url = server().url().replace(&format!(":{}/", server().port()), &format!(":{port}/"));
    let leader = node(Postgres::new(&scope, url).lease(LEASE), &runs).await;
    let stranger = connect(&server().url()).await;
    stranger.batch_execute("BEGIN").await.expect("an answer");
    let lock = "SELECT FROM callsheet.leader WHERE scope = $1 FOR SHARE";
    stranger.query(lock, &[&scope]).await.expect("an answer");

    reached.await.expect("it is to be ended");
    stranger.simple_query("SELECT").await.expect("it is not ended yet");
    open.send(()).expect("the gate is there");
    runs_after(&stranger).await;

    stranger.batch_execute("COMMIT").await.expect("it was not ended");
    runs.go_on().await;
    leader.shutdown(Duration::from_secs(1)).await;
}

/// Goes on for as long as a statement that was held back takes at most.
async fn runs_after(stranger: &Client) {
    for _ in 0..STEPS / 4 {
        sleep(STEP).await;
        stranger.simple_query("SELECT").await.expect("it is not ended");
    }
}

fn obstructed(health: &HealthReport) -> Option<String> {
    health.problems.iter().find(|it| matches!(it, Problem::Obstructed { .. })).map(ToString::to_string)
}

/// A stranger locks the leader row and works for longer than a lease: it is named, and goes on.
async fn is_left_alone(scope: &str, works: impl AsyncFnOnce(&Client)) {
    let runs = Runs::default();
    let leader = node(plain(scope), &runs).await;
    let stranger = admin().await;
    let of_stranger: i32 =
        stranger.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);
    stranger.batch_execute("CREATE TEMPORARY TABLE copied (line text); BEGIN").await.expect("an answer");
    let lock = "SELECT FROM callsheet.leader WHERE scope = $1 FOR SHARE";
    stranger.query(lock, &[&scope]).await.expect("an answer");

    works(&stranger).await;

    let found = obstructed(&leader.health().await.expect("it runs"));
    let who = format!("process {of_stranger} of");
    assert!(found.as_ref().is_some_and(|found| found.contains(&who)), "{found:?}");
    stranger.batch_execute("COMMIT").await.expect("it is not ended");
    runs.go_on().await;
    leader.shutdown(Duration::from_secs(1)).await;
}

/// How a stranger works: in so many steps, each of which takes so long.
const STEPS: u32 = 80;
const STEP: Duration = Duration::from_millis(75);

#[tokio::test]
async fn a_stranger_who_locks_the_leader_row_and_asks_on_is_left_alone() {
    is_left_alone(&scope("asks"), async |stranger| {
        for _ in 0..STEPS {
            stranger.simple_query("SELECT").await.expect("it is not ended");
            sleep(STEP).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stranger_who_locks_the_leader_row_and_copies_out_is_left_alone() {
    is_left_alone(&scope("copies-out"), async |stranger| {
        // More than the buffers of a connection take: the server waits for the client most of the time.
        let copy = "COPY (SELECT repeat('x', 1000000) FROM generate_series(1, 80)) TO STDOUT";
        let mut lines = pin!(stranger.copy_out(copy).await.expect("an answer"));
        while let Some(line) = lines.next().await {
            line.expect("it is not ended");
            sleep(STEP).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stranger_who_locks_the_leader_row_and_copies_in_is_left_alone() {
    is_left_alone(&scope("copies-in"), async |stranger| {
        let mut lines = pin!(stranger.copy_in("COPY copied FROM STDIN").await.expect("an answer"));
        for _ in 0..STEPS {
            lines.send(Bytes::from_static(b"line\n")).await.expect("it is not ended");
            sleep(STEP).await;
        }
        lines.finish().await.expect("it is not ended");
    })
    .await;
}

#[tokio::test]
async fn who_keeps_the_leader_row_locked_and_may_not_be_ended_is_named() {
    let (log, admin, runs) = (Log::keep(), admin().await, Runs::default());
    let role =
        format!("CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE ON DATABASE postgres TO weak");
    admin.batch_execute(&role).await.expect("a role");
    let scope = scope("named");
    let backend =
        Postgres::new(&scope, server().url().replace("callsheet:", "weak:")).schema("weak").lease(LEASE);
    let leader = node(backend, &runs).await;
    let stranger = connect(&format!("{}?application_name=report", server().url())).await;
    stranger.batch_execute("BEGIN").await.expect("an answer");
    let of_stranger: i32 =
        stranger.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);

    stranger.query("SELECT FROM weak.leader WHERE scope = $1 FOR SHARE", &[&scope]).await.expect("an answer");
    let locked_at = Instant::now();

    let who = format!("process {of_stranger} of the server (role \"callsheet\", application \"report\")");
    let named = Mutex::new(String::new());
    until("named", async || {
        let found = obstructed(&leader.health().await.expect("it runs"));
        found.is_some_and(|found| {
            let is_named = found.contains(&who) && found.contains("; grant pg_signal_backend and");
            *named.lock().expect("nobody panicked") = found;
            is_named
        })
    })
    .await;
    assert!(locked_at.elapsed() < LEASE + SLACK, "{:?} {named:?}", locked_at.elapsed());
    assert!(log.text().contains(&who), "{}", log.text());
    // Nobody is granted a term, and nothing is claimed without one.
    until("over", async || leader.health().await.expect("it runs").term.is_none()).await;
    // A run that was granted just before may begin after.
    let over_at = Instant::now() + LEASE / 2;
    sleep(LEASE).await;
    assert!(runs.longest_gap(over_at) >= LEASE / 2, "it ran");

    stranger.batch_execute("ROLLBACK").await.expect("it was not ended");
    runs.go_on().await;
    until("free", async || obstructed(&leader.health().await.expect("it runs")).is_none()).await;
    leader.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_leader_whose_second_backend_stands_still_is_succeeded() {
    let (scope, admin, runs) = (scope("stopped"), admin().await, Runs::default());
    let backend = plain(&scope);
    let leaders = backend.node();
    let leader = Callsheet::builder().backend(backend).job(runs.job()).start().await.expect("it starts");
    runs.go_on().await;
    let follower =
        Callsheet::builder().backend(plain(&scope)).job(runs.job()).start().await.expect("it starts");
    let term = async |node: &Callsheet| node.health().await.expect("it runs").term;
    until("led", async || term(&leader).await.is_some()).await;
    let former = term(&leader).await;
    let id = leaders.expect("an id").as_uuid().simple().to_string();
    let find = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1";
    let like = format!("callsheet {} leadership %", &id[..12]);
    let pid: i32 = admin.query_one(find, &[&like]).await.expect("its process").get(0);

    let mut stopped = Frozen::default();
    let stopped_at = stopped.freeze(pid, &admin).await;

    // By the other node, or by itself on another connection.
    until("succeeded", async || term(&leader).await.max(term(&follower).await) > former).await;
    assert!(stopped_at.elapsed() < LEASE + SLACK, "{:?}", stopped_at.elapsed());
    runs.go_on().await;
    let gap = runs.longest_gap(stopped_at);
    assert!(gap < LEASE + SLACK, "{gap:?}");
    drop(stopped);
    leader.shutdown(Duration::from_secs(1)).await;
    follower.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_backend_that_stands_still_with_a_beacon_is_named() {
    let (scope, admin, runs) = (scope("beacon"), admin().await, Runs::default());
    let victim = plain(&scope);
    victim.locker().open().await.expect("a session opens");
    let leader = node(plain(&scope), &runs).await;
    let victims = pid(&admin, &victim, "session").await.expect("its process");

    let mut stopped = Frozen::default();
    stopped.freeze(victims, &admin).await;

    until("named", async || {
        let found = obstructed(&leader.health().await.expect("it runs"));
        found.is_some_and(|found| {
            found.contains(&format!("process {victims} of")) && found.contains("stands still")
        })
    })
    .await;
    drop(stopped);
    until("gone", async || !is_there(&admin, victims).await).await;
    until("free", async || obstructed(&leader.health().await.expect("it runs")).is_none()).await;
    leader.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_node_with_a_short_lease_ends_no_living_one_with_a_long_lease() {
    let (scope, admin, runs) = (scope("leases"), admin().await, Runs::default());
    let long = Postgres::new(&scope, server().url()).lease(Duration::from_secs(15));
    long.locker().open().await.expect("a session opens");
    let its = pid(&admin, &long, "session").await.expect("its process");
    let short = node(plain(&scope), &runs).await;

    // It beats every 7 s.
    let lost = timeout(Duration::from_secs(9), async {
        until("ended", async || !is_there(&admin, its).await).await;
    });
    assert!(lost.await.is_err(), "it was ended");
    short.shutdown(Duration::from_secs(1)).await;
}

/// All processes of a server that serve a connection.
async fn backends(admin: &Client) -> Vec<i32> {
    let all = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'callsheet %'";
    admin.query(all, &[]).await.expect("an answer").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_server_that_stands_still_for_everybody_ends_nobody_when_it_goes_on() {
    let server = Server::start();
    let admin = connect(&server.url()).await;
    let open = async |lease| {
        let node = Postgres::new("still", server.url()).lease(Duration::from_secs(lease));
        node.locker().open().await.expect("a session opens");
        node
    };
    // The first one's heartbeats look at all; the others survive what stands still.
    let nodes = [open(20).await, open(20).await, open(60).await];
    let mut before = backends(&admin).await;
    before.sort_unstable();

    let mut stopped = Frozen::default();
    for pid in &before {
        stopped.freeze(*pid, &admin).await;
    }
    sleep(Duration::from_secs(12)).await;
    drop(stopped);

    // Each of the short ones beats twice.
    sleep(Duration::from_secs(20)).await;
    let mut after = backends(&admin).await;
    after.sort_unstable();
    assert_eq!(before, after);
    drop(nodes);
}
