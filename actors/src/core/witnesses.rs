//! Whether a job is to blame for what the store refuses alone, or whatever refuses it refuses everybody.
//!
//! ```text
//! refused alone   a   b   a   b         a rule that nobody keeps: nobody is to blame, all are asked again
//! refused alone   a       a
//! taken               b                 b got through meanwhile: a is to blame
//! ```

use std::{collections::HashMap, time::Duration};

use crate::name::JobName;

/// A job is blamed only if it is asked again within this time: what refused it before may have been a rule
/// that refused everybody, and is gone.
const HELD_AGAINST_FOR: Duration = Duration::from_secs(60);

/// The most jobs that are remembered as refused; others are not blamed meanwhile.
const REFUSED_MAX: usize = 10_000;

/// When so many are remembered, those refused longer ago than this are forgotten. At ten a second, as
/// suspects are asked, each of them that is still wanted was asked again since.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(20);

/// What the store took, of one kind, while it refused something. Readings are of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    /// How much it took.
    taken: u64,
    refused: HashMap<JobName, Refused>,
}

/// A job was refused alone.
#[derive(Debug)]
struct Refused {
    /// What the store had taken when it refused the job first.
    taken: u64,
    /// When it refused the job last.
    at: Duration,
}

impl Witnesses {
    /// The store took something of a job.
    pub(crate) fn took(&mut self, job: &JobName) {
        self.taken = self.taken.wrapping_add(1);
        self.forget(job);
    }

    /// Something of a job is to be asked. It may wait for its turn: what counts is when it was wanted.
    pub(crate) fn asks(&mut self, now: impl FnOnce() -> Duration, job: &JobName) {
        // Nearly always.
        if self.refused.is_empty() {
            return;
        }
        let is_old = |refused: &Refused| now().saturating_sub(refused.at) > HELD_AGAINST_FOR;
        if self.refused.get(job).is_some_and(is_old) {
            self.refused.remove(job);
        }
    }

    /// The store refused a job alone. Answers whether another one got through since it did so first.
    pub(crate) fn blame(&mut self, now: Duration, job: &JobName) -> bool {
        match self.refused.get_mut(job) {
            Some(refused) if refused.taken != self.taken => {
                self.refused.remove(job);
                true
            }
            Some(refused) => {
                refused.at = now;
                false
            }
            None => {
                self.make_room(now);
                if self.refused.len() < REFUSED_MAX {
                    self.refused.insert(job.clone(), Refused { taken: self.taken, at: now });
                }
                false
            }
        }
    }

    /// Nothing of the job is wanted any more.
    pub(crate) fn forget(&mut self, job: &JobName) {
        if !self.refused.is_empty() {
            self.refused.remove(job);
        }
    }

    /// Nothing that was refused is wanted any more.
    pub(crate) fn forget_all(&mut self) {
        self.refused.clear();
    }

    fn make_room(&mut self, now: Duration) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.retain(|_, refused| now.saturating_sub(refused.at) <= FORGOTTEN_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(7);

    fn named(name: &str) -> JobName {
        JobName::new(name).unwrap()
    }

    #[test]
    fn a_job_is_to_blame_only_if_another_one_gets_through_meanwhile() {
        let [a, b] = ["a", "b"].map(named);
        let mut witnesses = Witnesses::default();

        witnesses.took(&b);
        assert_eq!([&a, &b, &a, &b].map(|job| witnesses.blame(T0, job)), [false; 4], "everybody is refused");
        witnesses.took(&b);
        assert!(witnesses.blame(T0, &a));
        assert!(!witnesses.blame(T0, &b), "it got through, and is refused for the first time");
        assert!(!witnesses.blame(T0, &a), "blamed before, and tried again since");
    }

    #[test]
    fn a_refusal_is_held_against_a_job_for_a_minute() {
        let [a, b] = ["a", "b"].map(named);
        for (again, is_blamed) in [(60, true), (61, false)] {
            let mut witnesses = Witnesses::default();
            assert!(!witnesses.blame(T0, &a));
            witnesses.took(&b);
            let again = T0 + Duration::from_secs(again);

            witnesses.asks(|| again, &a);

            // It had to wait for its turn.
            assert_eq!(witnesses.blame(again + Duration::from_secs(100), &a), is_blamed, "{again:?}");
        }
    }

    #[test]
    fn what_is_forgotten_is_held_against_nobody() {
        let [a, b, c] = ["a", "b", "c"].map(named);
        let mut witnesses = Witnesses::default();
        assert_eq!([&a, &b].map(|job| witnesses.blame(T0, job)), [false; 2]);
        witnesses.took(&c);

        witnesses.forget(&a);
        assert!(!witnesses.blame(T0, &a));
        witnesses.forget_all();
        assert!(!witnesses.blame(T0, &b));
    }

    #[test]
    fn names_that_were_refused_once_do_not_keep_others_from_being_blamed() {
        let [a, b] = ["a", "b"].map(named);
        let mut witnesses = Witnesses::default();
        for nth in 0..REFUSED_MAX {
            witnesses.blame(T0, &named(&format!("gone {nth}")));
        }
        assert!(!witnesses.blame(T0, &a));
        assert_eq!(witnesses.refused.len(), REFUSED_MAX, "no more than that");

        let later = T0 + FORGOTTEN_AFTER + Duration::from_secs(1);
        assert!(!witnesses.blame(later, &a));
        witnesses.took(&b);
        assert!(witnesses.blame(later, &a));
    }
}
