//! A job gets another name while nodes of both versions run: it goes on as one job, under one name at a time. The audit
//! after each story follows the job from name to name.

use callsheet::{
    AddError, Callsheet, Health, JobState, OnLost, Overlap, PauseJobs, RunId, StartError, backend::Local,
    port::SystemClock, testkit::Record,
};

use super::*;
use common::details;

const OLD: &str = "cleanup";
const NEW: &str = "sweep";

fn old() -> Job {
    job(OLD, 10)
}

fn new() -> Job {
    job(NEW, 10).formerly(OLD)
}

/// At which fire times runs started, in their order, under whichever name.
fn instants(rig: &Rig) -> Vec<DateTime<Utc>> {
    let mut instants: Vec<_> = [OLD, NEW].into_iter().flat_map(|name| fire_times_of(rig, name)).collect();
    instants.sort_unstable();
    instants
}

fn fire_times_of(rig: &Rig, name: &str) -> Vec<DateTime<Utc>> {
    let started = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { job, fire_time: Some(at), attempt: 1, .. } if job.as_str() == name => {
            Some(at.instant())
        }
        _ => None,
    });
    started.collect()
}

/// Each fire time from the first to the last one had one run, and only one.
fn assert_one_run_each(rig: &Rig) {
    let instants = instants(rig);
    assert!(instants.len() > 1);
    for pair in instants.windows(2) {
        assert_eq!(pair[1] - pair[0], TimeDelta::seconds(10), "{instants:?}");
    }
}

async fn is_healthy(rig: &mut Rig, node: usize) -> bool {
    rig.send(node, Health).await.healthy
}

/// What a node waits for that does not fire the job of this name.
async fn waits_for(rig: &mut Rig, node: usize, name: &str) -> String {
    let details = details(rig, node, name).await;
    assert_eq!(details.state, JobState::Conflicting);
    details.conflicting.expect("a reason").to_string()
}

#[test]
fn a_rename_waits_for_the_leader_that_has_the_old_name() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([old()])).await;
        rig.advance(secs(1)).await;
        let new_nodes = [rig.node(node_with([new()])).await, rig.node(node_with([new()])).await];
        rig.advance(secs(34)).await;

        assert_eq!((rig.leader(), rig.started(OLD), rig.started(NEW)), (Some(leader), 3, 0));
        for node in new_nodes {
            let reason = waits_for(rig, node, NEW).await;
            assert!(
                reason.contains("\"cleanup\"") && reason.contains(&rig.id(leader).to_string()),
                "{reason}"
            );
            assert!(is_healthy(rig, node).await, "the job runs, under its old name");
        }

        rig.shutdown(leader, secs(5)).await;
        rig.advance(secs(60)).await;

        assert_eq!((rig.started(OLD), rig.started(NEW)), (3, 6));
        assert_one_run_each(rig);
        assert_eq!(details(rig, rig.leader().expect("one"), NEW).await.conflicting, None);
    });
}

/// And the old version comes back: everything goes back with it.
#[test]
fn a_straggler_waits_for_the_leader_that_has_the_new_name() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([new()])).await;
        rig.advance(secs(1)).await;
        let straggler = rig.node(node_with([old()])).await;
        rig.advance(secs(34)).await;

        assert_eq!((rig.leader(), rig.started(OLD), rig.started(NEW)), (Some(leader), 0, 3));
        let reason = waits_for(rig, straggler, OLD).await;
        assert!(reason.contains("\"sweep\"") && reason.contains(&rig.id(leader).to_string()), "{reason}");

        rig.kill(leader);
        let later = rig.node(node_with([new()])).await;
        rig.advance(secs(60)).await;

        assert_eq!((rig.leader(), rig.started(OLD), rig.started(NEW)), (Some(straggler), 6, 3));
        assert_one_run_each(rig);
        assert!(waits_for(rig, later, NEW).await.contains("\"cleanup\""));

        rig.shutdown(straggler, secs(5)).await;
        rig.advance(secs(60)).await;
        assert_eq!((rig.started(OLD), rig.started(NEW)), (6, 9), "and there again");
        assert_one_run_each(rig);
    });
}

