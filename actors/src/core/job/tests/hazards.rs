//! What happens between a question and its answer: deaths, changes, full nodes, lost answers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::{
    core::policy::{LOSSES_MAX, OnLost, Overlap, PENDING_RETRIES_MAX},
    port::PendingRetry,
};

const NOT_YET: Verdict = Verdict::NotYet { wait: Duration::ZERO };

fn with_overlap(overlap: Overlap) -> Rehearsal {
    Rehearsal::new(Period::hours(1), Policies { overlap, ..Policies::default() })
}

/// On a node that bounds its runs.
fn limited(policies: Policies) -> Rehearsal {
    let mut job = Rehearsal::dormant(Period::hours(1), policies);
    job.machine.limited = true;
    job.step("00:30", resume(at("00:30"), Some(Authority::Term(TERM))));
    job
}

impl Rehearsal {
    fn resume(&mut self, time: &str, cursor: &str) -> Vec<Effect> {
        self.step(time, resume(at(cursor), Some(Authority::Term(TERM))))
    }

    fn permit(&mut self, time: &str, answer: PermitAnswer) -> Vec<Effect> {
        self.step(time, Input::Permit(answer))
    }

    /// Wakes up, gets a permit, and is granted what it asks for.
    fn run_permitted_tick(&mut self, time: &str) -> RunId {
        assert_eq!(self.step(time, Input::WakeUp), [Effect::AskPermit { priority: 0 }]);
        let (run, _) = claim_of(&self.permit(time, PermitAnswer::Granted));
        assert!(matches!(self.step(time, granted(run))[..], [Effect::Start(_)]));
        run
    }

    fn unanswered(&mut self, time: &str, run: RunId) {
        let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };
        self.step(time, Input::Claimed { run, verdict });
    }

    fn trigger(&mut self, time: &str) -> (RunId, Vec<Effect>) {
        let now = self.now(time);
        (now.spare, self.machine.step(now, Input::Trigger).into_vec())
    }
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
    job.step("01:10", ended(run, End::Returned));
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
fn a_tick_that_a_pause_skips_is_reported_once_after_a_resume() {
    let policies = Policies { misfire: Misfire::Skip, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.resume("01:00:01", "00:30");

    let verdict = Verdict::Paused(Pause { until: None, note: None });
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
    let end = ended(run, End::Returned);
    let effects = catch_unwind(AssertUnwindSafe(|| job.machine.feed(now, end)));

    assert!(matches!(effects.unwrap()[..], [Effect::Ended(_)]));
}

#[test]
fn an_attempt_that_waits_for_a_permit_does_not_wake_the_job() {
    let mut job = limited(three_attempts());
    let run = job.run_permitted_tick("01:00");
    job.step("01:10", ended(run, failure(Severity::Transient)));
    assert_eq!(job.step("01:11", Input::WakeUp), [Effect::AskPermit { priority: 0 }]);

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
    assert_eq!(effects, [Effect::Answer { run: queued, answer: Ok(Triggered::Queued) }]);
    let effects = job.step("01:02", ended(run, End::Returned));
    assert_eq!(effects.last(), Some(&Effect::AskPermit { priority: 0 }));

    assert_eq!(job.permit("01:02", PermitAnswer::NotAdmitted), [], "not at once, and not for ever");

    assert_eq!(job.wake_in("01:02"), Some(Duration::from_secs(1)));
    assert_eq!(job.step("01:02:01", Input::WakeUp), [Effect::AskPermit { priority: 0 }]);
    let effects = job.permit("01:02:01", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Claim(Claim { run, .. })] if run == queued), "{effects:?}");
}

/// A limited job whose tick of 01:00 got no answer, and whose claim was asked again without a permit.
fn asked_again(policies: Policies) -> (Rehearsal, RunId) {
    let mut job = limited(policies);
    assert_eq!(job.step("01:00", Input::WakeUp), [Effect::AskPermit { priority: 0 }]);
    let (run, claim) = claim_of(&job.permit("01:00", PermitAnswer::Granted));
    let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };
    let effects = job.step("01:00:05", Input::Claimed { run, verdict });
    assert_eq!(effects.last(), Some(&Effect::ReleasePermit), "the store may be silent for long: {effects:?}");
    assert_eq!(claim_of(&job.step("01:00:05.100", Input::WakeUp)), (run, claim));
    (job, run)
}

