//! A job that is paused, and what a pause holds.

use super::*;

#[test]
fn a_tick_that_a_pause_skips_is_reported_once_after_a_resume() {
    let policies = Policies { misfire: Misfire::Skip, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.resume("01:00:01", "00:30");

    let verdict = Verdict::Paused(Pause { until: None, note: None, by: None });
    let mut effects = job.step("01:00:02", Input::Claimed { run, verdict });
    effects.extend(job.step("01:10", Input::WakeUp));

    let skipped: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Skipped { newest, reason, count, .. } => Some((newest.instant(), *reason, *count)),
            _ => None,
        })
        .collect();
    assert_eq!(skipped, [(at("01:00"), SkipReason::Paused, 1)]);
}

#[test]
fn a_claim_that_was_granted_before_a_pause_does_not_end_it() {
    let notified = || Input::Pause(for_now());
    let read = || Input::Resume {
        cursor: at("00:30"),
        authority: Some(Authority::Term(TERM)),
        stored: Box::new(StoredState { pause: for_now(), ..StoredState::default() }),
    };
    for (how, told) in [("notified", notified()), ("read with the cursor", read())] {
        let mut job = hourly();
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
        job.step("01:00:01", told);

        job.step("01:00:02", granted(run));

        assert_eq!(job.machine.pause().cloned(), for_now(), "{how}");
    }
}

#[test]
fn a_claim_granted_to_a_paused_job_ends_that_pause_and_no_newer_one() {
    for newer in [false, true] {
        let mut job = hourly();
        job.step("00:59:30", Input::Pause(Some(Pause { until: None, note: None, by: None })));
        assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")]);
        // Nobody said that it was resumed, so it asks.
        let (run, _) = claim_of(&job.step("01:00:30", Input::WakeUp));
        if newer {
            job.step("01:00:31", Input::Pause(for_now()));
        }

        job.step("01:00:32", granted(run));

        assert_eq!(job.machine.pause().cloned(), for_now().filter(|_| newer));
    }
}

#[test]
fn a_pause_that_is_over_here_and_not_in_the_store_is_not_asked_at_once() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let pause = Pause { until: Some(at("01:00")), note: None, by: None };

    assert_eq!(job.step("01:00", Input::Claimed { run, verdict: Verdict::Paused(pause) }), []);

    assert_eq!(job.wake_in("01:00"), Some(KEY_AGAIN));
    claim_of(&job.step("01:00:00.250", Input::WakeUp));
}

#[test]
fn a_tick_that_asks_whether_its_job_is_paused_still_takes_nobodys_place() {
    let policies = Policies { overlap: Overlap::Replace, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    job.step("00:40", Input::Pause(Some(Pause { until: None, note: None, by: None })));
    let effects = job.step("00:50", Input::Trigger);
    let [Effect::Claim(Claim { run, .. })] = effects[..] else { panic!("{effects:?}") };
    job.step("00:50", granted(run));

    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")], "a manual run of a paused job goes on");

    let window = Duration::from_mins(30) + Duration::from_millis(1);
    assert_eq!(job.wake_in("01:00"), Some(window), "and nothing is asked until it ends");
    claim_of(&job.step("01:04", ended(run, BodyEnd::Returned))[2..]);
}

#[test]
fn what_the_store_had_not_heard_of_is_not_forgotten() {
    let stored = |failures| Box::new(StoredState { failures, ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));
    let resumed = |failures| Input::Resume { cursor: at("00:30"), authority, stored: stored(failures) };
    let failed = || BodyEnd::Failed { error: "no".into(), severity: Severity::Transient };
    let mut job = Rehearsal::dormant(Period::hours(1), Policies::default());
    let (run, _) = job.trigger("00:30");
    job.step("00:30", granted(run));
    job.step("00:30", ended(run, failed()));

    // It was asked before the run ended.
    job.step("00:30", resumed(0));
    assert_eq!(job.machine.failures(), 1);
    job.step("00:30", resumed(3));
    assert_eq!(job.machine.failures(), 3, "it knows of other nodes");
    job.step("00:31", resumed(0));
    assert_eq!(job.machine.failures(), 0, "it has heard of it, and of a success elsewhere");

    let (run, _) = job.trigger("00:40");
    job.step("00:40", granted(run));
    job.step("00:40", ended(run, failed()));
    job.step("00:40", Input::Pause(Some(Pause::until_resumed())));
    job.step("00:40", Input::Pause(None));
    job.step("00:40", resumed(0));
    assert_eq!(job.machine.failures(), 0, "failures are counted anew after a pause");
}
