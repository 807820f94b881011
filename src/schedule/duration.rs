//! Durations as text.

use std::{fmt, time::Duration};

use callsheet_actors::Fault;

/// Units with their length in milliseconds, largest first.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const CURE: &str =
    "write whole numbers with the units w, d, h, m, s and ms, largest first, for example `1h30m`";

/// Reads a duration such as `1h30m`, `500ms`, `2s` or `1d`.
///
/// Whole numbers, each with its unit: `w` (7 days), `d` (24 hours), `h`, `m` (minutes), `s`, `ms`; each unit at most
/// once, largest first, with or without blanks between the parts. There are no months and years, which have no fixed
/// length, and no fractions. Zero is a duration (`0s`), though not a period.
///
/// # Errors
///
/// A [`Fault`] that says what is wrong and what to write instead: an empty text, a sign, a number without a unit, an
/// unknown unit, units out of order, or more than 2⁶⁴ ms.
///
/// ```
/// use std::time::Duration;
///
/// use callsheet::schedule::parse_duration;
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

    let mut millis = 0_u64;
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
        let part = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*length));
        let Some(sum) = part.and_then(|part| millis.checked_add(part)) else {
            return Err(fault("a duration is shorter than 2⁶⁴ ms".into()));
        };
        millis = sum;
        rest = after_digits[unit.len()..].trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// The text before the first character that is an `end`.
fn until(text: &str, end: impl Fn(char) -> bool) -> &str {
    &text[..text.find(end).unwrap_or(text.len())]
}

/// What a message quotes of a text of any length.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Writes whole milliseconds as [`parse_duration`] reads them.
pub(super) struct Written(pub(super) i64);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.unsigned_abs();
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

        assert_eq!(parse_duration("1w2d3h4m5s6ms"), Ok(Duration::from_millis(all)));
        assert_eq!(parse_duration(" 1h  1ms "), Ok(Duration::from_millis(3_600_001)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rule = |text| parse_duration(text).expect_err("a fault").rule;

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
        assert_eq!(rule("18446744073709551615s"), "a duration is shorter than 2⁶⁴ ms");
        assert_eq!(rule("99999999999999999999ms"), "a duration is shorter than 2⁶⁴ ms");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1_000, 60_000, 300_000, 5_400_000, 86_400_000, 1_209_600_000, 694_861_001] {
            let text = Written(millis).to_string();

            let read = parse_duration(&text).map(|duration| duration.as_millis());

            assert_eq!(read, Ok(u128::from(millis.unsigned_abs())), "{text}");
        }
        assert_eq!(Written(5_400_000).to_string(), "1h30m");
    }
}
