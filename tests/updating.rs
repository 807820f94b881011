//! A job gets another definition while it runs: it keeps its identity, its cursor and its history.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use callsheet::{
    EventKind, Fires, Job, JobDetails, JobState, JobStatus, Misfire, OnLost, Overlap, RESTARTS_MAX,
    RescheduleJob, Retry, Run, RunResult, Scheduled, TriggerJob, UpdateError,
    schedule::{Schedule, ScheduleIdentity, at, cron, every},
    testkit::{
        CallFault,
        fakes::{PanickingSchedule, Period},
        simulate,
    },
};
use chrono::{DateTime, Utc};

mod common;
use common::{assert_golden, details, mins, node_with, secs, starts};

const START: &str = "2026-01-05T00:00:00Z";

fn job(period: Duration) -> Job {
    Job::new("job", every(period)).run(async |_| {})
}

#[test]
fn the_story_of_an_update_during_a_run() {
    simulate(START, async |rig| {
        let retry = Retry::attempts(3).initial(secs(10)).jitter(0.0);
        let with = |period, error: &'static str| {
            Job::new("report", every(period)).retry(retry).run_with(error, |_: Run, error| async move {
                tokio::time::sleep(secs(20)).await;
                Err::<(), _>(error)
            })
        };
        let node = rig.node(node_with([with(mins(1), "the old body")])).await;
        rig.advance(secs(70)).await;

        // The attempt in progress ends as it would have. The next one, and the next tick, are those of the
        // new definition.
        rig.update(node, with(secs(100), "the new body")).await.expect("it is right");
        rig.advance(secs(180)).await;

        assert_golden(rig, "update_during_a_run");
    });
}

#[test]
fn a_changed_schedule_owes_ticks_from_the_change_on() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job(mins(60))])).await;
        rig.advance(mins(30) + secs(30)).await;

        rig.update(node, job(mins(1))).await.expect("it is right");
        rig.advance(mins(3)).await;
        rig.update(node, job(mins(2))).await.expect("it is right");
        rig.advance(mins(3)).await;

        let ticks = ["n1 00:31:00", "n1 00:32:00", "n1 00:33:00", "n1 00:34:00", "n1 00:36:00"];
        assert_eq!(starts(rig, "job"), ticks);
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 5, "what was before the change is not owed");
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobUpdated { .. })), 2);
    });
}

#[test]
fn an_update_without_another_schedule_loses_no_tick_and_no_history() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job(mins(1))])).await;
        rig.advance(secs(150)).await;
        let id = rig.id(node);
        // The tick at 00:03 is missed before the update is answered.
        rig.store().script(id, [callsheet::testkit::CallFault::Stall(secs(40))]);

        rig.update(node, job(mins(1)).misfire(Misfire::Latest { within: mins(2) }))
            .await
            .expect("it is right");
        rig.advance(secs(60)).await;

        assert_eq!(starts(rig, "job"), ["n1 00:01:00", "n1 00:02:00", "n1 00:03:00"]);
        let status = details(rig, node, "job").await;
        assert_eq!(status.last_runs.len(), 3);
        assert_eq!(status.policies.misfire, Misfire::Latest { within: mins(2) });
    });
}

/// Each minute, in the words of another schedule; from a moment on it says that it was each two minutes all
/// the time.
#[derive(Debug, Clone, Default)]
struct Liar {
    lies: Arc<AtomicBool>,
}

impl Liar {
    fn period(&self) -> Period {
        Period::seconds(if self.lies.load(Ordering::Relaxed) { 120 } else { 60 })
    }
}

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every 1m")
    }
}

impl Schedule for Liar {
    fn identity(&self) -> ScheduleIdentity {
        ScheduleIdentity::of_text("every two minutes, it says")
    }

    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period().next_after(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.period().previous_before(before)
    }
}

/// The rig audits each tick by the schedule that was in force when it was decided, not by any that the job
/// has had.
#[test]
#[should_panic(
    expected = "job: 1 ticks are accounted for in (2026-01-05 00:02:00 UTC, 2026-01-05T00:03:00Z]"
)]
fn ticks_by_a_schedule_that_was_replaced_are_not_accepted() {
    simulate(START, async |rig| {
        let liar = Liar::default();
        let node = rig.node(node_with([job(mins(1))])).await;
        rig.advance(secs(90)).await;

        rig.update(node, Job::new("job", liar.clone()).run(async |_| {})).await.expect("it is right");
        rig.advance(mins(5)).await;

        assert_eq!(rig.started("job"), 6, "each minute, as the one before did");
        liar.lies.store(true, Ordering::Relaxed);
    });
}

