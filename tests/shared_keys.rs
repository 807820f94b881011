//! Jobs that share a lock key share one overlap policy, on all nodes: another one is refused for as long as
//! somebody declares the first, and no tick of the job that is refused is lost silently.

use callsheet::{
    AddError, AddJobs, EventKind, Fires, Job, JobState, Overlap, RemoveJobs, TriggerError, UpdateError,
    schedule::every,
    testkit::{
        CallFault, Rig,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use chrono::TimeDelta;

mod common;
use common::{details, mins, node_with, secs, started_on, starts, trigger};

const START: &str = "2026-01-05T00:00:00Z";
const DUE: &str = "callsheet_ticks_due_total";
const TICKS: &str = "callsheet_ticks_total";

fn job(name: &str, overlap: Overlap) -> Job {
    Job::new(name, every(secs(10))).overlap(overlap).run(async |_| {})
}

fn keyed(name: &str, overlap: Overlap) -> Job {
    Job::new(name, every(secs(10))).overlap(overlap).lock_key("key").run(async |_| {})
}

fn any(name: &str, overlap: Overlap) -> Job {
    let job = Job::new(name, every(secs(10))).overlap(overlap).lock_key("key");
    job.fires(Fires::AnyNode).run(async |_| {})
}

/// Who was told that it does not fire a job, in the order of the events.
fn refused(rig: &Rig) -> Vec<String> {
    let refused = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::JobConflicting { job, .. } => Some(format!("{} {job}", recorded.node)),
        _ => None,
    });
    refused.collect()
}

#[test]
fn a_policy_that_contradicts_another_node_is_refused_until_that_stops() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([any("one", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([any("two", Overlap::Allow(2)), job("other", Overlap::Skip)])).await;
        rig.advance(mins(2)).await;

        assert_eq!(refused(rig), ["n2 two"], "once");
        assert_eq!((started_on(rig, "n1"), rig.started("two"), rig.started("other")), (12, 0, 12));
        let status = details(rig, second, "two").await;
        assert_eq!(status.state, JobState::Conflicting);
        let reason = status.conflicting.expect("a reason");
        assert_eq!(
            &*reason,
            r#"job "two": overlap policy "allow 2": jobs that share the lock key "key" share one overlap policy, and that of other nodes is "skip"; choose the same, or another key, or remove the jobs that have it from the other nodes first"#
        );
        let triggered = trigger(rig, second, "two").await;
        assert!(matches!(triggered, Err(TriggerError::Conflicting { .. })), "{triggered:?}");

        rig.shutdown(first, secs(0)).await;
        rig.advance(mins(1)).await;

        assert_eq!(details(rig, second, "two").await.state, JobState::Scheduled);
        let (due, started) = (rig.counter(DUE, "name=two"), rig.started("two") as u64);
        let missed = rig.counter(TICKS, "outcome=misfire");
        assert_eq!((due, due - started), (18, missed), "since it was added, each tick is accounted for");
        assert!((4..=7).contains(&started), "from half a minute after the other node has stopped: {started}");
        trigger(rig, second, "two").await.expect("it starts");
    });
}

