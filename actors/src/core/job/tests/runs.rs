//! The runs in progress: attempts, time, ends.

use super::*;

#[test]
fn a_timeout_cancels_then_aborts() {
    let policies =
        Policies { timeout: minutes(10), abort_after: Duration::from_secs(60), ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let run = job.run_tick("01:00");
    assert_eq!(job.wake_in("01:00"), minutes(10));

    assert_eq!(job.step("01:10", Input::WakeUp), [Effect::Cancel { run, why: CancelReason::TimedOut }]);
    assert_eq!(job.wake_in("01:10"), minutes(1));
    assert_eq!(job.step("01:11", Input::WakeUp), [Effect::Abort { run }]);
    assert!(job.machine.active_runs().next().unwrap().aborted, "it keeps its key until it is really over");
    assert_eq!(job.step("01:12", Input::WakeUp), []);

    let effects = job.step("01:13", ended(run, BodyEnd::Aborted));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::TimedOut });
}

#[test]
fn a_lost_lock_cancels_the_run_and_its_end_is_not_completed() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    let effects = job.step("01:10", Input::LockLost { run });
    assert_eq!(effects, [Effect::Cancel { run, why: CancelReason::LockLost }]);

    let effects = job.step("01:11", ended(run, BodyEnd::Returned));
    let [Effect::RunEnded(ended)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(ended.outcome, Outcome::Cancelled);
}

#[test]
fn the_truth_table_of_outcomes() {
    let failed = failure(Severity::Transient);
    let panicked = BodyEnd::Panicked("oh".into());
    let cases = [
        (None, BodyEnd::Returned, Outcome::Succeeded),
        (None, failed.clone(), Outcome::Failed),
        (None, panicked.clone(), Outcome::Panicked),
        (None, BodyEnd::Aborted, Outcome::Cancelled),
        (Some(CancelReason::Shutdown), BodyEnd::Returned, Outcome::Cancelled),
        (Some(CancelReason::Shutdown), failed, Outcome::Cancelled),
        (Some(CancelReason::Shutdown), panicked, Outcome::Panicked),
    ];
    for (cancelled, end, outcome) in cases {
        let mut job = hourly();
        let run = job.run_tick("01:00");
        if let Some(why) = cancelled {
            job.step("01:01", cancel(why));
        }

        let effects = job.step("01:02", ended(run, end.clone()));

        assert_eq!(effects[0], Effect::Complete { run, outcome }, "{cancelled:?} {end:?}");
    }
}