/// Mistake of a peer: the update of a policy kills the job.
#[test]
fn no_change_of_a_policy_stops_a_job() {
    simulate(START, async |rig| {
        let changes: Vec<fn(Job) -> Job> = vec![
            |job| job.overlap(Overlap::Queue(3)),
            |job| job.overlap(Overlap::Replace),
            |job| job.overlap(Overlap::Allow(2)),
            |job| job.misfire(Misfire::Skip),
            |job| job.on_lost(OnLost::Retry),
            |job| job.retry(Retry::attempts(2)),
            |job| job.timeout(secs(1)),
            |job| job.limit(1_000),
            |job| job.pause_after(3),
            |job| job.priority(1).tag("t"),
            |job| job,
        ];
        let node = rig.node(node_with([job(secs(10))])).await;
        rig.advance(secs(5)).await;

        for (nth, change) in changes.into_iter().enumerate() {
            rig.update(node, change(job(secs(10)))).await.expect("it is right");
            rig.advance(secs(10)).await;
            assert_eq!(rig.started("job"), nth + 1, "change {nth}");
        }
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=succeeded"), 11);
    });
}

#[test]
fn a_job_can_change_who_fires_it() {
    simulate(START, async |rig| {
        let with = |fires| job(secs(10)).fires(fires);
        for _ in 0..2 {
            rig.node(node_with([with(Fires::Leader)])).await;
        }
        rig.advance(secs(5)).await;
        let mut before = 0;
        for (fires, runs) in [
            (Fires::Local, 4),
            (Fires::AnyNode, 2),
            (Fires::Local, 4),
            (Fires::Leader, 2),
            (Fires::AnyNode, 2),
            (Fires::Leader, 2),
        ] {
            for node in [0, 1] {
                rig.update(node, with(fires)).await.expect("it is right");
            }
            rig.advance(secs(20)).await;

            let started = rig.started("job");
            assert_eq!(started - before, runs, "{fires:?}: {}", rig.transcript());
            before = started;
        }
    });
}

#[test]
fn a_run_keeps_the_lock_key_that_it_started_with() {
    simulate(START, async |rig| {
        type Keys = Arc<Mutex<Vec<String>>>;
        async fn note(run: Run, keys: Keys) -> RunResult {
            keys.lock().unwrap_or_else(PoisonError::into_inner).push(run.lock_key().to_string());
            tokio::time::sleep(secs(20)).await;
            Err("again".into())
        }
        let keys = Keys::default();
        let retry = Retry::attempts(2).initial(secs(5)).jitter(0.0);
        let with =
            |key| Job::new("job", every(mins(1))).lock_key(key).retry(retry).run_with(keys.clone(), note);
        let other = Job::new("other", every(mins(60))).lock_key("old").run(async |_| {});
        let node = rig.node(node_with([with("old"), other])).await;
        rig.advance(secs(70)).await;

        rig.update(node, with("new")).await.expect("it is right");
        rig.advance(secs(20)).await;
        let refused = rig.send(node, TriggerJob::new("other")).await;
        assert!(refused.is_err(), "the run in progress has the old key: {refused:?}");
        rig.advance(secs(50)).await;
        rig.send(node, TriggerJob::new("other")).await.expect("nobody has the old key");
        rig.advance(secs(35)).await;

        let keys = keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(keys, ["old", "old", "new", "new"]);
        assert_eq!(rig.store().held(), 0);
    });
}

/// The store takes a while to answer, or its answer is lost and it is asked again.
#[test]
fn a_run_that_was_asked_for_under_another_lock_key_has_that_one() {
    for fault in [CallFault::Stall(secs(1)), CallFault::ReplyLost] {
        simulate(START, async |rig| {
            let (sender, keys) = mpsc::channel();
            let with = |key| {
                let note = async |run: Run, keys: mpsc::Sender<String>| keys.send(run.lock_key().to_string());
                Job::new("job", every(mins(1))).lock_key(key).run_with(sender.clone(), note)
            };
            let node = rig.node(node_with([with("old")])).await;
            rig.advance(mins(1) - Duration::from_millis(1)).await;
            rig.store().script(rig.id(node), [fault]);
            rig.advance(Duration::from_millis(1)).await;
            assert_eq!(rig.started("job"), 0, "the claim is under way");

            rig.update(node, with("new")).await.expect("it is right");
            rig.advance(secs(50)).await;

            assert_eq!(keys.try_iter().collect::<Vec<_>>(), ["old"], "{fault:?}");
            rig.advance(secs(20)).await;
            assert_eq!(keys.try_iter().collect::<Vec<_>>(), ["new"], "{fault:?}");
            assert_eq!(rig.store().held(), 0);
        });
    }
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    simulate(START, async |rig| {
        let shared = Job::new("shares", every(mins(60))).lock_key("key").run(async |_| {});
        let node = rig.node(node_with([job(secs(10)), shared])).await;

        let unknown = rig.update(node, Job::new("nobody", every(secs(1))).run(async |_| {})).await;
        let invalid = rig.update(node, job(Duration::ZERO).limit(0)).await;
        let conflict = rig.update(node, job(secs(1)).lock_key("key").overlap(Overlap::Replace)).await;

        assert_eq!(unknown, Err(UpdateError::UnknownJob { name: "nobody".to_owned() }));
        let Err(UpdateError::Invalid(faults)) = &invalid else { panic!("{invalid:?}") };
        assert_eq!(faults.to_string().lines().count(), 2, "{faults}");
        let Err(UpdateError::Invalid(faults)) = &conflict else { panic!("{conflict:?}") };
        assert!(faults.to_string().contains("share one overlap policy"), "{faults}");
        rig.advance(secs(25)).await;
        assert_eq!(rig.started("job"), 2);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobUpdated { .. })), 0);
    });
}