#[test]
fn a_run_that_is_granted_late_waits_for_a_permit_and_keeps_its_timeout() {
    for refusals in [0, 3] {
        let timeout = Some(Duration::from_secs(600));
        let (mut job, run) = asked_again(Policies { timeout, ..Policies::default() });

        assert_eq!(job.step("01:00:06", granted(run)), [Effect::AskPermit { priority: 0 }]);
        let active: Vec<_> = job.machine.active_runs().copied().collect();
        assert!(
            active[0].phase(job.now("01:00:06")) == RunPhase::WaitingForSlot && !job.machine.is_drained(),
            "it holds its key"
        );
        // Where the node is to skip, too: it has its claim.
        for second in 0..refusals {
            assert_eq!(job.permit(&format!("01:00:0{}", 6 + second), PermitAnswer::NotAdmitted), []);
            let again = format!("01:00:0{}", 7 + second);
            assert_eq!(job.step(&again, Input::WakeUp), [Effect::AskPermit { priority: 0 }]);
        }
        assert_eq!(job.permit("01:00:09", PermitAnswer::Wait), []);
        assert_eq!(job.wake_in("01:00:09"), Some(Duration::from_secs(3591)), "with the next tick");
        let effects = job.permit("01:20", PermitAnswer::Granted);

        let [Effect::Start(start)] = effects[..] else { panic!("{effects:?}") };
        assert_eq!((start.run, start.attempt, start.begins, start.token), (run, 1, true, Some(TOKEN)));
        assert_eq!(start.deadline, Some(Duration::from_secs(90 * 60)), "its timeout counts from its start");
        let effects = job.step("01:30", ended(run, End::Returned));
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

        let Some(Effect::Ended(end)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(
            (end.outcome, &end.end, end.started_at),
            (Outcome::Cancelled, &End::BetweenAttempts, None)
        );
        assert!(job.machine.is_idle());
        assert_eq!(job.permit("01:01", PermitAnswer::Granted), [Effect::ReleasePermit], "for nobody");
    }
}

#[test]
fn a_pause_does_not_keep_a_granted_run_from_beginning() {
    let (mut job, run) = asked_again(Policies::default());
    job.step("01:00:06", granted(run));

    job.step("01:00:07", Input::Pause(Some(Pause { until: None, note: None })));

    let effects = job.permit("01:00:08", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Start(Start { begins: true, .. })]), "{effects:?}");
}

#[test]
fn a_claim_whose_slot_is_taken_waits_for_a_permit_to_try_the_others() {
    let busy = |run| Input::Claimed { run, verdict: Verdict::Busy { holder: None } };
    let (mut job, run) = asked_again(Policies { overlap: Overlap::Allow(2), ..Policies::default() });

    let effects = job.step("01:00:06", busy(run));
    assert!(
        matches!(effects[..], [Effect::Claim(Claim { recheck: true, .. })]),
        "it may hold the slot itself"
    );
    let effects = job.step("01:00:06", Input::Claimed { run, verdict: Verdict::NotGranted });
    assert_eq!(effects, [Effect::AskPermit { priority: 0 }]);
    let (run, claim) = claim_of(&job.permit("01:00:07", PermitAnswer::Granted));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
    let effects = job.step("01:00:08", busy(run));

    let (contended, other) =
        (Effect::Contended { holder: None }, Claim { slot: 1, tick: Some(claim), ..Claim::new(run) });
    assert_eq!(effects, [contended, Effect::Claim(other)]);
}

