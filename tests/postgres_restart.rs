//! The server goes away under its nodes, and comes back on the same port and data: they wait for it without
//! crowding it, and go on where they were.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use callsheet::{FencingToken, HistoryOptions, Problem, backend::Postgres, prelude::*};
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use harness::{PASSWORD, Server, Stop};
use rustix::process::{Pid, Signal, kill_process};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const NODES: usize = 3;
/// What a node waits at least before it tries to connect again, once it has failed so often: the guide says
/// so.
const PAUSES: [Duration; 3] =
    [Duration::from_micros(187_500), Duration::from_millis(375), Duration::from_micros(562_500)];
/// How often each node tries while the server is away.
const TRIES: usize = 6;

/// The job of a run, its fire time and its token.
type Ran = (String, DateTime<Utc>, FencingToken);

/// The runs of all nodes.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Vec<Ran>>>);

impl Runs {
    fn add(&self, run: &Run) {
        let tick = run.fire_time().expect("nobody triggers it");
        let token = run.token().expect("it is claimed");
        self.0.lock().expect("nobody panicked").push((run.job().to_string(), tick, token));
    }

    /// Each job's tokens, in the order of its runs. No tick ran twice.
    fn tokens(&self) -> HashMap<String, Vec<FencingToken>> {
        let mut ticks = HashSet::new();
        let mut tokens = HashMap::<_, Vec<_>>::new();
        for (job, tick, token) in self.0.lock().expect("nobody panicked").iter() {
            assert!(ticks.insert((job.clone(), *tick)), "{job} ran twice for {tick}");
            tokens.entry(job.clone()).or_default().push(*token);
        }
        tokens
    }

    /// Waits until every job has run so often after it had run as often as `before` says.
    async fn more(&self, before: &HashMap<String, Vec<FencingToken>>, count: usize) {
        let until = Instant::now() + DEADLINE;
        loop {
            let tokens = self.tokens();
            let ran = |job: &str| tokens.get(job).map_or(0, Vec::len);
            let had = |job: &str| before.get(job).map_or(0, Vec::len);
            if jobs().iter().all(|job| ran(job) >= had(job) + count) {
                return;
            }
            assert!(Instant::now() < until, "had {before:?}, has {tokens:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One job of each node, and one of their leader.
fn jobs() -> Vec<String> {
    (0..NODES).map(|nth| format!("of-node-{nth}")).chain(["led".to_owned()]).collect()
}

/// A node, and when it tried to connect.
struct Node {
    jobs: Callsheet,
    tries: Arc<Mutex<Vec<Instant>>>,
}

impl Node {
    async fn start(server: &Server, nth: usize, runs: &Runs) -> Self {
        let tries = Arc::<Mutex<Vec<_>>>::default();
        let tried = tries.clone();
        let password = move || {
            tried.lock().expect("nobody panicked").push(Instant::now());
            async { Ok::<_, io::Error>(PASSWORD.to_owned()) }
        };
        let often = |name: String| {
            let every = every(Duration::from_millis(100));
            Job::new(name, every).run_with(runs.clone(), async |run, runs| runs.add(&run))
        };
        let jobs = Callsheet::builder()
            .backend(Postgres::new("restart", server.url()).password_from(password))
            .job(often(format!("of-node-{nth}")).fires(Fires::AnyNode))
            .job(often("led".to_owned()))
            // It connects by itself, and asks for the password as well.
            .history(HistoryOptions::off())
            .start()
            .await
            .expect("it starts");
        Self { jobs, tries }
    }

    fn tries(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.tries.lock().expect("nobody panicked")
    }

    async fn is_without_session(&self) -> bool {
        let health = self.jobs.health().await.expect("it answers");
        health.problems.iter().any(|problem| matches!(problem, Problem::NoSession { .. }))
    }

    /// Waits until it knows that it has no session, and has tried to connect as often as it may without a
    /// success.
    async fn tries_in_vain(&self) -> Vec<Instant> {
        let until = Instant::now() + DEADLINE;
        while !self.is_without_session().await {
            assert!(Instant::now() < until, "it has a session");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Its campaigns have ended with its session.
        let from = self.tries().len();
        loop {
            let tries = self.tries()[from..].to_vec();
            if tries.len() >= TRIES {
                return tries;
            }
            assert!(Instant::now() < until, "it tried {} times", tries.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn pauses(tries: &[Instant]) -> Vec<Duration> {
    tries.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Whether a node pauses between its tries for as long as it says, and longer from try to try.
fn is_patient(tries: &[Instant]) -> bool {
    let shortest = PAUSES.into_iter().chain([PAUSES[2]].into_iter().cycle());
    pauses(tries).into_iter().zip(shortest).all(|(pause, shortest)| pause >= shortest)
}

async fn blocking(server: &Arc<Server>, order: impl FnOnce(&Server) + Send + 'static) {
    let server = server.clone();
    tokio::task::spawn_blocking(move || order(&server)).await.expect("it is carried out");
}

#[test]
fn a_server_that_was_frozen_leaves_nothing_behind() {
    let server = Server::start();
    let directory = server.socket_directory().to_owned();
    let file = fs::read_to_string(directory.join("data/postmaster.pid")).expect("it runs");
    let pid = file.lines().next().expect("the id of its process").to_owned();
    let process = pid.parse().ok().and_then(Pid::from_raw).expect("a number");
    kill_process(process, Signal::STOP).expect("it runs");

    drop(server);

    assert!(!directory.exists());
    // One that has ended has no command, whether somebody has asked how it ended or not.
    let until = Instant::now() + DEADLINE;
    while fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty()) {
        assert!(Instant::now() < until, "it runs still");
        thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn nodes_go_on_after_a_restart_and_do_not_crowd_a_server_that_is_away() {
    let server = Arc::new(Server::start());
    let runs = Runs::default();
    let mut nodes = Vec::new();
    for nth in 0..NODES {
        nodes.push(Node::start(&server, nth, &runs).await);
    }
    runs.more(&HashMap::new(), 3).await;

    for how in [Stop::Immediate, Stop::Fast] {
        blocking(&server, move |server| server.stop(how)).await;
        for tries in join_all(nodes.iter().map(Node::tries_in_vain)).await {
            assert!(is_patient(&tries), "{:?}", pauses(&tries));
        }

        let before = runs.tokens();
        blocking(&server, Server::start_again).await;
        runs.more(&before, 3).await;

        for node in &nodes {
            assert!(!node.is_without_session().await, "{how:?}");
        }
        for (job, tokens) in runs.tokens() {
            assert!(tokens.is_sorted_by(|former, next| former < next), "{how:?}: {job}: {tokens:?}");
        }
    }
}