#[test]
fn a_failed_attempt_is_followed_by_another_one_under_the_same_key() {
    let mut job = retried(three_attempts());
    let run = job.run_tick("01:00");

    let effects = job.step("01:10", ended(run, failure(Severity::Transient)));
    let [Effect::Retried(ref retried)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((retried.attempt, retried.wait), (1, Duration::from_secs(60)));
    assert_eq!(job.wake_in("01:10"), Some(Duration::from_secs(60)));
    assert!(!job.machine.is_idle() && !job.machine.is_drained(), "the key stays held");

    let effects = job.step("01:11", Input::WakeUp);
    let [Effect::Start(start)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((start.run, start.attempt, start.token, start.term), (run, 2, Some(TOKEN), Some(TERM)));

    let panicked = BodyEnd::Panicked("oh".into());
    let effects = job.step("01:12", ended(run, panicked));
    assert!(matches!(effects[..], [Effect::Retried(_)]), "{effects:?}");
    assert_eq!(job.wake_in("01:12"), Some(Duration::from_secs(120)), "each pause is twice the one before");

    assert!(matches!(job.step("01:14", Input::WakeUp)[..], [Effect::Start(_)]));
    let effects = job.step("01:15", ended(run, failure(Severity::Transient)));
    let [Effect::Complete { outcome: Outcome::Failed, .. }, Effect::RunEnded(ref end)] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(end.started_at, Some(at("00:00")), "it started with its first attempt");
    assert!(job.machine.is_idle());
}

#[test]
fn what_is_in_vain_is_not_tried_again() {
    for (end, cancelled) in [
        (failure(Severity::Permanent), None),
        (failure(Severity::Stop), None),
        (failure(Severity::Transient), Some(CancelReason::Shutdown)),
    ] {
        let mut job = retried(three_attempts());
        let run = job.run_tick("01:00");
        if let Some(why) = cancelled {
            job.step("01:01", cancel(why));
        }

        let effects = job.step("01:10", ended(run, end));

        assert!(matches!(effects[..2], [Effect::Complete { .. }, Effect::RunEnded(_)]), "{effects:?}");
    }
}

#[test]
fn an_attempt_that_took_too_long_is_tried_again_with_a_timeout_of_its_own() {
    let timeout = Some(Duration::from_secs(600));
    let mut job = retried(Policies { timeout, ..three_attempts() });
    let run = job.run_tick("01:00");
    let effects = job.step("01:10", Input::WakeUp);
    assert!(matches!(effects[..], [Effect::Cancel { why: CancelReason::TimedOut, .. }]), "{effects:?}");

    let effects = job.step("01:10:01", ended(run, BodyEnd::Returned));
    let [Effect::Retried(ref retried)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(retried.outcome, Outcome::TimedOut);

    let effects = job.step("01:11:01", Input::WakeUp);
    let [Effect::Start(start)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(start.deadline, Some(Duration::from_secs(71 * 60 + 1 + 600)));
    let effects = job.step("01:12", ended(run, BodyEnd::Returned));
    assert!(matches!(
        effects[..],
        [Effect::Complete { outcome: Outcome::Succeeded, .. }, Effect::RunEnded(_)]
    ));
}

#[test]
fn a_run_that_waits_for_its_next_attempt_ends_at_once_when_it_is_told_to() {
    let inputs: [fn(RunId) -> Input; 3] =
        [|_| cancel(CancelReason::Shutdown), |_| Input::Abort, |run| Input::LockLost { run }];
    for input in inputs {
        let mut job = retried(three_attempts());
        let run = job.run_tick("01:00");
        job.step("01:10", ended(run, failure(Severity::Transient)));

        let effects = job.step("01:10:30", input(run));

        let Some(Effect::RunEnded(end)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!((end.outcome, &end.end), (Outcome::Cancelled, &BodyEnd::BetweenAttempts));
        assert!(job.machine.is_idle());
        assert_eq!(job.step("01:11", Input::WakeUp), [], "nothing is started any more");
    }
}

#[test]
fn a_run_cancelled_after_its_attempt_timed_out_is_not_tried_again() {
    for why in [CancelReason::Requested, CancelReason::Shutdown] {
        let timeout = Some(Duration::from_secs(600));
        let mut job = retried(Policies { timeout, ..three_attempts() });
        let run = job.run_tick("01:00");
        let effects = job.step("01:10", Input::WakeUp);
        assert!(matches!(effects[..], [Effect::Cancel { why: CancelReason::TimedOut, .. }]), "{effects:?}");
        job.step("01:10:01", cancel(why));

        let effects = job.step("01:10:02", ended(run, BodyEnd::Returned));

        let [Effect::Complete { outcome: Outcome::TimedOut, .. }, Effect::RunEnded(_)] = effects[..] else {
            panic!("{why:?}: {effects:?}")
        };
    }
}

#[test]
fn a_tick_during_a_pause_between_attempts_is_an_overlap() {
    let mut job = retried(Policies {
        retry: Retry {
            initial: Duration::from_hours(2),
            max: Duration::from_hours(2),
            ..three_attempts().retry
        },
        ..Policies::default()
    });
    let run = job.run_tick("01:00");
    job.step("01:10", ended(run, failure(Severity::Transient)));

    let effects = job.step("02:00", Input::WakeUp);

    assert!(matches!(effects[..], [Effect::Skipped { reason: SkipReason::Overlap, .. }]), "{effects:?}");
}

#[test]
fn pauses_grow_to_a_bound_and_vary_by_run_and_attempt() {
    let retry = Retry { attempts: 10, jitter: 0.0, ..Retry::default() };
    let run = RunIds::of(NodeId::numbered(1)).next(at("01:00"));
    let pauses: Vec<_> = (1..=10).map(|attempt| retry.pause(run, attempt).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);

    let jittered = Retry { jitter: 0.5, ..retry };
    let varied: std::collections::BTreeSet<_> = (0..100)
        .map(|n| {
            let run = RunIds::of(NodeId::numbered(n)).next(at("01:00"));
            let pause = jittered.pause(run, 3);
            assert!((Duration::from_secs(2)..=Duration::from_secs(4)).contains(&pause), "{pause:?}");
            pause
        })
        .collect();
    assert!(varied.len() > 90, "{varied:?}");
}

#[test]
fn a_run_that_is_to_be_replaced_and_does_not_end_is_aborted_once() {
    let policies = Policies { overlap: Overlap::Replace, abort_after: Duration::ZERO, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let run = job.run_tick("01:00");
    assert_eq!(job.step("02:00", Input::WakeUp), [Effect::Cancel { run, why: CancelReason::Replaced }]);
    assert_eq!(job.step("02:00", Input::WakeUp), [Effect::Abort { run }]);

    assert_eq!(job.wake_in("02:00"), minutes(60), "with the next tick");
}

#[test]
fn a_tick_that_replaces_a_waiting_attempt_takes_its_slot_at_once() {
    let mut job = limited(Policies { overlap: Overlap::Replace, ..three_attempts() });
    let run = job.run_permitted_tick("01:00");
    job.step("01:59:59.900", ended(run, failure(Severity::Transient)));

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(effects.first(), Some(&Effect::Cancel { run, why: CancelReason::Replaced }));
    assert_eq!(effects.last(), Some(&Effect::AskPermit { priority: 0, catches_up: false }), "{effects:?}");
    let (next, _) = claim_of(&job.permit("02:00", PermitAnswer::Granted));
    assert!(matches!(job.step("02:00", granted(next))[..], [Effect::Start(_)]));
}

#[test]
fn a_run_that_waits_to_begin_and_is_replaced_gives_its_turn_to_the_tick() {
    let (mut job, run) = asked_again(Policies { overlap: Overlap::Replace, ..Policies::default() });
    job.step("01:00:06", granted(run));
    job.permit("01:00:06", PermitAnswer::NotAdmitted);
    assert_eq!(
        job.step("01:59:59.500", Input::WakeUp),
        [Effect::AskPermit { priority: 0, catches_up: false }]
    );
    assert_eq!(job.permit("01:59:59.500", PermitAnswer::NotAdmitted), []);

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(effects.first(), Some(&Effect::Cancel { run, why: CancelReason::Replaced }));
    assert_eq!(effects.last(), Some(&Effect::AskPermit { priority: 0, catches_up: false }), "{effects:?}");
}

#[test]
fn fewer_slots_than_runs_in_progress_leave_none() {
    let mut job = with_overlap(Overlap::Allow(2));
    let first = job.run_tick("01:00");
    job.run_tick("02:00");
    job.step("02:10", ended(first, BodyEnd::Returned));

    job.machine
        .redefine(Arc::new(Period::hours(1)), Policies { overlap: Overlap::Skip, ..Policies::default() });
    job.resume("02:20", "02:00");
    let (_, effects) = job.trigger("02:30");

    assert!(matches!(effects[..], [Effect::Answer { answer: Err(Refusal::Overlap { .. }), .. }]));
    let queue = Policies { overlap: Overlap::Queue(1), ..Policies::default() };
    job.machine.redefine(Arc::new(Period::hours(1)), queue);
    job.resume("02:40", "02:00");
    let (_, effects) = job.trigger("02:50");
    assert!(matches!(effects[..], [Effect::Answer { answer: Ok(TriggerAnswer::Queued), .. }]), "{effects:?}");
}

#[test]
fn an_error_that_is_permanent_is_so_when_the_time_was_over_as_well() {
    for severity in [Severity::Permanent, Severity::Stop] {
        let timeout = Some(Duration::from_secs(600));
        let mut job = Rehearsal::new(Period::hours(1), Policies { timeout, ..three_attempts() });
        let run = job.run_tick("01:00");
        job.step("01:10", Input::WakeUp);

        let effects = job.step("01:10:01", ended(run, failure(severity)));

        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Retried(_))), "{effects:?}");
    }
}
