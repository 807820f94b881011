//! What a person does with the page, and what the engine says of it afterwards.

use std::time::Duration;

use callsheet::{
    Callsheet, ErrorKind, Job, JobOperation, JobState, JobStatus, Operations, Run, RunHistory, RunOrigin,
    RunResult, StoredJob, Task,
    schedule::every,
    schemars::{self, JsonSchema},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    alice,
    browser::{Browser, WIDE},
    cluster::{Served, Store, stop},
    quiet,
};

struct Stage {
    node: Callsheet,
    served: Served,
    browser: Browser,
}

impl Stage {
    async fn with(jobs: impl IntoIterator<Item = Job>) -> Self {
        let node = Store::new().node(Callsheet::builder().jobs(jobs)).await;
        let served = Served::of(&node, alice());
        Self { node, served, browser: Browser::start(WIDE).await }
    }

    async fn job(&self, name: &str) -> JobStatus {
        self.node.details(name).await.expect("it is there")
    }

    async fn end(self) {
        self.browser.end().await;
        self.served.stop().await;
        stop(self.node).await;
    }
}

#[actix_web::test]
async fn a_job_is_run_paused_and_resumed_with_who_and_why() {
    let stage = Stage::with([quiet("import")]).await;
    let Stage { node, served, browser } = &stage;
    browser.open(&served.url, "job?job=import").await;

    browser.click("Run now").await;
    browser.fill("Reason", "the feed came late").await;
    browser.confirm("Run now").await;
    browser.shows("import: started").await;
    let run = loop {
        let page = node.runs(RunHistory::new()).await.expect("a history is kept");
        match page.runs.into_iter().next() {
            Some(run) => break run,
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    let RunOrigin::Trigger { by: Some(by), .. } = &run.origin else { panic!("{run:?}") };
    assert_eq!(by.as_str(), "alice");

    browser.click("Pause").await;
    browser.fill("Why", "the disk is full").await;
    browser.confirm("Pause").await;
    browser.shows("until it is resumed: the disk is full").await;
    let pause = stage.job("import").await.pause.expect("it is paused");
    assert_eq!((pause.note.as_deref(), pause.until), (Some("the disk is full"), None));

    browser.click("Resume").await;
    browser.confirm("Resume").await;
    browser.hides("the disk is full\n").await;
    browser.shows("import: resumed").await;
    assert_eq!(stage.job("import").await.pause, None);

    let done = node.operations(Operations::new()).await.expect("a history is kept").operations;
    let of_alice = done.iter().filter(|one| one.by.as_ref().is_some_and(|by| by.as_str() == "alice"));
    let of_alice: Vec<_> = of_alice.map(|one| (one.operation, one.note.as_deref())).collect();
    assert_eq!(
        of_alice,
        [
            (JobOperation::Resumed, None),
            (JobOperation::Paused, Some("the disk is full")),
            (JobOperation::Triggered, Some("the feed came late")),
        ]
    );
    stage.end().await;
}

#[actix_web::test]
async fn a_schedule_is_previewed_before_it_is_saved() {
    let stage = Stage::with([quiet("import")]).await;
    let Stage { served, browser, .. } = &stage;
    browser.open(&served.url, "job?job=import").await;
    let before = stage.job("import").await.schedule;

    browser.click("Change schedule").await;
    browser.fill("Schedule", "61 * * * *").await;
    browser.shows("It is no schedule").await;
    browser.fill("Schedule", "30 2 * * *").await;
    browser.fill("Time zone", "Europe/Lisbon").await;
    browser.shows("Europe/Lisbon").await;
    browser.confirm("See what changes").await;
    browser.shows("Before").await;
    assert_eq!(stage.job("import").await.schedule, before, "nothing is saved before");
    browser.confirm("Save this schedule").await;
    browser.shows("import has another schedule").await;

    let after = stage.job("import").await;
    assert!(
        after.schedule.contains("30 2 * * *") && after.timezone.as_deref() == Some("Europe/Lisbon"),
        "{after:?}"
    );
    // The answer to the wrong schedule is an error of the request, which the browser logs.
    let complaints = stage.browser.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("api/preview") && line.contains("400")),
        "{complaints:?}"
    );
    stage.end().await;
}

