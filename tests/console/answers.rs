//! What is answered is what the description says.

use std::time::Duration;

use callsheet::{Callsheet, Job, Run, console::Console, schedule::every};
use serde_json::{Value, json};

use crate::{console, get, post, quiet, run_once, served, started, stop};

/// The schema of an answer, with everything that it refers to.
fn schema(method: &str, path: &str, status: &str) -> Value {
    let description: Value = serde_json::from_str(&Console::openapi()).expect("it is JSON");
    let responses = &description["paths"][path][method]["responses"];
    let kind = if status == "200" { "application/json" } else { "application/problem+json" };
    let content = &responses[status]["content"];
    let schema = content.get(kind).or_else(|| content.get("application/json"));
    let schema = schema.unwrap_or_else(|| panic!("{method} {path} {status}: {responses}"))["schema"].clone();
    let mut whole = schema;
    whole["components"] = description["components"].clone();
    whole
}

fn assert_described(method: &str, path: &str, answer: &Value, status: &str) {
    let schema = schema(method, path, status);
    let validator = jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{path}: {error}"));
    let faults: Vec<_> =
        validator.iter_errors(answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{path}: {faults:?}\n{answer:#}");
}

async fn with_something_to_show() -> Callsheet {
    let moody = Job::new("moody", every(Duration::from_hours(1))).tag("nightly").run(async |run: Run| {
        run.report("half of it");
        run.measure("rows", 7.0);
        Err::<(), _>("no disk")
    });
    let jobs = started([quiet("report").tag("nightly"), moody]).await;
    run_once(&jobs, "report").await;
    for _ in 0..3 {
        run_once(&jobs, "moody").await;
    }
    jobs.by("bob")
        .expect("a name")
        .note("no ink")
        .expect("a note")
        .pause("report")
        .await
        .expect("it is paused");
    jobs
}

#[actix_web::test]
async fn each_answer_is_as_the_description_says() {
    let jobs = with_something_to_show().await;
    let app = served(&console(&jobs)).await;
    let run = get(&app, "runs?limit=1").await.json()["runs"][0]["run"].as_str().expect("one").to_owned();

    for (path, query) in [
        ("me", String::new()),
        ("overview", String::new()),
        ("nodes", String::new()),
        ("activity", "?bucket=10m".to_owned()),
        ("activity", "?span=7d&bucket=6h".to_owned()),
        ("jobs", "?sort=failures&order=desc".to_owned()),
        ("job", "?job=moody".to_owned()),
        ("job", "?job=report".to_owned()),
        ("preview", "?schedule=30%201%20*%20*%20*&zone=Europe/Lisbon".to_owned()),
        ("runs", "?outcome=failed".to_owned()),
        ("runs", "?outcome=in_progress".to_owned()),
        ("run", format!("?run={run}")),
        ("decisions", String::new()),
        ("explain", "?job=report&at=2026-01-05T12:00:00Z".to_owned()),
        ("operations", String::new()),
        ("locks", String::new()),
        ("calendar", "?hours=48".to_owned()),
        ("backfills", String::new()),
        ("tasks", String::new()),
    ] {
        let answer = get(&app, &format!("{path}{query}")).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "application/json"),
            "{path}: {}",
            answer.text
        );
        assert_described("get", &format!("/api/{path}"), &answer.json(), "200");
    }
    let one = json!({"jobs": ["report"]});
    let dry = json!({"filter": {"tag": "nightly"}, "dry_run": true});
    let edit = json!({"job": "report", "patch": {"schedule": {"every": "5m"}}, "dry_run": true});
    for (action, body) in [
        ("pause", &one),
        ("resume", &one),
        ("run", &one),
        ("cancel", &dry),
        ("skip-missed", &one),
        ("edit", &edit),
    ] {
        let answer = post(&app, action, body).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.text);
        assert_described("post", &format!("/api/actions/{action}"), &answer.json(), "200");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn each_problem_names_its_cause_and_its_cure() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    for (path, status, kind) in [
        ("job?job=nobody", 404, "not_found"),
        ("job", 400, "invalid"),
        ("job?job=", 400, "invalid"),
        ("jobs?limit=0", 400, "invalid"),
        ("jobs?limit=1001", 400, "invalid"),
        ("jobs?state=dreaming", 400, "invalid"),
        ("jobs?after=nonsense", 400, "invalid"),
        ("jobs?nonsense=1", 400, "invalid"),
        ("runs?outcome=dreamt", 400, "invalid"),
        ("runs?after=7", 400, "invalid"),
        ("run?run=7", 400, "invalid"),
        ("run?run=0197c3a0-0000-7000-8000-000000000000", 404, "not_found"),
        ("explain?job=report", 400, "invalid"),
        ("preview?schedule=61%20*%20*%20*%20*", 400, "invalid"),
        ("preview?schedule=*&zone=Nowhere", 400, "invalid"),
        ("calendar?hours=169", 400, "invalid"),
        ("calendar?hours=168&bucket=5m", 400, "invalid"),
        ("activity?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 400, "invalid"),
        ("activity?bucket=1", 400, "invalid"),
        ("nothing", 404, "not_found"),
        ("actions/run", 405, "method"),
        ("events?views=everything", 400, "invalid"),
    ] {
        let answer = get(&app, path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, "application/problem+json"),
            "{path}"
        );
        let problem = answer.json();
        assert_eq!(
            (problem["kind"].as_str(), problem["status"].as_u64()),
            (Some(kind), Some(status.into())),
            "{path}"
        );
        assert!(!problem["detail"].as_str().expect("it has one").is_empty(), "{path}");
        assert!(!problem["cure"].as_str().expect("it has one").is_empty(), "{path}");
        assert_described("get", "/api/jobs", &problem, "4XX");
    }
    let faults = &get(&app, "preview?schedule=61%20*%20*%20*%20*").await.json()["faults"];
    assert_eq!(faults[0]["subject"], "cron", "{faults}");
    stop(jobs).await;
}

