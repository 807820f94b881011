//! Jobs that are data in a file: edited by hand, changed by the node, shared by several.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use callsheet::{
    Builder, Callsheet, ErrorKind, JobName, ListJobs, Run, RunHistory, RunResult, Settings, StoredHere,
    StoredJob, Task,
    catalogue::FileCatalogue,
    port::{Catalogue, CatalogueChange, CatalogueError, CatalogueQuery, Changed, Expected},
    schemars::JsonSchema,
    testkit::conformance,
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

mod by_hand;

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Say {
    what: String,
}

impl Task for Say {
    const NAME: &'static str = "say";
    type State = ();

    async fn run(self, run: Run, (): ()) -> RunResult {
        run.report(self.what);
        Ok(())
    }
}

fn builder(file: FileCatalogue) -> Builder {
    Callsheet::builder().task::<Say>(()).catalogue(file)
}

async fn node(file: FileCatalogue) -> Callsheet {
    builder(file).start().await.expect("it starts")
}

fn says(what: &str) -> Value {
    json!({"schedule": {"every": "1h"}, "task": {"name": "say", "arguments": {"what": what}}})
}

fn stored(json: Value) -> StoredJob {
    serde_json::from_value(json).expect("it is right")
}

fn name(job: &str) -> JobName {
    JobName::new(job).expect("a good name")
}

fn put(job: &str, what: &str) -> CatalogueChange {
    CatalogueChange::put(Uuid::new_v4(), name(job), says(what).to_string())
}

fn file(directory: &TempDir, name: &str) -> PathBuf {
    directory.path().join(name)
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waits).await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

async fn held(node: &Callsheet) -> Vec<String> {
    let page = node.list(ListJobs::default()).await.expect("it answers");
    page.jobs.iter().map(|job| job.name.to_string()).collect()
}

async fn holds(node: &Callsheet, jobs: &[&str]) {
    until(&format!("it holds {jobs:?}"), async || held(node).await == jobs).await;
}

/// What a run of a job said.
async fn said(node: &Callsheet, job: &str) -> String {
    let run = node.trigger(job).await.expect("it is there");
    let id = run.run();
    run.finished().await;
    let runs = node.runs(RunHistory::new().job(name(job))).await.expect("it is kept").runs;
    let run = runs.into_iter().find(|one| one.run == id).expect("it is recorded");
    run.report.expect("it said something").to_string()
}

fn names_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_either_form_is_a_catalogue() {
    let directory = TempDir::new().expect("a directory");
    for name in ["jobs.toml", "jobs.json"] {
        let catalogue = FileCatalogue::at(file(&directory, name));
        conformance::catalogue(Arc::new(catalogue.clone()), Arc::new(catalogue)).await;
    }
    let left = names_in(directory.path());
    assert_eq!(left, [".jobs.json.lock", ".jobs.toml.lock", "jobs.json", "jobs.toml"]);
}

#[tokio::test]
async fn a_stored_job_is_in_the_file_and_is_there_after_a_restart() {
    let directory = TempDir::new().expect("a directory");
    for name in ["jobs.toml", "jobs.json"] {
        let path = file(&directory, name);
        let first = node(FileCatalogue::at(&path)).await;
        let status = first.put("report", &stored(says("hello"))).await.expect("it is right");
        assert_eq!(status.here, StoredHere::Held, "the node that was asked knows it when it answers");
        first.shutdown(Duration::from_secs(5)).await;

        let again = node(FileCatalogue::at(&path)).await;
        holds(&again, &["report"]).await;
        assert_eq!(said(&again, "report").await, "hello");
        let late = again.put_if("report", &stored(says("late")), Expected::Version(status.version)).await;
        assert_eq!(late.expect_err("of another process").kind(), ErrorKind::Exists);
        again.delete("report").await.expect("it is stored");
        holds(&again, &[]).await;
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(!text.contains("report"), "{text}");
        again.shutdown(Duration::from_secs(5)).await;
    }
}

