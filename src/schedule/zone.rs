//! Time zones as tables of offsets.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

/// A rule of daylight saving time names months, weeks and days of the Gregorian calendar, which repeats
/// itself after 400 years to the day and to the weekday: so do the changes of the clocks. In milliseconds.
const CYCLE: i64 = 146_097 * 86_400_000;

/// How long after the last change that is written out the cycle begins, in milliseconds: 800 days. Until then
/// the rule has changed the clocks at least once.
const RULE_SETTLES: i64 = 800 * 86_400_000;

/// No clock shows a civil time that is further from universal time, in milliseconds: 26 hours, as jiff has
/// it.
pub(super) const OFFSET_MAX: i64 = 26 * 3_600_000;

/// A time zone: its offsets from UTC, and from when to when each is in force.
///
/// The table holds what happened, and one cycle of the rule that goes on for ever: it takes about 15 KiB
/// where the clocks change twice a year, serves all schedules of the zone, and is made at the zone's first
/// use.
pub(super) struct Zone {
    name: Box<str>,
    /// In order. The first is in force from the beginning of time on.
    changes: Box<[Change]>,
    /// Where the cycle begins among them, if the clocks change for ever.
    cycle: Option<usize>,
}

/// From when on the clocks show which offset; in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    start: i64,
    offset: i32,
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
    /// The table of a zone whose last change that is written out, and does not follow from its rule, is at
    /// `last_explicit`, in milliseconds.
    pub(super) fn new(name: &str, rules: &TimeZone, last_explicit: i64) -> Self {
        let begin = last_explicit.saturating_add(RULE_SETTLES);
        let mut offset = millis(rules.to_offset(Timestamp::MIN).seconds());
        let mut changes = vec![Change { start: i64::MIN, offset }];
        let within_a_cycle = rules
            .following(Timestamp::MIN)
            .map(|change| (change.timestamp().as_millisecond(), millis(change.offset().seconds())));
        for (start, to) in within_a_cycle.take_while(|(start, _)| *start < begin + CYCLE) {
            // Some changes are of the name only.
            if to != offset {
                changes.push(Change { start, offset: to });
                offset = to;
            }
        }
        let cycle = changes.partition_point(|change| change.start < begin);
        let cycle = Some(cycle).filter(|cycle| *cycle < changes.len());
        Self { name: name.into(), changes: changes.into(), cycle }
    }

    /// The IANA name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The span in which an instant lies.
    pub(super) fn span_at(&self, millis: i64) -> Span {
        self.span(self.index_at(millis))
    }

    /// The spans from the one on in which an instant lies, without a hole between them; endless if the clocks
    /// change for ever.
    pub(super) fn spans_from(&self, millis: i64) -> impl Iterator<Item = Span> {
        let first = self.index_at(millis);
        (first..).map_while(move |nth| self.change(nth).map(|_| self.span(nth)))
    }

    /// The number of the span in which an instant lies.
    pub(super) fn index_at(&self, millis: i64) -> usize {
        let (cycles, folded) = self.folded(millis);
        let index = self.changes.partition_point(|change| change.start <= folded).saturating_sub(1);
        index + cycles * self.cycle.map_or(0, |cycle| self.changes.len() - cycle)
    }

    /// The span of a number that [`index_at`](Self::index_at) gave, or of one beside it that exists.
    pub(super) fn span(&self, nth: usize) -> Span {
        let before = nth.checked_sub(1).and_then(|before| self.change(before));
        let after = self.change(nth + 1);
        let own = self.change(nth).expect("invariant: there is a span of that number");
        Span {
            start: own.start,
            end: after.map_or(i64::MAX, |after| after.start),
            offset: own.offset.into(),
            offset_before: before.unwrap_or(own).offset.into(),
            offset_after: after.unwrap_or(own).offset.into(),
        }
    }

    /// How many whole cycles after the first an instant lies, and the instant of the first that it
    /// corresponds to.
    fn folded(&self, millis: i64) -> (usize, i64) {
        let Some(cycle) = self.cycle else { return (0, millis) };
        let passed = millis.saturating_sub(self.changes[cycle].start);
        if passed < CYCLE {
            return (0, millis);
        }
        let cycles = passed / CYCLE;
        (usize::try_from(cycles).unwrap_or(usize::MAX), millis - cycles * CYCLE)
    }

    fn change(&self, nth: usize) -> Option<Change> {
        if let Some(change) = self.changes.get(nth) {
            return Some(*change);
        }
        let cycle = self.cycle?;
        let length = self.changes.len() - cycle;
        let (cycles, place) = ((nth - cycle) / length, (nth - cycle) % length);
        let Change { start, offset } = self.changes[cycle + place];
        let later = i64::try_from(cycles).unwrap_or(i64::MAX).saturating_mul(CYCLE);
        Some(Change { start: start.saturating_add(later), offset })
    }
}

