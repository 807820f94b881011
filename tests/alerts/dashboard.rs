//! The dashboard for Grafana, `examples/ops/dashboard.json`.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{
    promtool::{Check, evaluate},
    stories,
};

/// That of Grafana 12 and 13: `DASHBOARD_SCHEMA_VERSION` of its package `@grafana/schema`.
const SCHEMA_VERSION: u64 = 42;
/// How wide a dashboard is.
const COLUMNS: u64 = 24;

pub(crate) struct Dashboard(Value);

/// A query, and the legend of what it answers.
struct Query {
    panel: String,
    expression: String,
    legend: String,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

impl Dashboard {
    pub(crate) fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ops/dashboard.json");
        Self(serde_json::from_str(&fs::read_to_string(path).expect("it is there")).expect("it is JSON"))
    }

    fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().expect("panels")
    }

    fn queries(&self) -> Vec<Query> {
        let of_panel = |panel: &Value| {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            let queries = targets.into_iter().map(|target| Query {
                panel: text(panel, "title").to_owned(),
                expression: text(&target, "expr").to_owned(),
                legend: text(&target, "legendFormat").to_owned(),
            });
            queries.collect::<Vec<_>>()
        };
        let annotations = self.0["annotations"]["list"].as_array().expect("annotations");
        let of_annotation = |annotation: &Value| Query {
            panel: text(annotation, "name").to_owned(),
            expression: text(annotation, "expr").to_owned(),
            legend: text(annotation, "titleFormat").to_owned(),
        };
        let of_panels = self.panels().iter().flat_map(of_panel);
        of_panels.chain(annotations.iter().map(of_annotation)).collect()
    }

    pub(crate) fn expressions(&self) -> Vec<String> {
        self.queries().into_iter().map(|query| query.expression).collect()
    }

    /// The metric and the label from which each variable has its values.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let variables = self.0["templating"]["list"].as_array().expect("variables");
        let queries = variables.iter().filter(|variable| text(variable, "type") == "query");
        let of = |variable: &Value| {
            let query = text(variable, "definition");
            let inner = query.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
            let (metric, label) = inner.expect("label_values").rsplit_once(", ").expect("a label");
            (metric.split('{').next().unwrap_or_default().to_owned(), label.to_owned())
        };
        queries.map(of).collect()
    }
}

/// With what Grafana puts in, and without a threshold: whether it is exceeded is not looked at.
fn evaluated(expression: &str) -> String {
    let put_in = [("$__rate_interval", "5m"), ("$scope", ".*"), ("$job", ".*")];
    let expression = put_in.iter().fold(expression.to_owned(), |text, (from, to)| text.replace(from, to));
    expression.strip_suffix(" > 0").unwrap_or(&expression).to_owned()
}

/// The labels in a legend.
fn labels(legend: &str) -> impl Iterator<Item = &str> {
    legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(label, _)| label.trim())
}

#[test]
fn each_query_answers_and_each_label_of_a_legend_is_there() {
    let dashboard = Dashboard::read();
    let mut checks = Vec::new();
    // While the store does not answer.
    let minute = 45;
    for Query { expression, legend, .. } in dashboard.queries() {
        let expression = evaluated(&expression);
        checks.push(Check::holds(minute, format!("count({expression}) > bool 0")));
        for label in labels(&legend) {
            let marked = format!("label_replace({expression}, \"has\", \"it\", \"{label}\", \".+\")");
            let answer = Some("{has=\"it\"}".to_owned());
            checks.push(Check { minute, expression: format!("count by (has) ({marked}) > bool 0"), answer });
        }
    }

    evaluate(&stories::outages(), &checks);
}

#[test]
fn panels_have_ids_of_their_own_say_what_they_show_and_lie_side_by_side() {
    let dashboard = Dashboard::read();
    let ids: BTreeSet<_> = dashboard.panels().iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), dashboard.panels().len());

    let mut taken = BTreeSet::new();
    for panel in dashboard.panels() {
        let title = text(panel, "title");
        assert!(text(panel, "type") == "row" || !text(panel, "description").is_empty(), "{title}");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(x + w <= COLUMNS, "{title}");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another");
        }
    }
}

#[test]
fn it_is_of_the_current_schema_and_every_query_asks_the_source_that_is_chosen() {
    let dashboard = Dashboard::read();
    assert_eq!(dashboard.0["schemaVersion"].as_u64(), Some(SCHEMA_VERSION));
    assert!(dashboard.queries().iter().all(|query| !query.expression.is_empty() && !query.panel.is_empty()));

    let mut sources = BTreeSet::new();
    collect_sources(&dashboard.0, &mut sources);
    assert_eq!(sources, BTreeSet::from(["${datasource}".to_owned()]));
}

fn collect_sources(value: &Value, sources: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(source) = fields.get("datasource") {
                sources.insert(text(source, "uid").to_owned());
            }
            fields.values().for_each(|value| collect_sources(value, sources));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_sources(value, sources)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
