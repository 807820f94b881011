//! The example `quickstart`, run as a process and used over HTTP as its newcomer would.
//!
//! `cargo test` builds the example; `cargo test --test quickstart` runs it as it was built last.

use callsheet::{PAGE_MAX, schedule::parse_duration};
use chrono::{DateTime, TimeDelta, Utc};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    fmt::Debug,
    io::read_to_string,
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use ureq::http::{Request, Response};

#[path = "../common/example.rs"]
mod example;
#[path = "../common/postgres.rs"]
mod harness;
#[path = "../process/mod.rs"]
mod process;
mod requests;
mod stored;

use example::example;
use process::{DEADLINE, Process};

struct Quickstart {
    process: Process,
    address: String,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    location: Option<String>,
    text: String,
}

impl Quickstart {
    /// Starts it on a free port and waits until it serves.
    fn start() -> Self {
        Self::started_by(&mut command("127.0.0.1:0"))
    }

    /// Starts it as a node of a cluster.
    fn start_node(scope: &str) -> Self {
        let url = harness::server().url();
        Self::started_by(
            command("127.0.0.1:0").env("CALLSHEET_DATABASE_URL", url).env("CALLSHEET_SCOPE", scope),
        )
    }

    fn started_by(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let listening = process.wait_for("listening on ");
        let address = listening.trim_start_matches("listening on ").to_owned();
        // No proxy: the environment of whoever runs the tests must not matter.
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(DEADLINE)).build().into();
        Self { process, address, agent }
    }

    fn wait_for(&mut self, text: &str) -> String {
        self.process.wait_for(text)
    }

    /// Tells it to stop. Answers everything that it printed.
    fn stop(&mut self) -> Vec<String> {
        self.process.signal(Signal::TERM);
        let (code, last) = self.process.end();
        assert_eq!(code, Some(0), "{last:?}");
        self.process.seen.iter().cloned().chain(last).collect()
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path)
    }

    fn send(&self, method: &str, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.address)).body(());
        answer(self.agent.run(request.expect("a request")))
    }

    /// Asks for JSON where a text is the rule.
    fn get_data(&self, path: &str) -> Value {
        let request = Request::get(format!("{}{path}", self.address)).header("accept", "application/json");
        answer(self.agent.run(request.body(()).expect("a request"))).json()
    }

    fn post(&self, job: &Value) -> Answer {
        self.post_text(&job.to_string())
    }

    fn post_text(&self, body: &str) -> Answer {
        let request = Request::post(format!("{}/jobs", self.address)).body(body.to_owned());
        answer(self.agent.run(request.expect("a request")))
    }

    /// The job as `GET /jobs` shows it.
    fn listed(&self, name: &str) -> Option<Value> {
        let jobs = self.get("/jobs").json();
        jobs.as_array().expect("a list").iter().find(|job| job["name"] == name).cloned()
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

fn answer(response: Result<Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.expect("an answer");
    let location = response.headers().get("location").map(|value| value.to_str().expect("text").to_owned());
    let text = response.body_mut().read_to_string().expect("a body");
    Answer { status: response.status().as_u16(), location, text }
}

fn command(bind: &str) -> Command {
    let mut command = example("quickstart");
    // Its log is not what these tests are about.
    command.env("CALLSHEET_BIND", bind).stderr(Stdio::null());
    command
}

/// For which fire times a job started, by what was printed.
fn fire_times(lines: &[String], job: &str) -> Vec<DateTime<Utc>> {
    let started = |line: &String| match line.split(' ').collect::<Vec<_>>()[1..] {
        ["RunStarted", name, fire_time, ..] if name == job => Some(parse_instant(&json!(fire_time))),
        _ => None,
    };
    lines.iter().filter_map(started).collect()
}

fn parse_instant(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("an instant, not {value}"));
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn assert_contains(text: &str, parts: &[impl AsRef<str> + Debug]) {
    for part in parts {
        assert!(text.contains(part.as_ref()), "{part:?} is not in {text:?}");
    }
}

#[test]
fn its_own_jobs_fire_and_each_event_is_one_readable_line() {
    let mut quickstart = Quickstart::start();

    quickstart.wait_for("RunFailed moody");
    quickstart.wait_for("RunSucceeded steady");
    quickstart.wait_for("RunSucceeded moody");

    for line in quickstart.process.seen.iter().filter(|line| !line.starts_with("listening on ")) {
        let (at, event) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(at.parse::<DateTime<Utc>>().is_ok(), "{line}");
        assert!(event.starts_with(|first: char| first.is_ascii_uppercase()), "{line}");
    }
    let jobs = quickstart.get("/jobs");
    assert_eq!(jobs.status, 200);
    let names: Vec<_> =
        jobs.json().as_array().expect("a list").iter().map(|job| job["name"].clone()).collect();
    assert_eq!(names, ["minutely", "moody", "steady"]);
}

#[test]
fn health_says_who_the_node_is() {
    let quickstart = Quickstart::start();

    let health = quickstart.get("/health");

    assert_eq!(health.status, 200);
    let mut health = health.json();
    let node = health["node"].take();
    assert!(node.as_str().is_some_and(|node| node.len() == 36), "{node}");
    assert_eq!(health["leader"].take(), node);
    let expected = json!({
        "node": null, "backend": "local", "role": "local", "term": "1", "leader": null,
        "candidacy": "stands", "jobs": 3, "live": true, "ready": true,
        "healthy": true, "problems": [], "zone_data": callsheet::schedule::zone_data_version(),
    });
    assert_eq!(health, expected);
    for probe in ["/livez", "/readyz", "/healthz"] {
        let answer = quickstart.get(probe);
        assert_eq!((answer.status, &*answer.text), (200, "ok\n"), "{probe}");
    }
}

#[test]
fn every_metric_is_scraped_after_a_job_ran() {
    let mut quickstart = Quickstart::start();
    quickstart.wait_for("RunSucceeded steady");

    let metrics = quickstart.get("/metrics");

    assert_eq!(metrics.status, 200);
    let series = [
        "callsheet_jobs{scope=\"_local\"} 3",
        "callsheet_ticks_due_total{scope=\"_local\",name=\"steady\"} ",
        "callsheet_ticks_total{scope=\"_local\",name=\"steady\",outcome=\"started\"} ",
        "callsheet_ticks_total{scope=\"_local\",name=\"steady\",outcome=\"overlap\"} 0",
        "callsheet_ticks_total{scope=\"_local\",name=\"steady\",outcome=\"misfire\"} 0",
        "callsheet_runs_total{scope=\"_local\",name=\"steady\",outcome=\"succeeded\"} ",
        "callsheet_runs_total{scope=\"_local\",name=\"steady\",outcome=\"failed\"} 0",
        "callsheet_run_duration_seconds_bucket{scope=\"_local\",name=\"steady\",le=\"+Inf\"} ",
        "callsheet_run_duration_seconds_count{scope=\"_local\",name=\"steady\"} ",
        "callsheet_tick_lateness_seconds_bucket{scope=\"_local\",name=\"steady\",le=\"+Inf\"} ",
        "callsheet_runs_in_progress{scope=\"_local\"} ",
        "callsheet_leader{scope=\"_local\"} 1",
        "callsheet_term{scope=\"_local\"} 1",
        "callsheet_leadership_changes_total{scope=\"_local\"} 1",
        "callsheet_claim_duration_seconds_bucket{scope=\"_local\",le=\"+Inf\"} ",
        "callsheet_locks_held{scope=\"_local\"} ",
        "callsheet_locks_lost_total{scope=\"_local\"} 0",
        "callsheet_coordination_errors_total{scope=\"_local\",operation=\"claim\"} 0",
        "callsheet_events_dropped_total{scope=\"_local\"} 0",
        "callsheet_job_actor_restarts_total{scope=\"_local\"} 0",
    ];
    let lines: Vec<_> = metrics.text.lines().collect();
    for series in series {
        assert!(lines.iter().any(|line| line.starts_with(series)), "no {series} in\n{}", metrics.text);
    }
    let count = |series: &str| {
        let line =
            lines.iter().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("no {series}"));
        line.trim().parse::<u64>().unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let due = count("callsheet_ticks_due_total{scope=\"_local\",name=\"steady\"}");
    let decided = ["started", "overlap", "misfire"].map(|outcome| {
        count(&format!("callsheet_ticks_total{{scope=\"_local\",name=\"steady\",outcome=\"{outcome}\"}}"))
    });
    assert!(due >= 1);
    assert_eq!(due, decided.iter().sum::<u64>(), "due = started + skipped");
    assert!(count("callsheet_runs_total{scope=\"_local\",name=\"steady\",outcome=\"succeeded\"}") >= 1);
}

#[test]
fn sigterm_and_ctrl_c_end_it_with_a_report_and_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut quickstart = Quickstart::start();

        quickstart.process.signal(signal);
        let (code, lines) = quickstart.process.end();

        assert_eq!(code, Some(0), "{signal:?}: {lines:?}");
        let position = |text: &str| {
            let found = lines.iter().position(|line| line.contains(text));
            found.unwrap_or_else(|| panic!("{signal:?}: no {text} in {lines:?}"))
        };
        assert!(position("ShutdownStarted") < position("ShutdownFinished"));
        let last = lines.last().expect("a last line");
        let report = last.strip_prefix("stopped: drained ").unwrap_or_else(|| panic!("{last}"));
        assert!(report.contains(", cancelled 0, aborted 0"), "{last}");
    }
}

