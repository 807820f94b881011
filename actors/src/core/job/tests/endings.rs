//! A job that changes hands, is changed, drained or started again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[test]
fn a_suspended_job_lets_its_run_end_and_arms_nothing() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    assert_eq!(job.step("01:10", Input::Suspend), []);

    assert_eq!(job.wake_in("01:10"), None);
    assert_eq!(job.step("02:00", Input::WakeUp), []);
    let effects = job.step("02:10", ended(run, BodyEnd::Returned));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Succeeded });
}

#[test]
fn a_revived_machine_keeps_its_run_and_closes_an_unknown_grant() {
    let mut job = hourly();
    let run = job.run_tick("01:00");
    let mut job = Rehearsal { machine: job.machine.revive(), ..job };
    let stray = job.ids.next(at("01:05"));

    let effects = job.step("01:05", granted(stray));
    assert_eq!(effects[0], Effect::Complete { run: stray, outcome: Outcome::Cancelled });

    let effects = job.step("01:10", ended(run, BodyEnd::Returned));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Succeeded });
}

#[test]
fn what_is_granted_after_a_shutdown_cancelled_all_does_not_start() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.step("01:00", Input::Suspend);
    job.step("01:00", cancel(CancelReason::Shutdown));

    let effects = job.step("01:00:01", granted(run));

    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Cancelled });
    assert!(job.machine.is_drained());

    let mut job = Rehearsal::dormant(Period::hours(1), Policies::default());
    let effects = job.step("01:00", Input::Trigger);
    let [Effect::Claim(Claim { run, .. })] = effects[..] else { panic!("{effects:?}") };
    job.step("01:00", cancel(CancelReason::Shutdown));

    let effects = job.step("01:00:01", granted(run));

    assert!(matches!(effects[0], Effect::Answer { answer: Err(Refusal::Closing), .. }), "{effects:?}");
    assert_eq!(effects[1], Effect::Complete { run, outcome: Outcome::Cancelled });
}

#[test]
fn a_job_that_died_while_it_claimed_fires_on() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let mut job = Rehearsal { machine: job.machine.revive(), ..job };
    assert_eq!(job.resume("01:00", "00:30"), []);

    job.step("01:00", granted(run));

    assert_eq!(job.wake_in("01:00"), minutes(60));
}

#[test]
fn a_node_that_decides_nothing_knows_what_it_leaves_to_others() {
    let mut job = hourly();
    let run = job.run_tick("01:00");
    job.term = None;
    job.step("01:10", ended(run, BodyEnd::Returned));
    assert_eq!((job.machine.next_fire_time(), job.machine.left_after()), (None, Some(at("01:00"))));

    let mut job = hourly();
    job.step("01:00", Input::WakeUp);
    job.step("01:00", Input::Suspend);
    assert_eq!(job.machine.left_after(), Some(at("01:00")), "the claim may be granted");

    let mut job = hourly();
    job.step("01:00", Input::WakeUp);
    job.resume("01:10", "01:05");
    assert_eq!((job.machine.next_fire_time(), job.machine.left_after()), (None, Some(at("01:05"))));

    let schedule = Moody { period: 1_000, from_end: true, panics: Arc::default() };
    let mut job = Rehearsal::new(schedule, Policies::default());
    job.step("00:30:01", Input::WakeUp);
    assert_eq!(job.machine.left_after(), None, "it counts from the end of the run");
}

#[test]
fn a_changed_schedule_counts_from_the_change_even_during_a_claim() {
    let answers =
        [Verdict::Granted { token: TOKEN, lost: None }, Verdict::Elsewhere { cursor: at("01:10") }, NOT_YET];
    for verdict in answers {
        let mut job = Rehearsal::new(Period::hours(1), Policies::default());
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

        job.machine.redefine(Arc::new(Period::seconds(60)), Policies::default());
        job.step("01:10", Input::WakeUp);
        job.resume("01:10", "01:10");
        job.step("01:10:01", Input::Claimed { run, verdict: verdict.clone() });

        assert_eq!(job.wake_in("01:10:01"), Some(Duration::from_secs(59)), "{verdict:?}");
    }
}

#[test]
fn a_schedule_that_panics_undoes_no_end_of_a_run() {
    let panics = Arc::default();
    let schedule = Moody { period: 1_000, from_end: true, panics: Arc::clone(&panics) };
    let mut job = Rehearsal::new(schedule, Policies { fires: Fires::Local, ..Policies::default() });
    let effects = job.step("00:30:01", Input::WakeUp);
    let [Effect::Count { .. }, Effect::Start(Start { run, .. })] = effects[..] else { panic!("{effects:?}") };
    panics.store(true, Ordering::Relaxed);

    let now = job.now("00:30:02");
    let end = ended(run, BodyEnd::Returned);
    let effects = catch_unwind(AssertUnwindSafe(|| job.machine.fed(now, end)));

    assert!(matches!(effects.unwrap()[..], [Effect::RunEnded(_)]));
}

#[test]
fn a_drained_job_is_not_resumed_and_starts_nothing_new() {
    let mut job = with_overlap(Overlap::Queue(2));
    let run = job.run_tick("01:00");
    job.step("01:01", Input::Drain);

    assert_eq!(job.resume("01:02", "01:00"), [], "an answer that was under way");
    assert_eq!(job.step("02:00", Input::WakeUp), []);
    let (refused, effects) = job.trigger("02:00");

    assert_eq!(effects, [Effect::Answer { run: refused, answer: Err(Refusal::Closing) }]);
    job.step("02:01", ended(run, BodyEnd::Returned));
    assert!(job.machine.is_idle());
    assert_eq!(job.wake_in("02:01"), None);
}

#[test]
fn a_claim_that_only_a_drained_job_learns_to_be_granted_is_closed() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.unanswered("01:00", run);
    job.step("01:00", Input::Drain);
    assert!(job.machine.is_drained(), "the end of the session would recheck it");
    job.step("01:00:00.100", Input::WakeUp);

    let effects = job.step("01:00:00.200", granted(run));

    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Cancelled });
}

#[test]
fn a_local_job_at_its_limit_of_runs_stays_exhausted_when_it_is_changed() {
    let policies = Policies { fires: Fires::Local, limit: Some(2), ..Policies::default() };
    for (limit, next) in [(Some(1), None), (Some(2), None), (Some(3), minutes(30)), (None, minutes(30))] {
        let mut job = Rehearsal::new(Period::hours(1), policies);
        for (starts, ends) in [("01:00", "01:01"), ("02:00", "02:01")] {
            let effects = job.step(starts, Input::WakeUp);
            let Some(Effect::Start(Start { run, .. })) = effects.last() else { panic!("{effects:?}") };
            job.step(ends, ended(*run, BodyEnd::Returned));
        }
        assert!(job.machine.is_exhausted());

        job.machine.redefine(Arc::new(Period::hours(1)), Policies { limit, ..policies });
        job.step("02:30", resume(at("02:30"), None));

        assert_eq!(job.wake_in("02:30"), next, "{limit:?}");
    }
}

#[test]
fn a_local_job_resumed_after_the_clock_was_set_back_repeats_no_tick() {
    let policies = Policies { fires: Fires::Local, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    job.step("02:00", Input::WakeUp);

    job.machine.redefine(Arc::new(Period::hours(1)), policies);
    job.step("00:45", resume(at("00:45"), None));

    assert_eq!(job.machine.cursor(), at("02:00"));
}
