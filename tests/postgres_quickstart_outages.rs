//! What an operator sees of the example `quickstart` when its database goes wrong under it, and when it is
//! well again: `/livez`, `/readyz` and `/healthz`, the log on standard error, and `/metrics`.
//!
//! `cargo test` builds the example; `cargo test --test quickstart_outages` runs it as it was built last.

#[path = "chaos/clock.rs"]
mod clock;
#[path = "common/example.rs"]
mod example;
#[path = "common/postgres.rs"]
mod harness;
mod process;

use std::{
    io::{self, BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clock::WallClock;
use example::example;
use harness::{PASSWORD, Server, Stop, USER, server};
use process::{DEADLINE, Process};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_postgres::NoTls;

/// The most lines that a node logs in a minute whatever goes wrong, besides those of its start and its end.
const LINES_A_MINUTE: usize = 30;

/// A database of its own for one case, which belongs to the role of its nodes.
struct Database<'a> {
    server: &'a Server,
    name: &'static str,
}

impl<'a> Database<'a> {
    fn new(server: &'a Server, name: &'static str) -> Self {
        Self::made(server, name, "")
    }

    fn made(server: &'a Server, name: &'static str, options: &str) -> Self {
        run(&server.url(), &format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"));
        let database = Self { server, name };
        database.make(options);
        database
    }

    fn make(&self, options: &str) {
        let Self { server, name } = self;
        run(&server.url(), &format!("CREATE DATABASE {name} OWNER {name} {options}"));
    }

    fn url_of(&self, role: &str) -> String {
        format!("postgres://{role}:{PASSWORD}@127.0.0.1:{}/{}", self.server.port(), self.name)
    }

    /// As its nodes connect.
    fn url(&self) -> String {
        self.url_of(self.name)
    }

    /// Runs statements as the superuser. `$ROLE` is the role of the nodes.
    fn run(&self, statements: &str) {
        let url = self.url_of(USER);
        run(&url, &statements.replace("$ROLE", self.name));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(url: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    // In the way of a superuser as of everybody else.
    client.batch_execute("SET default_transaction_read_only = off").await.expect("it may");
    for statement in statements.split(";\n") {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// A node, as a process.
struct Node {
    process: Process,
    address: String,
    agent: ureq::Agent,
    log: Arc<Mutex<Vec<String>>>,
    started: Instant,
}

impl Node {
    fn start(url: &str) -> Self {
        Self::of(quickstart(url))
    }

    fn of(mut command: Command) -> Self {
        let mut process = Process::start(&mut command);
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (errors, kept) = (process.child.stderr.take().expect("a pipe"), log.clone());
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                kept.lock().expect("nobody panicked").push(line);
            }
        });
        let listening = process.wait_for("listening on ");
        let address = listening.trim_start_matches("listening on ").to_owned();
        // No proxy: the environment of whoever runs the tests must not matter.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(DEADLINE)).build().into();
        let node = Self { process, address, agent, log, started: Instant::now() };
        node.until("/healthz", 200, "ok");
        node
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().expect("nobody panicked").clone()
    }

    /// The lines of a level.
    fn at(&self, level: &str) -> Vec<String> {
        self.log().into_iter().filter(|line| line.contains(&format!(" {level} "))).collect()
    }

    fn get(&self, path: &str) -> (u16, String) {
        let response = self.agent.get(format!("{}{path}", self.address)).call();
        let mut response = response.expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("a body"))
    }

    fn post(&self, job: &Value) -> (u16, String) {
        let mut response =
            self.agent.post(format!("{}/jobs", self.address)).send(job.to_string()).expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("a body"))
    }

    /// Waits until a path answers so.
    fn until(&self, path: &str, status: u16, says: &str) {
        let until = Instant::now() + DEADLINE;
        loop {
            let (answered, text) = self.get(path);
            if answered == status && text.contains(says) {
                return;
            }
            let log = self.log().join("\n");
            assert!(Instant::now() < until, "{path} is {answered}, not {status} {says:?}: {text}\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the log says so at WARN.
    fn until_warned(&self, of: &str) {
        let until = Instant::now() + DEADLINE;
        while !self.at("WARN").iter().any(|line| line.contains(of)) {
            assert!(Instant::now() < until, "no warning of {of:?} in\n{}", self.log().join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How often operations on the store have failed.
    fn errors(&self) -> u64 {
        let (_, metrics) = self.get("/metrics");
        let values = metrics.lines().filter(|line| line.starts_with("callsheet_coordination_errors_total{"));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits for a run that starts after this was called.
    fn runs(&mut self) {
        self.process.catch_up();
        self.process.wait_for("RunStarted steady");
        self.process.wait_for("RunSucceeded steady");
    }

    /// Tells it to stop, and judges its log.
    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let (code, last) = self.process.end();
        assert_eq!(code, Some(0), "{last:?}");
        let (log, errors) = (self.log(), self.at("ERROR"));
        assert!(errors.is_empty(), "{errors:#?}");
        let minutes = 1 + usize::try_from(self.started.elapsed().as_secs() / 60).expect("a few");
        // What it says of its own jobs, of which one is moody, is bounded elsewhere.
        let loud = log
            .iter()
            .filter(|line| line.contains(" callsheet: ") && !line.contains("RunFailed moody"))
            .count();
        assert!(loud <= LINES_A_MINUTE * minutes, "{loud} lines in {minutes} min:\n{}", log.join("\n"));
        assert!(!log.join("\n").contains(PASSWORD), "{log:#?}");
    }
}

fn quickstart(url: &str) -> Command {
    let mut command = example("quickstart");
    command.env("CALLSHEET_BIND", "127.0.0.1:0").env("CALLSHEET_DATABASE_URL", url).stderr(Stdio::piped());
    command
}

/// A fault of the database under a node: what is done, what it looks like, and what mends it.
fn outage(node: &mut Node, break_it: impl FnOnce(), looks_like: &str, mend_it: impl FnOnce()) {
    node.runs();
    let errors = node.errors();

    break_it();
    node.until_warned(looks_like);
    node.until("/healthz", 503, looks_like);
    assert_eq!(node.get("/livez").0, 200, "nothing is won by a restart");
    let report: Value = serde_json::from_str(&node.get("/health").1).expect("JSON");
    assert_eq!((&report["healthy"], &report["live"]), (&json!(false), &json!(true)), "{report}");
    assert!(node.errors() > errors, "it is counted");

    mend_it();
    node.until("/healthz", 200, "ok");
    assert_eq!(node.get("/readyz").0, 200);
    node.runs();
}

#[test]
fn a_calm_life_has_no_warnings_and_a_line_for_what_matters() {
    let database = Database::new(server(), "calm");
    let mut node = Node::start(&database.url());

    node.process.wait_for("RunFailed moody");
    node.until_warned("RunFailed moody");
    node.runs();

    let warnings: Vec<_> =
        node.at("WARN").into_iter().filter(|line| !line.contains("RunFailed moody")).collect();
    assert_eq!(warnings, [""; 0]);
    assert!(node.at("INFO").iter().any(|line| line.contains("LeadershipGained")), "{:#?}", node.log());
    node.stop();
}

#[test]
fn a_job_whose_time_has_passed_is_refused_with_both_times() {
    let database = Database::new(server(), "past");
    let node = Node::start(&database.url());

    let (status, text) = node.post(&json!({ "name": "late", "cron": "0 0 0 1 1 * 2020" }));

    assert_eq!(status, 400, "{text}");
    for part in ["\"late\"", "its last fire time 2020-01-01T00:00:00Z has passed", "since it is 20"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    node.stop();
}

#[test]
fn a_right_that_is_taken_away_is_seen_and_its_return_as_well() {
    let database = Database::new(server(), "unprivileged");
    let mut node = Node::start(&database.url());

    outage(
        &mut node,
        || database.run("REVOKE UPDATE ON callsheet.leader FROM $ROLE"),
        "permission denied",
        || database.run("GRANT UPDATE ON callsheet.leader TO $ROLE"),
    );

    node.stop();
}

#[test]
fn a_server_that_becomes_read_only_is_seen_and_its_return_as_well() {
    let server = Server::start();
    let database = Database::new(&server, "frozen");
    let mut node = Node::start(&database.url());
    let set = |value: &str| {
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        database.run(&format!("{set};\nSELECT pg_reload_conf()"));
    };

    outage(&mut node, || set("on"), "read-only", || set("off"));

    node.stop();
}

#[test]
fn a_disk_that_is_full_is_seen_and_its_room_as_well() {
    let database = Database::new(server(), "no_space");
    let mut node = Node::start(&database.url());
    let full = "CREATE FUNCTION callsheet.no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = '53100'; END $$;
                CREATE TRIGGER no_space BEFORE UPDATE ON callsheet.leader FOR EACH ROW EXECUTE FUNCTION callsheet.no_space()";

    outage(
        &mut node,
        || database.run(full),
        "no space left on device",
        || database.run("DROP TRIGGER no_space ON callsheet.leader"),
    );

    node.stop();
}

#[test]
fn rows_that_are_hidden_are_seen_to_be_and_their_return_as_well() {
    let database = Database::new(server(), "hidden");
    let mut node = Node::start(&database.url());

    outage(
        &mut node,
        || {
            database.run(
                "ALTER TABLE callsheet.leader ENABLE ROW LEVEL SECURITY;
                 ALTER TABLE callsheet.leader FORCE ROW LEVEL SECURITY",
            );
        },
        "row",
        || database.run("ALTER TABLE callsheet.leader DISABLE ROW LEVEL SECURITY"),
    );

    node.stop();
}

#[test]
fn a_server_whose_clock_is_ahead_is_seen_and_its_return_as_well() {
    let database = Database::new(server(), "ahead");
    let clock = WallClock::new();
    let mut node = Node::of(clock.of(quickstart(&database.url())));

    outage(&mut node, || clock.set("-600"), "synchronise the clocks", || clock.set("+0"));

    node.stop();
}

#[test]
fn a_row_that_somebody_holds_is_seen_and_its_release_as_well() {
    let database = Database::new(server(), "held");
    let mut node = Node::start(&database.url());
    let url = database.url_of(USER);
    let release = Arc::new(AtomicBool::new(false));
    let holder = {
        let release = release.clone();
        move || thread::spawn(move || hold_leader_row(&url, &release))
    };
    let mut holding = None;

    outage(&mut node, || holding = Some(holder()), "lock", || release.store(true, Ordering::Relaxed));

    holding.expect("it was started").join().expect("it ends");
    node.stop();
}

#[tokio::main(flavor = "current_thread")]
async fn hold_leader_row(url: &str, release: &AtomicBool) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT FROM callsheet.leader FOR UPDATE").await.expect("it is held");
    while !release.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.batch_execute("ROLLBACK").await.expect("it is released");
}

#[test]
fn tables_that_are_dropped_are_made_again() {
    let database = Database::new(server(), "dropped");
    let mut node = Node::start(&database.url());
    node.runs();

    database.run("DROP SCHEMA callsheet CASCADE");
    node.until_warned("callsheet");
    assert_eq!(node.get("/livez").0, 200);
    node.runs();

    node.until("/healthz", 200, "ok");
    node.stop();
}

#[test]
fn a_database_that_is_made_anew_is_used_again() {
    let database = Database::new(server(), "anew");
    let mut node = Node::start(&database.url());
    node.runs();

    run(&database.server.url(), "DROP DATABASE anew WITH (FORCE)");
    database.make("");
    node.until_warned("the session is lost");
    node.runs();

    node.until("/healthz", 200, "ok");
    node.stop();
}

#[test]
fn a_server_that_is_away_leaves_the_node_alive_and_is_found_again() {
    let server = Server::start();
    let database = Database::new(&server, "away");
    let mut node = Node::start(&database.url());

    for how in [Stop::Fast, Stop::Immediate] {
        outage(&mut node, || server.stop(how), "session", || server.start_again());
    }
    node.until_warned("the session is lost: ");

    node.stop();
}

#[test]
fn a_database_that_cannot_store_every_text_is_refused_at_the_start() {
    let database =
        Database::made(server(), "latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    let mut process = Process::start(&mut quickstart(&database.url()));

    let (code, _) = process.end();
    let errors = io::read_to_string(process.child.stderr.take().expect("a pipe")).expect("text");

    assert_eq!(code, Some(1), "{errors}");
    let last = errors.lines().last().expect("it says why");
    for part in ["quickstart did not run", "LATIN1", "UTF8"] {
        assert!(last.contains(part), "{part:?} is not in {errors}");
    }
}