#[test]
fn a_queued_trigger_whose_claim_gets_no_answer_gives_its_permit_back() {
    let mut job = limited(Policies { overlap: Overlap::Queue(1), ..Policies::default() });
    let running = job.run_permitted_tick("01:00");
    let (queued, _) = job.trigger("01:01");
    job.step("01:02", ended(running, End::Returned));
    let effects = job.permit("01:02", PermitAnswer::Granted);
    assert_eq!(effects, [Effect::Claim(Claim::new(queued))]);
    let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };

    let effects = job.step("01:02:05", Input::Claimed { run: queued, verdict });

    assert_eq!(effects.last(), Some(&Effect::ReleasePermit));
    assert_eq!(job.step("01:02:06", Input::WakeUp), [Effect::Claim(Claim::new(queued))]);
    assert_eq!(job.step("01:02:07", granted(queued)), [Effect::AskPermit { priority: 0 }]);
    let effects = job.permit("01:02:08", PermitAnswer::Granted);
    assert!(matches!(effects[..], [Effect::Start(Start { run, tick: None, .. })] if run == queued));
}

#[test]
fn a_full_node_skips_no_tick_that_waits_behind_a_claim_without_an_answer() {
    let misfire = Misfire::All { max: 5, within: Duration::from_hours(5) };
    let mut job = limited(Policies { misfire, ..Policies::default() });
    assert_eq!(job.step("02:10", Input::WakeUp), [Effect::AskPermit { priority: 0 }]);
    let (run, _) = claim_of(&job.permit("02:10", PermitAnswer::Granted));
    job.unanswered("02:10:05", run);
    assert_eq!(job.machine.waiting(), 1, "the tick of 02:00");
    let (_, effects) = job.trigger("02:10:05.050");
    assert_eq!(effects, [Effect::AskPermit { priority: 0 }]);

    let effects = job.permit("02:10:05.050", PermitAnswer::NotAdmitted);

    assert!(matches!(effects[..], [Effect::Answer { answer: Err(Refusal::Concurrency), .. }]), "{effects:?}");
    assert_eq!(job.machine.waiting(), 1, "it has not had its turn");
}

#[test]
fn a_full_node_skips_no_tick_that_waits_for_the_end_of_a_pause() {
    let mut job = limited(Policies::default());
    job.step("00:59:30", Input::Pause(Some(Pause { until: None, note: None })));
    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")]);
    let (run, effects) = job.trigger("01:00:10");
    assert_eq!(effects, [Effect::AskPermit { priority: 0 }]);

    let effects = job.permit("01:00:10", PermitAnswer::NotAdmitted);

    assert_eq!(effects, [Effect::Answer { run, answer: Err(Refusal::Concurrency) }]);
    assert_eq!(job.machine.waiting(), 1, "the tick");
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
    assert_eq!(effects.last(), Some(&Effect::AskPermit { priority: 0 }), "{effects:?}");
    let (next, _) = claim_of(&job.permit("02:00", PermitAnswer::Granted));
    assert!(matches!(job.step("02:00", granted(next))[..], [Effect::Start(_)]));
}

#[test]
fn a_run_that_waits_to_begin_and_is_replaced_gives_its_turn_to_the_tick() {
    let (mut job, run) = asked_again(Policies { overlap: Overlap::Replace, ..Policies::default() });
    job.step("01:00:06", granted(run));
    job.permit("01:00:06", PermitAnswer::NotAdmitted);
    assert_eq!(job.step("01:59:59.500", Input::WakeUp), [Effect::AskPermit { priority: 0 }]);
    assert_eq!(job.permit("01:59:59.500", PermitAnswer::NotAdmitted), []);

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(effects.first(), Some(&Effect::Cancel { run, why: CancelReason::Replaced }));
    assert_eq!(effects.last(), Some(&Effect::AskPermit { priority: 0 }), "{effects:?}");
}

