//! A job on a node that bounds its runs in progress.

use super::*;

#[test]
fn an_attempt_that_waits_for_a_permit_does_not_wake_the_job() {
    let mut job = limited(three_attempts());
    let run = job.run_permitted_tick("01:00");
    job.step("01:10", ended(run, failure(Severity::Transient)));
    assert_eq!(job.step("01:11", Input::WakeUp), [Effect::AskPermit { priority: 0, catches_up: false }]);

    assert_eq!(job.permit("01:11", PermitAnswer::Wait), []);

    assert_eq!(job.wake_in("01:11"), minutes(49), "with the next tick");
    let effects = job.permit("01:20", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Start(Start { attempt: 2, .. })]), "{effects:?}");
}

#[test]
fn a_queued_trigger_that_finds_the_node_full_asks_again_later() {
    let mut job = limited(Policies { overlap: Overlap::Queue(2), ..Policies::default() });
    let run = job.run_permitted_tick("01:00");
    let (queued, effects) = job.trigger("01:01");
    assert_eq!(effects, [Effect::Answer { run: queued, answer: Ok(TriggerAnswer::Queued) }]);
    let effects = job.step("01:02", ended(run, BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&Effect::AskPermit { priority: 0, catches_up: false }));

    assert_eq!(job.permit("01:02", PermitAnswer::NotAdmitted), [], "not at once, and not for ever");

    assert_eq!(job.wake_in("01:02"), Some(Duration::from_secs(1)));
    assert_eq!(job.step("01:02:01", Input::WakeUp), [Effect::AskPermit { priority: 0, catches_up: false }]);
    let effects = job.permit("01:02:01", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Claim(Claim { run, .. })] if run == queued), "{effects:?}");
}

#[test]
fn a_run_that_is_granted_late_waits_for_a_permit_and_keeps_its_timeout() {
    for refusals in [0, 3] {
        let timeout = Some(Duration::from_secs(600));
        let (mut job, run) = asked_again(Policies { timeout, ..Policies::default() });

        assert_eq!(
            job.step("01:00:06", granted(run)),
            [Effect::AskPermit { priority: 0, catches_up: false }]
        );
        let active: Vec<_> = job.machine.active_runs().copied().collect();
        assert!(
            active[0].phase(job.now("01:00:06")) == RunPhase::WaitingForPermit && !job.machine.is_drained(),
            "it holds its key"
        );
        // Where the node is to skip, too: it has its claim.
        for second in 0..refusals {
            assert_eq!(job.permit(&format!("01:00:0{}", 6 + second), PermitAnswer::NotAdmitted), []);
            let again = format!("01:00:0{}", 7 + second);
            assert_eq!(
                job.step(&again, Input::WakeUp),
                [Effect::AskPermit { priority: 0, catches_up: false }]
            );
        }
        assert_eq!(job.permit("01:00:09", PermitAnswer::Wait), []);
        assert_eq!(job.wake_in("01:00:09"), Some(Duration::from_secs(3591)), "with the next tick");
        let effects = job.permit("01:20", PermitAnswer::Granted);

        let [Effect::Start(start)] = effects[..] else { panic!("{effects:?}") };
        assert_eq!((start.run, start.attempt, start.begins, start.token), (run, 1, true, Some(TOKEN)));
        assert_eq!(start.deadline, Some(Duration::from_secs(90 * 60)), "its timeout counts from its start");
        let effects = job.step("01:30", ended(run, BodyEnd::Returned));
        assert_eq!(
            effects[..2],
            [Effect::ReleasePermit, Effect::Complete { run, outcome: Outcome::Succeeded }]
        );
    }
}

#[test]
fn a_run_that_waits_for_a_permit_to_begin_ends_at_once_when_it_is_told_to() {
    let inputs: [fn(RunId) -> Input; 4] = [
        |_| cancel(CancelReason::Shutdown),
        |_| cancel(CancelReason::Requested),
        |_| Input::Abort,
        |run| Input::LockLost { run },
    ];
    for input in inputs {
        let (mut job, run) = asked_again(three_attempts());
        job.step("01:00:06", granted(run));

        let effects = job.step("01:00:07", input(run));

        let Some(Effect::RunEnded(end)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(
            (end.outcome, &end.end, end.started_at),
            (Outcome::Cancelled, &BodyEnd::BetweenAttempts, None)
        );
        assert!(job.machine.is_idle());
        assert_eq!(job.permit("01:01", PermitAnswer::Granted), [Effect::ReleasePermit], "for nobody");
    }
}

#[test]
fn a_pause_does_not_keep_a_granted_run_from_beginning() {
    let (mut job, run) = asked_again(Policies::default());
    job.step("01:00:06", granted(run));

    job.step("01:00:07", Input::Pause(Some(Pause { until: None, note: None, by: None })));

    let effects = job.permit("01:00:08", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Start(Start { begins: true, .. })]), "{effects:?}");
}

