//! Definitions: a kind of schedule with its options.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    Faults,
    port::{IntoSchedule, Schedule},
};
use chrono::{DateTime, Utc};

use super::{
    any::Any,
    at::At,
    calendar::Calendar,
    compile::{Outer, all},
    cron::Cron,
    daily::Daily,
    dst::{Fold, Gap},
    every::Every,
    input::Given,
    monthly::Monthly,
    random::Random,
    tree::Compiled,
    weekly::Weekly,
    zone_name::ZoneName,
};

/// The definition of a schedule: its kind, and what holds for every kind.
///
/// The constructors of this [module](super) make one. Nothing here fails: what is wrong is reported, all at
/// once, when a job with it is added, or by [`check`](Self::check), or when it is read from text.
/// `Definition` alone, without a parameter, is a definition of any kind: `into()` makes it of the others, and
/// it can be stored, see [the form as data](super#as-data).
///
/// The options apply in this order, whatever the order of the calls:
///
/// 1. the kind, in its [`timezone`](Self::timezone), with its [`gap`](Self::gap) and [`fold`](Self::fold);
/// 2. [`except`](Self::except) leaves fire times out;
/// 3. [`starting_at`](Self::starting_at) and [`until`](Self::until) cut it;
/// 4. [`jitter`](Self::jitter) delays what is left.
///
/// ```
/// use callsheet::schedule::{IntoSchedule, Weekday::*, calendar, weekly};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = weekly()
///     .on([Mon, Thu])
///     .every(2)
///     .at("09:30")
///     .timezone("Europe/Lisbon")
///     .except(calendar("holidays").dates("2026-01-01"))
///     .starting_at("2026-01-01T00:00:00Z")
///     .until("2027-01-01T00:00:00Z");
///
/// assert_eq!(
///     schedule.describe()?,
///     "every 2 weeks on Monday and Thursday at 09:30 (Europe/Lisbon), except holidays, from 2026-01-01T00:00:00Z, \
///      until 2027-01-01T00:00:00Z"
/// );
/// // Thursday the 1st is in the week that counting starts with, but it is a holiday.
/// let first = schedule.into_schedule()?.next_after("2020-01-01T00:00:00Z".parse()?).ok_or("none")?;
/// assert_eq!(first.to_rfc3339(), "2026-01-12T09:30:00+00:00");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a schedule does nothing until a job has it"]
pub struct Definition<K = Kind> {
    pub(super) kind: K,
    pub(super) options: Options,
}

/// A schedule of any kind.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Kind {
    /// [`cron`](super::cron())
    Cron(Cron),
    /// [`every`](super::every())
    Every(Every),
    /// [`random`](super::random())
    Random(Random),
    /// [`daily`](super::daily())
    Daily(Daily),
    /// [`weekly`](super::weekly())
    Weekly(Weekly),
    /// [`monthly`](super::monthly())
    Monthly(Monthly),
    /// [`at`](super::at())
    At(At),
    /// [`any`](super::any())
    Any(Any),
    /// [`custom`]
    Custom(CustomKind),
}

/// What holds for every kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) timezone: Option<String>,
    pub(super) gap: Option<Gap>,
    pub(super) fold: Option<Fold>,
    pub(super) anchored_at: Option<Given<DateTime<Utc>>>,
    pub(super) except: Vec<Calendar>,
    pub(super) starting_at: Option<Given<DateTime<Utc>>>,
    pub(super) until: Option<Given<DateTime<Utc>>>,
    pub(super) jitter: Option<Given<Duration>>,
}

/// A kind that names civil times, which the clocks can skip and repeat.
pub trait Civil {}

/// A kind that counts periods from an instant.
pub trait Anchored {}

impl<K> Definition<K> {
    pub(super) fn new(kind: K) -> Self {
        Self { kind, options: Options::default() }
    }

    /// The time zone of civil times: an IANA name such as `Europe/Lisbon`. Default: UTC, or the zone of the
    /// schedule around this one.
    ///
    /// For kinds without civil times it is the zone of the calendars, and of previews.
    ///
    /// A name as text, or a value of `chrono_tz::Tz`. Whatever it is given as, its rules are those of the
    /// [time zone data](super#time-zones) of this process.
    pub fn timezone(mut self, name: impl Into<ZoneName>) -> Self {
        self.options.timezone = Some(name.into().into());
        self
    }

    /// Leaves out the fire times that lie in a calendar. Several calendars leave out what any of them does;
    /// at most 100.
    pub fn except(mut self, calendar: impl Into<Calendar>) -> Self {
        self.options.except.push(calendar.into());
        self
    }

    /// Never fires before `instant`, which may be past or future.
    ///
    /// It also is what periods are counted from, unless [`anchored_at`](Definition::anchored_at) says
    /// otherwise: for [`every`](super::every()) it is itself the first fire time. Use a constant, not the
    /// time at which the process starts: that differs from node to node, and so would the fire times. An
    /// instant between two milliseconds counts as the later one.
    pub fn starting_at(mut self, instant: impl Into<Given<DateTime<Utc>>>) -> Self {
        self.options.starting_at = Some(instant.into());
        self
    }

    /// Never fires at or after `instant`.
    pub fn until(mut self, instant: impl Into<Given<DateTime<Utc>>>) -> Self {
        self.options.until = Some(instant.into());
        self
    }

