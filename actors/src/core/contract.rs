//! What a schedule must keep to, checked with every answer.

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::{core::time::FireTime, port::Schedule};

/// An answer of a schedule that breaks the contract of [`Schedule`].
///
/// Its text names the question, the answer and the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Breach {
    /// `next_after` answered an instant that is not later.
    NotLater {
        /// What was asked.
        after: DateTime<Utc>,
        /// What was answered.
        answer: DateTime<Utc>,
    },
    /// `previous_before` answered an instant that is not earlier.
    NotEarlier {
        /// What was asked.
        before: DateTime<Utc>,
        /// What was answered.
        answer: DateTime<Utc>,
    },
    /// An answer that is no whole millisecond.
    Fraction {
        /// What was answered.
        answer: DateTime<Utc>,
    },
    /// One of the two questions names a fire time that the other one does not know.
    Contradiction {
        /// What `next_after` was asked.
        after: DateTime<Utc>,
        /// What it answered.
        next: Option<DateTime<Utc>>,
        /// What `previous_before` was asked.
        before: DateTime<Utc>,
        /// What it answered.
        previous: Option<DateTime<Utc>>,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let or_none = |instant: Option<DateTime<Utc>>| instant.map_or_else(|| "none".to_owned(), text);
        match *self {
            Self::NotLater { after, answer } => {
                write!(f, "next_after({}) answered {}, which is not later", text(after), text(answer))
            }
            Self::NotEarlier { before, answer } => {
                write!(f, "previous_before({}) answered {}, which is not earlier", text(before), text(answer))
            }
            Self::Fraction { answer } => {
                write!(f, "it answered {}, which is no whole millisecond", text(answer))
            }
            Self::Contradiction { after, next, before, previous } => write!(
                f,
                "next_after({}) answered {}, and previous_before({}) answered {}: they contradict each other",
                text(after),
                or_none(next),
                text(before),
                or_none(previous)
            ),
        }
    }
}

/// The first tick after `after`.
pub(crate) fn next_after(schedule: &dyn Schedule, after: DateTime<Utc>) -> Result<Option<FireTime>, Breach> {
    match schedule.next_after(after) {
        Some(answer) if answer <= after => Err(Breach::NotLater { after, answer }),
        answer => answer.map(whole).transpose(),
    }
}

/// The last tick before `before`.
pub(crate) fn previous_before(
    schedule: &dyn Schedule,
    before: DateTime<Utc>,
) -> Result<Option<FireTime>, Breach> {
    match schedule.previous_before(before) {
        Some(answer) if answer >= before => Err(Breach::NotEarlier { before, answer }),
        answer => answer.map(whole).transpose(),
    }
}

/// Refuses a tick that `previous_before` named, unless `next_after` names it as well.
pub(crate) fn confirm(schedule: &dyn Schedule, tick: FireTime, before: DateTime<Utc>) -> Result<(), Breach> {
    let Some(after) = tick.instant().checked_sub_signed(MILLISECOND) else { return Ok(()) };
    let next = next_after(schedule, after)?;
    if next == Some(tick) {
        return Ok(());
    }
    let (next, previous) = (next.map(FireTime::instant), Some(tick.instant()));
    Err(Breach::Contradiction { after, next, before, previous })
}

/// The shortest time between two ticks.
pub(crate) const MILLISECOND: TimeDelta = TimeDelta::milliseconds(1);

fn whole(answer: DateTime<Utc>) -> Result<FireTime, Breach> {
    let tick = FireTime::new(answer);
    if tick.instant() == answer { Ok(tick) } else { Err(Breach::Fraction { answer }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::job::tests::{Never, Stuck, at},
        testkit::fakes::Period,
    };

    /// Answers what it was told to.
    #[derive(Debug, Clone, Copy)]
    struct Says(Option<DateTime<Utc>>, Option<DateTime<Utc>>);

    impl fmt::Display for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("what it was told to")
        }
    }

    impl Schedule for Says {
        fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.0
        }

        fn previous_before(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
            self.1
        }
    }

    #[test]
    fn what_breaks_the_contract_is_an_error_that_names_question_and_answer() {
        let asked = at("01:00");
        assert_eq!(next_after(&Never, asked), Ok(None));
        let tick = FireTime::new(at("02:00"));
        assert_eq!(next_after(&Period::hours(1), asked), Ok(Some(tick)));

        for answer in [at("01:00"), at("00:59"), DateTime::<Utc>::MIN_UTC] {
            assert_eq!(next_after(&Stuck(answer), asked), Err(Breach::NotLater { after: asked, answer }));
        }
        for answer in [at("01:00"), at("01:01"), DateTime::<Utc>::MAX_UTC] {
            let breach = Breach::NotEarlier { before: asked, answer };
            assert_eq!(previous_before(&Stuck(answer), asked), Err(breach));
        }
        let between = at("01:30") + TimeDelta::microseconds(1);
        assert_eq!(next_after(&Stuck(between), asked), Err(Breach::Fraction { answer: between }));
        assert_eq!(previous_before(&Stuck(between), at("02:00")), Err(Breach::Fraction { answer: between }));
        assert_eq!(
            Breach::NotLater { after: asked, answer: asked }.to_string(),
            "next_after(2026-01-02T01:00:00Z) answered 2026-01-02T01:00:00Z, which is not later"
        );
    }

    #[test]
    fn a_tick_that_only_one_of_the_two_questions_knows_is_refused() {
        let (tick, before) = (FireTime::new(at("01:00")), at("01:30"));
        assert_eq!(confirm(&Period::hours(1), tick, before), Ok(()));

        for next in [None, Some(at("02:00"))] {
            let breach = confirm(&Says(next, None), tick, before).unwrap_err();
            let text = breach.to_string();
            assert!(text.ends_with("answered 2026-01-02T01:00:00Z: they contradict each other"), "{text}");
        }
    }
}
