//! A clock that is set, or that drifts, and a machine that sleeps: every timer is right again at once, and no tick is lost or
//! doubled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Context, Handler};
use callsheet::{
    Callsheet, Event, EventKind, Fires, Job, JobState,
    port::{Clock, SystemClock},
    schedule::every,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use tokio::sync::mpsc;

mod common;
use common::{hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// A job that the leader fires by the store's clock, and one that each node fires by its own.
fn led_and_local(period: Duration) -> [Job; 2] {
    let led = Job::new("led", every(period)).run(async |_| {});
    [led, Job::new("local", every(period)).fires(Fires::Local).run(async |_| {})]
}

fn stepped(kind: &EventKind) -> bool {
    matches!(kind, EventKind::ClockStepped { .. })
}

/// How late the runs of a job were.
fn lateness(rig: &Rig, name: &str) -> Vec<Duration> {
    let late = |kind| match kind {
        EventKind::RunStarted { job, lateness, .. } if job.as_str() == name => Some(lateness),
        _ => None,
    };
    rig.events().into_iter().filter_map(|recorded| late(recorded.event.kind)).collect()
}

/// Behaviour 72 of gocron's tests: what is planned is compared by the wall clock, what is measured by the monotonic
/// one.
#[test]
fn the_story_of_a_clock_that_is_set_and_of_a_machine_that_sleeps() {
    simulate(START, async |rig| {
        let node = rig.node(node_with(led_and_local(hours(1)))).await;

        rig.advance(mins(10)).await;
        rig.set_skew(node, TimeDelta::minutes(4));
        rig.advance(mins(60)).await;
        rig.set_skew(node, TimeDelta::zero());
        rig.advance(mins(50) + secs(30)).await;
        // Back over a fire time that has passed, and over it again.
        rig.set_skew(node, TimeDelta::minutes(-1));
        rig.advance(mins(9) + secs(30)).await;
        rig.set_skew(node, TimeDelta::zero());
        rig.advance(mins(20)).await;
        // Too late for any of three fire times, and in time for one.
        rig.suspend(TimeDelta::hours(3));
        rig.advance(mins(40)).await;
        rig.suspend(TimeDelta::minutes(52));
        rig.advance(mins(60)).await;

        assert_eq!(rig.counter("callsheet_clock_steps_total", ""), 6);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "job=led"), 8);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "job=local"), 8);
        common::assert_transcript(rig, include_str!("transcripts/clock_steps.txt"));
    });
}

#[test]
fn a_clock_that_drifts_is_corrected_before_anybody_notices() {
    for ppm in [1_000, -1_000] {
        simulate(START, async |rig| {
            let node = rig.node(node_with(led_and_local(hours(1)))).await;
            rig.set_drift(node, ppm);

            rig.advance(hours(10) + mins(1)).await;

            // 36 s in ten hours, at most 100 ms at a time.
            let steps = rig.count(stepped);
            assert!((300..=360).contains(&steps), "{ppm} ppm: {steps}");
            for (job, bound) in [("led", 5), ("local", 110)] {
                let late = lateness(rig, job);
                assert_eq!(late.len(), 10, "{ppm} ppm: {job}");
                let most = late.iter().max().expect("ten runs");
                assert!(*most <= Duration::from_millis(bound), "{ppm} ppm: {job} is {most:?} late");
            }
            assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 20);
        });
    }
}

#[test]
fn jobs_under_election_follow_the_stores_clock_when_that_is_set() {
    simulate(START, async |rig| {
        let [led, _] = led_and_local(hours(1));
        rig.node(node_with([led])).await;
        rig.advance(mins(30)).await;

        rig.set_store_skew(TimeDelta::minutes(2));
        rig.advance(mins(29)).await;
        assert_eq!(rig.started("led"), 1, "it is one o'clock in the store");
        rig.set_store_skew(TimeDelta::minutes(-2));
        rig.advance(mins(2)).await;
        assert_eq!(rig.started("led"), 1, "one o'clock comes once");
        rig.advance(hours(1)).await;

        let late = lateness(rig, "led");
        assert!(late.iter().all(|late| *late <= Duration::from_millis(5)), "{late:?}");
        assert_eq!((late.len(), rig.count(stepped)), (1, 0), "{}", rig.transcript());
        rig.advance(mins(1)).await;
        assert_eq!(rig.started("led"), 2, "at two by the store's clock");
    });
}

/// The clock of a machine that somebody sets.
#[derive(Debug, Clone, Default)]
struct Settable {
    ahead_millis: Arc<AtomicI64>,
    right: SystemClock,
}

impl Settable {
    fn set(&self, at: DateTime<Utc>) {
        self.ahead_millis.store((at - self.right.now()).num_milliseconds(), Ordering::Relaxed);
    }
}

impl Clock for Settable {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() + TimeDelta::milliseconds(self.ahead_millis.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.right.elapsed()
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

/// In real time: the engine looks at its clocks by itself, on threads of its own.
#[actix_rt::test]
async fn on_the_embedded_backend_a_step_is_noticed_at_once_by_every_job() {
    let clock = Settable::default();
    // Half past, so that nothing is due whenever the test runs.
    let today = Utc::now().date_naive();
    let at = |hour, minute| today.and_hms_opt(hour, minute, 0).expect("a time").and_utc();
    clock.set(at(10, 30));
    let (sender, mut events) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder()
        .clock(clock.clone())
        .jobs(led_and_local(hours(1)))
        .listen(Told(sender).start())
        .start()
        .await
        .expect("it starts");
    // A job owes ticks from its enrolment on, of which no event tells.
    let enrolled = async {
        let state = async || jobs.details("led").await.expect("it runs").map(|led| led.state);
        while state().await != Some(JobState::Scheduled) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(secs(60), enrolled).await.expect("it leads");

    for hour in [11, 12] {
        clock.set(at(hour, 0));
        let told = async {
            let (mut steps, mut ran, mut ended) = (Vec::new(), Vec::new(), 0);
            while ended < 2 {
                match events.recv().await.expect("the node runs") {
                    EventKind::ClockStepped { by } => steps.push(by),
                    EventKind::RunStarted { job, fire_time, .. } => ran.push((job, fire_time)),
                    EventKind::RunSucceeded { .. } => ended += 1,
                    _ => {}
                }
            }
            (steps, ran)
        };
        let (steps, mut ran) = tokio::time::timeout(secs(60), told).await.expect("it happens");
        ran.sort();
        let ran: Vec<_> =
            ran.iter().map(|(job, at)| (job.as_str(), at.map(|at| at.instant().hour()))).collect();
        assert_eq!(ran, [("led", Some(hour)), ("local", Some(hour))]);
        assert!(matches!(steps[..], [by] if by > TimeDelta::minutes(25)), "{steps:?}");
    }

    // Back to half past ten: what ran does not run again, and the engine says that it noticed.
    clock.set(at(10, 30));
    let back = async {
        loop {
            match events.recv().await.expect("the node runs") {
                EventKind::ClockStepped { by } => return by,
                EventKind::RunStarted { job, fire_time, .. } => panic!("{job} ran {fire_time:?} again"),
                _ => {}
            }
        }
    };
    let by = tokio::time::timeout(secs(60), back).await.expect("it happens");
    assert!(by < TimeDelta::minutes(-85), "{by}");
    jobs.shutdown(Duration::ZERO).await;
}