    /// Delays each fire time by a time from zero to `max`, both inclusive, in whole milliseconds.
    ///
    /// The delay is a hash of the job's name and the planned time, so that it is the same on every node and
    /// after every restart, and differs between jobs: they spread. It is cut where it would reach the next
    /// planned time, or the end of the window: the order and the number of fire times stay the same. The hash
    /// is SipHash-2-4, and does not change between versions and platforms. At most a hundred years; zero is
    /// refused, and so is a fourth layer of jitter around others.
    ///
    /// ```
    /// use callsheet::schedule::{IntoSchedule, cron};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let schedule = cron("0 * * * *").jitter("2h").into_schedule()?;
    ///
    /// // Never two in one hour, though the jitter is longer than the hour.
    /// let mut time = "2026-01-01T00:00:00Z".parse()?;
    /// for hour in 0..20 {
    ///     time = schedule.next_after(time).ok_or("none")?;
    ///     assert_eq!(time.format("%H").to_string(), format!("{hour:02}"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn jitter(mut self, max: impl Into<Given<Duration>>) -> Self {
        self.options.jitter = Some(max.into());
        self
    }
}

impl<K: Civil> Definition<K> {
    /// Sets what becomes of times that the clocks skip.
    ///
    /// The default is [`Gap::Shift`]; for a cron expression whose minute or hour field starts with `*` it is
    /// [`Gap::Skip`].
    pub fn gap(mut self, gap: Gap) -> Self {
        self.options.gap = Some(gap);
        self
    }

    /// Sets what becomes of times that the clocks repeat.
    ///
    /// The default is [`Fold::First`]; for a cron expression whose minute or hour field starts with `*` it is
    /// [`Fold::Both`].
    pub fn fold(mut self, fold: Fold) -> Self {
        self.options.fold = Some(fold);
        self
    }
}

impl<K: Anchored> Definition<K> {
    /// Counts periods from `instant`, and fires before it, too.
    ///
    /// For [`every`](super::every()), fire times lie whole periods before and after it; for days, weeks and
    /// months, the civil day, week or month in which it lies is one of those that fire. The default is
    /// [`starting_at`](Definition::starting_at), or else the Unix epoch. An instant between two milliseconds
    /// counts as the later one.
    pub fn anchored_at(mut self, instant: impl Into<Given<DateTime<Utc>>>) -> Self {
        self.options.anchored_at = Some(instant.into());
        self
    }
}

impl<K> Definition<K>
where
    Self: Into<Definition> + Clone,
{
    /// Reports what is wrong, as adding the job would.
    ///
    /// # Errors
    ///
    /// Every fault of the definition, each with the value, the rule and the cure.
    pub fn check(&self) -> Result<(), Faults> {
        self.compile().map(drop)
    }

    /// Fires when this schedule or another one does: a union.
    pub fn or(self, other: impl Into<Definition>) -> Definition<Any> {
        super::any([self.into(), other.into()])
    }

    pub(super) fn compile(&self) -> Result<Compiled, Faults> {
        let definition: Definition = self.clone().into();
        definition.compile_within(Outer::default()).map_err(all)
    }
}

/// A schedule of the application, as a [`Definition`]: so that it can be part of a union, and have
/// exceptions, a window and jitter. It cannot be stored as data.
///
/// ```
/// use callsheet::schedule::{IntoSchedule, Schedule, custom};
/// use chrono::{DateTime, TimeDelta, Utc};
///
/// #[derive(Debug)]
/// struct Landings;
///
/// impl std::fmt::Display for Landings {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str("moon landings")
///     }
/// }
///
/// impl Schedule for Landings {
///     fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         DateTime::from_timestamp(-14_182_940, 0).filter(|landing| *landing > after)
///     }
///     fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         DateTime::from_timestamp(-14_182_940, 0).filter(|landing| *landing < before)
///     }
/// }
///
/// let schedule = custom(Landings).until("1970-01-01T00:00:00Z").into_schedule().unwrap();
/// assert_eq!(schedule.to_string(), "moon landings until 1970-01-01T00:00:00Z");
/// ```
pub fn custom(schedule: impl IntoSchedule) -> Definition<CustomKind> {
    Definition::new(CustomKind(schedule.into_schedule()))
}

/// A schedule of the application; made by [`custom`].
#[derive(Debug, Clone)]
pub struct CustomKind(pub(super) Result<Arc<dyn Schedule>, Faults>);

impl Definition {
    /// A definition of any kind, made of one of a known kind: what `into()` does, where the type is not
    /// written down.
    ///
    /// ```
    /// use callsheet::schedule::{Definition, cron, every};
    ///
    /// let schedules = [Definition::from(cron("0 9 * * 1-5")), Definition::from(every("5m"))];
    /// # assert_eq!(schedules.len(), 2);
    /// ```
    pub fn from<K>(definition: Definition<K>) -> Self
    where
        Definition<K>: Into<Self>,
    {
        definition.into()
    }
}

macro_rules! kinds {
    ($($name:ident($kind:ty)),+) => {
        $(
            impl From<$kind> for Kind {
                fn from(kind: $kind) -> Self {
                    Self::$name(kind)
                }
            }

            impl From<Definition<$kind>> for Definition {
                fn from(definition: Definition<$kind>) -> Self {
                    Self { kind: definition.kind.into(), options: definition.options }
                }
            }
        )+
    };
}

kinds!(
    Cron(Cron),
    Every(Every),
    Random(Random),
    Daily(Daily),
    Weekly(Weekly),
    Monthly(Monthly),
    At(At),
    Any(Any),
    Custom(CustomKind)
);

impl<K> IntoSchedule for Definition<K>
where
    Self: Into<Definition>,
{
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        let definition: Definition = self.into();
        Ok(definition.compiled()?)
    }
}
