//! Cron expressions in a time zone.

use callsheet_actors::Fault;

use super::{
    civil::Resolver,
    compile::CompileContext,
    definition::{Civil, Definition},
    dst::{Fold, Gap},
    expression::{Expression, Rule},
    recurring::in_zone,
    source::Source,
    tree::{self, Compiled, Times, Tree},
};

/// Fires at the times of a cron expression, by default in UTC.
///
/// Five fields, separated by blanks; six with the seconds before them; seven with the years after them as
/// well:
///
/// | field | values | names | besides |
/// |---|---|---|---|
/// | (second) | 0–59 | | |
/// | minute | 0–59 | | |
/// | hour | 0–23 | | |
/// | day of the month | 1–31 | | `L`, `LW`, `15W` |
/// | month | 1–12 | JAN–DEC | |
/// | day of the week | 0–7, 0 and 7 are Sunday | SUN–SAT | `FRIL`, `MON#2` |
/// | (year) | 1970–2099 | | |
///
/// A field is `*` (every value), a value, a range `9-17`, a step `*/15`, `10-40/15` or `5/20` (from 5 to the
/// end), or a list of these with commas. Names may be in small letters. Hours, months and days of the week
/// may run over the end: `22-2`, `NOV-FEB`, `FRI-MON`; the others may not. `?` in a day field is `*`.
///
/// * `L` is the last day of the month, `LW` its last weekday (Monday to Friday), `15W` the weekday nearest to
///   the 15th within the month. `FRIL` is the last Friday of the month, `MON#2` its second Monday, up to
///   `#5`.
/// * If both day fields are restricted, a day matches that matches **either** of them; a field that starts
///   with `*` is not restricted, and then both have to match. Days that a month does not have are skipped,
///   not moved.
/// * `@hourly`, `@daily`, `@midnight`, `@weekly` (Sunday), `@monthly`, `@yearly` and `@annually` stand for
///   five fields. `@every 5m` is elapsed time, the same as [`every`](super::every()): no zone and no policy
///   affect it.
/// * A prefix `CRON_TZ=Europe/Lisbon` or `TZ=Europe/Lisbon` names the zone as
///   [`timezone`](Definition::timezone) does.
/// * What the clocks skip or repeat is treated as [`Gap`] and [`Fold`] say.
///
/// `H` and `@reboot` are refused. So is an expression that can never fire, such as `0 0 30 2 *`. Faults are
/// reported when the schedule is used, all at once, each with its place in the expression;
/// [`Definition::check`] asks early. An expression has at most 256 bytes.
///
/// Source: POSIX `crontab`; Vixie cron (`crontab(5)`) for names, steps, macros, the rule of the two day
/// fields and the treatment of daylight saving time for `*`; Quartz for seconds, years, `L`, `W` and `#`; RFC
/// 5545, section 3.3.5, for fixed times that the clocks skip or repeat. Ranges over the end are an extension.
///
/// | surprising case | what happens |
/// |---|---|
/// | `0 9 13 * FRI` | the 13th and every Friday, not "Friday the 13th" |
/// | `0 9 */2 * FRI` | Fridays with an odd date: the field starts with `*`, so both have to match |
/// | `* 9 * * *` | 60 times, from 09:00 to 09:59 |
/// | `*/7 * * * *` | 4 minutes after minute 56: every hour starts again |
/// | `0 0 31 * *` | seven times a year |
/// | `30 2 * * *` where the clocks skip 02:30 | once, at 03:30; `*/30 * * * *` fires at none of the skipped times |
/// | `30 1 * * *` where the clocks repeat 01:30 | once; `*/30 * * * *` fires in both hours |
/// | `0 0 31W * *` | not in months without a 31st |
/// | `5/20` | 5, 25 and 45, as in Vixie's successors; Quartz agrees |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, cron};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let next = |expression: &str, after: &str| -> Result<String, Box<dyn std::error::Error>> {
///     let schedule = cron(expression).timezone("Europe/Lisbon").into_schedule()?;
///     Ok(schedule.next_after(after.parse()?).ok_or("none")?.to_rfc3339())
/// };
///
/// // The 13th **or** a Friday: this one is a Tuesday.
/// assert_eq!(next("0 9 13 * FRI", "2026-01-10T00:00:00Z")?, "2026-01-13T09:00:00+00:00");
/// // An odd date **and** a Friday.
/// assert_eq!(next("0 9 */2 * FRI", "2026-01-10T00:00:00Z")?, "2026-01-23T09:00:00+00:00");
/// // Each hour starts again.
/// assert_eq!(next("*/7 * * * *", "2026-01-10T00:56:00Z")?, "2026-01-10T01:00:00+00:00");
/// // The clocks skip 01:30 on 2026-03-29: a fixed time comes later, a pattern leaves it out.
/// assert_eq!(next("30 1 * * *", "2026-03-28T12:00:00Z")?, "2026-03-29T01:30:00+00:00"); // 02:30 in Lisbon
/// assert_eq!(next("30 * * * *", "2026-03-29T00:30:00Z")?, "2026-03-29T01:30:00+00:00");
/// // The weekday nearest to Saturday the 15th is Friday the 14th; the last weekday of May 2026 is the 29th.
/// assert_eq!(next("0 9 15W * *", "2026-08-10T00:00:00Z")?, "2026-08-14T08:00:00+00:00");
/// assert_eq!(next("0 9 LW * *", "2026-05-10T00:00:00Z")?, "2026-05-29T08:00:00+00:00");
/// // Seconds come first.
/// assert_eq!(next("15 0 9 * * MON#2", "2026-01-01T00:00:00Z")?, "2026-01-12T09:00:15+00:00");
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
pub fn cron(expression: impl Into<String>) -> Definition<Cron> {
    Definition::new(Cron { expression: expression.into() })
}

