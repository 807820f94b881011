//! Single instants.

use std::{fmt, sync::Arc};

use callsheet_actors::Fault;
use chrono::{DateTime, Utc};

use super::{
    definition::Definition,
    input::{Given, IntoGiven, read_all},
    instant,
};

/// How many instants a listing shows.
const LISTED_MAX: usize = 3;

/// The most instants of one schedule.
pub(super) const INSTANTS_MAX: usize = 100_000;

/// Fires at one instant, or at each of a list.
///
/// Takes a [`DateTime`] of any zone, an RFC 3339 text with its offset (`2026-12-24T18:00:00Z`), or a list of
/// them, at most 100,000 and in any order; an instant given twice is one tick. An instant between two
/// milliseconds counts as the later one, so that nothing is early. Instants in the past are allowed: whether
/// they are still run is the job's misfire policy.
///
/// Source: RFC 3339 for the texts; RFC 5545, section 3.8.5.2 (`RDATE`), for a list of instants as a set.
///
/// | surprising case | what happens |
/// |---|---|
/// | the same instant in two zones | one tick |
/// | a text without an offset | refused: nobody knows which instant it is |
/// | all instants are past | no further fire time |
/// | the zone of the schedule | changes nothing: an instant has its own offset |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, at};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = at(["2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z", "2026-12-31T23:59:00Z"]).into_schedule()?;
///
/// // The first two are the same instant: one tick.
/// let eve = schedule.next_after("2026-12-01T00:00:00Z".parse()?).ok_or("none")?;
/// assert_eq!(eve.to_rfc3339(), "2026-12-24T17:00:00+00:00");
/// let last = schedule.next_after(eve).ok_or("none")?;
/// assert_eq!(last.to_rfc3339(), "2026-12-31T23:59:00+00:00");
/// assert_eq!(schedule.next_after(last), None);
/// # Ok(())
/// # }
/// ```
pub fn at(instants: impl IntoGiven<DateTime<Utc>>) -> Definition<At> {
    Definition::new(At { instants: instants.into_given() })
}

/// One instant or several; made by [`at`].
#[derive(Debug, Clone)]
pub struct At {
    pub(super) instants: Vec<Given<DateTime<Utc>>>,
}

impl At {
    pub(super) fn compile(&self) -> Result<Instants, Vec<Fault>> {
        let mut faults = Vec::new();
        let instants = read_all(&self.instants, "at", &mut faults);
        if self.instants.is_empty() {
            let rule = "the list of instants is empty, so the schedule would never fire";
            faults.push(Fault::new("at", "", rule, "give at least one instant"));
        }
        if self.instants.len() > INSTANTS_MAX {
            let rule = format!("a list has at most {INSTANTS_MAX} instants");
            faults.push(Fault::new(
                "at",
                self.instants.len().to_string(),
                rule,
                "split it into several jobs",
            ));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        // The very last instants of chrono's range have no later whole millisecond: they are lowered instead.
        let mut millis: Vec<i64> =
            instants.into_iter().map(|instant| instant::ceiling(instant).min(instant::RANGE.1)).collect();
        millis.sort_unstable();
        millis.dedup();
        Ok(Instants(millis.into()))
    }
}

/// The compiled rule: milliseconds, ascending, each once, at least one.
#[derive(Debug, Clone)]
pub(super) struct Instants(Arc<[i64]>);

impl Instants {
    pub(super) fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    pub(super) fn first_from(&self, earliest: i64) -> Option<i64> {
        self.0.get(self.0.partition_point(|millis| *millis < earliest)).copied()
    }

    pub(super) fn last_until(&self, latest: i64) -> Option<i64> {
        let later = self.0.partition_point(|millis| *millis <= latest);
        later.checked_sub(1).map(|last| self.0[last])
    }
}

impl fmt::Display for Instants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<String> = self
            .0
            .iter()
            .take(LISTED_MAX)
            .copied()
            .filter_map(instant::from_millis)
            .map(instant::text)
            .collect();
        write!(f, "at {}", listed.join(", "))?;
        match self.0.len().saturating_sub(LISTED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use callsheet_actors::port::{IntoSchedule, Schedule};

    use super::*;

    fn compiled(definition: Definition<At>) -> Arc<dyn Schedule> {
        definition.into_schedule().expect("a good definition")
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn instants_are_sorted_and_each_is_one_tick() {
        let later = time("2026-01-01T00:00:00.0000001Z");
        let earlier = time("2026-01-01T00:00:00Z");

        let schedule = compiled(at(vec![later, earlier, later]));

        assert_eq!(schedule.next_after(DateTime::<Utc>::MIN_UTC), Some(earlier));
        assert_eq!(schedule.next_after(earlier), Some(time("2026-01-01T00:00:00.001Z")));
        assert_eq!(schedule.next_after(time("2026-01-01T00:00:00.001Z")), None);
        assert_eq!(
            schedule.previous_before(DateTime::<Utc>::MAX_UTC),
            Some(time("2026-01-01T00:00:00.001Z"))
        );
        assert_eq!(schedule.previous_before(earlier), None);
    }

    #[test]
    fn listings_show_the_first_three() {
        let days =
            ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"];

        let text = compiled(at(&days[..])).to_string();

        assert_eq!(text, "at 2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z, 2026-01-03T00:00:00Z and 1 more");
    }

    #[test]
    fn the_ends_of_time_are_instants_too() {
        let schedule = compiled(at([DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC]));

        assert!(schedule.next_after(DateTime::<Utc>::MIN_UTC).is_some());
        assert_eq!(schedule.next_after(DateTime::<Utc>::MAX_UTC), None);
        assert_eq!(schedule.previous_before(DateTime::<Utc>::MIN_UTC), None);
    }
}
