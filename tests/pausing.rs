//! Pause and resume: on all nodes, whoever is asked and whoever hears of it.

use std::{collections::BTreeSet, time::Duration};

use callsheet::{
    EventKind, Fires, Job, JobDetails, JobState, ListJobs, Misfire, PAGE_MAX, PAUSE_NOTE_MAX, Pause,
    PauseError, PauseJobs, ResumeJobs, SelectError, Selector, TriggerJob,
    schedule::every,
    testkit::{CallFault, NOTIFICATIONS_MAX, Rig, fakes::Period, simulate},
};
use chrono::{DateTime, Utc};

mod common;
use common::{details, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

/// What is missed is not made up for.
fn job(name: &str) -> Job {
    Job::new(name, every(secs(10))).misfire(Misfire::Skip).run(async |_| {})
}

fn pause(jobs: impl Into<Selector>) -> PauseJobs {
    PauseJobs::new(jobs)
}

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-01-05T{time}Z").parse().expect("an instant")
}

fn said(rig: &Rig) -> (usize, usize) {
    (
        rig.count(|kind| matches!(kind, EventKind::JobPaused { .. })),
        rig.count(|kind| matches!(kind, EventKind::JobResumed { .. })),
    )
}

async fn paused(rig: &mut Rig, asked: PauseJobs) -> Vec<String> {
    let names = rig.send(0, asked).await.expect("they are there");
    names.into_iter().map(|name| name.as_str().to_owned()).collect()
}

async fn resumed(rig: &mut Rig, jobs: impl Into<Selector>) -> Vec<String> {
    let names = rig.send(0, ResumeJobs::new(jobs)).await.expect("they are there");
    names.into_iter().map(|name| name.as_str().to_owned()).collect()
}

/// How many jobs a node takes for paused.
async fn shown_as_paused(rig: &mut Rig, node: usize) -> usize {
    let mut list = ListJobs::default().state(JobState::Paused);
    let mut count = 0;
    loop {
        let page = rig.send(node, list.clone()).await;
        count += page.jobs.len();
        list.after = page.next;
        if list.after.is_none() {
            return count;
        }
    }
}

/// Two nodes that have the job; the first one leads.
async fn two_nodes(rig: &mut Rig) {
    rig.set_lease(secs(5));
    for _ in 0..2 {
        rig.node(node_with([job("job")])).await;
    }
    rig.advance(secs(15)).await;
    assert_eq!(starts(rig, "job"), ["n1 00:00:10"]);
}

#[test]
fn jobs_are_selected_by_name_by_tag_and_all_together() {
    simulate(START, async |rig| {
        let local = job("local").fires(Fires::Local).tag("t");
        let any = job("any").fires(Fires::AnyNode);
        rig.node(node_with([job("a"), job("b").tag("t"), local, any])).await;
        rig.advance(secs(5)).await;

        assert_eq!(paused(rig, pause("a")).await, ["a"]);
        assert_eq!(paused(rig, pause("a")).await, [""; 0]);
        assert_eq!(paused(rig, pause(Selector::Tag("t".to_owned()))).await, ["b", "local"]);
        rig.advance(secs(10)).await;
        assert_eq!(["a", "b", "local", "any"].map(|name| rig.started(name)), [0, 0, 0, 1]);
        assert_eq!(paused(rig, pause(Selector::All)).await, ["any"]);
        let another = pause("a").note("for another reason");
        assert_eq!(paused(rig, another).await, ["a"]);
        assert_eq!(said(rig), (5, 0));

        assert_eq!(resumed(rig, Selector::Tag("t".to_owned())).await, ["b", "local"]);
        assert_eq!(resumed(rig, Selector::Tag("t".to_owned())).await, [""; 0]);
        assert_eq!(resumed(rig, Selector::All).await, ["a", "any"]);
        assert_eq!(said(rig), (5, 4));
        rig.advance(secs(10)).await;
        assert_eq!(["a", "b", "local", "any"].map(|name| rig.started(name)), [1, 1, 1, 2]);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=paused"), 3);
    });
}

