//! The machine as a table: no runtime, no clock. Hours are of one day in 2026, in UTC.

mod backfills;
mod contract;
mod endings;
mod forecast;
mod held;
mod lost_runs;
mod parked;
mod pauses;
mod permits;
mod runs;
mod skip_missed;
mod tables;
mod ticks;
mod timers;
mod triggers;
mod turns;
mod unproven;
mod votes;
mod walk;

use std::{
    fmt,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::TimeDelta;

use super::*;
use crate::{
    core::{
        policy::{LOSSES_MAX, Misfire, OnLost, Overlap, PENDING_RETRIES_MAX, Retry},
        time::FireTime,
    },
    event::{CancelReason, Outcome},
    name::{FencingToken, NodeId, RunId, RunIds, Term},
    port::{Advanced, Pause, PendingRetry, SkipReason, Skips, StoredState, TickClaim, Verdict},
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
/// Of a tick of a job that fires every hour.
const WINDOW: Duration = Duration::from_secs(30 * 60);
const TOKEN: FencingToken = FencingToken(9);
const NOT_YET: Verdict = Verdict::NotYet { wait: Duration::ZERO };

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
        let machine = JobMachine::new(Arc::new(schedule), policies, at("00:30"), NodeBounds::default());
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

    fn resume(&mut self, time: &str, cursor: &str) -> Vec<Effect> {
        self.step(time, resume(at(cursor), Some(Authority::Term(TERM))))
    }

    fn permit(&mut self, time: &str, answer: PermitAnswer) -> Vec<Effect> {
        self.step(time, Input::Permit(answer))
    }

    /// Wakes up, gets a permit, and is granted what it asks for.
    fn run_permitted_tick(&mut self, time: &str) -> RunId {
        assert_eq!(self.step(time, Input::WakeUp), [Effect::AskPermit { priority: 0, catches_up: false }]);
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

fn ended(run: RunId, end: BodyEnd) -> Input {
    let started_at = Some(at("00:00"));
    Input::BodyEnded(BodyEnded { run, end, started_at, took: Duration::from_secs(1) })
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

/// Of an hourly job.
fn skipped(newest: &str, reason: SkipReason, count: u64) -> Effect {
    let newest = at(newest);
    let hours = i64::try_from(count).expect("few") - 1;
    let first = FireTime::new(newest - chrono::TimeDelta::hours(hours));
    Effect::Skipped { first, newest: FireTime::new(newest), reason, count, at_least: false }
}

fn retried(policies: Policies) -> Rehearsal {
    Rehearsal::new(Period::hours(1), policies)
}

fn three_attempts() -> Policies {
    let retry = Retry { attempts: 3, initial: Duration::from_secs(60), jitter: 0.0, ..Retry::default() };
    Policies { retry, ..Policies::default() }
}

fn failure(severity: Severity) -> BodyEnd {
    BodyEnd::Failed { error: "no".into(), severity }
}

fn with_overlap(overlap: Overlap) -> Rehearsal {
    Rehearsal::new(Period::hours(1), Policies { overlap, ..Policies::default() })
}

/// On a node that bounds its runs.
fn limited(policies: Policies) -> Rehearsal {
    let mut job = Rehearsal::dormant(Period::hours(1), policies);
    job.machine.permit = Permit::new(true);
    job.step("00:30", resume(at("00:30"), Some(Authority::Term(TERM))));
    job
}

/// A limited job whose tick of 01:00 got no answer, and whose claim was asked again without a permit.
fn asked_again(policies: Policies) -> (Rehearsal, RunId) {
    let mut job = limited(policies);
    assert_eq!(job.step("01:00", Input::WakeUp), [Effect::AskPermit { priority: 0, catches_up: false }]);
    let (run, claim) = claim_of(&job.permit("01:00", PermitAnswer::Granted));
    let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };
    let effects = job.step("01:00:05", Input::Claimed { run, verdict });
    assert_eq!(effects.last(), Some(&Effect::ReleasePermit), "the store may be silent for long: {effects:?}");
    assert_eq!(claim_of(&job.step("01:00:05.100", Input::WakeUp)), (run, claim));
    (job, run)
}

fn pending_retry(run: RunId, losses: u32) -> PendingRetry {
    PendingRetry { run, fire_time: Some(FireTime::new(at("01:00"))), named: None, losses }
}

/// A job that retries what is lost.
fn retrying(overlap: Overlap) -> Rehearsal {
    Rehearsal::new(Period::hours(1), Policies { overlap, on_lost: OnLost::Retry, ..Policies::default() })
}

fn resume_lost(run: RunId, slot: u32) -> Effect {
    Effect::Claim(Claim { resume_lost: true, slot, ..Claim::new(run) })
}

/// A job with a trigger that was told that it waits, and whose claim then got no answer and is asked for
/// again.
fn asked_again_for_trigger() -> (Rehearsal, RunId) {
    let mut job = retrying(Overlap::Queue(1));
    let running = job.run_tick("01:00");
    let (run, effects) = job.trigger("01:01");
    assert_eq!(effects, [Effect::Answer { run, answer: Ok(TriggerAnswer::Queued) }]);
    let effects = job.step("01:02", ended(running, BodyEnd::Returned));
    assert_eq!(effects.last(), Some(&Effect::Claim(Claim::new(run))));
    job.unanswered("01:02", run);
    assert_eq!(job.step("01:02:01", Input::WakeUp), [Effect::Claim(Claim::new(run))]);
    (job, run)
}

fn for_now() -> Option<Pause> {
    Some(Pause { until: None, note: Some("for now".to_owned()), by: None })
}
