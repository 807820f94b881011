//! Prometheus' own tool: it checks the rules, and evaluates them on what was scraped.

use std::{fmt::Write as _, fs, process::Command};

use super::timeline::Timeline;

pub(crate) const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ops/alerts.yml");

/// What an expression answers at some minute.
pub(crate) struct Check {
    pub(crate) minute: usize,
    pub(crate) expression: String,
    /// The labels of the only answer, which is 1; `None` if there is none.
    pub(crate) answer: Option<String>,
}

impl Check {
    /// Whether an alert fires, with these labels at least.
    pub(crate) fn alert(minute: usize, alert: &str, labels: &str, fires: bool) -> Self {
        let all = format!("alertname=\"{alert}\",alertstate=\"firing\",{labels}");
        let firing = format!("count(ALERTS{{{}}})", all.trim_end_matches(','));
        match fires {
            true => Self::holds(minute, format!("{firing} > bool 0")),
            false => Self { minute, expression: firing, answer: None },
        }
    }

    /// It answers 1, without labels.
    pub(crate) fn holds(minute: usize, expression: String) -> Self {
        Self { minute, expression, answer: Some("{}".to_owned()) }
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Runs the tool in a directory in which it finds the rules.
///
/// # Panics
///
/// If it is not installed, or fails.
pub(crate) fn promtool(arguments: &[&str], test: Option<&str>) {
    let dir = tempfile::tempdir().expect("there is room");
    fs::copy(RULES, dir.path().join("rules.yml")).expect("there are rules");
    if let Some(test) = test {
        fs::write(dir.path().join("test.yml"), test).expect("there is room");
    }
    let output = Command::new("promtool").args(arguments).current_dir(dir.path()).output();
    let output = output.expect("promtool is there: apt-get install prometheus");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

/// Evaluates the rules on what was scraped, and then the checks.
///
/// # Panics
///
/// If one does not hold.
pub(crate) fn evaluate(timeline: &Timeline, checks: &[Check]) {
    let mut text = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n".to_owned();
    text += "  input_series:\n";
    for (series, values) in timeline.written() {
        writeln!(text, "  - series: {}\n    values: {}", quoted(series), quoted(&values)).expect("a text");
    }
    text += "  promql_expr_test:\n";
    for Check { minute, expression, answer } in checks {
        writeln!(text, "  - expr: {}\n    eval_time: {minute}m", quoted(expression)).expect("a text");
        match answer {
            Some(labels) => writeln!(text, "    exp_samples: [{{labels: {}, value: 1}}]", quoted(labels)),
            None => writeln!(text, "    exp_samples: []"),
        }
        .expect("a text");
    }
    promtool(&["test", "rules", "test.yml"], Some(&text));
}
