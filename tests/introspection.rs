//! What a job says of itself: its fire times, its state, and its last run.

use std::time::Duration;

use callsheet::{
    EventKind, Health, Job, JobDetails, JobState, JobStatus, ListJobs, NextFireTimes, Outcome, RemoveJobs,
    Scheduled, SelectError, Selector, TriggerJob,
    schedule::{IntoSchedule, at, cron, every, monthly, random, weekly},
    testkit::{NodeIndex, Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc, Weekday};

mod common;
use common::{hours, node_with, secs};

/// A Monday.
const START: &str = "2026-01-05T00:00:00Z";

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

async fn status(rig: &mut Rig, node: NodeIndex, job: &str) -> JobStatus {
    rig.send(node, JobDetails(job.to_owned())).await.expect("it is there")
}

async fn next(rig: &mut Rig, node: NodeIndex, job: &str, count: usize) -> Vec<DateTime<Utc>> {
    rig.send(node, NextFireTimes { job: job.to_owned(), count }).await.expect("it is there")
}

#[test]
fn a_status_tells_the_next_fire_time_the_run_in_progress_and_the_last_one() {
    simulate(START, async |rig| {
        let long = every(secs(60)).starting_at("2026-01-05T00:10:00Z");
        let job = Job::new("long", long).run(async |_| tokio::time::sleep(secs(7)).await);
        let node = rig.node(node_with([job])).await;

        rig.advance(secs(60)).await;
        let before = status(rig, node, "long").await;
        assert_eq!(before.state, JobState::Scheduled);
        assert_eq!(before.next_fire_time.map(|at| at.instant()), Some(time("2026-01-05T00:10:00Z")));
        assert!(before.active_runs.is_empty() && before.last_runs.is_empty());

        rig.advance(secs(9 * 60 + 3)).await;
        let during = status(rig, node, "long").await;
        let active = during.active_runs.first().expect("it runs");
        assert_eq!(during.state, JobState::Running);
        assert_eq!(active.fire_time.map(|at| at.instant()), Some(time("2026-01-05T00:10:00Z")));
        assert_eq!(active.started_at, time("2026-01-05T00:10:00.001Z"), "one round trip after it was due");
        assert_eq!(during.next_fire_time.map(|at| at.instant()), Some(time("2026-01-05T00:11:00Z")));
        assert!(during.last_runs.is_empty());

        rig.advance(secs(20)).await;
        let after = status(rig, node, "long").await;
        let last = after.last_runs.first().expect("it ran");
        assert_eq!((after.state, after.active_runs.is_empty()), (JobState::Scheduled, true));
        assert_eq!((last.run, last.outcome), (active.run, Outcome::Succeeded));
        assert_eq!(last.started_at, active.started_at);
        assert_eq!(last.took.as_secs(), 7, "by the clock of the engine");
    });
}

#[test]
fn fire_times_ahead_ascend_and_end_where_the_window_does() {
    simulate(START, async |rig| {
        let fortnightly = weekly().every(2).on([Weekday::Mon]).at("09:00").anchored_at(START);
        let fortnightly = Job::new("fortnightly", fortnightly).run(async |_| {});
        let ends = every(hours(1)).until("2026-01-05T05:00:00Z");
        let node = rig.node(node_with([fortnightly, Job::new("ends", ends).run(async |_| {})])).await;
        rig.advance(Duration::from_mins(90)).await;

        let five = next(rig, node, "fortnightly", 5).await;
        assert_eq!(five.first(), Some(&time("2026-01-05T09:00:00Z")));
        assert!(five.is_sorted() && five.windows(2).all(|two| two[1] - two[0] == TimeDelta::days(14)));
        let left = next(rig, node, "ends", 100).await;
        assert_eq!(left, [2, 3, 4].map(|hour| time(START) + TimeDelta::hours(hour)), "its end is not in it");
        rig.advance(hours(24)).await;
        assert_eq!(next(rig, node, "ends", 100).await, Vec::<DateTime<Utc>>::new());
        assert_eq!(next(rig, node, "fortnightly", 1).await, [time("2026-01-19T09:00:00Z")]);
    });
}

#[test]
fn a_hundred_jobs_that_fire_at_once_each_know_their_next_fire_time() {
    simulate(START, async |rig| {
        let job = |n: usize| Job::new(format!("j{n:03}"), every(secs(10))).run(async |_| {});
        let node = rig.node(node_with((0..100).map(job))).await;

        for round in 1..=3 {
            rig.advance(secs(10) + Duration::from_millis(5)).await;
            for n in 0..100 {
                let status = status(rig, node, &format!("j{n:03}")).await;
                let expected = time(START) + TimeDelta::seconds(10 * (round + 1));
                assert_eq!(status.next_fire_time.map(|at| at.instant()), Some(expected), "{}", status.name);
                assert_eq!(status.last_runs.first().expect("it ran").outcome, Outcome::Succeeded);
            }
        }
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 300);
    });
}

