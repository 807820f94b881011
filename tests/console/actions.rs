//! Actions: the count first, and what becomes of each job.

use std::time::Duration;

use callsheet::{Job, JobState, Run, console::BULK_MAX, schedule::every};
use serde_json::json;

use crate::{console, get, post, quiet, served, started, status, stop};

#[actix_web::test]
async fn many_jobs_are_paused_only_by_somebody_who_knows_how_many() {
    let jobs = started((0..7).map(|number| quiet(&format!("job {number}")).tag("nightly"))).await;
    let app = served(&console(&jobs)).await;
    let filter = json!({"tag": "nightly"});

    let dry = post(&app, "pause", &json!({"filter": filter, "dry_run": true})).await.json();
    assert_eq!((&dry["count"], &dry["dry_run"], &dry["jobs"][6]), (&json!(7), &json!(true), &json!("job 6")));
    for count in [json!(null), json!(6), json!(8)] {
        let refused = post(&app, "pause", &json!({"filter": filter, "count": count})).await;
        assert_eq!((refused.status, &refused.json()["count"]), (409, &json!(7)), "{count}");
    }
    let two = post(&app, "pause", &json!({"jobs": ["job 1", "job 2"]})).await;
    assert_eq!(two.status, 409, "two names are many");
    assert_eq!(status(&jobs, "job 1").await.state, JobState::Scheduled, "nothing was done");

    let digest = dry["digest"].clone();
    let body = json!({"filter": filter, "count": 7, "digest": digest});
    let done = post(&app, "pause", &body).await.json();

    assert_eq!(done["done"].as_array().expect("a list").len(), 7, "{done:#}");
    assert_eq!(get(&app, "jobs?state=paused").await.json()["matched"], 7, "the list knows it at once");
    let resumed = post(&app, "resume", &json!({"jobs": ["job 1", "job 1"], "count": 1})).await.json();
    assert_eq!(resumed["done"], json!([{"job": "job 1", "changed": true}]));
    stop(jobs).await;
}

#[actix_web::test]
async fn jobs_that_are_as_many_as_were_shown_and_others_are_left_alone() {
    let jobs = started(["a", "b"].map(|name| quiet(name).tag("nightly"))).await;
    let app = served(&console(&jobs)).await;
    let mut body = json!({"filter": {"tag": "nightly"}, "dry_run": true});
    let dry = post(&app, "remove", &body).await.json();
    (body["dry_run"], body["count"]) = (json!(false), json!(2));

    let unsaid = post(&app, "remove", &body).await;
    assert_eq!((unsaid.status, unsaid.json()["kind"].as_str()), (409, Some("count")), "it has no digest");
    jobs.remove("a").await.expect("it is there");
    jobs.add(quiet("c").tag("nightly")).await.expect("it is good");
    body["digest"] = dry["digest"].clone();
    let refused = post(&app, "remove", &body).await;

    assert_eq!((refused.status, &refused.json()["count"]), (409, &json!(2)), "{}", refused.text);
    assert!(jobs.details("c").await.is_ok(), "nobody has seen it");
    body["digest"] = refused.json()["digest"].clone();
    assert_eq!(post(&app, "remove", &body).await.status, 200);
    stop(jobs).await;
}

#[actix_web::test]
async fn what_went_wrong_with_one_of_many_is_told_of_that_one() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    let one = post(&app, "run", &json!({"jobs": ["nobody"]})).await;
    assert_eq!((one.status, one.json()["kind"].as_str()), (404, Some("not_found")));

    let two = post(&app, "run", &json!({"jobs": ["nobody", "report"], "count": 2})).await.json();
    assert_eq!(two["failed"][0]["job"], "nobody");
    assert_eq!(two["failed"][0]["problem"]["kind"], "not_found");
    assert_eq!((&two["done"][0]["job"], &two["done"][0]["text"]), (&json!("report"), &json!("started")));
    stop(jobs).await;
}

#[actix_web::test]
async fn no_action_is_for_more_jobs_than_may_be() {
    let jobs = started([]).await;
    let app = served(&console(&jobs)).await;
    let names: Vec<_> = (0..=BULK_MAX).map(|number| number.to_string()).collect();

    let refused = post(&app, "pause", &json!({"jobs": names, "count": names.len()})).await;

    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(refused.text.contains("more than 1000"), "{}", refused.text);
    stop(jobs).await;
}

