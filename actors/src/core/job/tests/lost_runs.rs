//! Lost runs that are to go on.

use super::*;

#[test]
fn a_lost_run_that_still_goes_on_here_is_tried_again_after_its_end() {
    for overlap in [Overlap::Skip, Overlap::Allow(2)] {
        let policies = Policies { overlap, on_lost: OnLost::Retry, ..Policies::default() };
        let mut job = Rehearsal::new(Period::hours(1), policies);
        let run = job.run_tick("01:00");
        job.step("01:10", Input::LockLost { run });

        assert_eq!(job.step("01:11", Input::PendingRetry(pending_retry(run, 1))), []);
        let effects = job.step("01:12", ended(run, BodyEnd::Returned));

        let again = Effect::Claim(Claim { resume_lost: true, ..Claim::new(run) });
        assert_eq!(effects.last(), Some(&again), "{overlap:?}: {effects:?}");
        let effects = job.step("01:12", granted(run));
        assert!(matches!(effects[..], [Effect::Start(Start { attempt: 2, .. })]), "{effects:?}");
    }
}

#[test]
fn lost_runs_are_retried_one_at_a_time_from_the_oldest() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let [older, newer] = ["00:10", "00:20"].map(|time| job.ids.next(at(time)));

    for run in [newer, older, newer] {
        assert_eq!(job.step("01:10", Input::PendingRetry(pending_retry(run, 1))), []);
    }

    assert_eq!(job.machine.waiting(), 2);
    let effects = job.step("01:12", ended(running, BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(older, 0)));
    job.step("01:12", granted(older));
    let effects = job.step("01:13", ended(older, BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(newer, 0)), "the end of the other one does not recheck it");
}

#[test]
fn lost_runs_go_on_at_once_as_far_as_the_policy_allows() {
    let mut job = retrying(Overlap::Allow(2));
    let runs = ["00:10", "00:11", "00:12"].map(|time| job.ids.next(at(time)));
    let pending_retries = runs.map(|run| pending_retry(run, 1)).to_vec();
    let stored = Box::new(StoredState { pending_retries, ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));

    let effects = job.step("00:40", Input::Resume { cursor: at("00:30"), authority, stored });
    assert_eq!(effects, [resume_lost(runs[0], 0)], "one question at a time");
    let effects = job.step("00:40", granted(runs[0]));
    assert_eq!(effects.last(), Some(&resume_lost(runs[1], 1)), "{effects:?}");
    let effects = job.step("00:40", granted(runs[1]));

    assert!(matches!(effects[..], [Effect::Start(_)]), "no slot is left: {effects:?}");
    let effects = job.step("00:50", ended(runs[0], BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(runs[2], 0)), "{effects:?}");
}

#[test]
fn an_endless_retry_keeps_neither_another_retry_nor_a_trigger_waiting() {
    let mut job = retrying(Overlap::Allow(3));
    let stuck = job.run_tick("01:00");
    job.step("01:10", Input::LockLost { run: stuck });
    job.step("01:11", Input::PendingRetry(pending_retry(stuck, 1)));
    let other = job.ids.next(at("01:01"));

    assert_eq!(job.step("01:11", Input::PendingRetry(pending_retry(other, 1))), [resume_lost(other, 1)]);
    job.step("01:11", granted(other));
    let (run, effects) = job.trigger("01:12");

    assert_eq!(effects, [Effect::Claim(Claim { slot: 2, ..Claim::new(run) })]);
}

#[test]
fn a_lost_run_waits_for_the_right_to_fire_and_is_asked_for_once() {
    let mut job = retrying(Overlap::Skip);
    job.step("00:35", Input::Suspend);
    let run = job.ids.next(at("00:10"));

    assert_eq!(job.step("00:40", Input::PendingRetry(pending_retry(run, 1))), []);
    assert_eq!((job.machine.waiting(), job.wake_in("00:40")), (0, None));
    let stored =
        Box::new(StoredState { pending_retries: vec![pending_retry(run, 1)], ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));
    let effects = job.step("00:50", Input::Resume { cursor: at("00:30"), authority, stored });

    assert_eq!(effects, [resume_lost(run, 0)]);
    assert_eq!(job.step("00:50", Input::PendingRetry(pending_retry(run, 1))), [], "told once more");
    job.step("00:50", granted(run));
    let effects = job.step("00:55", ended(run, BodyEnd::Returned));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Claim(_))), "{effects:?}");
}

#[test]
fn a_retry_that_another_node_finished_keeps_no_trigger_waiting() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let [before, after] = ["00:10", "00:20"].map(|time| job.ids.next(at(time)));
    job.step("01:10", Input::PendingRetry(pending_retry(before, 1)));
    job.step("01:11", Input::Suspend);
    job.step("01:12", Input::PendingRetry(pending_retry(after, 1)));
    assert!(
        job.machine.unscheduled.pending_retries.iter().all(|pending| pending.retry.run != after),
        "the notification is for those who fire it"
    );
    job.step("01:13", ended(running, BodyEnd::Returned));

    job.resume("01:20", "01:00");

    assert_eq!(job.machine.waiting(), 0);
    let (run, effects) = job.trigger("01:21");
    assert_eq!(effects, [Effect::Claim(Claim::new(run))]);
}

