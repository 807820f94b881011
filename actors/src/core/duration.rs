//! Durations as text.

use std::{fmt, time::Duration};

use crate::fault::Fault;

/// Units with their length in nanoseconds, largest first.
const UNITS: [(&str, u128); 8] = [
    ("w", 604_800_000_000_000),
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SECOND: u128 = 1_000_000_000;

const CURE: &str =
    "write whole numbers with the units w, d, h, m, s and ms, largest first, for example `1h30m`";

/// Reads a duration such as `1h30m`, `500ms`, `2s` or `1d`.
///
/// Whole numbers, each with its unit: `w` (7 days), `d` (24 hours), `h`, `m` (minutes), `s`, `ms`, `us`
/// (microseconds), `ns`; each unit at most once, largest first, with or without blanks between the parts.
/// There are no months and years, which have no fixed length, and no fractions. Zero is a duration (`0s`),
/// though not a period.
///
/// # Errors
///
/// A [`Fault`] that says what is wrong and what to write instead: an empty text, a sign, a number without a
/// unit, an unknown unit, units out of order, or 2⁶⁴ s and more.
///
/// ```
/// use std::time::Duration;
///
/// use callsheet_actors::parse_duration;
///
/// assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
///
/// // `m` is minutes, `ms` is milliseconds; a bare number is refused, as nobody knows what it means.
/// assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
/// assert_eq!(parse_duration("5").unwrap_err().rule, "`5` has no unit");
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, Fault> {
    let fault = |rule: String| Fault::new("duration", shortened(text), rule, CURE);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fault("a duration is not empty".into()));
    }
    if rest.starts_with('-') {
        return Err(fault("a duration is not negative".into()));
    }

    let mut nanos = 0_u128;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = until(rest, |c| !c.is_ascii_digit());
        let after_digits = &rest[digits.len()..];
        if digits.is_empty() {
            return Err(fault(format!("`{}` is not a whole number", shortened(rest))));
        }
        let unit = until(after_digits, |c| c.is_ascii_digit() || c.is_whitespace());
        if unit.is_empty() {
            return Err(fault(format!("`{}` has no unit", shortened(digits))));
        }
        if unit.starts_with(['.', ',']) {
            return Err(fault("a duration has no fractions".into()));
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(fault(format!("`{}` is not a unit", shortened(unit))));
        }
        // The iterator remembers the units that are used up.
        let Some((_, length)) = units.find(|(name, _)| *name == unit) else {
            return Err(fault(format!("`{unit}` comes twice or after a smaller unit")));
        };
        let part = digits.parse::<u128>().ok().and_then(|number| number.checked_mul(*length));
        let sum =
            part.and_then(|part| nanos.checked_add(part)).filter(|sum| *sum <= Duration::MAX.as_nanos());
        let Some(sum) = sum else {
            return Err(fault("a duration is shorter than 2⁶⁴ s".into()));
        };
        nanos = sum;
        rest = after_digits[unit.len()..].trim_start();
    }
    // No loss: it is at most the greatest duration.
    Ok(Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32))
}

/// The text before the first character that is an `end`.
fn until(text: &str, end: impl Fn(char) -> bool) -> &str {
    &text[..text.find(end).unwrap_or(text.len())]
}

/// What a message quotes of a text of any length.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Writes a duration as [`parse_duration`] reads it: `1h30m`, without loss.
///
/// ```
/// use std::time::Duration;
///
/// use callsheet_actors::DurationText;
///
/// assert_eq!(DurationText(Duration::from_micros(1_500)).to_string(), "1ms500us");
/// assert_eq!(DurationText(Duration::ZERO).to_string(), "0s");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks are read, but not written: `14d` is said more often than `2w`.
        for (name, length) in &UNITS[1..] {
            if rest >= *length {
                write!(f, "{}{name}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_counts() {
        let all = 604_800_000 + 2 * 86_400_000 + 3 * 3_600_000 + 4 * 60_000 + 5 * 1_000 + 6;

        let all = Duration::from_millis(all) + Duration::from_nanos(7_008);
        assert_eq!(parse_duration("1w2d3h4m5s6ms7us8ns"), Ok(all));
        assert_eq!(parse_duration(" 1h  1ms "), Ok(Duration::from_millis(3_600_001)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rule = |text: &str| parse_duration(text).expect_err("a fault").rule;

        assert_eq!(rule(""), "a duration is not empty");
        assert_eq!(rule("-5s"), "a duration is not negative");
        assert_eq!(rule("5"), "`5` has no unit");
        assert_eq!(rule("1h 30"), "`30` has no unit");
        assert_eq!(rule("1.5h"), "a duration has no fractions");
        assert_eq!(rule("h"), "`h` is not a whole number");
        assert_eq!(rule("+5s"), "`+5s` is not a whole number");
        assert_eq!(rule("3 months"), "`3` has no unit");
        assert_eq!(rule("3months"), "`months` is not a unit");
        assert_eq!(rule("1s1s"), "`s` comes twice or after a smaller unit");
        assert_eq!(rule("1m1h"), "`h` comes twice or after a smaller unit");
        assert_eq!(rule("18446744073709551616s"), "a duration is shorter than 2⁶⁴ s");
        assert_eq!(rule("18446744073709551615s1000ms"), "a duration is shorter than 2⁶⁴ s");
        assert_eq!(rule(&format!("{}w", u128::MAX)), "a duration is shorter than 2⁶⁴ s");
        assert_eq!(rule(&format!("{}0ns", u128::MAX)), "a duration is shorter than 2⁶⁴ s");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let millis = [0, 1, 999, 1_000, 60_000, 300_000, 5_400_000, 86_400_000, 1_209_600_000, 694_861_001];
        let odd = [
            Duration::from_nanos(1),
            Duration::from_micros(1_500),
            Duration::from_nanos(u64::MAX),
            Duration::MAX,
        ];
        for duration in millis.map(Duration::from_millis).into_iter().chain(odd) {
            let text = DurationText(duration).to_string();

            assert_eq!(parse_duration(&text), Ok(duration), "{text}");
        }
        assert_eq!(DurationText(Duration::from_millis(5_400_000)).to_string(), "1h30m");
    }
}
