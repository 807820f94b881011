//! Who is to lead, and who is not, on a real PostgreSQL server.

#![allow(clippy::print_stdout, reason = "a node that is a process says what happens")]

#[path = "common/postgres.rs"]
mod harness;
mod process;

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Context, Handler};
use callsheet::{
    Builder, Callsheet, Event, EventFilter, EventKind, EventName, EventStream, Job, RunError, StepDownReason,
    backend::Postgres, schedule::every,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use self::{
    harness::{scope, server},
    process::Process,
};

/// What does not happen within this time never does.
const DEADLINE: Duration = Duration::from_secs(60);

fn node(scope: &str) -> Builder {
    let backend = Postgres::new(scope, server().url()).lease(Duration::from_secs(2));
    let tick = Job::new("tick", every(Duration::from_millis(100))).run(async |_| {});
    Callsheet::builder().backend(backend).job(tick)
}

/// The changes of leadership on a node from now on.
fn changes(node: &Callsheet) -> EventStream {
    node.events(EventFilter::new().kinds([EventName::LeadershipGained, EventName::LeadershipLost]))
}

async fn gained(changes: &mut EventStream) {
    let next = timeout(DEADLINE, changes.next()).await.expect("in time").expect("it runs");
    assert!(matches!(next.kind, EventKind::LeadershipGained { .. }), "{next}");
}

async fn lost(changes: &mut EventStream, reason: StepDownReason) {
    let next = timeout(DEADLINE, changes.next()).await.expect("in time").expect("it runs");
    assert!(matches!(next.kind, EventKind::LeadershipLost { why, .. } if why == reason), "{next}");
}

/// Waits until a node is known to lead.
async fn leads(node: &Callsheet) {
    let known = timeout(DEADLINE, async {
        while node.health().await.expect("it runs").term.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    known.await.expect("it leads");
}

#[tokio::test]
async fn a_node_that_prefers_not_to_lead_yields_and_leads_alone() {
    let scope = scope("prefers");
    let reluctant = node(&scope).prefer_not_to_lead().start().await.expect("it starts");
    leads(&reluctant).await;
    let mut of_reluctant = changes(&reluctant);

    let willing = node(&scope).start().await.expect("it starts");
    lost(&mut of_reluctant, StepDownReason::Yielded).await;
    leads(&willing).await;

    willing.shutdown(Duration::ZERO).await;
    gained(&mut of_reluctant).await;
    reluctant.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn the_lead_goes_over_when_a_node_resigns_or_may_not_lead() {
    let scope = scope("resigns");
    let may = Arc::new(AtomicBool::new(true));
    let asked = may.clone();
    let check = move || {
        let may = asked.load(Ordering::Relaxed);
        async move { may }
    };
    let first = node(&scope).start().await.expect("it starts");
    leads(&first).await;
    let second = node(&scope).may_lead(check).start().await.expect("it starts");
    let (mut of_first, mut of_second) = (changes(&first), changes(&second));
    let mut stands_again = first.events(EventFilter::new().kinds([EventName::CandidacyRestored]));

    assert!(first.resign().await.expect("it runs"));
    assert_eq!(first.health().await.expect("it runs").term, None, "when it answers it does not lead");
    lost(&mut of_first, StepDownReason::Requested).await;
    gained(&mut of_second).await;
    let stands = timeout(DEADLINE, stands_again.next()).await.expect("in time");
    assert!(stands.is_some(), "it has seen that another node leads");

    may.store(false, Ordering::Relaxed);
    lost(&mut of_second, StepDownReason::Refused).await;
    gained(&mut of_first).await;

    for node in [first, second] {
        node.shutdown(Duration::ZERO).await;
    }
}

/// The variable that makes this program a node. Its value is a [`Plan`].
const PLAN: &str = "CALLSHEET_CANDIDACY_NODE";

/// What a node that is a process is told.
#[derive(Serialize, Deserialize)]
struct Plan {
    scope: String,
    url: String,
    prefers_not_to_lead: bool,
    /// While this file is there, the node may not lead.
    veto: PathBuf,
    /// The next body that finds this file removes it, and resigns.
    resign: PathBuf,
}

struct Printer;

impl Actor for Printer {
    type Context = Context<Self>;
}

impl Handler<Event> for Printer {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        println!("{}", event.kind);
    }
}

/// Runs a node until the process is killed.
async fn be_a_node(plan: Plan) {
    let Plan { scope, url, prefers_not_to_lead, veto, resign } = plan;
    let tick = Job::new("tick", every(Duration::from_millis(100))).run(move |_| {
        let resign = resign.clone();
        async move {
            match fs::remove_file(resign) {
                Ok(()) => Err(RunError::resign("the disk of this node is broken")),
                Err(_) => Ok(()),
            }
        }
    });
    let told = [
        EventName::LeadershipGained,
        EventName::LeadershipLost,
        EventName::CandidacyRestored,
        EventName::RunStarted,
    ];
    let builder = Callsheet::builder()
        .backend(Postgres::new(scope, url).lease(Duration::from_secs(2)))
        .job(tick)
        .may_lead(move || {
            let may = !veto.exists();
            async move { may }
        })
        .listen_to(EventFilter::new().kinds(told), Printer.start());
    let builder = if prefers_not_to_lead { builder.prefer_not_to_lead() } else { builder };
    let jobs = builder.start().await.expect("it starts");
    println!("ready");
    // Until the process is killed.
    std::future::pending::<()>().await;
    drop(jobs);
}

/// A node that is a process.
struct Node {
    process: Process,
    plan: Plan,
    _files: TempDir,
}

impl Node {
    fn start(scope: &str, test: &str, prefers_not_to_lead: bool) -> Self {
        let files = TempDir::new().expect("a directory");
        let [veto, resign] = ["veto", "resign"].map(|name| files.path().join(name));
        let plan = Plan { scope: scope.to_owned(), url: server().url(), prefers_not_to_lead, veto, resign };
        let mut command = Command::new(env::current_exe().expect("a path"));
        // More than one thread: with one, the name of the test is printed before the first event, on its
        // line.
        command.args(["--exact", test, "--nocapture", "--test-threads=2"]);
        let told = serde_json::to_string(&plan).expect("it can be written");
        let mut process = Process::start(command.env(PLAN, told));
        process.wait_for("ready");
        Self { process, plan, _files: files }
    }

    fn may_lead(&self, may: bool) {
        match may {
            true => fs::remove_file(&self.plan.veto).expect("it is there"),
            false => fs::write(&self.plan.veto, "").expect("a file"),
        }
    }

    /// Waits until it gives the lead up, for a reason.
    fn gives_up(&mut self, reason: StepDownReason) {
        let line = self.process.wait_for("LeadershipLost");
        assert!(line.ends_with(&format!(": {reason}")), "{line}");
    }

    /// Waits until it leads, in a later term than everybody before, and fires its job.
    fn leads(&mut self, term: &mut u64) {
        // It may have been said before it was ready.
        let gained = |line: &str| line.strip_prefix("LeadershipGained term ")?.parse::<u64>().ok();
        let known = self.process.seen.iter().filter_map(|line| gained(line)).next_back();
        let said = known.filter(|known| known > term).unwrap_or_else(|| {
            let line = self.process.wait_for("LeadershipGained");
            gained(&line).unwrap_or_else(|| panic!("{line}"))
        });
        assert!(said > *term, "term {said} after {term}");
        *term = said;
        self.process.wait_for("RunStarted tick");
    }

    fn never_led(&mut self) -> bool {
        self.process.catch_up();
        !self.process.seen.iter().any(|line| line.contains("LeadershipGained"))
    }
}

#[test]
fn the_lead_goes_over_between_processes_that_are_not_to_have_it() {
    if let Ok(plan) = env::var(PLAN) {
        let plan = serde_json::from_str(&plan).expect("a plan");
        return actix::System::new().block_on(be_a_node(plan));
    }
    let (scope, test) = (scope("processes"), "the_lead_goes_over_between_processes_that_are_not_to_have_it");
    let start = |prefers_not| Node::start(&scope, test, prefers_not);
    let mut term = 0;
    let mut first = start(false);
    first.leads(&mut term);
    let (mut second, mut reluctant) = (start(false), start(true));

    first.may_lead(false);
    first.gives_up(StepDownReason::Refused);
    second.leads(&mut term);
    first.may_lead(true);
    first.process.wait_for("CandidacyRestored");

    fs::write(&second.plan.resign, "").expect("a file");
    second.gives_up(StepDownReason::Requested);
    first.leads(&mut term);
    second.process.wait_for("CandidacyRestored");

    first.process.signal(Signal::KILL);
    second.leads(&mut term);
    assert!(reluctant.never_led(), "another one stood whenever there was no leader");

    second.process.signal(Signal::KILL);
    reluctant.leads(&mut term);
    let mut third = start(false);
    reluctant.gives_up(StepDownReason::Yielded);
    third.leads(&mut term);
}

/// The process that waits for the lead, once it has waited for longer than the role lets a statement last.
async fn waits(admin: &Client, scope: &str) -> i32 {
    let find = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '% leadership % ' || $1
                AND wait_event = 'advisory' AND clock_timestamp() - query_start > interval '600 ms'";
    let found = async {
        loop {
            if let Some(row) = admin.query_opt(find, &[&scope]).await.expect("an answer") {
                return row.get(0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, found).await.expect("a follower waits")
}

/// A statement that the server cuts short is begun again by a follower only after a pause, on another connection.
#[tokio::test]
async fn who_waits_for_the_lead_gets_it_whatever_statement_timeout_its_role_has() {
    let (scope, url) =
        (scope("timeout"), format!("postgres://timed:timed@127.0.0.1:{}/postgres", server().port()));
    let (admin, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let role = "CREATE ROLE timed LOGIN PASSWORD 'timed'; GRANT CREATE ON DATABASE postgres TO timed;
                ALTER ROLE timed SET statement_timeout = '300ms'";
    admin.batch_execute(role).await.expect("a role");
    let start = || async {
        let backend = Postgres::new(&scope, &url).schema("timed").lease(Duration::from_secs(5));
        let tick = Job::new("tick", every(Duration::from_millis(100))).run(async |_| {});
        Callsheet::builder().backend(backend).job(tick).start().await.expect("it starts")
    };
    let first = start().await;
    leads(&first).await;
    let second = start().await;
    let unavailable = EventFilter::new().kinds([EventName::LeadershipUnavailable]);
    let mut unavailable = [first.events(unavailable.clone()), second.events(unavailable)];
    let (mut leader, mut follower) = (&first, &second);

    for _ in 0..3 {
        let waits = waits(&admin, &scope).await;
        let (mut of_leader, mut of_follower) = (changes(leader), changes(follower));
        assert!(leader.resign().await.expect("it runs"));
        lost(&mut of_leader, StepDownReason::Requested).await;
        gained(&mut of_follower).await;

        let holds = "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                     WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE '% leadership % ' || $1";
        let holds: Vec<i32> =
            admin.query(holds, &[&scope]).await.expect("an answer").iter().map(|row| row.get(0)).collect();
        assert!(holds.contains(&waits), "it led by another connection: {holds:?}, not {waits}");
        (leader, follower) = (follower, leader);
    }

    for events in &mut unavailable {
        assert!(timeout(Duration::ZERO, events.next()).await.is_err(), "a campaign or a renewal failed");
    }
    second.shutdown(Duration::ZERO).await;
    first.shutdown(Duration::ZERO).await;
}
