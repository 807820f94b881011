//! One field of a cron expression.

use std::{
    collections::BTreeSet,
    ops::{Range, RangeInclusive},
};

use cron_parser::{ParseError, ParseErrorKind};
use croner::{Cron, parser::CronParser};

use super::{
    cron_dialect::DialectField, duration::shortened, month::DayField, pattern::Years, source::Complaint,
};

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Which of the seven fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

impl Field {
    /// Those of an expression of so many fields, in its order; `None` if there is no such expression.
    pub(super) fn of(count: usize) -> Option<&'static [Self]> {
        const ALL: &[Field] = &[
            Field::Second,
            Field::Minute,
            Field::Hour,
            Field::DayOfMonth,
            Field::Month,
            Field::DayOfWeek,
            Field::Year,
        ];
        match count {
            5 => Some(&ALL[1..6]),
            6 => Some(&ALL[..6]),
            7 => Some(ALL),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Year => "year",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of the month",
            Self::Month => "month",
            Self::DayOfWeek => "day of the week",
        }
    }

    /// Reads a field of values below 64: bit n of the answer says whether the value n is in it.
    ///
    /// The range of a fault is relative to `text`, in bytes.
    pub(super) fn read(self, text: &str) -> Result<u64, (Range<usize>, Complaint)> {
        Ok(self.read_values(text)?.into_iter().fold(0, |bits, value| bits | 1 << value))
    }

    /// Reads a field: the values in it.
    pub(super) fn read_values(self, text: &str) -> Result<BTreeSet<u32>, (Range<usize>, Complaint)> {
        if let Some(unsupported) = self.unsupported_in(text) {
            return Err(unsupported);
        }
        let normal = DialectField::of(self, text);
        let values = self.values();
        cron_parser::parse_field(&normal.text, *values.start(), *values.end()).map_err(|error| {
            let place = normal.origin_of(error.span(), text.len());
            let complaint = self.complaint(text.get(place.clone()).unwrap_or_default(), &error);
            (place, complaint)
        })
    }

    /// Reads a day field, in which elements such as `L`, `15W`, `FRIL` and `MON#2` may stand beside others.
    pub(super) fn read_days(self, text: &str) -> Result<DayField<u64>, (Range<usize>, Complaint)> {
        if !text.split(',').any(|item| self.special(item).is_some()) {
            return Ok(DayField { set: self.read(text)?, special: Vec::new() });
        }
        let mut field = DayField { set: 0, special: Vec::new() };
        let mut start = 0;
        for item in text.split(',') {
            match self.special(item) {
                Some(cron) => field.special.push(cron),
                None => {
                    let within = |(place, complaint): (Range<usize>, _)| {
                        (start + place.start..start + place.end, complaint)
                    };
                    field.set |= self.read(item).map_err(within)?;
                }
            }
            start += item.len() + 1;
        }
        Ok(field)
    }

    /// What `croner` makes of an element of a day field that only it knows.
    fn special(self, item: &str) -> Option<Cron> {
        let upper = item.to_ascii_uppercase();
        let expression = match self {
            Self::DayOfMonth => {
                let nearest = upper.strip_suffix('W').and_then(number);
                let is_day = nearest.is_some_and(|day| self.values().contains(&day));
                (upper == "L" || upper == "LW" || is_day).then(|| format!("0 0 {upper} * *"))?
            }
            Self::DayOfWeek => {
                let (day, nth) = match upper.split_once('#') {
                    Some((day, nth @ ("1" | "2" | "3" | "4" | "5"))) => (day, format!("#{nth}")),
                    Some(_) => return None,
                    None => (upper.strip_suffix('L')?, "L".to_owned()),
                };
                let day = self.number(day).filter(|day| *day <= 7)?;
                format!("0 0 * * {day}{nth}")
            }
            Self::Second | Self::Minute | Self::Hour | Self::Month | Self::Year => return None,
        };
        CronParser::new().parse(&expression).ok()
    }

    /// The values that `cron-parser` takes.
    pub(super) fn values(self) -> RangeInclusive<u32> {
        match self {
            Self::Second | Self::Minute => 0..=59,
            Self::Year => Years::FIRST..=Years::LAST,
            Self::Hour => 0..=23,
            Self::DayOfMonth => 1..=31,
            Self::Month => 1..=12,
            Self::DayOfWeek => 0..=6,
        }
    }

    /// Whether a range may run over the end, as `22-2` and `FRI-MON` do.
    ///
    /// Minutes and days of the month may not: there, a reversed range is more likely a slip, and months have
    /// different ends.
    pub(super) fn wraps(self) -> bool {
        match self {
            Self::Hour | Self::Month | Self::DayOfWeek => true,
            Self::Second | Self::Minute | Self::DayOfMonth | Self::Year => false,
        }
    }

    /// The number that a word stands for, whether it is in range or not. Sunday may be 7 here.
    pub(super) fn number(self, word: &str) -> Option<u32> {
        if let Some(number) = number(word) {
            return Some(number);
        }
        let position = |names: &[&str]| names.iter().position(|name| name.eq_ignore_ascii_case(word));
        match self {
            Self::Month => position(&MONTHS).map(|nth| nth as u32 + 1),
            Self::DayOfWeek => position(&WEEKDAYS).map(|nth| nth as u32),
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth | Self::Year => None,
        }
    }

    /// A range of days of the week, with 0 for Sunday at both ends.
    pub(super) fn with_one_sunday(self, first: u32, last: u32) -> (u32, u32) {
        match (self, first, last) {
            (Self::DayOfWeek, 7, 7) => (0, 0),
            (Self::DayOfWeek, 0, 7) => (0, 6),
            (Self::DayOfWeek, 7, last) => (0, last),
            (Self::DayOfWeek, first, 7) => (first, 0),
            (_, first, last) => (first, last),
        }
    }

    fn article(self) -> &'static str {
        match self {
            Self::Hour => "an",
            Self::Second | Self::Minute | Self::DayOfMonth | Self::Month | Self::DayOfWeek | Self::Year => {
                "a"
            }
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "a number from 0 to 59",
            Self::Year => "a number from 1970 to 2099",
            Self::Hour => "a number from 0 to 23",
            Self::DayOfMonth => "a number from 1 to 31",
            Self::Month => "a number from 1 to 12 or a name from JAN to DEC",
            Self::DayOfWeek => "a number from 0 to 7 (both are Sunday) or a name from SUN to SAT",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => "write for example `0`, `0,30`, `0-29` or `*/15`",
            Self::Year => "write for example `2027`, `2027-2029` or `*`",
            Self::Hour => "write for example `9`, `9,17`, `9-17` or `*/2`",
            Self::DayOfMonth => "write for example `1`, `1,15`, `1-7` or `*`",
            Self::Month => "write for example `1`, `JAN,JUL`, `6-8` or `*`",
            Self::DayOfWeek => "write for example `1`, `MON,THU`, `MON-FRI` or `*`",
        }
    }

    fn complaint(self, token: &str, error: &ParseError) -> Complaint {
        let (name, article, shown) = (self.name(), self.article(), shortened(token));
        let last = *self.values().end();
        match error.kind() {
            ParseErrorKind::EmptyListElement => Complaint::new(
                format!("an element of the list is missing in the {name}"),
                self.expected(),
                "write a value, or remove the comma",
            ),
            ParseErrorKind::ZeroStep => Complaint::new(
                format!("the step of `{shown}` is zero"),
                format!("a step from 1 to {last}"),
                self.example(),
            ),
            ParseErrorKind::StepOutOfRange { actual, .. } => Complaint::new(
                format!("the step {actual} leaves the {name}'s range at once"),
                format!("a step from 1 to {last}"),
                "write a single value instead of a step, or use `every` for a longer period",
            ),
            ParseErrorKind::ReversedRange => {
                let cure = match token.split('/').next().unwrap_or_default().split_once('-') {
                    Some((from, to)) if !token.contains('/') => {
                        format!(
                            "write `{from}-{last},{}-{to}` if it is meant to run over the end",
                            self.values().start()
                        )
                    }
                    Some(_) | None => "write the smaller number first".into(),
                };
                Complaint::new(
                    format!("the range `{shown}` runs backwards"),
                    "the smaller number first",
                    cure,
                )
            }
            ParseErrorKind::InvalidRange => Complaint::new(
                format!("`{shown}` is not a range or a step"),
                "a value, `from-to`, `from-to/step` or `*/step`",
                self.example(),
            ),
            ParseErrorKind::OutOfRange { .. }
            | ParseErrorKind::InvalidInteger
            | ParseErrorKind::InvalidName
            | ParseErrorKind::NameNotAllowed => {
                let cure = match self.nearest_name(token) {
                    Some(near) => format!("write `{near}`"),
                    None => self.example().into(),
                };
                Complaint::new(format!("`{shown}` is not {article} {name}"), self.expected(), cure)
            }
            // The rest concerns whole expressions; a later version of the crate may add more.
            other => Complaint::new(format!("`{shown}`: {other:?}"), self.expected(), self.example()),
        }
    }

    /// The short name of a month or a day that is written in full.
    fn nearest_name(self, token: &str) -> Option<&'static str> {
        let start = token.get(..3)?;
        let among =
            |names: &[&'static str]| names.iter().copied().find(|name| name.eq_ignore_ascii_case(start));
        match self {
            Self::Month => among(&MONTHS),
            Self::DayOfWeek => among(&WEEKDAYS),
            Self::Second | Self::Minute | Self::Hour | Self::DayOfMonth | Self::Year => None,
        }
    }

    /// Notations of other schedulers, with what to write instead.
    fn unsupported_in(self, text: &str) -> Option<(Range<usize>, Complaint)> {
        let mut start = 0;
        for item in text.split(',') {
            if let Some(complaint) = self.unsupported(item) {
                return Some((start..start + item.len(), complaint));
            }
            start += item.len() + 1;
        }
        None
    }

    fn unsupported(self, item: &str) -> Option<Complaint> {
        let upper = item.to_ascii_uppercase();
        let complaint = |what: String, cure: String| Some(Complaint::new(what, self.expected(), cure));

        if let Some(rest) = upper.strip_prefix('H')
            && (rest.is_empty() || rest.starts_with(['/', '(']))
        {
            let cure = "write a number, and spread the jobs with `jitter`, which differs from job to job";
            return complaint("`H` (a hashed value) is not supported".into(), cure.into());
        }
        let is_number = |text: &str| number(text).is_some();
        match self {
            Self::DayOfMonth => {
                if let Some(back) = upper.strip_prefix("L-") {
                    let cure = match number(back).filter(|back| *back < 31) {
                        Some(back) => format!("use `monthly().on([-{}])`", back + 1),
                        None => "use `monthly()` with a negative day".into(),
                    };
                    return complaint("`L-n` (days before the last) is not supported".into(), cure);
                }
                if upper == "W" || upper == "WL" {
                    let cure =
                        "write the day before it, for example `15W`, or `LW` for the last one of the month";
                    return complaint(format!("`{item}` names no day"), cure.into());
                }
            }
            Self::DayOfWeek => {
                if upper == "L" {
                    let cure = "write the day before it, for example `FRIL` for the last Friday of the month";
                    return complaint("`L` alone names no day of the week".into(), cure.into());
                }
                if let Some((_, nth)) = upper.split_once('#').filter(|(day, _)| self.number(day).is_some()) {
                    let cure = "write `#1` to `#5`, or for example `FRIL` for the last Friday of the month";
                    return complaint(
                        format!("`{}` is not a place among the days of a month", shortened(nth)),
                        cure.into(),
                    );
                }
                if upper.contains('#') || upper.strip_suffix('L').is_some_and(is_number) {
                    let cure = "write a single day before it, for example `MON#2` or `FRIL`";
                    return complaint(format!("`{}` names no day of the week", shortened(item)), cure.into());
                }
            }
            Self::Second | Self::Minute | Self::Hour | Self::Month | Self::Year => {}
        }
        None
    }
}

