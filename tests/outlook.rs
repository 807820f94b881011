//! Jobs whose time is over, and schedules that are probably not meant: what is said of them, and when.

use std::{fmt, time::Duration};

use callsheet::{
    AddError, AddJobs, Builder, Error, EventKind, Fires, Job, JobState, Over, StartError, UpdateError,
    schedule::{Definition, Schedule, at, cron, daily, every},
    testkit::{fakes::Period, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
#[path = "common/log.rs"]
mod log;

use common::{details, hours, mins, node_with, secs, starts};
use log::Log;

const START: &str = "2026-01-05T00:00:00Z";

fn job(name: &str, schedule: impl Into<Definition>) -> Job {
    let schedule: Definition = schedule.into();
    Job::new(name, schedule).run(async |_| {})
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// The lines of the log that speak of this job.
fn warnings(name: &str) -> Vec<String> {
    let log = Log::keep().text();
    let lines = log.lines().filter(|line| line.contains(" WARN ") && line.contains(&format!("\"{name}\"")));
    lines.map(str::to_owned).collect()
}

/// What is over at [`START`], and its last fire time.
fn over() -> Vec<(&'static str, Definition, &'static str)> {
    vec![
        ("one instant", at("2026-01-04T23:00:00Z").into(), "2026-01-04T23:00:00Z"),
        ("a list", at(["2020-01-01T00:00:00Z", "2026-01-04T23:59:59Z"]).into(), "2026-01-04T23:59:59Z"),
        ("a window", daily().at("09:00").until("2026-01-03T12:00:00Z").into(), "2026-01-03T09:00:00Z"),
        (
            "a union",
            every("1h").until("2026-01-02T00:30:00Z").or(at("2026-01-02T00:10:00Z")).into(),
            "2026-01-02T00:10:00Z",
        ),
    ]
}

#[test]
fn a_job_whose_time_is_over_is_refused_with_both_instants_named() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([])).await;
        }
        rig.advance(secs(1)).await;
        for (what, schedule, last) in over() {
            // The leader, and a follower.
            for node in [0, 1] {
                for fires in [Fires::Leader, Fires::AnyNode, Fires::Local] {
                    let added = rig.add(node, job("late", schedule.clone()).fires(fires)).await;
                    let Err(AddError::Over(over)) = added else { panic!("{what}: {added:?}") };
                    let [Over { job, last: said, now, .. }] = &over[..] else { panic!("{what}: {over:?}") };
                    assert_eq!((job.as_str(), *said), ("late", instant(last)), "{what}");
                    assert!((*now - rig.now()).abs() < TimeDelta::seconds(1), "{what}: {now}");
                }
            }
        }
        let refused = rig.add(0, job("late", at("2026-01-04T23:00:00Z"))).await.unwrap_err().to_string();
        let told = "job \"late\" would never run: its last fire time 2026-01-04T23:00:00Z has passed, since it is \
                    2026-01-05T00:00:0";
        assert!(refused.starts_with(told), "{refused}");
        assert!(refused.ends_with("; give it a later fire time, or do its work now"), "{refused}");
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobAdded { .. })), 0);
    });
}

#[test]
fn of_a_batch_with_jobs_that_are_over_none_is_added_and_each_is_named() {
    simulate(START, async |rig| {
        rig.node(node_with([])).await;
        let late = |nth: usize| job(&format!("late {nth}"), at("2026-01-04T23:00:00Z"));
        let jobs: Vec<_> = [job("good", every("1h"))].into_iter().chain((0..25).map(late)).collect();

        let refused = rig.send(0, AddJobs::new(jobs)).await.unwrap_err();

        let AddError::Over(over) = &refused else { panic!("{refused:?}") };
        assert_eq!(over.len(), 25);
        let text = refused.to_string();
        assert_eq!(text.lines().count(), 11);
        assert!(text.ends_with("and 15 more like these"), "{text}");
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobAdded { .. })), 0);
    });
}

