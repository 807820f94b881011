//! Who may do what.

use std::time::Duration;

use actix_web::test::TestRequest;
use callsheet::{
    Callsheet, JobOperation, JobState, JobStatus, Operations, Scheduled,
    console::{Access, Console},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Answer, Served, ask, console, get, post_as, quiet, served, started, status, stop};

const RIGHTS: [&str; 4] = ["nobody", "read", "operate", "edit"];

/// Every route, with the right that the description says it needs.
fn routes() -> Vec<(String, String, String)> {
    let description: Value = serde_json::from_str(&Console::openapi()).expect("it is JSON");
    let paths = description["paths"].as_object().expect("there are some").clone();
    let routes = paths.into_iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("an object").clone();
        methods.into_iter().map(move |(method, operation)| {
            (method, path.clone(), operation["x-right"].as_str().expect("a right").to_owned())
        })
    });
    routes.collect()
}

fn request(method: &str, url: &str) -> TestRequest {
    match method {
        "get" => TestRequest::get().uri(url),
        "post" => TestRequest::post().uri(url).set_json(json!({})),
        other => panic!("{other}"),
    }
}

async fn ask_as(app: &Served, says: &str, request: TestRequest) -> Answer {
    ask(app, request.insert_header(("x-says", says.to_owned()))).await
}

