//! A file as a backend beside another one: what is on it is kept, and what is not is not.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, JobHistory, JobName, Outcome, RunHistory, backend::Local, port::SystemClock, prelude::*,
};

use crate::place;

const KEPT: &str = "kept";
/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

/// A node with the same two jobs on memory, and on a file.
async fn start(path: &Path) -> Callsheet {
    let memory = Local::new(std::sync::Arc::new(SystemClock::default()));
    let job = |name: &str| Job::new(name, every(Duration::from_hours(24))).run(async |_| {});
    Callsheet::builder()
        .backend(memory)
        .backend_named(KEPT, Local::at(path))
        .jobs([job("rest"), job("invoices").on(KEPT)])
        .start()
        .await
        .expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_on_a_file_keeps_what_one_beside_it_forgets() {
    let (_directory, path) = place();
    let jobs = start(&path).await;
    for name in ["rest", "invoices"] {
        let ended = jobs.trigger(name).await.expect("it starts").finished().await;
        assert_eq!(ended, Outcome::Succeeded, "{name}");
        jobs.pause(name).await.expect("it is paused");
    }
    assert_eq!(jobs.shutdown(Duration::from_secs(10)).await.aborted, 0);

    let jobs = start(&path).await;

    let is_paused = async |name: &str| jobs.details(name).await.expect("it is there").pause.is_some();
    // As soon as it is enrolled on the file again.
    let until = Instant::now() + DEADLINE;
    while !is_paused("invoices").await {
        assert!(Instant::now() < until, "its pause is not kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_paused("rest").await);
    let runs = async |name: &str| {
        let asked = RunHistory::new().job(JobName::new(name).expect("a name"));
        jobs.runs(asked).await.expect("an answer").runs.len()
    };
    assert_eq!([runs("rest").await, runs("invoices").await], [0, 1]);
    let of = JobHistory(JobName::new("invoices").expect("a name"));
    let record = jobs.ask(of).await.expect("it runs").expect("an answer").expect("it is known");
    assert_eq!((record.runs, record.failures), (1, 0));
    let health = jobs.health().await.expect("it runs");
    assert!(health.healthy && health.named.contains_key(KEPT), "{health:?}");
    jobs.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_has_is_refused_with_the_name_of_the_backend() {
    let (_directory, path) = place();
    let jobs = start(&path).await;

    let memory = Local::new(std::sync::Arc::new(SystemClock::default()));
    let second = Callsheet::builder().backend(memory).backend_named(KEPT, Local::at(&path)).start().await;

    let error = second.err().expect("the file has a node").to_string();
    assert!(error.contains("callsheet.db"), "{error}");
    jobs.shutdown(Duration::from_secs(10)).await;
}