#[actix_web::test]
async fn bodies_that_are_not_what_is_expected_are_refused() {
    use actix_web::test::TestRequest;
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;
    let send = async |kind: &'static str, body: String| {
        let request = TestRequest::post().uri("/console/api/actions/pause").insert_header(("x-says", "edit"));
        crate::ask(&app, request.insert_header(("content-type", kind)).set_payload(body)).await
    };

    for (kind, body, status) in [
        ("application/json", "{".to_owned(), 400),
        ("application/json", r#"{"jobs": ["report"], "untill": "2027-01-01T00:00:00Z"}"#.to_owned(), 400),
        ("application/json", "{}".to_owned(), 400),
        ("application/json", r#"{"jobs": [], "filter": {}}"#.to_owned(), 400),
        ("application/json", r#"{"jobs": []}"#.to_owned(), 400),
        ("text/plain", r#"{"jobs": ["report"]}"#.to_owned(), 415),
        ("application/x-www-form-urlencoded", "jobs=report".to_owned(), 415),
        ("application/json", format!(r#"{{"jobs": ["{}"]}}"#, "x".repeat(70_000)), 413),
        ("application/json", format!(r#"{{"jobs": ["report"], "note": "{}"}}"#, "x".repeat(1_001)), 400),
    ] {
        let answer = send(kind, body.clone()).await;
        let start: String = body.chars().take(50).collect();
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, "application/problem+json"),
            "{start}"
        );
    }
    assert_eq!(status(&jobs, "report").await.pause, None);
    stop(jobs).await;
}

#[actix_web::test]
async fn a_run_in_progress_is_seen_with_its_key_and_can_be_stopped() {
    let long = Job::new("long", every(Duration::from_hours(1)))
        .lock_key("disk")
        .run(async |run: Run| run.cancelled().await);
    let jobs = started([long, quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    let started = post(&app, "run", &json!({"jobs": ["long"], "note": "by hand"})).await.json();
    let run = started["done"][0]["run"].as_str().expect("it has started").to_owned();
    let locks = get(&app, "locks").await.json();
    let lock = &locks["locks"][0];
    assert_eq!((&lock["key"], &lock["run"], &lock["job"]), (&json!("disk"), &json!(run), &json!("long")));
    let active = get(&app, "job?job=long").await.json()["job"]["active_runs"].clone();
    assert_eq!((&active[0]["run"], &active[0]["phase"]), (&json!(run), &json!("attempting")));

    let stopped = post(&app, "cancel-run", &json!({"run": run})).await;

    assert_eq!((stopped.status, stopped.json()["job"].as_str()), (200, Some("long")));
    let again = post(&app, "cancel-run", &json!({"run": "0197c3a0-0000-7000-8000-000000000000"})).await;
    assert_eq!(again.status, 404);
    stop(jobs).await;
}

#[actix_web::test]
async fn a_backfill_says_first_how_many_runs_it_is() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;
    let mut body = json!({"job": "report", "from": "2026-01-05T00:00:00Z", "to": "2026-01-05T05:59:59Z",
                          "again": true, "dry_run": true});

    let dry = post(&app, "backfill", &body).await.json();
    assert_eq!((&dry["count"], &dry["dry_run"]), (&json!(6), &json!(true)), "{dry:#}");
    assert_eq!(get(&app, "backfills").await.json()["backfills"], json!([]));

    body["dry_run"] = json!(false);
    for digest in [json!(null), json!("0"), dry["digest"].clone()] {
        // One fire time fewer, or none of them said.
        let mut other = body.clone();
        (other["digest"], other["from"]) = (digest, json!("2026-01-05T00:00:01Z"));
        let refused = post(&app, "backfill", &other).await;
        assert_eq!((refused.status, &refused.json()["count"]), (409, &json!(5)), "{}", refused.text);
    }
    body["digest"] = dry["digest"].clone();
    let started = post(&app, "backfill", &body).await;
    assert_eq!((started.status, &started.json()["backfill"]["ticks"]), (200, &json!(6)), "{}", started.text);
    assert_eq!(get(&app, "backfills?job=report").await.json()["backfills"][0]["by"], "alice");
    stop(jobs).await;
}

#[actix_web::test]
async fn a_job_that_is_removed_is_gone_from_the_list_at_once() {
    let jobs = started([quiet("report"), quiet("other")]).await;
    let app = served(&console(&jobs)).await;
    assert_eq!(get(&app, "jobs").await.json()["total"], 2);

    assert_eq!(post(&app, "remove", &json!({"jobs": ["report"]})).await.status, 200);

    assert_eq!(get(&app, "jobs").await.json()["total"], 1);
    stop(jobs).await;
}