/// The ticks of a job count from the instant at which it is added. `misfire_after` is for ticks of jobs that are
/// there.
#[test]
fn a_fire_time_a_second_ago_is_over_as_well_and_one_in_a_moment_is_not() {
    for fires in [Fires::Leader, Fires::Local] {
        simulate(START, async |rig| {
            rig.node(node_with([])).await;
            // By the store's clock it is half a minute later than this node thinks.
            rig.set_skew(0, TimeDelta::seconds(-30));
            rig.advance(mins(2)).await;
            let now = if fires == Fires::Local { rig.now() - TimeDelta::seconds(30) } else { rig.now() };

            for late in [TimeDelta::milliseconds(20), TimeDelta::seconds(1)] {
                let added = rig.add(0, job("late", at(now - late)).fires(fires)).await;
                assert!(matches!(added, Err(AddError::Over(_))), "{fires:?} {late}: {added:?}");
            }
            rig.add(0, job("soon", at(now + TimeDelta::seconds(1))).fires(fires))
                .await
                .expect("it is to come");
            rig.advance(secs(2)).await;
            assert_eq!(rig.started("soon"), 1);
        });
    }
}

#[test]
fn an_update_to_a_schedule_that_is_over_is_refused_unless_it_is_kept() {
    simulate(START, async |rig| {
        let once = || job("once", at("2026-01-05T01:00:00Z"));
        rig.node(node_with([once(), job("other", every("1h"))])).await;
        rig.advance(hours(2)).await;
        assert_eq!(rig.started("once"), 1);

        rig.update(0, once().tag("done")).await.expect("its schedule is the same");
        for name in ["once", "other"] {
            let refused = rig.update(0, job(name, at("2026-01-05T01:30:00Z"))).await;
            assert!(
                matches!(&refused, Err(UpdateError::Over(over)) if over.job.as_str() == name),
                "{refused:?}"
            );
        }
        rig.advance(hours(1)).await;

        assert_eq!((rig.started("once"), rig.started("other")), (1, 3), "nothing else has changed");
    });
}

#[test]
fn a_start_does_not_fail_because_time_has_passed_and_warns_once() {
    Log::keep();
    for fires in [Fires::Leader, Fires::AnyNode, Fires::Local] {
        simulate(START, async |rig| {
            let name = |nth: usize| format!("late {fires:?} {nth}");
            let jobs = || {
                over()
                    .into_iter()
                    .enumerate()
                    .map(|(nth, (_, schedule, _))| job(&name(nth), schedule).fires(fires))
            };
            let node = rig.node(node_with(jobs())).await;
            rig.advance(hours(1)).await;

            let states = details(rig, node, &name(0)).await;
            assert_eq!((states.state, states.next_fire_time), (JobState::Exhausted, None));
            assert_eq!(
                rig.events().iter().filter(|said| said.event.kind.job().is_some()).count(),
                4,
                "added"
            );
            let said = warnings(&name(0));
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("jobs do not run, since their last fire times had passed"), "{said:?}");
            assert!(said[0].contains("(last fire time 2026-01-04T23:00:00Z)"), "{said:?}");
            assert_eq!(warnings(&name(3)), said, "all of them in one line");
        });
    }
}

#[test]
fn a_job_that_ran_before_the_start_is_done_and_one_that_is_owed_runs() {
    Log::keep();
    simulate(START, async |rig| {
        let jobs = || [job("done", at("2026-01-05T01:00:00Z")), job("owed", at("2026-01-05T03:00:00Z"))];
        rig.node(node_with(jobs())).await;
        rig.advance(hours(2)).await;
        rig.kill(0);
        rig.advance(hours(2)).await;

        let node = rig.node(node_with(jobs())).await;
        rig.advance(mins(1)).await;

        assert_eq!(starts(rig, "done"), ["n1 01:00:00"]);
        assert_eq!(starts(rig, "owed"), ["n2 03:00:00"], "its misfire policy makes up for it");
        for name in ["done", "owed"] {
            assert_eq!(details(rig, node, name).await.state, JobState::Exhausted);
            assert_eq!(warnings(name), [""; 0], "{name}");
        }
    });
}

