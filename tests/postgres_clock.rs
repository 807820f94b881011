//! The server's clock decides, whatever the node's says.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Callsheet, EventFilter, EventKind, EventName, Job,
    backend::Postgres,
    port::{Backend, Clock, SystemClock},
    schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::mpsc, time::timeout};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// The clock of a machine that is set wrongly.
#[derive(Debug, Clone, Default)]
struct Wrong {
    ahead_secs: Arc<AtomicI64>,
    /// How far the monotonic clock has run away from the server's.
    gained_secs: Arc<AtomicI64>,
    right: SystemClock,
}

impl Wrong {
    fn by(secs: i64) -> Self {
        let wrong = Self::default();
        wrong.step_to(secs);
        wrong
    }

    fn step_to(&self, secs: i64) {
        self.ahead_secs.store(secs, Ordering::Relaxed);
    }
}

impl Clock for Wrong {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() + TimeDelta::seconds(self.ahead_secs.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        let gained = u64::try_from(self.gained_secs.load(Ordering::Relaxed)).expect("it never goes back");
        self.right.elapsed() + Duration::from_secs(gained)
    }
}

fn is_about(ahead: TimeDelta, secs: i64) -> bool {
    // What a stalled round trip on a busy machine may add.
    (ahead - TimeDelta::seconds(secs)).abs() < TimeDelta::seconds(2)
}

#[tokio::test]
async fn a_session_and_its_heartbeats_measure_how_far_the_clock_is() {
    let clock = Wrong::by(600);
    let backend = Postgres::new(scope("clock"), server().url());
    backend.set_clock(Arc::new(clock.clone()));
    let locker = backend.locker();

    locker.open().await.expect("a session opens");
    assert!(is_about(locker.clock_ahead(), 600), "{} when the session opens", locker.clock_ahead());

    // What was measured is kept against the monotonic clock, so that a step is known at once.
    clock.step_to(-600);
    assert!(is_about(locker.clock_ahead(), -600), "{} after a step", locker.clock_ahead());

    // After a sleep the monotonic clock is off as well, against the server's and against the wall clock.
    clock.gained_secs.store(900, Ordering::Relaxed);
    assert!(is_about(locker.clock_ahead(), -1_500), "{} before it is measured", locker.clock_ahead());
    let measured = async {
        while !is_about(locker.clock_ahead(), -600) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, measured).await.unwrap_or_else(|_| panic!("{} after a sleep", locker.clock_ahead()));
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_fires_on_time_by_the_servers() {
    for ahead in [600, -600] {
        let (fired, mut runs) = mpsc::unbounded_channel();
        let job = Job::new("tick", every(Duration::from_millis(500))).run_with(fired, async |run, fired| {
            // The server's clock: it runs on this machine.
            let _ = fired.send((run.fire_time(), Utc::now()));
        });
        let started_at = Utc::now();
        let jobs = Callsheet::builder()
            .backend(Postgres::new(scope("wrong-clock"), server().url()))
            .clock(Wrong::by(ahead))
            .clock_offset_max(Duration::from_hours(1))
            .job(job)
            .start()
            .await
            .expect("it starts");

        for _ in 0..4 {
            let run = timeout(DEADLINE, runs.recv()).await;
            let (fire_time, ran_at) =
                run.unwrap_or_else(|_| panic!("no run with a clock {ahead} s ahead")).expect("jobs run");
            let fire_time = fire_time.expect("it is a tick");
            assert!(fire_time > started_at, "{fire_time} is before the job was added, {started_at}");
            assert!(ran_at >= fire_time, "early: {fire_time} ran at {ran_at}");
            assert!(ran_at - fire_time < TimeDelta::seconds(5), "late: {fire_time} ran at {ran_at}");
        }
        jobs.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_node_whose_clock_is_set_while_it_fires_goes_on_by_the_servers() {
    const NO_LONGER_THAN: TimeDelta = TimeDelta::seconds(5);
    let (fired, mut runs) = mpsc::unbounded_channel();
    let job = Job::new("tick", every(Duration::from_millis(200))).run_with(fired, async |run, fired| {
        let _ = fired.send((run.fire_time(), Utc::now()));
    });
    let clock = Wrong::by(0);
    let jobs = Callsheet::builder()
        .backend(Postgres::new(scope("clock-set"), server().url()))
        .clock(clock.clone())
        .clock_offset_max(Duration::from_hours(1))
        .job(job)
        .start()
        .await
        .expect("it starts");
    let mut steps = jobs.events(EventFilter::new().kinds([EventName::ClockStepped]));
    let first = timeout(DEADLINE, runs.recv()).await.expect("it fires").expect("jobs run");
    let mut last = first.0.expect("it is a tick");

    for ahead in [0, 600, -600] {
        let by = TimeDelta::seconds(ahead - clock.ahead_secs.load(Ordering::Relaxed));
        clock.step_to(ahead);
        if !by.is_zero() {
            let step = timeout(DEADLINE, steps.next()).await.expect("it is noticed").expect("it runs");
            let EventKind::ClockStepped { by: noticed } = step.kind else { panic!("{step:?}") };
            assert!((noticed - by).abs() < TimeDelta::seconds(2), "{noticed} instead of {by}");
            // What ran before the step was noticed.
            while let Ok((Some(fire_time), _)) = runs.try_recv() {
                last = last.max(fire_time);
            }
        }
        for _ in 0..4 {
            let run = timeout(DEADLINE, runs.recv()).await;
            let run = run.unwrap_or_else(|_| panic!("no run with a clock {ahead} s ahead"));
            let (fire_time, ran_at) = run.expect("jobs run");
            let fire_time = fire_time.expect("it is a tick");
            assert!(fire_time > last, "{fire_time} ran after {last}");
            assert!(fire_time - last < NO_LONGER_THAN, "nothing ran from {last} to {fire_time}");
            assert!(ran_at >= fire_time, "early: {fire_time} ran at {ran_at}");
            assert!(ran_at - fire_time < NO_LONGER_THAN, "late: {fire_time} ran at {ran_at}");
            last = fire_time;
        }
    }
    jobs.shutdown(Duration::from_secs(5)).await;
}
