//! Whole processes on a real PostgreSQL server: killed, told to stop, frozen, and cut off from their
//! sessions. Afterwards the books of every tick must balance: see `examples/failover/audit.rs` for what is
//! held against what.

#![allow(clippy::print_stdout, reason = "what was measured, for whoever runs it with --nocapture")]

#[path = "../examples/failover/audit.rs"]
mod audit;
#[path = "../examples/failover/books.rs"]
mod books;
#[path = "../examples/failover/cluster.rs"]
mod cluster;
#[path = "common/example.rs"]
mod example;
#[path = "common/postgres.rs"]
mod harness;
#[path = "../examples/failover/history.rs"]
mod history;
#[path = "../examples/failover/node.rs"]
mod node;
mod process;

use std::{
    env, fs,
    future::Future,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::Command,
    time::Duration,
};

use callsheet::Term;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::{Client, NoTls};

use self::{
    audit::Audit,
    cluster::Cluster,
    example::example,
    harness::server,
    history::Said,
    node::{JobPlan, PLAN, Plan},
    process::Process,
};

/// The default of `Postgres::lease`.
const LEASE: TimeDelta = TimeDelta::seconds(5);

/// Starts a node: this program again, with the one test that is a node if it is told so.
fn program() -> Command {
    let mut command = Command::new(env::current_exe().expect("a path"));
    // More than one thread: with one, the name of the test is printed before the first event, on its line.
    command.args([
        "--exact",
        "leaders_that_are_told_to_stop_lose_nothing",
        "--nocapture",
        "--test-threads=2",
    ]);
    command
}

/// The tests of this file share two processors with thirty processes: one test at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

fn job(name: &str, period_ms: u64, takes_ms: u64) -> JobPlan {
    JobPlan { name: name.to_owned(), key: name.to_owned(), period_ms, takes_ms, any_node: false }
}

fn millis(millis: i64) -> TimeDelta {
    TimeDelta::milliseconds(millis)
}

/// Nodes of a scope with tables of its own.
struct Stage {
    plan: Plan,
    client: Client,
    cluster: Cluster,
    leader: usize,
    term: Option<Term>,
}

impl Stage {
    /// Starts nodes and waits until one leads.
    async fn new(schema: &str, nodes: usize, jobs: Vec<JobPlan>) -> Self {
        let url = server().url();
        let lease = LEASE.to_std().expect("a lease");
        let plan = Plan {
            node: 0,
            scope: None,
            bodies_url: url.clone(),
            url,
            schema: schema.to_owned(),
            lease,
            jobs,
        };
        let client = connect().await;
        books::prepare(&client, &plan.backend().ddl(), schema).await.expect("the tables are made");
        books::prepare_bodies(&client, schema).await.expect("a table is made");
        let cluster = Cluster::new();
        let mut stage = Self { plan, client, cluster, leader: 0, term: None };
        for _ in 0..nodes {
            stage.start().await;
        }
        let (leader, _) = stage.wait_for("a run", |_, said| said.event == "run_started").await;
        stage.leader = leader;
        stage
    }

    /// One node at a time, whichever story it is of: thirty processes that start at once on two processors
    /// would not be answered by the server within the deadline of a session.
    async fn start(&mut self) -> usize {
        static STARTING: Mutex<()> = Mutex::const_new(());
        let _alone = STARTING.lock().await;
        self.cluster.start(program(), self.plan.clone()).await.expect("a node starts")
    }

    async fn wait_for(&mut self, what: &str, wanted: impl Fn(usize, &Said) -> bool) -> (usize, Said) {
        self.cluster.wait_for(what, wanted).await.expect("it happens")
    }

    /// The same, but for what may have been heard already.
    async fn hear(&mut self, what: &str, wanted: impl Fn(usize, &Said) -> bool) -> (usize, Said) {
        match self.cluster.heard.iter().find(|(by, said)| wanted(*by, said)) {
            Some(heard) => heard.clone(),
            None => self.wait_for(what, wanted).await,
        }
    }

