//! Single instants.

use std::{fmt, sync::Arc};

use callsheet_actors::{
    Fault, Faults,
    port::{IntoSchedule, Schedule},
};
use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};

use super::{duration::shortened, instant};

/// How many instants a listing shows.
const LISTED_MAX: usize = 3;

/// Fires at one instant, or at each of a list.
///
/// Takes a [`DateTime`] of any zone, an RFC 3339 text with its offset (`2026-12-24T18:00:00Z`), or a list of them, in
/// any order; an instant given twice is one tick. An instant between two milliseconds counts as the later one, so
/// that nothing is early. A list without instants and a wrong text are reported when the schedule is used, see
/// [`At::check`]. Instants in the past are allowed: whether they are still run is the job's misfire policy.
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
pub fn at(instants: impl IntoInstants) -> At {
    At { instants: instants.into_instants() }
}

/// What [`at`] takes: one instant or several, as [`DateTime`] or RFC 3339 text.
pub trait IntoInstants {
    /// The instants, in any order.
    ///
    /// # Errors
    ///
    /// Every text that is not a time, as a fault.
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults>;
}

impl<Z: TimeZone> IntoInstants for DateTime<Z> {
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults> {
        Ok(vec![self.to_utc()])
    }
}

impl IntoInstants for &str {
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults> {
        match DateTime::parse_from_rfc3339(self.trim()) {
            Ok(time) => Ok(vec![time.to_utc()]),
            Err(_) => Err(fault_in(self).into()),
        }
    }
}

impl IntoInstants for String {
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults> {
        self.as_str().into_instants()
    }
}

impl<T: IntoInstants> IntoInstants for Vec<T> {
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults> {
        collected(self)
    }
}

impl<T: IntoInstants, const N: usize> IntoInstants for [T; N] {
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults> {
        collected(self)
    }
}

impl<T: IntoInstants + Clone> IntoInstants for &[T] {
    fn into_instants(self) -> Result<Vec<DateTime<Utc>>, Faults> {
        collected(self.iter().cloned())
    }
}

/// One instant or several; made by [`at`].
#[derive(Debug, Clone)]
#[must_use = "a schedule does nothing until a job has it"]
pub struct At {
    instants: Result<Vec<DateTime<Utc>>, Faults>,
}

impl At {
    /// Reports what is wrong, as adding the job would.
    ///
    /// # Errors
    ///
    /// Every text that is not an RFC 3339 time, or a list without instants.
    pub fn check(&self) -> Result<(), Faults> {
        self.compile().map(drop)
    }

    fn compile(&self) -> Result<Instants, Faults> {
        let instants = self.instants.clone()?;
        if instants.is_empty() {
            return Err(Fault::new(
                "at",
                "",
                "the list of instants is empty, so the schedule would never fire",
                "give at least one instant",
            )
            .into());
        }
        // The very last instants of chrono's range have no later whole millisecond: they are lowered instead.
        let latest = instant::preceding(DateTime::<Utc>::MAX_UTC);
        let mut millis: Vec<i64> =
            instants.into_iter().map(|instant| instant::ceiling(instant).min(latest)).collect();
        millis.sort_unstable();
        millis.dedup();
        Ok(Instants(millis.into()))
    }
}

impl IntoSchedule for At {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        Ok(Arc::new(self.compile()?))
    }
}

/// All instants, or all faults.
fn collected<T: IntoInstants>(list: impl IntoIterator<Item = T>) -> Result<Vec<DateTime<Utc>>, Faults> {
    let mut instants = Vec::new();
    let mut faults = Vec::new();
    for item in list {
        match item.into_instants() {
            Ok(more) => instants.extend(more),
            Err(more) => faults.extend(more.into_vec()),
        }
    }
    Faults::check(faults)?;
    Ok(instants)
}

fn fault_in(text: &str) -> Fault {
    let written = text.trim();
    let lacks_offset = written.parse::<NaiveDateTime>().is_ok();
    if lacks_offset {
        let cure = format!("add the offset, for example `{written}Z` for UTC");
        return Fault::new("at", shortened(text), "a time has an offset from UTC", cure);
    }
    Fault::new(
        "at",
        shortened(text),
        "this is not an RFC 3339 time",
        "write date, time and offset, for example `2026-12-24T18:00:00Z`",
    )
}

/// The compiled rule: milliseconds, ascending, each once, at least one.
#[derive(Debug)]
struct Instants(Box<[i64]>);

impl Schedule for Instants {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let earliest = instant::following(after);
        let later = self.0.partition_point(|millis| *millis < earliest);
        self.0.get(later).copied().and_then(instant::from_millis)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let latest = instant::preceding(before);
        let later = self.0.partition_point(|millis| *millis <= latest);
        later.checked_sub(1).and_then(|last| instant::from_millis(self.0[last]))
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
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn instants_are_sorted_and_each_is_one_tick() {
        let later = time("2026-01-01T00:00:00.0000001Z");
        let earlier = time("2026-01-01T00:00:00Z");

        let schedule = at(vec![later, earlier, later]).compile().expect("a good definition");

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

        let text = at(&days[..]).compile().expect("a good definition").to_string();

        assert_eq!(text, "at 2026-01-01T00:00:00Z, 2026-01-02T00:00:00Z, 2026-01-03T00:00:00Z and 1 more");
    }

    #[test]
    fn the_ends_of_time_are_instants_too() {
        let schedule = at([DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC]).compile().expect("good");

        assert!(schedule.next_after(DateTime::<Utc>::MIN_UTC).is_some());
        assert_eq!(schedule.next_after(DateTime::<Utc>::MAX_UTC), None);
        assert_eq!(schedule.previous_before(DateTime::<Utc>::MIN_UTC), None);
    }
}
