//! Runs whose jobs were removed, and runs that are told by their ids: they can be seen and cancelled, and
//! what comes after them knows of them.

use std::time::Duration;

use callsheet::{
    CancelReason, CancelRun, CancelRuns, EventKind, Fires, Job, JobDetails, JobState, JobStatus, ListJobs,
    Overlap, RemoveJobs, RunId, SelectError, Selector, TriggerError, TriggerJob, UnknownRun,
    schedule::every,
    testkit::{
        NodeIndex, Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};

mod common;
use common::{hours, mins, node_with, secs, trigger};

const START: &str = "2026-01-05T00:00:00Z";

/// A job whose runs take a minute, unless they are cancelled.
fn minute(overlap: Overlap) -> Job {
    Job::new("minute", every(secs(10)))
        .overlap(overlap)
        .tag("t")
        .run(async |run| common::obedient(run, secs(60)).await)
}

async fn details(rig: &mut Rig, node: NodeIndex, job: &str) -> Option<JobStatus> {
    rig.send(node, JobDetails(job.to_owned())).await
}

async fn listed(rig: &mut Rig, node: NodeIndex, list: ListJobs) -> Vec<String> {
    let page = rig.send(node, list).await;
    page.jobs.into_iter().map(|job| job.name.as_str().to_owned()).collect()
}

fn in_state(state: JobState) -> ListJobs {
    ListJobs::default().state(state)
}

/// Starts a run, and removes its job.
async fn removed(rig: &mut Rig, node: NodeIndex, job: &str) -> RunId {
    let run = trigger(rig, node, job).await.expect("nothing runs").run();
    rig.send(node, RemoveJobs::new(job)).await.expect("it is there");
    run
}

fn cancelled(rig: &Rig, run: RunId) -> Option<CancelReason> {
    rig.events().into_iter().find_map(|recorded| match recorded.event.kind {
        EventKind::RunCancelled { run: other, why, .. } if other == run => Some(why),
        _ => None,
    })
}

#[test]
fn a_removed_job_is_shown_with_its_runs_until_they_have_ended() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([minute(Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let run = removed(rig, node, "minute").await;

        let shown = details(rig, node, "minute").await.expect("its run goes on");
        assert_eq!((shown.state, shown.next_fire_time), (JobState::Removed, None));
        assert_eq!(shown.active_runs.iter().map(|active| active.run).collect::<Vec<_>>(), [run]);
        assert_eq!(listed(rig, node, ListJobs::default()).await, Vec::<String>::new());
        assert_eq!(listed(rig, node, in_state(JobState::Removed)).await, ["minute"]);
        let other_tag = in_state(JobState::Removed).tag("other");
        assert_eq!(listed(rig, node, other_tag).await, Vec::<String>::new());
        let after = in_state(JobState::Removed).after("minute".to_owned());
        assert_eq!(listed(rig, node, after).await, Vec::<String>::new());

        rig.advance(secs(61)).await;
        assert!(details(rig, node, "minute").await.is_none());
        assert_eq!(listed(rig, node, in_state(JobState::Removed)).await, Vec::<String>::new());
        let unknown = SelectError::UnknownJob { name: "minute".to_owned() };
        assert_eq!(rig.send(node, CancelRuns::new("minute")).await, Err(unknown));
    });
}

#[test]
fn a_removed_job_without_runs_is_gone_at_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([minute(Overlap::Skip)])).await;

        rig.send(node, RemoveJobs::new("minute")).await.expect("it is there");

        assert!(details(rig, node, "minute").await.is_none());
        assert_eq!(listed(rig, node, in_state(JobState::Removed)).await, Vec::<String>::new());
        let unknown = SelectError::UnknownJob { name: "minute".to_owned() };
        assert_eq!(rig.send(node, CancelRuns::new("minute")).await, Err(unknown));
    });
}

