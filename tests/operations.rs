//! Who asked for what: events, pauses and runs carry the name.

use std::sync::{Arc, Mutex};

use callsheet::{
    By, Callsheet, CancelRun, CancelRuns, Error, ErrorKind, EventKind, Fires, Job, JobOperation, NAME_MAX,
    Note, Operations, Origin, Pause, PauseJobs, RemoveJobs, RescheduleJob, ResumeJobs, Run, TriggerError,
    TriggerJob, UpdateJob, schedule::every, testkit::simulate,
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
use common::{details, hours, node_with, obedient, secs};
#[path = "common/log.rs"]
mod log;
use log::Log;

const START: &str = "2026-01-05T00:00:00Z";

fn by(name: &str) -> By {
    By::new(name).expect("a good name")
}

fn job(name: &str) -> Job {
    Job::new(name, every(hours(1))).run(async |_| {})
}

/// What an event says of who asked.
fn said(kind: EventKind) -> Option<(&'static str, Option<By>)> {
    let name = kind.name().as_str();
    match kind {
        EventKind::JobAdded { by, .. }
        | EventKind::JobUpdated { by, .. }
        | EventKind::JobResumed { by, .. }
        | EventKind::JobRemoved { by, .. }
        | EventKind::RunStarted { by, .. } => Some((name, by)),
        EventKind::JobPaused { pause, .. } => Some((name, pause.by)),
        _ => None,
    }
}

#[test]
fn each_event_of_an_operation_says_who_asked() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([])).await;
        let who = by("alice");

        rig.send(node, callsheet::AddJob::new(job("a")).by(who.clone())).await.expect("it is right");
        rig.send(node, UpdateJob::new(job("a").tag("changed")).by(who.clone())).await.expect("it is right");
        rig.send(node, RescheduleJob::new("a", every(hours(2))).by(who.clone())).await.expect("it is right");
        rig.send(node, PauseJobs::new("a").by(who.clone())).await.expect("it is there");
        rig.send(node, ResumeJobs::new("a").by(who.clone())).await.expect("it is there");
        rig.send(node, TriggerJob::new("a").by(who.clone())).await.expect("nothing runs");
        rig.advance(secs(1)).await;
        rig.send(node, RemoveJobs::new("a").by(who.clone())).await.expect("it is there");

        let events = rig.events().into_iter().filter_map(|recorded| said(recorded.event.kind));
        let expected =
            ["JobAdded", "JobUpdated", "JobUpdated", "JobPaused", "JobResumed", "RunStarted", "JobRemoved"];
        assert_eq!(events.collect::<Vec<_>>(), expected.map(|event| (event, Some(who.clone()))));
    });
}

#[test]
fn a_pause_keeps_who_asked_first_on_all_nodes() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([job("a")])).await;
        let follower = rig.node(node_with([job("a")])).await;
        rig.advance(secs(1)).await;
        let pause = Pause::until_resumed().note("the disk is full");

        let paused = rig.send(follower, PauseJobs::new("a").with(pause.clone()).by(by("alice"))).await;
        assert_eq!(paused.expect("it is there").len(), 1);
        let again = rig.send(leader, PauseJobs::new("a").with(pause).by(by("bob"))).await;
        assert_eq!(again.expect("it is there").len(), 0, "nothing changes");
        rig.advance(hours(3)).await;

        for node in [leader, follower] {
            let pause = details(rig, node, "a").await.pause.expect("it is paused");
            assert_eq!((pause.by, pause.note.as_deref()), (Some(by("alice")), Some("the disk is full")));
        }
    });
}

#[test]
fn a_local_job_keeps_who_asked_first_for_its_pause() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("a").fires(Fires::Local)])).await;
        let pause = Pause::until_resumed().note("the disk is full");

        for (name, changed) in [("alice", 1), ("bob", 0)] {
            let paused = rig.send(node, PauseJobs::new("a").with(pause.clone()).by(by(name))).await;
            assert_eq!(paused.expect("it is there").len(), changed, "{name}");
        }

        let shown = details(rig, node, "a").await.pause.expect("it is paused");
        assert_eq!(shown.by, Some(by("alice")));
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobPaused { .. })), 1);
    });
}

#[test]
fn a_run_can_name_a_fire_time_that_has_passed() {
    simulate(START, async |rig| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let report = move |run: Run| {
            noted.lock().unwrap().push((run.fire_time(), run.origin().clone()));
            std::future::ready(())
        };
        let node = rig.node(node_with([Job::new("report", every(hours(1))).run(report)])).await;
        rig.advance(hours(2)).await;
        let first: DateTime<Utc> = rig.now() - TimeDelta::hours(1);

        rig.send(node, TriggerJob::new("report").fire_time(first).by(by("alice"))).await.expect("it starts");
        rig.advance(hours(1)).await;

        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 4, "three ticks, and one run of its own: {seen:?}");
        let trigger = Origin::Trigger { by: Some(by("alice")), fire_time: Some(first.into()), task: None };
        assert_eq!(seen[2], (Some(first), trigger));
        let named = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
            EventKind::RunStarted { fire_time, names, .. } if names.is_some() => Some((fire_time, names)),
            _ => None,
        });
        assert_eq!(named.collect::<Vec<_>>(), [(None, Some(first.into()))], "it takes no tick");
    });
}