#[test]
fn a_trigger_does_not_move_the_schedule() {
    simulate(START, async |rig| {
        let job = Job::new("job", every(secs(60))).run(async |_| tokio::time::sleep(secs(5)).await);
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(30)).await;
        let before = next(rig, node, "job", 3).await;

        rig.send(node, TriggerJob::new("job")).await.expect("nothing runs");

        assert_eq!(next(rig, node, "job", 3).await, before);
        rig.advance(secs(60)).await;
        assert_eq!(rig.started("job"), 2, "the trigger and the tick");
    });
}

/// One that is over when it is added is exhausted, not refused.
#[test]
fn single_instants_fire_once_each_if_they_are_to_come_and_nothing_spins() {
    simulate(START, async |rig| {
        let job = |name: &str, definition: callsheet::schedule::Definition<_>| {
            Job::new(name, definition).run(async |_| {})
        };
        let jobs = [
            job("one", at("2026-01-05T00:00:01Z")),
            job("past", at("2026-01-04T23:59:59Z")),
            job("now", at(START)),
            job("mixed", at(["2026-01-05T00:00:02Z", "2026-01-04T00:00:00Z", "2026-01-05T00:00:01.100Z"])),
            job("twice", at(["2026-01-05T00:00:01Z", "2026-01-05T00:00:01Z"])),
        ];
        let node = rig.node(node_with(jobs)).await;
        assert_eq!(next(rig, node, "mixed", 9).await.len(), 2);
        rig.advance(secs(10)).await;

        for (name, runs) in [("one", 1), ("past", 0), ("now", 0), ("mixed", 2), ("twice", 1)] {
            let status = status(rig, node, name).await;
            assert_eq!(rig.started(name), runs, "{name}");
            assert_eq!((status.state, status.next_fire_time), (JobState::Exhausted, None), "{name}");
            assert_eq!(next(rig, node, name, 1).await, Vec::<DateTime<Utc>>::new(), "{name}");
        }
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 4);
    });
}

/// gocron removes such a job. Ours stays, exhausted, until somebody removes it.
#[test]
fn a_job_whose_window_is_over_stays_until_it_is_removed() {
    simulate(START, async |rig| {
        let job = |name: &str, until: &str| Job::new(name, every(secs(1)).until(until)).run(async |_| {});
        let jobs = [job("ends", "2026-01-05T00:00:05Z"), job("over", "2026-01-04T00:00:00Z")];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(10)).await;

        assert_eq!((rig.started("ends"), rig.started("over")), (4, 0));
        for name in ["ends", "over"] {
            assert_eq!(status(rig, node, name).await.state, JobState::Exhausted);
            let removed = rig.send(node, RemoveJobs::new(name)).await.expect("it is there");
            assert_eq!(removed.len(), 1);
            let again = rig.send(node, RemoveJobs::new(name)).await;
            assert_eq!(again, Err(SelectError::UnknownJob { name: name.to_owned() }));
        }
    });
}

/// A definition is a value.
#[test]
fn a_definition_can_be_used_again_and_says_each_day_once() {
    let definition = cron("CRON_TZ=Europe/Lisbon */7 9-17 * * MON-FRI");
    let [one, two] = [definition.clone(), definition].map(|it| it.into_schedule().expect("nothing is wrong"));
    let mut after = time(START);
    for _ in 0..500 {
        // In turn: neither moves the other.
        let next = one.next_after(after).expect("there is always one");
        assert_eq!(two.next_after(after), Some(next));
        assert_eq!(one.next_after(after), Some(next), "the same question has the same answer");
        after = next;
    }

    let months = |days: &[i32]| {
        monthly().on(days.to_vec()).at("03:00").into_schedule().expect("nothing is wrong").to_string()
    };
    assert_eq!(months(&[1, 15, 1, 15, 1]), months(&[1, 15]));
}

