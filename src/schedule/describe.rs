//! Schedules in English.

use std::fmt::Write as _;

use callsheet_actors::Faults;
use chrono::{DateTime, Utc, Weekday};

use super::{
    any::Any,
    calendar::Calendar,
    cron::Cron,
    definition::{Definition, Kind},
    expression::{Expression, Rule},
    input::{Given, Readable, read_all},
    instant,
    source::Source,
};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// How many items of a list are written out; of more, the first ones and how many there are.
const LISTED_MAX: usize = 12;

/// How many times of a day are written out as such, instead of by hour and minute.
const TIMES_LISTED_MAX: usize = 4;

impl<K> Definition<K>
where
    Self: Into<Definition> + Clone,
{
    /// Describes the schedule in English, such as `at 09:00 on Monday to Friday (Europe/Lisbon)`.
    ///
    /// For people: the wording may change between versions.
    ///
    /// # Errors
    ///
    /// Every fault of the definition, as [`check`](Self::check).
    ///
    /// ```
    /// use callsheet::schedule::cron;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// assert_eq!(cron("0 9 13 * FRI").describe()?, "at 09:00 on day 13 of the month or on Friday (UTC)");
    /// assert_eq!(cron("* 9 * * *").describe()?, "every minute from 09:00 to 09:59 (UTC)");
    /// # Ok(())
    /// # }
    /// ```
    pub fn describe(&self) -> Result<String, Faults> {
        self.check()?;
        let definition: Definition = self.clone().into();
        Ok(definition.words("UTC"))
    }
}

impl Definition {
    /// The words of a definition that is right; `outer` is the zone around it.
    fn words(&self, outer: &str) -> String {
        let options = &self.options;
        let zone = options.timezone.as_deref().unwrap_or(outer);
        let mut text = self.kind.words(zone);
        let is_civil = match &self.kind {
            Kind::Daily(_) | Kind::Weekly(_) | Kind::Monthly(_) => true,
            // It says so itself: there may be a prefix, or no civil time.
            Kind::Cron(_) => false,
            Kind::Every(_) | Kind::Random(_) | Kind::At(_) | Kind::Any(_) | Kind::Custom(_) => false,
        };
        if is_civil {
            let _ = write!(text, " ({zone})");
        }
        if let Some(gap) = options.gap {
            let _ = write!(text, ", gap {}", gap.name());
        }
        if let Some(fold) = options.fold {
            let _ = write!(text, ", fold {}", fold.name());
        }
        if let Some(anchor) = &options.anchored_at {
            let _ = write!(text, ", counted from {}", written(anchor));
        }
        if !options.except.is_empty() {
            let calendars: Vec<String> = options.except.iter().map(|calendar| calendar.words(zone)).collect();
            let _ = write!(text, ", except {}", joined(&calendars, "and"));
        }
        if let Some(start) = &options.starting_at {
            let _ = write!(text, ", from {}", written(start));
        }
        if let Some(until) = &options.until {
            let _ = write!(text, ", until {}", written(until));
        }
        if let Some(jitter) = &options.jitter {
            let _ = write!(text, ", each up to {} later", jitter.text());
        }
        text
    }
}

