//! A node that is not fit to lead leaves the lead to another one.

use std::{
    fmt,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Context, Handler};
use callsheet::{
    BodyThreads, Builder, Callsheet, Event, EventKind, HealthReport, Job, NodeId, Outcome, Problem,
    StepDownReason,
    schedule::{Schedule, every},
    testkit::{SharedStore, VirtualClock, fakes::Period, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

mod common;
use common::{node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

#[test]
fn a_leader_whose_clock_is_far_off_leaves_the_lead_to_another_node() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let tick = || Job::new("tick", every(secs(1))).run(async |_| {});
        let first = rig.node(node_with([tick()])).await;
        rig.advance(secs(10)).await;
        let second = rig.node(node_with([tick()])).await;
        rig.advance(secs(10)).await;

        rig.set_skew(first, TimeDelta::minutes(6));
        rig.advance(secs(60)).await;

        assert_eq!(rig.store().leader(), Some(rig.id(second)));
        let clock_offset = |kind: &EventKind| {
            matches!(kind, EventKind::LeadershipLost { why: StepDownReason::ClockOffset, .. })
        };
        assert_eq!(rig.count(clock_offset), 1);
        assert!(rig.started("tick") >= 79, "the tick of the hand-over is made up for: {}", rig.transcript());

        rig.kill(second);
        rig.advance(secs(60)).await;
        assert_eq!(rig.store().leader(), None, "nobody rather than one whose clock is wrong");
        let refused = |kind: &EventKind| {
            matches!(kind, EventKind::LeadershipUnavailable { reason }
                if reason.contains("6m ahead of the store's"))
        };
        assert!(rig.count(refused) > 0, "{}", rig.transcript());

        rig.set_skew(first, TimeDelta::minutes(-4));
        rig.advance(secs(60)).await;
        assert_eq!(rig.store().leader(), Some(rig.id(first)), "within the bound it leads");
    });
}

/// A schedule that blocks its thread while it is told to.
#[derive(Debug)]
struct Blocking {
    blocked: Mutex<bool>,
    changed: Condvar,
    asked: AtomicBool,
}

impl Blocking {
    fn set(&self, blocked: bool) {
        *self.blocked.lock().expect("nobody panicked") = blocked;
        self.changed.notify_all();
    }
}

#[derive(Debug)]
struct Blocked(Arc<Blocking>);

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule that blocks its thread")
    }
}

const PERIOD: Period = Period(TimeDelta::milliseconds(100));

impl Schedule for Blocked {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.asked.store(true, Ordering::Relaxed);
        let blocked = self.0.blocked.lock().expect("nobody panicked");
        drop(self.0.changed.wait_while(blocked, |blocked| *blocked).expect("nobody panicked"));
        PERIOD.next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        PERIOD.previous_before(before)
    }
}

/// Passes the events of a node on.
struct Told(mpsc::UnboundedSender<EventKind>);

impl Actor for Told {
    type Context = Context<Self>;
}

impl Handler<Event> for Told {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        // The test is over.
        let _ = self.0.send(event.kind);
    }
}

async fn told(events: &mut mpsc::UnboundedReceiver<EventKind>, which: impl Fn(&EventKind) -> bool) {
    let deadline = tokio::time::timeout(secs(60), async {
        while !which(&events.recv().await.expect("the node runs")) {}
    });
    deadline.await.expect("it happens");
}

