//! The stream of events.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use actix_web::{
    body::{BoxBody, MessageBody},
    test::TestRequest,
};
use callsheet::{Callsheet, Job, Run, console::STREAMS_MAX, schedule::every, testkit::simulate};
use futures_util::future::poll_fn;
use serde_json::{Value, json};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, timeout, timeout_at},
};

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
    /// How many heartbeats came.
    beats: usize,
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
        Self { body: Box::pin(response.into_body()), text: String::new(), beats: 0 }
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
                let block_beats = block == ": heartbeat";
                self.text = rest.to_owned();
                if sent.event.is_empty() {
                    self.beats += usize::from(block_beats);
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
    // What was told before may be of the start.
    let paused = loop {
        let changed = stream.until("jobs").await.data["changed"].clone();
        if changed[0]["state"] == "paused" {
            break changed;
        }
    };
    assert_eq!(
        (&paused[0]["name"], paused.as_array().map(Vec::len)),
        (&json!("report"), Some(1)),
        "and no other"
    );
    assert_eq!(paused[0], get(&app, "jobs?search=report").await.json()["jobs"][0], "as in the list");

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
    assert_eq!(stream.next().await.expect("it is told").event, "reset", "to read after it is connected");
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

#[test]
fn a_client_that_does_not_read_is_dropped_and_told() {
    on_virtual_time([quiet("a")], async |app| {
        let mut slow = Stream::open(&app, "", None).await;
        let mut quick = Stream::open(&app, "", None).await;
        quick.until("overview").await;

        // More than may wait for one client.
        for number in 0..70 {
            let action = if number % 2 == 0 { "pause" } else { "resume" };
            assert_eq!(post(&app, action, &json!({"jobs": ["a"]})).await.status, 200);
            quick.until("jobs").await;
        }

        let told = slow.next().await.expect("it is told");
        assert_eq!(told.event, "dropped", "{told:?}");
        assert!(told.data["reason"].as_str().expect("a text").contains("too slow"));
        assert!(slow.next().await.is_none(), "that was the end");
        post(&app, "pause", &json!({"jobs": ["a"]})).await;
        quick.until("jobs").await;
    });
}

#[actix_web::test]
async fn the_first_reset_names_all_views() {
    let jobs = started([quiet("a")]).await;
    let app = served(&console(&jobs)).await;
    let mut stream = Stream::open(&app, "?views=runs", None).await;
    assert_eq!(stream.until("reset").await.data["views"], json!(["overview", "jobs", "runs"]));
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

/// A console over a node of a rig, where waiting takes no time.
fn on_virtual_time(jobs: impl IntoIterator<Item = Job>, story: impl AsyncFnOnce(Served)) {
    simulate("2026-01-05T00:00:00Z", async |rig| {
        let node = rig.node(Callsheet::builder().jobs(jobs)).await;
        rig.advance(Duration::from_secs(5)).await;
        let jobs = Callsheet::of_rig(rig, node);
        let served = async { story(served(&console(&jobs)).await).await };
        LocalSet::new().run_until(served).await;
    });
}

#[test]
fn whatever_happens_a_view_sends_at_most_four_diffs_a_second() {
    let busy =
        |number| Job::new(format!("job {number}"), every(Duration::from_millis(50))).run(async |_: Run| {});
    on_virtual_time((0..20).map(busy), async |app| {
        let mut stream = Stream::open(&app, "", None).await;
        stream.until("overview").await;

        let ends_at = Instant::now() + Duration::from_secs(10);
        let mut counts = BTreeMap::<String, u32>::new();
        while let Ok(Some(sent)) = timeout_at(ends_at, stream.next()).await {
            *counts.entry(sent.event).or_default() += 1;
        }

        for view in ["jobs", "runs"] {
            let count = counts.get(view).copied().unwrap_or_default();
            assert!((20..=41).contains(&count), "{view}: {counts:?}");
        }
    });
}

#[test]
fn a_stream_beats_while_nothing_happens_and_ends_to_ask_again_who_it_is() {
    on_virtual_time([quiet("a")], async |app| {
        let mut stream = Stream::open(&app, "?views=runs", None).await;
        let opened = Instant::now();

        while stream.next().await.is_some() {}

        let minutes = opened.elapsed().as_secs_f64() / 60.0;
        assert!((14.9..15.1).contains(&minutes), "{minutes} min");
        assert!(stream.beats >= 58, "every 15 s: {}", stream.beats);
    });
}

#[test]
fn of_more_jobs_that_are_overdue_than_are_named_all_are_counted() {
    let late = |number| quiet(&format!("job {number:02}")).expect_success_within(Duration::from_secs(1));
    on_virtual_time((0..12).map(late), async |app| {
        sleep(Duration::from_mins(1)).await;

        let overview = get(&app, "overview").await.json();
        let counts = ["overdue_total", "overdue_unnamed", "attention_total"].map(|count| &overview[count]);
        assert_eq!(counts, [12, 2, 10], "{overview:#}");
        let jobs = get(&app, "jobs?state=overdue").await.json();
        assert_eq!((&jobs["matched"], &jobs["overdue_unnamed"]), (&json!(10), &json!(2)));
    });
}

#[test]
fn a_run_of_a_cluster_is_told_with_its_token_and_term_as_texts() {
    let often = Job::new("a", every(Duration::from_secs(1))).run(async |_: Run| {});
    on_virtual_time([often], async |app| {
        let run = get(&app, "runs?limit=1").await.json()["runs"][0].clone();
        assert!(run["token"].is_string() && run["term"].is_string(), "{run:#}");
        let overview = get(&app, "overview").await.json();
        assert!(overview["term"].is_string() && overview["role"] == "leader", "{overview:#}");
    });
}
