//! What an application gives: a value, or the text that it is written as.

use std::{fmt, time::Duration};

use callsheet_actors::{DurationText, Fault, parse_duration};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc, Weekday};

use super::{duration::shortened, instant};

/// A value, or its text: a duration, an instant, a time of day, a date or a weekday.
///
/// The constructors of this module take either; a wrong text is reported together with the other faults of
/// the definition when it is checked.
///
/// | value | text |
/// |---|---|
/// | [`Duration`] | `1h30m`, `500ms`: see [`parse_duration`] |
/// | [`DateTime`] of any zone | RFC 3339 with its offset: `2026-12-24T18:00:00Z` |
/// | [`NaiveTime`], whole seconds | `09:30` or `18:00:15` |
/// | [`NaiveDate`] | `2026-12-24` |
/// | [`Weekday`] | `mon` or `monday`, in any case |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given<T>(Form<T>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form<T> {
    Value(T),
    Text(String),
}

impl<T: Readable> Given<T> {
    /// The value, if there is one in the text.
    pub(super) fn read(&self, subject: &str) -> Result<T, Fault> {
        match &self.0 {
            Form::Value(value) => Ok(value.clone()),
            Form::Text(text) => T::read(text.trim())
                .map_err(|(rule, cure)| Fault::new(subject, shortened(text.trim()), rule, cure)),
        }
    }

    /// The text, whether it is right or not.
    pub(super) fn text(&self) -> String {
        match &self.0 {
            Form::Value(value) => value.written(),
            Form::Text(text) => match T::read(text.trim()) {
                Ok(value) => value.written(),
                Err(_) => text.trim().to_owned(),
            },
        }
    }

    /// As a fault quotes it: a value may be one that cannot be written.
    pub(super) fn shown(&self) -> String {
        match &self.0 {
            Form::Value(value) => value.shown(),
            Form::Text(text) => shortened(text.trim()),
        }
    }
}

/// What can be written as text.
pub trait Readable: Clone + fmt::Debug {
    /// The value of a text without blanks around it; or the rule that it breaks, and the cure.
    #[doc(hidden)]
    fn read(text: &str) -> Result<Self, (String, String)>;

    /// The text that is read back as the value.
    #[doc(hidden)]
    fn written(&self) -> String;

    /// What a fault quotes: a value may be one that cannot be written.
    #[doc(hidden)]
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Readable for Duration {
    fn read(text: &str) -> Result<Self, (String, String)> {
        parse_duration(text).map_err(|fault| (fault.rule, fault.cure))
    }

    fn written(&self) -> String {
        DurationText(*self).to_string()
    }

    fn shown(&self) -> String {
        self.written()
    }
}

impl Readable for DateTime<Utc> {
    fn read(text: &str) -> Result<Self, (String, String)> {
        // RFC 3339 ends with the year 9999; ISO 8601 goes on with a sign, and that is how chrono writes such
        // years.
        let has_signed_year = text.starts_with(['+', '-']);
        let read = if has_signed_year {
            text.parse()
        } else {
            DateTime::parse_from_rfc3339(text).map(|time| time.to_utc())
        };
        if let Ok(time) = read {
            return Ok(time);
        }
        let lacks_offset = text.parse::<NaiveDateTime>().is_ok();
        Err(if lacks_offset {
            (
                "a time has an offset from UTC".into(),
                format!("add the offset, for example `{}Z` for UTC", shortened(text)),
            )
        } else {
            (
                "this is not an RFC 3339 time".into(),
                "write date, time and offset, for example `2026-12-24T18:00:00Z`".into(),
            )
        })
    }

    fn written(&self) -> String {
        instant::text(*self)
    }
}

impl Readable for NaiveTime {
    fn read(text: &str) -> Result<Self, (String, String)> {
        const CURE: &str = "write hours and minutes, for example `09:30`, or with seconds `18:00:15`";
        let refused = |rule: &str| Err((rule.to_owned(), CURE.to_owned()));
        let parts: Vec<&str> = text.split(':').collect();
        let is_number = |part: &&str| matches!(part.len(), 1 | 2) && part.bytes().all(|b| b.is_ascii_digit());
        if !matches!(parts.len(), 2 | 3) || !parts.iter().all(is_number) {
            return refused("this is not a time of day");
        }
        let mut numbers = parts.iter().filter_map(|part| part.parse().ok());
        let mut number = || numbers.next().unwrap_or(0);
        let (hour, minute, second) = (number(), number(), number());
        if (hour, minute, second) == (24, 0, 0) {
            return Err((
                "a day ends before 24:00".into(),
                "write `00:00`, which begins the following day".into(),
            ));
        }
        match Self::from_hms_opt(hour, minute, second) {
            Some(time) => Ok(time),
            None if hour > 23 => refused("an hour is a number from 0 to 23"),
            None if minute > 59 => refused("a minute is a number from 0 to 59"),
            None => refused("a second is a number from 0 to 59"),
        }
    }

