//! A job that the store refuses for its data is parked: it stands in nobody's way, its ticks are skipped as
//! such, and it is tried again when somebody changes something.

use std::time::Duration;

use callsheet::{
    EventKind, Fires, Health, Job, JobState, OnLost, Operation, Overlap, PauseError, PauseJobs, Problem,
    RemoveJobs, ResumeJobs, RunError, SkipReason, TriggerError,
    schedule::every,
    testkit::{
        BadData::{self, Advance, Claim, End, Enrolment, Other, Pause},
        Rig, simulate,
    },
};

mod common;
use common::{details, mins, node_with, secs, starts, trigger};

const START: &str = "2026-01-05T00:00:00Z";
const DUE: &str = "callsheet_ticks_due_total";
const TICKS: &str = "callsheet_ticks_total";
const ERRORS: &str = "callsheet_coordination_errors_total";
/// A page of a thousand is halved ten times, at ten calls a second: the last one that is not to blame waits
/// for less than this.
const HALVING_MAX: Duration = Duration::from_secs(3);

fn job(name: &str, seconds: u64) -> Job {
    Job::new(name, every(secs(seconds))).run(async |_| {})
}

/// Who said so of which job, and what.
fn parked(rig: &Rig) -> Vec<String> {
    let parked = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::JobParked { job, reason } => Some(format!("{} {job}: {reason}", recorded.node)),
        EventKind::JobUnparked { job } => Some(format!("{} {job} unparked", recorded.node)),
        _ => None,
    });
    parked.collect()
}

fn skipped(rig: &Rig, job: &str) -> u64 {
    let skipped = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::TickSkipped { job: name, reason: SkipReason::Parked, count, .. }
            if name.as_str() == job =>
        {
            Some(count)
        }
        _ => None,
    });
    skipped.sum()
}

#[test]
fn one_bad_job_of_3000_delays_the_others_for_less_than_three_seconds() {
    simulate(START, async |rig| {
        rig.store().set_bad("job 1234", &[Enrolment]);
        let jobs: Vec<_> = (0..3_000).map(|nth| job(&format!("job {nth:04}"), 10)).collect();
        let node = rig.node(node_with(jobs)).await;

        rig.advance(HALVING_MAX).await;

        assert_eq!(parked(rig), ["n1 job 1234: job 1234 is bad"]);
        rig.advance(secs(10) - HALVING_MAX).await;
        rig.advance(secs(1)).await;
        let ran =
            rig.count(|kind| matches!(kind, EventKind::RunStarted { lateness, .. } if *lateness < secs(1)));
        assert_eq!(ran, 2_999, "each at its first tick, in time");
        let status = details(rig, node, "job 1234").await;
        assert_eq!((status.state, status.parked.as_deref()), (JobState::Parked, Some("job 1234 is bad")));
        // The page of a thousand, and two calls for each halving.
        assert!((2..=21).contains(&rig.counter(ERRORS, "operation=enrol")));
        assert_eq!(skipped(rig, "job 1234"), 1);
    });
}

#[test]
fn the_ticks_of_a_parked_job_are_skipped_as_such_and_each_is_counted() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Enrolment]);
        let node = rig.node(node_with([job("bad", 10), job("good", 10)])).await;

        rig.advance(secs(65)).await;

        assert_eq!((rig.started("bad"), rig.started("good")), (0, 6));
        assert_eq!(skipped(rig, "bad"), 6);
        let counted = [rig.counter(DUE, "name=bad"), rig.counter(TICKS, "outcome=parked")];
        assert_eq!(counted, [6, 6]);
        assert_eq!(parked(rig).len(), 1, "it is said once");
        let refused = trigger(rig, node, "bad").await;
        let Err(TriggerError::Parked { reason, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(&**reason, "bad is bad");
        let calls = rig.store().calls();
        rig.advance(mins(10)).await;
        let of_good = 10 * 6 * 2;
        let calls = rig.store().calls() - calls;
        assert!(calls < of_good + 100 + 10, "the store is asked about it once a minute: {calls}");
    });
}