#[test]
fn a_thousand_jobs_are_removed_together() {
    simulate(START, async |rig| {
        let job = |n: usize| Job::new(format!("j{n}"), every(secs(1))).tag("many").run(async |_| {});
        let node = rig.node(node_with((0..1_000).map(job))).await;
        rig.advance(Duration::from_millis(1_500)).await;

        let removed = rig.send(node, RemoveJobs::new(Selector::Tag("many".to_owned()))).await.expect("a tag");
        rig.advance(secs(5)).await;

        assert_eq!((removed.len(), rig.send(node, Health).await.jobs), (1_000, 0));
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 1_000, "one second of them");
    });
}

/// Between 9,900 and 11,000 there, exactly so many here.
#[test]
fn a_thousand_jobs_run_ten_times_a_second() {
    simulate(START, async |rig| {
        let job = |n: usize| Job::new(format!("j{n}"), every(Duration::from_millis(100))).run(async |_| {});
        rig.node(node_with((0..1_000).map(job))).await;

        rig.advance(Duration::from_millis(1_050)).await;

        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 10_000);
    });
}

/// Whoever asks, and however often, gets the same fire times, within the bounds.
#[test]
fn random_fire_times_are_the_same_for_all_who_ask() {
    simulate(START, async |rig| {
        let job = Job::new("random", random(secs(5), secs(15))).run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(1)).await;

        let first = next(rig, node, "random", 200).await;

        let supervisor = rig.supervisor(node);
        let ask = || supervisor.send(NextFireTimes { job: "random".to_owned(), count: 200 });
        let answers = futures_util::future::join_all((0..8).map(|_| ask())).await;
        for answer in answers {
            assert_eq!(answer.expect("it runs").expect("it is there"), first);
        }
        let spacing =
            |two: &[DateTime<Utc>]| (5_000..=15_000).contains(&(two[1] - two[0]).num_milliseconds());
        assert!(first.windows(2).all(spacing));
        rig.advance(hours(1)).await;
        let fired = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
            EventKind::RunStarted { fire_time, .. } => fire_time.map(|at| at.instant()),
            _ => None,
        });
        assert_eq!(fired.take(200).collect::<Vec<_>>(), first, "it fires when it said it would");
    });
}

#[test]
fn a_status_says_who_fires_the_job_and_whether_by_another_schedule() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let job = |name: &str, period: u64| Job::new(name, every(secs(period))).run(async |_| {});
        let leader = rig.node(node_with([job("same", 60), job("other", 60)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([job("same", 60), job("other", 40), job("own", 60)])).await;
        rig.advance(secs(1)).await;

        let scheduled = async |rig: &mut Rig, node, job| status(rig, node, job).await.scheduled;
        assert_eq!(scheduled(rig, leader, "other").await, Some(Scheduled::Here));
        assert_eq!(scheduled(rig, follower, "same").await, Some(Scheduled::ByLeader));
        assert_eq!(scheduled(rig, follower, "other").await, Some(Scheduled::OtherSchedule));
        assert_eq!(scheduled(rig, follower, "own").await, Some(Scheduled::WithoutLeader));
        let own = status(rig, follower, "other").await.next_fire_time.map(|at| at.instant());
        assert_eq!(own, Some(time("2026-01-05T00:00:40Z")), "by the schedule of the node that is asked");
        let page = rig.send(follower, ListJobs::default()).await;
        let listed: Vec<_> = page.jobs.iter().map(|job| job.scheduled.clone()).collect();
        let expected = [Scheduled::OtherSchedule, Scheduled::WithoutLeader, Scheduled::ByLeader];
        assert_eq!(listed, expected.map(Some));
        let json = serde_json::to_value(&page.jobs[0]).expect("it is data");
        assert_eq!(json["scheduled"], "other_schedule");

        rig.cut_off(follower);
        let unknown = scheduled(rig, follower, "other").await;
        assert!(matches!(unknown, Some(Scheduled::Unknown { .. })), "{unknown:?}");
    });
}
