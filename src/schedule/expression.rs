//! Cron expressions, read.

use callsheet_actors::{Fault, parse_duration};

use super::{
    duration::shortened,
    every::{Every, Interval},
    field::Field,
    month::{DayField, DaysTable},
    pattern::{DayRule, DaySet, Pattern, Years},
    source::{Complaint, EXPRESSION_MAX, Source, Word},
    zone::Zone,
    zone_name::zone_named,
};

/// The macros with their five fields.
const MACROS: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const PREFIXES: [&str; 2] = ["CRON_TZ=", "TZ="];

/// A cron expression, read: what it says, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Expression {
    /// The zone of the prefix, if there is one that is right.
    pub(super) zone: Option<&'static Zone>,
    /// What it says; `None` if it is wrong.
    pub(super) rule: Option<Rule>,
    /// Without the prefix, with single blanks.
    pub(super) text: String,
    /// In the order of the text.
    pub(super) faults: Vec<Fault>,
}

/// What an expression says.
#[derive(Debug)]
pub(super) enum Rule {
    /// Civil times.
    Pattern {
        pattern: Pattern,
        /// Whether the minute or the hour field starts with `*`: Vixie's sign of a job that runs all day
        /// long.
        all_day: bool,
    },
    /// `@every`: elapsed time.
    Interval(Interval),
}

impl Expression {
    /// Reads an expression with its prefix; finds as many faults as there are.
    pub(super) fn read(source: Source<'_>) -> Self {
        let mut expression = Self { zone: None, rule: None, text: String::new(), faults: Vec::new() };
        if source.0.len() > EXPRESSION_MAX {
            let complaint = Complaint::new(
                format!("an expression has at most {EXPRESSION_MAX} bytes"),
                "a shorter one",
                "split it into several jobs",
            );
            expression.faults.push(source.fault(0..0, complaint));
            return expression;
        }
        let words = source.words();
        let words = expression.read_prefix(source, &words);
        expression.text = words.iter().map(|word| word.text).collect::<Vec<_>>().join(" ");
        match expression.read_rule(source, words) {
            Ok(rule) => expression.rule = Some(rule),
            Err(faults) => expression.faults.extend(faults),
        }
        expression
    }

    /// Takes `CRON_TZ=…` off the words.
    fn read_prefix<'w>(&mut self, source: Source<'_>, words: &'w [Word<'w>]) -> &'w [Word<'w>] {
        let Some((first, rest)) = words.split_first() else { return words };
        let Some(name) = zone_prefix(first.text) else { return words };

        let end = first.start + first.text.len();
        let place = end - name.len()..end;
        match zone_named(name) {
            Ok(zone) => self.zone = Some(zone),
            Err(complaint) => self.faults.push(source.fault(place, complaint)),
        }
        rest
    }

    fn read_rule(&self, source: Source<'_>, words: &[Word<'_>]) -> Result<Rule, Vec<Fault>> {
        let Some(first) = words.first() else {
            let rule = if source.0.trim().is_empty() {
                "an expression is not empty"
            } else {
                "there is no expression after the zone"
            };
            let complaint = Complaint::new(
                rule,
                "minute, hour, day of the month, month and day of the week",
                "write five fields, for example `0 9 * * 1-5`",
            );
            let end = source.0.trim_end().len();
            return Err(vec![source.fault(end..end, complaint)]);
        };
        if first.text.starts_with('@') {
            return read_macro(source, *first, &words[1..]).map_err(|fault| vec![fault]);
        }
        let Some(fields) = Field::of(words.len()) else {
            return Err(vec![wrong_field_count(source, words)]);
        };
        let (pattern, all_day) = match read_fields(fields, words) {
            Ok(read) => read,
            Err(misplaced) => {
                let fault = |(place, complaint)| source.fault(place, complaint);
                return Err(misplaced.into_iter().map(fault).collect());
            }
        };
        if !pattern.can_fire() {
            let years = if pattern.years.is_some() { "these years" } else { "any year" };
            let complaint = Complaint::new(
                format!("there is no such day in {years}, so the schedule would never fire"),
                "a day of the month that one of the months has",
                "correct the day or the month",
            );
            let days = fields.iter().position(|field| *field == Field::DayOfMonth).unwrap_or_default();
            let last = if pattern.years.is_some() { words.len() - 1 } else { days + 1 };
            return Err(vec![source.fault(words[days].start..words[last].place().end, complaint)]);
        }
        Ok(Rule::Pattern { pattern, all_day })
    }

    /// The civil times, if the expression has any.
    #[cfg(test)]
    pub(super) fn pattern(&self) -> Option<Pattern> {
        match &self.rule {
            Some(Rule::Pattern { pattern, .. }) => Some(pattern.clone()),
            Some(Rule::Interval(_)) | None => None,
        }
    }
}