#[test]
fn a_claim_whose_slot_is_taken_waits_for_a_permit_to_try_the_others() {
    let busy = |run| Input::Claimed { run, verdict: Verdict::Busy { holder: None, own: false } };
    let (mut job, run) = asked_again(Policies { overlap: Overlap::Allow(2), ..Policies::default() });

    let effects = job.step("01:00:06", busy(run));
    assert!(
        matches!(effects[..], [Effect::Claim(Claim { recheck: true, .. })]),
        "it may hold the slot itself"
    );
    let effects = job.step("01:00:06", Input::Claimed { run, verdict: Verdict::NotGranted });
    assert_eq!(effects, [Effect::AskPermit { priority: 0, catches_up: false }]);
    let (run, claim) = claim_of(&job.permit("01:00:07", PermitAnswer::Granted));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
    let effects = job.step("01:00:08", busy(run));

    let (contended, other) = (
        Effect::Contended { holder: None },
        Claim { slot: 1, tick: Some(claim), window: WINDOW, ..Claim::new(run) },
    );
    assert_eq!(effects, [contended, Effect::Claim(other)]);
}

#[test]
fn a_queued_trigger_whose_claim_gets_no_answer_gives_its_permit_back() {
    let mut job = limited(Policies { overlap: Overlap::Queue(1), ..Policies::default() });
    let running = job.run_permitted_tick("01:00");
    let (queued, _) = job.trigger("01:01");
    job.step("01:02", ended(running, BodyEnd::Returned));
    let effects = job.permit("01:02", PermitAnswer::Granted);
    assert_eq!(effects, [Effect::Claim(Claim::new(queued))]);
    let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };

    let effects = job.step("01:02:05", Input::Claimed { run: queued, verdict });

    assert_eq!(effects.last(), Some(&Effect::ReleasePermit));
    assert_eq!(job.step("01:02:06", Input::WakeUp), [Effect::Claim(Claim::new(queued))]);
    assert_eq!(job.step("01:02:07", granted(queued)), [Effect::AskPermit { priority: 0, catches_up: false }]);
    let effects = job.permit("01:02:08", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Start(Start { run, tick: None, .. })] if run == queued));
}

#[test]
fn a_full_node_skips_no_tick_that_waits_behind_a_claim_without_an_answer() {
    let misfire = Misfire::All { max: 5, within: Duration::from_hours(5) };
    let mut job = limited(Policies { misfire, ..Policies::default() });
    assert_eq!(job.step("02:10", Input::WakeUp), [Effect::AskPermit { priority: 0, catches_up: false }]);
    let (run, _) = claim_of(&job.permit("02:10", PermitAnswer::Granted));
    job.unanswered("02:10:05", run);
    assert_eq!(job.machine.waiting(), 1, "the tick of 02:00");
    let (_, effects) = job.trigger("02:10:05.050");
    assert_eq!(effects, [Effect::AskPermit { priority: 0, catches_up: false }]);

    let effects = job.permit("02:10:05.050", PermitAnswer::NotAdmitted);

    assert!(matches!(effects[..], [Effect::Answer { answer: Err(Refusal::Concurrency), .. }]), "{effects:?}");
    assert_eq!(job.machine.waiting(), 1, "it has not had its turn");
}

#[test]
fn a_full_node_skips_no_tick_that_waits_for_the_end_of_a_pause() {
    let mut job = limited(Policies::default());
    job.step("00:59:30", Input::Pause(Some(Pause { until: None, note: None, by: None })));
    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")]);
    let (run, effects) = job.trigger("01:00:10");
    assert_eq!(effects, [Effect::AskPermit { priority: 0, catches_up: false }]);

    let effects = job.permit("01:00:10", PermitAnswer::NotAdmitted);

    assert_eq!(effects, [Effect::Answer { run, answer: Err(Refusal::Concurrency) }]);
    assert_eq!(job.machine.waiting(), 1, "the tick");
}
