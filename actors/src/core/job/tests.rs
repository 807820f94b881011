//! The machine as a table: no runtime, no clock. Hours are of one day in 2026, in UTC.

mod contract;
mod hazards;
mod held;
mod parked;
mod tables;
mod timers;
mod walk;

use std::{
    fmt,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
};

use chrono::TimeDelta;

use super::*;
use crate::{
    core::policy::{Misfire, Retry},
    event::{CancelReason, Outcome},
    name::{FencingToken, NodeId, RunIds, Term},
    port::{Advanced, SkipReason, TickClaim, Verdict},
    testkit::fakes::Period,
};

/// `12:00` or `12:00:00.500` of the day that all of these tests play on.
pub(crate) fn at(time: &str) -> DateTime<Utc> {
    let seconds = if time.len() == 5 { ":00" } else { "" };
    format!("2026-01-02T{time}{seconds}Z").parse().unwrap()
}

/// Never fires.
#[derive(Debug)]
pub(crate) struct Never;

/// Fires at one instant.
#[derive(Debug)]
pub(crate) struct Once(pub(crate) DateTime<Utc>);

/// Answers the same instant whatever it is asked.
#[derive(Debug)]
pub(crate) struct Stuck(pub(crate) DateTime<Utc>);

macro_rules! fake {
    ($type:ty, $next:expr) => {
        fake!($type, $next, $next);
    };
    ($type:ty, $next:expr, $previous:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($type))
            }
        }

        impl Schedule for $type {
            fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
                $next(self, after)
            }

            fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
                $previous(self, before)
            }
        }
    };
}

fake!(Never, |_: &Never, _| None);
fake!(Stuck, |stuck: &Stuck, _| Some(stuck.0));
fake!(Once, |once: &Once, after| Some(once.0).filter(|at| *at > after), |once: &Once, before| Some(once.0)
    .filter(|at| *at < before));

/// Fires at the multiples of a period, or so long after the end of the last run. Panics when it is told to.
#[derive(Debug)]
struct Moody {
    period: i64,
    from_end: bool,
    panics: Arc<AtomicBool>,
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {} ms", self.period)
    }
}

impl Schedule for Moody {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.panics.swap(false, Ordering::Relaxed) {
            // As a panic does, but says nothing.
            resume_unwind(Box::new("moody"));
        }
        match self.from_end {
            true => Some(after + TimeDelta::milliseconds(self.period)),
            false => Period::millis(self.period).next_after(after),
        }
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.from_end {
            true => Some(before - TimeDelta::milliseconds(self.period)),
            false => Period::millis(self.period).previous_before(before),
        }
    }

    fn counts_from_completion(&self) -> bool {
        self.from_end
    }
}

const TERM: Term = Term(3);
const TOKEN: FencingToken = FencingToken(9);

/// A machine and the shell's side of it: clocks and ids.
struct Rehearsal {
    machine: JobMachine,
    ids: RunIds,
    term: Option<Term>,
}

impl Rehearsal {
    /// Resumed at 00:30, as the leader's.
    fn new(schedule: impl Schedule, policies: Policies) -> Self {
        let mut this = Self::dormant(schedule, policies);
        let authority = (policies.fires != Fires::Local).then_some(Authority::Term(TERM));
        assert!(this.step("00:30", resume(at("00:30"), authority)).is_empty());
        this
    }

    fn dormant(schedule: impl Schedule, policies: Policies) -> Self {
        let machine = JobMachine::new(Arc::new(schedule), policies, at("00:30"), false);
        Self { machine, ids: RunIds::of(NodeId::numbered(1)), term: Some(TERM) }
    }

    fn now(&self, time: &str) -> Now {
        let wall = at(time);
        let elapsed = (wall - at("00:00")).to_std().unwrap();
        Now { wall, elapsed, term: self.term, spare: self.ids.next(wall) }
    }

    fn step(&mut self, time: &str, input: Input) -> Vec<Effect> {
        self.machine.step(self.now(time), input).into_vec()
    }