/// A cron expression; made by [`cron`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    pub(super) expression: String,
}

impl Civil for Cron {}

impl Cron {
    pub(super) fn compile(&self, context: &CompileContext) -> Result<Compiled, Vec<Fault>> {
        let mut expression = Expression::read(Source(&self.expression));
        let mut faults = std::mem::take(&mut expression.faults);
        if let (Some(prefix), Some(own)) = (expression.zone, context.own_zone)
            && prefix != own
        {
            let rule = format!("the expression itself names another zone, `{}`", prefix.name());
            faults.push(Fault::new("timezone", own.name(), rule, "keep one of the two"));
        }
        if let Some(Rule::Interval(_)) = expression.rule {
            let given = [("gap", context.gap.map(Gap::name)), ("fold", context.fold.map(Fold::name))];
            for (key, name) in given.into_iter().filter_map(|(key, name)| Some((key, name?))) {
                let rule = format!("`@every` has no civil times, so that `{key}` means nothing");
                faults.push(Fault::new(key, name, rule, "remove it"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        match expression.rule.expect("invariant: there is a rule or a fault") {
            Rule::Interval(interval) => {
                Ok(Compiled { text: interval.to_string().into(), tree: Tree::Interval(interval) })
            }
            Rule::Pattern { pattern, all_day } => {
                let (gap, fold) = if all_day { (Gap::Skip, Fold::Both) } else { (Gap::Shift, Fold::First) };
                let resolver =
                    Resolver::new(context.zone(), context.gap.unwrap_or(gap), context.fold.unwrap_or(fold));
                let text = format!("cron {} ({})", expression.text, in_zone(context));
                let is_every_hour = pattern.hours.count_ones() == 24;
                let rule = Times::Pattern(pattern);
                Ok(Compiled {
                    tree: Tree::Civil(Box::new(tree::CivilTimes { rule, resolver, is_every_hour })),
                    text: text.into(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use callsheet_actors::port::IntoSchedule;
    use chrono::{DateTime, Utc};

    use super::*;

    #[test]
    fn listings_show_the_expression_the_zone_and_what_was_chosen() {
        let text = |cron: Definition<Cron>| cron.into_schedule().expect("a good definition").to_string();

        assert_eq!(
            text(cron(" 0  9 * * 1-5 ").timezone("Europe/Lisbon")),
            "cron 0 9 * * 1-5 (Europe/Lisbon)"
        );
        assert_eq!(text(cron("CRON_TZ=Asia/Tokyo @daily")), "cron @daily (Asia/Tokyo)");
        assert_eq!(text(cron("@every 90s")), "every 1m30s");
        assert_eq!(
            text(cron("0 9 * * *").gap(Gap::AfterGap).fold(Fold::Both)),
            "cron 0 9 * * * (UTC, gap after_gap, fold both)"
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
    fn calendars_are_in_the_zone_of_a_prefix() {
        for expression in ["TZ=Asia/Tokyo 0 * * * *", "TZ=Asia/Tokyo @every 1h"] {
            let nights = crate::schedule::calendar("nights").times("22:00", "06:00");
            let schedule = cron(expression).except(nights).into_schedule().expect("a good definition");
            // 22:00 in Tokyo is 13:00 in UTC.
            let evening = "2026-01-05T12:00:00Z".parse().expect("a time");
            let next = schedule.next_after(evening).map(|next| next.to_rfc3339());
            assert_eq!(next.as_deref(), Some("2026-01-05T21:00:00+00:00"), "{expression}");
        }
    }

    #[test]
    fn the_star_decides_the_default_policies_and_can_be_overridden() {
        let ticks = |cron: Definition<Cron>, from: &str, to: &str| {
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
