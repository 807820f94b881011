//! Errors of ten megabytes by the hundred: texts are cut where they enter, and what waits is bounded in bytes
//! as well.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use callsheet::{
    ERROR_BYTES_MAX, ERROR_BYTES_MIN, Event, EventFilter, EventKind, EventName, EventStream, Events,
    HOOK_CALL_BYTES_MAX, Job, NODE_HOOK_CALL_BYTES_MAX, Operation, SUBSCRIBER_EVENT_BYTES_MAX,
    SUBSCRIBER_EVENTS_MAX, TEXT_MAX, WAITING_ERROR_BYTES_MAX,
    schedule::every,
    testkit::{Rig, simulate},
};
use futures_util::FutureExt;
use tokio::{sync::Semaphore, task::coop::unconstrained};

mod common;
use common::{hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
/// What stands behind a text that was cut.
const MARK: &str = "… (cut at 16,384 bytes)";
/// What stands behind one that found no room.
const SHORT_MARK: &str = "… (cut at 256 bytes)";
/// The longest text of an event.
const CUT: usize = TEXT_MAX + MARK.len();

/// An error of ten megabytes, of characters that take two bytes each behind one that takes one.
#[derive(Debug, Clone)]
struct Huge(Arc<str>);

impl Huge {
    fn new() -> Self {
        Self(format!("a{}", "é".repeat(5_000_000)).into())
    }
}

impl fmt::Display for Huge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Huge {}

/// A job that fails every second.
fn failing(name: &str) -> Job {
    let huge = Huge::new();
    Job::new(name, every(secs(1))).run(move |_| {
        let huge = huge.clone();
        async move { Err::<(), _>(huge) }
    })
}

async fn stream(rig: &mut Rig, node: usize, filter: EventFilter) -> EventStream {
    rig.send(node, Events(filter)).await
}

/// What waits in the stream.
fn waiting(events: &mut EventStream) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    // Outside tokio's budget, which would make it seem empty after 128 events.
    while let Some(Some(event)) = unconstrained(events.next()).now_or_never() {
        kinds.push(event.kind);
    }
    kinds
}

fn text_of(kind: &EventKind) -> Option<&str> {
    match kind {
        EventKind::RunFailed { error, .. } => Some(error),
        EventKind::LockUnavailable { reason, .. } | EventKind::LeadershipUnavailable { reason } => {
            Some(reason)
        }
        _ => None,
    }
}

fn failures(rig: &Rig) -> usize {
    rig.count(|kind| matches!(kind, EventKind::RunFailed { .. }))
}

#[test]
fn a_stream_that_nobody_reads_is_full_by_bytes() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([failing("fails")])).await;
        let kinds = [EventName::RunStarted, EventName::RunFailed];
        let filter = EventFilter::new().kinds(kinds).buffer(SUBSCRIBER_EVENTS_MAX);
        let mut unread = stream(rig, node, filter).await;

        rig.advance(secs(1_200)).await;

        let (failed, dropped) = (failures(rig), unread.dropped());
        let held = waiting(&mut unread);
        let texts: Vec<_> = held.iter().filter_map(text_of).collect();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        assert!(bytes <= SUBSCRIBER_EVENT_BYTES_MAX, "{bytes} bytes wait");
        assert!(bytes + CUT > SUBSCRIBER_EVENT_BYTES_MAX, "{bytes} bytes wait: there was room");
        assert!(dropped > 0);
        assert_eq!(texts.len() + dropped as usize, failed, "what finds no room is counted");
        assert_eq!(held.len() - texts.len(), rig.started("fails"), "what has no text finds room");
        assert_eq!(rig.counter("callsheet_events_dropped_total", ""), dropped);

        rig.advance(secs(10)).await;
        assert_eq!(waiting(&mut unread).iter().filter_map(text_of).count(), 10, "what was read makes room");
    });
}

/// A listener that is busy with its first event for hours.
struct Busy;

impl Actor for Busy {
    type Context = Context<Self>;
}

impl Handler<Event> for Busy {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Event, _: &mut Self::Context) -> Self::Result {
        Box::pin(tokio::time::sleep(hours(24)))
    }
}

