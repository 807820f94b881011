//! What the metrics say of a job goes on where they were before a restart: the history is asked, about many jobs
//! at once, and only if somebody keeps metrics.

use std::{
    collections::HashSet,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use callsheet::{
    BoxFuture, DecisionPage, Decisions, HistoryError, HistoryOptions, Job, JobHistory, JobName, JobRecord,
    OperationPage, Operations, Outcome, Retention, RunHistory, RunPage, RunRecord,
    chrono::{DateTime, Utc},
    port::{Batch, History, LastEnds},
    schedule::every,
    testkit::{Rig, simulate},
};
use metrics::{NoopRecorder, set_default_local_recorder};
use tokio::time::sleep;

mod common;

use common::{hours, mins, node_with, secs, trigger};

const START: &str = "2026-01-05T00:00:00Z";
const JOBS: usize = 1_000;

/// A history of runs that counts what it is asked about jobs.
#[derive(Debug, Default)]
struct Counted {
    runs: Mutex<Vec<RunRecord>>,
    questions: AtomicUsize,
    /// The most jobs of one question.
    most: AtomicUsize,
}

impl Counted {
    fn questions(&self) -> usize {
        self.questions.swap(0, Ordering::Relaxed)
    }
}

fn answer<T: Send + 'static>(answer: T) -> BoxFuture<'static, Result<T, HistoryError>> {
    Box::pin(ready(Ok(answer)))
}

impl History for Counted {
    fn name(&self) -> &'static str {
        "counted"
    }

    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        self.runs.lock().expect("nobody panics").extend(batch.runs.iter().cloned());
        answer(())
    }

    fn runs<'a>(&'a self, _: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        answer(RunPage::default())
    }

    fn job<'a>(&'a self, _: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        answer(None)
    }

    fn last_ends<'a>(&'a self, jobs: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(jobs.len(), Ordering::Relaxed);
        let (runs, jobs) = (self.runs.lock().expect("nobody panics"), jobs.iter().collect::<HashSet<_>>());
        let ends = runs.iter().filter(|run| jobs.contains(&run.job)).filter_map(|run| {
            let mut ends = LastEnds::new(run.job.clone());
            ends.last_run = Some(run.ended_at?);
            ends.last_success = ends.last_run.filter(|_| run.outcome == Some(Outcome::Succeeded));
            Some(ends)
        });
        answer(ends.collect())
    }

    fn decisions<'a>(&'a self, _: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        answer(DecisionPage::default())
    }

    fn operations<'a>(&'a self, _: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        answer(OperationPage::default())
    }

    fn prune<'a>(&'a self, _: DateTime<Utc>, _: &'a Retention) -> BoxFuture<'a, Result<bool, HistoryError>> {
        answer(false)
    }
}

/// A node with many jobs that are not due, each with a label of its own, and one that is: a node of the
/// rig that has nothing to do at all looks at nothing.
async fn idle(rig: &mut Rig, history: &Arc<Counted>) -> usize {
    let job = |nth: usize| Job::new(format!("job-{nth:04}"), every(hours(1_000))).run(async |_| {});
    let often = Job::new("often", every(secs(5))).run(async |_| {});
    let mut options = HistoryOptions::default();
    options.store = Some(history.clone());
    let node = node_with((1..JOBS).map(job).chain([often]));
    rig.node(node.job_labels_max(JOBS).history(options)).await
}

fn last_success(rig: &mut Rig, job: &str) -> f64 {
    rig.gauge("callsheet_job_last_success_timestamp_seconds", &format!("name={job}"))
}

#[test]
fn the_last_success_survives_a_restart_and_costs_one_question_for_all_jobs() {
    let history = Arc::new(Counted::default());
    simulate(START, async |rig| {
        let node = idle(rig, &history).await;
        trigger(rig, node, "job-0999").await.expect("it starts");
        sleep(mins(1)).await;
    });
    let runs = history.runs.lock().expect("nobody panics").clone();
    let run = runs.iter().find(|run| run.job.as_str() == "job-0999").expect("it ran");
    let ended_at = run.ended_at.expect("it ended").timestamp_millis() as f64 / 1_000.0;
    history.questions();

    simulate("2026-02-01T00:00:00Z", async |rig| {
        idle(rig, &history).await;
        // Between two walks are 10 s; one through all jobs takes 1 s.
        sleep(mins(1)).await;
        assert_eq!(last_success(rig, "job-0999"), ended_at);
        assert_eq!(last_success(rig, "job-0001"), 0.0, "it never ran");
        assert_eq!(history.questions(), 1);

        sleep(mins(5)).await;
        assert_eq!(history.questions(), 1, "what it says is good for five minutes");
    });
    assert_eq!(history.most.load(Ordering::Relaxed), JOBS);
}

#[test]
fn a_node_whose_metrics_nobody_keeps_asks_nothing_for_them() {
    let history = Arc::new(Counted::default());

    simulate(START, async |rig| {
        // In the place of the rig's own.
        let _nobody = set_default_local_recorder(&NoopRecorder);
        idle(rig, &history).await;
        sleep(mins(5)).await;
    });

    assert_eq!(history.questions(), 0);
}
