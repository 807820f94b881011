//! Definitions that are right, and probably not meant.

use std::fmt;

use callsheet_actors::{Faults, adapter::Grouped};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use super::{
    any::Any,
    cron::Cron,
    days::{Days, month_in_year},
    definition::{Definition, Kind},
    dst::Gap,
    expression::{Expression, Rule, expanded},
    instant,
    source::Source,
    tree::{Budget, CivilTimes, Compiled, Times, Tree},
};

/// How far the next fire time may be away without a warning.
const FAR: TimeDelta = TimeDelta::days(5 * 365 + 1);

/// How far ahead changes of the clocks are looked at.
const CHANGES_AHEAD: TimeDelta = TimeDelta::days(2 * 366);

impl<K> Definition<K>
where
    Self: Into<Definition> + Clone,
{
    /// Answers what is right, but probably not meant; nothing for most definitions.
    ///
    /// A scheduler logs it as well, as warnings, when it takes a job with this schedule.
    ///
    /// `now` is the instant from which the coming fire times are looked at.
    ///
    /// # Errors
    ///
    /// Every fault of the definition, as [`check`](Self::check).
    ///
    /// ```
    /// use callsheet::schedule::cron;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let now = "2026-01-01T00:00:00Z".parse()?;
    ///
    /// let warnings = cron("* 9 * * *").lint(now)?;
    /// assert_eq!(
    ///     warnings[0].to_string(),
    ///     "it fires 60 times in each of these hours: the minute is `*`; write `0` for the full hour"
    /// );
    /// assert!(cron("0 9 * * *").lint(now)?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn lint(&self, now: DateTime<Utc>) -> Result<Vec<Warning>, Faults> {
        let compiled = self.compile()?;
        let definition: Definition = self.clone().into();
        let mut warnings = definition.lint_words();
        compiled.lint(now, &mut warnings);
        Ok(warnings)
    }
}

impl Compiled {
    /// What the months, the clocks and the coming fire times tell.
    pub(super) fn lint(&self, now: DateTime<Utc>, warnings: &mut Vec<Warning>) {
        self.tree.lint_days(warnings);
        self.tree.lint_changes((instant::following(now), i64::MAX), warnings);
        lint_next(&self.tree, now, warnings);
    }
}

/// Something that is right, but probably not meant. Its text says what happens, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The minute is `*` in some hours only.
    EveryMinuteOfAnHour {
        /// How often it fires in each of these hours, at least 60.
        times: u32,
    },
    /// The minute and the hour are `*` on some days of the month only.
    EveryMinuteOfADay {
        /// How often it fires on each of these days, at least 1,440.
        times: u32,
    },
    /// The second is `*` in some minutes only.
    EverySecondOfAMinute,
    /// A step that does not divide its range starts again with it.
    UnevenStep {
        /// The field as it is written.
        field: String,
        /// Such as `minute`.
        unit: &'static str,
        /// Such as `hour`.
        whole: &'static str,
    },
    /// A day that not every month has.
    MissingDay {
        /// 29, 30 or 31; or -29 to -31.
        day: i32,
    },
    /// Both day fields are restricted: either one is enough.
    EitherDay,
    /// A fixed time that the clocks skip.
    InGap {
        /// What the clocks would have shown.
        meant: NaiveDateTime,
        /// What becomes of it.
        gap: Gap,
        /// The zone.
        zone: String,
    },
    /// The next fire time is more than five years away.
    Far {
        /// The next fire time.
        next: DateTime<Utc>,
    },
    /// There are no more fire times.
    Exhausted,
    /// Jitter is longer than the time between two fire times, so that it is cut.
    CutJitter,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryMinuteOfAnHour { times: times @ 60 } => write!(
                f,
                "it fires {times} times in each of these hours: the minute is `*`; write `0` for the full hour"
            ),
            Self::EveryMinuteOfAnHour { times } => write!(
                f,
                "it fires {} times in each of these hours: the minute is `*`; let second and minute be `0 0` for the full \
                 hour",
                Grouped(u64::from(*times))
            ),
            Self::EveryMinuteOfADay { times } => write!(
                f,
                "it fires {} times on each of these days: the minute and the hour are `*`; write two numbers for one time \
                 of the day",
                Grouped(u64::from(*times))
            ),
            Self::EverySecondOfAMinute => f.write_str(
                "it fires 60 times in each of these minutes: the second is `*`; write `0` for the full minute",
            ),
            Self::UnevenStep { field, unit, whole } => write!(
                f,
                "`{field}` starts again with each {whole}, so the last step is shorter; choose a step that divides it, \
                 or use `every` for a fixed period of {unit}s"
            ),
            Self::MissingDay { day: day @ 1.. } => write!(
                f,
                "not every month has a day {day}: the others are left out; use `L`, or -1 in `monthly`, for the last \
                 day"
            ),
            Self::MissingDay { day } => {
                write!(f, "not every month has a day {day} (counted from its end): the others are left out")
            }
            Self::EitherDay => f.write_str(
                "it fires on days that match the day of the month or the day of the week: one is enough; let one of \
                 the fields be `*` if that is not meant",
            ),
            Self::InGap { meant, gap, zone } => {
                let becomes = match gap {
                    Gap::Shift => "it fires later by what they skip",
                    Gap::AfterGap => "it fires right after",
                    Gap::Skip => "it does not fire",
                };
                let meant = meant.format("%Y-%m-%d %H:%M");
                write!(f, "the clocks of {zone} skip {meant}: {becomes}; choose another time, or set the gap policy")
            }
            Self::Far { next } => write!(
                f,
                "the next fire time, {}, is more than five years away; the rules of time zones may change until then",
                instant::text(*next)
            ),
            Self::Exhausted => f.write_str("there are no more fire times"),
            Self::CutJitter => f.write_str(
                "jitter is longer than the time between two fire times: it is cut, so that none is overtaken",
            ),
        }
    }
}