#[test]
fn a_listener_that_is_slow_is_full_by_bytes() {
    simulate(START, async |rig| {
        let builder = node_with([failing("fails")]);
        let failed = EventFilter::new().kinds([EventName::RunFailed]);
        rig.drive_node(move || builder.listen_to(failed, Busy.start())).await;

        rig.advance(secs(1_200)).await;

        let held = failures(rig) as u64 - rig.counter("callsheet_events_dropped_total", "");
        let expected = (SUBSCRIBER_EVENT_BYTES_MAX / (CUT - 1)) as u64;
        assert_eq!(held, expected, "the one in hand and those that wait");
    });
}

#[test]
fn calls_of_hooks_that_wait_are_bounded_in_bytes() {
    simulate(START, async |rig| {
        let open = Arc::new(Semaphore::new(0));
        let hooked = |name: &str, until: &Arc<Semaphore>| {
            let until = until.clone();
            let job = failing(name).hook_timeout(hours(1));
            job.after_failure(move |_| {
                let until = until.clone();
                async move { until.acquire().await.map(|permit| permit.forget()) }
            })
        };
        rig.node(node_with([hooked("fails", &open)])).await;

        rig.advance(secs(200)).await;

        let dropped = |rig: &mut Rig| rig.counter("callsheet_hooks_failed_total", "reason=dropped");
        let of_job = (HOOK_CALL_BYTES_MAX / (CUT - 1)) as u64;
        assert_eq!(failures(rig) as u64 - dropped(rig), of_job, "the one that is made and those that wait");
        open.add_permits(of_job as usize);
        rig.advance(secs(10)).await;
        assert_eq!(failures(rig) as u64 - dropped(rig), of_job + 10, "what was made makes room");
    });
}

#[test]
fn calls_that_wait_for_the_hooks_of_all_jobs_are_bounded_in_bytes() {
    simulate(START, async |rig| {
        let builder = node_with((0..40).map(|nth| failing(&format!("fails-{nth}"))));
        let builder = builder.hook_timeout(hours(1));
        rig.node(builder.after_failure(async |_| std::future::pending::<()>().await)).await;

        rig.advance(secs(100)).await;

        let dropped = rig.counter("callsheet_hooks_failed_total", "reason=dropped");
        let of_node = (NODE_HOOK_CALL_BYTES_MAX / (CUT - 1)) as u64;
        assert_eq!(failures(rig) as u64 - dropped, of_node);
    });
}

/// The errors of the runs that failed, in the order in which that was said.
fn errors(rig: &Rig) -> Vec<Arc<str>> {
    let kinds = rig.events().into_iter().map(|recorded| recorded.event.kind);
    let errors = kinds.filter_map(|kind| match kind {
        EventKind::RunFailed { error, .. } => Some(error),
        _ => None,
    });
    errors.collect()
}

#[test]
fn errors_of_runs_whose_ends_wait_for_the_store_are_bounded_in_bytes() {
    const JOBS: usize = 1_500;
    simulate(START, async |rig| {
        let huge = Huge::new();
        let hourly = |name: String| {
            let huge = huge.clone();
            Job::new(name, every(hours(1))).run(move |_| {
                let huge = huge.clone();
                async move { Err::<(), _>(huge) }
            })
        };
        rig.node(node_with((0..JOBS).map(|nth| hourly(format!("fails-{nth}"))))).await;
        rig.store().refuse([Operation::Complete], "the disk is full");

        rig.advance(hours(1) + secs(60)).await;

        assert_eq!(rig.store().held(), JOBS, "none of the ends is recorded");
        rig.store().refuse_nothing();
        rig.advance(secs(60)).await;
        // What is said once the store has recorded the ends is what was kept until then.
        let said = errors(rig);
        assert_eq!(said.len(), JOBS, "no end is dropped");
        let whole = said.iter().filter(|error| error.ends_with(MARK)).count();
        assert_eq!(whole, WAITING_ERROR_BYTES_MAX / (CUT - 1), "as many as find room");
        let short = said.iter().filter(|error| error.ends_with(SHORT_MARK)).count();
        assert_eq!(whole + short, JOBS);
        let bytes: usize = said.iter().map(|error| error.len()).sum();
        let short_max = ERROR_BYTES_MIN + SHORT_MARK.len();
        assert!(bytes <= WAITING_ERROR_BYTES_MAX + JOBS * short_max, "{bytes} bytes waited");

        rig.advance(hours(1)).await;
        let next = errors(rig).split_off(JOBS);
        assert_eq!(next.len(), JOBS);
        assert!(next[..100].iter().all(|error| error.ends_with(MARK)), "what was recorded makes room");
    });
}