impl Kind {
    fn words(&self, zone: &str) -> String {
        match self {
            Self::Cron(cron) => cron.words(zone),
            Self::Every(every) if every.from_completion => {
                format!("{} after the end of each run", every.period.text())
            }
            Self::Every(every) => format!("every {}", every.period.text()),
            Self::Random(random) => {
                format!("at random, every {} to {}", random.min.text(), random.max.text())
            }
            Self::Daily(daily) => {
                let recurrence = &daily.recurrence;
                format!("{} at {}", period(recurrence.every, "day"), times(&recurrence.at))
            }
            Self::Weekly(weekly) => {
                let recurrence = &weekly.recurrence;
                let start = weekly.week_start.as_ref().and_then(|day| day.read("").ok());
                let mut days = read_all(&weekly.on, "", &mut Vec::new());
                days.sort_unstable_by_key(|day| day.days_since(start.unwrap_or(Weekday::Mon)));
                days.dedup();
                let days: Vec<&str> =
                    days.iter().map(|day| WEEKDAYS[day.num_days_from_sunday() as usize]).collect();
                let mut text = period(recurrence.every, "week");
                let _ = write!(text, " on {} at {}", joined(&days, "and"), times(&recurrence.at));
                if let Some(start) = start.filter(|_| recurrence.every > 1) {
                    let day = WEEKDAYS[start.num_days_from_sunday() as usize];
                    let _ = write!(text, ", weeks starting on {day}");
                }
                text
            }
            Self::Monthly(monthly) => {
                let recurrence = &monthly.recurrence;
                let mut days = monthly.on.clone();
                days.sort_unstable_by_key(|day| (*day < 0, *day));
                days.dedup();
                let (from_end, days): (Vec<i32>, Vec<i32>) = days.into_iter().partition(|day| *day < 0);
                let mut parts = Vec::new();
                if !days.is_empty() {
                    let days: Vec<String> = days.iter().map(ToString::to_string).collect();
                    parts.push(format!("day {}", joined(&days, "and")));
                }
                parts.extend(from_end.iter().rev().map(|day| match day {
                    -1 => "the last day".to_owned(),
                    _ => format!("the {} last day", ordinal(day.unsigned_abs())),
                }));
                let period = period(recurrence.every, "month");
                format!("{period} on {} at {}", joined(&parts, "and"), times(&recurrence.at))
            }
            Self::At(at) => {
                let mut instants = read_all(&at.instants, "", &mut Vec::new());
                instants.sort_unstable();
                instants.dedup();
                let instants: Vec<String> = instants.into_iter().map(instant::text).collect();
                format!("at {}", joined(&instants, "and"))
            }
            Self::Any(any) => any.words(zone),
            Self::Custom(custom) => match &custom.0 {
                Ok(schedule) => schedule.to_string(),
                Err(_) => String::new(),
            },
        }
    }
}

impl Any {
    fn words(&self, zone: &str) -> String {
        let members: Vec<String> = self.of.iter().map(|member| member.words(zone)).collect();
        match members.as_slice() {
            [only] => only.clone(),
            _ => format!("any of: {}", members.join("; ")),
        }
    }
}

impl Calendar {
    fn words(&self, zone: &str) -> String {
        if let Some(name) = self.name() {
            return name.to_owned();
        }
        let entries = &*self.0;
        let mut parts = Vec::new();
        parts.extend(entries.dates.iter().map(Given::text));
        parts.extend(
            entries.ranges.iter().map(|(first, last)| format!("{} to {}", first.text(), last.text())),
        );
        let weekdays = read_all(&entries.weekdays, "", &mut Vec::new());
        parts.extend(weekdays.iter().map(|day| WEEKDAYS[day.num_days_from_sunday() as usize].to_owned()));
        parts.extend(entries.times.iter().map(|(from, to)| format!("{} to {}", from.text(), to.text())));
        let zone = entries.timezone.as_deref().unwrap_or(zone);
        parts.extend(entries.schedules.iter().map(|schedule| format!("({})", schedule.words(zone))));
        let mut text = joined(&parts, "and");
        if let Some(zone) = &entries.timezone {
            let _ = write!(text, " ({zone})");
        }
        text
    }
}

impl Cron {
    fn words(&self, zone: &str) -> String {
        let expression = Expression::read(Source(&self.expression));
        match expression.rule {
            None => String::new(),
            Some(Rule::Interval(interval)) => interval.to_string(),
            Some(Rule::Pattern { pattern, .. }) => {
                let fields = Fields::of(&expression.text);
                let mut text = clock(pattern.seconds, pattern.minutes, pattern.hours);
                text.push_str(&fields.days());
                let months: Vec<usize> = (1..=12).filter(|month| pattern.months >> month & 1 == 1).collect();
                if months.len() < 12 {
                    let _ = write!(text, " in {}", runs(&months, |month| MONTHS[month - 1].to_owned()));
                }
                if let Some(years) = &pattern.years {
                    let years: Vec<usize> = years.list().into_iter().map(|year| year as usize).collect();
                    let _ = write!(text, " in {}", runs(&years, |year| year.to_string()));
                }
                let zone = expression.zone.map_or(zone, |zone| zone.name());
                let _ = write!(text, " ({zone})");
                text
            }
        }
    }
}

/// The two day fields of an expression, as they were written.
struct Fields {
    days: String,
    weekdays: String,
}