#[test]
fn ten_thousand_reminders_that_are_over_are_told_in_a_few_lines() {
    Log::keep();
    simulate(START, async |rig| {
        let jobs = (0..10_000).map(|nth| job(&format!("reminder {nth:05}"), at("2026-01-04T23:00:00Z")));
        rig.node(node_with(jobs)).await;
        rig.advance(secs(10)).await;
    });

    let log = Log::keep().text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("\"reminder ")).collect();
    assert!((1..=10).contains(&lines.len()), "{}", lines.len());
    assert!(lines.iter().all(|line| line.len() < 2_000), "each of bounded length");
}

/// Fires every hour, and doubts it.
#[derive(Debug)]
struct Doubtful;

impl fmt::Display for Doubtful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every hour, perhaps")
    }
}

impl Schedule for Doubtful {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::hours(1).next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::hours(1).previous_before(before)
    }

    fn lints(&self, _: DateTime<Utc>) -> Vec<String> {
        vec![format!("perhaps not: {}", "no ".repeat(10_000))]
    }
}

#[test]
fn what_is_probably_not_meant_is_logged_once() {
    Log::keep();
    simulate(START, async |rig| {
        let node =
            rig.node(node_with([job("started", cron("* 9 * * *")), job("fine", cron("0 9 * * *"))])).await;
        rig.add(node, job("added", cron("* 8 * * *"))).await.expect("it is new");
        rig.add(node, Job::new("own", Doubtful).run(async |_| {})).await.expect("it is new");
        rig.update(node, job("fine", cron("* 7 * * *")).tag("x")).await.expect("it is there");
        rig.update(node, job("fine", cron("* 7 * * *"))).await.expect("it is there");
        rig.advance(mins(5)).await;

        for name in ["started", "added", "fine"] {
            let said = warnings(name);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(
                said[0].contains("it fires 60 times in each of these hours: the minute is `*`"),
                "{said:?}"
            );
        }
        let own = warnings("own");
        assert!(own.len() == 1 && own[0].contains("perhaps not: no no") && own[0].len() < 1_000, "{own:?}");
    });
}

#[test]
fn the_same_lint_of_very_many_jobs_is_one_line_or_a_few() {
    Log::keep();
    simulate(START, async |rig| {
        let lunch = |name: String| job(&name, cron("* 12 * * *"));
        let node = rig.node(node_with((0..4_096).map(|nth| lunch(format!("batch {nth:04}"))))).await;
        for nth in 0..200 {
            rig.add(node, lunch(format!("single {nth:04}"))).await.expect("it is new");
        }

        let log = Log::keep().text();
        let told =
            |prefix: &str| log.lines().filter(|line| line.contains(prefix)).map(str::len).collect::<Vec<_>>();
        let (batch, single) = (told("\"batch "), told("\"single "));
        assert_eq!(batch.len(), 1);
        assert!(batch[0] < 1_000 && (1..=20).contains(&single.len()), "{batch:?} {single:?}");
        assert!(log.contains("and 4,086 more"));

        rig.advance(mins(2)).await;
        rig.add(node, lunch("later".to_owned())).await.expect("it is new");
        assert_eq!(warnings("later").len(), 1);
        assert!(Log::keep().text().contains("the lints of some definitions were not logged"));
    });
}

/// The facade says so as well.
#[tokio::test]
async fn an_application_can_tell_an_over_job_from_a_wrong_one() -> Result<(), StartError> {
    let jobs = Builder::default().start().await?;

    let added = jobs.add(job("late", at(Utc::now() - Duration::from_secs(1)))).await;

    assert!(matches!(added, Err(Error::Add(AddError::Over(_)))), "{added:?}");
    jobs.shutdown(secs(1)).await;
    Ok(())
}