fn add(warnings: &mut Vec<Warning>, warning: Warning) {
    if !warnings.contains(&warning) {
        warnings.push(warning);
    }
}

impl Definition {
    /// What the words alone tell.
    pub(super) fn lint_words(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        self.add_lints_of_words(&mut warnings);
        warnings
    }

    fn add_lints_of_words(&self, warnings: &mut Vec<Warning>) {
        match &self.kind {
            Kind::Cron(cron) => cron.lint(warnings),
            Kind::Any(Any { of }) => of.iter().for_each(|member| member.add_lints_of_words(warnings)),
            Kind::Every(_)
            | Kind::Random(_)
            | Kind::Daily(_)
            | Kind::Weekly(_)
            | Kind::Monthly(_)
            | Kind::At(_)
            | Kind::Custom(_) => {}
        }
    }
}

impl Cron {
    fn lint(&self, warnings: &mut Vec<Warning>) {
        let expression = Expression::read(Source(&self.expression));
        let Some(Rule::Pattern { pattern, .. }) = &expression.rule else { return };
        let fields: Vec<&str> = expanded(&expression.text).split(' ').collect();
        let has_seconds = fields.len() > 5;
        let (second, fields) = if has_seconds { (fields[0], &fields[1..]) } else { ("0", &fields[..]) };
        let [minute, hour, day, _, weekday] = fields[..5] else { return };
        let is_open = |field: &str| field.starts_with(['*', '?']);

        if second == "*" && pattern.minutes.count_ones() < 60 {
            add(warnings, Warning::EverySecondOfAMinute);
        }
        let [seconds, hours] = [pattern.seconds.count_ones(), pattern.hours.count_ones()];
        if minute == "*" && hours < 24 {
            add(warnings, Warning::EveryMinuteOfAnHour { times: 60 * seconds });
        } else if minute == "*" && !is_open(day) {
            add(warnings, Warning::EveryMinuteOfADay { times: 24 * 60 * seconds });
        }
        for (field, of, unit, whole) in
            [(second, 60, "second", "minute"), (minute, 60, "minute", "hour"), (hour, 24, "hour", "day")]
        {
            let step = field.strip_prefix("*/").or_else(|| field.strip_prefix("0/"));
            if step.and_then(|step| step.parse().ok()).is_some_and(|step: u32| step == 0 || of % step != 0) {
                add(warnings, Warning::UnevenStep { field: field.to_owned(), unit, whole });
            }
        }
        if day.strip_prefix("*/").is_some_and(|step| step != "1") {
            let (unit, whole) = ("day", "month");
            add(warnings, Warning::UnevenStep { field: day.to_owned(), unit, whole });
        }
        // A list or a range has other days as well.
        if let Ok(day @ 29..) = day.parse::<i32>()
            && is_open(weekday)
            && (1..=12).any(|month| pattern.months >> month & 1 == 1 && days_always_in(month) < day)
        {
            add(warnings, Warning::MissingDay { day });
        }
        if !is_open(day) && !is_open(weekday) {
            add(warnings, Warning::EitherDay);
        }
    }
}

