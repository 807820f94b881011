//! Definitions: a kind of schedule with its options.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    Fault, Faults,
    port::{IntoSchedule, Schedule},
};
use chrono::{DateTime, Utc};

use super::{
    any::Any,
    at::At,
    calendar::Calendar,
    checked::Checked,
    cron::Cron,
    daily::Daily,
    dst::{Fold, Gap},
    duration::{Written, shortened},
    every::{Every, Pause, millis_of},
    expression::zone_prefix,
    form::identity_of,
    given::Given,
    hash::Seed,
    instant,
    monthly::Monthly,
    random::Random,
    tree::{Budget, Compiled, Custom, EXCLUDED_MAX, Except, Jitter, Tree, Window},
    weekly::Weekly,
    zone::Zone,
    zone_data,
    zone_name::{ZoneName, zone_named},
};

/// How deep schedules may lie within each other.
pub(super) const DEPTH_MAX: usize = 16;

/// How many layers of jitter may lie within each other: a question to one is up to four to the one below.
const JITTER_DEPTH_MAX: usize = 3;

/// The most calendars of one schedule.
pub(super) const CALENDARS_MAX: usize = 100;

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

fn all(faults: Vec<Fault>) -> Faults {
    Faults::check(faults).expect_err("invariant: there is at least one fault")
}

/// The fault of a part, seen from the whole: subjects are paths, such as `any[1].daily.at[0]`.
pub(super) fn under(part: &str, mut fault: Fault) -> Fault {
    fault.subject.insert_str(0, &format!("{part}."));
    fault
}

/// What a definition inherits from the one that it is part of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outer {
    pub(super) zone: Option<&'static Zone>,
    depth: usize,
}

impl Outer {
    pub(super) fn in_zone(self, zone: &'static Zone) -> Self {
        Self { zone: Some(zone), ..self }
    }

    pub(super) fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// What a kind is compiled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// The definition's own zone.
    pub(super) own_zone: Option<&'static Zone>,
    /// That of the schedule around it.
    pub(super) outer: Outer,
    pub(super) gap: Option<Gap>,
    pub(super) fold: Option<Fold>,
    /// In milliseconds.
    pub(super) anchor: Option<i64>,
}

impl Settings {
    pub(super) fn zone(&self) -> &'static Zone {
        self.own_zone.or(self.outer.zone).unwrap_or_else(|| zone_data::current().utc())
    }
}

impl Definition {
    pub(super) fn has_exceptions(&self) -> bool {
        let is_within = match &self.kind {
            Kind::Any(any) => any.of.iter().any(Self::has_exceptions),
            Kind::Cron(_)
            | Kind::Every(_)
            | Kind::Random(_)
            | Kind::Daily(_)
            | Kind::Weekly(_)
            | Kind::Monthly(_)
            | Kind::At(_)
            | Kind::Custom(_) => false,
        };
        is_within || !self.options.except.is_empty()
    }

    pub(super) fn compile_within(&self, outer: Outer) -> Result<Compiled, Vec<Fault>> {
        if outer.depth > DEPTH_MAX {
            let rule = format!("schedules lie at most {DEPTH_MAX} deep within each other");
            return Err(vec![Fault::new("schedule", "", rule, "take some layers away")]);
        }
        let options = &self.options;
        let mut faults = Vec::new();
        let read = |given: &Option<Given<DateTime<Utc>>>, subject: &str, faults: &mut Vec<Fault>| {
            let read = given.as_ref()?.read(subject);
            read.map(instant::ceiling).map_err(|fault| faults.push(fault)).ok()
        };
        let mut later_faults = Vec::new();
        let own_zone = options.timezone.as_ref().and_then(|name| {
            let refused = |complaint: super::source::Complaint| {
                Fault::new("timezone", shortened(name), complaint.rule, complaint.cure)
            };
            zone_named(name).map_err(|complaint| later_faults.push(refused(complaint))).ok()
        });
        let anchored_at = read(&options.anchored_at, "anchored_at", &mut later_faults);
        let starting_at = read(&options.starting_at, "starting_at", &mut later_faults);
        let until = read(&options.until, "until", &mut later_faults);

        // The zone of a prefix is that of the schedule, and so of its calendars.
        let own_zone = own_zone.or_else(|| self.kind.zone_of_prefix());
        let settings = Settings {
            own_zone,
            outer,
            gap: options.gap,
            fold: options.fold,
            anchor: anchored_at.or(starting_at),
        };
        let mut compiled = match self.kind.compile(&settings, starting_at.is_some() && anchored_at.is_none())
        {
            Ok(compiled) => Some(compiled),
            Err(found) => {
                faults.extend(found);
                None
            }
        };
        faults.append(&mut later_faults);
        if compiled.as_ref().is_some_and(|compiled| compiled.tree.counts_from_completion()) {
            self.refuse_beside_completion(outer, &mut faults);
        }
        self.compile_exceptions(outer.in_zone(settings.zone()), &mut compiled, &mut faults);
        self.compile_window(starting_at, until, &mut compiled, &mut faults);
        self.compile_jitter(until, &mut compiled, &mut faults);
        match compiled {
            Some(compiled) if faults.is_empty() => self.check_fires(compiled),
            Some(_) | None => Err(faults),
        }
    }

