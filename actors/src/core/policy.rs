//! What a job does about nodes, overlaps, misfires, lost runs and time.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{core::duration::DurationText, name::RunId, word::words};

/// The default of [`Policies::misfire_after`].
pub(crate) const MISFIRE_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// The default of [`Policies::abort_after`].
pub(crate) const ABORT_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// The shortest time within which [`Misfire::Auto`] makes up for a tick.
pub const MISFIRE_WITHIN_MIN: Duration = Duration::from_mins(5);
/// The longest time within which [`Misfire::Auto`] makes up for a tick.
pub const MISFIRE_WITHIN_MAX: Duration = Duration::from_hours(12);

/// Which nodes fire the job.
///
/// | | election | claim | a tick in a cluster of n nodes |
/// |---|---|---|---|
/// | `Leader` | yes | yes | starts at most once |
/// | `AnyNode` | no | yes | starts at most once, on whichever node claims it first |
/// | `Local` | no | no | starts on every node that has the job: n times |
///
/// A `Leader` job that the leader does not have is claimed by the nodes that have it, as an `AnyNode` job is,
/// until a leader has it.
///
/// ```text
/// tick            |        |        |
/// Leader  node 1  run      run      (dies)
///         node 2                    run
/// AnyNode node 1  run               (dies)
///         node 2           run      run
/// Local   node 1  run      run      (dies)
///         node 2  run      run      run
/// ```
///
/// The guide `policies` of the package `callsheet` asserts the surprising line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fires {
    /// The leader only, and only with a claim that the store granted.
    #[default]
    Leader,
    /// Every node that has the job has its timer, and the first claim wins: no election, so that no tick
    /// waits for one, but each tick costs a claim on every node. Those that come second count the tick as
    /// `elsewhere`.
    AnyNode,
    /// Every node for itself: no coordination, no claim, no fencing token.
    Local,
}

words!(Fires { Leader: "leader", AnyNode: "any_node", Local: "local" });

/// What happens to a tick during a run of the same lock key, on this or on another node.
///
/// Jobs that share a lock key share one policy, on all nodes. A node that fires a job declares the policy of
/// its key to the store; a leader does so until its term is over, other nodes until their session is. Another
/// policy is refused for as long: adding such a job fails, or the job stays added and is
/// [`Conflicting`](crate::JobState::Conflicting) until nobody declares the other one. Then it fires, and its
/// misfire policy decides what it missed. A new leader decides again, so that another policy comes in with a
/// rolling deployment. A [`Local`](Fires::Local) job shares its key with nobody. A manual trigger on a node
/// that does not fire the job follows that node's own policy, which nobody compares.
///
/// | the key is | `Skip` | `Queue(max)` | `Replace` | `Allow(max)` |
/// |---|---|---|---|---|
/// | free | runs | runs | runs | runs |
/// | held by fewer than `max` runs | | | | runs beside them |
/// | held | skipped, reason `overlap` | waits for its end | waits for its end, after asking it to stop | skipped, reason `overlap` |
/// | held, and `max` ticks wait (`Replace`: one) | | the oldest of them is skipped | the older one is skipped | |
/// | held by a node that died | takes the key over and runs | | | |
///
/// ```text
/// tick      1     2     3     4     5
/// Skip      [1=============]  [4=============]        2, 3 and 5 are skipped
/// Queue(1)  [1=============][3=============][5======  2 and 4 are skipped: the next one came while they waited
/// Replace   [1===x[2===x[3===x[4===x[5=============]  each is asked to stop when the next one comes
/// Allow(2)  [1=============]  [4=============]
///                 [2=============]  [5=============]  3 is skipped: two were running
/// ```
///
/// A queue keeps the freshest ticks, since the cursor of a job only moves forward. What waits is kept in
/// memory: when the node dies it is decided again by the misfire policy of the next one.
///
/// A manual trigger follows the same policy: with `Skip` and `Allow` it is refused, with `Queue` and
/// `Replace` it waits. The slots of `Allow` are lock keys of their own: their fencing tokens are ordered each
/// for itself, and runs that go on beside each other are not ordered at all.
///
/// The guide `policies` of the package `callsheet` asserts the surprising line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Overlap {
    /// The tick does not run.
    #[default]
    Skip,
    /// Up to so many ticks wait, 1 to [`QUEUE_MAX`].
    Queue(u32),
    /// The run in progress is asked to stop, and the tick runs when it has ended.
    Replace,
    /// Up to so many runs at once, 1 to [`ALLOW_MAX`].
    Allow(u32),
}

