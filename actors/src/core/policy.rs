//! What a job does about nodes, overlaps, misfires, lost runs and time.

use std::time::Duration;

use serde::Serialize;

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

/// The policies of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// How long a run may take before it is cancelled. Default: no limit.
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
            timeout: None,
            abort_grace: ABORT_GRACE_DEFAULT,
        }
    }
}