/// Without a leader for the job each node is asked, and a key of its own says nothing of its name.
#[test]
fn a_job_of_any_node_waits_for_every_node_that_has_the_old_name() {
    for key in [None, Some("db")] {
        simulate(START, async |rig| {
            let of_any = |job: Job| match key {
                Some(key) => job.fires(Fires::AnyNode).lock_key(key),
                None => job.fires(Fires::AnyNode),
            };
            let old_nodes =
                [rig.node(node_with([of_any(old())])).await, rig.node(node_with([of_any(old())])).await];
            rig.advance(secs(1)).await;
            rig.node(node_with([of_any(new())])).await;
            rig.advance(secs(24)).await;
            rig.kill(old_nodes[0]);
            rig.advance(secs(20)).await;
            assert_eq!((rig.started(OLD), rig.started(NEW)), (4, 0), "{key:?}: one of them is left");

            rig.send(old_nodes[1], RemoveJobs::new(OLD)).await.expect("it is there");
            rig.advance(secs(60)).await;

            assert_eq!((rig.started(OLD), rig.started(NEW)), (4, 6), "{key:?}");
            assert_one_run_each(rig);
        });
    }
}

/// Between the move and whatever would have followed it.
#[test]
fn whoever_comes_after_a_node_that_died_with_the_move_goes_on() {
    for (next, name) in [(old(), OLD), (new(), NEW)] {
        simulate(START, async |rig| {
            let first = rig.node(node_with([old()])).await;
            rig.advance(secs(34)).await;
            let mover = rig.node(node_with([new()])).await;
            rig.advance(secs(1)).await;
            rig.shutdown(first, secs(5)).await;
            let is_moved =
                |rig: &Rig| rig.store().records().iter().any(|one| matches!(one, Record::Renamed { .. }));
            for _ in 0..10_000 {
                if is_moved(rig) {
                    break;
                }
                rig.advance(ms(1)).await;
            }
            assert!(is_moved(rig));

            rig.kill(mover);
            let last = rig.node(node_with([next.clone()])).await;
            rig.advance(secs(59)).await;

            assert_eq!(rig.leader(), Some(last));
            assert_eq!(instants(rig).len(), 9);
            assert_eq!(fire_times_of(rig, name).last(), instants(rig).last());
            assert_one_run_each(rig);
        });
    }
}

#[test]
fn a_pause_and_failures_in_a_row_travel() {
    simulate(START, async |rig| {
        let failing = |job: Job| -> Job { job.pause_after(5) };
        let fails = |name: &str| Job::new(name, every(secs(10))).run(async |_| Err::<(), _>("no"));
        let first = rig.node(node_with([failing(fails(OLD))])).await;
        rig.advance(secs(34)).await;
        rig.node(node_with([failing(fails(NEW).formerly(OLD))])).await;
        rig.shutdown(first, secs(5)).await;
        rig.advance(secs(30)).await;
        assert_eq!((rig.started(OLD), rig.started(NEW)), (3, 2), "the fifth failure in a row pauses it");

        let third = rig.node(node_with([fails(OLD)])).await;
        let second = rig.leader().expect("one leads");
        rig.shutdown(second, secs(5)).await;
        rig.advance(secs(30)).await;

        assert_eq!((rig.started(OLD), rig.started(NEW)), (3, 2));
        let details = details(rig, third, OLD).await;
        assert_eq!((details.state, details.failures), (JobState::Paused, 5));
    });
}

#[test]
fn a_pause_by_hand_holds_under_the_new_name() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([old()])).await;
        rig.advance(secs(14)).await;
        rig.send(first, PauseJobs::new(OLD)).await.expect("it is there");
        let second = rig.node(node_with([new()])).await;
        rig.shutdown(first, secs(5)).await;
        rig.advance(secs(30)).await;

        assert_eq!((rig.started(OLD), rig.started(NEW)), (1, 0));
        assert_eq!(details(rig, second, NEW).await.state, JobState::Paused);
    });
}

