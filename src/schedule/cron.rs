//! Cron expressions in a time zone.

use std::{fmt, sync::Arc};

use callsheet_actors::{
    Fault, Faults,
    port::{IntoSchedule, Schedule},
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{
    civil::Resolver,
    dst::{Fold, Gap},
    expression::{Expression, Rule, zone_named},
    pattern::Pattern,
    source::Source,
    zone::Zone,
};

/// Fires at the times of a cron expression, by default in UTC.
///
/// Five fields, separated by blanks:
///
/// | field | values | names |
/// |---|---|---|
/// | minute | 0–59 | |
/// | hour | 0–23 | |
/// | day of the month | 1–31 | |
/// | month | 1–12 | JAN–DEC |
/// | day of the week | 0–7, 0 and 7 are Sunday | SUN–SAT |
///
/// A field is `*` (every value), a value, a range `9-17`, a step `*/15`, `10-40/15` or `5/20` (from 5 to the end), or a
/// list of these with commas. Names may be in small letters. Hours, months and days of the week may run over the end:
/// `22-2`, `NOV-FEB`, `FRI-MON`; minutes and days of the month may not. `?` in a day field is `*`.
///
/// * If both day fields are restricted, a day matches that matches **either** of them; a field that starts with `*`
///   is not restricted, and then both have to match. Days that a month does not have are skipped, not moved.
/// * `@hourly`, `@daily`, `@midnight`, `@weekly` (Sunday), `@monthly`, `@yearly` and `@annually` stand for five
///   fields. `@every 5m` is elapsed time, the same as [`every`](super::every()): no zone and no policy affect it.
/// * A prefix `CRON_TZ=Europe/Lisbon` or `TZ=Europe/Lisbon` names the zone as [`Cron::timezone`] does.
/// * What the clocks skip or repeat is treated as [`Gap`] and [`Fold`] say.
///
/// Seconds, years, `L`, `W`, `#`, `H` and `@reboot` are refused. So is an expression that can never fire, such as
/// `0 0 30 2 *`. Faults are reported when the schedule is used, all at once, each with its place in the expression;
/// [`Cron::check`] asks early. An expression has at most 256 bytes.
///
/// Source: POSIX `crontab`; Vixie cron (`crontab(5)`) for names, steps, macros, the rule of the two day fields and the
/// treatment of daylight saving time for `*`; RFC 5545, section 3.3.5, for that of fixed times.
///
/// The time zone rules end with the year 2099: later fire times use the last known offset.
///
/// ```
/// use callsheet::schedule::{IntoSchedule, cron};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // The 13th **or** a Friday, not "Friday the 13th".
/// let schedule = cron("0 9 13 * FRI").timezone("Europe/Lisbon").into_schedule()?;
/// let next = schedule.next_after("2026-01-10T00:00:00Z".parse()?).ok_or("none")?;
/// assert_eq!(next.to_rfc3339(), "2026-01-13T09:00:00+00:00"); // a Tuesday
///
/// // Every fault is reported, with its place.
/// let faults = cron("0 25 * FOO *").check().unwrap_err();
/// assert_eq!(faults.as_slice().len(), 2);
/// assert_eq!(
///     faults.as_slice()[0].to_string(),
///     "cron \"0 25 * FOO *\": column 3: `25` is not an hour
///     0 25 * FOO *
///       ^^ expected a number from 0 to 23; write for example `9`, `9,17`, `9-17` or `*/2`"
/// );
/// # Ok(())
/// # }
/// ```
pub fn cron(expression: impl Into<String>) -> Cron {
    Cron { expression: expression.into(), timezone: None, gap: None, fold: None }
}

/// A cron expression with its zone and policies; made by [`cron`].
#[derive(Debug, Clone)]
#[must_use = "a schedule does nothing until a job has it"]
pub struct Cron {
    expression: String,
    timezone: Option<String>,
    gap: Option<Gap>,
    fold: Option<Fold>,
}

impl Cron {
    /// Evaluates the expression in this time zone: an IANA name such as `Europe/Lisbon`.
    ///
    /// The default is the zone of the expression's own prefix (`CRON_TZ=`), or UTC. A prefix that names another zone
    /// is a fault.
    pub fn timezone(mut self, name: impl Into<String>) -> Self {
        self.timezone = Some(name.into());
        self
    }

    /// What becomes of times that the clocks skip.
    ///
    /// The default is [`Gap::Skip`] if the minute or hour field starts with `*`, else [`Gap::Shift`].
    pub fn gap(mut self, gap: Gap) -> Self {
        self.gap = Some(gap);
        self
    }

    /// What becomes of times that the clocks repeat.
    ///
    /// The default is [`Fold::Both`] if the minute or hour field starts with `*`, else [`Fold::First`].
    pub fn fold(mut self, fold: Fold) -> Self {
        self.fold = Some(fold);
        self
    }

    /// Reports what is wrong, as adding the job would.
    ///
    /// # Errors
    ///
    /// Every fault of the expression and of the zone.
    pub fn check(&self) -> Result<(), Faults> {
        self.compile().map(drop)
    }

    fn compile(&self) -> Result<Arc<dyn Schedule>, Faults> {
        let mut expression = Expression::read(Source(&self.expression));
        let mut faults = std::mem::take(&mut expression.faults);
        let zone = match self.zone(&expression) {
            Ok(zone) => zone,
            Err(fault) => {
                faults.push(fault);
                Tz::UTC
            }
        };
        Faults::check(faults)?;

        match expression.rule.expect("invariant: there is a rule or a fault") {
            Rule::Interval(interval) => Ok(Arc::new(interval)),
            Rule::Pattern { pattern, all_day } => {
                let (gap, fold) = if all_day { (Gap::Skip, Fold::Both) } else { (Gap::Shift, Fold::First) };
                let resolver =
                    Resolver::new(Zone::of(zone), self.gap.unwrap_or(gap), self.fold.unwrap_or(fold));
                let text = expression.text.into_boxed_str();
                Ok(Arc::new(CivilCron { text, pattern, resolver, gap: self.gap, fold: self.fold }))
            }
        }
    }

    /// The one zone of the expression's prefix and the definition.
    fn zone(&self, expression: &Expression) -> Result<Tz, Fault> {
        let Some(name) = &self.timezone else {
            return Ok(expression.zone.unwrap_or(Tz::UTC));
        };
        let tz = zone_named(name)
            .map_err(|complaint| Fault::new("cron: timezone", name, complaint.rule, complaint.cure))?;
        match expression.zone {
            Some(prefix) if prefix != tz => Err(Fault::new(
                "cron: timezone",
                name,
                format!("the expression itself names another zone, `{prefix}`"),
                "keep one of the two",
            )),
            Some(_) | None => Ok(tz),
        }
    }
}

impl IntoSchedule for Cron {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        self.compile()
    }
}

