//! Calendars: what a schedule leaves out.

use std::{fmt, sync::Arc};

use callsheet_actors::Fault;
use chrono::{NaiveDate, NaiveTime, Timelike, Weekday};

use super::{
    compile::{Outer, under},
    days,
    definition::Definition,
    duration::shortened,
    input::{Given, IntoGiven, Readable, read_all},
    tree::{Budget, Tree},
    zone::{Span, Zone},
    zone_data,
    zone_name::{ZoneName, zone_named},
};

const DAY: i64 = 86_400_000;

/// The most dates, ranges and schedules of one calendar, each.
pub(super) const ENTRIES_MAX: usize = 10_000;

/// The longest name of a calendar, in bytes.
const NAME_MAX: usize = 200;

/// A calendar: times at which a schedule does not fire, given to [`Definition::except`].
///
/// The name is for people: descriptions and faults show it. A calendar is cheap to clone, so that one, made
/// once, can be shared by all the schedules of an application. It is part of each of them: another calendar
/// is another schedule.
///
/// What a calendar leaves out are civil dates and times in its own [`timezone`](Calendar::timezone), or else
/// in that of the schedule. Several entries, and several calendars, leave out what any of them does.
///
/// | entry | leaves out |
/// |---|---|
/// | [`dates`](Calendar::dates) | whole days |
/// | [`range`](Calendar::range) | all days from one date to another, both inclusive |
/// | [`weekdays`](Calendar::weekdays) | these days of every week |
/// | [`times`](Calendar::times) | a time of every day, the end exclusive; it may run over midnight |
/// | [`fire_times`](Calendar::fire_times) | the fire times of another schedule, to the millisecond |
///
/// Source: RFC 5545, section 3.8.5.1 (`EXDATE`), for what is left out as a set that goes before what fires;
/// its calendars of days and of times of day are those of Quartz (`HolidayCalendar`, `WeeklyCalendar`,
/// `DailyCalendar`).
///
/// | surprising case | what happens |
/// |---|---|
/// | a tick that the clocks shift out of an excluded hour | it fires: what counts is the instant, not the time that was written |
/// | jitter moves a tick into an excluded time | it fires: the planned time counts |
/// | nothing is left | refused, as any schedule that never fires |
/// | more than 100,000 excluded fire times in a row | the search ends: no fire time |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, Weekday::*, calendar, daily};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let holidays = calendar("holidays").dates(["2026-12-25"]).range("2026-12-31", "2027-01-01");
/// let weekends = calendar("weekends").weekdays([Sat, Sun]);
/// let opening = daily().at("09:00").timezone("Europe/Lisbon").except(&holidays).except(weekends).into_schedule()?;
///
/// // Friday the 25th is a holiday, then there is a weekend.
/// let next = opening.next_after("2026-12-24T12:00:00Z".parse()?).ok_or("none")?;
/// assert_eq!(next.to_rfc3339(), "2026-12-28T09:00:00+00:00");
/// # Ok(())
/// # }
/// ```
pub fn calendar(name: impl Into<String>) -> Calendar {
    Calendar(Arc::new(Entries { name: Some(name.into()), ..Entries::default() }))
}

/// What a schedule leaves out; made by [`calendar`].
#[derive(Debug, Clone)]
#[must_use = "a calendar does nothing until a schedule has it"]
pub struct Calendar(pub(super) Arc<Entries>);

#[derive(Debug, Clone, Default)]
pub(super) struct Entries {
    pub(super) name: Option<String>,
    pub(super) timezone: Option<String>,
    pub(super) dates: Vec<Given<NaiveDate>>,
    pub(super) ranges: Vec<(Given<NaiveDate>, Given<NaiveDate>)>,
    pub(super) weekdays: Vec<Given<Weekday>>,
    pub(super) times: Vec<(Given<NaiveTime>, Given<NaiveTime>)>,
    pub(super) schedules: Vec<Definition>,
}

impl Calendar {
    /// Leaves out whole days.
    pub fn dates(mut self, dates: impl IntoGiven<NaiveDate>) -> Self {
        self.entries().dates.extend(dates.into_given());
        self
    }

    /// Leaves out all days from `first` to `last`, both inclusive.
    pub fn range(mut self, first: impl Into<Given<NaiveDate>>, last: impl Into<Given<NaiveDate>>) -> Self {
        self.entries().ranges.push((first.into(), last.into()));
        self
    }

    /// Leaves out days of the week.
    pub fn weekdays(mut self, weekdays: impl IntoGiven<Weekday>) -> Self {
        self.entries().weekdays.extend(weekdays.into_given());
        self
    }

    /// Leaves out a time of every day, from `from` inclusive to `to` exclusive. If `to` is not later, it is
    /// that of the following day; `00:00` is then the end of the day.
    pub fn times(mut self, from: impl Into<Given<NaiveTime>>, to: impl Into<Given<NaiveTime>>) -> Self {
        self.entries().times.push((from.into(), to.into()));
        self
    }

