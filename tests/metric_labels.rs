//! However many jobs come and go, what a scraper reads is bounded, and the job with an alert keeps its
//! series.

use std::time::Duration;

use callsheet::{
    Callsheet, Job, UpdateJob,
    metrics::{JOB_LABEL_ONCE, JOB_LABEL_OTHER, Prometheus},
    schedule::{at, every},
};
use chrono::{TimeDelta, Utc};

/// The jobs that are added at once.
const BATCH: usize = 1_000;
const BATCHES: usize = 100;

/// The runs of a label that succeeded.
fn succeeded(metrics: &str, label: &str) -> Option<u64> {
    let series = format!("callsheet_runs_total{{scope=\"_local\",name=\"{label}\",outcome=\"succeeded\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

fn labels(metrics: &str) -> usize {
    metrics.lines().filter(|line| line.starts_with("callsheet_ticks_due_total{")).count()
}

fn nightly() -> Job {
    Job::new("nightly", every(Duration::from_hours(24))).run(async |_| {})
}

/// Runs a job once, and waits until its run is the nth of its label.
async fn run(jobs: &Callsheet, prometheus: &Prometheus, job: &str, (label, nth): (&str, u64)) {
    jobs.trigger(job).await.expect("it starts");
    while succeeded(&prometheus.render(), label) != Some(nth) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One test: a recorder belongs to the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_reminders_leave_the_nightly_job_its_series() {
    let prometheus = Prometheus::install().expect("it is the first one");
    let builder = Callsheet::builder().job(nightly()).job_labels_max(10);
    let jobs = builder.start().await.expect("it starts");
    run(&jobs, &prometheus, "nightly", ("nightly", 1)).await;

    // One-shot jobs, grouped ones, and such that say nothing and take what is free.
    for batch in 0..BATCHES {
        let reminder = |nth: usize| {
            let name = format!("reminder-{batch}-{nth}");
            match nth % 10 {
                0..8 => Job::new(name, at(Utc::now() + TimeDelta::hours(1))).run(async |_| {}),
                8 => Job::new(name, every(Duration::from_hours(1))).metrics_label("poll").run(async |_| {}),
                _ => Job::new(name, every(Duration::from_hours(1))).run(async |_| {}),
            }
        };
        jobs.add_all((0..BATCH).map(reminder)).await.expect("they are added");
        // The last one of each kind that is run: all labels of their own are used up by then.
        if batch + 1 == BATCHES {
            for (nth, label) in [(0, JOB_LABEL_ONCE), (8, "poll"), (9, JOB_LABEL_OTHER)] {
                run(&jobs, &prometheus, &format!("reminder-{batch}-{nth}"), (label, 1)).await;
            }
        }
        jobs.remove(callsheet::Selector::All).await.expect("they are removed");
        jobs.add(nightly()).await.expect("it is added again");
    }
    run(&jobs, &prometheus, "nightly", ("nightly", 2)).await;
    jobs.supervisor().send(UpdateJob::new(nightly().tag("changed"))).await.unwrap().expect("it is updated");
    run(&jobs, &prometheus, "nightly", ("nightly", 3)).await;

    let metrics = prometheus.render();
    // Those in use, four times over, and the two that are shared.
    assert_eq!(labels(&metrics), 4 * 10 + 2);
    assert!(metrics.len() < 200 * 1_024, "{} bytes", metrics.len());
    jobs.shutdown(Duration::from_secs(10)).await;
}