#[test]
fn a_pause_ends_by_itself_and_says_until_when_and_why() {
    simulate(START, async |rig| {
        for fires in [Fires::Leader, Fires::AnyNode, Fires::Local] {
            let name = format!("{fires:?}");
            let node = rig.node(node_with([job(&name).fires(fires)])).await;
            rig.advance(secs(5)).await;
            let start = rig.now();
            let until = start + chrono::TimeDelta::seconds(32);
            let note = "the printer is out of paper";
            rig.send(node, PauseJobs::new(Selector::All).until(until).note(note)).await.expect("it is there");

            rig.advance(secs(10)).await;
            let status = details(rig, node, &name).await;
            assert_eq!(status.state, JobState::Paused);
            let pause = status.pause.expect("it is paused");
            assert_eq!((pause.until, pause.note.as_deref()), (Some(until), Some(note)));
            assert_eq!(rig.started(&name), 0);

            rig.advance(secs(40)).await;
            assert_eq!(rig.started(&name), 2, "{}", rig.transcript());
            let status = details(rig, node, &name).await;
            assert_eq!((status.state, status.pause), (JobState::Scheduled, None));
            rig.shutdown(node, secs(1)).await;
            rig.advance(secs(5)).await;
        }
    });
}

#[test]
fn a_follower_pauses_a_job_for_the_leader_and_the_leader_for_a_follower() {
    simulate(START, async |rig| {
        two_nodes(rig).await;

        rig.send(1, pause("job")).await.expect("it is there");
        rig.advance(secs(60)).await;
        assert_eq!(rig.started("job"), 1);
        for node in [0, 1] {
            assert_eq!(details(rig, node, "job").await.state, JobState::Paused, "node {node}");
        }
        rig.send(0, ResumeJobs::new("job")).await.expect("it is there");
        rig.advance(secs(10)).await;

        assert_eq!(rig.started("job"), 2);
        assert_eq!(details(rig, 1, "job").await.state, JobState::Standby);
        let on: Vec<_> = rig
            .events()
            .into_iter()
            .filter(|recorded| {
                matches!(recorded.event.kind, EventKind::JobPaused { .. } | EventKind::JobResumed { .. })
            })
            .map(|recorded| recorded.node)
            .collect();
        assert_eq!(on, ["n2", "n1"], "each is said once, by the node that was asked");
    });
}

#[test]
fn a_node_that_starts_while_a_job_is_paused_shows_it_and_says_nothing() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([job("job")])).await;
        rig.send(first, pause("job").note("repair")).await.expect("it is there");
        rig.advance(secs(10)).await;
        rig.kill(first);

        let second = rig.node(node_with([job("job")])).await;
        rig.advance(secs(300)).await;

        assert_eq!(rig.leader(), Some(second));
        let status = details(rig, second, "job").await;
        let note = status.pause.and_then(|pause| pause.note);
        assert_eq!((status.state, note.as_deref()), (JobState::Paused, Some("repair")));
        assert_eq!(said(rig), (1, 0), "by the node that was told");
    });
}

#[test]
fn a_pause_outlasts_the_leader_and_every_node() {
    simulate(START, async |rig| {
        two_nodes(rig).await;
        rig.send(0, pause("job")).await.expect("it is there");

        rig.kill(0);
        rig.advance(secs(60)).await;
        rig.shutdown(1, secs(1)).await;
        let late = rig.node(node_with([job("job")])).await;
        rig.advance(secs(60)).await;

        assert_eq!(rig.started("job"), 1);
        assert_eq!(details(rig, late, "job").await.state, JobState::Paused);
        rig.send(late, ResumeJobs::new("job")).await.expect("it is there");
        rig.advance(secs(10)).await;
        assert_eq!(rig.started("job"), 2);
    });
}

#[test]
fn a_node_that_was_cut_off_finds_out() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        two_nodes(rig).await;
        rig.cut_off(0);
        rig.advance(secs(20)).await;
        assert_eq!(rig.leader(), Some(1));
        rig.send(1, pause("job")).await.expect("it is there");
        rig.advance(secs(20)).await;
        let before = rig.started("job");

        rig.reconnect(0);
        rig.advance(secs(20)).await;
        rig.kill(1);
        rig.advance(mins(2)).await;

        assert_eq!(rig.leader(), Some(0));
        assert_eq!(rig.started("job"), before);
        assert_eq!(details(rig, 0, "job").await.state, JobState::Paused);
    });
}