fn read_macro(source: Source<'_>, name: Word<'_>, rest: &[Word<'_>]) -> Result<Rule, Fault> {
    let lower = name.text.to_ascii_lowercase();
    if lower == "@every" {
        return read_every(source, name, rest);
    }
    if lower == "@reboot" {
        let complaint = Complaint::new(
            "`@reboot` is not supported: a schedule does not depend on when a process starts",
            "a macro for times, or five fields",
            "trigger the job once after the start instead",
        );
        return Err(source.fault(name.place(), complaint));
    }
    let Some((_, fields)) = MACROS.iter().find(|(macro_name, _)| *macro_name == lower) else {
        let complaint = Complaint::new(
            format!("`{}` is not a macro", shortened(name.text)),
            "@hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually or @every",
            "write one of these, or five fields",
        );
        return Err(source.fault(name.place(), complaint));
    };
    if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        let complaint =
            Complaint::new(format!("`{}` takes nothing after it", name.text), "the end", "remove the rest");
        return Err(source.fault(first.start..last.place().end, complaint));
    }
    let words = Source(fields).words();
    let fields = Field::of(words.len()).expect("invariant: macros have five fields");
    let (pattern, all_day) = read_fields(fields, &words).expect("invariant: macros are right");
    Ok(Rule::Pattern { pattern, all_day })
}

