//! Tasks: bodies with a name and typed arguments, so that a job can be data.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use callsheet::{
    AddError, AddJob, Arguments, Bodiless, Builder, Callsheet, Job, JobConfig, ListTasks, RescheduleJob, Run,
    RunResult, ScheduledTask, Task, TaskCall, UpdateJob,
    schedule::{IntoSchedule, cron, every},
    schemars::JsonSchema,
    testkit::{Rig, simulate},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod as_json;
mod changed_jobs;
#[path = "../common/mod.rs"]
mod common;
mod refused;
mod triggers;

use common::{details, hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// What tasks did, in order.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Vec<String>>>);

impl Done {
    fn note(&self, what: String) {
        self.0.lock().expect("nobody panicked").push(what);
    }

    /// What was done since it was asked last.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct SendReport {
    to: String,
    #[serde(default)]
    copies: u32,
}

impl SendReport {
    fn to(to: &str) -> Self {
        Self { to: to.to_owned(), copies: 2 }
    }
}

impl Task for SendReport {
    const NAME: &'static str = "send_report";
    type State = Done;

    async fn run(self, run: Run, done: Done) -> RunResult {
        done.note(format!("{}: {} for {}", run.job(), self.copies, self.to));
        match &*self.to {
            "nobody" if run.attempt() == 1 => Err("there is nobody".into()),
            "somebody far away" => {
                run.cancelled().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Cleanup;

impl Task for Cleanup {
    const NAME: &'static str = "cleanup";
    type State = Done;

    async fn run(self, run: Run, done: Done) -> RunResult {
        done.note(run.job().to_string());
        Ok(())
    }
}

impl ScheduledTask for Cleanup {
    const JOB: &'static str = "nightly cleanup";

    fn schedule() -> impl IntoSchedule {
        cron("0 3 * * *")
    }

    fn configure(job: Job<Bodiless>) -> Job<Bodiless> {
        job.tag("housekeeping")
    }
}

/// A node that has the task, and these jobs.
fn node(done: &Done, jobs: impl IntoIterator<Item = Job>) -> Builder {
    node_with(jobs).task::<SendReport>(done.clone())
}

fn report(to: &str) -> Job {
    Job::new("report", every(hours(1))).run_task(SendReport::to(to))
}

fn of_data(name: &str, json: Value) -> Job {
    Job::from_config(name, serde_json::from_value::<JobConfig>(json).expect("the types are right"))
}

fn arguments(json: &Value) -> Arguments {
    Arguments::of(json).expect("they are short")
}

#[test]
fn a_job_runs_a_task_in_whatever_way_it_names_it() {
    simulate(START, async |rig| {
        let done = Done::default();
        let code = |name: &str| Job::new(name, every(hours(1)));
        let call = json!({"name": "send_report", "arguments": {"to": "carol"}});
        let file: JobConfig = serde_json::from_value(json!({"task": call})).expect("it is right");
        let jobs = [
            report("alice"),
            code("by its name").run_task_named("send_report", &json!({"to": "bob"})),
            of_data("data", json!({"schedule": {"every": "1h"}, "task": call})),
            code("code and file").apply(file).run(async |_| Err::<(), _>("the file names a task")),
        ];
        let index = rig.node(node(&done, jobs)).await;

        rig.advance(hours(1)).await;

        let mut ran = done.take();
        ran.sort();
        let expected = [
            "by its name: 0 for bob",
            "code and file: 0 for carol",
            "data: 0 for carol",
            "report: 2 for alice",
        ];
        assert_eq!(ran, expected);
        let shown = details(rig, index, "report").await.task;
        let expected = TaskCall::new("send_report", arguments(&json!({"to": "alice", "copies": 2})));
        assert_eq!(shown, Some(expected));
    });
}

#[test]
fn a_task_that_brings_its_schedule_along_is_registered_in_one_line() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(Callsheet::builder().scheduled::<Cleanup>(done.clone())).await;

        rig.advance(hours(48)).await;

        assert_eq!(done.take(), ["nightly cleanup", "nightly cleanup"]);
        let job = details(rig, index, "nightly cleanup").await;
        assert_eq!(
            (job.tags[0].as_str(), job.task),
            ("housekeeping", Some(TaskCall::new("cleanup", Arguments::default())))
        );
    });
}

#[test]
fn a_job_may_get_other_arguments_and_another_schedule_while_it_runs() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done, [report("alice")])).await;
        rig.advance(hours(1)).await;

        rig.send(index, UpdateJob::new(report("bob"))).await.expect("it is right");
        rig.advance(hours(1)).await;
        rig.send(index, RescheduleJob::new("report", every(hours(2)))).await.expect("it is right");
        rig.advance(hours(2)).await;

        assert_eq!(done.take(), ["report: 2 for alice", "report: 2 for bob", "report: 2 for bob"]);
        let shown = details(rig, index, "report").await.task.expect("it runs one");
        assert_eq!(shown.arguments.as_str(), r#"{"copies":2,"to":"bob"}"#);
    });
}