#[test]
fn a_drained_job_is_not_resumed_and_starts_nothing_new() {
    let mut job = with_overlap(Overlap::Queue(2));
    let run = job.run_tick("01:00");
    job.step("01:01", Input::Drain);

    assert_eq!(job.resume("01:02", "01:00"), [], "an answer that was under way");
    assert_eq!(job.step("02:00", Input::WakeUp), []);
    let (refused, effects) = job.trigger("02:00");

    assert_eq!(effects, [Effect::Answer { run: refused, answer: Err(Refusal::ShuttingDown) }]);
    job.step("02:01", ended(run, End::Returned));
    assert!(job.machine.is_idle());
    assert_eq!(job.wake_in("02:01"), None);
}

#[test]
fn a_claim_that_only_a_drained_job_learns_to_be_granted_is_closed() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.unanswered("01:00", run);
    job.step("01:00", Input::Drain);
    assert!(job.machine.is_drained(), "the end of the session would settle it");
    job.step("01:00:00.100", Input::WakeUp);

    let effects = job.step("01:00:00.200", granted(run));

    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Cancelled });
}

#[test]
fn fewer_slots_than_runs_in_progress_leave_none() {
    let mut job = with_overlap(Overlap::Allow(2));
    let first = job.run_tick("01:00");
    job.run_tick("02:00");
    job.step("02:10", ended(first, End::Returned));

    job.machine
        .redefine(Arc::new(Period::hours(1)), Policies { overlap: Overlap::Skip, ..Policies::default() });
    job.resume("02:20", "02:00");
    let (_, effects) = job.trigger("02:30");

    assert!(matches!(effects[..], [Effect::Answer { answer: Err(Refusal::Overlap { .. }), .. }]));
    let queue = Policies { overlap: Overlap::Queue(1), ..Policies::default() };
    job.machine.redefine(Arc::new(Period::hours(1)), queue);
    job.resume("02:40", "02:00");
    let (_, effects) = job.trigger("02:50");
    assert!(matches!(effects[..], [Effect::Answer { answer: Ok(Triggered::Queued), .. }]), "{effects:?}");
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

fn retry(run: RunId, losses: u32) -> PendingRetry {
    PendingRetry { run, fire_time: Some(FireTime::new(at("01:00"))), losses }
}

#[test]
fn a_lost_run_that_still_goes_on_here_is_tried_again_after_its_end() {
    for overlap in [Overlap::Skip, Overlap::Allow(2)] {
        let policies = Policies { overlap, on_lost: OnLost::Retry, ..Policies::default() };
        let mut job = Rehearsal::new(Period::hours(1), policies);
        let run = job.run_tick("01:00");
        job.step("01:10", Input::LockLost { run });

        assert_eq!(job.step("01:11", Input::PendingRetry(retry(run, 1))), []);
        let effects = job.step("01:12", ended(run, End::Returned));

        let again = Effect::Claim(Claim { resume_lost: true, ..Claim::new(run) });
        assert_eq!(effects.last(), Some(&again), "{overlap:?}: {effects:?}");
        let effects = job.step("01:12", granted(run));
        assert!(matches!(effects[..], [Effect::Start(Start { attempt: 2, .. })]), "{effects:?}");
    }
}

/// A job that retries what is lost.
fn retrying(overlap: Overlap) -> Rehearsal {
    Rehearsal::new(Period::hours(1), Policies { overlap, on_lost: OnLost::Retry, ..Policies::default() })
}

fn resume_lost(run: RunId, slot: u32) -> Effect {
    Effect::Claim(Claim { resume_lost: true, slot, ..Claim::new(run) })
}

#[test]
fn lost_runs_are_retried_one_at_a_time_from_the_oldest() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let [older, newer] = ["00:10", "00:20"].map(|time| job.ids.next(at(time)));

    for run in [newer, older, newer] {
        assert_eq!(job.step("01:10", Input::PendingRetry(retry(run, 1))), []);
    }

    assert_eq!(job.machine.waiting(), 2);
    let effects = job.step("01:12", ended(running, End::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(older, 0)));
    job.step("01:12", granted(older));
    let effects = job.step("01:13", ended(older, End::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(newer, 0)), "the end of the other one does not settle it");
}