/// As two processes do: nothing but the file is shared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_that_write_one_file_none_loses_what_another_wrote() {
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "jobs.json");
    let catalogues: Vec<_> = (0..3).map(|_| FileCatalogue::at(&path)).collect();

    let changes: Vec<_> = (0..60).map(|nth| put(&format!("job {nth:02}"), "hello")).collect();
    let writes = changes.iter().enumerate().map(|(nth, change)| catalogues[nth % 3].change(change));
    let answers = join_all(writes).await;

    assert!(answers.iter().all(|answer| matches!(answer, Ok(Changed::Done(_)))), "{answers:?}");
    for catalogue in &catalogues {
        let page = catalogue.list(&CatalogueQuery::default()).await.expect("an answer");
        assert_eq!(page.rows.len(), 60);
    }
    // Of two that expect what both have read, one is told.
    let mut read = Vec::new();
    for catalogue in &catalogues {
        read.push(catalogue.get(&name("job 07")).await.expect("an answer").expect("it is there").version);
    }
    let changes: Vec<_> =
        read.iter().map(|v| put("job 07", "mine").expecting(Expected::Version(*v))).collect();
    let answers = join_all(catalogues.iter().zip(&changes).map(|(one, change)| one.change(change))).await;
    let done = answers.iter().filter(|answer| matches!(answer, Ok(Changed::Done(_)))).count();
    assert_eq!(done, 1, "{answers:?}");
    let changes: Vec<_> =
        read.iter().map(|v| put("job 08", &format!("{v}")).expecting(Expected::Absent)).collect();
    let answers = join_all(catalogues.iter().zip(&changes).map(|(one, change)| one.change(change))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Changed::Elsewhere(Some(_))))), "{answers:?}");
}

#[tokio::test]
async fn what_cannot_be_written_is_told_and_nothing_is_changed() {
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "jobs.toml");
    let catalogue = FileCatalogue::at(&path);
    catalogue.change(&put("job", "hello")).await.expect("an answer");
    let before = fs::read_to_string(&path).expect("it is there");
    let null = json!({"task": {"name": "say", "arguments": {"what": null}}}).to_string();
    let null = CatalogueChange::put(Uuid::new_v4(), name("null"), null);
    let no_json = CatalogueChange::put(Uuid::new_v4(), name("no json"), "{");

    for (change, told) in [(null, "task.arguments.what: TOML has no null"), (no_json, "it is no JSON")] {
        let refused = catalogue.change(&change).await.expect_err(told);
        assert!(matches!(refused, CatalogueError::BadData { .. }), "{refused:?}");
        assert!(refused.to_string().contains(told), "{refused}");
    }
    let nowhere = FileCatalogue::at(directory.path().join("nowhere").join("jobs.toml"));
    let refused = nowhere.change(&put("job", "hello")).await.expect_err("there is no directory");
    assert!(refused.to_string().contains("nowhere/jobs.toml\": it could not be locked"), "{refused}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), before);
    assert_eq!(names_in(directory.path()), [".jobs.toml.lock", "jobs.toml"]);
}

/// Another process that has the lock, and does not let it go.
#[tokio::test]
async fn a_lock_that_nobody_frees_is_told_in_time_and_questions_go_on() {
    let directory = TempDir::new().expect("a directory");
    let path = file(&directory, "jobs.toml");
    let catalogue = FileCatalogue::at(&path);
    catalogue.change(&put("job", "hello")).await.expect("an answer");
    let lock = fs::File::open(file(&directory, ".jobs.toml.lock")).expect("it is there");
    lock.lock().expect("nobody has it");

    let refused = catalogue.change(&put("job", "late")).await.expect_err("somebody has it");

    assert!(refused.to_string().contains("another process has changed it"), "{refused}");
    assert!(catalogue.get(&name("job")).await.expect("an answer").is_some());
    lock.unlock().expect("it is held");
    assert!(matches!(catalogue.change(&put("job", "late")).await, Ok(Changed::Done(_))));
}

#[tokio::test]
async fn another_extension_is_told_when_a_node_starts() {
    let refused =
        builder(FileCatalogue::at("jobs.yaml")).start().await.err().expect("it is no form of a file");

    let told = "catalogue \"jobs.yaml\": a file of jobs is TOML or JSON, by its extension";
    assert!(refused.to_string().contains(told), "{refused}");
}