/// The most ticks of one job that [`Overlap::Queue`] lets wait.
pub const QUEUE_MAX: u32 = 1_000;
/// The most runs at once of one lock key by [`Overlap::Allow`].
pub const ALLOW_MAX: u32 = 1_000;

/// As stores keep it: `skip`, `queue 5`, `replace`, `allow 2`.
impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("skip"),
            Self::Queue(max) => write!(f, "queue {max}"),
            Self::Replace => f.write_str("replace"),
            Self::Allow(max) => write!(f, "allow {max}"),
        }
    }
}

impl Overlap {
    /// How many runs of the key may be in progress at once.
    pub(crate) fn slots(self) -> u32 {
        match self {
            Self::Skip | Self::Queue(_) | Self::Replace => 1,
            Self::Allow(max) => max,
        }
    }
}

/// What happens to ticks whose time passed without a run: the process was down, nobody led, the node stalled,
/// the job was paused, the clock jumped.
///
/// A tick that is late by at most [`Policies::misfire_after`] is on time. When several ticks are due at once,
/// `Auto`, `Latest` and `Skip` let only the newest run, and the older ones are skipped with the reason
/// `misfire` (`paused` if the job was), whatever their lateness.
///
/// | a due tick is late by | `Auto` | `Latest { within }` | `All { max, within }` | `Skip` |
/// |---|---|---|---|---|
/// | at most `misfire_after` | the newest runs | the newest runs | runs | the newest runs |
/// | more, at most its window | the newest runs | the newest runs | the newest `max` run | |
/// | more than its window | skipped | skipped | skipped | skipped |
///
/// The window of a tick is `within`; with `Auto` it follows from the schedule:
///
/// | the tick after it comes | such as | the window with `Auto` |
/// |---|---|---|
/// | up to 10 minutes later | every second | 5 minutes: [`MISFIRE_WITHIN_MIN`] |
/// | later | every hour | half of that time: 30 minutes |
/// | 24 hours later, or more | every night, every month | 12 hours: [`MISFIRE_WITHIN_MAX`] |
/// | never | the last of a list | 12 hours |
///
/// ```text
/// tick         1     2     3     4     5
/// node         up    [down          ]  up
/// Auto         run               4 runs here, unless it is nearer to 5; 2 and 3 are skipped, then 5 runs
/// Latest       run               4 runs here, 2 and 3 are skipped, then 5 runs
/// All(2)       run               3, then 4 run here one after the other, 2 is skipped, then 5 runs
/// Skip         run               2, 3 and 4 are skipped, then 5 runs
/// ```
///
/// The runs of one job that catch up are paced, so that they never flood: one after the other, whatever the overlap
/// policy allows, and [`CATCH_UP_PACE`] from start to start at least. Ticks that come due meanwhile wait
/// behind them. Those of all jobs of a node are paced as well, by
/// [`catch_up_per_second`](crate::EngineOptions::catch_up_per_second): the one whose window ends soonest is first, and
/// one whose window ends while it waits is skipped, with the reason `misfire`.
///
/// A tick that comes due while its job is paused is *held*: it runs if the job is resumed within its window.
/// It is skipped, with the reason `paused`, once its window is over or more ticks wait than may, whichever is
/// first. `Auto` and `Latest` let one wait, unless [`Overlap::Queue`] lets more: it is skipped when the next
/// one comes. With `Skip` it is skipped at once.
///
/// ```text
/// tick, hourly   1     2     3     4
/// job            up    [paused        ]
/// Auto           run   held, skipped half an hour later; so is 3; 4 is held, and runs at the end of the pause
/// All(2, 3 h)    run   held; 3 is held, too; with 4 the oldest, 2, is skipped; 3 and 4 run at the end
/// Skip           run   2, 3 and 4 are skipped at once
/// ```
///
/// The guide `policies` of the package `callsheet` asserts the surprising line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Misfire {
    /// One catch-up run for the newest missed tick, unless the next one is nearer: within half the time from
    /// the missed tick to the tick after it, at least 5 minutes and at most 12 hours. For the last tick of a
    /// schedule: within 12 hours.
    #[default]
    Auto,
    /// One catch-up run for the newest missed tick, unless it is later than `within`.
    Latest {
        /// The greatest lateness of a catch-up run, of any length.
        #[serde(with = "crate::serde::duration")]
        within: Duration,
    },
    /// Catch-up runs for the newest missed ticks, one after the other.
    All {
        /// How many ticks may wait to be made up for, 1 to [`MISFIRE_ALL_MAX`]; the oldest beyond are
        /// skipped.
        max: u32,
        /// The greatest lateness of a tick that is made up for, of any length.
        #[serde(with = "crate::serde::duration")]
        within: Duration,
    },
    /// No catch-up run.
    Skip,
}

