//! Manual triggers: what becomes of them, and what is told.

use super::*;

#[test]
fn a_trigger_runs_without_moving_the_schedule() {
    let mut job = hourly();

    let effects = job.step("00:40", Input::Trigger);
    let [Effect::Claim(Claim { run, tick: None, recheck: false, .. })] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = job.step("00:40", granted(run));

    assert_eq!(effects[0], Effect::Answer { run, answer: Ok(TriggerAnswer::Started) });
    assert!(matches!(effects[1], Effect::Start(Start { tick: None, .. })));
    assert_eq!((job.machine.cursor(), job.wake_in("00:40")), (at("00:30"), minutes(20)));
}

#[test]
fn a_trigger_during_a_run_is_refused_with_the_holder() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    let effects = job.step("01:10", Input::Trigger);

    let refused = Err(Refusal::Overlap { holder: Some(run) });
    assert!(matches!(&effects[..], [Effect::Answer { answer, .. }] if *answer == refused), "{effects:?}");
}

#[test]
fn a_trigger_without_an_answer_is_refused_and_closed_if_it_was_granted() {
    let mut job = hourly();
    let effects = job.step("00:40", Input::Trigger);
    let [Effect::Claim(Claim { run, tick: None, recheck: false, .. })] = effects[..] else {
        panic!("{effects:?}")
    };
    let reason = "no answer".to_owned();

    let effects =
        job.step("00:40", Input::Claimed { run, verdict: Verdict::Unavailable { reason: reason.clone() } });
    assert_eq!(
        effects,
        [
            Effect::Unavailable { reason: reason.clone() },
            Effect::Answer { run, answer: Err(Refusal::Unavailable { reason }) }
        ]
    );
    assert_eq!(
        job.step("00:41", Input::WakeUp),
        [Effect::Claim(Claim { tick: None, recheck: true, ..Claim::new(run) })]
    );
    let effects = job.step("00:41", granted(run));

    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Cancelled });
    assert!(job.machine.is_idle());
}

#[test]
fn a_trigger_that_was_given_up_is_rechecked_though_its_key_is_locked() {
    let mut job = hourly();
    let (run, _) = job.trigger("00:40");
    job.unanswered("00:40", run);
    let recheck = Effect::Claim(Claim { recheck: true, ..Claim::new(run) });
    assert_eq!(job.step("00:40:01", Input::WakeUp), std::slice::from_ref(&recheck));

    job.step("00:40:01", Input::Claimed { run, verdict: Verdict::Locked { holder: None } });

    assert_eq!(job.step("00:40:02", Input::WakeUp), [recheck], "it may hold the key");
}

#[test]
fn a_trigger_without_an_answer_that_was_lost_is_resumed_not_started_again() {
    let mut job = retrying(Overlap::Skip);
    let (run, _) = job.trigger("00:40");
    job.unanswered("00:40", run);

    job.step("00:40", Input::PendingRetry(PendingRetry { run, fire_time: None, named: None, losses: 1 }));

    assert_eq!(job.step("00:40:01", Input::WakeUp), [resume_lost(run, 0)]);
    let effects = job.step("00:40:01", granted(run));
    assert!(
        matches!(effects[..], [Effect::Complete { .. }, Effect::RunEnded(_)]),
        "nobody waits for it: {effects:?}"
    );
}

#[test]
fn a_granted_trigger_that_was_lost_is_retried_and_not_reported_as_over() {
    let (mut job, run) = asked_again_for_trigger();
    let retry = PendingRetry { run, fire_time: None, named: None, losses: 1 };
    assert_eq!(job.step("01:02:01", Input::PendingRetry(retry)), [], "it may be granted without it");

    let effects = job.step("01:02:02", Input::Claimed { run, verdict: Verdict::GrantedBefore });

    assert_eq!(effects, [resume_lost(run, 0)]);
    let effects = job.step("01:02:02", granted(run));
    assert!(matches!(effects[..], [Effect::Start(Start { attempt: 2, .. })]), "{effects:?}");
}

#[test]
fn a_granted_trigger_that_was_lost_and_is_not_wanted_is_closed() {
    let (mut job, run) = asked_again_for_trigger();
    job.step("01:02:01", cancel(CancelReason::Requested));
    job.step("01:02:01", Input::PendingRetry(PendingRetry { run, fire_time: None, named: None, losses: 1 }));

    let effects = job.step("01:02:02", Input::Claimed { run, verdict: Verdict::GrantedBefore });

    assert_eq!(effects, [resume_lost(run, 0)]);
    let effects = job.step("01:02:02", granted(run));
    assert!(matches!(effects[..], [Effect::Complete { outcome: Outcome::Cancelled, .. }, _]), "{effects:?}");
}

#[test]
fn who_closes_a_granted_trigger_that_was_lost_reports_its_end() {
    let (mut job, run) = asked_again_for_trigger();

    assert_eq!(job.step("01:02:02", Input::Claimed { run, verdict: Verdict::GrantedBefore }), []);

    assert!(job.machine.is_idle(), "it may go on elsewhere");
}

#[test]
fn a_trigger_that_waits_when_its_actor_dies_does_not_start() {
    let mut job = limited(Policies::default());
    let (_, effects) = job.trigger("00:40");
    assert_eq!(effects, [Effect::AskPermit { priority: 0, catches_up: false }]);

    let mut job = Rehearsal { machine: job.machine.revive(), ..job };

    assert_eq!(job.permit("00:41", PermitAnswer::Granted), [Effect::ReleasePermit]);
    assert!(job.machine.is_idle());
}