    /// What asks for several fire times in a row has no sense for a schedule that knows the next one only.
    fn refuse_beside_completion(&self, outer: Outer, faults: &mut Vec<Fault>) {
        let options = &self.options;
        let refused = [
            ("anchored_at", options.anchored_at.is_some()),
            ("except", !options.except.is_empty()),
            ("jitter", options.jitter.is_some()),
            ("being part of another schedule", outer.depth > 0),
        ];
        let rule = "it is not possible for a schedule that counts from the end of the last run, of which only the \
                    next fire time is known";
        let refused = refused.into_iter().filter(|(_, is_there)| *is_there);
        faults.extend(
            refused.map(|(what, _)| Fault::new("from_completion", what, rule, "leave one of the two out")),
        );
    }

    fn compile_exceptions(&self, outer: Outer, compiled: &mut Option<Compiled>, faults: &mut Vec<Fault>) {
        let calendars = &self.options.except;
        if calendars.is_empty() {
            return;
        }
        if calendars.len() > CALENDARS_MAX {
            let rule = format!("a schedule has at most {CALENDARS_MAX} calendars");
            faults.push(Fault::new("except", calendars.len().to_string(), rule, "join some of them"));
            return;
        }
        let mut exclusions = Vec::with_capacity(calendars.len());
        for (nth, calendar) in calendars.iter().enumerate() {
            match calendar.compile(outer) {
                Ok(exclusion) => exclusions.push(exclusion),
                Err(found) => {
                    let subject = format!("except[{nth}]");
                    faults.extend(found.into_iter().map(|fault| under(&subject, fault)));
                }
            }
        }
        *compiled = compiled.take().map(|Compiled { tree, text }| {
            let names: Vec<String> = calendars.iter().map(ToString::to_string).collect();
            let text = format!("{text} except {}", names.join(", ")).into();
            let tree = Tree::Except(Box::new(Except::new(tree, exclusions.into())));
            Compiled { tree, text }
        });
    }

