//! Periods and numbers of schedules.

use super::*;

/// What is wrong with a schedule; nothing if it fires.
fn wrong<K>(definition: Definition<K>) -> String
where
    Definition<K>: Into<Definition> + Clone,
{
    let fires =
        |_| definition.preview(START.parse().expect("an instant"), 3).map(|preview| preview.lines().len());
    match definition.check().and_then(fires) {
        Ok(lines) => {
            assert!(lines > 0, "it fires");
            String::new()
        }
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn periods_are_a_millisecond_to_a_hundred_years() {
    let century = secs(36_525 * 86_400);
    for period in [MILLI, century] {
        assert_eq!(wrong(every(period)), "");
        assert_eq!(wrong(random(MILLI, period)), "");
        assert_eq!(wrong(every(secs(10)).jitter(period)), "");
    }
    let (zero, nano, long) =
        ("a period is not zero", "a period is at least 1 ms", "a period is at most a hundred years");
    let max = "213503982334601d7h15s999ms999us999ns";
    for (period, text, rule) in [
        (Duration::ZERO, "0s", zero),
        (NANO, "1ns", nano),
        (Duration::MAX, max, long),
        (century + MILLI, "36525d1ms", long),
    ] {
        for (subject, refused) in [
            ("every", wrong(every(period))),
            ("random.min", wrong(random(period, period))),
            ("random.max", wrong(random(MILLI, period))),
            ("jitter", wrong(every(secs(10)).jitter(period))),
        ] {
            let rule = if subject == "jitter" { rule.replace("a period", "jitter") } else { rule.to_owned() };
            assert!(
                refused.contains(&format!("{subject} \"{text}\": {rule}")),
                "{subject} {text}: {refused}"
            );
        }
    }
    // As they are written, zero has two texts and one meaning.
    for text in ["0s", "0ns", "0m"] {
        assert_eq!(schedule::parse_duration(text), Ok(Duration::ZERO));
        assert_eq!(wrong(every(text)), format!("every \"{text}\": {zero}; write a period of at least 1 ms"));
    }
}

#[test]
fn every_so_many_days_weeks_and_months() {
    let from = "2026-01-31T00:00:00Z";
    for (one, most, refused) in [
        (
            wrong(daily().every(1)),
            wrong(daily().every(36_525).starting_at(from)),
            [0, 36_526, u32::MAX].map(|n| wrong(daily().every(n))),
        ),
        (
            wrong(weekly().on([Weekday::Mon]).every(1)),
            wrong(weekly().on([Weekday::Mon]).every(5_217).starting_at(from)),
            [0, 5_218, u32::MAX].map(|n| wrong(weekly().every(n))),
        ),
        (
            wrong(monthly().on([1]).every(1)),
            wrong(monthly().on([1]).every(1_200).starting_at(from)),
            [0, 1_201, u32::MAX].map(|n| wrong(monthly().every(n))),
        ),
    ] {
        assert_eq!((one, most), (String::new(), String::new()));
        for (fault, value) in refused.iter().zip(["\"0\"", "5", "4294967295"]) {
            assert!(fault.contains(value) || fault.contains("36526") || fault.contains("1201"), "{fault}");
            assert!(
                fault.contains("at most") || fault.contains("from 1") || fault.contains("at least"),
                "{fault}"
            );
        }
    }
    for day in [1, 31, -1, -31] {
        assert_eq!(wrong(monthly().on([day])), "");
    }
    for day in [0, 32, -32, i32::MIN, i32::MAX] {
        let refused = wrong(monthly().on([day]));
        assert!(refused.contains(&format!("\"{day}\"")), "{refused}");
    }
    for instant in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        // The one is over, the other is to come or out of range: either way there is an answer.
        let _ = at(instant).preview(START.parse().expect("an instant"), 3);
    }
}