/// More jobs than notifications are kept for a node.
#[test]
fn each_of_many_resumed_jobs_fires_though_notifications_are_dropped() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let names: Vec<_> = (0..NOTIFICATIONS_MAX + 100).map(|nth| format!("job {nth}")).collect();
        for _ in 0..3 {
            rig.node(node_with(names.iter().map(|name| job(name)))).await;
        }
        rig.advance(secs(15)).await;
        assert_eq!(paused(rig, pause(Selector::All)).await.len(), names.len());
        rig.advance(secs(1)).await;

        // The leader and a follower hear nothing for a moment.
        [0, 2].into_iter().for_each(|node| rig.cut_off(node));
        // The notification of it is the oldest, though its name comes last: a node tells its jobs page by page.
        rig.send(1, ResumeJobs::new("job 999")).await.expect("it is there");
        rig.send(1, ResumeJobs::new(Selector::All)).await.expect("it is there");
        rig.advance(secs(1)).await;
        [0, 2].into_iter().for_each(|node| rig.reconnect(node));
        rig.advance(secs(5)).await;

        assert_eq!(rig.leader(), Some(0), "it was but a moment");
        let resumed: BTreeSet<_> = rig
            .events()
            .into_iter()
            .filter_map(|recorded| match recorded.event.kind {
                EventKind::RunStarted { job, .. } if recorded.event.at >= at("00:00:20") => Some(job),
                _ => None,
            })
            .collect();
        assert_eq!(resumed.len(), names.len());
        for node in [0, 2] {
            assert_eq!(shown_as_paused(rig, node).await, 0, "on node {node}");
        }
    });
}

#[test]
fn resuming_what_is_resumed_already_tells_a_node_that_did_not_hear_of_it() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let names: Vec<_> = (0..NOTIFICATIONS_MAX + 100).map(|nth| format!("job {nth}")).collect();
        let rare = |name: &String| Job::new(name.as_str(), Period::hours(1)).run(async |_| {});
        for _ in 0..2 {
            rig.node(node_with(names.iter().map(rare))).await;
        }
        rig.advance(secs(15)).await;
        paused(rig, pause(Selector::All)).await;
        rig.advance(secs(1)).await;
        rig.cut_off(0);
        rig.send(1, ResumeJobs::new(Selector::All)).await.expect("they are there");
        rig.advance(secs(1)).await;
        rig.reconnect(0);
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(0), "it was but a moment");
        assert_ne!(shown_as_paused(rig, 0).await, 0, "its jobs ask at their next tick");
        let said_before = said(rig);

        assert_eq!(resumed(rig, Selector::All).await, [""; 0]);

        assert_eq!(shown_as_paused(rig, 0).await, 0);
        assert_eq!(said(rig), said_before);
    });
}

#[test]
fn a_pause_until_an_instant_ends_with_another_leader_too() {
    simulate(START, async |rig| {
        two_nodes(rig).await;
        rig.send(0, pause("job").until(at("00:01:05"))).await.expect("it is there");

        rig.kill(0);
        rig.advance(secs(60)).await;

        assert_eq!(starts(rig, "job")[1..], ["n2 00:01:10"], "at 1:15");
    });
}

#[test]
fn a_paused_job_can_be_started_by_hand_and_its_run_in_progress_goes_on() {
    simulate(START, async |rig| {
        let long = Job::new("job", every(secs(30))).run(async |_| tokio::time::sleep(secs(10)).await);
        let node = rig.node(node_with([long])).await;
        rig.advance(secs(35)).await;

        rig.send(node, pause("job")).await.expect("it is there");
        assert_eq!(details(rig, node, "job").await.state, JobState::Running);
        rig.advance(secs(10)).await;
        let triggered = rig.send(node, TriggerJob::new("job")).await;
        assert!(triggered.is_ok(), "{triggered:?}");
        rig.advance(mins(2)).await;

        assert_eq!(starts(rig, "job"), ["n1 00:00:30", "n1 triggered"]);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 2);
    });
}

#[test]
fn a_local_job_is_paused_on_its_node_alone() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(node_with([job("job").fires(Fires::Local)])).await;
        }
        rig.advance(secs(5)).await;

        rig.send(0, pause("job")).await.expect("it is there");
        rig.advance(secs(30)).await;

        assert_eq!(starts(rig, "job"), ["n2 00:00:10", "n2 00:00:20", "n2 00:00:30"]);
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=paused"), 3);
    });
}