#[test]
fn a_job_whose_key_has_another_policy_elsewhere_is_not_added() {
    simulate(START, async |rig| {
        rig.node(node_with([keyed("led", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;

        let batch = vec![keyed("new", Overlap::Allow(2)), job("good", Overlap::Skip)];
        let error = rig.send(follower, AddJobs::new(batch)).await.expect_err("another policy");
        let AddError::Invalid(faults) = &error else { panic!("{error:?}") };
        assert_eq!(faults.as_slice().len(), 1, "{faults}");
        assert!(faults.to_string().contains(r#"that of other nodes is "skip""#), "{faults}");
        let good = rig.add(follower, job("good", Overlap::Skip)).await;
        good.expect("none of the batch was added");

        rig.add(follower, keyed("new", Overlap::Skip)).await.expect("the same policy");
        let error = rig.update(follower, keyed("new", Overlap::Queue(2))).await.expect_err("another policy");
        assert!(matches!(error, UpdateError::Invalid(_)), "{error:?}");
        rig.add(follower, keyed("led", Overlap::Allow(2)))
            .await
            .expect_err("the node itself has another policy");
        rig.advance(secs(20)).await;
        assert_eq!((rig.started("led"), rig.started("good")), (2, 2));
        assert_eq!(refused(rig), [""; 0]);
    });
}

#[test]
fn a_job_that_only_a_follower_holds_obeys_the_leaders_policy() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([keyed("led", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([keyed("alone", Overlap::Allow(2))])).await;
        rig.advance(secs(34)).await;
        assert_eq!(refused(rig), ["n2 alone"]);
        assert_eq!(details(rig, follower, "alone").await.state, JobState::Conflicting);

        rig.update(follower, keyed("alone", Overlap::Skip)).await.expect("the same policy");
        rig.advance(secs(10)).await;
        assert_eq!(starts(rig, "alone"), ["n2 00:00:30"], "it makes up for three that it has missed");
        let skipped = [rig.counter(TICKS, "outcome=misfire"), rig.counter(TICKS, "outcome=overlap")];
        assert_eq!((rig.counter(DUE, "name=alone"), skipped), (4, [2, 1]), "the leader's run has the key");

        rig.update(follower, keyed("alone", Overlap::Queue(2))).await.expect_err("another policy");
        rig.send(leader, RemoveJobs::new("led")).await.expect("it is there");
        rig.advance(secs(1)).await;
        rig.update(follower, keyed("alone", Overlap::Queue(2))).await.expect("nobody else has the key");
        rig.advance(secs(10)).await;
        assert_eq!(starts(rig, "alone"), ["n2 00:00:30", "n2 00:00:50"]);
    });
}

#[test]
fn a_key_that_its_last_job_lets_go_of_is_free_for_another_policy() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([any("one", Overlap::Skip), any("also", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;

        rig.send(first, RemoveJobs::new("one")).await.expect("it is there");
        rig.advance(secs(1)).await;
        rig.add(second, any("two", Overlap::Replace)).await.expect_err("one job has the key still");
        let elsewhere = Job::new("also", every(secs(10))).fires(Fires::AnyNode).run(async |_| {});
        rig.update(first, elsewhere).await.expect("its own name is its key now");
        rig.advance(secs(1)).await;

        rig.add(second, any("two", Overlap::Replace)).await.expect("the key is free");
        rig.advance(secs(10)).await;
        assert_eq!((rig.started("also"), rig.started("two")), (1, 1));
    });
}

#[test]
fn a_node_that_leaves_a_job_to_the_leader_declares_nothing_any_more() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([keyed("job", Overlap::Skip)])).await;
        rig.advance(secs(14)).await;
        rig.add(leader, keyed("job", Overlap::Skip)).await.expect("the same policy");
        rig.advance(secs(10)).await;
        assert_eq!(starts(rig, "job"), ["n2 00:00:10", "n1 00:00:20"]);

        rig.update(leader, keyed("job", Overlap::Replace)).await.expect("nobody else fires it");
        rig.advance(secs(10)).await;
        assert_eq!(starts(rig, "job").last().map(String::as_str), Some("n1 00:00:30"));
        assert_eq!(refused(rig), [""; 0]);
    });
}

#[test]
fn a_changed_policy_comes_in_when_the_last_node_has_it() {
    simulate(START, async |rig| {
        let any = |overlap| {
            Job::new("job", every(secs(10))).fires(Fires::AnyNode).overlap(overlap).run(async |_| {})
        };
        let first = rig.node(node_with([any(Overlap::Skip)])).await;
        let second = rig.node(node_with([any(Overlap::Skip)])).await;
        rig.advance(secs(15)).await;

        rig.update(first, any(Overlap::Allow(2))).await.expect("its key is its own name");
        rig.advance(secs(20)).await;
        assert_eq!(
            (refused(rig), details(rig, first, "job").await.state),
            (vec!["n1 job".to_owned()], JobState::Conflicting)
        );
        assert_eq!(starts(rig, "job")[1..], ["n2 00:00:20", "n2 00:00:30"], "the other node goes on");
        rig.update(second, any(Overlap::Allow(2))).await.expect("its key is its own name");
        rig.advance(mins(1)).await;

        assert_eq!(refused(rig).len(), 1, "nobody has the former policy");
        for node in [first, second] {
            assert_eq!(details(rig, node, "job").await.state, JobState::Scheduled);
        }
        assert_eq!(rig.started("job"), 9);
    });
}

#[test]
fn a_new_leader_brings_another_policy_in() {
    simulate(START, async |rig| {
        let old = rig.node(node_with([keyed("job", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([keyed("job", Overlap::Allow(2))])).await;
        rig.advance(secs(34)).await;
        rig.shutdown(old, secs(0)).await;
        rig.advance(secs(30)).await;

        assert_eq!(rig.started("job"), 6);
        assert_eq!((started_on(rig, "n1"), started_on(rig, "n2")), (3, 3));
        assert_eq!(refused(rig), [""; 0]);
    });
}

/// A clock that is wrong makes a leader step down, and keep its session.
#[test]
fn a_node_declares_nothing_once_it_steps_down() {
    simulate(START, async |rig| {
        rig.set_lease(secs(60));
        let first = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([keyed("job", Overlap::Skip)])).await;
        rig.advance(secs(14)).await;
        assert_eq!(starts(rig, "job"), ["n2 00:00:10"], "the leader does not have it");
        rig.shutdown(first, secs(0)).await;
        rig.advance(secs(5)).await;
        assert_eq!(rig.leader(), Some(second));
        let third = rig.node(node_with([keyed("job", Overlap::Skip)])).await;
        rig.set_skew(second, TimeDelta::minutes(6));
        rig.advance(mins(1)).await;
        assert_eq!(rig.leader(), Some(third));
        rig.set_skew(second, TimeDelta::zero());
        rig.advance(mins(1)).await;

        rig.update(third, keyed("job", Overlap::Replace)).await.expect("nobody else fires it");
        rig.advance(secs(10)).await;

        assert_eq!(started_on(rig, "n3"), starts(rig, "job").len() - started_on(rig, "n2"));
        assert_eq!(details(rig, third, "job").await.state, JobState::Scheduled);
        assert_eq!(refused(rig), [""; 0]);
    });
}

#[test]
fn a_follower_that_leaves_a_job_to_the_leader_declares_nothing() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([any("job", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([any("job", Overlap::Skip)])).await;
        rig.advance(secs(4)).await;

        rig.update(leader, keyed("job", Overlap::Skip)).await.expect("the same policy");
        rig.update(follower, keyed("job", Overlap::Skip)).await.expect("the same policy");
        rig.advance(secs(10)).await;

        rig.update(leader, keyed("job", Overlap::Replace)).await.expect("nobody else fires it");
        rig.advance(secs(10)).await;
        assert_eq!(details(rig, leader, "job").await.state, JobState::Scheduled);
        assert_eq!((started_on(rig, "n1"), refused(rig)), (rig.started("job"), vec![]));
    });
}

/// The leader has the job by the time that its other holder changes it.
#[test]
fn a_changed_job_that_was_fired_without_a_leader_is_not_declared_there() {
    simulate(START, async |rig| {
        let leader = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;
        let follower = rig.node(node_with([keyed("job", Overlap::Skip)])).await;
        rig.advance(secs(4)).await;
        rig.add(leader, keyed("job", Overlap::Skip)).await.expect("the same policy");
        let tagged = keyed("job", Overlap::Skip).tag("changed");
        rig.update(follower, tagged).await.expect("the same policy");
        rig.advance(secs(10)).await;

        rig.update(leader, keyed("job", Overlap::Replace)).await.expect("nobody else fires it");
        rig.advance(secs(10)).await;
        assert_eq!((started_on(rig, "n1"), refused(rig)), (rig.started("job"), vec![]));
    });
}

#[test]
fn a_job_that_is_broken_declares_nothing_any_more() {
    for fires in [Fires::AnyNode, Fires::Leader] {
        simulate(START, async |rig| {
            let third = rig.now() + secs(3);
            let schedule = PanickingSchedule::new(Period::seconds(1), third, u32::MAX);
            let bad = Job::new("bad", schedule).lock_key("key").fires(fires).run(async |_| {});
            rig.node(node_with([bad])).await;
            rig.advance(secs(10)).await;
            assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobBroken { .. })), 1);
            let second = rig.node(node_with([])).await;
            rig.advance(secs(1)).await;

            rig.add(second, any("good", Overlap::Replace)).await.expect("nobody fires with the key");
            rig.advance(secs(20)).await;
            assert_eq!((rig.started("good"), refused(rig)), (2, vec![]));
        });
    }
}

