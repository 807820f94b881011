//! What a job does about nodes, overlaps, misfires, lost runs and time.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde::Serialize;

use crate::name::RunId;

/// The default of [`Policies::grace`].
pub const GRACE_DEFAULT: Duration = Duration::from_secs(1);
/// The default of [`Policies::abort_grace`].
pub const ABORT_GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// The default of `within` in [`Misfire::Latest`].
pub const MISFIRE_WITHIN_DEFAULT: Duration = Duration::from_secs(300);

/// Which nodes fire the job.
///
/// | | election | claim | a tick in a cluster of n nodes |
/// |---|---|---|---|
/// | `Leader` | yes | yes | starts at most once |
/// | `Local` | no | no | starts on every node that holds the job: n times |
///
/// ```text
/// tick            |        |        |
/// Leader  node 1  run      run      (dies)
///         node 2                    run
/// Local   node 1  run      run      (dies)
///         node 2  run      run      run
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fires {
    /// The leader only, and only with a claim that the store granted.
    #[default]
    Leader,
    /// Every node for itself: no coordination, no claim, no fencing token.
    Local,
}

/// What happens to a tick during a run of the same lock key.
///
/// | the key is | `Skip` |
/// |---|---|
/// | free | the tick runs |
/// | held, by this or by another node | the tick is skipped, reason `overlap` |
/// | held by a node that died | the tick takes the key over and runs |
///
/// ```text
/// tick    |     |     |     |
/// run     [========]        [==
/// Skip    run   skip  run   run     (the third tick finds the key free)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// The tick does not run.
    #[default]
    Skip,
}

/// What happens to ticks whose time passed without a run: the process was down, nobody led, the node stalled, the
/// clock jumped.
///
/// A tick that is late by at most [`Policies::grace`] is on time. When several ticks are due at once, only the newest
/// may run and the older ones are skipped with the reason `misfire`, whatever their lateness.
///
/// | newest due tick is late by | `Latest { within }` | `Skip` |
/// |---|---|---|
/// | at most the grace | runs | runs |
/// | more, at most `within` | runs | skipped |
/// | more than `within` | skipped | skipped |
///
/// ```text
/// tick         1     2     3     4     5
/// node         up    [down          ]  up
/// Latest       run               4 runs here, 2 and 3 are skipped, then 5 runs
/// Skip         run               2, 3 and 4 are skipped, then 5 runs
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misfire {
    /// One catch-up run for the newest missed tick, unless it is later than `within` (5 minutes by default).
    Latest {
        /// The greatest lateness of a catch-up run.
        within: Duration,
    },
    /// No catch-up run.
    Skip,
}

impl Default for Misfire {
    fn default() -> Self {
        Self::Latest { within: MISFIRE_WITHIN_DEFAULT }
    }
}

/// What happens to a run whose node died.
///
/// | | the run ends as | and then |
/// |---|---|---|
/// | `Record` | `lost` | nothing; the next tick runs as usual |
///
/// ```text
/// node 1  [run====x           (killed)
/// node 2              RunLost, written by whoever takes over
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnLost {
    /// It is recorded as lost.
    #[default]
    Record,
}

/// What happens when an attempt of a run fails: it returns an error, panics, or takes longer than the timeout.
///
/// The lock key stays held from the first attempt to the last, and the run ends as its last attempt did. An error that the body
/// calls [`permanent`](crate::RunError::permanent) is not tried again, nor is a run that was cancelled.
///
/// | attempt | fails | the run |
/// |---|---|---|
/// | not the last | with an error, a panic, a timeout | waits, then starts the next attempt |
/// | not the last | with a permanent error | ends as `failed` |
/// | the last | in any way | ends so |
///
/// The pause before attempt *n* + 1 is `initial` × `factor`ⁿ⁻¹, at most `max`, less a part of it: between nothing and `jitter`,
/// by a hash of run and attempt, so that runs that failed together do not try again together.
///
/// ```text
/// tick      |                                 |
/// attempts  [1==x   [2==x       [3==]         next tick: [1==]
/// pauses         1 s      2 s
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Retry {
    /// How many attempts a run has in all, 1 to 1,000. Default: 1, so that nothing is tried again.
    pub attempts: u32,
    /// The pause after the first attempt, at least 1 ms. Default: 1 s.
    pub initial: Duration,
    /// How much longer each pause is than the one before, 1 to 1,000. Default: 2.
    pub factor: f64,
    /// The longest pause, at least `initial`. Default: 5 min.
    pub max: Duration,
    /// The part of a pause that varies, 0 to 1. Default: 0.2.
    pub jitter: f64,
}

/// The most attempts of one run.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// The greatest [`Retry::factor`].
pub const RETRY_FACTOR_MAX: f64 = 1_000.0;

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_mins(5),
            jitter: 0.2,
        }
    }
}

impl Retry {
    /// So many attempts in all, with the default pauses.
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// The pause after the `attempt`-th attempt (from 1) failed.
    pub fn pause(&self, run: RunId, attempt: u32) -> Duration {
        let grown = self.factor.powf(f64::from(attempt.saturating_sub(1)));
        let longest = self.max.as_secs_f64();
        let pause = (self.initial.as_secs_f64() * grown).min(longest);
        let mut hasher = DefaultHasher::new();
        (run, attempt).hash(&mut hasher);
        let part = hasher.finish() as f64 / u64::MAX as f64;
        Duration::try_from_secs_f64(pause * (1.0 - self.jitter * part)).unwrap_or(self.max)
    }

    /// What is wrong with it: the option, its value, and the rule that it breaks.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String, &'static str)> {
        let Self { attempts, initial, factor, max, jitter } = *self;
        let checks = [
            ((1..=ATTEMPTS_MAX).contains(&attempts), "retry attempts", attempts.to_string(), "1 to 1,000"),
            (initial >= Duration::from_millis(1), "retry initial", format!("{initial:?}"), "at least 1 ms"),
            ((1.0..=RETRY_FACTOR_MAX).contains(&factor), "retry factor", factor.to_string(), "1 to 1,000"),
            (max >= initial, "retry max", format!("{max:?}"), "at least the initial pause"),
            ((0.0..=1.0).contains(&jitter), "retry jitter", jitter.to_string(), "0 to 1"),
        ];
        checks
            .into_iter()
            .filter(|(fine, ..)| !fine)
            .map(|(_, what, value, rule)| (what, value, rule))
            .collect()
    }
}

/// The policies of one job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Policies {
    /// Which nodes fire the job.
    pub fires: Fires,
    /// What happens to a tick during a run of the same lock key.
    pub overlap: Overlap,
    /// What happens to ticks whose time passed without a run.
    pub misfire: Misfire,
    /// What happens to a run whose node died.
    pub on_lost: OnLost,
    /// The lateness up to which a tick is on time. Default: 1 s.
    pub grace: Duration,
    /// What happens when an attempt fails. Default: it is not tried again.
    pub retry: Retry,
    /// How long an attempt may take before it is cancelled. Default: no limit.
    pub timeout: Option<Duration>,
    /// The time between cancelling a run and aborting it. Default: 5 s.
    pub abort_grace: Duration,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            fires: Fires::default(),
            overlap: Overlap::default(),
            misfire: Misfire::default(),
            on_lost: OnLost::default(),
            grace: GRACE_DEFAULT,
            retry: Retry::default(),
            timeout: None,
            abort_grace: ABORT_GRACE_DEFAULT,
        }
    }
}