    /// Sends the leader a signal, and waits until another node leads. Answers the former leader and the gap.
    async fn depose(&mut self, signal: Signal) -> (usize, DateTime<Utc>, TimeDelta) {
        let from = self.leader;
        let at = self.cluster.signal(from, signal).expect("it runs");
        let gained = |by, said: &Said| by != from && said.event == "leadership_gained";
        let (to, gained) = self.wait_for("another leader", gained).await;
        assert!(gained.term > self.term, "{:?} after {:?}", gained.term, self.term);
        (self.leader, self.term) = (to, gained.term);
        (from, at, gained.at - at)
    }

    /// The number that a query answers; 0 without a row.
    async fn number(&self, query: &str) -> i64 {
        let schema = &self.plan.schema;
        let row = self.client.query_opt(&query.replace("{}", schema), &[]).await.expect("an answer");
        row.map_or(0, |row| row.get(0))
    }

    /// Waits until a query answers a number other than 0, and answers it.
    async fn until(&mut self, what: &str, query: &str) -> i64 {
        let found = async {
            loop {
                let number = self.number(query).await;
                if number != 0 {
                    return number;
                }
                self.cluster.listen_for(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// Says that a node that woke up started nothing of its former term but what it had claimed before it was
    /// succeeded and still holds: the store records the end of such a run as it is.
    async fn assert_nothing_old_was_started(&self, node: usize, awake: DateTime<Utc>) {
        let started = self.cluster.heard.iter().filter(|(by, said)| *by == node && said.at > awake);
        for run in
            started.filter(|(_, said)| said.event == "run_started").filter_map(|(_, said)| said.run.as_ref())
        {
            let old = format!(
                "SELECT count(*) FROM {{}}.all_runs r, {{}}.leader l
                 WHERE r.run = '{run}' AND r.term < l.epoch
                 AND (r.claimed_at > l.granted_at OR r.outcome IS DISTINCT FROM 'succeeded')"
            );
            assert_eq!(self.number(&old).await, 0, "run {run}");
        }
    }

    /// Waits until every tick up to now is decided, stops all nodes, and opens the books.
    async fn close(mut self) -> Audit {
        let until = Utc::now();
        let longest = self.plan.jobs.iter().map(|job| job.period_ms).max().expect("a job");
        // A cursor this late can stand only behind the last tick before.
        let behind = until - millis(i64::try_from(longest).expect("a period"));
        let decided = async {
            while !books::decided(&self.client, &self.plan.schema, behind).await.expect("an answer") {
                self.cluster.listen_for(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), decided).await.expect("every tick is decided");
        self.cluster.stop().await.expect("all nodes stop");
        let Self { plan, client, cluster, .. } = &self;
        let known = books::read(client, &plan.schema).await.expect("the books");
        let bodies = books::bodies(client, &plan.schema).await.expect("rows");
        audit::audit(&plan.jobs, &known, &bodies, &cluster.heard, behind)
    }
}

/// Says what is in the books, and that nothing is wrong with them.
fn assert_kept(story: &str, audit: &Audit) {
    let Audit { due, started, skipped, unsaid, lost, .. } = audit;
    println!("{story}: due {due}, started {started}, skipped {skipped:?}, unsaid {unsaid}, lost {lost}");
    assert_eq!(audit.broken, Vec::<String>::new(), "{story}");
    assert_eq!((audit.doubled, &audit.lost_unsaid), (0, &Vec::new()), "{story}");
    let skipped: usize = audit.skipped.values().sum();
    // A run that is lost may have left a row or not.
    let started = audit.due - skipped - audit.unsaid;
    assert!((started - audit.lost..=started).contains(&audit.started), "{story}: {audit:?}");
}

/// Twenty jobs: five periods; some share a key, some take longer than their period.
fn twenty_jobs() -> Vec<JobPlan> {
    let mut jobs: Vec<_> = [100, 200, 250, 500, 1_000]
        .into_iter()
        .flat_map(|period| (0..4).map(move |nth| job(&format!("{period} ms {nth}"), period, 5)))
        .collect();
    for (nth, job) in jobs.iter_mut().enumerate() {
        match nth % 4 {
            1 => job.key = "shared".to_owned(),
            2 => job.takes_ms = job.period_ms * 5 / 2,
            3 => job.takes_ms = job.period_ms / 2,
            _ => {}
        }
    }
    jobs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_leaders_are_killed_and_no_tick_is_doubled_or_lost_silently() {
    const HALF: Duration = Duration::from_secs(10);

    async fn story(nth: u32) -> (String, Audit, TimeDelta) {
        let mut stage = Stage::new(&format!("killed_{nth}"), 3, twenty_jobs()).await;
        // Each at another point between two ticks.
        stage.cluster.listen_for(HALF + Duration::from_millis(13) * nth).await;
        let (killed, _, gap) = stage.depose(Signal::KILL).await;
        assert!(!stage.cluster.end(killed).await.expect("it ends").success());
        stage.cluster.listen_for(HALF).await;
        // Those of the killed leader only.
        let lost_since =
            "SELECT count(*) FROM {}.runs WHERE outcome = 'lost' AND term = (SELECT max(term) FROM {}.runs)";
        assert_eq!(stage.number(lost_since).await, 0);
        assert!(stage.number("SELECT count(DISTINCT term) FROM {}.runs").await > 1);
        (format!("killed {nth}"), stage.close().await, gap)
    }

    let _alone = alone().await;
    let stories = join_all((0..10).map(|nth| tokio::spawn(story(nth)))).await;

    for told in stories {
        let (story, audit, gap) = told.expect("it was told to the end");
        println!("{story}: nobody led for {} ms", gap.num_milliseconds());
        assert_kept(&story, &audit);
        assert!(audit.skipped["overlap"] > 0, "no run took longer than its period");
        assert!(audit.due > 20 * 80, "{story}: it was over too soon");
    }
}

#[test]
fn leaders_that_are_told_to_stop_lose_nothing() {
    if let Ok(plan) = env::var(PLAN) {
        return node::main(&plan, |_| {}).expect("a node");
    }
    block_on(async {
        let _alone = alone().await;
        // Periods are longer than any gap, so that no tick is ever the older one of two that are due, and
        // they drift apart, so that claims and runs of every age are under way when a leader is told to stop.
        let mut jobs: Vec<_> =
            (0..19).map(|nth| job(&format!("{nth}"), 3_000 + nth * 50, 10 + nth * 50)).collect();
        jobs.push(job("slow", 3_000, 4_000));
        let mut stage = Stage::new("stopped", 3, jobs).await;

        for _ in 0..3 {
            let slow = |event: &'static str| {
                move |said: &Said| said.event == event && said.job.as_deref() == Some("slow")
            };
            // The node that joined last has time to open its second connection and to wait for the leadership
            // on it.
            stage.cluster.listen_for(Duration::from_secs(1)).await;
            let leader = stage.leader;
            let started = slow("run_started");
            let (_, run) = stage.wait_for("a slow run", |by, said| by == leader && started(said)).await;
            let (stopped, at, gap) = stage.depose(Signal::TERM).await;
            println!("nobody led for {} ms", gap.num_milliseconds());
            assert!(stage.cluster.end(stopped).await.expect("it ends").success());
            let ended = slow("run_succeeded");
            let (_, end) = stage.hear("its end", |_, said| ended(said) && said.run == run.run).await;
            assert!(end.at > at + gap, "the next leader waited for the runs of the former one");
            stage.start().await;
        }
        stage.cluster.listen_for(Duration::from_secs(1)).await;

        let audit = stage.close().await;
        assert_kept("stopped", &audit);
        assert_eq!((audit.lost, audit.unsaid), (0, 0));
        assert_eq!(audit.skipped.keys().filter(|reason| *reason != "overlap").count(), 0, "{audit:?}");
    });
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_while_it_renews_its_term_gives_it_up() {
    let _alone = alone().await;
    let mut stage = Stage::new("renewing", 2, vec![job("slow", 1_000, 5_000)]).await;
    // The next renewal waits for a row that somebody else has locked.
    let somebody = connect().await;
    somebody.batch_execute("BEGIN; SELECT FROM renewing.leader FOR UPDATE").await.expect("an answer");
    let renews = "SELECT count(*) FROM pg_stat_activity
                  WHERE application_name LIKE '% leadership %' AND wait_event_type = 'Lock' AND query LIKE '%UPDATE leader%'";
    stage.until("a renewal", renews).await;

    let leader = stage.leader;
    stage.cluster.signal(leader, Signal::TERM).expect("it runs");
    stage.wait_for("it stops", |by, said| by == leader && said.event == "leadership_lost").await;
    let free_at = Utc::now();
    somebody.batch_execute("COMMIT").await.expect("an answer");

    // Its session lives on with the run that drains: the end of the session does not end the term.
    let gained = |by, said: &Said| by != leader && said.event == "leadership_gained";
    let (_, gained) = stage.wait_for("another leader", gained).await;
    assert!(gained.at - free_at < LEASE / 2, "{}", gained.at - free_at);
    assert_kept("renewing", &stage.close().await);
}

#[tokio::test]
async fn a_frozen_leader_is_succeeded_and_starts_nothing_when_it_wakes_up() {
    let _alone = alone().await;
    let jobs = vec![job("often", 100, 5), job("long", 300, 700), job("rare", 1_000, 5)];
    let mut stage = Stage::new("frozen", 3, jobs).await;
    stage.cluster.listen_for(Duration::from_secs(1)).await;

    let (frozen, _, gap) = stage.depose(Signal::STOP).await;
    println!("nobody led for {} ms", gap.num_milliseconds());
    assert!(gap < LEASE + TimeDelta::seconds(1), "{gap}");
    let next = stage.leader;
    stage.wait_for("a run of the next leader", |by, said| by == next && said.event == "run_started").await;
    let awake = stage.cluster.signal(frozen, Signal::CONT).expect("it runs");
    stage.wait_for("that it leads no more", |by, said| by == frozen && said.event == "leadership_lost").await;
    stage.cluster.listen_for(Duration::from_secs(1)).await;
    stage.assert_nothing_old_was_started(frozen, awake).await;

    // It is a follower like any other: alone, it leads.
    for node in (0..3).filter(|node| *node != frozen) {
        stage.cluster.signal(node, Signal::TERM).expect("it runs");
        assert!(stage.cluster.end(node).await.expect("it ends").success());
    }
    stage.wait_for("a run of the frozen node", |by, said| by == frozen && said.event == "run_started").await;
    assert_kept("frozen", &stage.close().await);
}

#[tokio::test]
async fn a_claim_that_is_answered_while_the_leader_is_frozen_is_not_run() {
    let _alone = alone().await;
    let mut stage = Stage::new("answered", 2, vec![job("job", 500, 5)]).await;
    let schema = stage.plan.schema.clone();
    // The next claim takes two seconds on the server: time to freeze whoever waits for it.
    let slow = format!(
        "
CREATE FUNCTION {schema}.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER UPDATE ON {schema}.names FOR EACH ROW
WHEN (OLD.run IS NULL AND NEW.run IS NOT NULL) EXECUTE FUNCTION {schema}.wait();"
    );
    stage.client.batch_execute(&slow).await.expect("an answer");
    stage.until("a claim", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await;
    let claimed = "SELECT count(*) FROM {}.all_runs";
    let before = stage.number(claimed).await;

    let frozen = stage.leader;
    stage.cluster.signal(frozen, Signal::STOP).expect("it runs");
    let granted = format!("SELECT count(*) FROM {{}}.all_runs HAVING count(*) > {before}");
    stage.until("the claim is granted", &granted).await;
    stage.client.batch_execute(&format!("DROP TRIGGER slow ON {schema}.names")).await.expect("an answer");
    stage.wait_for("another leader", |by, said| by != frozen && said.event == "leadership_gained").await;
    stage.wait_for("the run is lost", |_, said| said.event == "run_lost").await;
    let awake = stage.cluster.signal(frozen, Signal::CONT).expect("it runs");
    stage.wait_for("that it leads no more", |by, said| by == frozen && said.event == "leadership_lost").await;
    stage.cluster.listen_for(Duration::from_secs(1)).await;
    stage.assert_nothing_old_was_started(frozen, awake).await;

    let audit = stage.close().await;
    assert_kept("answered", &audit);
    assert_eq!(
        (audit.lost, audit.due - audit.started - audit.unsaid - audit.skipped.values().sum::<usize>()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_leader_whose_session_is_ended_cancels_its_run_and_comes_back() {
    let _alone = alone().await;
    let mut stage = Stage::new("ended", 2, vec![job("often", 100, 5), job("long", 1_000, 3_000)]).await;
    let long = |event: &'static str| {
        move |_, said: &Said| said.event == event && said.job.as_deref() == Some("long")
    };
    let (leader, started) = stage.hear("the long run", long("run_started")).await;

    let ended_at = Utc::now();
    let end = "
SELECT count(pg_terminate_backend(a.pid)) FROM {}.leader l JOIN pg_stat_activity a
ON a.application_name LIKE 'callsheet ' || left(replace(l.node::text, '-', ''), 12) || ' session %'";
    assert_eq!(stage.number(end).await, 1);

    for event in ["lock_lost", "run_cancelled"] {
        let (by, said) = stage.hear(event, long(event)).await;
        assert_eq!((by, &said.run), (leader, &started.run));
        assert!(said.at - ended_at < TimeDelta::seconds(1), "{event} after {}", said.at - ended_at);
    }
    stage.hear("that it leads no more", |by, said| by == leader && said.event == "leadership_lost").await;
    let (_, lost) = stage.hear("the run is lost", long("run_lost")).await;
    assert_eq!(lost.run, started.run, "its completion was not refused");
    // It has a session again: alone, it leads.
    let other = 1 - leader;
    stage.cluster.signal(other, Signal::TERM).expect("it runs");
    assert!(stage.cluster.end(other).await.expect("it ends").success());
    stage.wait_for("a run", |by, said| by == leader && said.event == "run_started").await;

    let audit = stage.close().await;
    assert_kept("ended", &audit);
}

#[tokio::test]
async fn the_example_keeps_every_promise_and_leaves_nothing_behind() {
    let _alone = alone().await;
    let directory = directory();
    let mut story = Process::start(example("failover").env("TMPDIR", directory.path()));

    let (code, lines) = story.end();

    let told = lines.join("\n");
    assert_eq!(code, Some(0), "{told}");
    for line in
        ["SIGTERM to node", "SIGKILL to node", "SIGSTOP to node", "doubled 0", "every promise was kept"]
    {
        assert!(told.contains(line), "no {line:?} in\n{told}");
    }
    assert_nothing_is_left(directory.path());
}

#[tokio::test]
async fn an_interrupted_example_leaves_nothing_behind() {
    let _alone = alone().await;
    let directory = directory();
    let mut story = Process::start(example("failover").env("TMPDIR", directory.path()));
    story.wait_for("SIGTERM to node");
    assert!(!left_in(directory.path()).is_empty());

    story.signal(Signal::INT);
    let (code, _) = story.end();

    assert_eq!(code, Some(1));
    assert_nothing_is_left(directory.path());
}

/// A directory for temporary files in which the server's user can make and remove its own.
fn directory() -> TempDir {
    let directory = TempDir::with_prefix("callsheet-example-").expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("it is one's own");
    directory
}

fn assert_nothing_is_left(directory: &Path) {
    assert_eq!(left_in(directory), Vec::<String>::new());
    let files = fs::read_dir(directory).expect("a directory").map(|file| file.expect("a file").path());
    assert_eq!(files.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

/// The processes whose environment names a directory.
fn left_in(directory: &Path) -> Vec<String> {
    let directory = directory.as_os_str().as_bytes();
    let processes = fs::read_dir("/proc").expect("a proc file system").flatten();
    let named = processes.filter(|process| {
        // An error: no process, somebody else's, or one that has just ended.
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.windows(directory.len()).any(|part| part == directory)
    });
    named.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}
