//! The stream of events.

use std::{pin::Pin, time::Duration};

use actix_web::{
    body::{BoxBody, MessageBody},
    test::TestRequest,
};
use callsheet::{Callsheet, Job, Run, console::STREAMS_MAX, schedule::every, testkit::simulate};
use futures_util::future::poll_fn;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{Served, console, get, post, quiet, served, started, stop};

/// One event of a stream.
#[derive(Debug)]
struct Sent {
    id: String,
    event: String,
    data: Value,
}

struct Stream {
    body: Pin<Box<BoxBody>>,
    text: String,
}

impl Stream {
    async fn open(app: &Served, query: &str, last: Option<&str>) -> Self {
        let mut request = TestRequest::get().uri(&format!("/console/api/events{query}"));
        request = request.insert_header(("x-says", "read bob"));
        if let Some(last) = last {
            request = request.insert_header(("last-event-id", last));
        }
        let response = app.call(request).await;
        assert_eq!(response.status(), 200);
        let header =
            |name: &str| response.headers().get(name).expect("it has one").to_str().expect("text").to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("content-encoding"), "identity", "no compressor keeps events back");
        Self { body: Box::pin(response.into_body()), text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.unwrap_or_default().to_owned()
                };
                let sent = Sent {
                    id: field("id"),
                    event: field("event"),
                    data: serde_json::from_str(&field("data")).unwrap_or_default(),
                };
                self.text = rest.to_owned();
                if sent.event.is_empty() {
                    continue;
                }
                return Some(sent);
            }
            let body = &mut self.body;
            let bytes = poll_fn(|task| body.as_mut().poll_next(task)).await?.expect("it is sent");
            self.text.push_str(std::str::from_utf8(&bytes).expect("it is text"));
        }
    }

    /// The next event of a kind; those before it are passed over.
    async fn until(&mut self, event: &str) -> Sent {
        let wanted = async {
            loop {
                let sent = self.next().await.expect("it goes on");
                if sent.event == event {
                    return sent;
                }
            }
        };
        timeout(Duration::from_secs(60), wanted).await.unwrap_or_else(|_| panic!("no {event}"))
    }
}

#[actix_web::test]
async fn a_stream_tells_what_changes_of_jobs_and_of_runs() {
    let jobs = started([quiet("report"), quiet("other")]).await;
    let app = served(&console(&jobs)).await;
    let mut stream = Stream::open(&app, "", None).await;
    let overview = stream.until("overview").await;
    assert_eq!(overview.data["jobs"]["total"], 2);

    post(&app, "pause", &json!({"jobs": ["report"]})).await;
    let paused = stream.until("jobs").await;
    assert_eq!(paused.data["changed"][0]["name"], "report");
    assert_eq!(paused.data["changed"].as_array().expect("a list").len(), 1, "and no other");
    assert_eq!(
        paused.data["changed"][0],
        get(&app, "jobs?search=report").await.json()["jobs"][0],
        "as in the list"
    );

    post(&app, "run", &json!({"jobs": ["other"]})).await;
    let runs = stream.until("runs").await;
    assert_eq!(
        (&runs.data["runs"][0]["event"], &runs.data["runs"][0]["job"]),
        (&json!("run_started"), &json!("other"))
    );
    assert!(runs.data["runs"][0]["token"].is_string());

    post(&app, "remove", &json!({"jobs": ["other"]})).await;
    loop {
        let changed = stream.until("jobs").await;
        if changed.data["removed"] == json!(["other"]) {
            break;
        }
    }
    stop(jobs).await;
    while stream.next().await.is_some() {}
}

#[actix_web::test]
async fn a_client_that_comes_back_goes_on_where_it_was() {
    let jobs = started([quiet("a"), quiet("b"), quiet("c")]).await;
    let app = served(&console(&jobs)).await;
    let mut other = Stream::open(&app, "?views=jobs", None).await;
    let mut stream = Stream::open(&app, "?views=overview", None).await;
    let last = stream.until("overview").await.id;
    drop(stream);

    for job in ["a", "b", "c"] {
        post(&app, "pause", &json!({"jobs": [job]})).await;
        let paused = other.until("jobs").await;
        assert_eq!(paused.data["changed"][0]["name"], job);
    }

    let mut back = Stream::open(&app, "?views=jobs", Some(&last)).await;
    for job in ["a", "b", "c"] {
        assert_eq!(back.until("jobs").await.data["changed"][0]["name"], job);
    }
    let mut stranger = Stream::open(&app, "?views=jobs", Some("of-another-process-7")).await;
    assert_eq!(stranger.next().await.expect("it is told").event, "reset");
    stop(jobs).await;
}

#[actix_web::test]
async fn a_client_that_does_not_read_is_dropped_and_told() {
    let jobs = started([quiet("a")]).await;
    let app = served(&console(&jobs)).await;
    let mut slow = Stream::open(&app, "", None).await;
    let mut quick = Stream::open(&app, "", None).await;

    // More than may wait for one client.
    for number in 0..70 {
        let action = if number % 2 == 0 { "pause" } else { "resume" };
        post(&app, action, &json!({"jobs": ["a"]})).await;
        quick.until("jobs").await;
    }

    let told = slow.next().await.expect("it is told");
    assert_eq!(told.event, "dropped", "{told:?}");
    assert!(told.data["reason"].as_str().expect("a text").contains("too slow"));
    assert!(slow.next().await.is_none(), "that was the end");
    post(&app, "pause", &json!({"jobs": ["a"]})).await;
    quick.until("jobs").await;
    stop(jobs).await;
}

#[actix_web::test]
async fn no_more_streams_are_open_than_may_be() {
    let jobs = started([quiet("a")]).await;
    let app = served(&console(&jobs)).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(Stream::open(&app, "?views=runs", None).await);
    }

    let refused = get(&app, "events").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "5"), "{}", refused.text);

    streams.pop();
    Stream::open(&app, "?views=runs", None).await;
    stop(jobs).await;
}

#[test]
fn whatever_happens_a_view_sends_four_diffs_a_second_and_beats_when_nothing_does() {
    simulate("2026-01-05T00:00:00Z", async |rig| {
        let busy = (0..20).map(|number| {
            Job::new(format!("job {number}"), every(Duration::from_millis(50))).run(async |_: Run| {})
        });
        let node = rig.node(Callsheet::builder().jobs(busy)).await;
        rig.advance(Duration::from_secs(5)).await;
        let app = served(&console(&Callsheet::of_rig(&rig, node))).await;
        let mut stream = Stream::open(&app, "", None).await;
        stream.until("overview").await;

        let ends_at = tokio::time::Instant::now() + Duration::from_secs(10);
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        while let Ok(Some(sent)) = tokio::time::timeout_at(ends_at, stream.next()).await {
            *counts.entry(sent.event).or_default() += 1;
        }

        for view in ["jobs", "runs"] {
            let count = counts.get(view).copied().unwrap_or_default();
            assert!((10..=41).contains(&count), "{view}: {counts:?}");
        }
    });
}