#[actix_web::test]
async fn each_route_is_open_to_those_who_have_its_right_and_to_nobody_else() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;
    let rank = |right: &str| RIGHTS.iter().position(|other| *other == right).expect("a right");
    let routes = routes();
    assert!(routes.len() >= 28, "{}", routes.len());

    for (method, path, needs) in &routes {
        for right in RIGHTS {
            let url = format!("/console{path}");
            // A stream has no end: its head is enough.
            let request = request(method, &url).insert_header(("x-says", right));
            let response = app.call(request).await;
            let is_forbidden = response.status().as_u16() == 403;
            assert_eq!(
                is_forbidden,
                rank(right) < rank(needs),
                "{method} {path} as {right}: {}",
                response.status()
            );
            if is_forbidden {
                let problem = response.headers().get("content-type").expect("it has one");
                assert_eq!(problem, "application/problem+json", "{method} {path}");
            }
        }
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn the_page_and_wrong_paths_and_methods_are_for_readers_too() {
    let jobs = started([]).await;
    let app = served(&console(&jobs)).await;

    for (method, path) in [
        ("get", ""),
        ("get", "/"),
        ("get", "/assets/0/app.js"),
        ("get", "/nothing"),
        ("get", "/api/nothing"),
        ("post", "/api/jobs"),
        ("get", "/api/actions/run"),
    ] {
        let url = format!("/console{path}");
        assert_eq!(ask_as(&app, "nobody", request(method, &url)).await.status, 403, "{path}");
        assert_ne!(ask_as(&app, "read", request(method, &url)).await.status, 403, "{path}");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn a_reader_who_posts_each_action_changes_nothing() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;
    let job = json!({"jobs": ["report"]});
    let actions = [
        ("run", job.clone()),
        ("pause", job.clone()),
        ("resume", job.clone()),
        ("cancel", job.clone()),
        ("skip-missed", job.clone()),
        ("remove", job),
        ("cancel-run", json!({"run": "0197c3a0-0000-7000-8000-000000000000"})),
        ("edit", json!({"job": "report", "patch": {"schedule": {"every": "5m"}}})),
        ("backfill", json!({"job": "report", "from": "2026-01-05T00:00:00Z", "to": "2026-01-06T00:00:00Z"})),
        ("cancel-backfill", json!({"backfill": "0197c3a0-0000-7000-8000-000000000000"})),
    ];
    let (before, recorded) = (scheduled(&jobs, "report").await, operations(&jobs).await.len());

    for (action, body) in &actions {
        let answer = post_as(&app, "read mallory", action, body).await;
        assert_eq!((answer.status, answer.json()["has"].as_str()), (403, Some("read")), "{action}");
    }

    assert_eq!(status(&jobs, "report").await, before);
    assert_eq!(operations(&jobs).await.len(), recorded);
    let posts = routes().into_iter().filter(|(method, ..)| method == "post").count();
    assert_eq!(actions.len(), posts, "each action there is");
    stop(jobs).await;
}

/// What is said of a job once it has come from standby and waits for its tick.
async fn scheduled(jobs: &Callsheet, job: &str) -> JobStatus {
    loop {
        let status = status(jobs, job).await;
        if status.state == JobState::Scheduled && status.scheduled == Some(Scheduled::Here) {
            return status;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn operations(jobs: &callsheet::Callsheet) -> Vec<callsheet::OperationRecord> {
    jobs.operations(Operations::new()).await.expect("one is kept").operations
}

#[actix_web::test]
async fn an_operator_changes_no_definition_and_removes_no_job() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    assert_eq!(post_as(&app, "operate bob", "pause", &json!({"jobs": ["report"]})).await.status, 200);
    assert_eq!(post_as(&app, "operate bob", "remove", &json!({"jobs": ["report"]})).await.status, 403);
    let patch = json!({"job": "report", "patch": {"schedule": {"every": "5m"}}});
    assert_eq!(post_as(&app, "operate bob", "edit", &patch).await.status, 403);

    assert_eq!(status(&jobs, "report").await.state, JobState::Paused);
    stop(jobs).await;
}

#[actix_web::test]
async fn the_record_of_operations_has_the_name_of_the_user_and_the_note() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    let body = json!({"jobs": ["report"], "note": "the disk is full"});
    assert_eq!(post_as(&app, "operate bob", "pause", &body).await.status, 200);

    let newest = operations(&jobs).await.remove(0);
    assert_eq!(newest.operation, JobOperation::Paused);
    assert_eq!(newest.by.map(|by| by.to_string()).as_deref(), Some("bob"));
    let pause = status(&jobs, "report").await.pause.expect("it is paused");
    assert_eq!(
        (pause.note.as_deref(), pause.by.map(|by| by.to_string())),
        (Some("the disk is full"), Some("bob".into()))
    );
    stop(jobs).await;
}

#[actix_web::test]
async fn a_user_whose_name_breaks_a_rule_does_nothing() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    let answer = post_as(&app, "edit ", "pause", &json!({"jobs": ["report"]})).await;

    assert_eq!((answer.status, answer.json()["kind"].as_str()), (500, Some("internal")));
    assert_eq!(status(&jobs, "report").await.pause, None);
    stop(jobs).await;
}

#[actix_web::test]
async fn where_anyone_may_read_nobody_may_do_anything() {
    let jobs = started([quiet("report")]).await;
    let app = served(&Console::new(jobs.clone()).anyone_may_read()).await;

    for (method, path, needs) in routes() {
        let response = app.call(request(&method, &format!("/console{path}"))).await;
        assert_eq!(response.status().as_u16() == 403, needs != "read", "{path}");
    }
    stop(jobs).await;
}

/// How a post or a get is answered with these headers: whether it is let in.
async fn lets_in(app: &Served, method: &str, headers: &[(&'static str, &'static str)]) -> bool {
    let (url, mut request) = match method {
        "get" => ("/console/api/me", TestRequest::get()),
        "post" => ("/console/api/actions/resume", TestRequest::post().set_json(json!({"jobs": ["report"]}))),
        other => panic!("{other}"),
    };
    request = headers.iter().fold(request.uri(url), |request, header| request.insert_header(*header));
    let answer = ask_as(app, "edit alice", request.insert_header(("host", "ops.example"))).await;
    let is_refused = answer.status == 403;
    assert!(!is_refused || answer.json()["kind"] == "cross_site", "{}", answer.text);
    !is_refused
}

#[actix_web::test]
async fn what_a_page_of_another_site_sends_is_refused() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;
    let own = [("sec-fetch-site", "same-origin")];
    let typed = [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    let frame =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];
    let image =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    let sibling = [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")];
    let nonsense = [("sec-fetch-site", "Same-Origin, none")];

    for (headers, get, post) in [
        (own.as_slice(), true, true),
        (&typed, true, true),
        (&link, true, false),
        (&frame, false, false),
        (&image, false, false),
        (&sibling, false, false),
        (&nonsense, false, false),
    ] {
        assert_eq!(lets_in(&app, "get", headers).await, get, "{headers:?}");
        assert_eq!(lets_in(&app, "post", headers).await, post, "{headers:?}");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn a_page_that_is_named_may_show_the_page_in_a_frame_and_nothing_else() {
    let jobs = started([quiet("report")]).await;
    let named = Console::new(jobs.clone()).frame_ancestors(["https://portal.example"]).expect("an origin");
    let framed = served(&named.authorise(async |_| Access::Edit("alice".to_owned()))).await;
    let bare = served(&Console::new(jobs.clone()).anyone_may_read()).await;
    let status = async |app, method, path, mode, dest| {
        let request = request(method, path).insert_header(("sec-fetch-site", "cross-site"));
        let request = request.insert_header(("sec-fetch-mode", mode));
        ask(app, request.insert_header(("sec-fetch-dest", dest))).await.status
    };

    for dest in ["iframe", "frame"] {
        assert_eq!(status(&framed, "get", "/console/", "navigate", dest).await, 200, "{dest}");
        assert_eq!(status(&framed, "get", "/console", "navigate", dest).await, 307, "{dest}");
        assert_eq!(status(&bare, "get", "/console/", "navigate", dest).await, 403, "{dest}");
    }
    for (method, path, mode, dest) in [
        ("get", "/console/api/me", "navigate", "iframe"),
        ("get", "/console/assets/0/app.js", "navigate", "iframe"),
        ("get", "/console/", "no-cors", "iframe"),
        ("get", "/console/", "navigate", "object"),
        ("post", "/console/api/actions/run", "navigate", "iframe"),
    ] {
        assert_eq!(status(&framed, method, path, mode, dest).await, 403, "{method} {path} {mode} {dest}");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn without_fetch_metadata_the_origin_has_to_be_that_of_the_console() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    for (headers, lets) in [
        ([("origin", "https://ops.example")].as_slice(), true),
        (&[("origin", "http://OPS.example")], true),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "null")], false),
        (&[("origin", "https://ops.example.evil.example")], false),
        (&[], true),
        (&[("origin", "https://evil.example"), ("x-forwarded-host", "evil.example")], false),
        (&[("origin", "https://evil.example"), ("forwarded", "host=evil.example")], false),
    ] {
        assert_eq!(lets_in(&app, "post", headers).await, lets, "{headers:?}");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn an_origin_that_is_configured_is_the_only_one() {
    let jobs = started([quiet("report")]).await;
    let console = Console::new(jobs.clone()).origin("https://jobs.example:443").expect("an origin");
    let app = served(&console.authorise(async |_| Access::Edit("alice".to_owned()))).await;

    assert!(lets_in(&app, "post", &[("origin", "https://jobs.example")]).await);
    assert!(!lets_in(&app, "post", &[("origin", "https://evil.example")]).await);
    // `ops.example` is the host that is asked: a name that somebody else has made to lead here.
    assert!(!lets_in(&app, "post", &[("origin", "https://ops.example")]).await);
    let rebound = [("sec-fetch-site", "same-origin"), ("origin", "https://ops.example")];
    assert!(!lets_in(&app, "post", &rebound).await);
    let own = [("sec-fetch-site", "same-origin"), ("origin", "https://jobs.example")];
    assert!(lets_in(&app, "post", &own).await);
    assert!(lets_in(&app, "post", &[("sec-fetch-site", "same-origin")]).await, "programs need not say it");

    for wrong in
        ["jobs.example", "https://", "https://a.example; script-src *", "https://a.example/path", "*"]
    {
        let refused = Console::new(jobs.clone()).origin(wrong).err().expect("it is none");
        assert!(refused.to_string().contains("it is a scheme, a host and perhaps a port"), "{refused}");
        assert!(Console::new(jobs.clone()).frame_ancestors([wrong]).is_err());
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn headers_of_proxies_and_the_host_grant_nothing() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;

    for header in [
        ("host", "localhost"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-user", "alice"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;host=localhost"),
    ] {
        let request = TestRequest::get().uri("/console/api/me").insert_header(header);
        assert_eq!(ask(&app, request).await.status, 403, "{header:?}");
    }
    assert_eq!(get(&app, "me").await.status, 200);
    stop(jobs).await;
}
