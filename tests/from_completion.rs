//! Intervals that count from the end of the last run.

use std::time::Duration;

use callsheet::{
    EventKind, Fires, Job, JobState, Misfire, Overlap, PauseJobs, ResumeJobs, Retry, Selector, TriggerJob,
    schedule::{Definition, IntoSchedule, calendar, custom, every},
    testkit::simulate,
};

mod common;
use common::{details, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

/// A job that rests for a minute between its runs, which take so long.
fn job(takes: Duration) -> Job {
    Job::new("job", every(mins(1)).from_completion())
        .run_with(takes, |_, takes| async move { tokio::time::sleep(takes).await })
}

/// The first run a period after the job is first known, the others a period
/// after the end of the one before, however long they take; beside it, what the default does.
#[test]
fn a_run_starts_a_period_after_the_end_of_the_one_before() {
    simulate(START, async |rig| {
        let usual = Job::new("usual", every(mins(1))).run(async |_| tokio::time::sleep(secs(90)).await);
        rig.node(node_with([job(secs(90)), usual])).await;

        rig.advance(secs(450)).await;

        // The first one counts from when the job was added. Every claim and every end takes a millisecond.
        let starts_at: Vec<_> = rig
            .events()
            .into_iter()
            .filter(|recorded| matches!(&recorded.event.kind, EventKind::RunStarted { job, .. } if job.as_str() == "job"))
            .map(|recorded| recorded.event.at.format("%T%.3f").to_string())
            .collect();
        assert_eq!(starts_at, ["00:01:00.002", "00:03:30.004", "00:06:00.006"]);
        assert_eq!(starts(rig, "usual"), ["n1 00:01:00", "n1 00:03:00", "n1 00:05:00", "n1 00:07:00"]);
        assert_eq!(rig.counter("callsheet_ticks_total", "name=job"), 3, "no tick is due during a run");
    });
}

#[test]
fn the_end_counts_whatever_it_is_and_a_retry_is_no_end() {
    simulate(START, async |rig| {
        let retry = Retry::attempts(2).initial(secs(30)).jitter(0.0);
        let fails = Job::new("fails", every(mins(1)).from_completion())
            .retry(retry)
            .run(async |_| Err::<(), _>("no"));
        let hangs = Job::new("hangs", every(mins(1)).from_completion())
            .timeout(secs(30))
            .run(async |run| run.cancelled().await);
        rig.node(node_with([fails, hangs])).await;

        rig.advance(secs(160)).await;

        for name in ["fails", "hangs"] {
            assert_eq!(
                starts(rig, name).len(),
                2,
                "{name}: after 1 min and after 2.5 min: {}",
                rig.transcript()
            );
        }
        rig.advance(secs(80)).await;
        for name in ["fails", "hangs"] {
            assert_eq!(starts(rig, name).len(), 2, "{name}: a minute after the end, not after the start");
        }
    });
}

#[test]
fn the_period_survives_the_node() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([job(secs(30))])).await;
        }
        rig.advance(secs(100)).await;
        assert_eq!(rig.started("job"), 1, "it ended at 1:30");

        rig.shutdown(0, secs(1)).await;
        rig.advance(secs(70)).await;

        let ticks = starts(rig, "job");
        assert_eq!(ticks.len(), 2, "{ticks:?}");
        assert!(ticks[1].starts_with("n2 00:02:30"), "{ticks:?}");
    });
}

#[test]
fn a_run_that_is_lost_ends_when_that_is_found_out() {
    for key in ["job", "machine"] {
        simulate(START, async |rig| {
            for _ in 0..2 {
                rig.node(node_with([job(secs(30)).lock_key(key)])).await;
            }
            rig.advance(secs(70)).await;

            rig.kill(0);
            rig.advance(secs(58)).await;
            assert_eq!(rig.started("job"), 1, "{key}");
            rig.advance(secs(5)).await;

            let ticks = starts(rig, "job");
            assert_eq!(ticks.len(), 2, "{key}: {ticks:?}");
            assert!(ticks[1].starts_with("n2 00:02:1"), "{key}: a minute after 1:10: {ticks:?}");
            assert_eq!(rig.counter("callsheet_runs_total", "outcome=lost"), 1, "{key}");
        });
    }
}

#[test]
fn a_manual_run_counts_on_whichever_node_it_is() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([job(secs(20))])).await;
        }
        rig.advance(secs(50)).await;

        // From 0:50 to 1:10, over the tick at 1:00.
        rig.send(1, TriggerJob::new("job")).await.expect("nothing runs");
        rig.advance(secs(70)).await;
        assert_eq!(starts(rig, "job"), ["n2 triggered"]);
        rig.advance(secs(20)).await;

        let ticks = starts(rig, "job");
        assert_eq!(ticks.len(), 2, "{ticks:?}");
        assert!(ticks[1].starts_with("n1 00:02:10"), "{ticks:?}");
    });
}

/// The ticks that are skipped count as runs that took no time.
#[test]
fn after_downtime_one_run_starts_not_many() {
    for (within, first, missed) in [(mins(60), "00:01:00", 0), (mins(5), "00:26:00", 25)] {
        simulate(START, async |rig| {
            let job = || job(secs(10)).misfire(Misfire::Latest { within });
            rig.node(node_with([job()])).await;
            rig.advance(Duration::from_millis(10)).await;
            rig.kill(0);
            rig.advance(mins(30) + secs(30)).await;

            rig.node(node_with([job()])).await;
            rig.advance(secs(60)).await;
            assert_eq!(starts(rig, "job"), [format!("n2 {first}")]);
            rig.advance(secs(20)).await;

            let ticks = starts(rig, "job");
            assert!(ticks.len() == 2 && ticks[1].starts_with("n2 00:31:40"), "{ticks:?}");
            assert_eq!(rig.counter("callsheet_ticks_total", "outcome=misfire"), missed);
            assert_eq!(
                rig.count(|kind| matches!(kind, EventKind::TickSkipped { .. })),
                usize::from(missed > 0)
            );
        });
    }
}

