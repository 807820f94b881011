//! Civil times and the instants they stand for.

use chrono::{DateTime, NaiveDateTime};

use super::{
    dst::{Fold, Gap},
    zone::{OFFSET_MAX, Span, Zone},
};

/// A rule that names civil times: what a clock on the wall shows, without a zone.
pub(super) trait CivilRule {
    /// The first civil time of the rule that is not before `from`.
    fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime>;

    /// The last civil time of the rule that is not after `until`.
    fn last_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime>;
}

/// Maps the civil times of a rule to instants, under a zone and a policy for the changes of its clocks.
///
/// Time is walked span by span, a span being a time of one offset. Within a span civil time runs like elapsed
/// time, so the rule is asked for the part of civil time that the span shows ([`natural`](Self::natural)),
/// and for the part that was jumped over at its start ([`Self::shifted`]). The earlier one is the answer.
/// This is exact for gaps and folds of any length; the spans between two civil times of a rare rule are
/// passed over.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    zone: &'static Zone,
    gap: Gap,
    fold: Fold,
}

impl Resolver {
    pub(super) fn new(zone: &'static Zone, gap: Gap, fold: Fold) -> Self {
        Self { zone, gap, fold }
    }

    pub(super) fn zone(&self) -> &'static Zone {
        self.zone
    }

    pub(super) fn gap(&self) -> Gap {
        self.gap
    }

    pub(super) fn fold(&self) -> Fold {
        self.fold
    }

    /// The first instant of `rule` that is not before `earliest`.
    pub(super) fn first_from(&self, rule: &impl CivilRule, mut earliest: i64) -> Option<i64> {
        let mut ahead = Ahead { rule, known: None };
        let mut nth = self.zone.index_at(earliest);
        loop {
            let span = self.zone.span(nth);
            earliest = earliest.max(span.start);
            // The gap first: its civil times are earlier, so that one answer of the rule can serve both.
            let shifted = self.shifted(&span).and_then(|window| window.first(&mut ahead, earliest));
            let natural = self.natural(&span).first(&mut ahead, earliest);
            if let Some(next) = [shifted, natural].into_iter().flatten().min() {
                return Some(next);
            }
            if span.end == i64::MAX {
                return None;
            }
            // From the end of this span on the clocks show nothing earlier than this: if the rule has nothing
            // there, it has nothing for ever, and otherwise the spans before its answer can be passed over.
            let answer = ahead.first_from(span.end - OFFSET_MAX)?;
            nth = self.zone.index_at(answer - OFFSET_MAX).max(nth + 1);
        }
    }

    /// The last instant of `rule` that is not after `latest`.
    pub(super) fn last_until(&self, rule: &impl CivilRule, mut latest: i64) -> Option<i64> {
        let mut behind = Behind { rule, known: None };
        let mut nth = self.zone.index_at(latest);
        loop {
            let span = self.zone.span(nth);
            latest = latest.min(span.end - 1);
            let natural = self.natural(&span).last(&mut behind, latest);
            let shifted = self.shifted(&span).and_then(|window| window.last(&mut behind, latest));
            if let Some(previous) = natural.max(shifted) {
                return Some(previous);
            }
            if nth == 0 {
                return None;
            }
            // As above, backwards.
            let answer = behind.last_until(span.start + OFFSET_MAX)?;
            nth = self.zone.index_at(answer + OFFSET_MAX).min(nth - 1);
        }
    }

    /// The civil times that the clocks show during a span, less those that the fold policy drops.
    fn natural(&self, span: &Span) -> Window {
        let mut window = Window {
            from: span.start.saturating_add(span.offset),
            to: span.end.saturating_add(span.offset),
            becomes: Becomes::Minus(span.offset),
        };
        match self.fold {
            // What the span before showed already.
            Fold::First => window.from = window.from.max(span.start.saturating_add(span.offset_before)),
            // What the span after will show again.
            Fold::Second => window.to = window.to.min(span.end.saturating_add(span.offset_after)),
            Fold::Both => {}
        }
        window
    }

    /// The civil times that the clocks jumped over when the span began, if they did and the policy keeps
    /// them.
    fn shifted(&self, span: &Span) -> Option<Window> {
        if span.offset <= span.offset_before {
            return None;
        }
        let becomes = match self.gap {
            Gap::Shift => Becomes::Minus(span.offset_before),
            Gap::AfterGap => Becomes::Instant(span.start),
            Gap::Skip => return None,
        };
        Some(Window { from: span.start + span.offset_before, to: span.start + span.offset, becomes })
    }
}

