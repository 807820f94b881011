//! Schedules as data: the same in JSON and TOML, round-tripping, with errors that name the path.

use callsheet::schedule::{
    Definition, Fold, Gap, IntoSchedule, JSON_SCHEMA, Schedule, Weekday::*, any, at, calendar, cron, custom,
    daily, every, monthly, random, weekly,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Every kind and every option, as JSON and as it is written in Rust.
fn table() -> Vec<(Value, Definition)> {
    vec![
        (
            json!({"cron": "0 9 * * 1-5", "timezone": "Europe/Lisbon"}),
            cron("0 9 * * 1-5").timezone("Europe/Lisbon").into(),
        ),
        (
            json!({"cron": "TZ=Asia/Tokyo 30 4 L * *", "gap": "after_gap", "fold": "both"}),
            cron("TZ=Asia/Tokyo 30 4 L * *").gap(Gap::AfterGap).fold(Fold::Both).into(),
        ),
        (
            json!({"every": "5m", "anchored_at": "2026-01-01T00:00:00Z"}),
            every("5m").anchored_at("2026-01-01T00:00:00Z").into(),
        ),
        (json!({"every": "5m", "from_completion": true}), every("5m").from_completion().into()),
        (json!({"random": {"min": "1m", "max": "5m"}}), random("1m", "5m").into()),
        (json!({"random": {"min": "1m", "max": "5m", "seed": "x"}}), random("60s", "300s").seed("x").into()),
        (
            json!({"daily": {"every": 2, "at": ["09:30", "18:00:15"], "anchored_at": "2026-01-01T00:00:00Z"}}),
            daily().every(2).at(["09:30", "18:00:15"]).anchored_at("2026-01-01T00:00:00Z").into(),
        ),
        (
            json!({"weekly": {
                "every": 2, "on": ["mon", "thu"], "at": ["09:30"], "week_start": "sunday",
                "anchored_at": "2026-01-01T00:00:00Z"
            }, "gap": "skip", "fold": "second"}),
            weekly()
                .every(2)
                .on([Mon, Thu])
                .at("09:30")
                .week_start(Sun)
                .anchored_at("2026-01-01T00:00:00Z")
                .gap(Gap::Skip)
                .fold(Fold::Second)
                .into(),
        ),
        (
            json!({"monthly": {
                "every": 1, "on": [1, -1], "at": ["00:00"], "anchored_at": "2026-01-01T00:00:00Z"
            }, "gap": "shift", "fold": "first"}),
            monthly()
                .on([1, -1])
                .at("00:00")
                .anchored_at("2026-01-01T00:00:00Z")
                .gap(Gap::Shift)
                .fold(Fold::First)
                .into(),
        ),
        (json!({"at": ["2026-12-24T18:00:00Z"]}), at("2026-12-24T18:00:00+00:00").into()),
        (
            json!({"any": [{"every": "1h"}, {"any": [{"cron": "@daily"}]}], "timezone": "Europe/Lisbon"}),
            any([every("1h").into(), any([cron("@daily").into()]).into()]).timezone("Europe/Lisbon").into(),
        ),
        (
            json!({
                "every": "1h",
                "except": [
                    {
                        "name": "holidays",
                        "timezone": "Europe/Lisbon",
                        "dates": ["2026-12-25"],
                        "ranges": [{"first": "2026-12-31", "last": "2027-01-01"}]
                    },
                    {"weekdays": ["sun"], "times": [{"from": "22:00", "to": "06:00"}]},
                    {"schedules": [{"cron": "0 12 * * *"}]}
                ],
                "starting_at": "2026-01-01T00:00:00.5Z",
                "until": "2027-01-01T00:00:00Z",
                "jitter": "30s"
            }),
            every("1h")
                .jitter("30s")
                .until("2027-01-01T00:00:00Z")
                .starting_at("2026-01-01T00:00:00.500Z")
                .except(
                    calendar("holidays")
                        .timezone("Europe/Lisbon")
                        .dates("2026-12-25")
                        .range("2026-12-31", "2027-01-01"),
                )
                .except(calendar("nights and Sundays").weekdays([Sun]).times("22:00", "06:00"))
                .except(calendar("noon").fire_times(cron("0 12 * * *")))
                .into(),
        ),
    ]
}

fn compiled(definition: &Definition) -> std::sync::Arc<dyn Schedule> {
    definition.clone().into_schedule().unwrap_or_else(|faults| panic!("{faults}"))
}

/// The coming fire times, and the last ones.
fn fire_times(definition: &Definition) -> Vec<DateTime<Utc>> {
    let schedule = compiled(definition);
    let mut times = Vec::new();
    let mut now = "2026-03-28T12:00:00Z".parse().expect("a time");
    for _ in 0..100 {
        let Some(next) = schedule.next_after(now) else { break };
        times.push(next);
        now = next;
    }
    times
}

#[test]
fn each_kind_and_option_is_read_as_it_is_written_in_rust_and_round_trips() {
    for (json, in_rust) in table() {
        let read: Definition =
            serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"));

        assert_eq!(fire_times(&read), fire_times(&in_rust), "{json}");
        let written = serde_json::to_value(&read).expect("it is right");
        let again: Definition = serde_json::from_value(written.clone()).expect("it was written");
        assert_eq!(serde_json::to_value(&again).expect("it is right"), written);
        assert_eq!(compiled(&again).to_string(), compiled(&read).to_string());
        assert_eq!(again.describe(), read.describe());
        // The calendars of the table have no names in JSON, where Rust has to give one.
        if json.get("except").is_none() {
            assert_eq!(written, serde_json::to_value(&in_rust).expect("it is right"));
            assert_eq!(compiled(&read).to_string(), compiled(&in_rust).to_string());
        }
        let (written, json) = (written.to_string(), json.to_string());
        assert_eq!(written.replace(".500Z", ".5Z"), json.replace(".500Z", ".5Z"));
        // The same text through `FromStr`.
        let parsed: Definition = json.parse().expect("it is right");
        assert_eq!(fire_times(&parsed), fire_times(&in_rust));
    }
}

/// Wherever a schedule may stand, and the same with its keys.
fn bare_texts() -> Vec<(Value, Value)> {
    vec![
        (json!("0 9 * * 1-5"), json!({"cron": "0 9 * * 1-5"})),
        (json!("CRON_TZ=Europe/Lisbon @daily"), json!({"cron": "CRON_TZ=Europe/Lisbon @daily"})),
        (
            json!({"any": ["0 9 * * *", {"any": ["@hourly"]}], "timezone": "Europe/Lisbon"}),
            json!({"any": [{"cron": "0 9 * * *"}, {"any": [{"cron": "@hourly"}]}], "timezone": "Europe/Lisbon"}),
        ),
        (
            json!({"every": "1h", "except": [{"schedules": ["0 12 * * *"]}]}),
            json!({"every": "1h", "except": [{"schedules": [{"cron": "0 12 * * *"}]}]}),
        ),
    ]
}

#[test]
fn a_text_alone_is_a_cron_expression() {
    for (bare, keyed) in bare_texts() {
        let read: Definition =
            serde_json::from_value(bare.clone()).unwrap_or_else(|error| panic!("{bare}: {error}"));

        assert_eq!(serde_json::to_value(&read).expect("it is right"), keyed, "it is written with its key");
    }
    let toml: std::collections::BTreeMap<String, Definition> =
        toml::from_str(r#"schedule = "0 9 * * 1-5""#).expect("it is right");
    assert_eq!(compiled(&toml["schedule"]).to_string(), "cron 0 9 * * 1-5 (UTC)");
}

/// Types of ours that nobody can name are in no message.
#[test]
fn errors_say_what_is_expected_and_name_no_internal_type() {
    const SCHEDULE: &str =
        r#"expected a schedule: a cron expression as text, or an object such as {"every": "5m"}"#;
    let calendar =
        "expected a calendar: an object with `dates`, `ranges`, `weekdays`, `times` or `schedules`";
    let table = [
        (json!(5), format!("invalid type: integer `5`, {SCHEDULE}")),
        (json!(null), format!("invalid type: null, {SCHEDULE}")),
        (json!({"any": ["0 9 * * *", true]}), format!("any[1]: invalid type: boolean `true`, {SCHEDULE}")),
        (json!({"any": ["0 9 * *"]}), "any[0].cron \"0 9 * *\": ".to_owned()),
        (json!({"random": "1m"}), r#"random: invalid type: string "1m", expected an object with `min` and `max`"#.into()),
        (
            json!({"daily": "09:30"}),
            r#"daily: invalid type: string "09:30", expected an object with `every`, `at` or `anchored_at`"#.into(),
        ),
        (json!({"weekly": "mon"}), r#"weekly: invalid type: string "mon", expected an object with `on`"#.into()),
        (json!({"monthly": 1}), "monthly: invalid type: integer `1`, expected an object with `on`".into()),
        (
            json!({"every": "1h", "except": ["2026-12-25"]}),
            format!(r#"except[0]: invalid type: string "2026-12-25", {calendar}"#),
        ),
        (
            json!({"every": "1h", "except": [{"ranges": ["2026-12-25"]}]}),
            r#"except[0].ranges[0]: invalid type: string "2026-12-25", expected an object with `first` and `last`"#.into(),
        ),
        (
            json!({"every": "1h", "except": [{"times": ["22:00"]}]}),
            r#"except[0].times[0]: invalid type: string "22:00", expected an object with `from` and `to`"#.into(),
        ),
    ];
    for (json, expected) in table {
        let error = serde_json::from_value::<Definition>(json.clone()).expect_err(&expected).to_string();

        assert!(error.starts_with(&expected), "{json}: {error}");
        assert!(!error.contains("Form"), "{error}");
    }
}

#[test]
fn toml_is_the_same() {
    #[derive(Debug, Serialize, Deserialize)]
    struct File {
        schedule: Definition,
    }

    for (json, in_rust) in table() {
        let toml = toml::to_string(&json!({ "schedule": json })).expect("it is TOML as well");

        let read: File = toml::from_str(&toml).unwrap_or_else(|error| panic!("{toml}: {error}"));

        assert_eq!(fire_times(&read.schedule), fire_times(&in_rust), "{toml}");
        let again: File =
            toml::from_str(&toml::to_string(&read).expect("it is right")).expect("it was written");
        assert_eq!(compiled(&again.schedule).to_string(), compiled(&read.schedule).to_string());
    }
}

#[test]
fn all_forms_meet_the_json_schema() {
    let schema: Value = serde_json::from_str(JSON_SCHEMA).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");

    for (json, in_rust) in table() {
        assert!(validator.is_valid(&json), "{json}");
        assert!(validator.is_valid(&serde_json::to_value(&in_rust).expect("it is right")), "{json}");
    }
    for (json, _) in bare_texts() {
        assert!(validator.is_valid(&json), "{json}");
    }
    for json in [
        json!({}),
        json!(5),
        json!(["0 9 * * *"]),
        json!({"any": [5]}),
        json!({"cron": "0 9 * * *", "every": "5m"}),
        json!({"evry": "5m"}),
        json!({"every": 5}),
        json!({"every": null}),
        json!({"every": "5m", "gap": "fall_through"}),
        json!({"daily": {"at": "09:30"}}),
        json!({"daily": {"every": 0}}),
        json!({"weekly": {"at": ["09:30"]}}),
        json!({"monthly": {"on": [32]}}),
        json!({"at": []}),
        json!({"any": [{"daily": {"and": "more"}}]}),
        json!({"every": "5m", "except": [{"days": ["2026-12-25"]}]}),
    ] {
        assert!(!validator.is_valid(&json), "{json}");
        assert!(serde_json::from_value::<Definition>(json.clone()).is_err(), "{json}");
    }
}

#[test]
fn errors_name_the_path_the_value_the_rule_and_the_cure() {
    const KINDS: &str = "cron, every, random, daily, weekly, monthly, at and any";
    let table = [
        (json!({}), format!(r#"schedule "": a schedule has exactly one of the keys {KINDS}; add one"#)),
        (
            json!({"cron": "0 9 * * *", "every": "5m"}),
            format!(
                r#"schedule "cron, every": a schedule has exactly one of the keys {KINDS}; keep one; `any` holds a list of schedules"#
            ),
        ),
        (
            json!({"any": [{"every": "5m"}, {"timezone": "UTC"}]}),
            format!(r#"any[1].schedule "": a schedule has exactly one of the keys {KINDS}; add one"#),
        ),
        (
            json!({"weekly": {"on": ["mon"], "days": []}}),
            "weekly.days: unknown field `days`, expected one of `every`, `on`, `at`, `week_start`, `anchored_at`"
                .into(),
        ),
        (json!({"weekly": {}}), "weekly: missing field `on`".into()),
        (
            json!({"any": [{"daily": {"every": -1}}]}),
            "any[0].daily.every: invalid value: integer `-1`, expected u32".into(),
        ),
        (json!({"every": null}), "every: invalid type: null, expected a string".into()),
        (
            json!({"any": [{"every": "5m"}, {"daily": {"at": ["09:30", "24:00"]}}]}),
            "any[1].daily.at[1] \"24:00\": a day ends before 24:00; write `00:00`, which begins the following day"
                .into(),
        ),
        (
            json!({"every": "5m", "gap": "skip"}),
            "gap \"skip\": `every` has no civil times of its own, so that `gap` means nothing; remove it".into(),
        ),
        (
            json!({"cron": "0 9 * * *", "gap": "skp", "fold": "twice"}),
            "gap \"skp\": it is one of shift, after_gap, skip; write one of these\nfold \"twice\": it is one of first, \
             second, both; write one of these"
                .into(),
        ),
        (
            json!({"daily": {}, "anchored_at": "2026-01-01T00:00:00Z"}),
            "anchored_at \"2026-01-01T00:00:00Z\": `anchored_at` stands beside `every` only, and not beside `daily`; \
             move it into `daily`"
                .into(),
        ),
        (
            json!({"every": "5m", "except": [{"dates": ["2026-02-30"]}, {"schedules": [{"every": "0s"}]}]}),
            "except[0].dates[0] \"2026-02-30\": there is no such day in the calendar; write year, month and day, for \
             example `2026-12-24`\nexcept[1].schedules[0].every \"0s\": a period is not zero; write a period of at \
             least 1 ms"
                .into(),
        ),
        (
            json!({"cron": "@daily", "from_completion": true}),
            "from_completion \"true\": `from_completion` stands beside `every` only, and not beside `cron`; remove it"
                .into(),
        ),
        (
            json!({"every": "5m", "except": [{"schedules": [{"fold": "both"}]}]}),
            format!(r#"except[0].schedules[0].schedule "": a schedule has exactly one of the keys {KINDS}; add one"#),
        ),
    ];
    for (json, expected) in table {
        let error = serde_json::from_value::<Definition>(json.clone()).expect_err(&expected);

        assert_eq!(error.to_string(), expected, "{json}");
    }
}

#[test]
fn texts_are_read_at_once() {
    let refused = |text: &str| text.parse::<Definition>().expect_err(text).to_string();

    assert_eq!(
        refused("{\"every\": \"5m\"} x"),
        "schedule \"{\\\"every\\\": \\\"5m\\\"} x\": trailing characters at line 1 column 17; write an object with \
         one kind, for example `{\"every\": \"5m\"}`"
    );
    assert_eq!(
        refused("{\"every\": }"),
        "schedule \"{\\\"every\\\": }\": every: expected value at line 1 column 11; write an object with one kind, \
         for example `{\"every\": \"5m\"}`"
    );
    assert!(refused("0 25 * * *").starts_with("cron \"0 25 * * *\": column 3: `25` is not an hour"));
    assert!(refused("").starts_with("cron \"\": column 1: an expression is not empty"));
}

#[test]
fn what_is_wrong_or_of_the_application_is_not_written() {
    let wrong: Definition = every("0s").into();
    let own: Definition = any([custom(compiled(&every("5m").into())).into()]).into();

    assert_eq!(
        serde_json::to_string(&wrong).expect_err("it is wrong").to_string(),
        "every \"0s\": a period is not zero; write a period of at least 1 ms"
    );
    assert_eq!(
        serde_json::to_string(&own).expect_err("it has no form").to_string(),
        "a schedule of the application cannot be stored as data; use one of the kinds"
    );
}

/// Each layer asks the one below several times, so that many of them would take minutes for one answer.
#[test]
fn layers_of_jitter_have_a_limit() {
    let nested = |layers: usize| {
        let mut text = r#"{"every": "1s", "jitter": "1s"}"#.to_owned();
        for _ in 1..layers {
            text = format!(r#"{{"any": [{text}], "jitter": "1s"}}"#);
        }
        text.parse::<Definition>().map(drop).map_err(|faults| faults.to_string())
    };

    assert_eq!(nested(3), Ok(()));
    assert_eq!(
        nested(4),
        Err("jitter \"1s\": jitter lies at most 3 deep within other jitter; give it to the outermost schedule alone"
            .to_owned())
    );
    assert!(nested(16).is_err());
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| {
        let mut text = r#"{"every": "5m"}"#.to_owned();
        for _ in 0..depth {
            text = format!(r#"{{"any": [{text}]}}"#);
        }
        text.parse::<Definition>().map(drop).map_err(|faults| faults.to_string())
    };

    assert_eq!(nested(16), Ok(()));
    let refused = nested(17).expect_err("it is too deep");
    assert!(
        refused.ends_with("schedules lie at most 16 deep within each other; take some layers away"),
        "{refused}"
    );
    assert!(nested(1_000).expect_err("it is far too deep").contains("recursion limit exceeded"));
}
