//! Every nth day.

use callsheet_actors::Fault;
use chrono::NaiveTime;

use super::{
    compile::CompileContext,
    days::{Days, number_of},
    definition::{Anchored, Civil, Definition},
    input::IntoGiven,
    recurring::{self, Recurrence},
    tree::Compiled,
};

/// The most days of one period: a hundred years.
const EVERY_MAX: u32 = 36_525;

/// Fires every day, or every nth day, at some times of the day; at midnight unless times are given.
///
/// Times are those of the clock on the wall in the schedule's time zone. With [`every`](Definition::every)
/// above 1, days are counted from the civil date of [`anchored_at`](Definition::anchored_at), or of
/// [`starting_at`](Definition::starting_at), or from 1970-01-01.
///
/// Source: RFC 5545, section 3.3.10, `FREQ=DAILY` with `INTERVAL`; section 3.3.5 for times that the clocks
/// skip or repeat.
///
/// | surprising case | what happens |
/// |---|---|
/// | a time that the clocks skip | [`Gap`](super::Gap): by default the same time after the gap |
/// | a time that the clocks repeat | [`Fold`](super::Fold): by default the first only |
/// | the same time twice | one tick |
/// | `every(2)` over the end of a month | every second day: unlike cron's `*/2`, it does not start again |
/// | `24:00` | refused: write `00:00` |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, daily};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = daily().every(2).at(["09:30", "18:00:15"]).anchored_at("2026-01-31T00:00:00Z").into_schedule()?;
///
/// // The day after next, in the next month.
/// let next = schedule.next_after("2026-01-31T20:00:00Z".parse()?).ok_or("none")?;
/// assert_eq!(next.to_rfc3339(), "2026-02-02T09:30:00+00:00");
///
/// // In Lisbon the clocks go from 01:00 to 02:00 on 2026-03-29: half past one is half past two then.
/// let schedule = daily().at("01:30").timezone("Europe/Lisbon").into_schedule()?;
/// let next = schedule.next_after("2026-03-28T12:00:00Z".parse()?).ok_or("none")?;
/// assert_eq!(next.to_rfc3339(), "2026-03-29T01:30:00+00:00"); // 02:30 in Lisbon
/// # Ok(())
/// # }
/// ```
pub fn daily() -> Definition<Daily> {
    Definition::new(Daily { recurrence: Recurrence::default() })
}

/// Every nth day; made by [`daily`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daily {
    pub(super) recurrence: Recurrence,
}

impl Civil for Daily {}
impl Anchored for Daily {}

impl Definition<Daily> {
    /// Fires only every nth day, 1 to 36,525. Default: 1.
    pub fn every(mut self, days: u32) -> Self {
        self.kind.recurrence.every = days;
        self
    }

    /// Adds times of the day, such as `09:30` or `18:00:15`, whole seconds. Default: `00:00`.
    pub fn at(mut self, times: impl IntoGiven<NaiveTime>) -> Self {
        self.kind.recurrence.at.extend(times.into_given());
        self
    }
}

impl Daily {
    pub(super) fn compile(&self, context: &CompileContext) -> Result<Compiled, Vec<Fault>> {
        let mut faults = Vec::new();
        let (step, times) = self.recurrence.read("daily", EVERY_MAX, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let days = Days::Daily { step, anchor: number_of(recurring::anchor_date(context)) };
        Ok(recurring::compiled(context, days, times, &recurring::step_text(step, "daily", "days")))
    }
}