/// The runs that started, with their attempts.
fn attempts(rig: &Rig) -> Vec<(String, RunId, u32)> {
    let started = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunStarted { job, run, attempt, .. } => Some((job.as_str().to_owned(), run, attempt)),
        _ => None,
    });
    started.collect()
}

#[test]
fn a_lost_run_of_the_old_name_is_retried_under_the_new_one() {
    simulate(START, async |rig| {
        let slow = |name: &str| {
            let slow = Job::new(name, every(mins(10))).on_lost(OnLost::Retry);
            slow.run(async |run| obedient(run, mins(2)).await)
        };
        let first = rig.node(node_with([slow(OLD)])).await;
        rig.advance(mins(11)).await;
        let second = rig.node(node_with([slow(NEW).formerly(OLD)])).await;
        rig.kill(first);
        rig.advance(mins(3)).await;

        let attempts = attempts(rig);
        let [(former, lost, 1), (job, retried, 2)] = &attempts[..] else { panic!("{attempts:?}") };
        assert_eq!((former.as_str(), job.as_str(), lost), (OLD, NEW, retried));
        assert_eq!(details(rig, second, NEW).await.last_runs.len(), 1);
    });
}

#[test]
fn a_rename_waits_for_the_run_of_the_old_name() {
    simulate(START, async |rig| {
        let slow = |name: &str| {
            let slow = Job::new(name, every(mins(1))).overlap(Overlap::Allow(2));
            slow.run(async |run| obedient(run, mins(10)).await)
        };
        let first = rig.node(node_with([slow(OLD)])).await;
        rig.advance(mins(2) + secs(1)).await;
        assert_eq!(rig.started(OLD), 2, "one in each slot");
        rig.send(first, RemoveJobs::new(OLD)).await.expect("it is there");
        rig.add(first, slow(NEW).formerly(OLD)).await.expect("the other one was removed");
        rig.advance(mins(8) + secs(30)).await;
        assert_eq!(rig.started(NEW), 0);
        assert!(waits_for(rig, first, NEW).await.contains("run"), "the second goes on");

        rig.advance(mins(3)).await;
        assert!(rig.started(NEW) > 0);
    });
}

fn words_of(error: &impl ToString, words: &[&str]) {
    let text = error.to_string();
    words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
}

#[test]
fn a_node_has_no_job_of_a_name_that_another_one_had() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([old()])).await;
        let both = rig.add(node, new()).await.expect_err("it has both");
        assert!(matches!(both, AddError::Invalid(_)), "{both:?}");
        words_of(
            &both,
            &["\"sweep\"", "formerly", "\"cleanup\"", "this node has a job of that name", "remove"],
        );

        rig.advance(secs(14)).await;
        rig.send(node, RemoveJobs::new(OLD)).await.expect("it is there");
        rig.add(node, new()).await.expect("the other one was removed");
        let both = rig.add(node, old()).await.expect_err("it has both");
        words_of(&both, &["job name", "\"cleanup\"", "\"sweep\"", "had that name", "remove one of the two"]);
        let third = rig.add(node, job("tidy", 10).formerly(OLD)).await.expect_err("two had that name");
        words_of(&third, &["\"tidy\"", "\"sweep\"", "had that name as well"]);
        for (wrong, word) in [
            (job("same", 10).formerly("same"), "the name of the job"),
            (job("nameless", 10).formerly(""), "formerly"),
            (job("alone", 10).fires(Fires::Local).formerly("other"), "this node only"),
        ] {
            words_of(&rig.add(node, wrong).await.expect_err("it is wrong"), &[word]);
        }

        rig.advance(secs(30)).await;
        assert_eq!((rig.started(OLD), rig.started(NEW)), (1, 3), "it goes on on the same node");
    });
}

#[tokio::test]
async fn a_node_does_not_start_with_both_names() {
    let backend = Local::new(std::sync::Arc::new(SystemClock::default()));
    let started = Callsheet::builder().jobs([old(), new()]).backend(backend).start().await;

    let Err(StartError::Invalid(faults)) = started else { panic!("it started") };
    words_of(&faults, &["\"sweep\"", "had that name", "remove one of the two"]);
}
