//! A clock that is set, or that drifts, and a machine that sleeps: every timer is right again at once, and no
//! tick is lost or doubled.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
        mpsc::Receiver,
    },
    thread::{self, ThreadId},
    time::Duration,
};

use actix::{Actor, Context, Handler};
use callsheet::{
    Callsheet, Event, EventKind, Fires, Job, JobState, Misfire, PauseJobs, RemoveJobs, Retry, RunError,
    port::{Clock, Schedule, SystemClock},
    schedule::{at, every},
    testkit::{Rig, simulate},
};
use chrono::{DateTime, DurationRound, NaiveTime, TimeDelta, Timelike, Utc};
use tokio::sync::mpsc;

mod common;
use common::{hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

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

/// What is planned is compared by the wall clock, what is measured by the monotonic
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
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=led"), 8);
        assert_eq!(rig.counter("callsheet_ticks_due_total", "name=local"), 8);
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

fn at_day(day: i64, time: &str) -> DateTime<Utc> {
    let midnight: DateTime<Utc> = START.parse().expect("an instant");
    midnight
        + TimeDelta::days(day)
        + time.parse::<NaiveTime>().expect("a time").signed_duration_since(NaiveTime::MIN)
}

/// A job that is due once.
fn once(name: &str, fires: Fires, instant: DateTime<Utc>) -> Job {
    Job::new(name, at(instant)).fires(fires).run(async |_| {})
}

/// More jobs than are woken up at a time, by the names `m-0000` and so on: three days ahead.
fn crowd() -> impl Iterator<Item = Job> {
    (0..3_500).map(|nth| once(&format!("m-{nth:04}"), Fires::Local, at_day(4, "00:00:00")))
}

/// The jobs whose runs started, in that order, and the longest lateness of one.
fn started(rig: &Rig) -> (Vec<String>, Duration) {
    let mut longest = Duration::ZERO;
    let mut started = |kind| match kind {
        EventKind::RunStarted { job, lateness, .. } => {
            longest = longest.max(lateness);
            Some(job.to_string())
        }
        _ => None,
    };
    let jobs = rig.events().into_iter().filter_map(|recorded| started(recorded.event.kind)).collect();
    (jobs, longest)
}

fn assert_on_time(rig: &Rig, jobs: &[&str]) {
    let (started, longest) = started(rig);
    assert_eq!(started, jobs);
    assert!(longest <= Duration::from_millis(5), "one is {longest:?} late");
}

#[test]
fn after_a_step_those_who_are_due_start_in_the_order_of_their_fire_times() {
    for fires in [Fires::Local, Fires::Leader] {
        simulate(START, async |rig| {
            let due = |nth: i64| at_day(0, "12:00:00") + TimeDelta::milliseconds(100 * nth);
            // The later in the order of names, the sooner.
            let jobs = (0..40).map(|nth| once(&format!("j-{nth:02}"), fires, due(40 - nth)));
            let node = rig.node(node_with(jobs)).await;
            rig.advance(mins(1)).await;

            match fires {
                Fires::Local => rig.set_skew(node, TimeDelta::hours(12)),
                _ => rig.set_store_skew(TimeDelta::hours(12)),
            }
            rig.advance(mins(1)).await;

            let soonest_first: Vec<_> = (0..40).rev().map(|nth| format!("j-{nth:02}")).collect();
            assert_eq!(started(rig).0, soonest_first, "{fires:?}");
        });
    }
}

/// Timers are armed for a day at most, and the step is of two.
#[test]
fn after_a_step_very_many_timers_are_right_before_their_jobs_are_due() {
    simulate(START, async |rig| {
        // Sooner than the last of the others are woken up, as soon as the last of them are, and after all of
        // them.
        let probes = [
            ("z-1", "00:00:00.100"),
            ("z-2", "00:00:15"),
            ("z-3", "00:00:29.9"),
            ("a-4", "00:00:30.1"),
            ("z-5", "00:00:40"),
        ];
        let due = probes.map(|(name, time)| once(name, Fires::Local, at_day(2, time)));
        let node = rig.node(node_with(crowd().chain(due))).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::days(2) - TimeDelta::seconds(10));
        rig.advance(secs(50)).await;

        assert_on_time(rig, &probes.map(|(name, _)| name));
        // And back: nobody is early, and who ran does not run again.
        rig.set_skew(node, TimeDelta::zero());
        rig.advance(hours(1)).await;
        assert_eq!((rig.count(stepped), rig.started("z-5")), (2, 1));
        assert_on_time(rig, &probes.map(|(name, _)| name));
    });
}