/// The store does not hear of it at first.
#[test]
fn a_key_that_could_not_be_given_up_at_once_is_given_up_later() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([any("one", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;

        rig.store().script(rig.id(first), [CallFault::RequestLost]);
        rig.send(first, RemoveJobs::new("one")).await.expect("it is there");
        rig.advance(secs(1)).await;
        rig.add(second, any("two", Overlap::Replace)).await.expect_err("the store was not told");
        rig.advance(secs(40)).await;

        rig.add(second, any("two", Overlap::Replace)).await.expect("the key is free");
    });
}

#[test]
fn a_job_that_comes_back_during_a_retraction_declares_its_policy_after_it() {
    simulate(START, async |rig| {
        let first = rig.node(node_with([any("one", Overlap::Skip)])).await;
        rig.advance(secs(1)).await;
        let second = rig.node(node_with([])).await;
        rig.advance(secs(1)).await;

        rig.store().script(rig.id(first), [CallFault::Stall(secs(2))]);
        rig.send(first, RemoveJobs::new("one")).await.expect("it is there");
        rig.add(first, any("one", Overlap::Skip)).await.expect("it is gone");
        rig.advance(secs(10)).await;

        rig.add(second, any("two", Overlap::Replace)).await.expect_err("the key is the first node's");
        assert_eq!(details(rig, first, "one").await.state, JobState::Scheduled);
    });
}
