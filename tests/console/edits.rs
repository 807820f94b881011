//! An edit changes what it names, and loses nothing that it does not show.

use std::time::Duration;

use callsheet::{
    Callsheet, Fires, Job, Overlap, Run, RunResult, StoredJob, Task, schedule::every, schemars::JsonSchema,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{console, get, post, quiet, served, started, status, stop};

#[derive(Serialize, Deserialize, JsonSchema)]
struct SendReport {
    to: String,
}

impl Task for SendReport {
    const NAME: &'static str = "send_report";
    type State = ();

    async fn run(self, _: Run, (): ()) -> RunResult {
        Ok(())
    }
}

/// A stored job that uses every member of a definition.
fn definition() -> Value {
    json!({
        "schedule": {"cron": "0 9 * * 1-5", "timezone": "Europe/Lisbon", "jitter": "30s"},
        "task": {"name": "send_report", "arguments": {"to": "alice"}},
        "policies": {"overlap": {"queue": 3}, "timeout": "10m", "misfire": {"latest": {"within": "1h"}}},
        "expect": {"success_within": "1d2h"},
        "lock_key": "reports",
        "tags": ["nightly"],
        "metrics_label": "reports",
        "note": "for the board",
    })
}

async fn with_a_stored_job() -> Callsheet {
    let jobs = Callsheet::builder().task::<SendReport>(()).start().await.expect("it is good");
    let stored: StoredJob = serde_json::from_value(definition()).expect("it is one");
    jobs.put("report", &stored).await.expect("it is stored");
    jobs
}

#[actix_web::test]
async fn a_stored_job_keeps_what_a_patch_does_not_name() {
    let jobs = with_a_stored_job().await;
    let app = served(&console(&jobs)).await;
    let shown = get(&app, "job?job=report").await.json();
    assert_eq!((&shown["editable"], &shown["job"]["definition"]), (&json!("stored"), &definition()));
    let version = shown["job"]["version"].clone();

    let patch = json!({"schedule": {"every": "5m"}, "policies": {"timeout": "20m"}, "note": null});
    let mut body = json!({"job": "report", "version": version, "patch": patch, "dry_run": true});
    let dry = post(&app, "edit", &body).await;
    assert_eq!(dry.status, 200, "{}", dry.text);
    assert_eq!(dry.json()["after"]["schedule"], "every 5m");
    assert_eq!(
        jobs.stored("report").await.expect("it is there").definition,
        definition(),
        "nothing was done"
    );
    body["dry_run"] = json!(false);
    let done = post(&app, "edit", &body).await.json();

    let mut expected = definition();
    expected["schedule"] = json!({"every": "5m"});
    expected["policies"]["timeout"] = json!("20m");
    expected.as_object_mut().expect("an object").remove("note");
    let stands = jobs.stored("report").await.expect("it is there");
    assert_eq!(stands.definition, expected);
    assert_eq!(done["version"], stands.version.to_string());
    assert_eq!(stands.changed_by.map(|by| by.to_string()).as_deref(), Some("alice"));
    stop(jobs).await;
}

#[actix_web::test]
async fn of_two_who_edit_one_version_one_is_told() {
    let jobs = with_a_stored_job().await;
    let app = served(&console(&jobs)).await;
    let version = get(&app, "job?job=report").await.json()["job"]["version"].clone();
    let edit = |minutes: u32| {
        let schedule = json!({"every": format!("{minutes}m")});
        json!({"job": "report", "version": version, "patch": {"schedule": schedule}})
    };

    assert_eq!(post(&app, "edit", &edit(5)).await.status, 200);
    let second = post(&app, "edit", &edit(7)).await;

    assert_eq!((second.status, second.json()["kind"].as_str()), (409, Some("changed")));
    assert_eq!(status(&jobs, "report").await.schedule.as_ref(), "every 5m");
    for patch in [
        json!({"nonsense": 1}),
        json!({"schedule": "61 * * * *"}),
        json!({"task": null}),
        json!({"policies": {"timeout": 7}}),
    ] {
        let version = get(&app, "job?job=report").await.json()["job"]["version"].clone();
        let wrong = post(&app, "edit", &json!({"job": "report", "version": version, "patch": patch})).await;
        assert_eq!(wrong.status, 400, "{patch}: {}", wrong.text);
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn a_job_of_code_gets_another_schedule_and_keeps_everything_else() {
    let job = Job::new("sweep", every(Duration::from_hours(1)))
        .fires(Fires::AnyNode)
        .overlap(Overlap::Queue(3))
        .timeout(Duration::from_secs(20))
        .tag("nightly")
        .lock_key("disk")
        .run(async |_: Run| {});
    let jobs = started([job]).await;
    let app = served(&console(&jobs)).await;
    let before = status(&jobs, "sweep").await;
    let body = json!({"job": "sweep", "patch": {"schedule": {"every": "5m"}}, "schedule_was": "every 1h"});

    assert_eq!(post(&app, "edit", &body).await.status, 200);

    let after = status(&jobs, "sweep").await;
    assert_eq!(after.schedule.as_ref(), "every 5m");
    assert_eq!((after.policies, after.tags, after.lock_key), (before.policies, before.tags, before.lock_key));
    assert_eq!(post(&app, "edit", &body).await.status, 409, "it is not what it was");
    let more = json!({"job": "sweep", "patch": {"schedule": {"every": "5m"}, "tags": []}});
    assert_eq!(post(&app, "edit", &more).await.status, 400);
    stop(jobs).await;
}

#[actix_web::test]
async fn an_edit_of_a_job_that_is_not_there_is_told_so() {
    let jobs = started([quiet("report")]).await;
    let app = served(&console(&jobs)).await;
    let nobody = post(&app, "edit", &json!({"job": "nobody", "patch": {"schedule": "0 9 * * *"}})).await;
    assert_eq!(nobody.status, 404);
    stop(jobs).await;
}
