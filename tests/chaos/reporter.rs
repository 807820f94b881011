//! A node of the harness: one of the example, which says several times a second how it is and what it has
//! counted.

use std::{collections::BTreeMap, time::Duration};

use callsheet::{Callsheet, metrics::Prometheus};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::node;

/// How often it reports.
const PERIOD: Duration = Duration::from_millis(500);
/// How long its health may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The counters whose sums it reports, by the label that tells them apart.
const COUNTERS: [(&str, &str); 3] = [
    ("callsheet_ticks_due_total", ""),
    ("callsheet_ticks_total", "outcome"),
    ("callsheet_runs_total", "outcome"),
];

/// Runs a node until SIGTERM, or until whoever started it is gone.
pub(crate) fn main(plan: &str) -> anyhow::Result<()> {
    let prometheus = Prometheus::install()?;
    let reported = prometheus.clone();
    node::main(plan, |jobs| drop(actix_rt::spawn(report(jobs.clone(), reported))))?;
    say("counted", None, Vec::new(), &prometheus);
    Ok(())
}

async fn report(jobs: Callsheet, prometheus: Prometheus) {
    loop {
        let asked = Instant::now();
        let (healthy, problems) = match timeout(ANSWER, jobs.health()).await {
            Ok(Ok(report)) => (report.healthy, report.problems.iter().map(ToString::to_string).collect()),
            Ok(Err(error)) => (false, vec![error.to_string()]),
            Err(_) => (false, vec![format!("no answer in {ANSWER:?}")]),
        };
        say("health", Some((healthy, asked)), problems, &prometheus);
        sleep(PERIOD).await;
    }
}

/// `health`: whether it is healthy, and when it was asked.
fn say(event: &str, health: Option<(bool, Instant)>, problems: Vec<String>, prometheus: &Prometheus) {
    let waited = |asked: Instant| u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (healthy, waited_ms) = health.map(|(healthy, asked)| (healthy, waited(asked))).unzip();
    let counters = counters(&prometheus.render());
    let at = chrono::Utc::now();
    node::say(&json!({
        "event": event, "at": at, "healthy": healthy, "waited_ms": waited_ms, "problems": problems, "counters": counters
    }));
}

/// The sums over all jobs.
fn counters(metrics: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines() {
        let Some((name, rest)) = line.split_once('{') else { continue };
        let Some((_, label)) = COUNTERS.iter().find(|(counter, _)| *counter == name) else { continue };
        let value = rest.rsplit_once("} ").and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or(0.0);
        let of_label = rest.split_once(&format!("{label}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        let label = of_label.filter(|_| !label.is_empty()).map_or("", |(label, _)| label);
        let name = format!("{name} {label}").trim_end().to_owned();
        *sums.entry(name).or_insert(0) += value as u64;
    }
    sums
}

#[test]
fn counters_are_summed_by_their_label() {
    let metrics = "# TYPE callsheet_ticks_total counter\n\
        callsheet_ticks_total{scope=\"a\",name=\"x\",outcome=\"started\"} 3\n\
        callsheet_ticks_total{scope=\"a\",name=\"y\",outcome=\"started\"} 4\n\
        callsheet_ticks_due_total{scope=\"a\",name=\"y\"} 7\n\
        callsheet_leader{scope=\"a\"} 1\n";

    let expected = [("callsheet_ticks_due_total", 7), ("callsheet_ticks_total started", 7)];
    assert_eq!(counters(metrics), expected.map(|(name, sum)| (name.to_owned(), sum)).into());
}