#[test]
fn a_claim_that_is_refused_parks_its_job_and_the_others_go_on() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job("bad", 10), job("good", 10), job("better", 10)])).await;
        rig.advance(secs(25)).await;
        assert_eq!(rig.started("bad"), 2);
        rig.store().set_bad("bad", &[Claim]);

        rig.advance(secs(40)).await;

        assert_eq!((rig.started("bad"), rig.started("good"), rig.started("better")), (2, 6, 6));
        assert_eq!(parked(rig), ["n1 bad: bad is bad"]);
        assert_eq!(details(rig, node, "bad").await.state, JobState::Parked);
        assert_eq!((rig.counter(DUE, "name=bad"), skipped(rig, "bad")), (6, 4));
        // The others waited for the halving, not for a tick.
        let late =
            rig.count(|kind| matches!(kind, EventKind::RunStarted { lateness, .. } if *lateness > secs(2)));
        assert_eq!(late, 0);

        rig.store().set_bad("bad", &[]);
        rig.advance(secs(20)).await;
        assert_eq!(rig.started("bad"), 2, "that nobody changed anything is all that the node knows");
        let resumed = rig.send(node, ResumeJobs::new("bad")).await.expect("an answer");
        assert_eq!(resumed.len(), 1);
        rig.advance(secs(10)).await;

        assert_eq!(rig.started("bad"), 3);
        assert_eq!(parked(rig).last().map(String::as_str), Some("n1 bad unparked"));
        let status = details(rig, node, "bad").await;
        assert_eq!((status.state, status.parked), (JobState::Scheduled, None));
        assert_eq!(rig.counter(DUE, "name=bad"), 9, "each tick once, though the store hears of six only now");
    });
}

#[test]
fn a_changed_definition_is_tried_and_may_be_refused_again() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Enrolment]);
        let node = rig.node(node_with([job("bad", 10), job("good", 10)])).await;
        rig.advance(secs(25)).await;

        rig.update(node, job("bad", 5)).await.expect("it is a good definition");
        rig.advance(secs(20)).await;
        assert_eq!(parked(rig), ["n1 bad: bad is bad", "n1 bad unparked", "n1 bad: bad is bad"]);

        rig.store().set_bad("bad", &[]);
        rig.update(node, job("bad", 20)).await.expect("it is a good definition");
        rig.advance(secs(30)).await;

        assert_eq!(starts(rig, "bad"), ["n1 00:01:00"]);
        let (due, skipped) = (rig.counter(DUE, "name=bad"), skipped(rig, "bad"));
        // At 10 and 20 s, and from 25 s to 45 s every 5 s.
        assert_eq!((due, skipped), (7, 6));
    });
}

#[test]
fn a_second_bad_job_is_found_as_soon_as_the_first() {
    simulate(START, async |rig| {
        ["bad", "worse"].iter().for_each(|name| rig.store().set_bad(name, &[Enrolment]));
        let node = rig.node(node_with([job("bad", 10), job("good", 10)])).await;
        rig.advance(secs(5)).await;

        rig.add(node, job("worse", 10)).await.expect("it is a good definition");
        rig.advance(HALVING_MAX).await;

        assert_eq!(parked(rig), ["n1 bad: bad is bad", "n1 worse: worse is bad"]);
    });
}

#[test]
fn a_new_leader_finds_the_bad_job_itself_and_counts_from_its_election() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Enrolment]);
        let jobs = || node_with([job("bad", 10), job("good", 10)]);
        let first = rig.node(jobs()).await;
        rig.advance(secs(2)).await;
        rig.node(jobs()).await;
        rig.advance(secs(33)).await;
        assert_eq!((skipped(rig, "bad"), rig.started("good")), (3, 3));

        rig.shutdown(first, secs(1)).await;
        rig.advance(secs(30)).await;

        assert_eq!(parked(rig), ["n1 bad: bad is bad", "n2 bad: bad is bad"]);
        assert_eq!((skipped(rig, "bad"), rig.started("good")), (6, 6), "each tick by one node");
        assert_eq!(rig.counter(DUE, "name=bad"), 6);
    });
}

#[test]
fn a_leader_that_is_elected_again_skips_on_without_asking() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Enrolment]);
        let node = rig.node(node_with([job("bad", 10), job("good", 10)])).await;
        rig.advance(secs(25)).await;

        rig.end_session(node);
        rig.advance(secs(30)).await;

        assert_eq!(parked(rig).len(), 1);
        assert_eq!((skipped(rig, "bad"), rig.counter(DUE, "name=bad")), (5, 5));
        assert_eq!(details(rig, node, "bad").await.state, JobState::Parked);
    });
}

#[test]
fn a_job_that_any_node_may_fire_is_parked_where_it_is_refused() {
    simulate(START, async |rig| {
        let any = |name: &str| job(name, 10).fires(Fires::AnyNode);
        rig.store().set_bad("bad", &[Enrolment, Claim]);
        let node = rig.node(node_with([any("bad"), any("good")])).await;
        rig.advance(secs(35)).await;
        assert_eq!((parked(rig).len(), skipped(rig, "bad"), rig.started("good")), (1, 3, 3));

        rig.store().set_bad("bad", &[]);
        rig.send(node, ResumeJobs::new("bad")).await.expect("an answer");
        rig.advance(secs(30)).await;

        assert_eq!((rig.started("bad"), rig.counter(DUE, "name=bad")), (3, 6));
    });
}