#[test]
fn lost_runs_go_on_at_once_as_far_as_the_policy_allows() {
    let mut job = retrying(Overlap::Allow(2));
    let runs = ["00:10", "00:11", "00:12"].map(|time| job.ids.next(at(time)));
    let retry = runs.map(|run| retry(run, 1)).to_vec();
    let stored = Box::new(StoredState { pending_retries: retry, ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));

    let effects = job.step("00:40", Input::Resume { cursor: at("00:30"), authority, stored });
    assert_eq!(effects, [resume_lost(runs[0], 0)], "one question at a time");
    let effects = job.step("00:40", granted(runs[0]));
    assert_eq!(effects.last(), Some(&resume_lost(runs[1], 1)), "{effects:?}");
    let effects = job.step("00:40", granted(runs[1]));

    assert!(matches!(effects[..], [Effect::Start(_)]), "no slot is left: {effects:?}");
    let effects = job.step("00:50", ended(runs[0], End::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(runs[2], 0)), "{effects:?}");
}

#[test]
fn an_endless_retry_keeps_neither_another_retry_nor_a_trigger_waiting() {
    let mut job = retrying(Overlap::Allow(3));
    let stuck = job.run_tick("01:00");
    job.step("01:10", Input::LockLost { run: stuck });
    job.step("01:11", Input::PendingRetry(retry(stuck, 1)));
    let other = job.ids.next(at("01:01"));

    assert_eq!(job.step("01:11", Input::PendingRetry(retry(other, 1))), [resume_lost(other, 1)]);
    job.step("01:11", granted(other));
    let (run, effects) = job.trigger("01:12");

    assert_eq!(effects, [Effect::Claim(Claim { slot: 2, ..Claim::new(run) })]);
}

#[test]
fn a_lost_run_waits_for_the_right_to_fire_and_is_asked_for_once() {
    let mut job = retrying(Overlap::Skip);
    job.step("00:35", Input::Suspend);
    let run = job.ids.next(at("00:10"));

    assert_eq!(job.step("00:40", Input::PendingRetry(retry(run, 1))), []);
    assert_eq!((job.machine.waiting(), job.wake_in("00:40")), (0, None));
    let stored = Box::new(StoredState { pending_retries: vec![retry(run, 1)], ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));
    let effects = job.step("00:50", Input::Resume { cursor: at("00:30"), authority, stored });

    assert_eq!(effects, [resume_lost(run, 0)]);
    assert_eq!(job.step("00:50", Input::PendingRetry(retry(run, 1))), [], "told once more");
    job.step("00:50", granted(run));
    let effects = job.step("00:55", ended(run, End::Returned));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Claim(_))), "{effects:?}");
}