#[test]
fn a_run_names_no_fire_time_that_is_to_come() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("report")])).await;
        let later: DateTime<Utc> = "2026-01-05T02:00:00Z".parse().expect("an instant");

        let refused = rig.send(node, TriggerJob::new("report").fire_time(later)).await;

        let error = refused.map(|run| run.run()).expect_err("it has not come");
        assert!(matches!(error, TriggerError::Invalid(_)), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(
            error.to_string(),
            "job \"report\": fire_time \"2026-01-05T02:00:00Z\": a run names a fire time that has passed; wait for it, \
             or trigger the job without a fire time"
        );
    });
}

#[test]
fn the_log_says_who_asked_a_run_to_stop() {
    let log = Log::keep();
    simulate(START, async |rig| {
        let long = Job::new("long", every(hours(1))).run_with(hours(9), obedient);
        let node = rig.node(node_with([long])).await;
        rig.send(node, TriggerJob::new("long")).await.expect("nothing runs");

        rig.send(node, CancelRuns::new("long").by(by("alice"))).await.expect("it is there");
    });

    let text = log.text();
    assert!(text.contains("of long was asked to stop by alice"), "{text}");
}

#[tokio::test]
async fn a_handle_says_who_asks_in_each_of_its_methods() {
    let jobs = Callsheet::builder().job(job("a")).start().await.expect("it starts");

    let alice = jobs.by("alice").expect("a good name");
    alice.pause("a").await.expect("it is there");
    let pause = jobs.details("a").await.expect("it is there").pause.expect("it is paused");
    assert_eq!(pause.by, Some(by("alice")));

    let error = jobs.by("x".repeat(NAME_MAX + 1)).map(drop).expect_err("it is too long");
    assert!(matches!(error, Error::By(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    jobs.shutdown(secs(5)).await;
}

#[test]
fn the_history_keeps_why_each_operation_was_done() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([])).await;
        let why = |number: u32| Note::new(format!("why {number}")).expect("a good note");

        let asked = callsheet::AddJob::new(job("a")).note(why(1));
        rig.send(node, asked).await.expect("it is right");
        let asked = UpdateJob::new(job("a").tag("changed")).note(why(2));
        rig.send(node, asked).await.expect("it is right");
        let asked = RescheduleJob::new("a", every(hours(2))).note(why(3));
        rig.send(node, asked).await.expect("it is right");
        rig.send(node, PauseJobs::new("a").note("why 4")).await.expect("it is there");
        rig.advance(secs(1)).await;
        rig.send(node, ResumeJobs::new("a").note(why(5))).await.expect("it is there");
        let long = Job::new("long", every(hours(1))).run_with(hours(1), obedient);
        rig.send(node, callsheet::AddJobs::new([long]).note(why(6))).await.expect("it is right");
        for number in [7, 8] {
            let run = rig.send(node, TriggerJob::new("long").note(why(number))).await.expect("nothing runs");
            rig.advance(secs(1)).await;
            if number == 7 {
                rig.send(node, CancelRuns::new("long").note(why(70))).await.expect("it is there");
            } else {
                rig.send(node, CancelRun::new(run.run()).note(why(80))).await.expect("it runs");
            }
            rig.advance(secs(1)).await;
        }
        rig.send(node, RemoveJobs::new("a").note(why(9))).await.expect("it is there");
        rig.advance(secs(1)).await;

        let asked = rig.send(node, Operations::new()).await.expect("it is kept");
        let mut kept: Vec<_> =
            asked.operations.iter().map(|one| (one.operation.as_str(), one.note.as_deref())).collect();
        kept.reverse();
        let expected = [
            ("added", "why 1"),
            ("changed", "why 2"),
            ("changed", "why 3"),
            ("paused", "why 4"),
            ("resumed", "why 5"),
            ("added", "why 6"),
            ("triggered", "why 7"),
            ("cancelled", "why 70"),
            ("triggered", "why 8"),
            ("cancelled", "why 80"),
            ("removed", "why 9"),
        ];
        assert_eq!(kept, expected.map(|(operation, note)| (operation, Some(note))));
    });
}

#[tokio::test]
async fn a_handle_with_a_note_gives_it_to_what_it_does_and_refuses_one_that_is_too_long() {
    let jobs = Callsheet::builder().job(job("a")).start().await.expect("it starts");
    let because = jobs.by("alice").expect("a good name").note("the disk is full").expect("a good note");

    because.pause("a").await.expect("it is there");
    let own = Pause::until_resumed().note("its own");
    because.pause_with("a", own).await.expect("it is there");
    because.resume("a").await.expect("it is paused");

    let kept = jobs.operations(Operations::new()).await.expect("it is kept").operations;
    let kept: Vec<_> = kept.iter().map(|one| (one.operation, one.note.as_deref())).collect();
    let expected = [
        (JobOperation::Resumed, Some("the disk is full")),
        (JobOperation::Paused, Some("its own")),
        (JobOperation::Paused, Some("the disk is full")),
    ];
    assert_eq!(kept, expected);
    let refused = jobs.note("x".repeat(1_001)).map(|_| ()).expect_err("it is too long");
    assert_eq!(refused.to_string(), "note \"1001 bytes\": a note has at most 1000 bytes; shorten it");
    jobs.shutdown(secs(1)).await;
}