#[test]
fn a_retry_that_was_to_be_closed_is_closed_after_the_job_was_resumed() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let [dropped, wanted] = ["00:10", "00:20"].map(|time| job.ids.next(at(time)));
    job.step("01:10", Input::PendingRetry(pending_retry(dropped, 1)));
    job.step("01:11", cancel(CancelReason::Requested));
    job.step("01:12", Input::Suspend);
    job.step("01:13", ended(running, BodyEnd::Returned));

    let stored = Box::new(StoredState {
        pending_retries: vec![pending_retry(dropped, 1), pending_retry(wanted, 1)],
        ..StoredState::default()
    });
    let authority = Some(Authority::Term(TERM));
    let effects = job.step("01:20", Input::Resume { cursor: at("01:00"), authority, stored });

    assert_eq!(effects, [resume_lost(dropped, 0)]);
    let effects = job.step("01:20", granted(dropped));
    assert!(matches!(effects[0], Effect::Complete { outcome: Outcome::Cancelled, .. }), "{effects:?}");
    assert_eq!(effects.last(), Some(&resume_lost(wanted, 0)));
    let effects = job.step("01:20", granted(wanted));
    assert!(matches!(effects[..], [Effect::Start(_)]), "{effects:?}");
}

#[test]
fn a_job_that_does_not_retry_any_more_forgets_what_it_owes() {
    let local = Policies { fires: Fires::Local, on_lost: OnLost::Retry, ..Policies::default() };
    for (policies, authority) in [(local, None), (Policies::default(), Some(Authority::Term(TERM)))] {
        let mut job = retrying(Overlap::Skip);
        let running = job.run_tick("01:00");
        let asked = job.ids.next(at("00:10"));
        let waits = job.ids.next(at("00:20"));
        job.step("01:10", Input::PendingRetry(pending_retry(asked, 1)));
        job.step("01:10", Input::PendingRetry(pending_retry(waits, 1)));
        let effects = job.step("01:12", ended(running, BodyEnd::Returned));
        assert_eq!(effects.last(), Some(&resume_lost(asked, 0)));

        job.machine.redefine(Arc::new(Period::hours(1)), policies);
        assert_eq!(job.machine.waiting(), 0);
        job.step("01:20", resume(at("01:20"), authority));
        let busy = Verdict::Busy { holder: None, own: false };
        let effects = job.step("01:20", Input::Claimed { run: asked, verdict: busy });

        assert_eq!(effects, [Effect::Contended { holder: None }], "it starts nothing without a claim");
        assert_eq!(job.step("01:21", Input::WakeUp), []);
        assert!(job.machine.is_idle());
    }
}

#[test]
fn a_lost_run_that_is_cancelled_before_its_retry_is_resumed_and_closed() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let lost = job.ids.next(at("00:10"));
    job.step("01:10", Input::PendingRetry(pending_retry(lost, 1)));

    job.step("01:11", cancel(CancelReason::Requested));
    let effects = job.step("01:12", ended(running, BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(lost, 0)), "the store would go on to owe it: {effects:?}");
    let busy = Verdict::Busy { holder: None, own: false };
    job.step("01:12", Input::Claimed { run: lost, verdict: busy });
    assert_eq!(job.step("01:13", Input::WakeUp), [resume_lost(lost, 0)]);
    let effects = job.step("01:13", granted(lost));

    let [Effect::Complete { run, outcome: Outcome::Cancelled, .. }, Effect::RunEnded(end)] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((*run, end.cancelled), (lost, Some(CancelReason::NotStarted)));
}

#[test]
fn of_too_many_lost_runs_the_newest_go_on() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let runs: Vec<_> = (0..=PENDING_RETRIES_MAX).map(|_| job.ids.next(at("00:10"))).collect();

    for run in &runs {
        job.step("01:10", Input::PendingRetry(pending_retry(*run, 1)));
    }

    assert_eq!(job.machine.waiting(), PENDING_RETRIES_MAX);
    let effects = job.step("01:12", ended(running, BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(runs[1], 0)), "only the oldest is gone");
}

#[test]
fn a_run_that_was_lost_too_often_is_not_tried_again() {
    for (losses, tried) in [(LOSSES_MAX - 1, true), (LOSSES_MAX, false)] {
        let policies = Policies { on_lost: OnLost::Retry, ..Policies::default() };
        let mut job = Rehearsal::new(Period::hours(1), policies);
        let run = job.ids.next(at("00:10"));

        let effects = job.step("00:40", Input::PendingRetry(pending_retry(run, losses)));

        assert_eq!(!effects.is_empty(), tried, "{losses}: {effects:?}");
    }
}

#[test]
fn a_run_lost_before_its_claim_was_answered_is_retried_after_the_answer() {
    let policies = Policies { on_lost: OnLost::Retry, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let (run, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    job.unanswered("01:00", run);

    let stored =
        Box::new(StoredState { pending_retries: vec![pending_retry(run, 1)], ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));
    let effects = job.step("01:00:10", Input::Resume { cursor: at("01:00"), authority, stored });
    let recheck = Claim { tick: Some(claim), window: WINDOW, recheck: true, ..Claim::new(run) };
    assert_eq!(effects, [Effect::Claim(recheck)], "one question about a run at a time");

    let effects = job.step("01:00:10", Input::Claimed { run, verdict: Verdict::GrantedBefore });
    assert_eq!(effects, [Effect::Claim(Claim { resume_lost: true, ..Claim::new(run) })]);
}

#[test]
fn a_run_that_was_lost_takes_the_place_of_no_newer_one() {
    let policies = Policies { overlap: Overlap::Replace, on_lost: OnLost::Retry, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let lost = job.ids.next(at("00:10"));
    let run = job.run_tick("01:00");

    assert_eq!(job.step("01:10", Input::PendingRetry(pending_retry(lost, 1))), [], "it waits");

    let effects = job.step("01:20", ended(run, BodyEnd::Returned));
    let Some(Effect::Claim(claim)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!((claim.run, claim.resume_lost, claim.replace), (lost, true, false));
}