#[test]
fn a_retry_that_another_node_finished_keeps_no_trigger_waiting() {
    let mut job = retrying(Overlap::Skip);
    let running = job.run_tick("01:00");
    let [before, after] = ["00:10", "00:20"].map(|time| job.ids.next(at(time)));
    job.step("01:10", Input::PendingRetry(retry(before, 1)));
    job.step("01:11", Input::Suspend);
    job.step("01:12", Input::PendingRetry(retry(after, 1)));
    assert!(
        job.machine.pending_retries.iter().all(|pending| pending.retry.run != after),
        "the news is for those who fire it"
    );
    job.step("01:13", ended(running, End::Returned));

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
    job.step("01:10", Input::PendingRetry(retry(dropped, 1)));
    job.step("01:11", cancel(CancelReason::Requested));
    job.step("01:12", Input::Suspend);
    job.step("01:13", ended(running, End::Returned));

    let stored = Box::new(StoredState {
        pending_retries: vec![retry(dropped, 1), retry(wanted, 1)],
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
        job.step("01:10", Input::PendingRetry(retry(asked, 1)));
        job.step("01:10", Input::PendingRetry(retry(waits, 1)));
        let effects = job.step("01:12", ended(running, End::Returned));
        assert_eq!(effects.last(), Some(&resume_lost(asked, 0)));

        job.machine.redefine(Arc::new(Period::hours(1)), policies);
        assert_eq!(job.machine.waiting(), 0);
        job.step("01:20", resume(at("01:20"), authority));
        let busy = Verdict::Busy { holder: None };
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
    job.step("01:10", Input::PendingRetry(retry(lost, 1)));

    job.step("01:11", cancel(CancelReason::Requested));
    let effects = job.step("01:12", ended(running, End::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(lost, 0)), "the store would go on to owe it: {effects:?}");
    let busy = Verdict::Busy { holder: None };
    job.step("01:12", Input::Claimed { run: lost, verdict: busy });
    assert_eq!(job.step("01:13", Input::WakeUp), [resume_lost(lost, 0)]);
    let effects = job.step("01:13", granted(lost));

    let [Effect::Complete { run, outcome: Outcome::Cancelled, .. }, Effect::Ended(end)] = &effects[..] else {
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
        job.step("01:10", Input::PendingRetry(retry(*run, 1)));
    }

    assert_eq!(job.machine.waiting(), PENDING_RETRIES_MAX);
    let effects = job.step("01:12", ended(running, End::Returned));
    assert_eq!(effects.last(), Some(&resume_lost(runs[1], 0)), "only the oldest is gone");
}

#[test]
fn a_trigger_without_an_answer_that_was_lost_is_resumed_not_started_again() {
    let mut job = retrying(Overlap::Skip);
    let (run, _) = job.trigger("00:40");
    job.unanswered("00:40", run);

    job.step("00:40", Input::PendingRetry(PendingRetry { run, fire_time: None, losses: 1 }));

    assert_eq!(job.step("00:40:01", Input::WakeUp), [resume_lost(run, 0)]);
    let effects = job.step("00:40:01", granted(run));
    assert!(
        matches!(effects[..], [Effect::Complete { .. }, Effect::Ended(_)]),
        "nobody waits for it: {effects:?}"
    );
}

/// A job with a trigger that was told that it waits, and whose claim then got no answer and is asked for again.
fn asked_again_for_trigger() -> (Rehearsal, RunId) {
    let mut job = retrying(Overlap::Queue(1));
    let running = job.run_tick("01:00");
    let (run, effects) = job.trigger("01:01");
    assert_eq!(effects, [Effect::Answer { run, answer: Ok(Triggered::Queued) }]);
    let effects = job.step("01:02", ended(running, End::Returned));
    assert_eq!(effects.last(), Some(&Effect::Claim(Claim::new(run))));
    job.unanswered("01:02", run);
    assert_eq!(job.step("01:02:01", Input::WakeUp), [Effect::Claim(Claim::new(run))]);
    (job, run)
}

#[test]
fn a_granted_trigger_that_was_lost_is_retried_and_not_reported_as_over() {
    let (mut job, run) = asked_again_for_trigger();
    let retry = PendingRetry { run, fire_time: None, losses: 1 };
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
    job.step("01:02:01", Input::PendingRetry(PendingRetry { run, fire_time: None, losses: 1 }));

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
    assert_eq!(effects, [Effect::AskPermit { priority: 0 }]);

    let mut job = Rehearsal { machine: job.machine.revive(), ..job };

    assert_eq!(job.permit("00:41", PermitAnswer::Granted), [Effect::ReleasePermit]);
    assert!(job.machine.is_idle());
}

#[test]
fn a_local_job_at_its_limit_of_runs_stays_exhausted_when_it_is_changed() {
    let policies = Policies { fires: Fires::Local, limit: Some(2), ..Policies::default() };
    for (limit, next) in [(Some(1), None), (Some(2), None), (Some(3), minutes(30)), (None, minutes(30))] {
        let mut job = Rehearsal::new(Period::hours(1), policies);
        for (starts, ends) in [("01:00", "01:01"), ("02:00", "02:01")] {
            let effects = job.step(starts, Input::WakeUp);
            let Some(Effect::Start(Start { run, .. })) = effects.last() else { panic!("{effects:?}") };
            job.step(ends, ended(*run, End::Returned));
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

fn for_now() -> Option<Pause> {
    Some(Pause { until: None, note: Some("for now".to_owned()) })
}

#[test]
fn a_claim_that_was_granted_before_a_pause_does_not_end_it() {
    let told = || Input::Pause(for_now());
    let read = || Input::Resume {
        cursor: at("00:30"),
        authority: Some(Authority::Term(TERM)),
        stored: Box::new(StoredState { pause: for_now(), ..StoredState::default() }),
    };
    for (how, notification) in [("told", told()), ("read with the cursor", read())] {
        let mut job = hourly();
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
        job.step("01:00:01", notification);

        job.step("01:00:02", granted(run));

        assert_eq!(job.machine.pause().cloned(), for_now(), "{how}");
    }
}

#[test]
fn a_claim_granted_to_a_paused_job_ends_that_pause_and_no_newer_one() {
    for newer in [false, true] {
        let mut job = hourly();
        job.step("00:59:30", Input::Pause(Some(Pause { until: None, note: None })));
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
    let pause = Pause { until: Some(at("01:00")), note: None };

    assert_eq!(job.step("01:00", Input::Claimed { run, verdict: Verdict::Paused(pause) }), []);

    assert_eq!(job.wake_in("01:00"), Some(KEY_AGAIN));
    claim_of(&job.step("01:00:00.250", Input::WakeUp));
}

#[test]
fn a_run_that_was_lost_too_often_is_not_tried_again() {
    for (losses, tried) in [(LOSSES_MAX - 1, true), (LOSSES_MAX, false)] {
        let policies = Policies { on_lost: OnLost::Retry, ..Policies::default() };
        let mut job = Rehearsal::new(Period::hours(1), policies);
        let run = job.ids.next(at("00:10"));

        let effects = job.step("00:40", Input::PendingRetry(retry(run, losses)));

        assert_eq!(!effects.is_empty(), tried, "{losses}: {effects:?}");
    }
}

#[test]
fn a_run_lost_before_its_claim_was_answered_is_retried_after_the_answer() {
    let policies = Policies { on_lost: OnLost::Retry, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    let (run, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    job.unanswered("01:00", run);

    let stored = Box::new(StoredState { pending_retries: vec![retry(run, 1)], ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));
    let effects = job.step("01:00:10", Input::Resume { cursor: at("01:00"), authority, stored });
    let recheck = Claim { tick: Some(claim), recheck: true, ..Claim::new(run) };
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

    assert_eq!(job.step("01:10", Input::PendingRetry(retry(lost, 1))), [], "it waits");

    let effects = job.step("01:20", ended(run, End::Returned));
    let Some(Effect::Claim(claim)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!((claim.run, claim.resume_lost, claim.replace), (lost, true, false));
}

#[test]
fn a_tick_that_asks_whether_its_job_is_paused_still_takes_nobodys_place() {
    let policies = Policies { overlap: Overlap::Replace, ..Policies::default() };
    let mut job = Rehearsal::new(Period::hours(1), policies);
    job.step("00:40", Input::Pause(Some(Pause { until: None, note: None })));
    let effects = job.step("00:50", Input::Trigger);
    let [Effect::Claim(Claim { run, .. })] = effects[..] else { panic!("{effects:?}") };
    job.step("00:50", granted(run));

    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")], "a manual run of a paused job goes on");

    let window = Duration::from_mins(30) + Duration::from_millis(1);
    assert_eq!(job.wake_in("01:00"), Some(window), "and nothing is asked until it ends");
    claim_of(&job.step("01:04", ended(run, End::Returned))[2..]);
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

#[test]
fn what_the_store_had_not_heard_of_is_not_forgotten() {
    let stored = |failures| Box::new(StoredState { failures, ..StoredState::default() });
    let authority = Some(Authority::Term(TERM));
    let resumed = |failures| Input::Resume { cursor: at("00:30"), authority, stored: stored(failures) };
    let failed = || End::Failed { error: "no".into(), severity: Severity::Transient };
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