    /// Wakes up and is granted what it asks for.
    fn run_tick(&mut self, time: &str) -> RunId {
        let effects = self.step(time, Input::WakeUp);
        let [Effect::Claim(Claim { run, .. })] = effects[..] else { panic!("no claim, but {effects:?}") };
        let effects = self.step(time, granted(run));
        assert!(matches!(effects[..], [Effect::Start(_)]), "{effects:?}");
        run
    }

    fn wake_in(&self, time: &str) -> Option<Duration> {
        self.machine.wake_in(self.now(time))
    }
}

fn hourly() -> Rehearsal {
    Rehearsal::new(Period::hours(1), Policies::default())
}

fn resume(cursor: DateTime<Utc>, authority: Option<Authority>) -> Input {
    Input::Resume { cursor, authority, stored: Box::default() }
}

fn cancel(why: CancelReason) -> Input {
    Input::Cancel { run: None, why }
}

fn granted(run: RunId) -> Input {
    Input::Claimed { run, verdict: Verdict::Granted { token: TOKEN, lost: None } }
}

fn ended(run: RunId, end: End) -> Input {
    let started_at = Some(at("00:00"));
    Input::RunEnded(RunEnd { run, end, started_at, took: Duration::from_secs(1) })
}

fn minutes(minutes: u64) -> Option<Duration> {
    Some(Duration::from_secs(60 * minutes))
}

fn claim_of(effects: &[Effect]) -> (RunId, TickClaim) {
    match effects {
        [Effect::Claim(Claim { run, tick: Some(claim), recheck: false, .. })] => (*run, *claim),
        other => panic!("no claim, but {other:?}"),
    }
}

/// Paused, so that it waits.
fn held(tick: &str) -> Effect {
    Effect::Held { fire_time: FireTime::new(at(tick)), reason: SkipReason::Paused }
}

fn skipped(newest: &str, reason: SkipReason, count: u64) -> Effect {
    Effect::Skipped { newest: FireTime::new(at(newest)), reason, count, at_least: false }
}

#[test]
fn a_due_tick_is_claimed_run_and_completed() {
    let mut job = hourly();
    assert_eq!(job.wake_in("00:30"), minutes(30));

    let effects = job.step("01:00", Input::WakeUp);
    let (run, claim) = claim_of(&effects);
    let fire_time = FireTime::new(at("01:00"));
    assert_eq!(
        claim,
        TickClaim {
            fire_time,
            expected: at("00:30"),
            skips: Skips::default(),
            authority: Authority::Term(TERM)
        }
    );

    let effects = job.step("01:00", granted(run));
    let start = Start {
        run,
        tick: Some(fire_time),
        term: Some(TERM),
        token: Some(TOKEN),
        deadline: None,
        attempt: 1,
        begins: true,
        slot: 0,
    };
    assert_eq!(effects, [Effect::Start(start)]);
    assert_eq!(job.wake_in("01:00"), minutes(60));

    let effects = job.step("01:01", ended(run, End::Returned));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Succeeded });
    assert!(matches!(&effects[1], Effect::Ended(ended) if ended.outcome == Outcome::Succeeded));
    assert_eq!(job.machine.last_runs().next().unwrap().outcome, Outcome::Succeeded);
}

#[test]
fn a_wake_up_that_comes_early_or_twice_is_harmless() {
    let mut job = hourly();

    assert_eq!(job.step("00:59:59.999", Input::WakeUp), []);
    assert_eq!(job.wake_in("00:59:59.999"), Some(Duration::from_millis(1)));
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(job.step("01:00", Input::WakeUp), []);
    job.step("01:00", granted(run));
    assert_eq!(job.step("01:00", Input::WakeUp), []);
}

#[test]
fn a_tick_during_a_run_is_skipped_not_queued() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(effects, [skipped("02:00", SkipReason::Overlap, 1)]);
    let effects = job.step("02:00:00.500", ended(run, End::Returned));
    assert!(
        matches!(effects[..], [Effect::Complete { .. }, Effect::Ended(_)]),
        "no run in its place: {effects:?}"
    );
}