#[actix_rt::test]
async fn a_leader_whose_threads_are_stuck_leaves_the_lead_to_another_node() {
    let clock = VirtualClock::starting_at(Utc::now());
    let store = SharedStore::new(clock.clone()).with_lease(secs(1));
    let node = |builder: Builder| {
        let (sender, events) = mpsc::unbounded_channel();
        let backend = store.backend(NodeId::random(), clock.clone());
        let builder = builder.arbiters(1).clock(clock.clone()).backend(backend);
        (builder.listen(Told(sender).start()), events)
    };
    let job = |schedule: &Arc<Blocking>| Job::new("stuck", Blocked(schedule.clone())).run(async |_| {});
    let fine =
        || Blocking { blocked: Mutex::new(false), changed: Condvar::new(), asked: AtomicBool::new(false) };
    let (stuck, free) = (Arc::new(fine()), Arc::new(fine()));
    let (first, mut of_first) = node(Callsheet::builder().job(job(&stuck)));
    let first = first.start().await.expect("it starts");
    told(&mut of_first, |kind| matches!(kind, EventKind::RunStarted { .. })).await;
    let (second, mut of_second) = node(Callsheet::builder().job(job(&free)));
    let second = second.start().await.expect("it starts");

    stuck.set(true);

    let stalled =
        |kind: &EventKind| matches!(kind, EventKind::LeadershipLost { why: StepDownReason::Stalled, .. });
    told(&mut of_first, stalled).await;
    told(&mut of_second, |kind| matches!(kind, EventKind::RunStarted { .. })).await;

    stuck.set(false);
    second.shutdown(Duration::ZERO).await;
    told(&mut of_first, |kind| matches!(kind, EventKind::RunStarted { .. })).await;
    first.shutdown(Duration::ZERO).await;
}

/// Waits on its thread while it is told to.
fn wait_on_thread(blocking: &Blocking) {
    let blocked = blocking.blocked.lock().expect("nobody panicked");
    drop(blocking.changed.wait_while(blocked, |blocked| *blocked).expect("nobody panicked"));
}

/// A node of the store, with jobs that wait on their threads while they are told to, on one thread of each
/// kind.
fn node_of(
    (store, clock): (&SharedStore, &VirtualClock),
    jobs: impl IntoIterator<Item = Job>,
) -> (Builder, mpsc::UnboundedReceiver<EventKind>) {
    let (sender, events) = mpsc::unbounded_channel();
    let backend = store.backend(NodeId::random(), clock.clone());
    let builder = Callsheet::builder().body_threads(1).local_body_threads(1).blocking_threads(1);
    (builder.clock(clock.clone()).backend(backend).jobs(jobs).listen(Told(sender).start()), events)
}

/// How a job waits on a thread of a kind.
type Waits = fn(&str, &Arc<Blocking>) -> Job;

const KINDS: [(BodyThreads, Waits); 3] = [
    (BodyThreads::Body, |name, blocking| {
        let blocking = blocking.clone();
        Job::new(name, PERIOD).run(move |_| {
            let blocking = blocking.clone();
            async move { wait_on_thread(&blocking) }
        })
    }),
    (BodyThreads::Blocking, |name, blocking| {
        let blocking = blocking.clone();
        Job::new(name, PERIOD).run_blocking(move |_| wait_on_thread(&blocking))
    }),
    (BodyThreads::Local, |name, blocking| {
        let blocking = blocking.clone();
        Job::new(name, PERIOD).run_local(move |_| {
            let blocking = blocking.clone();
            async move { wait_on_thread(&blocking) }
        })
    }),
];

#[actix_rt::test]
async fn a_leader_whose_bodies_are_blocked_yields_to_a_node_that_is_free() {
    for (threads, waits) in KINDS {
        yields_while_blocked(threads, waits).await;
    }
}

