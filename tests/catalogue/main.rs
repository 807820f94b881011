//! Jobs that are stored as data: all nodes hold what the catalogue has, whoever changed it, and one bad job harms no
//! other. One-shots run once and are gone; overrides of jobs of code hold across deploys.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    AddJob, Builder, Callsheet, DeleteJob, ErrorKind, Job, JobDetails, JobOperation, ListJobs, ListStored,
    Operations, PutJob, RemoveJobs, RescheduleJob, Run, RunResult, Selector, StoredDetails, StoredHere,
    StoredJob, StoredJobError, StoredStatus, Task, UpdateJob, WhyUnconfirmed,
    port::{CatalogueQuery, CatalogueRow, Expected},
    schedule::{Definition, every},
    schemars::JsonSchema,
    testkit::{Rig, simulate},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod bad_data;
#[path = "../common/mod.rs"]
mod common;
mod nodes;
mod one_shots;
mod overrides;
mod random;

use common::{hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// What the task did, in order.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<Vec<String>>>);

impl Done {
    /// What was done since it was asked last.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Say {
    what: String,
}

impl Task for Say {
    const NAME: &'static str = "say";
    type State = Done;

    async fn run(self, run: Run, done: Done) -> RunResult {
        done.0.lock().expect("nobody panicked").push(format!("{}: {}", run.job(), self.what));
        Ok(())
    }
}

fn node(done: &Done) -> Builder {
    node_with([]).task::<Say>(done.clone())
}

fn says(what: &str) -> Value {
    json!({"schedule": {"every": "1h"}, "task": {"name": "say", "arguments": {"what": what}}})
}

fn stored(json: Value) -> StoredJob {
    serde_json::from_value(json).expect("it is right")
}

async fn put(rig: &mut Rig, node: usize, job: &str, json: Value) -> StoredStatus {
    rig.send(node, PutJob::new(job, &stored(json))).await.expect("it is right")
}

/// How a stored job stands on a node.
async fn here(rig: &mut Rig, node: usize, job: &str) -> StoredHere {
    rig.send(node, StoredDetails(job.to_owned())).await.expect("it is stored").here
}

/// The jobs that a node holds.
async fn held(rig: &mut Rig, node: usize) -> Vec<String> {
    let page = rig.send(node, ListJobs::default()).await;
    page.jobs.iter().map(|job| job.name.to_string()).collect()
}

#[test]
fn a_stored_job_runs_on_whichever_node_and_after_a_restart_of_all() {
    simulate(START, async |rig| {
        let done = Done::default();
        let (first, second) = (rig.node(node(&done)).await, rig.node(node(&done)).await);
        rig.advance(secs(1)).await;

        let status = put(rig, second, "report", says("hello")).await;
        assert_eq!(status.here, StoredHere::Held, "the node that was asked knows it when it answers");
        rig.advance(secs(1)).await;
        for node in [first, second] {
            assert_eq!(held(rig, node).await, ["report"], "within a second");
        }
        let shown = rig.send(first, JobDetails("report".to_owned())).await.expect("it is there");
        assert_eq!(shown.stored, Some(status.version));
        rig.advance(hours(2)).await;
        assert_eq!(done.take(), ["report: hello", "report: hello"], "each tick once");

        rig.kill(first);
        rig.kill(second);
        let third = rig.node(node(&done)).await;
        rig.advance(hours(2)).await;
        assert_eq!(held(rig, third).await, ["report"]);
        assert!(done.take().len() >= 2);

        rig.send(third, DeleteJob::new("report")).await.expect("it is stored");
        assert_eq!(held(rig, third).await, [""; 0]);
        rig.advance(hours(2)).await;
        assert_eq!(done.take(), [""; 0]);
    });
}

#[test]
fn a_changed_definition_takes_the_place_of_the_former_one_on_all_nodes() {
    simulate(START, async |rig| {
        let done = Done::default();
        for _ in 0..2 {
            rig.node(node(&done)).await;
        }
        rig.advance(secs(1)).await;
        put(rig, 0, "report", says("old")).await;
        rig.advance(hours(1)).await;

        put(rig, 1, "report", says("new")).await;
        rig.advance(hours(1)).await;
        assert_eq!(done.take(), ["report: old", "report: new"]);

        let mut off = says("off");
        off["enabled"] = json!(false);
        put(rig, 0, "report", off).await;
        rig.advance(hours(1)).await;
        assert_eq!((done.take(), held(rig, 1).await), (Vec::new(), Vec::new()), "it is not to run");
        assert_eq!(here(rig, 1, "report").await, StoredHere::Disabled);
        put(rig, 0, "report", says("on")).await;
        rig.advance(hours(1)).await;
        assert_eq!(done.take(), ["report: on"]);
    });
}

#[test]
fn of_two_writers_at_once_one_is_told_the_newer_version() {
    simulate(START, async |rig| {
        let done = Done::default();
        for _ in 0..2 {
            rig.node(node(&done)).await;
        }
        let read = put(rig, 0, "report", says("first")).await;
        let change = |what: &str| {
            PutJob::new("report", &stored(says(what))).expecting(Expected::Version(read.version))
        };

        rig.send(0, change("zero's")).await.expect("it came first");
        let late = rig.send(1, change("one's")).await.expect_err("the other one came first");

        assert_eq!(late.kind(), ErrorKind::Exists);
        let StoredJobError::Elsewhere { standing: Some(row), .. } = late else { panic!("{late}") };
        assert!(row.version > read.version && row.definition.is_some_and(|text| text.contains("zero's")));
        let absent = PutJob::new("report", &stored(says("x"))).expecting(Expected::Absent);
        rig.send(1, absent).await.expect_err("there is one");
        rig.advance(hours(1)).await;
        assert_eq!(done.take(), ["report: zero's"]);
    });
}

#[test]
fn each_change_is_an_operation_in_the_history() {
    simulate(START, async |rig| {
        let done = Done::default();
        for _ in 0..2 {
            rig.node(node(&done)).await;
        }
        let alice = callsheet::By::new("alice").expect("a good name");
        let why = callsheet::Note::new("she asked").expect("a good note");

        let change = PutJob::new("report", &stored(says("hello"))).by(alice.clone()).note(why);
        let status = rig.send(0, change).await.expect("it is right");
        rig.send(1, DeleteJob::new("report").by(alice.clone())).await.expect("it is stored");
        rig.advance(secs(1)).await;

        assert_eq!(status.changed_by, Some(alice.clone()));
        // A node writes what it has recorded before it is asked.
        rig.send(1, Operations::new()).await.expect("it is kept");
        let kept = rig.send(0, Operations::new()).await.expect("it is kept").operations;
        let told: Vec<_> =
            kept.iter().rev().map(|one| (one.operation, one.by.clone(), one.note.is_some())).collect();
        let expected =
            [(JobOperation::Stored, Some(alice.clone()), true), (JobOperation::Deleted, Some(alice), false)];
        assert_eq!(told, expected, "once, and not by each node that hears of it");
        assert_eq!(kept[1].detail.as_deref(), Some(&*says("hello").to_string()));
    });
}

#[test]
fn stored_jobs_are_listed_page_by_page_and_found() {
    simulate(START, async |rig| {
        let index = rig.node(node(&Done::default())).await;
        for nth in 0..5 {
            let mut json = says("x");
            json["tags"] = json!([if nth % 2 == 0 { "even" } else { "odd" }]);
            put(rig, index, &format!("job {nth}"), json).await;
        }
        let mut query = CatalogueQuery::default();
        query.limit = 3;

        let first = rig.send(index, ListStored(query.clone())).await.expect("it answers");
        query.after = first.next.clone();
        let second = rig.send(index, ListStored(query.clone())).await.expect("it answers");
        (query.after, query.tag) = (None, Some("odd".to_owned()));
        let odd = rig.send(index, ListStored(query)).await.expect("it answers");

        let names = |jobs: &[StoredStatus]| jobs.iter().map(|job| job.job.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (first.jobs.len(), names(&second.jobs), second.next),
            (3, vec!["job 3".into(), "job 4".into()], None)
        );
        assert_eq!(names(&odd.jobs), ["job 1", "job 3"]);
        let json = serde_json::to_value(&odd).expect("it is data");
        assert_eq!(
            (&json["jobs"][0]["here"], &json["jobs"][0]["definition"]["tags"]),
            (&json!("held"), &json!(["odd"]))
        );
    });
}

/// They would change it on one node only.
#[test]
fn messages_about_jobs_of_code_leave_stored_ones_alone() {
    simulate(START, async |rig| {
        let done = Done::default();
        let index = rig.node(node(&done)).await;
        put(rig, index, "report", says("hello")).await;
        let code = || Job::new("report", every(hours(3))).run(async |_| {});

        let errors = [
            rig.send(index, AddJob::new(code())).await.expect_err("it is stored").to_string(),
            rig.send(index, UpdateJob::new(code())).await.expect_err("it is stored").to_string(),
            rig.send(index, RescheduleJob::new("report", every(hours(3))))
                .await
                .expect_err("it is")
                .to_string(),
            rig.send(index, RemoveJobs::new("report")).await.expect_err("it is stored").to_string(),
        ];
        assert!(errors[1..].iter().all(|error| error.contains("stored")), "{errors:?}");
        assert_eq!(rig.send(index, RemoveJobs::new(Selector::All)).await, Ok(Vec::new()));
        assert_eq!(held(rig, index).await, ["report"]);
    });
}

#[tokio::test]
async fn an_embedded_scheduler_keeps_stored_jobs_while_it_runs() {
    let done = Done::default();
    let jobs = node(&done).start().await.expect("it starts");
    let alice = jobs.by("alice").expect("a good name");

    let status = alice.put("report", &stored(says("hello"))).await.expect("it is right");
    jobs.trigger("report").await.expect("it is there").finished().await;

    assert_eq!(done.take(), ["report: hello"]);
    assert_eq!(jobs.stored("report").await.expect("it is stored"), status);
    assert_eq!(jobs.list_stored(CatalogueQuery::default()).await.expect("it answers").jobs, [status]);
    jobs.delete("report").await.expect("it is stored");
    let gone = jobs.stored("report").await.expect_err("it is gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    jobs.shutdown(secs(5)).await;
}
