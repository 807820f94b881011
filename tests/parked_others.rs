//! What the store refuses of one job, or refused a while ago, changes nothing for the other jobs of the node.

use std::time::Duration;

use callsheet::{
    EventKind, Job, JobState, Overlap, RemoveJobs, SkipReason, TriggerError,
    schedule::every,
    testkit::{
        BadData::{Claim, End, Enrolment},
        Rig, simulate,
    },
};

mod common;
use common::{details, hours, mins, node_with, secs, starts, trigger};

const START: &str = "2026-01-05T00:00:00Z";

fn job(name: &str, seconds: u64) -> Job {
    Job::new(name, every(secs(seconds))).run(async |_| {})
}

/// A job whose runs last for so long.
fn long(name: &str, every_: Duration, lasts: Duration) -> Job {
    Job::new(name, every(every_)).run(move |_| tokio::time::sleep(lasts))
}

/// Which jobs were parked.
fn parked(rig: &Rig) -> Vec<String> {
    let parked = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::JobParked { job, .. } => Some(job.as_str().to_owned()),
        _ => None,
    });
    parked.collect()
}

/// How many ticks of a job were said to be skipped, and why.
fn skips(rig: &Rig, job: &str) -> Vec<(SkipReason, u64)> {
    let skipped = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::TickSkipped { job: name, reason, count, .. } if name.as_str() == job => {
            Some((reason, count))
        }
        _ => None,
    });
    skipped.collect()
}

#[test]
fn the_queued_ticks_of_a_good_job_wait_on_while_another_one_is_refused() {
    simulate(START, async |rig| {
        let good = long("good", secs(10), secs(34)).overlap(Overlap::Queue(3));
        let node = rig.node(node_with([good])).await;
        // One run is in progress, and three ticks wait.
        rig.advance(secs(41)).await;
        rig.store().set_bad("bad", &[Enrolment]);

        rig.add(node, job("bad", 10)).await.expect("it is a good definition");
        rig.advance(secs(2)).await;

        assert_eq!(parked(rig), ["bad"], "others got through");
        rig.advance(secs(90)).await;
        // The tick that waits longest is next; of more than three the oldest are skipped.
        assert_eq!(starts(rig, "good"), ["n1 00:00:10", "n1 00:00:20", "n1 00:00:50", "n1 00:01:30"]);
        assert!(skips(rig, "good").iter().all(|(reason, _)| *reason != SkipReason::Misfire));
    });
}

#[test]
fn a_tick_is_said_to_be_skipped_once_while_another_job_is_refused() {
    simulate(START, async |rig| {
        let good = long("good", secs(10), secs(25)).overlap(Overlap::Skip);
        let node = rig.node(node_with([good])).await;
        rig.advance(Duration::from_millis(20_400)).await;
        rig.store().set_bad("bad", &[Enrolment]);

        rig.add(node, job("bad", 3_600)).await.expect("it is a good definition");
        rig.advance(secs(30)).await;

        assert_eq!(parked(rig), ["bad"]);
        assert_eq!(skips(rig, "good"), [(SkipReason::Overlap, 1); 3]);
    });
}

#[test]
fn a_refusal_for_everybody_is_held_against_no_job_when_it_comes_back() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("rare", 86_400), job("good", 10)])).await;
        rig.advance(secs(5)).await;
        let refuse_all = |rig: &Rig, bad: &[_]| {
            ["rare", "good"].iter().for_each(|name| rig.store().set_bad(name, bad));
        };

        for _ in 0..2 {
            refuse_all(rig, &[Claim]);
            let refused = trigger(rig, node, "rare").await;
            assert!(matches!(refused, Err(TriggerError::Unavailable { .. })), "{refused:?}");
            rig.advance(mins(1)).await;
            assert_eq!(parked(rig), [""; 0]);
            refuse_all(rig, &[]);
            rig.advance(hours(2)).await;
        }

        assert_eq!(details(rig, node, "rare").await.state, JobState::Scheduled);
        trigger(rig, node, "rare").await.expect("it starts");
    });
}

#[test]
fn an_end_refused_in_another_session_is_not_held_against_its_job() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("rare", 86_400), job("good", 3_600)])).await;
        rig.advance(secs(5)).await;
        rig.store().set_bad("rare", &[End]);
        trigger(rig, node, "rare").await.expect("it starts");
        rig.advance(Duration::from_millis(10)).await;
        rig.end_session(node);
        rig.store().set_bad("rare", &[]);
        rig.advance(secs(15)).await;
        // Another end gets through, and then none does.
        trigger(rig, node, "good").await.expect("it starts");
        rig.advance(secs(1)).await;
        ["rare", "good"].iter().for_each(|name| rig.store().set_bad(name, &[End]));

        trigger(rig, node, "rare").await.expect("it starts");
        rig.advance(secs(30)).await;

        assert_eq!(parked(rig), [""; 0]);
        ["rare", "good"].iter().for_each(|name| rig.store().set_bad(name, &[]));
        rig.advance(secs(10)).await;
        assert_eq!(rig.store().held(), 0, "the end is recorded");
    });
}

#[test]
fn an_enrolment_refused_before_a_removal_is_not_held_against_a_job() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("good", 3_600)])).await;
        rig.advance(secs(5)).await;
        let refuse_all = |rig: &Rig, bad: &[_]| {
            ["new", "good"].iter().for_each(|name| rig.store().set_bad(name, bad));
        };
        refuse_all(rig, &[Enrolment]);
        rig.add(node, job("new", 3_600)).await.expect("it is a good definition");
        rig.advance(secs(5)).await;
        rig.send(node, RemoveJobs::new("new")).await.expect("it is there");
        rig.advance(secs(10)).await;
        refuse_all(rig, &[]);
        rig.add(node, job("other", 3_600)).await.expect("it is a good definition");
        rig.advance(secs(1)).await;
        ["new", "good", "other"].iter().for_each(|name| rig.store().set_bad(name, &[Enrolment]));

        rig.add(node, job("new", 3_600)).await.expect("it is a good definition");
        rig.advance(mins(1)).await;

        assert_eq!(parked(rig), [""; 0]);
        assert_ne!(details(rig, node, "new").await.state, JobState::Parked);
    });
}
