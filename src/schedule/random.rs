//! Random intervals.

use std::{fmt, time::Duration};

use callsheet_actors::Fault;

use super::{
    definition::Definition,
    duration::Written,
    every::millis_of,
    hash::{Domain, Seed},
    input::Given,
};

/// Fires at random, with at least `min` and at most `max` between two fire times.
///
/// Time is cut into slots of the mean period, counted from the Unix epoch, and each slot has one fire time,
/// at a place that is a hash of the slot's number and a seed: the name of the job, or
/// [`seed`](Definition::seed). So the fire times are the same on every node and after every restart, and any
/// of them is known without those before. The place is equally likely anywhere in a part of `(max - min) / 2`
/// of the slot; that keeps each spacing within the bounds (spacings near the mean are the most likely).
///
/// Both are whole milliseconds, from 1 ms to a hundred years. The hash is SipHash-2-4, and does not change
/// between versions and platforms.
///
/// Source: the rule is this library's own: an exact bound on each spacing, answered without walking the past.
/// SipHash: Aumasson and Bernstein, 2012.
///
/// | surprising case | what happens |
/// |---|---|
/// | two jobs with the same bounds | fire at different times: their names differ |
/// | two such schedules in one job | fire together, unless they have seeds |
/// | a job is renamed | its fire times change; a seed keeps them |
/// | `min` equals `max` | a fixed period |
/// | no job (`into_schedule()` alone) | the seed is the empty text |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, random};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = random("1m", "5m").seed("mail").into_schedule()?;
///
/// let first = schedule.next_after("2026-01-01T00:00:00Z".parse()?).ok_or("none")?;
/// let second = schedule.next_after(first).ok_or("none")?;
/// assert!((60..=300).contains(&(second - first).num_seconds()));
///
/// // The same answer wherever it is asked.
/// let same = random("1m", "5m").seed("mail").into_schedule()?;
/// assert_eq!(same.previous_before(second), Some(first));
/// # Ok(())
/// # }
/// ```
pub fn random(min: impl Into<Given<Duration>>, max: impl Into<Given<Duration>>) -> Definition<Random> {
    Definition::new(Random { min: min.into(), max: max.into(), seed: None })
}

/// Random intervals; made by [`random`].
#[derive(Debug, Clone)]
pub struct Random {
    pub(super) min: Given<Duration>,
    pub(super) max: Given<Duration>,
    pub(super) seed: Option<String>,
}

impl Definition<Random> {
    /// Sets the text that decides the fire times. Default: the job's name.
    pub fn seed(mut self, seed: impl Into<String>) -> Self {
        self.kind.seed = Some(seed.into());
        self
    }
}

impl Random {
    pub(super) fn compile(&self) -> Result<Spread, Vec<Fault>> {
        let (min, max) = (millis_of(&self.min, "random.min"), millis_of(&self.max, "random.max"));
        let (min, max) = match (min, max) {
            (Ok(min), Ok(max)) => (min, max),
            (min, max) => return Err([min.err(), max.err()].into_iter().flatten().collect()),
        };
        if min > max {
            let shown = format!("{} to {}", self.min.shown(), self.max.shown());
            let cure = "write the shorter one first";
            return Err(vec![Fault::new(
                "random",
                shown,
                "the shortest interval is longer than the longest",
                cure,
            )]);
        }
        let seed = Seed::of(self.seed.as_deref().unwrap_or_default());
        Ok(Spread { min, width: (max - min) / 2, seed, is_own_seed: self.seed.is_some() })
    }
}

/// The compiled rule. Slot k starts at k times the mean period, and its fire time is at most `width` later;
/// the mean period is `min + width`, so that two neighbours are at least `min`, and at most
/// `min + 2 * width`, apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    min: i64,
    width: i64,
    seed: Seed,
    is_own_seed: bool,
}

impl Spread {
    pub(super) fn first_from(&self, earliest: i64) -> Option<i64> {
        let slot = earliest.div_euclid(self.mean());
        let fire_time = self.fire_time(slot);
        Some(if fire_time >= earliest { fire_time } else { self.fire_time(slot + 1) })
    }

    pub(super) fn last_until(&self, latest: i64) -> Option<i64> {
        let slot = latest.div_euclid(self.mean());
        let fire_time = self.fire_time(slot);
        Some(if fire_time <= latest { fire_time } else { self.fire_time(slot - 1) })
    }

    /// Takes the job's name as the seed, unless there is another; says whether it did.
    pub(super) fn seed(&mut self, job: &str) -> bool {
        if !self.is_own_seed {
            self.seed = Seed::of(job);
        }
        !self.is_own_seed
    }

    fn fire_time(&self, slot: i64) -> i64 {
        // No overflow: a slot is next to an instant, and a mean is below 2⁴² ms.
        slot * self.mean() + self.seed.number(Domain::RandomInterval, slot, self.width)
    }

    fn mean(&self) -> i64 {
        self.min + self.width
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "random {} to {}", Written(self.min), Written(self.min + 2 * self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(min: &str, max: &str) -> Spread {
        random(min, max).seed("x").kind.compile().expect("a good definition")
    }

    /// Behaviour 18 of gocron's tests.
    #[test]
    fn spacings_stay_within_the_bounds_and_use_them() {
        for (min, max) in
            [("1ms", "2ms"), ("1ms", "10ms"), ("1m", "5m"), ("1m", "61s"), ("7ms", "7ms"), ("1ms", "36525d")]
        {
            let spread = spread(min, max);
            let read = |text| millis_of(&Given::from(text), "x").expect("a period");
            let (min, max) = (read(min), read(max));
            let mut fire_time = spread.first_from(-1_000_000).expect("one");
            let (mut shortest, mut longest) = (i64::MAX, 0);

            for _ in 0..2_000 {
                let next = spread.first_from(fire_time + 1).expect("one");
                assert!((min..=max).contains(&(next - fire_time)), "{spread}: {}", next - fire_time);
                assert_eq!(spread.last_until(next - 1), Some(fire_time));
                (shortest, longest) = (shortest.min(next - fire_time), longest.max(next - fire_time));
                fire_time = next;
            }

            let slack = (max - min) / 10 + 1;
            assert!(shortest <= min + slack && longest >= max - slack, "{spread}: {shortest} to {longest}");
        }
    }

    #[test]
    fn the_job_is_the_seed_unless_there_is_one() {
        let mut own = spread("1m", "5m");
        let mut of_job = random("1m", "5m").kind.compile().expect("a good definition");

        assert!(!own.seed("mail"));
        assert!(of_job.seed("x"));
        assert_eq!(own.first_from(0), of_job.first_from(0));
        assert!(of_job.seed("mail"));
        assert_ne!(own.first_from(0), of_job.first_from(0));
    }
}
