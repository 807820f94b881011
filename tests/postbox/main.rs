//! Postbox, a small service, and what its users and its operator see. It is written as an application would
//! be.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    time::Duration,
};

use callsheet::{JobPage, JobStatus, prelude::*, testkit::simulate};
use chrono::{TimeDelta, Utc};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::{sync::oneshot, task};
use ureq::http::Request;

#[path = "../common/log.rs"]
mod log;
mod service;
use service::{Config, Letter, Office, Posted, jobs, post_letter, serve};

fn config() -> Config {
    let config = json!({
        "collect": {"schedule": "0 8 * * *", "policies": {"timeout": "20s", "overlap": {"queue": 2}}},
        "delivery": "5s",
    });
    serde_json::from_value(config).expect("it is right")
}

#[test]
fn a_letter_is_delivered_a_day_later() {
    let office = Office::new(&config());
    simulate("2026-03-27T12:00:00Z", async |rig| {
        let here = office.clone();
        let node = rig.drive_node(move || Callsheet::builder().jobs(jobs(config(), &here))).await;
        let jobs = Callsheet::of_rig(rig, node);
        let letter = Letter { to: "ada".to_owned(), at: rig.now() + TimeDelta::hours(25) };

        let posted = post_letter(&jobs, &office, letter.clone()).await.expect("it is taken");
        let again = post_letter(&jobs, &office, letter.clone()).await.expect_err("it is there already");
        rig.advance(Duration::from_hours(26)).await;

        assert_eq!((posted.due, again.kind()), (Some(letter.at), ErrorKind::Exists));
        assert_eq!(office.delivered(), ["ada"]);
        assert!(rig.transcript().contains("\n2026-03-28\n"), "{}", rig.transcript());
        let gone = jobs.details(posted.job).await.expect_err("it is delivered");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    });
}

#[actix_web::test]
async fn users_and_the_operator_get_what_they_ask_for() {
    let log = log::Log::keep();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (stop, stopping) = oneshot::channel::<()>();
    let serving = actix_web::rt::spawn(serve(config(), listener, stopping.into_stream()));

    task::spawn_blocking(|| ask_for_everything(url)).await.expect("they get it");
    stop.send(()).expect("it serves");

    let report = serving.await.expect("it does not panic").expect("it stops well");
    assert_eq!((report.cancelled, report.aborted), (0, 0));
    let text = log.text();
    for (job, line) in [("collect", "somebody should look"), ("sort", "sorted"), ("stamp", "stamped")] {
        let of_run = format!(" run{{job={job} run=");
        assert!(text.lines().any(|one| one.contains(&of_run) && one.contains(line)), "{job}: {text}");
    }
}

fn ask_for_everything(url: String) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = |method: &str, path: &str| Request::builder().method(method).uri(format!("{url}{path}"));
    let ask = |method: &str, path: &str, body: Value| {
        let request = request(method, path).header("content-type", "application/json").body(body.to_string());
        let mut response = agent.run(request.expect("a request")).expect("it answers");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("a text"))
    };
    let run = |job: &str| ask("POST", &format!("/jobs/{job}/run"), Value::Null);
    let ends = agent.run(request("GET", "/ends").body(()).expect("a request")).expect("it answers");
    let mut ends = BufReader::new(ends.into_body().into_reader()).lines();
    let mut next_end = || serde_json::from_str::<Event>(&ends.next().expect("it goes on").expect("a line"));

    // A run, and what becomes of it.
    assert_eq!(run("collect"), (200, "\"failed\"".to_owned()));
    let failed = next_end().expect("an event").kind;
    assert!(matches!(failed, EventKind::RunFailed { error, .. } if &*error == "there is nothing to collect"));
    let letter = json!({"to": "bob", "at": Utc::now() + TimeDelta::milliseconds(200)});
    let (status, posted) = ask("POST", "/letters", letter.clone());
    let posted: Posted = serde_json::from_str(&posted).expect("an answer");
    assert_eq!((status, posted.due.is_some()), (201, true));
    let delivered = next_end().expect("an event").kind;
    assert!(matches!(delivered, EventKind::RunSucceeded { job, .. } if job.as_str() == posted.job));
    for job in ["collect", "sort", "stamp"] {
        assert_eq!(run(job), (200, "\"succeeded\"".to_owned()), "{job}");
    }
    assert_eq!(run("nothing").0, 404);

    // Schedules and pauses.
    let reschedule = |schedule: &str| ask("PUT", "/jobs/collect/schedule", json!(schedule));
    assert_eq!(reschedule("0 0 31 12 *"), (200, "[]".to_owned()));
    let (status, warnings) = reschedule("* * * 1 * *");
    assert!(status == 200 && warnings.contains("86,400 times"), "{warnings}");
    assert_eq!(reschedule("0 25 * * *").0, 400);
    let (_, paused) = ask("PUT", "/jobs/collect/pause", json!({"lasts": "90m", "why": "a holiday"}));
    let paused: JobStatus = serde_json::from_str(&paused).expect("a status");
    assert_eq!(paused.pause.expect("it is paused").note.as_deref(), Some("a holiday"));
    let page: JobPage = serde_json::from_str(&ask("GET", "/jobs", Value::Null).1).expect("a page");
    assert_eq!(page.jobs[0].policies.timeout, Some(Duration::from_secs(20)), "it is the file's still");

    let (_, metrics) = ask("GET", "/metrics", Value::Null);
    for line in [
        "callsheet_leader{scope=\"_local\"} 1",
        "callsheet_runs_total{scope=\"_local\",name=\"collect\",outcome=\"failed\"} 1",
        "callsheet_runs_total{scope=\"_local\",name=\"letter\",outcome=\"succeeded\"} 1",
    ] {
        assert!(metrics.lines().any(|shown| shown == line), "{line}: {metrics}");
    }
}