#[test]
fn what_makes_no_sense_pauses_nothing() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("job")])).await;
        rig.advance(secs(5)).await;

        let long = "ü".repeat(PAUSE_NOTE_MAX / 2 + 1);
        let past = Some(at("00:00:04"));
        let bad = rig.send(node, pause("job").note(long).until(past)).await;
        let unknown = rig.send(node, pause("nobody")).await;
        let unknown_too = rig.send(node, ResumeJobs::new("nobody")).await;

        let Err(PauseError::Invalid(faults)) = bad else { panic!("{bad:?}") };
        assert_eq!(
            faults.to_string(),
            format!(
                "note \"{} bytes\": the note of a pause has at most {PAUSE_NOTE_MAX} bytes; shorten it\n\
                 until \"2026-01-05 00:00:04 UTC\": a pause ends in the future; choose a later instant",
                PAUSE_NOTE_MAX + 2
            )
        );
        let nobody = Err(PauseError::Select(SelectError::UnknownJob { name: "nobody".to_owned() }));
        assert_eq!((unknown, unknown_too), (nobody.clone(), nobody));
        rig.advance(secs(10)).await;
        assert_eq!((rig.started("job"), said(rig)), (1, (0, 0)));
    });
}

#[test]
fn a_store_that_does_not_answer_is_said_so_and_asking_again_does_no_harm() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("job")])).await;
        rig.advance(secs(15)).await;
        let id = rig.id(node);

        rig.store().script(id, [CallFault::ReplyLost]);
        let unknown = rig.send(node, pause("job")).await;
        assert!(matches!(unknown, Err(PauseError::Unavailable { .. })), "{unknown:?}");
        assert_eq!(paused(rig, pause("job")).await, [""; 0], "it was paused all the same");
        rig.advance(Duration::from_secs(60)).await;

        assert_eq!(rig.started("job"), 1);
    });
}

#[test]
fn a_pause_is_a_value_with_an_end_and_a_note() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("a")])).await;
        rig.advance(secs(1)).await;
        let pause = Pause::until(at("01:00:00")).note("the disk is full");

        assert_eq!(
            rig.send(node, PauseJobs::new("a").with(pause.clone())).await.map(|jobs| jobs.len()),
            Ok(1)
        );
        let status = rig.send(node, JobDetails("a".to_owned())).await.expect("it is there");
        assert_eq!(status.pause, Some(pause));

        let for_good = PauseJobs::new("a").with(Pause::until_resumed());
        assert_eq!(rig.send(node, for_good).await.map(|jobs| jobs.len()), Ok(1), "another pause");
        let status = rig.send(node, JobDetails("a".to_owned())).await.expect("it is there");
        assert_eq!(status.pause, Some(Pause::until_resumed()));
    });
}

#[test]
fn a_pause_of_many_jobs_does_not_overtake_a_resume_of_some() {
    simulate(START, async |rig| {
        let names: Vec<_> = (0..PAGE_MAX + 100).map(|nth| format!("job {nth}")).collect();
        let rare = |name: &String| Job::new(name.as_str(), Period::hours(1)).run(async |_| {});
        for _ in 0..2 {
            rig.node(node_with(names.iter().map(rare))).await;
        }
        rig.advance(secs(15)).await;
        let leader = rig.id(0);

        let all = rig.supervisor(0).send(pause(Selector::All));
        // The first page is answered, and the second one is on its way.
        let latency = Duration::from_millis(1);
        rig.advance(latency).await;
        rig.store().script(leader, [CallFault::Stall(secs(1))]);
        rig.advance(latency).await;
        assert_eq!(resumed(rig, "job 0").await, ["job 0"]);
        rig.send(1, ResumeJobs::new("job 1")).await.expect("it is there");
        let paused = all.await.expect("the node runs").expect("they are there");
        assert_eq!(paused.len(), names.len());

        for job in ["job 0", "job 1"] {
            assert_eq!(details(rig, 0, job).await.pause, None, "{job}");
        }
        assert_eq!(shown_as_paused(rig, 0).await, names.len() - 2);
    });
}

#[test]
fn the_note_of_a_body_that_stops_its_job_is_bounded_as_it_is_kept() {
    // What stands for a NUL is three times as long.
    let note = Pause::stopped_by(&"\0".repeat(PAUSE_NOTE_MAX)).note.expect("it says so");

    assert!(note.len() <= PAUSE_NOTE_MAX, "{} bytes", note.len());
    assert!(note.starts_with("stopped by its body: \u{fffd}") && note.contains("(cut at "), "{note}");
}