/// How many days a month of this number, from 1 on, has in every year.
fn days_always_in(month: u32) -> i32 {
    match month {
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Tree {
    /// Days that not every month has.
    fn lint_days(&self, warnings: &mut Vec<Warning>) {
        match self {
            Self::Civil(civil) => match &civil.rule {
                Times::Days(days_at) => days_at.days().lint(warnings),
                // The words of the expression tell.
                Times::Pattern(_) => {}
            },
            Self::Interval(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Custom(_) => {}
            Self::Any(members) => members.iter().for_each(|member| member.lint_days(warnings)),
            Self::Except(except) => except.of.lint_days(warnings),
            Self::Window(window) => window.of.lint_days(warnings),
            Self::Jitter(jitter) => jitter.of.lint_days(warnings),
        }
    }

    /// What the clocks do to it between two instants.
    fn lint_changes(&self, (from, to): (i64, i64), warnings: &mut Vec<Warning>) {
        match self {
            Self::Civil(civil) => civil.lint_changes((from, to), warnings),
            Self::Interval(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Custom(_) => {}
            Self::Any(members) => members.iter().for_each(|member| member.lint_changes((from, to), warnings)),
            Self::Except(except) => except.of.lint_changes((from, to), warnings),
            Self::Window(window) => {
                window.of.lint_changes((from.max(window.from), to.min(window.until)), warnings);
            }
            Self::Jitter(jitter) => jitter.of.lint_changes((from, to), warnings),
        }
    }
}

impl Days {
    /// The days that a month lacks in some year, of those that are counted from the anchor.
    fn lint(&self, warnings: &mut Vec<Warning>) {
        let Self::Monthly { step, anchor, days, days_from_end } = *self else { return };
        let shortest =
            (0..12).map(|nth| days_always_in(month_in_year(anchor + nth * step))).min().unwrap_or(31);
        for (days, sign) in [(days, 1), (days_from_end, -1)] {
            for day in (shortest + 1..=31).filter(|day| days >> day & 1 == 1) {
                add(warnings, Warning::MissingDay { day: sign * day });
            }
        }
    }
}

impl CivilTimes {
    /// The next fixed time that does not exist. A pattern that fires on both sides of a gap has none.
    fn lint_changes(&self, (from, to): (i64, i64), warnings: &mut Vec<Warning>) {
        if self.is_every_hour {
            return;
        }
        let zone = self.resolver.zone();
        let to = to.min(from.saturating_add(CHANGES_AHEAD.num_milliseconds()));
        let later = zone.spans_from(from).skip(1);
        let gaps = later.take_while(|span| span.start < to).filter(|span| span.offset > span.offset_before);
        let mut meant =
            gaps.filter_map(|span| self.meant_in(span.start + span.offset_before, span.start + span.offset));
        if let Some(meant) = meant.next() {
            let (gap, zone) = (self.resolver.gap(), zone.name().to_owned());
            add(warnings, Warning::InGap { meant, gap, zone });
        }
    }
}

/// What the coming fire times tell.
fn lint_next(tree: &Tree, now: DateTime<Utc>, warnings: &mut Vec<Warning>) {
    let from = instant::following(now);
    let Some(next) = tree.first_from(from, &mut Budget::default()) else {
        return add(warnings, Warning::Exhausted);
    };
    if let Some(next) = instant::from_millis(next).filter(|next| *next - now > FAR) {
        add(warnings, Warning::Far { next });
    }
    if let Tree::Jitter(jitter) = tree
        && let Some(planned) = jitter.of.first_from(from, &mut Budget::default())
        && let Some(second) = jitter.of.first_from(planned + 1, &mut Budget::default())
        && second - planned <= jitter.max
    {
        add(warnings, Warning::CutJitter);
    }
}
