//! Which metrics and labels an expression names.

use std::collections::BTreeSet;

/// What an expression selects: a metric, and what its labels are compared with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<Matcher>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matcher {
    pub(crate) label: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub(crate) operator: String,
    pub(crate) value: String,
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn word(text: &str) -> &str {
    &text[..text.find(|letter| !is_word(letter)).unwrap_or(text.len())]
}

/// Those of the expression that are of the engine.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let starts = expression.match_indices("callsheet_").map(|(at, _)| at);
    let selector = |at: usize| {
        let metric = word(&expression[at..]);
        let rest = expression[at + metric.len()..].strip_prefix('{');
        let matchers =
            rest.map(|rest| matchers(rest.split_once('}').expect("it ends").0)).unwrap_or_default();
        Selector { metric: metric.to_owned(), matchers }
    };
    starts.map(selector).collect()
}

/// No value has a comma.
fn matchers(text: &str) -> Vec<Matcher> {
    let matcher = |text: &str| {
        let label = word(text.trim());
        let (operator, value) = text.trim()[label.len()..].split_once('"').expect("a value");
        let value = value.trim_end_matches('"').to_owned();
        Matcher { label: label.to_owned(), operator: operator.trim().to_owned(), value }
    };
    text.split(',').map(matcher).collect()
}

/// The labels by which something is grouped or joined.
pub(crate) fn grouped_by(expression: &str) -> BTreeSet<String> {
    let lists = ["by (", "on (", "without (", "ignoring ("];
    let lists = lists.iter().flat_map(|before| expression.split(before).skip(1));
    let labels = lists.filter_map(|rest| rest.split_once(')')).flat_map(|(list, _)| list.split(','));
    labels.map(|label| label.trim().to_owned()).collect()
}

#[test]
fn an_expression_names_its_metrics_and_labels() {
    let expression =
        "sum by (scope, le) (rate(callsheet_a_bucket{scope!=\"x\", job=~\"a|b\"}[5m])) > callsheet_b";

    let [first, second] = &selectors(expression)[..] else { panic!("two metrics") };
    assert_eq!((&*first.metric, &*second.metric), ("callsheet_a_bucket", "callsheet_b"));
    let matchers: Vec<_> = first.matchers.iter().map(|m| (&*m.label, &*m.operator, &*m.value)).collect();
    assert_eq!(matchers, [("scope", "!=", "x"), ("job", "=~", "a|b")]);
    assert!(second.matchers.is_empty());
    assert_eq!(grouped_by(expression), ["scope", "le"].map(str::to_owned).into());
}
