//! The JSON Schema of stored jobs, made from types that say what serde reads: see the test.

#![allow(dead_code, reason = "only their schema is of use")]

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{STORED_JOB_SCHEMA, StoredJob};
use crate::schedule::JSON_SCHEMA;

/// A job as the catalogue stores it, without its name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StoredJob")]
struct Stored {
    /// When it is due.
    schedule: Value,
    /// What it runs.
    task: Task,
    #[serde(default)]
    #[schemars(with = "Policies")]
    policies: Option<Policies>,
    #[serde(default)]
    #[schemars(with = "Expectations")]
    expect: Option<Expectations>,
    /// What its runs exclude. If it is left out: the name of the job.
    lock_key: Option<Name>,
    /// By what it is selected.
    #[serde(default)]
    #[schemars(with = "Vec<Name>")]
    tags: Option<Vec<Name>>,
    /// The label of its metrics. If it is left out: the name of the job.
    metrics_label: Option<Name>,
    /// Whether it is deleted after its last run. It fires on the leader then. If it is left out: false.
    #[serde(default)]
    #[schemars(with = "bool")]
    remove_when_done: Option<bool>,
    /// Whether it is to run. If it is left out: true.
    #[serde(default)]
    #[schemars(with = "bool")]
    enabled: Option<bool>,
    /// What people say of it, at most 1,000 bytes.
    note: Option<String>,
}

