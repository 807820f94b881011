//! What holds of every schedule, of any kind and in any zone.

use proptest::prelude::*;

use super::*;

/// Any instant that chrono can name, mostly of our time, with nanoseconds.
fn instant() -> impl Strategy<Value = DateTime<Utc>> {
    let limits = (DateTime::<Utc>::MIN_UTC.timestamp(), DateTime::<Utc>::MAX_UTC.timestamp());
    let seconds = prop_oneof![
        6 => 0_i64..4_200_000_000,
        2 => -6_000_000_000_i64..0,
        1 => limits.0..=limits.1,
        1 => prop_oneof![limits.0..limits.0 + 200_000, limits.1 - 200_000..=limits.1],
    ];
    let nanos = prop_oneof![Just(0), 0_u32..1_000_000_000, (0_u32..1_000).prop_map(|ms| ms * 1_000_000)];
    (seconds, nanos).prop_map(|(seconds, nanos)| {
        DateTime::from_timestamp(seconds, nanos).unwrap_or(DateTime::<Utc>::MAX_UTC)
    })
}

fn zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(&TZ_VARIANTS[..])
}

fn gap() -> impl Strategy<Value = Gap> {
    prop_oneof![Just(Gap::Shift), Just(Gap::AfterGap), Just(Gap::Skip)]
}

fn fold() -> impl Strategy<Value = Fold> {
    prop_oneof![Just(Fold::First), Just(Fold::Second), Just(Fold::Both)]
}

/// A civil kind with its options.
fn civil<K>(definition: impl Strategy<Value = Definition<K>>) -> impl Strategy<Value = Definition>
where
    Definition<K>: Into<Definition>,
    K: Civil + fmt::Debug,
{
    (definition, zone(), gap(), fold())
        .prop_map(|(definition, zone, gap, fold)| definition.timezone(zone).gap(gap).fold(fold).into())
}

fn at_times() -> impl Strategy<Value = Vec<NaiveTime>> {
    let time = (0_u32..86_400)
        .prop_map(|second| NaiveTime::from_num_seconds_from_midnight_opt(second, 0).expect("a time of day"));
    prop::collection::vec(time, 0..4)
}

fn weekday() -> impl Strategy<Value = Weekday> {
    (0_u8..7).prop_map(|day| Weekday::try_from(day).expect("a weekday"))
}

/// Of the kinds, each alone.
fn kind() -> BoxedStrategy<Definition> {
    let expression = prop::sample::select(&[
        "* * * * *",
        "*/7 */5 * * *",
        "30 2 * * *",
        "0 0 * * *",
        "0 0 29 2 *",
        "0 0 13 * FRI",
        "59 23 31 12 *",
        "15,45 22-2 * NOV-MAR MON-FRI",
        "*/20 * * * * *",
        "15 30 2 LW * *",
        "0 0 15W,L * MON#2,FRIL",
        "59 59 23 31 12 * 2000-2050/3",
    ]);
    let millis = || (1_u64..100_000_000_000).prop_map(Duration::from_millis);
    prop_oneof![
        4 => civil(expression.prop_map(cron)),
        2 => (millis(), instant()).prop_map(|(period, anchor)| every(period).anchored_at(anchor).into()),
        1 => (millis(), millis(), ".{0,5}").prop_map(|(one, other, seed)| {
            random(one.min(other), one.max(other)).seed(seed).into()
        }),
        2 => civil((1_u32..100, at_times(), instant()).prop_map(|(every, at, anchor)| {
            daily().every(every).at(at).anchored_at(anchor)
        })),
        2 => civil((1_u32..100, at_times(), instant(), prop::collection::vec(weekday(), 1..4), weekday()).prop_map(
            |(every, at, anchor, on, start)| {
                weekly().every(every).at(at).anchored_at(anchor).on(on).week_start(start)
            }
        )),
        2 => civil((1_u32..100, at_times(), instant(), prop::collection::vec(1..32, 0..3)).prop_map(
            |(every, at, anchor, on)| {
                // The first or last day is in every month: there is always a fire time.
                let on = on.into_iter().enumerate().map(|(nth, day)| if nth == 0 { -1 } else { day });
                monthly().every(every).at(at).anchored_at(anchor).on([1]).on(on)
            }
        )),
        1 => prop::collection::vec(instant(), 1..20).prop_map(|instants| at(instants).into()),
    ]
    .boxed()
}

/// What leaves some of every schedule in most cases, and is dense or sparse.
fn calendar_of_some() -> BoxedStrategy<Calendar> {
    let weekdays = prop::collection::vec(weekday(), 0..4);
    let minutes = (0_u32..24, 0_u32..24).prop_filter("not empty", |(from, to)| from != to);
    (weekdays, prop::option::of(minutes), prop::option::of(zone()), kind())
        .prop_map(|(weekdays, minutes, zone, kind)| {
            let mut calendar = calendar("some").dates("2026-03-29").weekdays(weekdays).fire_times(kind);
            if let Some((from, to)) = minutes {
                calendar = calendar.times(format!("{from}:00"), format!("{to}:00"));
            }
            match zone {
                Some(zone) => calendar.timezone(zone.name()),
                None => calendar,
            }
        })
        .boxed()
}

