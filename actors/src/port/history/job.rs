//! What is kept of a job for as long as the history is kept at all.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{outcome::Outcome, pause::Pause, time::FireTime},
    name::{JobName, NodeId, RunId},
};

/// What became of a job so far. It outlives every retention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobRecord {
    /// The job.
    pub job: JobName,
    /// The run that ended last.
    pub last_run: Option<EndedRun>,
    /// When a run succeeded last.
    pub last_success: Option<DateTime<Utc>>,
    /// The run that failed, panicked, timed out or was lost last.
    pub last_failure: Option<FailedRun>,
    /// How many runs in a row failed, panicked, timed out or were lost. A cancelled run neither adds to it nor
    /// ends it.
    pub consecutive_failures: u64,
    /// How many runs ended.
    pub runs: u64,
    /// How many of them failed, panicked, timed out or were lost.
    pub failures: u64,
    /// How long a body took on the average.
    #[serde(with = "crate::serde::duration")]
    pub mean: Option<Duration>,
    /// What 95 of 100 bodies took at most, of about the last thousand; off by a quarter at most.
    #[serde(with = "crate::serde::duration")]
    pub p95: Option<Duration>,
    /// For how long, and why, it does not fire. Of several pauses without a resumption between them, the first
    /// that lasts.
    pub pause: Option<Pause>,
    /// The next fire time, as a node knew it when it last recorded a run.
    pub next_fire_time: Option<FireTime>,
    /// The run in progress that was recorded last, if one was.
    pub holder: Option<Holder>,
    /// What was recorded up to then is not all kept any more, since there was too much of it; `None`: all is, but
    /// for what was too [old](super::super::Retention).
    #[serde(default)]
    pub pruned_to: Option<DateTime<Utc>>,
}

impl JobRecord {
    /// A job of which nothing is known.
    pub fn new(job: JobName) -> Self {
        Self {
            job,
            last_run: None,
            last_success: None,
            last_failure: None,
            consecutive_failures: 0,
            runs: 0,
            failures: 0,
            mean: None,
            p95: None,
            pause: None,
            next_fire_time: None,
            holder: None,
            pruned_to: None,
        }
    }
}

/// Of [`JobRecord`] what is cheap for many jobs at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastEnds {
    /// The job.
    pub job: JobName,
    /// When a run ended last.
    pub last_run: Option<DateTime<Utc>>,
    /// When a run succeeded last.
    pub last_success: Option<DateTime<Utc>>,
    /// How many runs in a row failed, panicked, timed out or were lost.
    pub consecutive_failures: u64,
}

impl LastEnds {
    /// Of a job of which nothing is known.
    pub fn new(job: JobName) -> Self {
        Self { job, last_run: None, last_success: None, consecutive_failures: 0 }
    }
}

impl From<JobRecord> for LastEnds {
    fn from(record: JobRecord) -> Self {
        let JobRecord { job, last_run, last_success, consecutive_failures, .. } = record;
        Self { job, last_run: last_run.map(|run| run.at), last_success, consecutive_failures }
    }
}

/// A run that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// The run.
    pub run: RunId,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// How; `None` if the store's word for it is of a newer version, which this one does not know.
    pub outcome: Option<Outcome>,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// The run.
    pub run: RunId,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The error with its causes, or the message of the panic.
    pub error: Option<Arc<str>>,
}

/// Who runs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run.
    pub run: RunId,
    /// Its node.
    pub node: NodeId,
}

/// How long bodies took: counts by length, two lengths to each power of two.
///
/// ```text
/// place        0        1         2         3         4        …   62
/// up to     64 µs    96 µs    128 µs    192 µs    256 µs           39 h
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<u16>", from = "Vec<u16>")]
pub struct DurationCounts([u16; Self::PLACES]);

impl DurationCounts {
    /// How many lengths there are.
    pub const PLACES: usize = 64;
    /// What takes no longer has the first place, in microseconds.
    const UNIT: u64 = 64;
    /// When about so many are counted, all counts are halved: what was long ago counts less.
    pub const COUNTED_MAX: u32 = 2_048;

    /// The place of a length.
    pub fn place(took: Duration) -> usize {
        let micros = took.as_secs().saturating_mul(1_000_000).saturating_add(took.subsec_micros().into());
        let halves = micros / (Self::UNIT / 2);
        let Some(octave) = halves.checked_ilog2().and_then(|highest| highest.checked_sub(1)) else {
            return 0;
        };
        // The bit below the highest one.
        let upper = (halves >> octave) & 1;
        (1 + 2 * octave as usize + upper as usize).min(Self::PLACES - 1)
    }

