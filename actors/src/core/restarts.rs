//! How often an actor may die before it is not started again.

use std::time::Duration;

/// A job actor that dies more often than this within [`RESTART_PERIOD`] is not started again.
pub const RESTARTS_MAX: u32 = 5;
/// The time within which the deaths of a job actor are counted.
pub const RESTART_PERIOD: Duration = Duration::from_secs(60);

/// The deaths of one actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Restarts {
    /// When the period began, by the monotonic clock.
    since: Duration,
    count: u32,
}

/// What follows from a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterDeath {
    /// Another actor is started, for so many deaths now.
    Restart(u32),
    /// It died this often within the period: it is given up.
    GiveUp(u32),
}

impl Restarts {
    /// It died at `now`, by the monotonic clock.
    pub(crate) fn died(&mut self, now: Duration) -> AfterDeath {
        if now.saturating_sub(self.since) > RESTART_PERIOD {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
        if self.count > RESTARTS_MAX {
            AfterDeath::GiveUp(self.count)
        } else {
            AfterDeath::Restart(self.count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_given_up_after_too_many_deaths_in_a_period() {
        let mut restarts = Restarts::default();
        let deaths =
            (1..=u64::from(RESTARTS_MAX) + 1).map(|nth| restarts.died(Duration::from_secs(100 + nth)));

        let expected =
            (1..=RESTARTS_MAX).map(AfterDeath::Restart).chain([AfterDeath::GiveUp(RESTARTS_MAX + 1)]);

        assert!(deaths.eq(expected));
    }

    #[test]
    fn deaths_of_a_period_that_is_over_do_not_count() {
        let mut restarts = Restarts::default();
        let start = Duration::from_secs(1_000);
        for _ in 0..RESTARTS_MAX {
            restarts.died(start);
        }

        assert_eq!(
            restarts.died(start + RESTART_PERIOD),
            AfterDeath::GiveUp(RESTARTS_MAX + 1),
            "not over yet"
        );
        let later = start + RESTART_PERIOD + Duration::from_millis(1);
        assert_eq!(restarts.died(later), AfterDeath::Restart(1));
    }
}