    /// Leaves out the fire times of another schedule, which has no exceptions of its own.
    pub fn fire_times(mut self, schedule: impl Into<Definition>) -> Self {
        self.entries().schedules.push(schedule.into());
        self
    }

    /// Sets the time zone of the dates and times: an IANA name. Default: that of the schedule.
    pub fn timezone(mut self, name: impl Into<ZoneName>) -> Self {
        self.entries().timezone = Some(name.into().into());
        self
    }

    fn entries(&mut self) -> &mut Entries {
        Arc::make_mut(&mut self.0)
    }

    pub(super) fn compile(&self, outer: Outer) -> Result<Exclusion, Vec<Fault>> {
        let mut faults = Vec::new();
        let entries = &*self.0;
        let utc = || zone_data::current().utc();
        let zone = match &entries.timezone {
            None => outer.zone.unwrap_or_else(utc),
            Some(name) => zone_named(name).unwrap_or_else(|complaint| {
                faults.push(Fault::new("timezone", shortened(name), complaint.rule, complaint.cure));
                utc()
            }),
        };
        entries.check_limits(&mut faults);

        let mut ranges = Vec::new();
        for date in read_all(&entries.dates, "dates", &mut faults) {
            ranges.push((days::number_of(date), days::number_of(date)));
        }
        for (nth, (first, last)) in entries.ranges.iter().enumerate() {
            let subject = format!("ranges[{nth}]");
            match (first.read(&format!("{subject}.first")), last.read(&format!("{subject}.last"))) {
                (Ok(first), Ok(last)) if first <= last => {
                    ranges.push((days::number_of(first), days::number_of(last)));
                }
                (Ok(_), Ok(_)) => {
                    let shown = format!("{} to {}", first.text(), last.text());
                    let rule = "the range ends before it starts";
                    faults.push(Fault::new(subject, shown, rule, "write the earlier date first"));
                }
                (first, last) => faults.extend([first.err(), last.err()].into_iter().flatten()),
            }
        }
        let mut weekdays = 0;
        for weekday in read_all(&entries.weekdays, "weekdays", &mut faults) {
            weekdays |= 1 << weekday.num_days_from_sunday();
        }
        if weekdays == 0x7f {
            let rule = "all days of the week are left out, so the schedule would never fire";
            faults.push(Fault::new("weekdays", "", rule, "leave a day"));
        }
        let times = entries.times_of_day(&mut faults);
        let schedules = entries.fire_times_of(outer.in_zone(zone), &mut faults);
        if faults.is_empty() {
            let dates = joined(ranges).into();
            let name = self.name().unwrap_or("without a name").into();
            Ok(Exclusion { name, zone, dates, weekdays, times: times.into(), schedules: schedules.into() })
        } else {
            Err(faults)
        }
    }

    /// As descriptions name it.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }
}

impl From<&Calendar> for Calendar {
    fn from(calendar: &Calendar) -> Self {
        calendar.clone()
    }
}

impl Entries {
    fn check_limits(&self, faults: &mut Vec<Fault>) {
        if let Some(name) = self.name.as_ref().filter(|name| name.is_empty() || name.len() > NAME_MAX) {
            let rule = format!("a name has 1 to {NAME_MAX} bytes");
            faults.push(Fault::new("name", shortened(name), rule, "shorten it, or write one"));
        }
        if let Some(name) = self.name.as_ref().filter(|name| name.chars().any(char::is_control)) {
            faults.push(Fault::new(
                "name",
                shortened(name),
                "a name has no control characters",
                "remove them",
            ));
        }
        let counts = [
            ("dates", self.dates.len()),
            ("ranges", self.ranges.len()),
            ("times", self.times.len()),
            ("schedules", self.schedules.len()),
        ];
        for (subject, count) in counts.into_iter().filter(|(_, count)| *count > ENTRIES_MAX) {
            let rule = format!("a calendar has at most {ENTRIES_MAX} of them");
            faults.push(Fault::new(subject, count.to_string(), rule, "split it into several calendars"));
        }
        if self.weekdays.is_empty() && counts.iter().all(|(_, count)| *count == 0) {
            let name = self.name.as_deref().unwrap_or_default();
            let cure = "give it dates, ranges, weekdays, times or schedules, or remove it";
            faults.push(Fault::new("calendar", shortened(name), "it leaves out nothing", cure));
        }
    }