#[test]
fn a_broken_job_fires_again_by_its_new_definition() {
    simulate(START, async |rig| {
        let after = "2026-01-05T00:00:05Z".parse().expect("an instant");
        let bad = PanickingSchedule::new(Period::seconds(5), after, RESTARTS_MAX + 1);
        let node = rig.node(node_with([Job::new("job", bad).run(async |_| {})])).await;
        rig.advance(secs(30)).await;
        assert_eq!(details(rig, node, "job").await.state, JobState::Broken);

        rig.update(node, job(secs(10))).await.expect("it is right");
        rig.advance(secs(25)).await;

        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobRevived { .. })), 1);
        assert_eq!(starts(rig, "job").last().map(String::as_str), Some("n1 00:00:50"));
        assert_eq!(details(rig, node, "job").await.state, JobState::Scheduled);
    });
}

#[test]
fn a_node_that_shares_a_job_goes_on_when_another_one_makes_it_its_own() {
    simulate(START, async |rig| {
        let with = |fires| job(secs(10)).fires(fires);
        for _ in 0..2 {
            rig.node(node_with([with(Fires::AnyNode)])).await;
        }
        rig.advance(secs(5)).await;
        let leader = rig.leader().expect("one leads");
        let other = ["n2", "n1"][leader];

        rig.update(leader, with(Fires::Local)).await.expect("it is right");
        rig.advance(mins(1)).await;

        // Each tick from the change on: one of them finds that the store has let the job go.
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::JobUpdated { .. })), 1);
        let after = |start: &String| {
            start.as_str() > format!("{other} 00:00:05").as_str() && start.starts_with(other)
        };
        assert_eq!(starts(rig, "job").into_iter().filter(after).count(), 6, "{}", rig.transcript());
    });
}

#[test]
fn an_interval_from_completion_set_during_a_run_counts_from_its_end() {
    simulate(START, async |rig| {
        let takes = |schedule| Job::new("job", schedule).run(async |_| tokio::time::sleep(secs(30)).await);
        let node = rig.node(node_with([takes(every(mins(1)))])).await;
        rig.advance(secs(70)).await;

        rig.update(node, takes(every(mins(2)).from_completion())).await.expect("it is right");
        rig.advance(mins(10)).await;

        assert_eq!(starts(rig, "job").len(), 1 + 4, "{}", rig.transcript());
    });
}

#[test]
fn another_schedule_leaves_body_policies_hooks_and_key_as_they_are() {
    simulate(START, async |rig| {
        let hooked = Arc::new(AtomicUsize::new(0));
        let counts = hooked.clone();
        let job = Job::new("job", every(secs(60)))
            .timeout(secs(7))
            .retry(Retry::attempts(3))
            .overlap(Overlap::Queue(2))
            .misfire(Misfire::Skip)
            .lock_key("key")
            .tag("tag")
            .before(move |_| {
                let counts = counts.clone();
                async move {
                    counts.fetch_add(1, Ordering::SeqCst);
                }
            })
            .run(async |_| {});
        let node = rig.node(node_with([job])).await;
        rig.advance(secs(1)).await;
        let before = rig.send(node, JobDetails("job".to_owned())).await.expect("it is there");

        let answer = rig.reschedule(node, "job", every(secs(10))).await.expect("it is there");

        assert_eq!(answer.scheduled, Scheduled::Here);
        let after = rig.send(node, JobDetails("job".to_owned())).await.expect("it is there");
        assert_eq!(&*after.schedule, "every 10s");
        let kept = |status: &JobStatus| (status.policies, status.tags.clone(), status.lock_key.clone());
        assert_eq!(kept(&after), kept(&before));
        rig.advance(secs(30)).await;
        assert_eq!((rig.started("job"), hooked.load(Ordering::SeqCst)), (3, 3));
    });
}

#[test]
fn a_schedule_that_makes_no_sense_changes_nothing() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([job(secs(10))])).await;
        rig.advance(secs(1)).await;

        let unknown = rig.send(node, RescheduleJob::new("nobody", every(secs(1)))).await;
        assert!(matches!(unknown, Err(UpdateError::UnknownJob { .. })), "{unknown:?}");
        let wrong = rig.send(node, RescheduleJob::new("job", cron("61 * * * *"))).await;
        let text = wrong.expect_err("there is no such minute").to_string();
        assert!(text.contains("job \"job\""), "{text}");
        let over = rig.send(node, RescheduleJob::new("job", at("2020-01-01T00:00:00Z"))).await;
        assert!(matches!(over, Err(UpdateError::Over { .. })), "{over:?}");

        rig.advance(secs(20)).await;
        assert_eq!(rig.started("job"), 2);
    });
}