#[actix_web::test]
async fn a_backfill_is_counted_before_it_runs() {
    // The store of the other tests keeps no backfills.
    let node = Callsheet::builder().job(quiet("import")).start().await.expect("it is good");
    let served = Served::of(&node, alice());
    let stage = Stage { node, served, browser: Browser::start(WIDE).await };
    let Stage { node, served, browser } = &stage;
    browser.open(&served.url, "job?job=import").await;

    browser.click("Backfill").await;
    browser.confirm("Count the fire times").await;
    browser.shows("would run").await;
    assert!(node.backfills(None).await.expect("it is asked").is_empty());
    let script = "return document.querySelector('dialog[open] button[type=submit]').innerText";
    let action = browser.run(script, vec![]).await;
    browser.confirm(action.as_str().expect("a label")).await;
    browser.shows("began").await;

    assert_eq!(node.backfills(None).await.expect("it is asked").len(), 1);
    stage.end().await;
}

#[actix_web::test]
async fn a_pause_until_no_instant_cannot_be_confirmed() {
    let stage = Stage::with([quiet("import")]).await;
    let Stage { served, browser, .. } = &stage;
    browser.open(&served.url, "job?job=import").await;
    browser.click("Pause").await;
    browser.shows("How long").await;
    let change = "const [selector, value, kind] = arguments;
        const field = document.querySelector(`dialog[open] ${selector}`);
        field.value = value;
        field.dispatchEvent(new Event(kind, { bubbles: true }))";
    browser.run(change, vec![json!("select"), json!("own"), json!("change")]).await;
    browser.shows("in your time").await;
    let is_blocked = "return document.querySelector('dialog[open] button[type=submit]').disabled";
    for (written, fault) in [("", "write a date and a time"), ("2020-01-01T09:00:00", "it has passed")] {
        browser.run(change, vec![json!("[type=datetime-local]"), json!(written), json!("input")]).await;
        browser.shows(fault).await;
        assert_eq!(browser.run(is_blocked, vec![]).await, json!(true), "{written:?}");
    }

    let later = json!("2099-01-01T09:00:00");
    browser.run(change, vec![json!("[type=datetime-local]"), later, json!("input")]).await;
    browser.confirm("Pause").await;

    browser.shows("import: paused").await;
    let until = stage.job("import").await.pause.expect("it is paused").until;
    assert!(until.is_some_and(|until| until.to_string().starts_with("2099-01-01")), "{until:?}");
    stage.end().await;
}

/// It says which number it was told.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Number {
    id: u64,
}

impl Task for Number {
    const NAME: &'static str = "number";
    type State = ();

    async fn run(self, run: Run, (): ()) -> RunResult {
        run.report(self.id.to_string());
        Ok(())
    }
}

