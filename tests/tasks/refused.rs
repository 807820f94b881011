//! What is wrong with tasks and their arguments is told early, with its path.

use callsheet::{ARGUMENTS_BYTES_MAX, ErrorKind, Fault};
use serde::Deserializer;

use super::*;

/// Its arguments cannot be read without a panic.
#[derive(Serialize, JsonSchema)]
struct Fragile(bool);

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let breaks = bool::deserialize(deserializer)?;
        assert!(!breaks, "it broke");
        Ok(Self(breaks))
    }
}

impl Task for Fragile {
    const NAME: &'static str = "fragile";
    type State = ();

    async fn run(self, _: Run, (): ()) -> RunResult {
        Ok(())
    }
}

fn named(name: &str, json: &Value) -> Job {
    Job::new("report", every(hours(1))).run_task_named(name, json)
}

fn faults(builder: &Builder) -> Vec<Fault> {
    builder.check().map_err(|faults| faults.into_vec()).err().unwrap_or_default()
}

#[test]
fn a_job_that_does_not_fit_its_task_is_refused_with_the_path() {
    let call = json!({"name": "send_report", "arguments": {"to": "bob"}});
    let table = [
        (
            named("send_reprot", &json!({"to": "bob"})),
            "job \"report\": task \"send_reprot\": no task of this name is registered on this node; register it \
             (`Builder::task`), or name one of fragile, send_report",
        ),
        (
            named("send_report", &json!({"to": 5})),
            "job \"report\": arguments of task \"send_report\" \"{\\\"to\\\":5}\": to: invalid type: integer `5`, \
             expected a string; write them as the task's JSON Schema says",
        ),
        (
            named("send_report", &json!({"to": "bob", "copies": -1})),
            "job \"report\": arguments of task \"send_report\" \"{\\\"copies\\\":-1,\\\"to\\\":\\\"bob\\\"}\": copies: \
             invalid value: integer `-1`, expected u32; write them as the task's JSON Schema says",
        ),
        (
            named("send_report", &Value::Null),
            "job \"report\": arguments of task \"send_report\" \"null\": missing field `to`; write them as the task's \
             JSON Schema says",
        ),
        (
            named("fragile", &json!(true)),
            "job \"report\": arguments of task \"fragile\" \"true\": reading them panicked: it broke; mend its \
             `Deserialize`",
        ),
        (
            of_data("report", json!({"task": call})),
            "job \"report\": schedule \"\": a job has a schedule; say when it is due",
        ),
        (
            of_data("report", json!({"schedule": "@daily"})),
            "job \"report\": task \"\": a job without code runs a task; name one that is registered",
        ),
    ];
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done, []).task::<Fragile>(())).await;
        for (job, told) in table {
            let at_start = node(&done, [job.clone()]).task::<Fragile>(());
            assert_eq!(at_start.check().map_err(|faults| faults.to_string()), Err(told.to_owned()));

            let error = added(rig, index, job).await.expect_err(told);

            assert_eq!((error.to_string(), error.kind()), (told.to_owned(), ErrorKind::Invalid));
        }
        added(rig, index, named("fragile", &json!(false))).await.expect("the node goes on");
    });
}

#[test]
fn a_change_to_arguments_that_do_not_fit_leaves_the_job_as_it_was() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done, [report("alice")])).await;

        let refused = rig.send(index, UpdateJob::new(named("send_report", &json!({"to": [1]})))).await;

        let error = refused.expect_err("it is no text").to_string();
        assert!(error.contains("to: invalid type: sequence, expected a string"), "{error}");
        rig.advance(hours(1)).await;
        assert_eq!(done.take(), ["report: 2 for alice"]);
    });
}

#[test]
fn several_faults_of_tasks_are_told_at_once() {
    let done = Done::default();
    let long = "x".repeat(ARGUMENTS_BYTES_MAX);
    let builder = node(&done, [named("a", &json!({})), report("bob").timeout(std::time::Duration::ZERO)])
        .job(Job::new("long", every(hours(1))).run_task(SendReport::to(&long)))
        .task::<SendReport>(done.clone());

    let told: Vec<_> = faults(&builder).into_iter().map(|fault| (fault.subject, fault.rule)).collect();

    let too_long = "the arguments of a task have at most 65,536 bytes as JSON, these have 65,556";
    let expected = [
        ("job \"report\": task", "no task of this name is registered on this node"),
        ("job \"report\": timeout", "a timeout is at least 1 ms"),
        ("job \"long\": arguments", too_long),
        ("task name", "a task of this name is registered"),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(subject, rule)| (subject.to_owned(), rule.to_owned())).collect();
    assert_eq!(told, expected);
}

/// A task whose name, or whose schema, is wrong.
macro_rules! wrong_task {
    ($task:ident, $name:expr, $schema:expr) => {
        #[derive(Serialize, Deserialize)]
        struct $task;

        impl JsonSchema for $task {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($task).into()
            }

            fn json_schema(_: &mut callsheet::schemars::SchemaGenerator) -> callsheet::schemars::Schema {
                $schema
            }
        }

        impl Task for $task {
            const NAME: &'static str = $name;
            type State = ();

            async fn run(self, _: Run, (): ()) -> RunResult {
                Ok(())
            }
        }
    };
}

wrong_task!(BadName, "a\u{7}b", true.into());
wrong_task!(BadSchema, "bad_schema", panic!("it has none"));

#[test]
fn a_task_whose_name_or_schema_is_wrong_is_refused_at_the_start() {
    let builder = Callsheet::builder().task::<BadName>(()).task::<BadSchema>(());

    let told: Vec<_> = faults(&builder).iter().map(ToString::to_string).collect();

    let expected = [
        "task name \"a\\u{7}b\": a name has no control characters, character 2 is '\\u{7}'; remove it",
        "task \"bad_schema\": its JSON Schema panicked when it was made; mend its `JsonSchema`",
    ];
    assert_eq!(told, expected);
}

/// A job says what is wrong with it before there is a node: all but its task, which only a node knows.
#[test]
fn a_job_alone_is_checked_but_for_its_task() {
    named("whatever", &json!({})).check().expect("no node was asked");
    let long = "x".repeat(ARGUMENTS_BYTES_MAX);

    let error = report(&long).check().expect_err("it is too long").to_string();

    assert!(error.starts_with("job \"report\": arguments ") && error.len() < 2_000, "{error}");
    let file: Result<JobConfig, _> =
        serde_json::from_value(json!({"task": {"name": "a", "arguments": long}}));
    let error = file.expect_err("it is too long").to_string();
    assert!(error.starts_with("task.arguments: ") && error.contains("at most 65,536 bytes"), "{error}");
}