    /// The shortest length that has a place, in microseconds.
    fn from(place: usize) -> u64 {
        match place.checked_sub(1) {
            None => 0,
            Some(above) => {
                let octave = Self::UNIT << (above / 2);
                if above % 2 == 1 { octave + octave / 2 } else { octave }
            }
        }
    }

    /// Counts a length.
    pub fn add(&mut self, took: Duration) {
        let count = &mut self.0[Self::place(took)];
        *count = count.saturating_add(1);
        // Now and then is enough.
        if count.is_multiple_of(32) && self.total() >= Self::COUNTED_MAX {
            self.0.iter_mut().for_each(|count| *count /= 2);
        }
    }

    fn total(&self) -> u32 {
        self.0.iter().map(|count| u32::from(*count)).sum()
    }

    /// What 95 of 100 took at most.
    pub fn p95(&self) -> Option<Duration> {
        let total = self.total();
        let wanted = (f64::from(total) * 0.95).max(f64::from(u8::from(total > 0)));
        let mut below = 0.0;
        for (place, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if below + count >= wanted {
                let (from, to) = (Self::from(place) as f64, Self::from(place + 1) as f64);
                let micros = from + (to - from) * ((wanted - below) / count);
                return Some(Duration::from_micros(micros as u64));
            }
            below += count;
        }
        None
    }
}

impl Default for DurationCounts {
    fn default() -> Self {
        Self([0; Self::PLACES])
    }
}

impl From<DurationCounts> for Vec<u16> {
    /// The counts up to the last that is not zero.
    fn from(DurationCounts(counts): DurationCounts) -> Self {
        let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        counts[..used].to_vec()
    }
}

impl From<Vec<u16>> for DurationCounts {
    /// Those of places that there are not are left out.
    fn from(used: Vec<u16>) -> Self {
        let mut counts = Self::default();
        counts.0.iter_mut().zip(used).for_each(|(count, used)| *count = used);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_has_the_place_whose_bounds_are_around_it() {
        for micros in [0, 63, 64, 95, 96, 127, 128, 191, 192, 1_000, 65_535, 10_000_000, 86_400_000_000] {
            let place = DurationCounts::place(Duration::from_micros(micros));
            let (from, to) = (DurationCounts::from(place), DurationCounts::from(place + 1));
            assert!((from..to).contains(&micros), "{micros} at {place}: {from} to {to}");
        }
        assert_eq!(DurationCounts::place(Duration::MAX), DurationCounts::PLACES - 1);
    }

    #[test]
    fn the_95th_percentile_is_off_by_a_quarter_at_most() {
        let mut counts = DurationCounts::default();
        assert_eq!(counts.p95(), None);
        for millis in 1..=1_000 {
            counts.add(Duration::from_millis(millis));
        }

        let p95 = counts.p95().expect("there are some").as_secs_f64();
        assert!((0.95 * 0.75..0.95 * 1.25).contains(&p95), "{p95}");
    }

    #[test]
    fn counts_are_written_without_the_places_that_are_empty() {
        let mut counts = DurationCounts::default();
        [64, 65, 200].into_iter().for_each(|micros| counts.add(Duration::from_micros(micros)));

        let json = serde_json::to_string(&counts).expect("it is JSON");
        assert_eq!(json, "[0,2,0,0,1]");
        assert_eq!(serde_json::from_str::<DurationCounts>(&json).expect("counts"), counts);
        let longer = format!("[{}7]", "1,".repeat(DurationCounts::PLACES + 5));
        assert!(serde_json::from_str::<DurationCounts>(&longer).is_ok(), "what a newer version may write");
    }

    #[test]
    fn what_was_long_ago_counts_less() {
        let mut counts = DurationCounts::default();
        (0..10_000).for_each(|_| counts.add(Duration::from_secs(100)));
        (0..4_000).for_each(|_| counts.add(Duration::from_millis(1)));

        assert!(counts.total() < DurationCounts::COUNTED_MAX + 64);
        assert!(counts.p95().expect("there are some") > Duration::from_millis(1));
        (0..40_000).for_each(|_| counts.add(Duration::from_millis(1)));
        assert!(counts.p95().expect("there are some") < Duration::from_millis(2));
    }
}