#[test]
fn an_end_that_is_refused_frees_its_key_and_parks_its_job() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[End]);
        let node = rig.node(node_with([job("bad", 10), job("good", 10), job("better", 10)])).await;

        rig.advance(secs(35)).await;

        assert_eq!((rig.started("bad"), rig.started("good"), rig.started("better")), (1, 3, 3));
        assert_eq!(rig.store().held(), 0, "no key stays taken");
        let said = parked(rig);
        assert!(said.len() == 1 && said[0].ends_with("cannot be recorded: bad is bad"), "{said:?}");
        assert_eq!((skipped(rig, "bad"), rig.counter(DUE, "name=bad")), (2, 3));
        let errors = rig.counter(ERRORS, "operation=complete");
        assert!(errors < 6, "nothing is asked again and again: {errors}");
        rig.shutdown(node, secs(1)).await;
    });
}

#[test]
fn what_is_refused_of_everybody_parks_nobody() {
    for (names, bad) in
        [(&["a", "b", "c"][..], End), (&["a"], End), (&["a", "b", "c"], Claim), (&["a"], Claim)]
    {
        simulate(START, async |rig| {
            names.iter().for_each(|name| rig.store().set_bad(name, &[bad]));
            let node = rig.node(node_with(names.iter().map(|name| job(name, 10)))).await;
            rig.advance(mins(2)).await;

            names.iter().for_each(|name| rig.store().set_bad(name, &[]));
            rig.advance(secs(33)).await;

            assert_eq!(parked(rig), [""; 0], "{bad:?}");
            assert_eq!(rig.store().held(), 0, "every end is recorded");
            for name in names {
                assert_eq!(details(rig, node, name).await.state, JobState::Scheduled);
                assert!(rig.started(name) >= 2, "{bad:?}: {name} goes on");
            }
        });
    }
}

#[test]
fn a_move_that_is_refused_parks_its_job_and_no_skipped_tick_is_lost() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Advance]);
        let long = Job::new("bad", every(secs(10))).run(async |_| tokio::time::sleep(secs(15)).await);
        rig.node(node_with([long, job("good", 10)])).await;

        rig.advance(secs(65)).await;

        // At 20 s the run of 10 s is in progress: the skip cannot be written.
        assert_eq!((rig.started("bad"), rig.started("good")), (1, 6));
        assert_eq!(parked(rig).len(), 1);
        let counted = [rig.counter(DUE, "name=bad"), rig.counter(TICKS, "outcome=parked")];
        assert_eq!(counted, [6, 5]);
        assert_eq!(rig.store().held(), 0, "the run in progress ended as always");
    });
}

#[test]
fn a_pause_that_is_refused_for_one_job_pauses_the_others_and_says_so() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Pause]);
        let node = rig.node(node_with([job("a", 10), job("bad", 10), job("z", 10)])).await;
        rig.advance(secs(5)).await;

        let all = PauseJobs::new(callsheet::Selector::All);
        let refused = rig.send(node, all).await;

        let Err(PauseError::BadData { job: name, count: 1, reason }) = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!((name.as_str(), reason.as_str()), ("bad", "bad is bad"));
        rig.advance(secs(10)).await;
        assert_eq!((rig.started("a"), rig.started("bad"), rig.started("z")), (0, 1, 0));
    });
}

#[test]
fn a_body_stops_its_job_on_its_node_if_the_store_refuses_the_pause() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Pause]);
        let stops = Job::new("bad", every(secs(10))).run(async |_| Err::<(), _>(RunError::stop("no more")));
        rig.node(node_with([stops])).await;
        rig.advance(secs(15)).await;
        let calls = rig.store().calls();

        rig.advance(mins(10)).await;

        assert_eq!(rig.started("bad"), 1);
        let calls = rig.store().calls() - calls;
        assert!(calls < 150, "the store is not told again and again: {calls}");
    });
}

#[test]
fn a_removal_that_is_refused_for_one_job_is_told_for_the_others() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[Other]);
        let leader = rig.node(node_with([job("bad", 10), job("good", 10)])).await;
        rig.advance(secs(1)).await;
        rig.node(node_with([job("bad", 10), job("good", 10)])).await;
        rig.advance(secs(4)).await;

        rig.send(leader, RemoveJobs::new(callsheet::Selector::All)).await.expect("an answer");
        rig.advance(mins(1)).await;

        assert!(rig.started("good") >= 2, "the follower that holds it fires it: {}", rig.started("good"));
    });
}

#[test]
fn whoever_was_promised_a_run_is_told_that_the_job_is_parked() {
    simulate(START, async |rig| {
        let bad = job("bad", 3_600).overlap(Overlap::Queue(3)).on_lost(OnLost::Retry);
        let node = rig.node(node_with([bad, job("good", 10)])).await;
        rig.advance(secs(5)).await;
        rig.store().set_bad("bad", &BadData::ALL);

        let first = trigger(rig, node, "bad").await;
        rig.advance(secs(10)).await;
        let second = trigger(rig, node, "bad").await;

        let Err(TriggerError::Unavailable { reason, .. }) = &first else { panic!("{first:?}") };
        assert_eq!(reason, "bad is bad", "nobody else got through since: it may concern everybody");
        assert!(matches!(second, Err(TriggerError::Parked { .. })), "{second:?}");
        rig.advance(secs(1)).await;
        assert_eq!(details(rig, node, "bad").await.state, JobState::Parked);
    });
}