#[test]
fn a_node_lists_its_tasks_with_their_schemas() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done, []).task::<Cleanup>(done.clone())).await;

        let tasks = rig.send(index, ListTasks).await;

        let names: Vec<_> = tasks.iter().map(|task| &*task.name).collect();
        assert_eq!(names, ["cleanup", "send_report"]);
        let schema = &tasks[1].schema;
        assert_eq!(schema["required"], json!(["to"]), "the other field has a default: {schema}");
        let validator = jsonschema::validator_for(schema).expect("it is a schema");
        for (json, is_right) in
            [(json!({"to": "alice"}), true), (json!({"to": 5}), false), (json!({}), false)]
        {
            assert_eq!(validator.is_valid(&json), is_right, "{json}");
        }
    });
}

/// Each job of a file, and what the file says of it, written and read again.
#[test]
fn a_file_of_jobs_names_tasks() {
    let file = r#"
        [daily]
        schedule = "0 9 * * *"
        policies.timeout = "10m"
        task = { name = "send_report", arguments = { to = "alice", copies = 3 } }

        [nightly]
        schedule = { cron = "0 3 * * *", timezone = "Europe/Lisbon" }
        task.name = "cleanup"
    "#;
    let read: BTreeMap<String, JobConfig> = toml::from_str(file).expect("it is right");

    let done = Done::default();
    let jobs = read.clone().into_iter().map(|(name, config)| Job::from_config(name, config));
    node(&done, jobs).task::<Cleanup>(done.clone()).check().expect("it is right");

    let written = serde_json::to_value(&read).expect("it is data");
    assert_eq!(
        written["daily"]["task"],
        json!({"name": "send_report", "arguments": {"to": "alice", "copies": 3}})
    );
    assert_eq!(written["nightly"]["task"], json!({"name": "cleanup"}), "there are no arguments");
    let again: BTreeMap<String, JobConfig> =
        toml::from_str(&toml::to_string(&read).expect("it is data")).expect("it was written");
    assert_eq!(serde_json::to_value(&again).expect("it is data"), written);
}

#[tokio::test]
async fn a_handle_adds_triggers_and_lists_tasks() {
    let done = Done::default();
    let jobs = node(&done, []).start().await.expect("it starts");

    jobs.add(report("alice")).await.expect("it is right");
    jobs.trigger("report").await.expect("it starts").finished().await;
    jobs.trigger_with("report", &SendReport::to("bob")).await.expect("it starts").finished().await;

    assert_eq!(done.take(), ["report: 2 for alice", "report: 2 for bob"]);
    assert_eq!(jobs.tasks().await.expect("it runs")[0].name, "send_report");
    let refused = jobs.trigger_with("report", &5).await.map(|run| run.run()).expect_err("it is no report");
    assert_eq!(refused.kind(), callsheet::ErrorKind::Invalid);
    let status = jobs.details("report").await.expect("it is there");
    let json = serde_json::to_value(&status).expect("it is data");
    assert_eq!(json["task"], json!({"name": "send_report", "arguments": {"to": "alice", "copies": 2}}));
    assert_eq!(serde_json::from_value::<callsheet::JobStatus>(json).expect("it was written"), status);
    jobs.shutdown(secs(5)).await;
}

async fn added(rig: &mut Rig, node: usize, job: Job) -> Result<(), AddError> {
    rig.send(node, AddJob::new(job)).await.map(drop)
}
