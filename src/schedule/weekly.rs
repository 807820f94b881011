//! Days of every nth week.

use callsheet_actors::Fault;
use chrono::{Datelike, NaiveTime, Weekday};

use super::{
    compile::CompileContext,
    days::{Days, number_of},
    definition::{Anchored, Civil, Definition},
    input::{Given, IntoGiven, Readable, read_all},
    recurring::{self, Recurrence},
    tree::Compiled,
};

/// The most weeks of one period: a hundred years.
const EVERY_MAX: u32 = 5_217;

/// Fires on some days of every week, or of every nth week, at some times of the day; at midnight unless times
/// are given.
///
/// Times are those of the clock on the wall in the schedule's time zone. With [`every`](Definition::every)
/// above 1, weeks are counted from the one in which [`anchored_at`](Definition::anchored_at) lies, or
/// [`starting_at`](Definition::starting_at), or 1970-01-01. Weeks start on Monday unless
/// [`week_start`](Definition::week_start) says otherwise, which matters only then.
///
/// Source: RFC 5545, section 3.3.10, `FREQ=WEEKLY` with `INTERVAL`, `BYDAY` and `WKST`; ISO 8601 for Monday.
///
/// | surprising case | what happens |
/// |---|---|
/// | no days | refused |
/// | `every(2)` on Saturday and Sunday | both of the same week; which is which depends on the week's start |
/// | the anchor's week has days before the anchor | they fire, too; `starting_at` cuts them |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, Weekday::*, weekly};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Every other weekend, counted from a Saturday.
/// let weekends = || weekly().on([Sat, Sun]).every(2).anchored_at("2026-01-03T00:00:00Z");
/// let next_two = |definition: callsheet::schedule::Definition<_>| -> Result<Vec<String>, Box<dyn std::error::Error>> {
///     let preview = definition.preview("2026-01-03T12:00:00Z".parse()?, 2)?;
///     Ok(preview.fire_times().map(|time| time.format("%a %d").to_string()).collect())
/// };
///
/// // A week from Monday has Saturday the 3rd and Sunday the 4th …
/// assert_eq!(next_two(weekends())?, ["Sun 04", "Sat 17"]);
/// // … and one from Sunday has Sunday the 28th before.
/// assert_eq!(next_two(weekends().week_start(Sun))?, ["Sun 11", "Sat 17"]);
/// # Ok(())
/// # }
/// ```
pub fn weekly() -> Definition<Weekly> {
    Definition::new(Weekly { recurrence: Recurrence::default(), on: Vec::new(), week_start: None })
}

/// Days of every nth week; made by [`weekly`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weekly {
    pub(super) recurrence: Recurrence,
    pub(super) on: Vec<Given<Weekday>>,
    pub(super) week_start: Option<Given<Weekday>>,
}

impl Civil for Weekly {}
impl Anchored for Weekly {}

impl Definition<Weekly> {
    /// Adds days of the week. At least one is needed.
    pub fn on(mut self, weekdays: impl IntoGiven<Weekday>) -> Self {
        self.kind.on.extend(weekdays.into_given());
        self
    }

    /// Fires only every nth week, 1 to 5,217. Default: 1.
    pub fn every(mut self, weeks: u32) -> Self {
        self.kind.recurrence.every = weeks;
        self
    }

    /// Adds times of the day, such as `09:30` or `18:00:15`, whole seconds. Default: `00:00`.
    pub fn at(mut self, times: impl IntoGiven<NaiveTime>) -> Self {
        self.kind.recurrence.at.extend(times.into_given());
        self
    }

    /// Sets the first day of a week, for [`every`](Self::every) above 1. Default: Monday.
    pub fn week_start(mut self, weekday: impl Into<Given<Weekday>>) -> Self {
        self.kind.week_start = Some(weekday.into());
        self
    }
}

impl Weekly {
    pub(super) fn compile(&self, context: &CompileContext) -> Result<Compiled, Vec<Fault>> {
        let mut faults = Vec::new();
        let (step, times) = self.recurrence.read("weekly", EVERY_MAX, &mut faults);
        let weekdays = read_all(&self.on, "weekly.on", &mut faults);
        if self.on.is_empty() {
            let rule = "the list of weekdays is empty, so the schedule would never fire";
            faults.push(Fault::new("weekly.on", "", rule, "give at least one weekday"));
        }
        let week_start = self.week_start.as_ref().map(|day| day.read("weekly.week_start")).transpose();
        let start = week_start.unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let start = start.unwrap_or(Weekday::Mon);
        let date = recurring::anchor_date(context);
        let anchor = number_of(date) - i64::from(date.weekday().days_since(start));
        let mask = weekdays.iter().fold(0, |mask, day| mask | 1 << day.days_since(start));
        let days = Days::Weekly { step, anchor, days: mask };

        let mut names: Vec<(u32, String)> =
            weekdays.iter().map(|day| (day.days_since(start), day.written())).collect();
        names.sort_unstable();
        names.dedup();
        let names: Vec<String> = names.into_iter().map(|(_, name)| name).collect();
        let mut text = format!("{} on {}", recurring::step_text(step, "weekly", "weeks"), names.join(", "));
        if days.is_counted() && start != Weekday::Mon {
            text.push_str(&format!(" of weeks from {}", start.written()));
        }
        Ok(recurring::compiled(context, days, times, &text))
    }
}