fn millis(seconds: i32) -> i32 {
    // No loss: an offset is shorter than 26 hours.
    seconds * 1_000
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{instant, zone_data};

    const DAY: i64 = 86_400_000;
    const YEAR_2100: i64 = 4_102_444_800_000;

    fn zones() -> impl Iterator<Item = &'static Zone> {
        zone_data::current().names().map(|name| zone_data::current().zone(name).expect("a zone"))
    }

    #[test]
    fn spans_follow_each_other_without_a_hole() {
        for zone in zones() {
            let far = instant::RANGE.1;
            let mut before = zone.span_at(i64::MIN);
            assert_eq!((before.start, before.offset), (i64::MIN, before.offset_before));
            for span in zone.spans_from(i64::MIN).skip(1).take(2_500) {
                assert_eq!((before.end, before.offset_after), (span.start, span.offset), "{zone:?} {span:?}");
                assert_eq!(span.offset_before, before.offset, "{zone:?} {span:?}");
                assert_ne!(span.offset, before.offset, "{zone:?} {span:?}");
                for millis in [span.start, span.start + 1, span.end - 1] {
                    assert_eq!(zone.span_at(millis), span, "{zone:?} {millis}");
                }
                before = span;
            }
            assert!((zone.span_at(far).start..zone.span_at(far).end).contains(&far), "{zone:?}");
        }
    }

    /// The resolver looks at one change at a time.
    #[test]
    fn no_span_is_shorter_than_the_changes_around_it() {
        for zone in zones() {
            for span in zone.spans_from(i64::MIN).take(2_000) {
                let changes =
                    (span.offset - span.offset_before).abs() + (span.offset_after - span.offset).abs();
                assert!(span.end.saturating_sub(span.start) > changes, "{zone:?} {span:?}");
                assert!(span.offset.abs() < OFFSET_MAX, "{zone:?} {span:?}");
            }
        }
    }

    /// What jiff says far behind the table is what the folded table says.
    #[test]
    fn the_rules_go_on_as_far_as_jiff_knows_them() {
        for zone in zones() {
            let rules = zone_data::current().rules(zone.name()).expect("a zone");
            for far in [YEAR_2100, YEAR_2100 + 5 * CYCLE, YEAR_2100 + 19 * CYCLE] {
                let from = Timestamp::from_millisecond(far).expect("before the year 9999");
                let changes = rules.following(from).take(6);
                let spans = zone.spans_from(far).skip(1);
                for (change, span) in changes.zip(spans) {
                    assert_eq!(change.timestamp().as_millisecond(), span.start, "{zone:?}");
                    assert_eq!(i64::from(millis(change.offset().seconds())), span.offset, "{zone:?}");
                }
                assert_eq!(rules.following(from).next().is_some(), zone.span_at(far).end != i64::MAX);
            }
        }
    }

    /// Days all over five centuries: a change that was taken for none would show.
    #[test]
    fn the_table_has_the_offsets_of_jiff_on_all_days() {
        for zone in zones() {
            let rules = zone_data::current().rules(zone.name()).expect("a zone");
            let shift = zone.name().len() as i64 * 3_600_000;
            for nth in -1_500..3_000 {
                let millis = nth * 61 * DAY + shift;
                let instant = Timestamp::from_millisecond(millis).expect("in range");
                let expected = i64::from(rules.to_offset(instant).seconds()) * 1_000;
                assert_eq!(zone.span_at(millis).offset, expected, "{zone:?} {millis}");
            }
        }
    }
}
