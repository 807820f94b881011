//! When the clocks of every zone change, as a second source has it: see `tests/vectors/README.md`.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{fmt, sync::LazyLock};

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};

/// No clock is further from UTC.
const OFFSET_MAX: i64 = 26 * 3_600;

static CLOCKS: LazyLock<Vec<Clock>> =
    LazyLock::new(|| include_str!("../vectors/zones.txt").lines().skip(1).map(Clock::read).collect());

/// The version of the data, such as `2026f`.
pub(crate) fn version() -> &'static str {
    let first = include_str!("../vectors/zones.txt").lines().next().expect("a first line");
    first.strip_prefix("# IANA ").and_then(|line| line.split(',').next()).expect("a version")
}

/// The clocks that have always been alike.
pub(crate) fn clocks() -> &'static [Clock] {
    &CLOCKS
}

/// All zones.
pub(crate) fn zones() -> impl Iterator<Item = Zone> {
    clocks().iter().flat_map(|clock| clock.names.iter().map(move |name| Zone { name, clock }))
}

pub(crate) fn zone(name: &str) -> Zone {
    zones().find(|zone| zone.name == name).unwrap_or_else(|| panic!("no vectors of {name}"))
}

/// What the clocks of some zones show, from 1970 to 2037.
pub(crate) struct Clock {
    pub(crate) names: Vec<&'static str>,
    first: i32,
    /// The instants in seconds, and the new offset.
    pub(crate) changes: Vec<(i64, i32)>,
    /// Of the offsets after 2037.
    pub(crate) later: u64,
}

impl Clock {
    fn read(line: &'static str) -> Self {
        let parts: Vec<&str> = line.split(';').collect();
        let [names, offsets, changes, later] = parts[..] else { panic!("four parts: {line}") };
        let offsets: Vec<i32> = offsets.split(' ').map(|text| text.parse().expect("seconds")).collect();
        let mut instant = 0;
        let changes = changes.split_inclusive(|c: char| c.is_ascii_uppercase()).map(|change| {
            let (since, letter) = change.split_at(change.len() - 1);
            instant += i64::from_str_radix(since, 36).expect("a number");
            (instant, offsets[usize::from(letter.as_bytes()[0] - b'A')])
        });
        Self {
            names: names.split(' ').collect(),
            first: offsets[0],
            changes: changes.collect(),
            later: u64::from_str_radix(later, 16).expect("a hash"),
        }
    }

    /// The offset that is in force, in seconds.
    pub(crate) fn offset_at(&self, seconds: i64) -> i32 {
        let later = self.changes.partition_point(|(start, _)| *start <= seconds);
        later.checked_sub(1).map_or(self.first, |nth| self.changes[nth].1)
    }

    /// The instants at which the clocks show a civil time, in order: none in a gap, two in a fold.
    fn instants_of(&self, civil: NaiveDateTime) -> Vec<i64> {
        let civil = civil.and_utc().timestamp();
        let near = |start: i64| (start - civil).abs() <= OFFSET_MAX;
        let around = self.changes.iter().filter(|(start, _)| near(*start)).map(|(_, offset)| *offset);
        let mut offsets: Vec<i32> = around.chain([self.offset_at(civil - OFFSET_MAX)]).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let instants = offsets.iter().map(|offset| (civil - i64::from(*offset), *offset));
        let mut shown: Vec<i64> = instants
            .filter(|(instant, offset)| self.offset_at(*instant) == *offset)
            .map(|(at, _)| at)
            .collect();
        shown.sort_unstable();
        shown
    }
}

/// A zone of the second source, as chrono knows zones.
#[derive(Clone, Copy)]
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    pub(crate) clock: &'static Clock,
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The offset of a [`Zone`] at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ZoneOffset {
    zone: Zone,
    offset: FixedOffset,
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offset.fmt(f)
    }
}

impl Offset for ZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.offset
    }
}

impl TimeZone for Zone {
    type Offset = ZoneOffset;

    fn from_offset(offset: &ZoneOffset) -> Self {
        offset.zone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<ZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<ZoneOffset> {
        let instants = self.clock.instants_of(*local);
        let offset = |instant: i64| {
            let instant = DateTime::from_timestamp(instant, 0).expect("in range");
            self.offset_from_utc_datetime(&instant.naive_utc())
        };
        match instants[..] {
            [] => MappedLocalTime::None,
            [one] => MappedLocalTime::Single(offset(one)),
            [first, .., last] => MappedLocalTime::Ambiguous(offset(first), offset(last)),
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> ZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> ZoneOffset {
        let seconds = self.clock.offset_at(utc.and_utc().timestamp());
        ZoneOffset { zone: *self, offset: FixedOffset::east_opt(seconds).expect("less than a day") }
    }
}