#[test]
fn skips_that_nobody_runs_move_the_cursor_after_a_second_and_together() {
    let mut job = Rehearsal::new(Period::millis(200), Policies::default());
    let effects = job.step("01:00", Input::WakeUp);
    let (run, _) = claim_of(&effects);
    job.step("01:00", granted(run));

    for time in ["01:00:00.200", "01:00:00.400", "01:00:00.600", "01:00:00.800", "01:00:01.000"] {
        assert!(matches!(job.step(time, Input::WakeUp)[..], [Effect::Skipped { count: 1, .. }]), "{time}");
    }
    let effects = job.step("01:00:01.200", Input::WakeUp);

    let [Effect::Skipped { .. }, Effect::Advance(advance)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((advance.expected, advance.to.instant()), (at("01:00"), at("01:00:01.200")));
    assert_eq!(advance.skips, Skips::new(SkipReason::Overlap, 6, false));
    assert_eq!(job.step("01:00:01.201", Input::Advanced(Advanced::Done)), []);
    assert_eq!(job.machine.cursor(), at("01:00:01.200"));
}

#[test]
fn the_truth_table_of_misfire() {
    let latest = Misfire::Latest { within: Duration::from_secs(1800) };
    // From the cursor 00:30 on; the node comes back at the given time.
    let cases = [
        (latest, "03:10", Some("03:00"), 2),
        (latest, "03:40", None, 3),
        (latest, "01:00:00.900", Some("01:00"), 0),
        (Misfire::Skip, "03:10", None, 3),
        (Misfire::Skip, "03:00:00.900", Some("03:00"), 2),
        (Misfire::Latest { within: Duration::ZERO }, "01:00:01", Some("01:00"), 0),
    ];
    for (misfire, now, runs, missed) in cases {
        let mut job = Rehearsal::dormant(Period::hours(1), Policies { misfire, ..Policies::default() });

        let effects = job.step(now, resume(at("00:30"), Some(Authority::Term(TERM))));

        match runs {
            Some(tick) => {
                let (_, claim) = claim_of(&effects);
                assert_eq!(claim.fire_time.instant(), at(tick), "{misfire:?} {now}");
                assert_eq!(claim.skips.of(SkipReason::Misfire), missed, "{misfire:?} {now}");
            }
            None => assert_eq!(effects, [skipped("03:00", SkipReason::Misfire, missed)], "{misfire:?} {now}"),
        }
    }
}

#[test]
fn a_busy_key_is_an_overlap_and_its_skip_rides_along_with_the_next_claim() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let holder = Some(run);

    let effects = job.step("01:00", Input::Claimed { run, verdict: Verdict::Busy { holder } });

    assert_eq!(effects, [Effect::Contended { holder }, skipped("01:00", SkipReason::Overlap, 1)]);
    assert_eq!(job.wake_in("01:00"), Some(FLUSH_AFTER));
    let effects = job.step("01:00:01", Input::WakeUp);
    let [Effect::Advance(advance)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((advance.expected, advance.to.instant()), (at("00:30"), at("01:00")));
}

#[test]
fn a_cursor_that_was_moved_by_somebody_else_is_adopted() {
    let run = RunIds::of(NodeId::numbered(2)).next(at("01:00"));
    for (verdict, next) in [
        (Verdict::Elsewhere { cursor: at("02:30") }, 150),
        (Verdict::AlreadyRun { run, cursor: at("01:00") }, 90),
    ] {
        let mut job = hourly();
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

        assert_eq!(job.step("00:30", Input::Claimed { run, verdict }), []);

        assert_eq!(job.wake_in("00:30"), minutes(next));
    }
}

#[test]
fn a_deposed_node_decides_nothing_until_it_is_resumed() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    job.step("01:00", Input::Claimed { run, verdict: Verdict::Deposed { term: Term(4) } });

    assert_eq!(job.wake_in("01:00"), None);
    assert_eq!(job.step("02:00", Input::WakeUp), []);
    job.term = Some(Term(5));
    let (_, claim) = claim_of(&job.step("02:00", resume(at("01:00"), Some(Authority::Term(Term(5))))));
    assert_eq!((claim.authority, claim.expected), (Authority::Term(Term(5)), at("01:00")));
}

