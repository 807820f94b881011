//! What the alert rules of the guide see in what is scraped, by scope.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use callsheet::{
    Builder, Callsheet, Job,
    backend::Local,
    metrics::{Prometheus, SCOPE_LABEL_LOCAL},
    port::{Backend, Elector, Locker, SystemClock},
    schedule::every,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::{runtime::Runtime, task::LocalSet};

const RULES: &str = include_str!("../examples/ops/alerts.yml");
const NO_LEADER: &str = "expr: sum by (scope) (callsheet_leader) == 0\n";
const TWO_LEADERS: &str = "expr: sum by (scope) (callsheet_leader{scope!=\"_local\"}) > 1\n";

/// A store of its own under a scope.
struct Scoped {
    scope: &'static str,
    local: Local,
}

impl Backend for Scoped {
    fn name(&self) -> &'static str {
        "scoped"
    }
    fn scope(&self) -> Arc<str> {
        self.scope.into()
    }
    fn elector(&self) -> Arc<dyn Elector> {
        self.local.elector()
    }
    fn locker(&self) -> Arc<dyn Locker> {
        self.local.locker()
    }
}

fn scoped(scope: &'static str) -> Builder {
    Callsheet::builder().backend(Scoped { scope, local: Local::new(Arc::new(SystemClock::default())) })
}

/// What a process is to a scraper: a recorder, whose engines are all on the thread of the test.
struct Process {
    recorder: PrometheusRecorder,
    runtime: Runtime,
    local_set: LocalSet,
}

impl Process {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let recorder = PrometheusBuilder::new().build_recorder();
        Self { recorder, runtime, local_set: LocalSet::new() }
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        metrics::with_local_recorder(&self.recorder, || self.local_set.block_on(&self.runtime, work))
    }

    /// Starts an engine, and waits until it leads and a job of it has run.
    fn start(&self, builder: Builder) -> Callsheet {
        self.run(async {
            let job = Job::new("hourly", every(Duration::from_hours(1))).run(async |_| {});
            let jobs = builder.job(job).start_on(&self.local_set).await.expect("it starts");
            let mut events =
                jobs.events(callsheet::EventFilter::new().kinds([callsheet::EventName::RunSucceeded]));
            while jobs.health().await.expect("it runs").leader.is_none() {
                tokio::task::yield_now().await;
            }
            jobs.trigger("hourly").await.expect("it starts");
            events.next().await.expect("it ends");
            jobs
        })
    }

    fn scrape(&self) -> String {
        Prometheus::with_handle(self.recorder.handle()).render()
    }
}

/// `sum by (scope) (metric)` over what was scraped of several processes.
fn sum_by_scope(metric: &str, scraped: &[String]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in scraped.iter().flat_map(|text| text.lines()) {
        let series = line.strip_prefix(metric).and_then(|rest| rest.strip_prefix("{scope=\""));
        if let Some((scope, value)) = series.and_then(|rest| rest.split_once("\"} ")) {
            *sums.entry(scope.to_owned()).or_default() += value.parse::<f64>().expect("a number");
        }
    }
    sums
}

/// The scopes for which the rules say that there is no leader, and those with two.
fn alerts(processes: &[&Process]) -> (Vec<String>, Vec<String>) {
    let scraped: Vec<_> = processes.iter().map(|process| process.scrape()).collect();
    let sums = sum_by_scope("callsheet_leader", &scraped);
    let of = |rule: &dyn Fn(&str, f64) -> bool| {
        sums.iter().filter(|(scope, sum)| rule(scope, **sum)).map(|(scope, _)| scope.clone()).collect()
    };
    (of(&|_, sum| sum == 0.0), of(&|scope, sum| scope != SCOPE_LABEL_LOCAL && sum > 1.0))
}

#[test]
fn the_alert_rules_tell_no_leader_and_two_leaders_by_scope() {
    assert!(RULES.contains(NO_LEADER) && RULES.contains(TWO_LEADERS), "the rules are those that are shipped");
    let (one, other) = (Process::new(), Process::new());
    let none = Vec::<String>::new;

    let billing = one.start(scoped("billing"));
    let mail = one.start(scoped("mail"));
    let [embedded, embedded_too] = [&one, &other].map(|process| process.start(Callsheet::builder()));
    assert_eq!(alerts(&[&one, &other]), (none(), none()), "each scope has one leader");

    let copy = other.start(scoped("billing"));
    assert_eq!(alerts(&[&one, &other]), (none(), vec!["billing".to_owned()]), "there are two stores");

    one.run(billing.shutdown(Duration::from_secs(10)));
    one.run(mail.shutdown(Duration::from_secs(10)));
    assert_eq!(alerts(&[&one, &other]), (vec!["mail".to_owned()], none()), "mail has no node any more");

    for (process, jobs) in [(&other, copy), (&one, embedded), (&other, embedded_too)] {
        process.run(jobs.shutdown(Duration::from_secs(10)));
    }
    assert_eq!(alerts(&[&one, &other]).0, [SCOPE_LABEL_LOCAL, "billing", "mail"]);
}

#[test]
fn every_series_has_a_scope_and_none_the_label_job_of_prometheus() {
    let process = Process::new();
    let jobs = process.start(scoped("billing"));
    let other = process.start(scoped("mail"));

    let text = process.scrape();

    let series: Vec<_> = text.lines().filter(|line| line.starts_with("callsheet_")).collect();
    for line in &series {
        assert!(line.contains("{scope=\"billing\"") || line.contains("{scope=\"mail\""), "{line}");
        assert!(!line.contains("job=\""), "{line}");
    }
    for scope in ["billing", "mail"] {
        let ran =
            format!("callsheet_runs_total{{scope=\"{scope}\",name=\"hourly\",outcome=\"succeeded\"}} 1");
        assert!(series.contains(&&*ran), "no {ran} in\n{text}");
    }
    for jobs in [jobs, other] {
        process.run(jobs.shutdown(Duration::from_secs(10)));
    }
}
