//! Days of every nth month.

use callsheet_actors::Fault;
use chrono::NaiveTime;

use super::{
    compile::CompileContext,
    days::{Days, month_of},
    definition::{Anchored, Civil, Definition},
    input::IntoGiven,
    recurring::{self, Recurrence},
    tree::Compiled,
};

/// The most months of one period: a hundred years.
const EVERY_MAX: u32 = 1_200;

/// Fires on some days of every month, or of every nth month, at some times of the day; at midnight unless
/// times are given.
///
/// Days are 1 to 31, or -1 to -31 counted from the month's end: -1 is the last day. A day that a month does
/// not have is left out, and not moved. Times are those of the clock on the wall in the schedule's time zone.
/// With [`every`](Definition::every) above 1, months are counted from the one in which
/// [`anchored_at`](Definition::anchored_at) lies, or [`starting_at`](Definition::starting_at), or from
/// January 1970.
///
/// Source: RFC 5545, section 3.3.10, `FREQ=MONTHLY` with `INTERVAL` and `BYMONTHDAY`.
///
/// | surprising case | what happens |
/// |---|---|
/// | day 31 | seven times a year; use -1 for the last day |
/// | days 30 and -1 in April | one tick: they are the same day |
/// | day -31 | the first of the months that have 31 days |
/// | `every(12)` from a February, day 30 | refused: it would never fire |
/// | no days | refused |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, monthly};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = monthly().on([31, -1]).at("18:00");
/// let preview = schedule.preview("2026-01-15T00:00:00Z".parse()?, 3)?;
///
/// let days: Vec<String> = preview.fire_times().map(|time| time.format("%m-%d").to_string()).collect();
/// assert_eq!(days, ["01-31", "02-28", "03-31"]);
///
/// let never = monthly().on([30]).every(12).anchored_at("2024-02-01T00:00:00Z");
/// assert_eq!(
///     never.check().unwrap_err().to_string(),
///     "monthly.on \"30\": no month that is counted has such a day, so the schedule would never fire; choose other \
///      days, another period or another anchor"
/// );
/// # Ok(())
/// # }
/// ```
pub fn monthly() -> Definition<Monthly> {
    Definition::new(Monthly { recurrence: Recurrence::default(), on: Vec::new() })
}

/// Days of every nth month; made by [`monthly`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monthly {
    pub(super) recurrence: Recurrence,
    pub(super) on: Vec<i32>,
}

impl Civil for Monthly {}
impl Anchored for Monthly {}

impl Definition<Monthly> {
    /// Adds days of the month: 1 to 31, or -1 (the last day) to -31. At least one is needed.
    pub fn on(mut self, days: impl IntoIterator<Item = i32>) -> Self {
        self.kind.on.extend(days);
        self
    }

    /// Fires only every nth month, 1 to 1,200. Default: 1.
    pub fn every(mut self, months: u32) -> Self {
        self.kind.recurrence.every = months;
        self
    }

    /// Adds times of the day, such as `09:30` or `18:00:15`, whole seconds. Default: `00:00`.
    pub fn at(mut self, times: impl IntoGiven<NaiveTime>) -> Self {
        self.kind.recurrence.at.extend(times.into_given());
        self
    }
}

impl Monthly {
    pub(super) fn compile(&self, context: &CompileContext) -> Result<Compiled, Vec<Fault>> {
        let mut faults = Vec::new();
        let (step, times) = self.recurrence.read("monthly", EVERY_MAX, &mut faults);
        let (mut days, mut days_from_end) = (0_u32, 0_u32);
        for (nth, day) in self.on.iter().enumerate() {
            match day {
                1..=31 => days |= 1 << day,
                -31..=-1 => days_from_end |= 1 << -day,
                _ => {
                    let rule = "it is a number from 1 to 31, or from -1 to -31";
                    let cure = "write for example 1, 15 or -1 (the last day)";
                    faults.push(Fault::new(format!("monthly.on[{nth}]"), day.to_string(), rule, cure));
                }
            }
        }
        if self.on.is_empty() {
            let rule = "the list of days is empty, so the schedule would never fire";
            faults.push(Fault::new("monthly.on", "", rule, "give at least one day"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let anchor = month_of(recurring::anchor_date(context));
        let rule = Days::Monthly { step, anchor, days, days_from_end };
        let mut on = self.on.clone();
        // The month's order, as far as there is one: those that count from the end come last.
        on.sort_unstable_by_key(|day| (*day < 0, *day));
        on.dedup();
        let on: Vec<String> = on.iter().map(ToString::to_string).collect();
        let on = on.join(", ");
        if !rule.exist() {
            let broken = "no month that is counted has such a day, so the schedule would never fire";
            let cure = "choose other days, another period or another anchor";
            return Err(vec![Fault::new("monthly.on", on, broken, cure)]);
        }
        let text = format!("{} on {on}", recurring::step_text(step, "monthly", "months"));
        Ok(recurring::compiled(context, rule, times, &text))
    }
}