#[actix_web::test]
async fn versions_terms_and_tokens_are_texts() {
    let jobs = with_something_to_show().await;
    let app = served(&console(&jobs)).await;

    let run = get(&app, "runs?limit=1").await.json()["runs"][0].clone();
    assert!(run["token"].is_string(), "{run:#}");
    let operation = get(&app, "operations?limit=1").await.json()["operations"][0].clone();
    assert!(operation["number"].is_string(), "{operation:#}");
    stop(jobs).await;
}

#[actix_web::test]
async fn the_overview_says_what_needs_attention() {
    let jobs = with_something_to_show().await;
    let app = served(&console(&jobs)).await;

    let overview = get(&app, "overview").await.json();

    let counted = &overview["jobs"];
    assert_eq!(
        (&counted["total"], &counted["paused"], &counted["scheduled"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let attention = &overview["attention"];
    assert_eq!(
        (&attention[0]["job"], &attention[0]["why"]),
        (&json!("moody"), &json!("failing")),
        "{overview:#}"
    );
    assert_eq!(overview["next"].as_array().expect("a list").len(), 1, "a paused job is not next");
    stop(jobs).await;
}

#[actix_web::test]
async fn a_run_and_a_node_can_be_looked_for() {
    let jobs = with_something_to_show().await;
    let app = served(&console(&jobs)).await;
    let node = get(&app, "me").await.json()["node"].as_str().expect("it has one").to_owned();
    let runs = async |query: &str| {
        get(&app, &format!("runs?{query}")).await.json()["runs"].as_array().expect("a list").len()
    };

    assert_eq!(runs("").await, 4);
    assert_eq!(runs("job=moody").await, 3);
    assert_eq!(runs("outcome=succeeded").await, 1);
    assert_eq!(runs(&format!("node={node}")).await, 4);
    assert_eq!(runs("node=0197c3a0-0000-7000-8000-000000000000").await, 0);
    assert_eq!(runs("outcome=in_progress").await, 0);

    let (mut seen, mut after) = (Vec::new(), String::new());
    for query in ["limit=3".to_owned(), format!("limit=3&node={node}")] {
        loop {
            let page = get(&app, &format!("runs?{query}&after={after}")).await.json();
            seen.extend(page["runs"].as_array().expect("a list").iter().map(|run| run["run"].to_string()));
            match page["next"].as_str() {
                Some(next) => after = percent(next),
                None => break,
            }
        }
        after.clear();
    }
    assert_eq!(seen.len(), 8, "each once, either way");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    stop(jobs).await;
}

pub(crate) fn percent(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[actix_web::test]
async fn a_plot_may_be_of_the_last_seven_days_and_of_no_more() {
    let jobs = with_something_to_show().await;
    let app = served(&console(&jobs)).await;

    let week = get(&app, "activity?span=7d&bucket=6h").await;
    assert_eq!(week.status, 200, "{}", week.text);
    assert_eq!(week.json()["buckets"].as_array().map(Vec::len), Some(28));
    assert_eq!(get(&app, "activity?span=3h").await.json()["buckets"].as_array().map(Vec::len), Some(36));

    for query in ["span=7d1ms&bucket=6h", "span=0s", "span=-1h", "span=3h&from=2026-01-05T00:00:00Z"] {
        assert_eq!(get(&app, &format!("activity?{query}")).await.status, 400, "{query}");
    }
    stop(jobs).await;
}
