//! When a job is due.

use std::{fmt, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{NotDue, ScheduleIdentity};
use crate::error::Faults;

/// A pure rule for fire times.
///
/// The same rule answers the same on every node and after every restart: nothing may depend on when the
/// process started, on who asks, or on what was asked before. That is what makes a tick the same tick
/// everywhere.
///
/// Instants are whole milliseconds. The two questions agree: the fire time that comes first after an instant
/// is the last one before the next. An answer that breaks these rules breaks the job: it is
/// [`Broken`](crate::JobState::Broken), with the question and the answer as the reason, and does not fire
/// until it is updated or resumed. So does a panic that comes again and again: each ends the job's actor,
/// which is started again within its restart budget. An implementation that blocks delays the other jobs of
/// its thread. The suite `testkit::conformance::schedule` checks the rules.
///
/// ```
/// use callsheet_actors::port::Schedule;
/// use chrono::{DateTime, DurationRound, TimeDelta, Utc};
///
/// /// Fires on every full hour.
/// #[derive(Debug)]
/// struct Hourly;
///
/// impl std::fmt::Display for Hourly {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("every full hour")
///     }
/// }
///
/// impl Schedule for Hourly {
///     fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         after.duration_trunc(TimeDelta::hours(1)).ok()?.checked_add_signed(TimeDelta::hours(1))
///     }
///     fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         let hour = before.duration_trunc(TimeDelta::hours(1)).ok()?;
///         if hour < before { Some(hour) } else { hour.checked_sub_signed(TimeDelta::hours(1)) }
///     }
/// }
///
/// let noon = "2026-01-01T12:00:00Z".parse().unwrap();
/// assert_eq!(Hourly.next_after(noon).unwrap().to_rfc3339(), "2026-01-01T13:00:00+00:00");
/// ```
pub trait Schedule: Send + Sync + fmt::Debug + fmt::Display + 'static {
    /// The first fire time strictly after `after`; `None` if there is none.
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>>;

    /// The last fire time strictly before `before`; `None` if there is none.
    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>>;

    /// What tells this rule from another one: the ticks of a job whose schedule has another identity than
    /// before count from the change on; with the same one those count too that it missed. See
    /// [`ScheduleIdentity::differs_from`].
    ///
    /// The same rule has the same identity on every node, after every restart, and in every later build; a
    /// rule that differs has another one. The job's name, its policies and its body, and the data of time
    /// zones are no part of it. Default: that of the text ([`Display`](fmt::Display)), so a rule whose text
    /// hides a part of it, or changes while the rule stays, gives its own:
    ///
    /// ```
    /// # use callsheet_actors::port::{Schedule, ScheduleIdentity};
    /// # use chrono::{DateTime, Utc};
    /// # #[derive(Debug)]
    /// # struct Tides { table: Vec<u8> }
    /// # impl std::fmt::Display for Tides {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("high water") }
    /// # }
    /// impl Schedule for Tides {
    ///     fn identity(&self) -> ScheduleIdentity {
    ///         ScheduleIdentity::of_data(&self.table)
    ///     }
    ///     # fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> { None }
    ///     # fn previous_before(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> { None }
    ///     // …
    /// }
    /// # let of = |table: &[u8]| Tides { table: table.to_vec() };
    /// assert!(of(&[6, 18]).identity().differs_from(of(&[7, 19]).identity()));
    /// ```
    fn identity(&self) -> ScheduleIdentity {
        ScheduleIdentity::of_text(&self.to_string())
    }

    /// The IANA name of the time zone in which the rule is written, if it has one.
    fn timezone(&self) -> Option<&str> {
        None
    }

    /// Why an instant is not a fire time, though the rule names it: a change of the clocks, a calendar, a
    /// window. It explains to people what [`next_after`](Self::next_after) has decided, and decides nothing.
    /// `None`, the default, if there is no reason but the rule itself, or if it is a fire time.
    fn why_not(&self, instant: DateTime<Utc>) -> Option<NotDue> {
        let _ = instant;
        None
    }

    /// Whether fire times count from the end of the job's last run: [`next_after`](Self::next_after) is asked
    /// with that end, or with a tick that was skipped, and its answer is the only tick until then. Default:
    /// no.
    fn counts_from_completion(&self) -> bool {
        false
    }

    /// What is right, but probably not meant, one sentence each, as of `now`. It is logged as warnings when a
    /// job with this schedule is added or changed. That it is over need not be said. Default: nothing.
    fn lints(&self, now: DateTime<Utc>) -> Vec<String> {
        let _ = now;
        Vec::new()
    }

    /// The time from each fire time to the next one, if it is always the same: what a job has missed is then
    /// counted by a division, and not by a question for each. It is a whole number of milliseconds, at least
    /// one, and holds from the first fire time to the last one. Default: `None`, which is right for every
    /// rule.
    fn period(&self) -> Option<TimeDelta> {
        None
    }

    /// Whether there is one fire time in all. Jobs of such schedules come and go, so that their metrics share
    /// a [label](crate::Job::metrics_label). Default: no.
    fn fires_once(&self) -> bool {
        false
    }

    /// Whether an answer may take its time, or never come: runs of other jobs that are granted already do not
    /// wait for it. A schedule whose answers take microseconds says that it does not block; then such runs may
    /// begin together after it was asked. Default: yes.
    fn may_block(&self) -> bool {
        true
    }

    /// The rule of the job of this name, if it is not the same for all jobs: random intervals and jitter take
    /// the name as their seed. `None`, the default, if it is.
    fn for_job(&self, job: &str) -> Option<Arc<dyn Schedule>> {
        let _ = job;
        None
    }
}

/// A schedule, or a definition of one that may turn out to be wrong.
///
/// Definitions are checked when they are used, so that all faults of all jobs are reported together.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a schedule",
    label = "a schedule is expected here",
    note = "make one: `cron(\"0 3 * * *\")`, `every(Duration::from_secs(5))`, `daily().at(\"03:00\")`",
    note = "a rule of the application's own implements `Schedule`"
)]
pub trait IntoSchedule {
    /// Checks the definition and compiles it.
    ///
    /// # Errors
    ///
    /// Every fault of the definition, at least one.
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults>;
}

// Without the attribute, an error would list every schedule there is, those of the test kit among them.
#[diagnostic::do_not_recommend]
impl<S: Schedule> IntoSchedule for S {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        Ok(Arc::new(self))
    }
}

impl IntoSchedule for Arc<dyn Schedule> {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        Ok(self)
    }
}