#[test]
fn what_a_store_says_of_many_jobs_at_once_is_bounded_in_bytes() {
    const JOBS: usize = 500;
    simulate(START, async |rig| {
        let hourly = |nth: usize| Job::new(format!("job-{nth}"), every(hours(1))).run(async |_| {});
        rig.node(node_with((0..JOBS).map(hourly))).await;
        rig.store().refuse([Operation::Claim], &Huge::new().0);

        rig.advance(hours(1) + secs(1)).await;

        let said = rig.events().into_iter().map(|recorded| recorded.event.kind);
        let said: Vec<_> = said.filter(|kind| kind.name() == EventName::LockUnavailable).collect();
        let bytes: usize = said.iter().filter_map(text_of).map(str::len).sum();
        assert!(said.len() >= JOBS, "{}", said.len());
        assert!(bytes / said.len() < 1_024, "{bytes} bytes in {} texts", said.len());
        assert!(
            said.iter().filter_map(text_of).any(|text| text.ends_with(MARK)),
            "the first is said in full"
        );
        rig.store().refuse_nothing();
        rig.advance(secs(60)).await;
    });
}

#[test]
fn an_error_is_quoted_to_as_many_bytes_as_told() {
    for (longest, mark) in [(ERROR_BYTES_MIN, SHORT_MARK), (ERROR_BYTES_MAX, "… (cut at 262,144 bytes)")] {
        simulate(START, async |rig| {
            let heard: Arc<Mutex<Vec<Arc<str>>>> = Arc::default();
            let told = heard.clone();
            let panics = Job::new("panics", every(secs(1))).limit(1).run(async |_| {
                if true {
                    std::panic::panic_any(Huge::new().0.to_string())
                }
            });
            let vetoed = Job::new("vetoed", every(secs(1))).limit(1);
            let vetoed = vetoed.before(async |_| Err::<(), _>(Huge::new())).run(async |_| {});
            let builder = node_with([failing("fails").limit(1), panics, vetoed]).error_bytes_max(longest);
            let builder = builder.after_failure(move |run| {
                told.lock().expect("no panic").extend(run.error);
                async {}
            });
            rig.node(builder).await;

            rig.advance(secs(10)).await;

            let kinds = rig.events().into_iter().map(|recorded| recorded.event.kind);
            let said = kinds.filter_map(|kind| match kind {
                EventKind::RunFailed { error: text, .. }
                | EventKind::RunPanicked { message: text, .. }
                | EventKind::RunCancelled { reason: Some(text), .. } => Some(text),
                _ => None,
            });
            let said: Vec<_> = said.chain(heard.lock().expect("no panic").drain(..)).collect();
            assert!(said.len() >= 5, "three ends, and two of them by a hook: {}", said.len());
            for text in said {
                assert!(text.ends_with(mark) && text.len() <= longest + mark.len(), "{} bytes", text.len());
            }
        });
    }
}

#[test]
fn what_a_store_says_is_cut() {
    simulate(START, async |rig| {
        // The term is to be renewed within the story.
        rig.set_lease(secs(60));
        let tick = Job::new("tick", every(secs(1))).run(async |_| {});
        let node = rig.node(node_with([tick])).await;
        rig.advance(secs(2)).await;

        rig.store().refuse([Operation::Claim, Operation::Renew, Operation::Campaign], &Huge::new().0);
        rig.advance(secs(120)).await;

        let said = rig.events().into_iter().map(|recorded| recorded.event.kind);
        let said: Vec<_> = said.filter(|kind| text_of(kind).is_some()).collect();
        for name in [EventName::LockUnavailable, EventName::LeadershipUnavailable] {
            assert!(said.iter().any(|kind| kind.name() == name), "{name}: {}", said.len());
        }
        for text in said.iter().filter_map(text_of) {
            assert!(text.ends_with(MARK) && text.len() <= CUT, "{} bytes", text.len());
        }
        let health = rig.send(node, callsheet::Health).await;
        let health = serde_json::to_string(&health).expect("it can be written");
        assert!(health.len() < 4_096, "{} bytes", health.len());
        assert!(health.contains("… (cut at 512 bytes)"), "{health}");
        rig.store().refuse_nothing();
        rig.advance(secs(60)).await;
    });
}