#[test]
fn a_refused_old_term_does_not_stop_a_job_of_a_newer_one() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.term = Some(Term(5));
    assert_eq!(job.step("01:00", resume(at("00:30"), Some(Authority::Term(Term(5))))), []);

    let effects = job.step("01:00", Input::Claimed { run, verdict: Verdict::Deposed { term: Term(5) } });

    let (_, claim) = claim_of(&effects);
    assert_eq!(claim.authority, Authority::Term(Term(5)));
}

#[test]
fn a_leader_without_trust_claims_nothing() {
    let mut job = hourly();
    job.term = None;

    assert_eq!(job.step("01:00", Input::WakeUp), []);
    assert!(job.machine.firing().is_none());
}

#[test]
fn a_store_whose_clock_is_behind_is_asked_when_the_tick_is_due_there() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let wait = Duration::from_millis(250);

    assert_eq!(job.step("01:00", Input::Claimed { run, verdict: Verdict::NotYet { wait } }), []);

    assert_eq!(job.wake_in("01:00"), Some(wait));
    assert_eq!(job.step("01:00:00.100", Input::WakeUp), []);
    let (_, claim) = claim_of(&job.step("01:00:00.250", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
}

#[test]
fn a_clock_that_is_hours_ahead_silences_a_job_for_a_second_at_most() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("06:00", Input::WakeUp));
    let verdict = || Verdict::NotYet { wait: Duration::from_hours(5) };

    job.step("06:00", Input::Claimed { run, verdict: verdict() });

    assert_eq!(job.wake_in("06:00"), Some(HOLD_MAX), "by a store that does not say how far its clock is off");

    let mut job = hourly();
    let (run, _) = claim_of(&job.step("06:00", Input::WakeUp));

    // The answer came with the store's time, and the clock is read in that from now on.
    job.step("00:59:59.900", Input::Claimed { run, verdict: verdict() });

    assert_eq!(job.wake_in("00:59:59.900"), Some(Duration::from_millis(100)));
    let (_, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
}

#[test]
fn a_claim_without_an_answer_is_asked_again_with_the_same_run_id() {
    let mut job = hourly();
    let (run, first) = claim_of(&job.step("01:00", Input::WakeUp));
    let unavailable = || Verdict::Unavailable { reason: "no answer".to_owned() };

    let effects = job.step("01:00", Input::Claimed { run, verdict: unavailable() });
    assert_eq!(effects, [Effect::Unavailable { reason: "no answer".to_owned() }]);
    assert_eq!(job.wake_in("01:00"), Some(ASK_AGAIN_MIN));
    let again = claim_of(&job.step("01:00:00.100", Input::WakeUp));

    assert_eq!(again, (run, first));
    job.step("01:00:00.100", Input::Claimed { run, verdict: unavailable() });
    assert_eq!(job.wake_in("01:00:00.100"), Some(ASK_AGAIN_MIN * 2));
}

#[test]
fn a_claim_without_an_answer_is_only_settled_once_a_newer_tick_is_due() {
    let mut job = hourly();
    let (run, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };
    job.step("01:59:59.950", Input::Claimed { run, verdict });

    let effects = job.step("02:00:00.050", Input::WakeUp);
    assert_eq!(effects, [Effect::Claim(Claim { tick: Some(claim), recheck: true, ..Claim::new(run) })]);
    let effects = job.step("02:00:00.060", Input::Claimed { run, verdict: Verdict::NotGranted });

    let (_, newest) = claim_of(&effects);
    assert_eq!((newest.fire_time.instant(), newest.expected), (at("02:00"), at("00:30")));
    assert_eq!(newest.skips, Skips::new(SkipReason::Misfire, 1, false));
}

