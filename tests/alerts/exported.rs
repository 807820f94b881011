//! What a running engine exports: the example `quickstart`, scraped over HTTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    dashboard::Dashboard,
    example::example,
    process::{DEADLINE, Process},
    promql::{grouped_by, selectors},
    rules::rules,
    timeline::series_of,
};

/// The labels of a metric, with the values that were seen.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// The metrics that were scraped once it has shown what its jobs do.
fn exported() -> &'static BTreeMap<String, Labels> {
    static EXPORTED: OnceLock<BTreeMap<String, Labels>> = OnceLock::new();
    EXPORTED.get_or_init(|| {
        let mut process = Process::start(example("quickstart").env("CALLSHEET_BIND", "127.0.0.1:0"));
        let line = process.wait_for("listening on ");
        let address = line.rsplit(' ').next().expect("an address").to_owned();
        let config = ureq::Agent::config_builder().proxy(None).timeout_global(Some(DEADLINE)).build();
        let agent = ureq::Agent::new_with_config(config);
        let until = Instant::now() + DEADLINE;
        loop {
            let mut answer = agent.get(format!("{address}/metrics")).call().expect("it answers");
            let text = answer.body_mut().read_to_string().expect("it is a text");
            if text.contains("callsheet_job_last_success_timestamp_seconds") {
                return of_text(&text);
            }
            assert!(Instant::now() < until, "nothing is shown of its jobs:\n{text}");
            sleep(Duration::from_millis(100));
        }
    })
}

fn of_text(text: &str) -> BTreeMap<String, Labels> {
    let mut metrics = BTreeMap::<String, Labels>::new();
    for series in series_of(text, "127.0.0.1:8080").into_keys() {
        let (metric, labels) = series.split_once('{').expect("labels");
        let known = metrics.entry(metric.to_owned()).or_default();
        for pair in labels.trim_end_matches('}').split("\",") {
            let (label, value) = pair.split_once("=\"").expect("a label");
            known.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    metrics
}

/// What is wrong with an expression.
fn faults(expression: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut labels_of_all = BTreeSet::new();
    for selector in selectors(expression) {
        let Some(labels) = exported().get(&selector.metric) else {
            faults.push(format!("nobody exports {}", selector.metric));
            continue;
        };
        labels_of_all.extend(labels.keys().cloned());
        for matcher in &selector.matchers {
            let Some(values) = labels.get(&matcher.label) else {
                faults.push(format!("{} has no label {}", selector.metric, matcher.label));
                continue;
            };
            let variable = matcher.value.starts_with('$');
            let unknown = matcher.value.split('|').filter(|value| !variable && !values.contains(*value));
            faults.extend(
                unknown.map(|value| format!("{}: {} is never {value}", selector.metric, matcher.label)),
            );
        }
    }
    let unknown = grouped_by(expression).into_iter().filter(|label| !labels_of_all.contains(label));
    faults.extend(unknown.map(|label| format!("nothing has a label {label}")));
    faults.into_iter().map(|fault| format!("{expression}: {fault}")).collect()
}

#[test]
fn the_rules_name_what_a_running_engine_exports() {
    let faults: Vec<_> = rules().iter().flat_map(|rule| faults(&rule.expr)).collect();

    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn the_dashboard_names_what_a_running_engine_exports() {
    let dashboard = Dashboard::read();
    let expressions = dashboard.expressions();
    assert!(expressions.len() > 20, "{expressions:?}");

    let faults: Vec<_> = expressions.iter().flat_map(|expression| faults(expression)).collect();
    assert_eq!(faults, Vec::<String>::new());
    for (metric, label) in dashboard.variables() {
        assert!(exported()[&metric].contains_key(&label), "{metric} {label}");
    }
}

#[test]
fn a_metric_a_label_and_a_value_that_nobody_exports_are_found() {
    let wrong = [
        "callsheet_lead",
        "callsheet_leader{name=\"a\"}",
        "callsheet_ticks_total{outcome=~\"started|sleeping\"}",
        "sum by (job) (callsheet_leader)",
    ];

    for expression in wrong {
        assert_eq!(faults(expression).len(), 1, "{expression}: {:?}", faults(expression));
    }
}