#[test]
fn after_a_pause_one_run_starts_not_many() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job(secs(10)), job_that_never_catches_up()])).await;
        rig.advance(secs(30)).await;
        rig.send(node, PauseJobs::new(Selector::All)).await.expect("they are there");
        rig.advance(mins(20)).await;
        assert_eq!((rig.started("job"), rig.started("skips")), (0, 0));

        rig.send(node, ResumeJobs::new(Selector::All)).await.expect("they are there");
        rig.advance(secs(65)).await;

        assert_eq!((rig.started("job"), rig.started("skips")), (1, 1), "{}", rig.transcript());
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("job"), 2, "a minute after the end of the run that made up for a tick");
        assert_eq!(rig.counter("callsheet_ticks_total", "name=skips"), 21, "a tick is skipped each minute");
    });
}

fn job_that_never_catches_up() -> Job {
    Job::new("skips", every(mins(1)).from_completion()).misfire(Misfire::Skip).run(async |_| {})
}

#[test]
fn a_local_job_and_one_that_any_node_fires_rest_as_well() {
    simulate(START, async |rig| {
        let with = |name: &str, fires| {
            Job::new(name, every(mins(1)).from_completion())
                .fires(fires)
                .run(async |_| tokio::time::sleep(secs(30)).await)
        };
        for _ in 0..2 {
            rig.node(node_with([with("local", Fires::Local), with("any", Fires::AnyNode)])).await;
        }

        rig.advance(secs(250)).await;

        // At 1:00, 2:30 and 4:00.
        assert_eq!((rig.started("local"), rig.started("any")), (6, 3), "{}", rig.transcript());
    });
}

#[test]
fn while_a_run_is_in_progress_no_next_fire_time_is_known() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job(secs(90)).overlap(Overlap::Queue(3))])).await;
        rig.advance(secs(70)).await;
        assert_eq!(details(rig, node, "job").await.state, JobState::Running);
        rig.advance(secs(85)).await;

        let status = details(rig, node, "job").await;

        assert_eq!(status.waiting, 0);
        let next = status.next_fire_time.expect("it is at rest").instant();
        assert_eq!(next.format("%T").to_string(), "00:03:30");
    });
}

#[test]
fn a_start_and_an_end_bound_it() {
    let definition =
        every("1h").from_completion().starting_at("2026-01-05T12:00:00Z").until("2026-01-05T15:00:00Z");
    let schedule = definition.clone().into_schedule().expect("a good definition");
    let next = |after: &str| {
        let after = format!("2026-01-05T{after}Z").parse().expect("an instant");
        schedule.next_after(after).map(|next| next.format("%T%.3f").to_string())
    };

    assert_eq!(next("03:00:00").as_deref(), Some("12:00:00.000"));
    assert_eq!(next("11:30:00.000000001").as_deref(), Some("12:30:00.001"));
    assert_eq!(next("13:59:59.999").as_deref(), Some("14:59:59.999"));
    assert_eq!(next("14:00:00"), None);
    assert!(schedule.counts_from_completion());
    assert_eq!(
        schedule.to_string(),
        "every 1h from completion from 2026-01-05T12:00:00Z until 2026-01-05T15:00:00Z"
    );
    assert_eq!(
        definition.describe().expect("a good definition"),
        "1h after the end of each run, from 2026-01-05T12:00:00Z, until 2026-01-05T15:00:00Z"
    );
    let preview = definition.preview("2026-01-05T10:00:00Z".parse().expect("an instant"), 5);
    assert_eq!(preview.expect("a good definition").lines().len(), 3);
    assert_eq!(definition.lint("2026-01-05T00:00:00Z".parse().expect("an instant")), Ok(vec![]));
}

#[test]
fn what_needs_several_fire_times_in_a_row_is_refused_beside_it() {
    let resting = || every("1h").from_completion();
    let ours = resting().into_schedule().expect("a good definition");
    let cases: Vec<(Definition, &str)> = vec![
        (resting().jitter("1s").into(), "from_completion \"jitter\""),
        (resting().except(calendar("x").weekdays(["sun"])).into(), "from_completion \"except\""),
        (resting().anchored_at("2026-01-05T00:00:00Z").into(), "from_completion \"anchored_at\""),
        (resting().or(every("1d")).into(), "any[0].from_completion \"being part of another schedule\""),
        (
            every("1d").except(calendar("x").fire_times(resting())).into(),
            "except[0].schedules[0].from_completion",
        ),
        (custom(ours).jitter("1s").into(), "from_completion \"jitter\""),
    ];
    for (definition, beginning) in cases {
        let faults = definition.check().expect_err("it makes no sense").to_string();
        assert!(faults.starts_with(beginning), "{faults}");
        assert_eq!(faults.lines().count(), 1, "{faults}");
    }
    for bad in [every("0s").from_completion(), every("x").from_completion()] {
        assert!(bad.check().expect_err("no period").to_string().starts_with("every "));
    }
}