#[test]
fn a_claim_that_is_granted_too_late_is_closed_not_run() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    let effects = job.step("01:30:00.001", granted(run));

    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Cancelled });
    let Effect::Ended(ended) = &effects[1] else { panic!("{effects:?}") };
    assert_eq!(ended.cancelled, Some(CancelReason::NotStarted));
    assert!(job.machine.is_idle());
}

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

    let effects = job.step("01:13", ended(run, End::Aborted));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::TimedOut });
}

#[test]
fn a_lost_lock_cancels_the_run_and_its_end_is_not_completed() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    let effects = job.step("01:10", Input::LockLost { run });
    assert_eq!(effects, [Effect::Cancel { run, why: CancelReason::LockLost }]);

    let effects = job.step("01:11", ended(run, End::Returned));
    let [Effect::Ended(ended)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(ended.outcome, Outcome::Cancelled);
}

#[test]
fn the_truth_table_of_outcomes() {
    let failed = failure(Severity::Transient);
    let panicked = End::Panicked("oh".into());
    let cases = [
        (None, End::Returned, Outcome::Succeeded),
        (None, failed.clone(), Outcome::Failed),
        (None, panicked.clone(), Outcome::Panicked),
        (None, End::Aborted, Outcome::Cancelled),
        (Some(CancelReason::Shutdown), End::Returned, Outcome::Cancelled),
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
fn a_trigger_runs_without_moving_the_schedule() {
    let mut job = hourly();

    let effects = job.step("00:40", Input::Trigger);
    let [Effect::Claim(Claim { run, tick: None, recheck: false, .. })] = effects[..] else {
        panic!("{effects:?}")
    };
    let effects = job.step("00:40", granted(run));

    assert_eq!(effects[0], Effect::Answer { run, answer: Ok(Triggered::Started) });
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
fn a_local_job_needs_neither_term_nor_claim() {
    let mut job = Rehearsal::new(Period::hours(1), Policies { fires: Fires::Local, ..Policies::default() });
    job.term = None;

    let effects = job.step("03:00", Input::WakeUp);

    assert_eq!(effects[0], skipped("02:00", SkipReason::Misfire, 2));
    assert_eq!(effects[1], Effect::Count { started: 1, skips: Skips::new(SkipReason::Misfire, 2, false) });
    assert!(matches!(effects[2], Effect::Start(Start { token: None, term: None, .. })));
    let effects = job.step("04:00", Input::WakeUp);
    assert_eq!(
        effects,
        [
            skipped("04:00", SkipReason::Overlap, 1),
            Effect::Count { started: 0, skips: Skips::new(SkipReason::Overlap, 1, false) },
        ]
    );
    assert_eq!(job.machine.cursor(), at("04:00"));
}

#[test]
fn a_suspended_job_lets_its_run_end_and_arms_nothing() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    assert_eq!(job.step("01:10", Input::Suspend), []);

    assert_eq!(job.wake_in("01:10"), None);
    assert_eq!(job.step("02:00", Input::WakeUp), []);
    let effects = job.step("02:10", ended(run, End::Returned));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Succeeded });
}

#[test]
fn a_clock_that_steps_back_does_not_fire_a_tick_twice() {
    let mut job = hourly();
    let run = job.run_tick("01:00");
    job.step("01:01", ended(run, End::Returned));

    let now = Now { wall: at("00:10"), ..job.now("01:02") };
    assert!(job.machine.step(now, Input::WakeUp).is_empty());

    assert_eq!(job.machine.wake_in(now), minutes(110));
}

#[test]
fn an_exhausted_schedule_arms_nothing() {
    let mut job = Rehearsal::dormant(Once(at("01:00")), Policies::default());
    job.step("00:30", resume(at("00:30"), Some(Authority::Term(TERM))));
    assert_eq!(job.wake_in("00:30"), minutes(30));

    let run = job.run_tick("01:00");
    job.step("01:01", ended(run, End::Returned));

    assert_eq!((job.wake_in("01:01"), job.machine.next_fire_time()), (None, None));
}