    /// As milliseconds of a day, each from the earlier to the later.
    fn times_of_day(&self, faults: &mut Vec<Fault>) -> Vec<(i64, i64)> {
        let mut times = Vec::new();
        for (nth, (from, to)) in self.times.iter().enumerate() {
            let subject = format!("times[{nth}]");
            match (from.read(&format!("{subject}.from")), to.read(&format!("{subject}.to"))) {
                (Ok(from), Ok(to)) if from == to => {
                    let shown = format!("{} to {}", from.written(), to.written());
                    let rule = "the time ends where it starts";
                    let cure = "write a later end; use `weekdays` or `dates` for whole days";
                    faults.push(Fault::new(subject, shown, rule, cure));
                }
                (Ok(from), Ok(to)) => match (millis_of_day(from), millis_of_day(to)) {
                    (from, to) if from < to => times.push((from, to)),
                    (from, 0) => times.push((from, DAY)),
                    (from, to) => times.extend([(from, DAY), (0, to)]),
                },
                (from, to) => faults.extend([from.err(), to.err()].into_iter().flatten()),
            }
        }
        times
    }

    fn fire_times_of(&self, outer: Outer, faults: &mut Vec<Fault>) -> Vec<Tree> {
        let mut schedules = Vec::new();
        for (nth, schedule) in self.schedules.iter().enumerate() {
            let subject = format!("schedules[{nth}]");
            if schedule.has_exceptions() {
                let rule = "the schedule of a calendar has no exceptions of its own";
                let cure = "move them to the schedule itself";
                faults.push(Fault::new(format!("{subject}.except"), "", rule, cure));
                continue;
            }
            match schedule.compile_within(outer.deeper()) {
                Ok(compiled) => schedules.push(compiled.tree),
                Err(found) => faults.extend(found.into_iter().map(|fault| under(&subject, fault))),
            }
        }
        schedules
    }
}

fn millis_of_day(time: NaiveTime) -> i64 {
    i64::from(time.num_seconds_from_midnight()) * 1_000
}

/// Ranges in order, without overlaps.
fn joined(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// The compiled calendar.
#[derive(Debug, Clone)]
pub(super) struct Exclusion {
    name: Arc<str>,
    zone: &'static Zone,
    /// Numbers of days, both inclusive; in order, without overlaps.
    dates: Arc<[(i64, i64)]>,
    /// Bit 0 is Sunday.
    weekdays: u8,
    /// Milliseconds of the day, the end exclusive.
    times: Arc<[(i64, i64)]>,
    schedules: Box<[Tree]>,
}

impl Exclusion {
    /// Whether a schedule of the application is asked that may block.
    pub(super) fn may_block(&self) -> bool {
        self.schedules.iter().any(Tree::may_block)
    }

    /// The name of the calendar.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// If an instant is left out: a later one, up to which all are.
    pub(super) fn over_at(&self, millis: i64, budget: &mut Budget) -> Option<i64> {
        let (civil, span) = self.civil_time(millis);
        let over = self.window_at(civil).map(|(_, to)| (to - span.offset).min(span.end));
        let tick = || self.is_fire_time(millis, budget).then_some(millis + 1);
        over.or_else(tick)
    }

    /// If an instant is left out: one that is not later, from which on all are.
    pub(super) fn since(&self, millis: i64, budget: &mut Budget) -> Option<i64> {
        let (civil, span) = self.civil_time(millis);
        let since = self.window_at(civil).map(|(from, _)| (from - span.offset).max(span.start));
        let tick = || self.is_fire_time(millis, budget).then_some(millis);
        since.or_else(tick)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = &Tree> {
        self.schedules.iter()
    }

    pub(super) fn ticks_mut(&mut self) -> impl Iterator<Item = &mut Tree> {
        self.schedules.iter_mut()
    }

    fn is_fire_time(&self, millis: i64, budget: &mut Budget) -> bool {
        self.schedules.iter().any(|schedule| schedule.contains(millis, budget))
    }

    fn civil_time(&self, millis: i64) -> (i64, Span) {
        let span = self.zone.span_at(millis);
        (millis + span.offset, span)
    }

    /// The piece of civil time around `civil` that is left out, the end exclusive.
    fn window_at(&self, civil: i64) -> Option<(i64, i64)> {
        // The Unix epoch is a Thursday, and day 719,163 as `days` counts.
        const EPOCH: i64 = 719_163;
        let (day, time) = (civil.div_euclid(DAY), civil.rem_euclid(DAY));
        let number = day + EPOCH;
        let later = self.dates.partition_point(|(first, _)| *first <= number);
        if let Some((first, last)) = later.checked_sub(1).map(|nth| self.dates[nth])
            && number <= last
        {
            return Some(((first - EPOCH) * DAY, (last + 1 - EPOCH) * DAY));
        }
        let weekday = (day + 4).rem_euclid(7);
        if self.weekdays >> weekday & 1 == 1 {
            return Some((day * DAY, (day + 1) * DAY));
        }
        let around = self.times.iter().find(|(from, to)| (*from..*to).contains(&time));
        around.map(|(from, to)| (day * DAY + from, day * DAY + to))
    }
}

/// As listings write it.
impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("a calendar"))
    }
}