    fn compile_window(
        &self,
        from: Option<i64>,
        until: Option<i64>,
        compiled: &mut Option<Compiled>,
        faults: &mut Vec<Fault>,
    ) {
        if from.is_none() && until.is_none() {
            return;
        }
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
            && let (Some(starting_at), Some(until)) = (&self.options.starting_at, &self.options.until)
        {
            let shown = format!("{} to {}", starting_at.text(), until.text());
            let rule = "the schedule ends before it starts";
            faults.push(Fault::new("until", shown, rule, "write an end after the start"));
        }
        *compiled = compiled.take().map(|Compiled { tree, text }| {
            let mut text = text.into_string();
            for (word, millis) in [("from", from), ("until", until)] {
                if let Some(instant) = millis.and_then(instant::from_millis) {
                    text = format!("{text} {word} {}", instant::text(instant));
                }
            }
            // A pause is not cut: it ends with the start at the earliest.
            let from = from.filter(|_| !matches!(tree, Tree::Pause(_)));
            let (from, until) = (from.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
            Compiled { tree: Tree::Window(Box::new(Window { of: tree, from, until })), text: text.into() }
        });
    }

    fn compile_jitter(&self, until: Option<i64>, compiled: &mut Option<Compiled>, faults: &mut Vec<Fault>) {
        let Some(jitter) = &self.options.jitter else { return };
        let max = match millis_of(jitter, "jitter") {
            Ok(max) => max,
            Err(mut fault) => {
                // The rules of periods, in the words of jitter.
                fault.rule = fault.rule.replace("a period", "jitter");
                faults.push(fault);
                return;
            }
        };
        if compiled.as_ref().is_some_and(|compiled| compiled.tree.jitter_depth() >= JITTER_DEPTH_MAX) {
            let rule = format!("jitter lies at most {JITTER_DEPTH_MAX} deep within other jitter");
            faults.push(Fault::new(
                "jitter",
                jitter.shown(),
                rule,
                "give it to the outermost schedule alone",
            ));
            return;
        }
        *compiled = compiled.take().map(|Compiled { tree, text }| {
            let text = format!("{text} jitter {}", Written(max)).into();
            let jitter = Jitter { of: tree, max, until: until.unwrap_or(i64::MAX), seed: Seed::of("") };
            Compiled { tree: Tree::Jitter(Box::new(jitter)), text }
        });
    }

    /// Refuses what never fires. The kinds do so themselves; this is for what calendars and windows leave.
    fn check_fires(&self, compiled: Compiled) -> Result<Compiled, Vec<Fault>> {
        /// Some instants of our time, to ask from: a search may end at an end of time without having seen it
        /// all.
        const PROBES: [i64; 3] = [0, 1_767_225_600_000, 4_070_908_800_000];
        /// How many excluded fire times each of these questions passes over.
        const EXCLUDED: u32 = EXCLUDED_MAX / 10;
        let options = &self.options;
        if options.except.is_empty() && options.starting_at.is_none() && options.until.is_none() {
            return Ok(compiled);
        }
        let first_from = |millis| compiled.tree.first_from(millis, &mut Budget::of(EXCLUDED));
        let last_until = |millis| compiled.tree.last_until(millis, &mut Budget::of(EXCLUDED));
        let fires = first_from(i64::MIN).is_some()
            || last_until(i64::MAX).is_some()
            || PROBES.iter().any(|probe| first_from(*probe).is_some() || last_until(*probe).is_some());
        if fires {
            return Ok(compiled);
        }
        let rule = "it never fires: nothing is left of it";
        Err(vec![Fault::new("schedule", compiled.text, rule, "leave out less, or open the window")])
    }
}

impl Kind {
    /// The zone that a cron expression names itself, if there is such a zone.
    fn zone_of_prefix(&self) -> Option<&'static Zone> {
        let Self::Cron(cron) = self else { return None };
        zone_named(zone_prefix(cron.expression.split_whitespace().next()?)?).ok()
    }

    /// Compiles the kind alone. `is_start` says that the anchor is the start of the window, which listings
    /// show anyway.
    fn compile(&self, settings: &Settings, is_start: bool) -> Result<Compiled, Vec<Fault>> {
        Ok(match self {
            Self::Cron(cron) => cron.compile(settings)?,
            Self::Every(every) if every.from_completion => {
                let period = millis_of(&every.period, "every").map_err(|fault| vec![fault])?;
                let text = format!("every {} from completion", Written(period)).into();
                Compiled { text, tree: Tree::Pause(Pause::new(period, settings.anchor)) }
            }
            Self::Every(every) => {
                let interval = every.compile(settings.anchor).map_err(|fault| vec![fault])?;
                let text = if is_start {
                    format!("every {}", Written(interval.period))
                } else {
                    interval.to_string()
                };
                Compiled { text: text.into(), tree: Tree::Interval(interval) }
            }
            Self::Random(random) => {
                let spread = random.compile()?;
                Compiled { text: spread.to_string().into(), tree: Tree::Random(spread) }
            }
            Self::Daily(daily) => daily.compile(settings)?,
            Self::Weekly(weekly) => weekly.compile(settings)?,
            Self::Monthly(monthly) => monthly.compile(settings)?,
            Self::At(at) => {
                let instants = at.compile()?;
                Compiled { text: instants.to_string().into(), tree: Tree::At(instants) }
            }
            Self::Any(any) => {
                any.compile(Outer { zone: settings.own_zone.or(settings.outer.zone), ..settings.outer })?
            }
            Self::Custom(custom) => match &custom.0 {
                Ok(schedule) => Compiled {
                    text: schedule.to_string().into(),
                    tree: Tree::Custom(Custom(schedule.clone())),
                },
                Err(faults) => return Err(faults.clone().into_vec()),
            },
        })
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
        let compiled = definition.compile_within(Outer::default()).map_err(all)?;
        let warnings = definition.lint_words().into();
        let identity = identity_of(&definition);
        Ok(Arc::new(Checked { compiled, warnings, identity }))
    }
}