impl Fields {
    fn of(expression: &str) -> Self {
        let expanded = super::expression::expanded(expression);
        let words: Vec<&str> = expanded.split(' ').collect();
        let day = if words.len() > 5 { 3 } else { 2 };
        let word = |nth: usize| words.get(nth).copied().unwrap_or("*").to_ascii_uppercase();
        Self { days: word(day), weekdays: word(day + 2) }
    }

    fn days(&self) -> String {
        let day = day_words(&self.days);
        let weekday = weekday_words(&self.weekdays);
        let either = !self.days.starts_with(['*', '?']) && !self.weekdays.starts_with(['*', '?']);
        match (day, weekday) {
            (None, None) => String::new(),
            // One is enough, and one of them is every day.
            (None, Some(_)) | (Some(_), None) if either => String::new(),
            (Some(day), None) => format!(" on {day}"),
            (None, Some(weekday)) => format!(" on {weekday}"),
            (Some(day), Some(weekday)) if either => format!(" on {day} or on {weekday}"),
            (Some(day), Some(weekday)) => format!(" on {day} if it is {weekday}"),
        }
    }
}

/// `day 1 and 15 of the month`, `the last day of the month`; `None` for all days.
fn day_words(field: &str) -> Option<String> {
    use super::field::{Field, number};
    let (mut plain, mut parts) = (Vec::new(), Vec::new());
    for item in field.split(',') {
        match item {
            "*" | "?" => return None,
            "L" => parts.push("the last day".to_owned()),
            "LW" => parts.push("the last weekday (Monday to Friday)".to_owned()),
            _ => match item.strip_suffix('W').and_then(number) {
                Some(day) => parts.push(format!("the weekday (Monday to Friday) nearest to day {day}")),
                None => plain.push(item),
            },
        }
    }
    if !plain.is_empty() {
        let bits = Field::DayOfMonth.read(&plain.join(",")).unwrap_or_default();
        let days: Vec<usize> = (1..=31).filter(|day| bits >> day & 1 == 1).collect();
        parts.insert(0, format!("day {}", runs(&days, |day| day.to_string())));
    }
    Some(format!("{} of the month", joined(&parts, "and")))
}

/// `Monday to Friday`, `the 2nd Monday of the month`; `None` for all days.
fn weekday_words(field: &str) -> Option<String> {
    use super::field::Field;
    let (mut plain, mut parts) = (Vec::new(), Vec::new());
    let name = |day: &str| Field::DayOfWeek.number(day).map(|day| WEEKDAYS[day as usize % 7]);
    for item in field.split(',') {
        if matches!(item, "*" | "?") {
            return None;
        }
        let nth = item.split_once('#').and_then(|(day, nth)| Some((name(day)?, nth.parse().ok()?)));
        let last = item.strip_suffix('L').and_then(name);
        match (nth, last) {
            (Some((day, nth)), _) => parts.push(format!("the {} {day} of the month", ordinal(nth))),
            (None, Some(day)) => parts.push(format!("the last {day} of the month")),
            (None, None) => plain.push(item),
        }
    }
    if !plain.is_empty() {
        let bits = Field::DayOfWeek.read(&plain.join(",")).unwrap_or_default();
        if bits == 0x7f {
            return None;
        }
        // Weeks start on Monday, so that a weekend is one run.
        let days: Vec<usize> = (0..7).filter(|day| bits >> ((day + 1) % 7) & 1 == 1).collect();
        parts.insert(0, runs(&days, |day| WEEKDAYS[(day + 1) % 7].to_owned()));
    }
    Some(joined(&parts, "and"))
}