#[actix_web::test]
async fn arguments_beyond_what_a_script_counts_stay_as_they_are() {
    let node = Store::new().node(Callsheet::builder().task::<Number>(())).await;
    let stored: StoredJob = serde_json::from_value(json!({
        "schedule": {"every": "1h"}, "task": {"name": "number", "arguments": {"id": 9_007_199_254_740_993_u64}},
    }))
    .expect("a definition");
    node.put("import", &stored).await.expect("it is good");
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "job?job=import").await;
    let shown = "return document.querySelector('dl.facts pre')?.innerText.includes('9007199254740993')";
    browser.until("the arguments are shown", shown, vec![]).await;

    browser.click("Run now").await;
    browser.fill("Arguments of number", "{\"id\": 9007199254740995}").await;
    browser.confirm("Run now").await;
    browser.shows("import: started").await;

    let report = loop {
        let page = node.runs(RunHistory::new()).await.expect("a history is kept");
        match page.runs.into_iter().find_map(|run| run.report) {
            Some(report) => break report,
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(&*report, "9007199254740995");
    browser.end().await;
    served.stop().await;
    stop(node).await;
}

#[actix_web::test]
async fn cancelling_runs_where_none_is_in_progress_says_so() {
    let stage = Stage::with([quiet("import")]).await;
    let Stage { served, browser, .. } = &stage;
    browser.open(&served.url, "job?job=import").await;

    browser.click("More actions").await;
    browser.click("Cancel runs").await;
    browser.confirm("Cancel runs").await;

    browser.shows("import: no run was in progress").await;
    stage.end().await;
}

#[actix_web::test]
async fn a_run_of_another_node_has_a_button_to_cancel_it() {
    let store = Store::new();
    let slow =
        || Job::new("slow", every(Duration::from_hours(1))).run(async |run: Run| run.cancelled().await);
    let leader = store.node(Callsheet::builder().job(slow())).await;
    let follower = store.node(Callsheet::builder().job(slow())).await;
    let run = leader.trigger("slow").await.expect("it runs");
    // What a node is asked for is written by then, once the start was heard of: the other one finds it.
    while leader.runs(RunHistory::new()).await.expect("a history is kept").runs.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let served = Served::of(&follower, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, &format!("run?run={}", run.run())).await;

    browser.click("Cancel").await;

    browser.shows("Cancel a run of slow").await;
    browser.end().await;
    served.stop().await;
    // A shutdown waits for what runs.
    leader.cancel_run(run.run()).await.expect("it runs");
    stop(follower).await;
    stop(leader).await;
}

#[actix_web::test]
async fn a_run_is_cancelled_on_its_page() {
    let waits = Job::new("slow", every(Duration::from_hours(1))).run(async |run: Run| run.cancelled().await);
    let stage = Stage::with([waits]).await;
    let Stage { node, served, browser } = &stage;
    let run = node.trigger("slow").await.expect("it runs");
    browser.open(&served.url, &format!("run?run={}", run.run())).await;

    browser.click("Cancel").await;
    browser.confirm("Cancel the run").await;

    browser.shows("requested").await;
    assert!(stage.job("slow").await.active_runs.is_empty());
    stage.end().await;
}

#[actix_web::test]
async fn many_jobs_are_paused_once_their_count_was_shown() {
    let jobs = (1..=5).map(|n| quiet(&format!("tenant-{n}")).tag("tenants"));
    let stage = Stage::with(jobs.chain([quiet("other")])).await;
    let Stage { served, browser, .. } = &stage;
    browser.open(&served.url, "jobs?tag=tenants").await;
    browser.shows("5 of 6 jobs").await;

    browser.click("Choose all rows that are loaded").await;
    browser.click("Pause").await;
    browser.shows("Pause 5 jobs").await;
    browser.fill("Why", "a migration").await;
    browser.confirm("Pause: 5").await;
    browser.shows("5 jobs: paused").await;

    for n in 1..=5 {
        assert_eq!(stage.job(&format!("tenant-{n}")).await.state, JobState::Paused);
    }
    assert_eq!(stage.job("other").await.pause, None);
    stage.end().await;
}

#[actix_web::test]
async fn a_job_is_removed() {
    let stage = Stage::with([quiet("import"), quiet("other")]).await;
    let Stage { node, served, browser } = &stage;
    browser.open(&served.url, "job?job=import").await;

    browser.click("More actions").await;
    browser.click("Remove the job").await;
    browser.confirm("Remove").await;
    browser.shows("import: removed").await;

    let error = node.details("import").await.expect_err("it is removed");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // The page asks for the job that is gone.
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().all(|line| line.contains("api/job?") && line.contains("404")),
        "{complaints:?}"
    );
    stage.end().await;
}

#[actix_web::test]
async fn a_saved_schedule_leaves_the_rest_of_a_stored_job_as_it_is() {
    let task = crate::hostile::Note { text: "kept".to_owned() };
    let node = Store::new().node(Callsheet::builder().task::<crate::hostile::Note>(())).await;
    let stored: StoredJob = serde_json::from_value(json!({
        "schedule": {"every": "1h"}, "task": {"name": "note", "arguments": task}, "tags": ["a", "b"],
        "policies": {"timeout": "7m"}, "expect": {"success_within": "3h"}, "lock_key": "shared",
    }))
    .expect("a definition");
    node.put("import", &stored).await.expect("it is good");
    let served = Served::of(&node, alice());
    let browser = Browser::start(WIDE).await;
    browser.open(&served.url, "job?job=import").await;

    browser.click("Change schedule").await;
    browser.fill("Schedule", "30 2 * * *").await;
    browser.confirm("See what changes").await;
    browser.confirm("Save this schedule").await;
    browser.shows("import has another schedule").await;

    let kept = |stored: &StoredJob| {
        let mut value = serde_json::to_value(stored).expect("JSON");
        value.as_object_mut().expect("an object").remove("schedule");
        value
    };
    let after = node.stored("import").await.expect("it is there");
    let after: StoredJob = serde_json::from_value(after.definition).expect("a definition");
    assert_eq!(kept(&after), kept(&stored));
    browser.end().await;
    served.stop().await;
    stop(node).await;
}
