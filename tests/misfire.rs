//! What becomes of ticks whose time passed without a run: while the process was down, while the job was
//! paused, while the node stalled, while the machine slept.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use callsheet::{
    CATCH_UP_PACE, EventKind, Job, Misfire, Overlap, PauseJobs, ResumeJobs, Run, Selector,
    schedule::{Definition, at, daily, every, monthly, parse_duration},
    testkit::{Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
use common::{assert_golden, hours, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

fn all(max: u32, within: Duration) -> Misfire {
    Misfire::All { max, within }
}

fn job(misfire: Misfire) -> Job {
    Job::new("job", every(mins(1))).misfire(misfire).run(async |_| {})
}

fn pause_all() -> PauseJobs {
    PauseJobs::new(Selector::All)
}

/// Tells one story three times, each with another policy: it lasts from 00:01:30 to 00:06:20, so that five
/// ticks are missed, the last of them by 20 s, and the first by more than a catch-up may be late.
fn with_each_policy(situation: &str, story: impl AsyncFn(&mut Rig, &dyn Fn() -> Job)) {
    let policies =
        [("latest", Misfire::Latest { within: mins(4) }), ("all", all(4, mins(4))), ("skip", Misfire::Skip)];
    for (policy, misfire) in policies {
        simulate(START, async |rig| {
            rig.set_lease(mins(10));
            let job = || job(misfire);
            rig.node(node_with([job()])).await;
            rig.advance(secs(90)).await;

            story(rig, &job).await;

            rig.advance(secs(70)).await;
            assert_golden(rig, &format!("misfire_{policy}_{situation}"));
        });
    }
}

/// The only node that has the job starts, and is killed before its first tick.
async fn down_for(rig: &mut Rig, time: Duration, job: impl Fn() -> Job) {
    rig.node(node_with([job()])).await;
    rig.advance(Duration::from_millis(10)).await;
    rig.kill(0);
    rig.advance(time).await;
}

#[test]
fn after_downtime() {
    with_each_policy("down", async |rig, job| {
        rig.kill(0);
        rig.advance(secs(290)).await;
        rig.node(node_with([job()])).await;
    });
}

#[test]
fn after_a_pause() {
    with_each_policy("paused", async |rig, _| {
        rig.send(0, pause_all()).await.expect("it is there");
        rig.advance(secs(290)).await;
        rig.send(0, ResumeJobs::new(Selector::All)).await.expect("it is there");
    });
}

#[test]
fn after_a_stall_of_the_leader_that_is_shorter_than_its_lease() {
    with_each_policy("stalled", async |rig, _| {
        rig.freeze(0);
        rig.advance(secs(290)).await;
        rig.thaw(0);
    });
}

#[test]
fn after_a_step_of_the_clock() {
    with_each_policy("clock_step", async |rig, _| rig.suspend(TimeDelta::seconds(290)));
}

/// The report of a peer's users: nobody had looked at the job, and the report was gone.
#[test]
fn by_default_a_nightly_job_is_caught_up_in_the_morning() {
    simulate(START, async |rig| {
        let job = || Job::new("report", daily().at("02:00")).run(async |_| {});
        rig.node(node_with([job()])).await;
        rig.advance(hours(1)).await;
        rig.kill(0);
        rig.advance(hours(7)).await;

        rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;

        assert_eq!(starts(rig, "report"), ["n2 02:00:00"]);
    });
}

/// Down from `start` on; up again shortly before, and shortly after, the window of the newest missed tick is
/// over.
#[test]
fn by_default_a_tick_is_made_up_for_within_half_the_distance_to_the_next() {
    let lisbon = || daily().at("02:00").timezone("Europe/Lisbon");
    let cases: Vec<(&str, Definition, &str, &str)> = vec![
        ("hourly", every("1h").into(), "2026-01-05T00:30:00Z", "2026-01-05T01:00:00Z + 30m"),
        ("nightly", daily().at("02:00").into(), "2026-01-05T00:00:00Z", "2026-01-05T02:00:00Z + 12h"),
        (
            "monthly",
            monthly().on([1]).at("02:00").into(),
            "2026-01-31T12:00:00Z",
            "2026-02-01T02:00:00Z + 12h",
        ),
        (
            "the first of a list",
            at(["2026-01-05T02:00:00Z", "2026-01-05T05:00:00Z"]).into(),
            "2026-01-05T00:00:00Z",
            "2026-01-05T02:00:00Z + 90m",
        ),
        (
            "the last of a list",
            at(["2026-01-05T02:00:00Z", "2026-01-05T03:00:00Z"]).into(),
            "2026-01-05T02:30:00Z",
            "2026-01-05T03:00:00Z + 12h",
        ),
        (
            "from the end of the last run",
            every("1h").from_completion().into(),
            "2026-01-05T00:00:00Z",
            "2026-01-05T01:00:00Z + 30m",
        ),
        ("the clocks go forward", lisbon().into(), "2026-03-28T00:00:00Z", "2026-03-28T02:00:00Z + 690m"),
        ("the clocks go back", lisbon().into(), "2026-10-24T00:00:00Z", "2026-10-24T01:00:00Z + 12h"),
    ];
    for (what, schedule, start, window) in cases {
        let (tick, window) = window.split_once(" + ").expect("an instant and a time");
        let tick: DateTime<Utc> = tick.parse().expect("an instant");
        let window = parse_duration(window).expect("a duration");
        for (in_time, slack) in [(true, TimeDelta::seconds(-10)), (false, TimeDelta::seconds(10))] {
            simulate(start, async |rig| {
                rig.set_lease(hours(1));
                let job = || Job::new("job", schedule.clone()).run(async |_| {});
                let back = tick + TimeDelta::from_std(window).expect("it is short") + slack;
                down_for(rig, (back - rig.now()).to_std().expect("it is later"), job).await;

                rig.node(node_with([job()])).await;
                rig.advance(Duration::from_millis(900)).await;

                assert_eq!(rig.started("job"), usize::from(in_time), "{what}: {}", rig.transcript());
            });
        }
    }
}

#[test]
fn what_is_made_up_for_is_bounded_in_number_and_in_lateness() {
    for (misfire, started) in [(all(10, mins(3)), 3), (all(2, mins(30)), 2), (all(1_000, mins(59)), 59)] {
        simulate(START, async |rig| {
            let job = || job(misfire);
            down_for(rig, hours(1) + secs(30), job).await;

            rig.node(node_with([job()])).await;
            rig.advance(secs(20)).await;

            assert_eq!(rig.started("job"), started, "{misfire:?}");
            assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 60);
            assert_eq!(rig.counter("callsheet_ticks_total", "outcome=misfire"), 60 - started as u64);
        });
    }
}

/// Counts how many of its runs are in progress at once.
#[derive(Clone, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Crowd {
    async fn join(_: Run, (crowd, stay): (Self, Duration)) {
        let now = crowd.now.fetch_add(1, Ordering::Relaxed) + 1;
        crowd.most.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(stay).await;
        crowd.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Mistake of a peer: a replay flood of stale ticks after a fail-over.
#[test]
fn a_catch_up_is_paced_and_one_at_a_time_whatever_overlap_allows() {
    for (overlap, stay) in [
        (Overlap::Skip, Duration::from_millis(10)),
        (Overlap::Allow(5), Duration::from_millis(300)),
        (Overlap::Queue(5), Duration::from_millis(10)),
        (Overlap::Replace, Duration::from_millis(300)),
    ] {
        simulate(START, async |rig| {
            let crowd = Crowd::default();
            let job = || {
                Job::new("job", every(mins(1)))
                    .misfire(all(5, hours(1)))
                    .overlap(overlap)
                    .run_with((crowd.clone(), stay), Crowd::join)
            };
            down_for(rig, mins(20) + secs(30), job).await;

            rig.node(node_with([job()])).await;
            rig.advance(secs(5)).await;

            let at: Vec<_> = rig
                .events()
                .into_iter()
                .filter(|recorded| matches!(recorded.event.kind, EventKind::RunStarted { .. }))
                .map(|recorded| recorded.event.at)
                .collect();
            assert_eq!(at.len(), 5, "{overlap:?}: {}", rig.transcript());
            let pace = TimeDelta::from_std(CATCH_UP_PACE.max(stay)).expect("it is short");
            assert!(at.windows(2).all(|two| two[1] - two[0] >= pace), "{overlap:?}: {at:?}");
            assert_eq!(crowd.most.load(Ordering::Relaxed), 1, "{overlap:?}");
            let cancelled = rig.count(|kind| matches!(kind, EventKind::RunCancelled { .. }));
            assert_eq!(cancelled, 0, "{overlap:?}: none of them replaces another");
        });
    }
}

#[test]
fn ticks_that_come_due_during_a_catch_up_wait_behind_it() {
    simulate(START, async |rig| {
        let job = || {
            Job::new("job", every(secs(2)))
                .misfire(all(10, hours(1)))
                .run(async |_| tokio::time::sleep(Duration::from_millis(700)).await)
        };
        down_for(rig, secs(21), job).await;

        rig.node(node_with([job()])).await;
        rig.advance(secs(20)).await;

        // Ten were missed. It catches up with more than a second of every two.
        let ticks: Vec<_> = (1..=20).map(|nth| format!("n2 00:00:{:02}", 2 * nth)).collect();
        assert_eq!(starts(rig, "job"), ticks);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 20);
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 20);
    });
}

#[test]
fn a_catch_up_goes_on_with_the_next_leader() {
    simulate(START, async |rig| {
        let job = || {
            Job::new("job", every(mins(1)))
                .misfire(all(5, hours(1)))
                .run(async |_| tokio::time::sleep(secs(2)).await)
        };
        down_for(rig, mins(5) + secs(10), job).await;
        rig.node(node_with([job()])).await;
        rig.node(node_with([job()])).await;
        // One run has ended, another one is in progress.
        rig.advance(secs(3)).await;

        rig.kill(1);
        rig.advance(secs(20)).await;

        assert_eq!(
            starts(rig, "job"),
            ["n2 00:01:00", "n2 00:02:00", "n3 00:03:00", "n3 00:04:00", "n3 00:05:00"]
        );
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=lost"), 1);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 4);
    });
}