/// The number that a word is written as.
pub(super) fn number(word: &str) -> Option<u32> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { word.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(field: Field, text: &str) -> Vec<u32> {
        let bits = field.read(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        (0..64).filter(|value| bits >> value & 1 == 1).collect()
    }

    fn refused(field: Field, text: &str) -> (Range<usize>, String) {
        let (place, complaint) = field.read(text).expect_err(text);
        (place, complaint.rule)
    }

    #[test]
    fn names_and_numbers_mean_the_same() {
        assert_eq!(values(Field::Month, "jan,Feb-APR,12"), [1, 2, 3, 4, 12]);
        assert_eq!(values(Field::DayOfWeek, "sun,Mon-WED,6"), [0, 1, 2, 3, 6]);
        assert_eq!(values(Field::Month, "JUL"), [7]);
    }

    #[test]
    fn seven_is_sunday() {
        assert_eq!(values(Field::DayOfWeek, "7"), [0]);
        assert_eq!(values(Field::DayOfWeek, "7-7"), [0]);
        assert_eq!(values(Field::DayOfWeek, "5-7"), [0, 5, 6]);
        assert_eq!(values(Field::DayOfWeek, "0-7"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(values(Field::DayOfWeek, "1-7"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(values(Field::DayOfWeek, "7-2"), [0, 1, 2]);
        assert_eq!(values(Field::DayOfWeek, "5-7/2"), [0, 5]);
        assert_eq!(values(Field::DayOfWeek, "7/2"), [0, 2, 4, 6]);
    }

    #[test]
    fn ranges_run_over_the_end() {
        assert_eq!(values(Field::DayOfWeek, "FRI-MON"), [0, 1, 5, 6]);
        assert_eq!(values(Field::Hour, "22-2"), [0, 1, 2, 22, 23]);
        assert_eq!(values(Field::Hour, "22-3/2"), [0, 2, 22]);
        assert_eq!(values(Field::Month, "NOV-FEB"), [1, 2, 11, 12]);
        assert_eq!(values(Field::Month, "NOV-FEB/2,5"), [1, 5, 11]);
    }

    #[test]
    fn faults_point_into_the_text_that_was_written() {
        assert_eq!(refused(Field::Minute, "0,61"), (2..4, "`61` is not a minute".into()));
        assert_eq!(refused(Field::Month, "JAN,FOO"), (4..7, "`FOO` is not a month".into()));
        assert_eq!(refused(Field::DayOfWeek, "FRI-MON,8"), (8..9, "`8` is not a day of the week".into()));
        assert_eq!(
            refused(Field::DayOfWeek, "MON,"),
            (4..4, "an element of the list is missing in the day of the week".into())
        );
        assert_eq!(refused(Field::Hour, "22-2/0"), (0..6, "the step of `22-2/0` is zero".into()));
        assert_eq!(refused(Field::Hour, "22-2/x"), (5..6, "`x` is not an hour".into()));
        assert_eq!(refused(Field::Minute, "10-5"), (0..4, "the range `10-5` runs backwards".into()));
        assert_eq!(
            refused(Field::Minute, "5,*/60"),
            (2..6, "the step 60 leaves the minute's range at once".into())
        );
        assert_eq!(refused(Field::Minute, "-1"), (0..2, "`-1` is not a range or a step".into()));
        assert_eq!(refused(Field::Minute, "é,"), (0..2, "`é` is not a minute".into()));
        assert_eq!(refused(Field::Hour, "?"), (0..1, "`?` is not an hour".into()));
        assert_eq!(refused(Field::Minute, "MON"), (0..3, "`MON` is not a minute".into()));
    }

    #[test]
    fn notations_of_other_schedulers_are_named() {
        for (field, text) in [
            (Field::Minute, "H"),
            (Field::Hour, "H/2"),
            (Field::Minute, "H(0-29)"),
            (Field::DayOfMonth, "1,L-3"),
        ] {
            let (_, rule) = refused(field, text);

            assert!(rule.ends_with("is not supported"), "{text}: {rule}");
        }
    }

    #[test]
    fn the_backwards_range_comes_with_its_cure() {
        let (_, complaint) = Field::Minute.read("55-5").expect_err("a fault");

        assert_eq!(complaint.cure, "write `55-59,0-5` if it is meant to run over the end");
    }

    #[test]
    fn full_names_come_with_their_short_form() {
        let (_, complaint) = Field::DayOfWeek.read("Monday").expect_err("a fault");

        assert_eq!(complaint.cure, "write `MON`");
    }
}