#[test]
fn an_address_in_use_is_named_with_its_cure_before_anything_starts() {
    let other_program = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = other_program.local_addr().expect("an address").to_string();

    for (bind, reason) in [(&*taken, "Address already in use"), ("127.0.0.1", "invalid socket address")] {
        let mut process = Process::start(command(bind).stderr(Stdio::piped()));
        let (code, output) = process.end();
        let errors = read_to_string(process.child.stderr.take().expect("a pipe")).expect("text");

        assert_eq!(code, Some(1), "{errors}");
        assert!(output.is_empty(), "something was started: {output:?}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        let address = format!("{bind:?}");
        assert_contains(&errors, &[&*address, "CALLSHEET_BIND", reason, "choose another address"]);
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[test]
fn two_nodes_on_one_database_share_their_ticks_and_hand_them_over() {
    const PERIOD_MS: i64 = 200;
    let scope = harness::scope("quickstart");
    let mut leader = Quickstart::start_node(&scope);
    leader.wait_for("LeadershipGained");
    let mut follower = Quickstart::start_node(&scope);
    assert_eq!(leader.get("/health").json()["role"], "leader");
    let health = follower.get("/health").json();
    assert_eq!((&health["role"], &health["backend"]), (&json!("follower"), &json!("postgres")));

    // Stored, so that it does not matter which node is asked.
    assert_eq!(follower.post(&json!({ "name": "fast", "every": "200ms" })).status, 201);
    assert_eq!(leader.post(&json!({ "name": "yearly", "cron": "0 0 1 1 *" })).status, 201);
    follower.wait_for("JobAdded yearly");
    // A manual trigger runs where it was asked for.
    assert_eq!(follower.send("POST", "/jobs/yearly/run").status, 202);
    follower.wait_for("RunSucceeded yearly");
    (0..5).for_each(|_| drop(leader.wait_for("RunSucceeded fast")));

    let mut lines = leader.stop();
    follower.wait_for("LeadershipGained");
    // Until the leader had heard of the job, it was the follower's.
    let led_from = fire_times(&lines, "fast")[0];
    let of_follower = fire_times(&follower.process.seen, "fast");
    assert!(
        of_follower.iter().all(|of| *of < led_from),
        "the follower fires too: {:?}",
        follower.process.seen
    );
    assert_eq!(follower.get("/health").json()["role"], "leader");
    (0..5).for_each(|_| drop(follower.wait_for("RunSucceeded fast")));
    lines.extend(follower.stop());

    let mut fire_times = fire_times(&lines, "fast");
    fire_times.sort_unstable();
    let mut skipped = 0;
    for words in lines.iter().map(|line| line.split(' ').collect::<Vec<_>>()) {
        if let ["TickSkipped", "fast", _, _, count] = words[1..] {
            skipped += count.parse::<i64>().expect("a number");
        }
    }
    let once: HashSet<_> = fire_times.iter().collect();
    assert_eq!(once.len(), fire_times.len(), "a tick ran twice: {fire_times:?}");
    let span = *fire_times.last().expect("it ran") - fire_times[0];
    let due = span.num_milliseconds() / PERIOD_MS + 1;
    let started = i64::try_from(fire_times.len()).expect("a number");
    assert_eq!(due, started + skipped, "{fire_times:?}");
}

#[test]
fn an_unreachable_database_is_named_with_its_cure_without_the_password() {
    let password = harness::PASSWORD;
    let wrong = format!("{password}-at-all");
    let cases = [
        (format!("postgres//{password}"), "it is a connection string of PostgreSQL"),
        (format!("postgres://somebody:{password}@127.0.0.1:1/postgres"), "refused"),
        (harness::server().url_with(&wrong), "check the user and the password in the URL"),
    ];

    for (url, reason) in cases {
        let mut command = command("127.0.0.1:0");
        let mut process = Process::start(command.env("CALLSHEET_DATABASE_URL", url).stderr(Stdio::piped()));
        let (code, output) = process.end();
        let errors = read_to_string(process.child.stderr.take().expect("a pipe")).expect("text");

        assert_eq!(code, Some(1), "{errors}");
        assert_contains(&errors, &["quickstart did not run", reason]);
        assert!(!errors.contains(password) && !output.concat().contains(password), "{errors}{output:?}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}
