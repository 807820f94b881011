//! Planted faults of schedules, and that the suite names each.

use std::{
    cell::Cell,
    panic::resume_unwind,
    sync::atomic::{AtomicI64, Ordering},
};

use super::*;
use crate::{core::job::tests::Once, port::ScheduleIdentity, testkit::fakes::Period};

const SOON: Duration = Duration::from_secs(2);

type Next = dyn Fn(DateTime<Utc>) -> Option<DateTime<Utc>> + Send + Sync;

/// Every hour, but for what it is told to do otherwise.
struct Planted {
    next: Box<Next>,
    previous: Box<Next>,
    from_completion: bool,
    period: Option<TimeDelta>,
}

impl fmt::Debug for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planted")
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every hour, more or less")
    }
}

impl Schedule for Planted {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (self.next)(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        (self.previous)(before)
    }

    fn counts_from_completion(&self) -> bool {
        self.from_completion
    }

    fn period(&self) -> Option<TimeDelta> {
        self.period
    }
}

fn hourly(after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Period::hours(1).next_after(after)
}

fn hourly_before(before: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Period::hours(1).previous_before(before)
}

fn next(next: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>> + Send + Sync + 'static) -> Planted {
    Planted { next: Box::new(next), previous: Box::new(hourly_before), from_completion: false, period: None }
}

fn previous(previous: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>> + Send + Sync + 'static) -> Planted {
    Planted { next: Box::new(hourly), previous: Box::new(previous), from_completion: false, period: None }
}

fn broken(make: impl Fn() -> Planted) -> Option<Rule> {
    check(make, SOON).err().map(|violation| violation.rule)
}

#[test]
fn good_schedules_pass() {
    schedule(|| Period::hours(1));
    schedule(|| Period::millis(1));
    schedule(|| Period::hours(24 * 365));
    schedule(|| Once(instant("2026-05-01T00:00:00Z")));
    schedule(|| next(hourly));
    schedule(|| Planted {
        next: Box::new(|after| FireTime::new(after).instant().checked_add_signed(TimeDelta::hours(1))),
        previous: Box::new(|_| None),
        from_completion: true,
        period: None,
    });
}

#[test]
fn of_each_rule_a_schedule_that_breaks_it_is_found() {
    let in_2026 = |at: DateTime<Utc>| at >= instant("2026-01-10T00:00:00Z");
    let micro = TimeDelta::microseconds(1);

    assert_eq!(broken(|| next(Some)), Some(Rule::LiesOnTheRightSide), "it stands still");
    assert_eq!(broken(|| previous(Some)), Some(Rule::LiesOnTheRightSide));
    let back =
        move |after| if in_2026(after) { Some(instant("2026-01-09T00:00:00Z")) } else { hourly(after) };
    assert_eq!(broken(|| next(back)), Some(Rule::LiesOnTheRightSide), "after a while it goes back");

    let fraction = move |after| hourly(after)?.checked_add_signed(micro);
    assert_eq!(broken(|| next(fraction)), Some(Rule::IsAWholeMillisecond));
    let fraction = move |before| hourly_before(before)?.checked_sub_signed(micro);
    assert_eq!(broken(|| previous(fraction)), Some(Rule::IsAWholeMillisecond));

    // Asked between two fire times it answers a later one, or ends early.
    let later = |after: DateTime<Utc>| {
        let next = hourly(after)?;
        if after.timestamp_subsec_micros() == 0 { Some(next) } else { hourly(next) }
    };
    assert_eq!(broken(|| next(later)), Some(Rule::MovesForward));
    let holes = move |after| hourly(after).filter(|_| after.timestamp() / 3_600 % 24 != 7);
    assert_eq!(broken(|| next(holes)), Some(Rule::MovesForward), "none, and then some again");

    for wrong in [|_| None, |before| hourly_before(hourly_before(before)?)] {
        assert_eq!(broken(|| previous(wrong)), Some(Rule::AgreesWithPreviousBefore));
    }
    for (period, rule) in [(TimeDelta::hours(1), None), (TimeDelta::minutes(30), Some(Rule::KeepsItsPeriod))]
    {
        assert_eq!(broken(|| Planted { period: Some(period), ..next(hourly) }), rule, "{period}");
    }
    let ended = move |after| hourly(after).filter(|at| !in_2026(*at));
    assert_eq!(broken(|| next(ended)), Some(Rule::AgreesWithPreviousBefore), "only one of the two has ended");
}