async fn yields_while_blocked(threads: BodyThreads, waits: Waits) {
    let clock = VirtualClock::starting_at(Utc::now());
    let store = SharedStore::new(clock.clone()).with_lease(secs(1));
    // Two jobs that need the same thread: one has it, the other waits for it.
    let node = |blocking: &Arc<Blocking>| {
        node_of((&store, &clock), [waits("blocks", blocking), waits("tick", blocking)])
    };
    let ticked =
        |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { job, .. } if job.as_str() == "tick");
    let fine =
        || Blocking { blocked: Mutex::new(false), changed: Condvar::new(), asked: AtomicBool::new(false) };
    let (stuck, free) = (Arc::new(fine()), Arc::new(fine()));
    let (first, mut of_first) = node(&stuck);
    let first = first.start().await.expect("it starts");
    told(&mut of_first, ticked).await;
    stuck.set(true);
    // Alone it keeps the lead, and says what is wrong.
    let deadline = tokio::time::timeout(secs(60), async {
        while blocked(&first.health().await.expect("it runs")) != [threads] {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    deadline.await.unwrap_or_else(|_| panic!("it shows: {threads:?}"));
    assert!(first.health().await.expect("it runs").term.is_some(), "there is nobody else");

    let (second, mut of_second) = node(&free);
    let second = second.start().await.expect("it starts");

    let gave_up = |kind: &EventKind| {
        matches!(kind, EventKind::LeadershipLost { why: StepDownReason::BodiesBlocked, .. })
    };
    told(&mut of_first, gave_up).await;
    // Runs that the first claimed, and that wait for its thread, keep their keys.
    told(&mut of_second, |kind| matches!(kind, EventKind::LeadershipGained { .. })).await;
    assert_eq!(blocked(&second.health().await.expect("it runs")), []);

    stuck.set(false);
    second.shutdown(Duration::ZERO).await;
    told(&mut of_first, |kind| matches!(kind, EventKind::LeadershipGained { .. })).await;
    told(&mut of_first, ticked).await;
    assert_eq!(blocked(&first.health().await.expect("it runs")), []);
    first.shutdown(Duration::ZERO).await;
}

#[actix_rt::test]
async fn threads_that_are_all_taken_are_no_problem_while_no_body_waits() {
    let clock = VirtualClock::starting_at(Utc::now());
    let store = SharedStore::new(clock.clone()).with_lease(secs(1));
    let stuck = Arc::new(Blocking {
        blocked: Mutex::new(true),
        changed: Condvar::new(),
        asked: AtomicBool::new(false),
    });
    let (_, waits) = KINDS[1];
    let (node, mut events) = node_of((&store, &clock), [waits("long", &stuck)]);
    let node = node.start().await.expect("it starts");
    told(&mut events, |kind| matches!(kind, EventKind::RunStarted { .. })).await;

    tokio::time::sleep(secs(3)).await;

    assert_eq!(blocked(&node.health().await.expect("it runs")), [], "it may take as long as it wants");
    stuck.set(false);
    node.shutdown(Duration::ZERO).await;
}

#[actix_rt::test]
async fn a_body_that_is_given_up_while_it_waits_for_a_thread_waits_no_more() {
    let clock = VirtualClock::starting_at(Utc::now());
    let store = SharedStore::new(clock.clone()).with_lease(secs(1));
    let stuck = Arc::new(Blocking {
        blocked: Mutex::new(true),
        changed: Condvar::new(),
        asked: AtomicBool::new(false),
    });
    let (_, waits) = KINDS[1];
    let queued = Job::new("queued", every(secs(3_600))).abort_after(Duration::ZERO).run_blocking(|_| {});
    let (node, mut events) = node_of((&store, &clock), [waits("long", &stuck), queued]);
    let node = node.start().await.expect("it starts");
    told(&mut events, |kind| matches!(kind, EventKind::RunStarted { .. })).await;

    let queued = node.trigger("queued").await.expect("it starts");
    node.cancel_run(queued.run()).await.expect("it is in progress");
    assert_eq!(queued.finished().await, Outcome::Cancelled);
    tokio::time::sleep(secs(3)).await;

    assert_eq!(blocked(&node.health().await.expect("it runs")), [], "nobody waits");
    stuck.set(false);
    node.shutdown(Duration::ZERO).await;
}

/// The threads on which no body starts.
fn blocked(report: &HealthReport) -> Vec<BodyThreads> {
    let threads = |problem: &Problem| match problem {
        Problem::BodiesBlocked { threads, .. } => Some(*threads),
        _ => None,
    };
    report.problems.iter().filter_map(threads).collect()
}