/// The most ticks of one job that [`Misfire::All`] makes up for.
pub const MISFIRE_ALL_MAX: u32 = 1_000;
/// The time from the start of a catch-up run to the start of the next one of the same job, at least.
pub const CATCH_UP_PACE: Duration = Duration::from_millis(100);

/// What happens to a run whose node died.
///
/// | | the run ends as | and then |
/// |---|---|---|
/// | `Record` | `lost` | nothing; the next tick runs as usual |
/// | `Retry` | `lost` | a node that fires the job runs it again: same run, next attempt, greater token |
///
/// ```text
/// node 1  [run 7 ====x           (killed)
/// node 2              RunLost, written by the next leader
/// Retry               [run 7, attempt 2 ====]
/// ```
///
/// What `Retry` retries:
///
/// | | the lost run |
/// |---|---|
/// | several runs of the job are lost, as with [`Overlap::Allow`] | each goes on, the oldest first |
/// | another run of the job has started or ended since | goes on all the same, when the overlap policy lets it |
/// | the leader does not have the job, or any node fires it | goes on on one node that fires it |
/// | nobody fires the job at that time | goes on once a node does |
/// | it was lost [`LOSSES_MAX`] times | stays lost, since it may be what kills the nodes |
/// | the job has more than [`PENDING_RETRIES_MAX`] pending retries | the oldest stay lost |
/// | the leader removed the job, or it was changed to `Record` | stays lost |
/// | the job was removed in another way: by nodes that do not lead, or any node fires it | goes on once the job is added again |
/// | it waits to go on, and its node is told [`CancelRuns`](crate::CancelRuns) | ends as `cancelled` when its turn comes |
///
/// Whoever closes a lost run tells all nodes, which is a matter of milliseconds; a node that was not told
/// finds it out within about a minute. `Retry` may repeat effects of the run that was lost: use the fencing
/// token.
///
/// The guide `policies` of the package `callsheet` asserts the surprising line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OnLost {
    /// It is recorded as lost.
    #[default]
    Record,
    /// It is recorded as lost, and run again.
    Retry,
}

words!(OnLost { Record: "record", Retry: "retry" });

/// A run that was lost so often is not tried again.
pub const LOSSES_MAX: u32 = 5;
/// The most pending retries of one job: as many as [`Overlap::Allow`] may lose at once.
pub const PENDING_RETRIES_MAX: usize = ALLOW_MAX as usize;