/// The times of a day.
fn clock(seconds: u64, minutes: u64, hours: u32) -> String {
    let hours = u64::from(hours);
    let list = |bits: u64| -> Vec<usize> { (0..64).filter(|value| bits >> value & 1 == 1).collect() };
    let (second_list, minute_list, hour_list) = (list(seconds), list(minutes), list(hours));
    let count = second_list.len() * minute_list.len() * hour_list.len();
    let all_day = hour_list.len() == 24;

    if count <= TIMES_LISTED_MAX {
        let mut times = Vec::new();
        for hour in &hour_list {
            for minute in &minute_list {
                times.extend(second_list.iter().map(|second| match (seconds, second) {
                    (1, _) => format!("{hour:02}:{minute:02}"),
                    (_, second) => format!("{hour:02}:{minute:02}:{second:02}"),
                }));
            }
        }
        return format!("at {}", joined(&times, "and"));
    }
    if let (Some(step), 1, 1) = (step(&hour_list, 24), minutes, seconds) {
        return format!("every {step} hours");
    }
    let mut text = String::new();
    let every_second = second_list.len() == 60;
    if every_second {
        text.push_str("every second");
    } else if seconds != 1 {
        let _ = match step(&second_list, 60) {
            Some(step) => write!(text, "every {step} seconds"),
            None => write!(text, "at second {}", runs(&second_list, |second| second.to_string())),
        };
    }
    let every_minute = minute_list.len() == 60;
    if !(every_minute && seconds != 1) {
        let by_step = step(&minute_list, 60);
        let link = if text.is_empty() { "" } else { " of " };
        let _ = if every_minute {
            write!(text, "{link}every minute")
        } else if let (Some(step), true) = (by_step, text.is_empty()) {
            write!(text, "every {step} minutes")
        } else if minutes == 1 && hour_list.len() > 1 && text.is_empty() && all_day {
            write!(text, "every hour")
        } else {
            let at = if text.is_empty() { "at " } else { "" };
            write!(text, "{link}{at}minute {}", runs(&minute_list, |minute| minute.to_string()))
        };
    }
    if all_day {
        if !every_minute && step(&minute_list, 60).is_none() && minutes != 1 {
            text.push_str(" of every hour");
        }
        return text;
    }
    let is_run = hour_list.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if (every_minute || step(&minute_list, 60).is_some()) && is_run {
        let last_minute = minute_list.last().copied().unwrap_or_default();
        let _ = write!(
            text,
            " from {:02}:00 to {:02}:{last_minute:02}",
            hour_list[0],
            hour_list[hour_list.len() - 1]
        );
        return text;
    }
    let _ = match step(&hour_list, 24) {
        Some(step) => write!(text, " of every {} hour", ordinal(step as u32)),
        None => write!(text, " of hour {}", runs(&hour_list, |hour| hour.to_string())),
    };
    text
}

/// The step of values from 0 on, if it divides the whole and so goes on without a break; at least 2.
fn step(values: &[usize], whole: usize) -> Option<usize> {
    let step = values.get(1).copied().filter(|step| values[0] == 0 && *step > 1)?;
    let is_even = whole.is_multiple_of(step) && values.len() == whole / step;
    (is_even && values.iter().enumerate().all(|(nth, value)| *value == nth * step)).then_some(step)
}

/// `1, 15 and 20 to 25`.
fn runs(values: &[usize], name: impl Fn(usize) -> String) -> String {
    let mut parts = Vec::new();
    let mut rest = values;
    while let Some(first) = rest.first() {
        let length = rest.iter().enumerate().take_while(|(nth, value)| **value == first + nth).count();
        let last = rest[length - 1];
        match length {
            1 => parts.push(name(*first)),
            2 => parts.extend([name(*first), name(last)]),
            _ => parts.push(format!("{} to {}", name(*first), name(last))),
        }
        rest = &rest[length..];
    }
    joined(&parts, "and")
}

/// `every day`, `every 2 days`.
fn period(every: u32, unit: &str) -> String {
    if every == 1 { format!("every {unit}") } else { format!("every {every} {unit}s") }
}

fn times<T: Readable + Ord>(given: &[Given<T>]) -> String {
    if given.is_empty() {
        return "00:00".to_owned();
    }
    let mut times = read_all(given, "", &mut Vec::new());
    times.sort_unstable();
    times.dedup();
    let times: Vec<String> = times.iter().map(Readable::written).collect();
    joined(&times, "and")
}

fn written(given: &Given<DateTime<Utc>>) -> String {
    given.read("").map(instant::text).unwrap_or_default()
}

/// `1st`, `2nd`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// `a, b and c`.
fn joined(items: &[impl AsRef<str>], word: &str) -> String {
    let listed: Vec<&str> = items.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    if items.len() > LISTED_MAX {
        return format!("{} {word} {} more", listed.join(", "), items.len() - LISTED_MAX);
    }
    match listed.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}