/// 1 to 200 bytes without control characters.
#[derive(Deserialize, JsonSchema)]
struct Name(#[schemars(length(min = 1, max = 200))] String);

/// Whole numbers with units: `1h 30m`, `500ms`.
#[derive(Deserialize, JsonSchema)]
struct Duration(#[schemars(length(min = 2))] String);

/// A task that nodes have registered.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Task {
    /// The name by which it is registered.
    name: Name,
    /// Its arguments, as its own schema describes them.
    #[serde(default)]
    arguments: Value,
}

/// The policies of the job. What is left out has its default.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Policies {
    /// Which nodes fire it.
    fires: Option<Fires>,
    /// What happens to a tick during a run of the same lock key.
    overlap: Option<Overlap>,
    /// What happens to ticks whose time passed without a run.
    misfire: Option<Misfire>,
    /// What happens to a run whose node died.
    on_lost: Option<OnLost>,
    /// The lateness up to which a tick is on time.
    misfire_after: Option<Duration>,
    /// What happens when an attempt fails.
    retry: Option<Retry>,
    /// How long an attempt may take.
    timeout: Option<Duration>,
    /// The time between cancelling a run and aborting it.
    abort_after: Option<Duration>,
    /// How many ticks run in all.
    #[schemars(range(min = 1))]
    limit: Option<u64>,
    /// It is paused after so many failures in a row.
    #[schemars(range(min = 1))]
    pause_after: Option<u32>,
    /// Who goes first when more runs want to start than the node may run at once: the greater.
    priority: Option<i8>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Fires {
    Leader,
    AnyNode,
    Local,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Overlap {
    Skip,
    /// Up to so many ticks wait.
    Queue(#[schemars(range(min = 1, max = 1_000))] u32),
    Replace,
    /// Up to so many runs at once.
    Allow(#[schemars(range(min = 1, max = 1_000))] u32),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Misfire {
    Auto,
    /// One catch-up run for the newest missed tick.
    Latest {
        /// The greatest lateness of a catch-up run.
        within: Duration,
    },
    /// Catch-up runs for the newest missed ticks.
    All {
        /// How many ticks are made up for at most.
        #[schemars(range(min = 1))]
        max: u32,
        /// The greatest lateness of a tick that is made up for.
        within: Duration,
    },
    Skip,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnLost {
    Record,
    Retry,
}

/// Further attempts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Retry {
    /// How many attempts a run has in all.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000))]
    attempts: u32,
    /// The pause after the first attempt.
    #[serde(default)]
    #[schemars(with = "Duration")]
    initial: Option<Duration>,
    /// How much longer each pause is than the one before.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000))]
    factor: f64,
    /// The longest pause.
    #[serde(default)]
    #[schemars(with = "Duration")]
    max: Option<Duration>,
    /// The part of a pause that varies.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    jitter: f64,
}

/// What is expected of the job, so that it is told when it is not so.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expectations {
    /// It succeeds at least so often.
    success_within: Option<Duration>,
    /// A run starts so soon after its time.
    start_within: Option<Duration>,
    /// A run ends so soon after its start.
    end_within: Option<Duration>,
    /// A run takes at least so long.
    at_least: Option<Duration>,
}

/// The schema, with that of the schedule in it.
fn made() -> Value {
    let mut schema = schemars::schema_for!(Stored).to_value();
    let mut schedule: Value = serde_json::from_str(JSON_SCHEMA).expect("it is JSON");
    let of_schedule = schedule.as_object_mut().expect("it is an object");
    of_schedule.remove("$schema");
    let defs = of_schedule.remove("$defs").expect("it has some");
    let all = schema["$defs"].as_object_mut().expect("it has some");
    for (name, mut schema) in defs.as_object().expect("they have names").clone() {
        refer(&mut schema);
        assert!(all.insert(name.clone(), schema).is_none(), "two are called {name}");
    }
    refer(&mut schedule);
    all.insert("Schedule".to_owned(), schedule);
    schema["properties"]["schedule"] = json!({"description": "When it is due.", "$ref": "#/$defs/Schedule"});
    // Defaults are those of the job, not of these types.
    without_defaults(&mut schema);
    schema
}

/// What refers to the whole schema of the schedule refers to a part now.
fn refer(schema: &mut Value) {
    each_object(schema, &mut |object| {
        if object.get("$ref") == Some(&json!("#")) {
            object.insert("$ref".to_owned(), json!("#/$defs/Schedule"));
        }
    });
}

fn without_defaults(schema: &mut Value) {
    each_object(schema, &mut |object| {
        if object.get("default").is_some_and(|default| !default.is_object()) {
            object.remove("default");
        }
    });
}

fn each_object(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            change(object);
            object.values_mut().for_each(|value| each_object(value, change));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| each_object(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The file is made from the types: after a change of theirs, run this test with `WRITE_SCHEMA=1`.
#[test]
fn the_schema_is_that_of_the_types() {
    let made = made();
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/stored_job.schema.json");
        let written = serde_json::to_string_pretty(&made).expect("it is JSON") + "\n";
        std::fs::write(path, written).expect("the file can be written");
        return;
    }

    // Not their texts: the order of keys is a feature of `serde_json`, which any dependency may switch on.
    let stands: Value = serde_json::from_str(STORED_JOB_SCHEMA).expect("it is JSON");
    assert_eq!(stands, made, "run this test with WRITE_SCHEMA=1");
}

fn minimal() -> Value {
    json!({"schedule": "0 9 * * *", "task": {"name": "send_report"}})
}

/// The keys of an object at a path that serde itself names when it meets another one.
fn known_keys(path: &[&str]) -> Vec<String> {
    let mut job = minimal();
    let within = path.iter().fold(&mut job, |value, key| &mut value[*key]);
    within["no such key"] = json!(1);
    let told = serde_json::from_value::<StoredJob>(job).expect_err("there is no such key").to_string();
    let (_, known) = told.split_once("expected ").unwrap_or_else(|| panic!("{told}"));
    let mut keys: Vec<_> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    keys.sort();
    keys
}

#[test]
fn the_schema_has_the_keys_that_are_read_and_no_others() {
    let schema: Value = serde_json::from_str(STORED_JOB_SCHEMA).expect("it is JSON");
    let table = [
        (&schema, [].as_slice()),
        (&schema["$defs"]["Task"], &["task"]),
        (&schema["$defs"]["Policies"], &["policies"]),
        (&schema["$defs"]["Retry"], &["policies", "retry"]),
        (&schema["$defs"]["Expectations"], &["expect"]),
    ];
    for (schema, path) in table {
        let keys: Vec<_> = schema["properties"].as_object().expect("it has some").keys().cloned().collect();
        assert_eq!((keys, &schema["additionalProperties"]), (known_keys(path), &json!(false)), "{path:?}");
    }
}

#[test]
fn the_schema_takes_what_is_read_and_refuses_what_is_not() {
    let schema: Value = serde_json::from_str(STORED_JOB_SCHEMA).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let with = |key: &str, value: Value| {
        let mut job = minimal();
        job[key] = value;
        job
    };
    let policy = |key: &str, value: Value| with("policies", json!({key: value}));
    let good = [
        minimal(),
        with(
            "schedule",
            json!({"any": [{"every": "1h"}, {"cron": "0 9 * * *", "timezone": "Europe/Lisbon"}]}),
        ),
        with("task", json!({"name": "send_report", "arguments": [1, null, {"to": "alice"}]})),
        with("tags", json!(["mail", "night"])),
        with("lock_key", json!(null)),
        with("enabled", json!(false)),
        with("note", json!("ask alice")),
        with("expect", json!({"success_within": "26h", "at_least": "1s"})),
        policy("fires", json!("any_node")),
        policy("overlap", json!({"queue": 3})),
        policy("overlap", json!("replace")),
        policy("misfire", json!({"all": {"max": 10, "within": "1h"}})),
        policy("misfire", json!("auto")),
        policy("on_lost", json!("retry")),
        policy("retry", json!({"attempts": 3, "initial": "10s", "factor": 2.5, "max": "1m", "jitter": 0.0})),
        policy("timeout", json!("10m")),
        policy("limit", json!(5)),
        policy("priority", json!(-3)),
    ];
    let bad = [
        json!("0 9 * * *"),
        json!({"schedule": "0 9 * * *"}),
        json!({"task": {"name": "send_report"}}),
        with("schedule", json!({"every": "1h", "cron": "0 9 * * *"})),
        with("schedule", json!({"every": 5})),
        with("task", json!("send_report")),
        with("task", json!({"arguments": {}})),
        with("colour", json!("blue")),
        with("tags", json!("mail")),
        with("enabled", json!("no")),
        with("expect", json!({"success": "26h"})),
        policy("fires", json!("everybody")),
        policy("overlap", json!({"queue": "three"})),
        policy("misfire", json!({"latest": {}})),
        policy("retry", json!({"attempts": "three"})),
        policy("retry", json!(3)),
        policy("timeout", json!(10)),
        policy("priority", json!(1.5)),
        policy("limit", json!(-1)),
    ];
    for (job, is_good) in good.iter().map(|job| (job, true)).chain(bad.iter().map(|job| (job, false))) {
        let read = serde_json::from_value::<StoredJob>(job.clone());
        assert_eq!((validator.is_valid(job), read.is_ok()), (is_good, is_good), "{job}: {read:?}");
    }
}