/// What happens when an attempt of a run fails: it returns an error, panics, or takes longer than the
/// timeout.
///
/// The lock key stays held from the first attempt to the last, and the run ends as its last attempt did. An
/// error that the body calls [`permanent`](crate::RunError::permanent) is not tried again, nor is a run that
/// was cancelled.
///
/// | attempt | fails | the run |
/// |---|---|---|
/// | not the last | with an error, a panic, a timeout | waits, then starts the next attempt |
/// | not the last | with a permanent error | ends as `failed` |
/// | the last | in any way | ends so |
///
/// The pause before attempt *n* + 1 is `initial` × `factor`ⁿ⁻¹, at most `max`, less a part of it: between
/// nothing and `jitter`, by a hash of run and attempt, so that runs that failed together do not try again
/// together.
///
/// ```text
/// tick      |                                 |
/// attempts  [1==x   [2==x       [3==]         next tick: [1==]
/// pauses         1 s      2 s
/// ```
///
/// ```
/// use std::time::Duration;
///
/// use callsheet_actors::Retry;
///
/// let retry = Retry::attempts(3).initial(Duration::from_secs(10)).jitter(0.0);
/// assert_eq!((retry.attempts, retry.factor), (3, 2.0));
/// ```
///
/// The guide `policies` of the package `callsheet` asserts the surprising line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a retry policy, such as {\"attempts\": 3}")]
#[non_exhaustive]
pub struct Retry {
    /// How many attempts a run has in all, 1 to 1,000. Default: 1, so that nothing is tried again.
    pub attempts: u32,
    /// The pause after the first attempt, at least 1 ms. Default: 1 s.
    #[serde(with = "crate::serde::duration")]
    pub initial: Duration,
    /// How much longer each pause is than the one before, 1 to 1,000. Default: 2.
    pub factor: f64,
    /// The longest pause, at least `initial`. Default: 5 min.
    #[serde(with = "crate::serde::duration")]
    pub max: Duration,
    /// The part of a pause that varies, 0 to 1. Default: 0.2.
    pub jitter: f64,
}

/// The most attempts of one run.
pub(crate) const ATTEMPTS_MAX: u32 = 1_000;
/// The greatest [`Retry::factor`].
pub(crate) const RETRY_FACTOR_MAX: f64 = 1_000.0;

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

    /// With this pause after the first attempt, at least 1 ms.
    #[must_use]
    pub fn initial(self, initial: Duration) -> Self {
        Self { initial, ..self }
    }

    /// With each pause so many times as long as the one before, 1 to 1,000.
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// With no pause longer than this, at least the first one.
    #[must_use]
    pub fn max(self, max: Duration) -> Self {
        Self { max, ..self }
    }

    /// With this part of each pause left to chance, 0 to 1.
    #[must_use]
    pub fn jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
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
        let mut faults = Vec::new();
        // The text of a value is made only if it is wrong.
        let mut check = |fine: bool, what, value: &dyn fmt::Display, rule| {
            if !fine {
                faults.push((what, value.to_string(), rule));
            }
        };
        check((1..=ATTEMPTS_MAX).contains(&attempts), "retry attempts", &attempts, "1 to 1,000");
        let least = Duration::from_millis(1);
        check(initial >= least, "retry initial", &DurationText(initial), "at least 1 ms");
        check((1.0..=RETRY_FACTOR_MAX).contains(&factor), "retry factor", &factor, "1 to 1,000");
        check(max >= initial, "retry max", &DurationText(max), "at least the initial pause");
        check((0.0..=1.0).contains(&jitter), "retry jitter", &jitter, "0 to 1");
        faults
    }
}