/// `@every 5m`: elapsed time, counted from the Unix epoch as [`every`](crate::schedule::every()) does.
fn read_every(source: Source<'_>, name: Word<'_>, rest: &[Word<'_>]) -> Result<Rule, Fault> {
    let place = match (rest.first(), rest.last()) {
        (Some(first), Some(last)) => first.start..last.place().end,
        _ => name.place().end..name.place().end,
    };
    let read = |text: &str| Every { period: text.into(), from_completion: false }.compile(None);
    read(&source.0[place.clone()]).map(Rule::Interval).map_err(|fault| {
        let complaint = Complaint::new(fault.rule, "a duration such as `5m`", fault.cure);
        source.fault(place, complaint)
    })
}

/// The name of the zone in a first word `CRON_TZ=…`; `None` if it is something else.
pub(super) fn zone_prefix(word: &str) -> Option<&str> {
    let has_prefix =
        |prefix: &&&str| word.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    PREFIXES.iter().find(has_prefix).map(|prefix| &word[prefix.len()..])
}

/// The five fields of a macro; any other expression as it is.
pub(super) fn expanded(expression: &str) -> &str {
    let is_it = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(expression);
    MACROS.iter().find(is_it).map_or(expression, |(_, fields)| fields)
}

type Misplaced = Vec<(std::ops::Range<usize>, Complaint)>;

/// The pattern, and whether minute or hour starts with `*`; or what is wrong in each field.
fn read_fields(fields: &[Field], words: &[Word<'_>]) -> Result<(Pattern, bool), Misplaced> {
    let mut pattern = Pattern {
        seconds: 1,
        minutes: 0,
        hours: 0,
        months: 0,
        days: DaySet::Fields { days: 0, weekdays: 0, rule: DayRule::Both },
        years: None,
    };
    let mut days = DayField { set: 0, special: Vec::new() };
    let mut weekdays = DayField { set: 0, special: Vec::new() };
    // Vixie's rule, to the letter: it is the first character that counts, so `*/2` restricts nothing either.
    let (mut all_day, mut day_rule) = (false, DayRule::Either);
    let mut complaints = Vec::new();
    for (field, word) in fields.iter().zip(words) {
        let has_star = word.text.starts_with(['*', '?']);
        let read = match field {
            Field::Second => field.read(word.text).map(|bits| pattern.seconds = bits),
            Field::Minute => field.read(word.text).map(|bits| {
                pattern.minutes = bits;
                all_day |= has_star;
            }),
            // No loss: the fields have at most 60, 24, 32, 13 and 7 bits.
            Field::Hour => field.read(word.text).map(|bits| {
                pattern.hours = bits as u32;
                all_day |= has_star;
            }),
            Field::Month => field.read(word.text).map(|bits| pattern.months = bits as u16),
            Field::DayOfMonth => field.read_days(word.text).map(|read| {
                days = DayField { set: read.set as u32, special: read.special };
                day_rule = if has_star { DayRule::Both } else { day_rule };
            }),
            Field::DayOfWeek => field.read_days(word.text).map(|read| {
                weekdays = DayField { set: read.set as u8, special: read.special };
                day_rule = if has_star { DayRule::Both } else { day_rule };
            }),
            Field::Year if word.text == "*" => Ok(()),
            Field::Year => {
                field.read_values(word.text).map(|years| pattern.years = Some(Box::new(Years::of(years))))
            }
        };
        if let Err((place, complaint)) = read {
            complaints.push((word.start + place.start..word.start + place.end, complaint));
        }
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }

    pattern.days = if days.special.is_empty() && weekdays.special.is_empty() {
        DaySet::Fields { days: days.set, weekdays: weekdays.set, rule: day_rule }
    } else {
        DaySet::Table(Box::new(DaysTable::new(&days, &weekdays, day_rule)))
    };
    Ok((pattern, all_day))
}

fn wrong_field_count(source: Source<'_>, words: &[Word<'_>]) -> Fault {
    let end = source.0.trim_end().len();
    let count = words.len();
    if let Some(period) = words.first().map(|first| &source.0[first.start..end])
        && let Ok(length) = parse_duration(period)
    {
        let rule = format!("`{period}` is a duration, not a cron expression");
        let period = if length.is_zero() { "5m" } else { period };
        let cure = format!("write `@every {period}`, or `every(\"{period}\")` in code");
        return source.fault(0..end, Complaint::new(rule, "five fields", cure));
    }
    let five = Field::of(5).expect("invariant: there are expressions of five fields");
    if let Some(missing) = five.get(count) {
        let plural = if count == 1 { "" } else { "s" };
        let complaint = Complaint::new(
            format!("an expression has five fields, this one has {count} field{plural}"),
            format!("the {}", missing.name()),
            "write minute, hour, day of the month, month and day of the week, for example `0 9 * * 1-5`",
        );
        return source.fault(end..end, complaint);
    }
    let complaint = Complaint::new(
        "an expression has five fields, six with seconds before them, seven with years after them as well",
        "the end after seven fields",
        "remove the rest",
    );
    let too_many = words.get(7).map_or(end, |word| word.start);
    source.fault(too_many..end, complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_found_in_one_reading() {
        let expression = Expression::read(Source("TZ=Nope/Zone 61 24 1 FOO 1"));

        let columns: Vec<_> = expression.faults.iter().map(|fault| fault.rule.split(':').next()).collect();

        assert_eq!(columns, [Some("column 4"), Some("column 14"), Some("column 17"), Some("column 22")]);
    }

    #[test]
    fn a_period_is_told_how_to_write_it() {
        for (text, period) in [("5m", "5m"), (" 1h 30m ", "1h 30m"), ("TZ=UTC 90s", "90s")] {
            let fault = Expression::read(Source(text)).faults.pop().expect("a fault");
            assert!(
                fault.rule.contains(&format!("`{period}` is a duration, not a cron expression")),
                "{fault}"
            );
            assert_eq!(fault.cure, format!("write `@every {period}`, or `every(\"{period}\")` in code"));
        }
        let zero = Expression::read(Source("0s")).faults.pop().expect("a fault");
        assert_eq!(zero.cure, "write `@every 5m`, or `every(\"5m\")` in code", "zero is no period");
    }

    #[test]
    fn the_star_rule_looks_at_the_first_character() {
        let all_day = |text| match Expression::read(Source(text)).rule {
            Some(Rule::Pattern { all_day, .. }) => all_day,
            Some(Rule::Interval(_)) | None => panic!("{text}"),
        };

        assert!(all_day("*/5 3 * * *"));
        assert!(all_day("0 */2 * * *"));
        assert!(all_day("@hourly"));
        assert!(!all_day("0-59 3 * * *"));
        assert!(!all_day("@daily"));
    }
}