/// A piece of civil time, `from` inclusive, `to` exclusive, and the instants it stands for; in milliseconds.
struct Window {
    from: i64,
    to: i64,
    becomes: Becomes,
}

/// How a civil time becomes an instant.
#[derive(Clone, Copy)]
enum Becomes {
    /// By subtracting an offset.
    Minus(i64),
    /// Always this one.
    Instant(i64),
}

impl Window {
    /// The first instant of the rule within the window that is not before `earliest`.
    fn first(&self, ahead: &mut Ahead<'_, impl CivilRule>, earliest: i64) -> Option<i64> {
        let from = match self.becomes {
            Becomes::Minus(offset) => self.from.max(earliest.saturating_add(offset)),
            Becomes::Instant(instant) if instant < earliest => return None,
            Becomes::Instant(_) => self.from,
        };
        if from >= self.to {
            return None;
        }
        let civil = ahead.first_from(from).filter(|civil| *civil < self.to)?;
        Some(self.becomes.instant(civil))
    }

    /// The last instant of the rule within the window that is not after `latest`.
    fn last(&self, behind: &mut Behind<'_, impl CivilRule>, latest: i64) -> Option<i64> {
        let until = match self.becomes {
            Becomes::Minus(offset) => (self.to - 1).min(latest.saturating_add(offset)),
            Becomes::Instant(instant) if instant > latest => return None,
            Becomes::Instant(_) => self.to - 1,
        };
        if until < self.from {
            return None;
        }
        let civil = behind.last_until(until).filter(|civil| *civil >= self.from)?;
        Some(self.becomes.instant(civil))
    }
}

impl Becomes {
    fn instant(self, civil: i64) -> i64 {
        match self {
            Self::Minus(offset) => civil - offset,
            Self::Instant(instant) => instant,
        }
    }
}

/// Asks a rule for later and later civil times, and no more often than needed.
///
/// A rare rule is asked once for all the spans that it passes over: from the question to the answer there is
/// nothing.
struct Ahead<'a, R> {
    rule: &'a R,
    known: Option<(i64, Option<i64>)>,
}

impl<R: CivilRule> Ahead<'_, R> {
    fn first_from(&mut self, from: i64) -> Option<i64> {
        if let Some((asked, answer)) = self.known
            && asked <= from
            && answer.is_none_or(|answer| from <= answer)
        {
            return answer;
        }
        let answer = match civil_time(from) {
            Ok(civil) => self.rule.first_from(civil),
            Err(Outside::Before) => self.rule.first_from(NaiveDateTime::MIN),
            Err(Outside::After) => None,
        };
        let answer = answer.map(|civil| civil.and_utc().timestamp_millis());
        self.known = Some((from, answer));
        answer
    }
}

/// [`Ahead`], backwards.
struct Behind<'a, R> {
    rule: &'a R,
    known: Option<(i64, Option<i64>)>,
}

impl<R: CivilRule> Behind<'_, R> {
    fn last_until(&mut self, until: i64) -> Option<i64> {
        if let Some((asked, answer)) = self.known
            && asked >= until
            && answer.is_none_or(|answer| until >= answer)
        {
            return answer;
        }
        let answer = match civil_time(until) {
            Ok(civil) => self.rule.last_until(civil),
            Err(Outside::Before) => None,
            Err(Outside::After) => self.rule.last_until(NaiveDateTime::MAX),
        };
        let answer = answer.map(|civil| civil.and_utc().timestamp_millis());
        self.known = Some((until, answer));
        answer
    }
}

/// Where a civil time lies that chrono cannot name.
pub(super) enum Outside {
    Before,
    After,
}