#[test]
fn a_second_step_while_timers_are_armed_anew_starts_over() {
    simulate(START, async |rig| {
        let probes = [
            ("a-wall", Fires::Local),
            ("b-store", Fires::Leader),
            ("z-wall", Fires::Local),
            ("z-store", Fires::Leader),
        ];
        let due = probes.map(|(name, fires)| once(name, fires, at_day(2, "00:00:40")));
        rig.set_lease(secs(3));
        let node = rig.node(node_with(crowd().chain(due))).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::days(1));
        // The first page of four is done.
        rig.advance(Duration::from_millis(75)).await;
        rig.set_skew(node, TimeDelta::days(2) - TimeDelta::seconds(10));
        // Again; now the store's clock moves, which is measured by the next heartbeat.
        rig.set_store_skew(TimeDelta::days(2) - TimeDelta::seconds(10));
        rig.advance(secs(45)).await;

        let (mut started, longest) = started(rig);
        started.sort();
        assert_eq!(started, ["a-wall", "b-store", "z-store", "z-wall"]);
        assert!(longest <= Duration::from_millis(5), "one is {longest:?} late");
    });
}

#[test]
fn jobs_come_change_and_go_while_timers_are_armed_anew() {
    simulate(START, async |rig| {
        let late = once("z-late", Fires::Local, at_day(2, "00:00:35"));
        let changed = once("z-changed", Fires::Local, at_day(3, "12:00:00"));
        let removed = once("z-removed", Fires::Local, at_day(2, "00:00:36"));
        let node = rig.node(node_with(crowd().chain([late, changed, removed]))).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::days(2) - TimeDelta::seconds(10));
        rig.advance(Duration::from_millis(75)).await;
        // One that was woken up last before the pause goes, and so does everybody around it.
        let around: Vec<_> =
            (1_990..2_010).map(|nth| format!("m-{nth:04}")).chain(["z-removed".to_owned()]).collect();
        for name in &around {
            rig.send(node, RemoveJobs(name.as_str().into())).await.expect("it is there");
        }
        rig.add(node, once("b-new", Fires::Local, at_day(2, "00:00:33"))).await.expect("it is new");
        rig.update(node, once("z-changed", Fires::Local, at_day(2, "00:00:34"))).await.expect("it is there");
        rig.advance(secs(50)).await;

        assert_on_time(rig, &["b-new", "z-changed", "z-late"]);
    });
}

