//! Time zones as tables of offsets.

use std::{
    collections::HashMap,
    fmt,
    sync::{LazyLock, OnceLock},
};

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

/// The range that is searched for changes of the clocks, in seconds: the years 1800 to 2100.
///
/// The time zone data begins in the middle of the nineteenth century, and `chrono-tz` has no rules after 2099: later
/// instants keep the last offset. Where that is wrong, it is wrong by the offset of daylight saving time, and the
/// answers stay ordered.
const SEARCHED: std::ops::Range<i64> = -5_364_662_400..4_102_444_800;

/// The step of the search, in seconds: 3 days. The shortest known time between two changes is 167 hours.
const SEARCH_STEP: i64 = 3 * 86_400;

/// The time zones that were asked for. A table is a function of the zone alone, so keeping it changes no answer.
static ZONES: LazyLock<HashMap<Tz, OnceLock<Zone>>> =
    LazyLock::new(|| TZ_VARIANTS.iter().map(|tz| (*tz, OnceLock::new())).collect());

/// A time zone: its offsets from UTC, and from when to when each is in force.
///
/// `chrono-tz` answers offsets, but not when they change, which an exact treatment of gaps and folds has to know. One
/// table, of about 10 KiB where the clocks change twice a year, serves all schedules of the zone; it takes some two
/// milliseconds at the zone's first use.
pub(super) struct Zone {
    tz: Tz,
    spans: Box<[Span]>,
}

/// A time in which a zone keeps one offset from UTC. All numbers are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// When it starts; `i64::MIN` for the first.
    pub(super) start: i64,
    /// When the next one starts; `i64::MAX` for the last.
    pub(super) end: i64,
    /// Civil time minus universal time.
    pub(super) offset: i64,
    /// The offset of the span before; its own for the first.
    pub(super) offset_before: i64,
    /// The offset of the span after; its own for the last.
    pub(super) offset_after: i64,
}

impl Zone {
    /// The table of `tz`.
    pub(super) fn of(tz: Tz) -> &'static Self {
        ZONES
            .get(&tz)
            .expect("invariant: the list of variants has every variant")
            .get_or_init(|| Self { tz, spans: spans_of(tz) })
    }

    /// The IANA name.
    pub(super) fn name(&self) -> &'static str {
        self.tz.name()
    }

    /// All spans, without a hole between them.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The span in which an instant lies.
    pub(super) fn span_at(&self, millis: i64) -> &Span {
        &self.spans[self.index_at(millis)]
    }

    /// The index of the span in which an instant lies.
    pub(super) fn index_at(&self, millis: i64) -> usize {
        self.spans.partition_point(|span| span.start <= millis).saturating_sub(1)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.tz == other.tz
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A zone name near `text`, if there is one: other capitals, a city alone, or a few letters wrong.
pub(super) fn nearest_name(text: &str) -> Option<&'static str> {
    const LENGTH_MAX: usize = 64;
    if text.len() > LENGTH_MAX {
        return None;
    }
    let wanted = text.trim().to_lowercase().replace(' ', "_");
    let names = || TZ_VARIANTS.iter().map(|tz| tz.name());
    let same = names().find(|name| name.to_lowercase() == wanted);
    let city =
        || names().find(|name| name.rsplit('/').next().is_some_and(|city| city.to_lowercase() == wanted));
    let similar = || {
        let wrong_letters_max = (wanted.chars().count() / 4).min(3);
        names()
            .map(|name| (distance(&name.to_lowercase(), &wanted), name))
            .filter(|(distance, _)| *distance <= wrong_letters_max)
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, name)| name)
    };
    same.or_else(city).or_else(similar)
}

/// How many letters to insert, delete or replace (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (nth, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = nth + 1;
        for (at, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn spans_of(tz: Tz) -> Box<[Span]> {
    let mut before = SEARCHED.start;
    let mut offset_before = offset_at(tz, before);
    let mut changes = vec![(i64::MIN, offset_before * 1_000)];
    while before < SEARCHED.end {
        let after = before + SEARCH_STEP;
        let offset_after = offset_at(tz, after);
        if offset_before != offset_after {
            changes.push((change_between(tz, before, after) * 1_000, offset_after * 1_000));
        }
        (before, offset_before) = (after, offset_after);
    }
    let offset = |nth: usize| changes.get(nth).map(|(_, offset)| *offset);
    changes
        .iter()
        .enumerate()
        .map(|(nth, (start, own))| Span {
            start: *start,
            end: changes.get(nth + 1).map_or(i64::MAX, |(start, _)| *start),
            offset: *own,
            offset_before: nth.checked_sub(1).and_then(offset).unwrap_or(*own),
            offset_after: offset(nth + 1).unwrap_or(*own),
        })
        .collect()
}

/// The first second of the new offset; `before` has the old one, `after` the new one.
fn change_between(tz: Tz, mut before: i64, mut after: i64) -> i64 {
    let old = offset_at(tz, before);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset_at(tz, middle) == old {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}

/// Civil time minus universal time at an instant; all in seconds.
fn offset_at(tz: Tz, seconds: i64) -> i64 {
    let instant: DateTime<Utc> = DateTime::from_timestamp(seconds, 0)
        .expect("invariant: the searched years are within chrono's range");
    tz.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_agree_with_the_time_zone_data_in_every_zone() {
        for tz in TZ_VARIANTS {
            let zone = Zone::of(tz);

            for span in zone.spans() {
                for millis in [span.start, span.start.saturating_add(1_000), span.end.saturating_sub(1_000)] {
                    let seconds = millis.div_euclid(1_000);
                    if DateTime::from_timestamp(seconds, 0).is_some() {
                        assert_eq!(offset_at(tz, seconds) * 1_000, span.offset, "{tz} {seconds}");
                    }
                }
                // The middle of a span, in case that two changes were taken for one.
                if span.start != i64::MIN && span.end != i64::MAX {
                    let middle = (span.start + (span.end - span.start) / 2) / 1_000;
                    assert_eq!(offset_at(tz, middle) * 1_000, span.offset, "{tz} {middle}");
                }
            }
        }
    }

    /// The resolver looks at one change at a time.
    #[test]
    fn no_span_is_shorter_than_the_changes_around_it() {
        for tz in TZ_VARIANTS {
            for span in Zone::of(tz).spans() {
                let changes =
                    (span.offset - span.offset_before).abs() + (span.offset_after - span.offset).abs();
                assert!(span.end.saturating_sub(span.start) > changes, "{tz} {span:?}");
            }
        }
    }

    #[test]
    fn near_names_are_found() {
        assert_eq!(nearest_name("europe/lisbon"), Some("Europe/Lisbon"));
        assert_eq!(nearest_name("Lisbon"), Some("Europe/Lisbon"));
        assert_eq!(nearest_name("new york"), Some("America/New_York"));
        assert_eq!(nearest_name("Europe/Lisboa"), Some("Europe/Lisbon"));
        assert_eq!(nearest_name("Amercia/New_York"), Some("America/New_York"));
        assert_eq!(nearest_name("Nope/Zone"), None);
        assert_eq!(nearest_name(""), None);
    }
}
