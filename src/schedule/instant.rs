//! Instants as whole milliseconds since the Unix epoch.

use chrono::{DateTime, SecondsFormat, Utc};

/// The first and the last whole millisecond that chrono can name.
pub(super) const RANGE: (i64, i64) =
    (DateTime::<Utc>::MIN_UTC.timestamp_millis(), DateTime::<Utc>::MAX_UTC.timestamp_millis());

/// The whole millisecond at or before `instant`.
fn floor(instant: DateTime<Utc>) -> i64 {
    // chrono writes a leap second as a second that is longer than 10⁹ ns. The part beyond is cut off: the
    // instant stays before the second that follows, as chrono orders it.
    let nanos = instant.timestamp_subsec_nanos().min(999_999_999);
    instant.timestamp() * 1_000 + i64::from(nanos / 1_000_000)
}

/// The whole millisecond at or after `instant`.
pub(super) fn ceiling(instant: DateTime<Utc>) -> i64 {
    let floor = floor(instant);
    let is_whole = instant.timestamp_subsec_nanos() < 1_000_000_000
        && instant.timestamp_subsec_nanos().is_multiple_of(1_000_000);
    if is_whole { floor } else { floor + 1 }
}

/// The first whole millisecond strictly after `instant`.
pub(super) fn following(instant: DateTime<Utc>) -> i64 {
    floor(instant) + 1
}

/// The last whole millisecond strictly before `instant`.
pub(super) fn preceding(instant: DateTime<Utc>) -> i64 {
    ceiling(instant) - 1
}

/// The instant of a number of milliseconds, unless it is outside chrono's range.
pub(super) fn from_millis(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}

/// As listings write it: `2026-12-24T18:00:00Z`.
pub(super) fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_instant_between_two_milliseconds_has_both_as_neighbours() {
        let whole = from_millis(-1_500).expect("in range");
        let between = whole + TimeDelta::nanoseconds(1);

        assert_eq!((preceding(whole), ceiling(whole), following(whole)), (-1_501, -1_500, -1_499));
        assert_eq!((preceding(between), ceiling(between), following(between)), (-1_500, -1_499, -1_499));
    }

    #[test]
    fn a_leap_second_stays_before_the_second_that_follows() {
        let leap: DateTime<Utc> = "2016-12-31T23:59:60.5Z".parse().expect("a time");
        let new_year: DateTime<Utc> = "2017-01-01T00:00:00Z".parse().expect("a time");

        assert!(leap < new_year);
        assert_eq!(from_millis(following(leap)), Some(new_year));
        assert!(from_millis(preceding(leap)).is_some_and(|before| before < leap));
    }

    #[test]
    fn the_ends_of_chronos_range_do_not_overflow() {
        assert_eq!(from_millis(preceding(DateTime::<Utc>::MIN_UTC)), None);
        assert_eq!(from_millis(following(DateTime::<Utc>::MAX_UTC)), None);
    }
}