#[test]
fn a_run_of_a_removed_job_is_cancelled_by_id_by_name_by_tag_and_with_all() {
    for by in ["id", "name", "tag", "all"] {
        simulate(START, async move |rig| {
            let node = rig.node(node_with([minute(Overlap::Skip)])).await;
            rig.advance(secs(1)).await;
            let run = removed(rig, node, "minute").await;

            let selector = match by {
                "name" => Some(Selector::from("minute")),
                "tag" => Some(Selector::Tag("t".to_owned())),
                "all" => Some(Selector::All),
                _ => None,
            };
            let job = match selector {
                Some(selector) => {
                    let runs = rig.send(node, CancelRuns::new(selector)).await.expect("it is known");
                    assert_eq!(runs.iter().map(|(_, run)| *run).collect::<Vec<_>>(), [run], "{by}");
                    runs[0].0.clone()
                }
                None => rig.send(node, CancelRun::new(run)).await.expect("it is known"),
            };

            assert_eq!(job.as_str(), "minute", "{by}");
            rig.advance(secs(1)).await;
            assert_eq!(cancelled(rig, run), Some(CancelReason::Requested), "{by}");
            assert_eq!(rig.store().held(), 0, "{by}");
            assert_eq!(
                rig.send(node, CancelRun::new(run)).await,
                Err(UnknownRun { run }),
                "{by}: it has ended"
            );
        });
    }
}

/// What comes while a run of a former job of the name goes on is decided by the overlap policy of the new
/// one, and told.
#[test]
fn a_new_job_of_the_name_overlaps_with_the_run_of_the_former_one() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([minute(Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let run = removed(rig, node, "minute").await;
        rig.add(node, minute(Overlap::Skip)).await.expect("the name is free");

        let refused = trigger(rig, node, "minute").await.expect_err("the key is held");
        assert!(
            matches!(refused, TriggerError::Overlap { holder: Some(holder), .. } if holder == run),
            "{refused:?}"
        );
        assert!(refused.to_string().contains(&run.to_string()), "{refused}");
        rig.advance(secs(15)).await;
        let shown = details(rig, node, "minute").await.expect("it is there");
        assert_eq!(shown.state, JobState::Scheduled);
        assert_eq!(shown.former_runs.iter().map(|former| former.run).collect::<Vec<_>>(), [run]);
        assert!(shown.active_runs.is_empty(), "{shown:?}");
        assert_eq!(rig.started("minute"), 1, "the tick was skipped");
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=overlap"), 1);
        let told = |kind: &EventKind| matches!(kind, EventKind::LockContended { holder, .. } if *holder == Some(run));
        assert_eq!(rig.count(told), 2, "of the trigger and of the tick");

        rig.send(node, CancelRun::new(run)).await.expect("it goes on");
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("minute"), 2, "the next tick runs");
        let shown = details(rig, node, "minute").await.expect("it is there");
        assert!(shown.former_runs.is_empty(), "{shown:?}");
    });
}

#[test]
fn a_new_job_that_queues_or_replaces_waits_for_the_run_of_the_former_one() {
    for (overlap, expected) in [(Overlap::Queue(1), None), (Overlap::Replace, Some(CancelReason::Replaced))] {
        simulate(START, async move |rig| {
            let node = rig.node(node_with([minute(overlap)])).await;
            rig.advance(secs(1)).await;
            let run = removed(rig, node, "minute").await;
            rig.add(node, minute(overlap)).await.expect("the name is free");

            rig.advance(secs(12)).await;
            let at_once = usize::from(expected.is_some());
            assert_eq!(rig.started("minute"), 1 + at_once, "{overlap:?}");
            rig.advance(secs(52)).await;

            assert_eq!(cancelled(rig, run), expected, "{overlap:?}");
            assert!(rig.started("minute") > 1, "{overlap:?}");
        });
    }
}

#[test]
fn jobs_that_were_removed_are_shown_with_all_their_runs() {
    simulate(START, async |rig| {
        let job = || minute(Overlap::Allow(3));
        let node = rig.node(node_with([job()])).await;
        rig.advance(secs(1)).await;
        let first = removed(rig, node, "minute").await;
        rig.add(node, job()).await.expect("the name is free");
        let second = removed(rig, node, "minute").await;

        let shown = details(rig, node, "minute").await.expect("its run goes on");

        assert_eq!(shown.state, JobState::Removed);
        assert_eq!(shown.active_runs.iter().map(|run| run.run).collect::<Vec<_>>(), [second]);
        assert_eq!(shown.former_runs.iter().map(|run| run.run).collect::<Vec<_>>(), [first]);
        assert_eq!(listed(rig, node, in_state(JobState::Removed)).await, ["minute"], "once");
    });
}