/// The compiled rule.
#[derive(Debug)]
struct CivilCron {
    text: Box<str>,
    pattern: Pattern,
    resolver: Resolver,
    /// What was given, for listings; the resolver has what applies.
    gap: Option<Gap>,
    fold: Option<Fold>,
}

impl Schedule for CivilCron {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.resolver.next_after(&self.pattern, after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.resolver.previous_before(&self.pattern, before)
    }

    fn timezone(&self) -> Option<&str> {
        Some(self.resolver.zone().name())
    }
}

impl fmt::Display for CivilCron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {} ({}", self.text, self.resolver.zone().name())?;
        if let Some(gap) = self.gap {
            write!(f, ", gap {}", gap.name())?;
        }
        if let Some(fold) = self.fold {
            write!(f, ", fold {}", fold.name())?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_show_the_expression_the_zone_and_what_was_chosen() {
        let text = |cron: Cron| cron.into_schedule().expect("a good definition").to_string();

        assert_eq!(
            text(cron(" 0  9 * * 1-5 ").timezone("Europe/Lisbon")),
            "cron 0 9 * * 1-5 (Europe/Lisbon)"
        );
        assert_eq!(text(cron("CRON_TZ=Asia/Tokyo @daily")), "cron @daily (Asia/Tokyo)");
        assert_eq!(text(cron("@every 90s")), "every 1m30s");
        assert_eq!(
            text(cron("0 9 * * *").gap(Gap::AfterGap).fold(Fold::Both)),
            "cron 0 9 * * * (UTC, gap after, fold both)"
        );
    }

    #[test]
    fn a_prefix_may_repeat_the_zone_but_not_contradict_it() {
        let prefixed = || cron("TZ=Europe/Lisbon 0 9 * * *");

        assert_eq!(prefixed().timezone("Europe/Lisbon").check(), Ok(()));
        assert!(prefixed().timezone("Europe/Madrid").check().is_err());
        let schedule = prefixed().into_schedule().expect("a good definition");
        assert_eq!(schedule.timezone(), Some("Europe/Lisbon"));
    }

    #[test]
    fn the_star_decides_the_default_policies_and_can_be_overridden() {
        let ticks = |cron: Cron, from: &str, to: &str| {
            let schedule = cron.timezone("Europe/Berlin").into_schedule().expect("a good definition");
            let (mut time, to): (DateTime<Utc>, DateTime<Utc>) =
                (from.parse().expect("a time"), to.parse().expect("a time"));
            let mut ticks = 0;
            while let Some(next) = schedule.next_after(time).filter(|next| *next < to) {
                (time, ticks) = (next, ticks + 1);
            }
            ticks
        };
        let (spring, autumn) = (
            ("2026-03-28T23:30:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-24T22:30:00Z", "2026-10-25T22:59:59Z"),
        );

        // 01:30 to 23:30: one hour fewer in spring, one more in autumn.
        assert_eq!(ticks(cron("30 * * * *"), spring.0, spring.1), 22);
        assert_eq!(ticks(cron("30 * * * *"), autumn.0, autumn.1), 24);
        // A fixed hour is neither lost nor repeated.
        assert_eq!(ticks(cron("30 2 * * *"), spring.0, spring.1), 1);
        assert_eq!(ticks(cron("30 2 * * *"), autumn.0, autumn.1), 1);
        assert_eq!(ticks(cron("30 2 * * *").gap(Gap::Skip), spring.0, spring.1), 0);
        assert_eq!(ticks(cron("30 2 * * *").fold(Fold::Both), autumn.0, autumn.1), 2);
        assert_eq!(ticks(cron("30 * * * *").fold(Fold::First), autumn.0, autumn.1), 23);
    }
}