/// The policies of one job: the default ones, of which fields are set.
///
/// As data, a key that is absent has its default, and a key that is none of these is refused:
///
/// ```
/// use callsheet_actors::{Misfire, Overlap, Policies};
///
/// let text = r#"{"overlap": {"queue": 3}, "misfire": {"latest": {"within": "1h"}}, "timeout": "10m"}"#;
/// let policies: Policies = serde_json::from_str(text).unwrap();
/// assert_eq!(policies.overlap, Overlap::Queue(3));
/// assert_eq!(policies.misfire, Misfire::Latest { within: std::time::Duration::from_hours(1) });
/// assert_eq!(policies.misfire_after, std::time::Duration::from_secs(1));
///
/// let error = serde_json::from_str::<Policies>(r#"{"tiemout": "10m"}"#).unwrap_err();
/// assert!(error.to_string().starts_with("unknown field `tiemout`, expected one of `fires`, `overlap`"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "the policies of a job")]
#[non_exhaustive]
pub struct Policies {
    /// Which nodes fire the job. Default: [`Fires::Leader`].
    pub fires: Fires,
    /// What happens to a tick during a run of the same lock key. Default: [`Overlap::Skip`].
    pub overlap: Overlap,
    /// What happens to ticks whose time passed without a run. Default: [`Misfire::Auto`].
    pub misfire: Misfire,
    /// What happens to a run whose node died. Default: [`OnLost::Record`].
    pub on_lost: OnLost,
    /// The lateness up to which a tick is on time, of any length; one that is later is a misfire.
    /// Default: 1 s.
    #[serde(with = "crate::serde::duration")]
    pub misfire_after: Duration,
    /// What happens when an attempt fails. Default: it is not tried again.
    pub retry: Retry,
    /// How long an attempt may take before it is cancelled, at least 1 ms. Default: no limit.
    #[serde(with = "crate::serde::duration")]
    pub timeout: Option<Duration>,
    /// The time between cancelling a run and aborting it, of any length. Default: 5 s.
    #[serde(with = "crate::serde::duration")]
    pub abort_after: Duration,
    /// How many ticks run in all, counted cluster-wide from the day the job was first known to the store;
    /// manual triggers and skipped ticks do not count. The job is then exhausted. At least 1; default: no
    /// limit.
    pub limit: Option<u64>,
    /// The job is paused after so many runs in a row, at least 1, that failed, panicked or timed out.
    /// Default: never.
    pub pause_after: Option<u32>,
    /// Who goes first when more runs want to start than the node may run at once: the greater. Default: 0.
    pub priority: i8,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            fires: Fires::default(),
            overlap: Overlap::default(),
            misfire: Misfire::default(),
            on_lost: OnLost::default(),
            misfire_after: MISFIRE_AFTER_DEFAULT,
            retry: Retry::default(),
            timeout: None,
            abort_after: ABORT_AFTER_DEFAULT,
            limit: None,
            pause_after: None,
            priority: 0,
        }
    }
}

impl Policies {
    /// What is wrong with them: the option, its value, and the rule that it breaks.
    pub(crate) fn faults(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut faults = self.retry.faults();
        let mut check = |fine: bool, what, value: String, rule| {
            if !fine {
                faults.push((what, value, rule));
            }
        };
        match self.overlap {
            Overlap::Queue(max) => {
                check((1..=QUEUE_MAX).contains(&max), "overlap queue", max.to_string(), "1 to 1,000");
            }
            Overlap::Allow(max) => {
                check((1..=ALLOW_MAX).contains(&max), "overlap allow", max.to_string(), "1 to 1,000");
            }
            Overlap::Skip | Overlap::Replace => {}
        }
        if let Misfire::All { max, .. } = self.misfire {
            check((1..=MISFIRE_ALL_MAX).contains(&max), "misfire max", max.to_string(), "1 to 1,000");
        }
        if let Some(limit) = self.limit {
            check(limit > 0, "limit", limit.to_string(), "at least 1");
        }
        if let Some(failures) = self.pause_after {
            check(failures > 0, "pause after failures", failures.to_string(), "at least 1");
        }
        faults
    }
}