#[test]
fn a_step_moves_the_end_of_a_pause_and_not_the_next_attempt() {
    simulate(START, async |rig| {
        let paused =
            Job::new("paused", every(mins(1))).fires(Fires::Local).misfire(Misfire::Skip).run(async |_| {});
        let retry = Retry::attempts(2).initial(mins(5)).jitter(0.0);
        let failing = Job::new("failing", at(at_day(0, "00:01:00"))).fires(Fires::Local).retry(retry);
        let failing = failing.run(async |_| Err::<(), _>(RunError::from("not yet")));
        let node = rig.node(node_with([paused, failing])).await;
        let until = Some(at_day(0, "00:30:30"));
        rig.send(node, PauseJobs::new("paused").until(until)).await.expect("it is there");
        rig.advance(mins(2)).await;

        rig.set_skew(node, TimeDelta::minutes(28));
        let retried = |rig: &Rig| rig.count(|kind| matches!(kind, EventKind::RunFailed { .. }));
        rig.advance(mins(1) + secs(1)).await;
        assert_eq!(rig.started("paused"), 1, "at 00:31 by the clock that was set");
        assert_on_time(rig, &["failing", "paused"]);
        assert_eq!(retried(rig), 0);
        rig.advance(mins(3)).await;
        assert_eq!(retried(rig), 1, "five minutes after it failed");
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

/// A clock that stands so, and the times of its day: nothing is due whenever the test runs.
fn half_past_ten() -> (Settable, impl Fn(u32, u32) -> DateTime<Utc>) {
    let clock = Settable::default();
    let today = Utc::now().date_naive();
    let at = move |hour, minute| today.and_hms_opt(hour, minute, 0).expect("a time").and_utc();
    clock.set(at(10, 30));
    (clock, at)
}

/// In real time: the engine looks at its clocks by itself, on threads of its own.
#[actix_rt::test]
async fn on_the_embedded_backend_a_step_is_noticed_at_once_by_every_job() {
    let (clock, at) = half_past_ten();
    let (sender, mut events) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder()
        .clock(clock.clone())
        .jobs(led_and_local(hours(1)))
        .listen(Told(sender).start())
        .start()
        .await
        .expect("it starts");
    // The ticks of a job count from its enrolment on, of which no event tells.
    let enrolled = async {
        let state = async || jobs.details("led").await.expect("it is there").state;
        while state().await != JobState::Scheduled {
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

/// On every full hour; whoever asks on a thread of the jobs must wait, the first time.
#[derive(Debug)]
struct Slow {
    /// That of the supervisor, which asks first of all.
    checked_on: OnceLock<ThreadId>,
    asked: mpsc::UnboundedSender<()>,
    go_on: Mutex<Option<Receiver<()>>>,
}

impl Slow {
    fn wait(&self) {
        let current = thread::current().id();
        if *self.checked_on.get_or_init(|| current) == current {
            return;
        }
        let first = self.go_on.lock().expect("nobody panics").take();
        if let Some(go_on) = first {
            self.asked.send(()).expect("the test waits for it");
            go_on.recv_timeout(secs(60)).expect("the test goes on");
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every full hour")
    }
}

impl Schedule for Slow {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.wait();
        after.duration_trunc(TimeDelta::hours(1)).ok().map(|hour| hour + TimeDelta::hours(1))
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let before = before - TimeDelta::milliseconds(1);
        before.duration_trunc(TimeDelta::hours(1)).ok()
    }
}

/// In real time: the supervisor looks for wrong timers while the job has read its clock and not armed its
/// timer yet.
#[actix_rt::test]
async fn a_timer_that_is_armed_just_when_the_clock_is_set_is_right() {
    let (clock, at) = half_past_ten();
    let (sender, mut events) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder()
        .clock(clock.clone())
        .job(Job::new("j", every(hours(100))).fires(Fires::Local).run(async |_| {}))
        .listen(Told(sender).start())
        .start()
        .await
        .expect("it starts");

    let (asked, mut is_asked) = mpsc::unbounded_channel();
    let (go_on, waits) = std::sync::mpsc::channel();
    let slow = Slow { checked_on: OnceLock::new(), asked, go_on: Mutex::new(Some(waits)) };
    let changed = Job::new("j", slow).fires(Fires::Local).run(async |_| {});
    jobs.update(changed).await.expect("it is there");
    tokio::time::timeout(secs(60), is_asked.recv()).await.expect("the job asks").expect("it is there");
    clock.set(at(11, 0));
    let happened = async |events: &mut mpsc::UnboundedReceiver<EventKind>, what: fn(&EventKind) -> bool| {
        let happens = async { while !what(&events.recv().await.expect("the node runs")) {} };
        tokio::time::timeout(secs(60), happens).await.expect("it happens");
    };
    happened(&mut events, stepped).await;
    // It answers when it has looked at all timers.
    jobs.details("nobody").await.expect_err("there is none");
    go_on.send(()).expect("the job waits");

    happened(&mut events, |kind| matches!(kind, EventKind::RunStarted { .. })).await;
    jobs.shutdown(Duration::ZERO).await;
}

#[test]
fn a_clock_that_is_ahead_does_not_starve_a_job_with_a_shorter_period() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("tick", every(secs(1))).run(async |_| {})])).await;
        rig.set_skew(node, TimeDelta::milliseconds(1_500));

        rig.advance(ms(30_500)).await;

        assert!(rig.started("tick") >= 25, "{} of 30 ticks started", rig.started("tick"));
    });
}

#[test]
fn a_clock_that_is_ahead_skips_no_tick_before_it_is_due() {
    simulate(START, async |rig| {
        let job = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(7)).await);
        let node = rig.node(node_with([job])).await;
        rig.set_skew(node, TimeDelta::seconds(5));

        rig.advance(secs(99)).await;

        assert_eq!(
            rig.counter("callsheet_ticks_total", "outcome=overlap"),
            0,
            "no run is longer than the period"
        );
        assert_eq!(rig.started("long"), 9);
    });
}

#[test]
fn a_clock_that_stepped_forward_is_noticed_before_the_old_timer_ends() {
    simulate(START, async |rig| {
        let daily = Job::new("daily", every(hours(24))).fires(Fires::Local).run(async |_| {});
        let node = rig.node(node_with([daily])).await;
        rig.advance(secs(10)).await;

        rig.set_skew(node, TimeDelta::hours(23));
        rig.advance(hours(1) + secs(60)).await;

        assert_eq!(rig.started("daily"), 1, "its time came a minute ago by the wall clock");
    });
}