/// Any definition that is right.
fn definition() -> BoxedStrategy<Definition> {
    let combined = prop_oneof![
        3 => kind(),
        1 => prop::collection::vec(kind(), 1..4).prop_map(|members| callsheet::schedule::any(members).into()),
    ];
    let jitter = prop::option::of((1_u64..1_000_000_000).prop_map(Duration::from_millis));
    let window = prop::option::of((instant(), 1_i64..2_000_000_000));
    let except = prop::option::of(calendar_of_some());
    (combined, jitter, window, except)
        .prop_filter_map("a definition may never fire", |(mut definition, jitter, window, except)| {
            if let Some(max) = jitter {
                definition = definition.jitter(max);
            }
            if let Some((start, seconds)) = window {
                let until = start.checked_add_signed(TimeDelta::seconds(seconds))?;
                definition = definition.starting_at(start).until(until);
            }
            if let Some(calendar) = except {
                definition = definition.except(calendar);
            }
            definition.check().is_ok().then_some(definition)
        })
        .boxed()
}

/// How many cases are tried: `PROPTEST_CASES`, or so many.
fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

/// No answer may take longer, on a machine that is busy with other things and without optimisations.
const LONGEST: Duration = Duration::from_secs(20);

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fire_times_are_later_whole_milliseconds_and_nothing_lies_between(
        definition in definition(),
        after in instant(),
        part in 0_u64..1_000,
    ) {
        let started = Instant::now();
        let schedule = good(definition.clone());
        if let Some(next) = schedule.next_after(after) {
            prop_assert!(next > after);
            prop_assert_eq!(next.timestamp_subsec_nanos() % 1_000_000, 0);

            // Any instant in between has the same next one.
            let part = (next - after).num_milliseconds() as i128 * i128::from(part) / 1_000;
            let between = after + TimeDelta::milliseconds(part as i64);
            prop_assert_eq!(schedule.next_after(between), Some(next));

            if let Some(previous) = schedule.previous_before(next) {
                prop_assert!(previous <= after);
                prop_assert_eq!(schedule.next_after(previous), Some(next));
            }
            if let Some(second) = schedule.next_after(next) {
                prop_assert!(second > next);
                prop_assert_eq!(schedule.previous_before(second), Some(next));
            }
            // Another node, and one that has been asked other things before.
            let elsewhere = good(definition);
            elsewhere.previous_before(between);
            prop_assert_eq!(elsewhere.next_after(after), Some(next));
            prop_assert_eq!(elsewhere.to_string(), schedule.to_string());
        }
        if let Some(previous) = schedule.previous_before(after) {
            prop_assert!(previous < after);
        }
        prop_assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
    }

    #[test]
    fn what_is_written_as_data_is_read_back(definition in definition(), after in instant()) {
        let json = serde_json::to_string(&definition).expect("it is right");
        let toml = toml::to_string(&definition).expect("it is right");

        let from_json: Definition = serde_json::from_str(&json).expect("it was written");
        let from_toml: Definition = toml::from_str(&toml).expect("it was written");

        prop_assert_eq!(serde_json::to_string(&from_json).expect("it is right"), &json[..]);
        prop_assert_eq!(serde_json::to_string(&from_toml).expect("it is right"), &json[..]);
        prop_assert_eq!(good(from_json).next_after(after), good(definition.clone()).next_after(after));
        prop_assert_eq!(from_toml.describe(), definition.describe());
    }

    #[test]
    fn people_can_ask_about_any_definition(definition in definition(), after in instant()) {
        let preview = definition.preview(after, 5).expect("it is right");
        let schedule = good(definition.clone());

        let mut now = after;
        for time in preview.fire_times() {
            prop_assert_eq!(schedule.next_after(now), Some(time));
            now = time;
        }
        prop_assert!(!definition.describe().expect("it is right").is_empty());
        for warning in definition.lint(after).expect("it is right") {
            prop_assert!(!warning.to_string().is_empty());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}", zone in "\\PC{0,20}") {
        let _ = cron(&text).timezone(zone).check().map_err(|faults| faults.to_string());
        let _ = parse_duration(&text).map_err(|fault| fault.to_string());
        let _ = at(text.as_str()).check();
        let _ = text.parse::<Definition>();
    }

    #[test]
    fn no_text_that_looks_like_cron_makes_it_panic(
        text in "(TZ=[A-Z/]{0,4} )?[-*/,?#0-9LWHFRIJANMO@é]{0,6}( [-*/,?#0-9LWHFRIJANMO@é]{1,6}){0,6}",
        after in instant(),
    ) {
        match cron(&text).into_schedule() {
            Ok(schedule) => {
                let _ = (schedule.next_after(after), schedule.previous_before(after));
                let _ = (cron(&text).describe(), cron(&text).lint(after));
            }
            Err(faults) => prop_assert!(!faults.to_string().is_empty()),
        }
    }
}