#[test]
fn a_schedule_that_depends_on_anything_else_is_found() {
    let asked = AtomicI64::new(0);
    let restless = move |after| {
        let nth = asked.fetch_add(1, Ordering::Relaxed);
        if nth > 1_500 { hourly(hourly(after)?) } else { hourly(after) }
    };
    let restless = Arc::new(restless);
    let found = broken(|| {
        let restless = restless.clone();
        next(move |after| restless(after))
    });
    assert!(
        matches!(
            found,
            Some(
                Rule::AnswersTheSameAgain
                    | Rule::AnswersTheSameAfterARestart
                    | Rule::AnswersTheSameOnEveryThread
            )
        ),
        "{found:?}"
    );

    // Counted from when it was made.
    let made = AtomicI64::new(0);
    let found = broken(|| {
        let offset = TimeDelta::milliseconds(made.fetch_add(1, Ordering::Relaxed));
        Planted {
            next: Box::new(move |after| {
                hourly(after.checked_sub_signed(offset)?)?.checked_add_signed(offset)
            }),
            previous: Box::new(move |before| {
                hourly_before(before.checked_sub_signed(offset)?)?.checked_add_signed(offset)
            }),
            from_completion: false,
            period: None,
        }
    });
    assert_eq!(found, Some(Rule::AnswersTheSameAfterARestart));

    thread_local!(static ASKED: Cell<u32> = const { Cell::new(0) });
    static THREADS_SEEN: AtomicI64 = AtomicI64::new(0);
    let found = broken(|| {
        next(|after| {
            let nth = ASKED.get();
            if nth == 0 {
                THREADS_SEEN.fetch_add(1, Ordering::Relaxed);
            }
            ASKED.set(nth + 1);
            // The third thread, and those after it, are strangers.
            if THREADS_SEEN.load(Ordering::Relaxed) > 3 { hourly(hourly(after)?) } else { hourly(after) }
        })
    });
    assert_eq!(found, Some(Rule::AnswersTheSameOnEveryThread));
}

/// The same words and fire times, and another rule each time that it is made.
#[derive(Debug)]
struct MadeAnew(i64);

impl fmt::Display for MadeAnew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every hour")
    }
}

impl Schedule for MadeAnew {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        hourly(after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        hourly_before(before)
    }

    fn identity(&self) -> ScheduleIdentity {
        ScheduleIdentity::of_text(&self.0.to_string())
    }
}

#[test]
fn a_schedule_whose_identity_differs_from_node_to_node_is_found() {
    let made = AtomicI64::new(0);

    let found = check(|| MadeAnew(made.fetch_add(1, Ordering::Relaxed)), SOON);

    assert_eq!(found.map_err(|violation| violation.rule), Err(Rule::AnswersTheSameAfterARestart));
}

#[test]
fn a_schedule_that_panics_or_never_answers_is_found() {
    let at_the_end = |after: DateTime<Utc>| {
        if after == DateTime::<Utc>::MAX_UTC {
            // As a panic does, but says nothing.
            resume_unwind(Box::new("an overflow"));
        }
        hourly(after)
    };
    assert_eq!(broken(|| next(at_the_end)), Some(Rule::NeverPanics));

    let for_ever = |after: DateTime<Utc>| {
        while after >= instant("2026-01-02T00:00:00Z") {
            thread::sleep(Duration::from_millis(50));
        }
        hourly(after)
    };
    let found = check(|| next(for_ever), Duration::from_millis(300));
    assert_eq!(found.map_err(|violation| violation.rule), Err(Rule::AnswersSoon));
}

#[test]
#[should_panic = "`next_after` answers something later, `previous_before` something earlier: next_after("]
fn the_suite_names_the_rule_the_question_and_the_answer() {
    schedule(|| next(Some));
}
