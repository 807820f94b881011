//! The examples as processes, on each store: what whoever tries them sees.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    TURNS,
    example::example,
    process::{DEADLINE, Process},
    store::Store,
};

/// A run of a job of the quickstart.
const RUN: &str = "RunStarted steady";

/// A process of the quickstart, and where it serves.
struct Quickstart {
    process: Process,
    address: String,
}

impl Quickstart {
    /// Starts it on a free port, and waits until it serves.
    fn start(variables: &[(&str, String)]) -> Self {
        let mut command = command("quickstart", variables);
        let mut process = Process::start(command.env("CALLSHEET_BIND", "127.0.0.1:0"));
        let listening = process.wait_for("listening on ");
        Self { process, address: listening.trim_start_matches("listening on ").to_owned() }
    }

    /// What it answers at a path, as JSON.
    fn get(&self, path: &str) -> Value {
        // No proxy: the environment of whoever runs the tests must not matter.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent = config.timeout_global(Some(DEADLINE)).build().into();
        let mut answer = agent.get(format!("{}{path}", self.address)).call().expect("an answer");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("it is JSON")
    }

    /// Waits until its health says that it is this.
    fn becomes(&self, role: &str) {
        let until = Instant::now() + DEADLINE;
        loop {
            let health = self.get("/health");
            if health["role"] == role {
                return;
            }
            assert!(Instant::now() < until, "it is no {role}: {health}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to stop, and waits for its end.
    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let (code, last) = self.process.end();
        assert_eq!(code, Some(0), "{last:?}");
    }

    fn kill(mut self) {
        self.process.signal(Signal::KILL);
        self.process.end();
    }
}

/// An example with these variables and no others.
fn command(name: &str, variables: &[(&str, String)]) -> Command {
    let mut command = example(name);
    command.envs(variables.iter().cloned()).stderr(Stdio::null());
    command
}

fn variables_of<S: Store>(store: &S, lease: &str) -> Vec<(&'static str, String)> {
    let mut variables = store.variables(&store.ports());
    variables.extend([("CALLSHEET_BACKEND", S::NAME.to_owned()), ("CALLSHEET_LEASE", lease.to_owned())]);
    variables
}

/// Both examples go on when a leader is killed.
pub(crate) async fn the_examples_go_on<S: Store>(store: S) {
    let _turn = TURNS.acquire().await.expect("it is never closed");
    the_quickstart_goes_on(&store);
    the_failover_example_keeps_every_promise(&store);
}

/// A second process follows the first, and goes on when that one is killed.
fn the_quickstart_goes_on<S: Store>(store: &S) {
    let variables = variables_of(store, "3s");
    tokio::task::block_in_place(|| {
        let mut first = Quickstart::start(&variables);
        first.process.wait_for(RUN);
        first.becomes("leader");
        assert_eq!(first.get("/health")["backend"], S::NAME);

        let mut second = Quickstart::start(&variables);
        second.becomes("follower");
        assert!(second.process.seen.iter().all(|line| !line.contains(RUN)), "it runs what the leader runs");

        first.kill();
        second.process.wait_for("LeadershipGained");
        second.process.wait_for(RUN);
        second.becomes("leader");
        second.stop();
    });
}

/// The failover example ends well: no promise was broken by the stop, the kill and the freeze of a leader.
fn the_failover_example_keeps_every_promise<S: Store>(store: &S) {
    // The lease by which the example judges.
    let variables = variables_of(store, "5s");
    tokio::task::block_in_place(|| {
        let directory = TempDir::with_prefix("callsheet-example-").expect("a directory");
        let mut story = Process::start(command("failover", &variables).env("TMPDIR", directory.path()));

        let (code, lines) = story.end_within(Duration::from_secs(240));

        let told = lines.join("\n");
        assert_eq!(code, Some(0), "{told}");
        for line in
            ["SIGTERM to node", "SIGKILL to node", "SIGSTOP to node", "doubled 0", "every promise was kept"]
        {
            assert!(told.contains(line), "no {line:?} in\n{told}");
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_on_a_file_knows_what_ran_before_it_was_killed() {
    let _turn = TURNS.acquire().await.expect("it is never closed");
    tokio::task::block_in_place(|| {
        let directory = TempDir::with_prefix("callsheet-example-").expect("a directory");
        let file = directory.path().join("callsheet.db").to_str().expect("text").to_owned();
        let variables = [("CALLSHEET_BACKEND", "local".to_owned()), ("CALLSHEET_LOCAL_FILE", file)];
        let runs = |quickstart: &Quickstart| -> Vec<String> {
            let page = quickstart.get("/jobs/steady/runs?outcome=succeeded&limit=1000");
            let runs = page["runs"].as_array().expect("a list").iter();
            runs.map(|run| run["run"].as_str().expect("an id").to_owned()).collect()
        };
        let mut first = Quickstart::start(&variables);
        first.process.wait_for(RUN);
        assert_eq!(first.get("/health")["backend"], "sqlite");
        let until = Instant::now() + DEADLINE;
        while runs(&first).len() < 2 {
            assert!(Instant::now() < until, "the history keeps nothing");
            std::thread::sleep(Duration::from_millis(50));
        }
        let before = runs(&first);

        let mut beside =
            Process::start(command("quickstart", &variables).env("CALLSHEET_BIND", "127.0.0.1:0"));
        assert_eq!(beside.end().0, Some(1), "the file has one node");

        first.kill();
        let mut second = Quickstart::start(&variables);
        second.process.wait_for(RUN);
        let after = runs(&second);
        assert!(before.iter().all(|run| after.contains(run)), "{before:?} {after:?}");
        second.stop();
    });
}