#[test]
fn of_several_runs_of_a_job_one_is_cancelled_and_the_others_go_on() {
    for fires in [Fires::Leader, Fires::Local] {
        simulate(START, async move |rig| {
            let node = rig.node(node_with([minute(Overlap::Allow(3)).fires(fires)])).await;
            rig.advance(secs(1)).await;
            let mut runs = Vec::new();
            for _ in 0..3 {
                runs.push(trigger(rig, node, "minute").await.expect("there is a slot").run());
            }

            rig.send(node, CancelRun::new(runs[1])).await.expect("it is in progress");

            let shown = details(rig, node, "minute").await.expect("it is there");
            assert!(shown.active_runs.iter().all(|run| run.cancelled.is_none() || run.run == runs[1]));
            rig.advance(secs(1)).await;
            let ended = runs.iter().map(|run| cancelled(rig, *run)).collect::<Vec<_>>();
            assert_eq!(ended, [None, Some(CancelReason::Requested), None], "{fires:?}");
        });
    }
}

#[test]
fn a_run_that_waits_for_its_turn_is_dropped_by_its_id() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([minute(Overlap::Queue(5))])).await;
        rig.advance(secs(1)).await;
        let mut runs = Vec::new();
        for _ in 0..3 {
            runs.push(trigger(rig, node, "minute").await.expect("it may wait").run());
        }

        rig.send(node, CancelRun::new(runs[1])).await.expect("it waits");

        assert_eq!(cancelled(rig, runs[1]), Some(CancelReason::NotStarted));
        assert_eq!(rig.send(node, CancelRun::new(runs[1])).await, Err(UnknownRun { run: runs[1] }));
        rig.send(node, CancelRun::new(runs[0])).await.expect("it is in progress");
        rig.advance(secs(1)).await;
        let active = details(rig, node, "minute").await.expect("it is there").active_runs;
        assert_eq!(active.iter().map(|run| run.run).collect::<Vec<_>>(), [runs[2]]);
    });
}

#[test]
fn a_run_of_a_local_job_is_found_among_very_many_jobs() {
    simulate(START, async |rig| {
        let idle = |n: usize| Job::new(format!("idle{n:04}"), every(hours(1))).run(async |_| {});
        let node = rig.node(node_with((0..2_100).map(idle))).await;
        rig.add(node, minute(Overlap::Skip).fires(Fires::Local)).await.expect("it is right");
        let run = trigger(rig, node, "minute").await.expect("nothing runs").run();

        assert_eq!(
            rig.send(node, CancelRun::new(run)).await.map(|job| job.as_str().to_owned()),
            Ok("minute".to_owned())
        );

        rig.advance(secs(1)).await;
        assert_eq!(cancelled(rig, run), Some(CancelReason::Requested));
    });
}

#[test]
fn a_run_of_a_broken_job_is_shown_and_can_be_cancelled() {
    simulate(START, async |rig| {
        let panics = PanickingSchedule::new(
            Period::seconds(1),
            "2026-01-05T00:00:10Z".parse().expect("an instant"),
            u32::MAX,
        );
        let bad = Job::new("bad", panics).run(async |run| common::obedient(run, hours(1)).await);
        let node = rig.node(node_with([bad])).await;
        rig.advance(Duration::from_secs(20)).await;
        assert_eq!(rig.started("bad"), 1);

        let shown = details(rig, node, "bad").await.expect("it is there");
        assert_eq!((shown.state, shown.active_runs.len()), (JobState::Broken, 1));
        let run = shown.active_runs[0].run;
        let told = rig.send(node, CancelRuns::new("bad")).await.expect("it is there");

        assert_eq!(told.iter().map(|(_, run)| *run).collect::<Vec<_>>(), [run]);
        rig.advance(secs(1)).await;
        assert_eq!(cancelled(rig, run), Some(CancelReason::Requested));
        assert!(rig.send(node, TriggerJob::new("bad")).await.is_err());
    });
}

#[test]
fn a_run_that_another_node_lost_of_a_removed_job_counts_under_its_label() {
    simulate(START, async |rig| {
        let job = || {
            Job::new("report 17", every(hours(12)))
                .metrics_label("report")
                .overlap(Overlap::Allow(2))
                .run(async |run| common::obedient(run, hours(1)).await)
        };
        let [first, second] = [rig.node(node_with([job()])).await, rig.node(node_with([job()])).await];
        rig.advance(secs(1)).await;
        trigger(rig, second, "report 17").await.expect("there is room");
        removed(rig, first, "report 17").await;

        rig.kill(second);
        rig.advance(mins(2)).await;

        let lost = rig.count(|kind| matches!(kind, EventKind::RunLost { .. }));
        let counted = |rig: &mut Rig, name: &str| {
            rig.counter("callsheet_runs_total", &format!("name={name},outcome=lost"))
        };
        assert_eq!((lost, counted(rig, "report"), counted(rig, "_other")), (1, 1, 0));
    });
}