#[test]
fn triggers_that_are_refused_for_everybody_park_nobody() {
    for names in [&["a"][..], &["a", "b"]] {
        simulate(START, async |rig| {
            let node = rig.node(node_with(names.iter().map(|name| job(name, 3_600)))).await;
            rig.advance(secs(5)).await;
            names.iter().for_each(|name| rig.store().set_bad(name, &[Claim]));

            for _ in 0..3 {
                for name in names {
                    let refused = trigger(rig, node, name).await;
                    assert!(matches!(refused, Err(TriggerError::Unavailable { .. })), "{refused:?}");
                }
                rig.advance(secs(10)).await;
            }

            assert_eq!(parked(rig), [""; 0]);
            names.iter().for_each(|name| rig.store().set_bad(name, &[]));
            for name in names {
                trigger(rig, node, name).await.expect("it starts");
            }
        });
    }
}

#[test]
fn enrolments_that_are_refused_for_everybody_park_nobody() {
    for names in [&["a"][..], &["a", "b"], &["a", "b", "c", "d", "e"]] {
        for fires in [Fires::Leader, Fires::AnyNode] {
            simulate(START, async |rig| {
                rig.set_lease(secs(5));
                names.iter().for_each(|name| rig.store().set_bad(name, &[Enrolment]));
                let jobs = names.iter().map(|name| job(name, 10).fires(fires));
                let node = rig.node(node_with(jobs)).await;
                rig.advance(mins(2)).await;

                let health = rig.send(node, Health).await;
                let failing = health.problems.iter().find_map(|problem| match problem {
                    Problem::OperationFailing { operation: Operation::Enrol, reason, .. } => {
                        Some(reason.to_string())
                    }
                    _ => None,
                });
                assert!(failing.is_some_and(|reason| reason.ends_with(" is bad")), "{health:?}");
                let errors = rig.counter(ERRORS, "operation=enrol");
                rig.advance(mins(1)).await;
                let errors = rig.counter(ERRORS, "operation=enrol") - errors;
                assert!((10..=20).contains(&errors), "one at a time, at growing pauses: {errors}");
                assert_eq!(parked(rig), [""; 0]);

                names.iter().for_each(|name| rig.store().set_bad(name, &[]));
                rig.advance(secs(16)).await;

                for name in names {
                    assert!(rig.started(name) >= 1, "{name} goes on");
                    assert_eq!(details(rig, node, name).await.state, JobState::Scheduled);
                }
                let health = rig.send(node, Health).await;
                assert!(health.healthy, "{health:?}");
            });
        }
    }
}

#[test]
fn a_new_session_whose_enrolments_are_all_refused_parks_nobody() {
    simulate(START, async |rig| {
        let names = ["a", "b", "c"];
        let node = rig.node(node_with(names.map(|name| job(name, 10)))).await;
        rig.advance(secs(25)).await;
        names.iter().for_each(|name| rig.store().set_bad(name, &[Enrolment]));

        rig.end_session(node);
        rig.advance(secs(60)).await;
        names.iter().for_each(|name| rig.store().set_bad(name, &[]));
        rig.advance(secs(15)).await;

        assert_eq!(parked(rig), [""; 0]);
        // The newest of those that were missed, and each that came due since.
        names.iter().for_each(|name| assert!(rig.started(name) >= 4, "{name}: {}", rig.started(name)));
    });
}

#[test]
fn a_key_that_is_locked_while_its_end_is_refused_is_freed_by_itself() {
    simulate(START, async |rig| {
        rig.store().set_bad("bad", &[End]);
        let long = Job::new("bad", every(secs(10))).run(async |_| tokio::time::sleep(secs(1)).await);
        rig.node(node_with([long, job("good", 1)])).await;
        rig.advance(Duration::from_millis(10_500)).await;
        rig.store().set_locked("bad", true);

        rig.advance(secs(10)).await;
        let errors = rig.counter(ERRORS, "operation=complete");
        rig.advance(secs(30)).await;

        assert_eq!(parked(rig).len(), 1);
        assert_eq!(rig.counter(ERRORS, "operation=complete"), errors, "it is not asked among the good ones");
        assert_eq!((rig.store().held(), rig.started("good")), (1, 50));
        rig.store().set_locked("bad", false);
        rig.advance(secs(1)).await;
        assert_eq!(rig.store().held(), 0);
    });
}