pub(super) fn civil_time(millis: i64) -> Result<NaiveDateTime, Outside> {
    match DateTime::from_timestamp_millis(millis) {
        Some(time) => Ok(time.naive_utc()),
        None if millis < 0 => Err(Outside::Before),
        None => Err(Outside::After),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, NaiveTime, TimeDelta, Timelike, Utc};

    use super::*;
    use crate::schedule::{instant, zone_data};

    fn next_after(resolver: &Resolver, rule: &impl CivilRule, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        resolver.first_from(rule, instant::following(after)).and_then(instant::from_millis)
    }

    fn previous_before(
        resolver: &Resolver,
        rule: &impl CivilRule,
        before: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        resolver.last_until(rule, instant::preceding(before)).and_then(instant::from_millis)
    }

    /// Every day at one time.
    struct Daily(NaiveTime);

    impl CivilRule for Daily {
        fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
            let date = if from.time() <= self.0 { from.date() } else { from.date().succ_opt()? };
            Some(date.and_time(self.0))
        }

        fn last_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
            let date = if until.time() >= self.0 { until.date() } else { until.date().pred_opt()? };
            Some(date.and_time(self.0))
        }
    }

    /// Every full ten minutes.
    struct TenMinutes;

    impl CivilRule for TenMinutes {
        fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
            let past = i64::from(from.num_seconds_from_midnight() % 600) * 1_000_000_000
                + i64::from(from.nanosecond());
            if past == 0 {
                Some(from)
            } else {
                from.checked_add_signed(TimeDelta::nanoseconds(600_000_000_000 - past))
            }
        }

        fn last_until(&self, until: NaiveDateTime) -> Option<NaiveDateTime> {
            let past = i64::from(until.num_seconds_from_midnight() % 600) * 1_000_000_000
                + i64::from(until.nanosecond());
            until.checked_sub_signed(TimeDelta::nanoseconds(past))
        }
    }

    fn resolver(zone: &str, gap: Gap, fold: Fold) -> Resolver {
        Resolver::new(zone_data::current().zone(zone).expect("a zone"), gap, fold)
    }

    /// The instants between two times, forwards; checked to be the same backwards.
    fn between(resolver: &Resolver, rule: &impl CivilRule, from: &str, to: &str) -> Vec<String> {
        let (from, to): (DateTime<Utc>, DateTime<Utc>) =
            (from.parse().expect("a time"), to.parse().expect("a time"));
        let mut forwards = Vec::new();
        let mut time = from;
        while let Some(next) = next_after(resolver, rule, time).filter(|next| *next < to) {
            assert!(next > time);
            forwards.push(next);
            time = next;
        }
        let mut backwards = Vec::new();
        let mut time = to;
        while let Some(previous) = previous_before(resolver, rule, time).filter(|previous| *previous > from) {
            assert!(previous < time);
            backwards.push(previous);
            time = previous;
        }
        backwards.reverse();
        assert_eq!(forwards, backwards);
        let shown = |time: &DateTime<Utc>| {
            let offset = resolver.zone().span_at(time.timestamp_millis()).offset / 1_000;
            let offset = FixedOffset::east_opt(offset as i32).expect("less than a day");
            time.with_timezone(&offset).format("%d %H:%M%:z").to_string()
        };
        forwards.iter().map(shown).collect()
    }

    fn daily(hour: u32, minute: u32) -> Daily {
        Daily(NaiveTime::from_hms_opt(hour, minute, 0).expect("a time"))
    }

    #[test]
    fn a_gap_shifts_follows_or_skips() {
        let march = |gap| {
            let resolver = resolver("America/New_York", gap, Fold::First);
            between(&resolver, &daily(2, 30), "2026-03-07T12:00:00Z", "2026-03-09T12:00:00Z")
        };

        assert_eq!(march(Gap::Shift), ["08 03:30-04:00", "09 02:30-04:00"]);
        assert_eq!(march(Gap::AfterGap), ["08 03:00-04:00", "09 02:30-04:00"]);
        assert_eq!(march(Gap::Skip), ["09 02:30-04:00"]);
    }

    #[test]
    fn a_fold_fires_first_second_or_both() {
        let november = |fold| {
            let resolver = resolver("America/New_York", Gap::Shift, fold);
            between(&resolver, &daily(1, 30), "2026-10-31T12:00:00Z", "2026-11-02T12:00:00Z")
        };

        assert_eq!(november(Fold::First), ["01 01:30-04:00", "02 01:30-05:00"]);
        assert_eq!(november(Fold::Second), ["01 01:30-05:00", "02 01:30-05:00"]);
        assert_eq!(november(Fold::Both), ["01 01:30-04:00", "01 01:30-05:00", "02 01:30-05:00"]);
    }

    #[test]
    fn shifted_times_that_meet_others_are_one_tick() {
        let resolver = resolver("Europe/Berlin", Gap::Shift, Fold::First);

        let ticks = between(&resolver, &TenMinutes, "2026-03-29T00:45:00Z", "2026-03-29T01:25:00Z");

        assert_eq!(ticks, ["29 01:50+01:00", "29 03:00+02:00", "29 03:10+02:00", "29 03:20+02:00"]);
    }

    #[test]
    fn half_an_hour_of_daylight_saving_time_is_no_trap() {
        let resolver = resolver("Australia/Lord_Howe", Gap::Shift, Fold::Both);

        let spring = between(&resolver, &daily(2, 15), "2026-10-03T00:00:00Z", "2026-10-05T00:00:00Z");
        let autumn = between(&resolver, &daily(1, 45), "2026-04-04T00:00:00Z", "2026-04-05T20:00:00Z");

        assert_eq!(spring, ["04 02:45+11:00", "05 02:15+11:00"]);
        assert_eq!(autumn, ["05 01:45+11:00", "05 01:45+10:30", "06 01:45+10:30"]);
    }

    #[test]
    fn midnight_can_be_in_a_gap() {
        let resolver = resolver("America/Sao_Paulo", Gap::Shift, Fold::First);

        let ticks = between(&resolver, &daily(0, 0), "2018-11-03T12:00:00Z", "2018-11-05T12:00:00Z");

        assert_eq!(ticks, ["04 01:00-02:00", "05 00:00-02:00"]);
    }

    #[test]
    fn a_lost_day_is_a_gap_of_a_day() {
        let lost = |gap| {
            let resolver = resolver("Pacific/Apia", gap, Fold::First);
            between(&resolver, &daily(9, 0), "2011-12-29T00:00:00Z", "2012-01-01T00:00:00Z")
        };

        assert_eq!(lost(Gap::Skip), ["29 09:00-10:00", "31 09:00+14:00", "01 09:00+14:00"]);
        // The lost day's time, shifted by a day, meets that of the following day.
        assert_eq!(lost(Gap::Shift), ["29 09:00-10:00", "31 09:00+14:00", "01 09:00+14:00"]);
        assert_eq!(
            lost(Gap::AfterGap),
            ["29 09:00-10:00", "31 00:00+14:00", "31 09:00+14:00", "01 09:00+14:00"]
        );
    }

    #[test]
    fn a_repeated_day_is_a_fold_of_a_day() {
        let resolver = resolver("Pacific/Kwajalein", Gap::Shift, Fold::Both);

        let ticks = between(&resolver, &daily(12, 30), "1969-09-29T00:00:00Z", "1969-10-02T12:00:00Z");

        assert_eq!(ticks.len(), 4, "{ticks:?}");
    }

    #[test]
    fn the_limits_of_time_do_not_panic() {
        for zone in ["UTC", "Pacific/Apia", "America/New_York", "Pacific/Kiritimati", "Etc/GMT+12"] {
            let resolver = resolver(zone, Gap::Shift, Fold::First);

            for rule in [daily(0, 0), daily(23, 59)] {
                assert_eq!(next_after(&resolver, &rule, DateTime::<Utc>::MAX_UTC), None);
                assert_eq!(previous_before(&resolver, &rule, DateTime::<Utc>::MIN_UTC), None);
                assert!(next_after(&resolver, &rule, DateTime::<Utc>::MIN_UTC).is_some());
                assert!(previous_before(&resolver, &rule, DateTime::<Utc>::MAX_UTC).is_some());
            }
        }
    }
}