#[test]
fn a_revived_machine_keeps_its_run_and_closes_an_unknown_grant() {
    let mut job = hourly();
    let run = job.run_tick("01:00");
    let mut job = Rehearsal { machine: job.machine.revive(), ..job };
    let stray = job.ids.next(at("01:05"));

    let effects = job.step("01:05", granted(stray));
    assert_eq!(effects[0], Effect::Complete { run: stray, outcome: Outcome::Cancelled });

    let effects = job.step("01:10", ended(run, End::Returned));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Succeeded });
}

fn retried(policies: Policies) -> Rehearsal {
    Rehearsal::new(Period::hours(1), policies)
}

fn three_attempts() -> Policies {
    let retry = Retry { attempts: 3, initial: Duration::from_secs(60), jitter: 0.0, ..Retry::default() };
    Policies { retry, ..Policies::default() }
}

fn failure(severity: Severity) -> End {
    End::Failed { error: "no".into(), severity }
}

#[test]
fn a_failed_attempt_is_followed_by_another_one_under_the_same_key() {
    let mut job = retried(three_attempts());
    let run = job.run_tick("01:00");

    let effects = job.step("01:10", ended(run, failure(Severity::Transient)));
    let [Effect::Retried(ref retried)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((retried.attempt, retried.pause), (1, Duration::from_secs(60)));
    assert_eq!(job.wake_in("01:10"), Some(Duration::from_secs(60)));
    assert!(!job.machine.is_idle() && !job.machine.is_drained(), "the key stays held");

    let effects = job.step("01:11", Input::WakeUp);
    let [Effect::Start(start)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((start.run, start.attempt, start.token, start.term), (run, 2, Some(TOKEN), Some(TERM)));

    let panicked = End::Panicked("oh".into());
    let effects = job.step("01:12", ended(run, panicked));
    assert!(matches!(effects[..], [Effect::Retried(_)]), "{effects:?}");
    assert_eq!(job.wake_in("01:12"), Some(Duration::from_secs(120)), "each pause is twice the one before");

    assert!(matches!(job.step("01:14", Input::WakeUp)[..], [Effect::Start(_)]));
    let effects = job.step("01:15", ended(run, failure(Severity::Transient)));
    let [Effect::Complete { outcome: Outcome::Failed, .. }, Effect::Ended(ref end)] = effects[..] else {
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

        assert!(matches!(effects[..2], [Effect::Complete { .. }, Effect::Ended(_)]), "{effects:?}");
    }
}

#[test]
fn an_attempt_that_took_too_long_is_tried_again_with_a_timeout_of_its_own() {
    let timeout = Some(Duration::from_secs(600));
    let mut job = retried(Policies { timeout, ..three_attempts() });
    let run = job.run_tick("01:00");
    let effects = job.step("01:10", Input::WakeUp);
    assert!(matches!(effects[..], [Effect::Cancel { why: CancelReason::TimedOut, .. }]), "{effects:?}");

    let effects = job.step("01:10:01", ended(run, End::Returned));
    let [Effect::Retried(ref retried)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(retried.outcome, Outcome::TimedOut);

    let effects = job.step("01:11:01", Input::WakeUp);
    let [Effect::Start(start)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(start.deadline, Some(Duration::from_secs(71 * 60 + 1 + 600)));
    let effects = job.step("01:12", ended(run, End::Returned));
    assert!(matches!(effects[..], [Effect::Complete { outcome: Outcome::Succeeded, .. }, Effect::Ended(_)]));
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

        let Some(Effect::Ended(end)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!((end.outcome, &end.end), (Outcome::Cancelled, &End::BetweenAttempts));
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

        let effects = job.step("01:10:02", ended(run, End::Returned));

        let [Effect::Complete { outcome: Outcome::TimedOut, .. }, Effect::Ended(_)] = effects[..] else {
            panic!("{why:?}: {effects:?}")
        };
    }
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

    assert!(matches!(effects[0], Effect::Answer { answer: Err(Refusal::ShuttingDown), .. }), "{effects:?}");
    assert_eq!(effects[1], Effect::Complete { run, outcome: Outcome::Cancelled });
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