    fn written(&self) -> String {
        let format = if self.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
        self.format(format).to_string()
    }
}

impl Readable for NaiveDate {
    fn read(text: &str) -> Result<Self, (String, String)> {
        let cure = || "write year, month and day, for example `2026-12-24`".to_owned();
        // As above, years beyond 9999 have a sign.
        if text.starts_with(['+', '-'])
            && let Ok(date) = text.parse()
        {
            return Ok(date);
        }
        let is_shaped = text.len() == 10
            && text.bytes().enumerate().all(|(nth, byte)| match nth {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !is_shaped {
            return Err(("this is not a date".into(), cure()));
        }
        text.parse().map_err(|_| ("there is no such day in the calendar".into(), cure()))
    }

    fn written(&self) -> String {
        self.format("%Y-%m-%d").to_string()
    }
}

impl Readable for Weekday {
    fn read(text: &str) -> Result<Self, (String, String)> {
        text.parse().map_err(|_| {
            (
                "this is not a day of the week".into(),
                "write `mon`, `tue`, `wed`, `thu`, `fri`, `sat` or `sun`".into(),
            )
        })
    }

    fn written(&self) -> String {
        self.to_string().to_lowercase()
    }
}

impl<T> From<&str> for Given<T> {
    fn from(text: &str) -> Self {
        Self(Form::Text(text.to_owned()))
    }
}

impl<T> From<String> for Given<T> {
    fn from(text: String) -> Self {
        Self(Form::Text(text))
    }
}

impl<Z: TimeZone> From<DateTime<Z>> for Given<DateTime<Utc>> {
    fn from(time: DateTime<Z>) -> Self {
        Self(Form::Value(time.to_utc()))
    }
}

macro_rules! given_from {
    ($($value:ty),+) => {
        $(impl From<$value> for Given<$value> {
            fn from(value: $value) -> Self {
                Self(Form::Value(value))
            }
        })+
    };
}

given_from!(Duration, NaiveTime, NaiveDate, Weekday);

/// One [`Given`] value or several.
pub trait IntoGiven<T> {
    /// The values in the order in which they were given.
    fn into_given(self) -> Vec<Given<T>>;
}

impl<T> IntoGiven<T> for &str {
    fn into_given(self) -> Vec<Given<T>> {
        vec![self.into()]
    }
}

impl<T> IntoGiven<T> for String {
    fn into_given(self) -> Vec<Given<T>> {
        vec![self.into()]
    }
}

impl<Z: TimeZone> IntoGiven<DateTime<Utc>> for DateTime<Z> {
    fn into_given(self) -> Vec<Given<DateTime<Utc>>> {
        vec![self.into()]
    }
}

macro_rules! one_given {
    ($($value:ty),+) => {
        $(impl IntoGiven<$value> for $value {
            fn into_given(self) -> Vec<Given<$value>> {
                vec![self.into()]
            }
        })+
    };
}

one_given!(NaiveTime, NaiveDate, Weekday);

impl<T, X: Into<Given<T>>> IntoGiven<T> for Vec<X> {
    fn into_given(self) -> Vec<Given<T>> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T, X: Into<Given<T>>, const N: usize> IntoGiven<T> for [X; N] {
    fn into_given(self) -> Vec<Given<T>> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T, X: Into<Given<T>> + Clone> IntoGiven<T> for &[X] {
    fn into_given(self) -> Vec<Given<T>> {
        self.iter().cloned().map(Into::into).collect()
    }
}

/// All values, or one more fault for each that is wrong.
pub(super) fn read_all<T: Readable>(given: &[Given<T>], subject: &str, faults: &mut Vec<Fault>) -> Vec<T> {
    let mut values = Vec::with_capacity(given.len());
    for (nth, given) in given.iter().enumerate() {
        match given.read(&format!("{subject}[{nth}]")) {
            Ok(value) => values.push(value),
            Err(fault) => faults.push(fault),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        fn same<T: Readable>(text: &str) {
            let value = T::read(text).unwrap_or_else(|(rule, _)| panic!("{text}: {rule}"));
            assert_eq!(value.written(), text);
        }

        same::<Duration>("1h30m");
        same::<DateTime<Utc>>("2026-12-24T18:00:00.001Z");
        same::<DateTime<Utc>>("-8346-01-29T02:27:50Z");
        same::<DateTime<Utc>>("+20000-01-29T02:27:50Z");
        same::<NaiveDate>("+20000-01-29");
        same::<NaiveTime>("09:30");
        same::<NaiveTime>("18:00:15");
        same::<NaiveDate>("2026-12-24");
        same::<Weekday>("thu");
    }

    #[test]
    fn what_is_wrong_is_said() {
        fn rule<T: Readable>(text: &str) -> String {
            T::read(text).expect_err("a fault").0
        }

        assert_eq!(rule::<NaiveTime>("24:00"), "a day ends before 24:00");
        assert_eq!(rule::<NaiveTime>("25:00"), "an hour is a number from 0 to 23");
        assert_eq!(rule::<NaiveTime>("00:60"), "a minute is a number from 0 to 59");
        assert_eq!(rule::<NaiveTime>("00:00:60"), "a second is a number from 0 to 59");
        for text in ["", "9", "9am", "09:30:00:00", "-1:00", "09:30:00.5", "٠٩:٣٠", "009:30"] {
            assert_eq!(rule::<NaiveTime>(text), "this is not a time of day", "{text}");
        }
        for text in ["", "24.12.2026", "2026-1-1", "26-12-24", "2026-12-24T00:00:00Z"] {
            assert_eq!(rule::<NaiveDate>(text), "this is not a date", "{text}");
        }
        assert_eq!(rule::<NaiveDate>("2026-02-29"), "there is no such day in the calendar");
        assert_eq!(rule::<Weekday>("someday"), "this is not a day of the week");
    }
}
