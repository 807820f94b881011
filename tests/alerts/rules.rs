//! The rules of `examples/ops/alerts.yml`: each fires in a story in which it is to, and in no other.

use std::{collections::BTreeSet, fs};

use serde::Deserialize;

use super::{
    promtool::{Check, RULES, evaluate, promtool},
    stories,
    timeline::Timeline,
};

/// A rule as Prometheus reads it.
#[derive(Debug, Deserialize)]
pub(crate) struct Rule {
    pub(crate) alert: String,
    pub(crate) expr: String,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Debug, Deserialize)]
struct Labels {
    severity: String,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    summary: String,
    runbook: String,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

pub(crate) fn rules() -> Vec<Rule> {
    let text = fs::read_to_string(RULES).expect("there are rules");
    let Groups { groups } = serde_saphyr::from_str(&text).expect("it is YAML");
    groups.into_iter().flat_map(|group| group.rules).collect()
}

/// At a minute an alert fires, with these labels at least, or does not.
type Claim = (usize, &'static str, &'static str, bool);

/// From the end of each of these.
const HOUR: usize = 60;

/// A job of the day.
const DAY: [Claim; 26] = [
    (1, "CallsheetJobFails", "", false),
    (HOUR, "CallsheetJobFails", "scope=\"shared\",name=\"fails\"", true),
    (HOUR, "CallsheetJobFails", "name=\"well\"", false),
    (HOUR, "CallsheetRunsFail", "scope=\"shared\",name=\"fails\"", true),
    (HOUR, "CallsheetRunsFail", "name=\"well\"", false),
    (25, "CallsheetJobOverdue", "", false),
    (HOUR, "CallsheetJobOverdue", "scope=\"shared\",name=\"late\"", true),
    (HOUR, "CallsheetJobOverdue", "name=\"fails\"", false),
    (HOUR + 55, "CallsheetRunTooLong", "", false),
    (2 * HOUR + 5, "CallsheetRunTooLong", "scope=\"shared\",name=\"hangs\"", true),
    (2 * HOUR + 5, "CallsheetRunTooLong", "name=\"well\"", false),
    (HOUR + 50, "CallsheetRunsDoNotEnd", "", false),
    (3 * HOUR + 10, "CallsheetRunsDoNotEnd", "scope=\"shared\",instance=\"a\"", true),
    (3, "CallsheetTicksLate", "", false),
    (HOUR, "CallsheetTicksLate", "scope=\"shared\",name=\"crowded\"", true),
    (HOUR, "CallsheetTicksLate", "name=\"well\"", false),
    (23 * HOUR, "CallsheetJobPaused", "", false),
    (25 * HOUR, "CallsheetJobPaused", "scope=\"shared\",name=\"paused\"", true),
    (25 * HOUR, "CallsheetJobPaused", "name=\"well\"", false),
    (27 * HOUR, "CallsheetNoSuccess", "", false),
    (28 * HOUR + 15, "CallsheetNoSuccess", "scope=\"shared\",name=\"stops\"", true),
    (28 * HOUR + 15, "CallsheetNoSuccess", "name=\"well\"", false),
    (8 * HOUR - 5, "CallsheetJobVanished", "", false),
    (8 * HOUR + 5, "CallsheetJobVanished", "scope=\"shared\",name=\"removed\"", true),
    (8 * HOUR + 5, "CallsheetJobVanished", "name=\"well\"", false),
    (15 * HOUR, "CallsheetJobVanished", "", false),
];

/// The store is away from minute 30 to 50, refuses claims from 100 to 120, and has a job locked from 140 to 160.
const OUTAGES: [Claim; 17] = [
    (25, "CallsheetNoLeader", "", false),
    (40, "CallsheetNoLeader", "scope=\"shared\"", true),
    (60, "CallsheetNoLeader", "", false),
    (25, "CallsheetCoordinationErrors", "", false),
    (45, "CallsheetCoordinationErrors", "scope=\"shared\"", true),
    (90, "CallsheetCoordinationErrors", "", false),
    (115, "CallsheetCoordinationErrors", "scope=\"shared\",operation=\"claim\"", true),
    (115, "CallsheetCoordinationErrors", "operation=\"renew\"", false),
    (25, "CallsheetTicksUndecided", "", false),
    (115, "CallsheetTicksUndecided", "scope=\"shared\"", true),
    (135, "CallsheetTicksUndecided", "", false),
    (157, "CallsheetTicksUndecided", "scope=\"shared\"", true),
    (175, "CallsheetTicksUndecided", "", false),
    (25, "CallsheetTicksMissed", "", false),
    (55, "CallsheetTicksMissed", "scope=\"shared\",name=\"minutely\"", true),
    (90, "CallsheetTicksMissed", "", false),
    (115, "CallsheetTwoLeaders", "", false),
];

/// At minute 60 another version is deployed.
const DEPLOY: [Claim; 4] = [
    (6 * HOUR + 55, "CallsheetJobVanished", "name=\"stays\"", false),
    (HOUR - 5, "CallsheetJobVanished", "", false),
    (HOUR + 10, "CallsheetJobVanished", "", false),
    (6 * HOUR + 30, "CallsheetJobVanished", "scope=\"shared\",name=\"lost\"", true),
];

/// The store forgets at minute 60.
const FORGETS: [Claim; 3] = [
    (55, "CallsheetHistoryDiverged", "", false),
    (65, "CallsheetHistoryDiverged", "scope=\"shared\"", true),
    (90, "CallsheetHistoryDiverged", "", false),
];

/// The clock of the node is set at minute 30, and set right at minute 60.
const CLOCK: [Claim; 3] = [
    (25, "CallsheetClockOff", "", false),
    (45, "CallsheetClockOff", "scope=\"shared\",instance=\"a\"", true),
    (75, "CallsheetClockOff", "", false),
];

/// A listener does not read from minute 30 on, and the history does not answer.
const RECORDS: [Claim; 4] = [
    (25, "CallsheetEventsDropped", "", false),
    (60, "CallsheetEventsDropped", "scope=\"shared\"", true),
    (5, "CallsheetHistoryDropped", "", false),
    (115, "CallsheetHistoryDropped", "scope=\"shared\"", true),
];

const CLUSTER: [Claim; 2] = [(30, "CallsheetTwoLeaders", "", false), (30, "CallsheetNoLeader", "", false)];

const TWO_STORES: [Claim; 1] = [(30, "CallsheetTwoLeaders", "scope=\"shared\"", true)];

const NOBODY: [Claim; 2] = [(0, "CallsheetNotScraped", "", false), (5, "CallsheetNotScraped", "", true)];

/// Nothing takes ten minutes by real time: what was scraped is set to that.
const SNAPSHOT: [Claim; 1] = [(30, "CallsheetOldSnapshot", "scope=\"shared\"", true)];

fn judge(timeline: &Timeline, claims: &[Claim]) {
    let checks = claims.iter().map(|(minute, alert, labels, fires)| {
        assert!(*minute < timeline.minutes(), "{alert} at {minute}: it was not scraped for so long");
        Check::alert(*minute, alert, labels, *fires)
    });
    evaluate(timeline, &checks.collect::<Vec<_>>());
}

#[test]
fn promtool_takes_the_rules() {
    promtool(&["check", "rules", "rules.yml"], None);
}

#[test]
fn every_rule_has_a_severity_a_summary_and_a_runbook() {
    let rules = rules();
    assert!(rules.len() >= 20, "{rules:?}");
    for Rule { alert, labels, annotations, .. } in rules {
        assert!(["critical", "warning", "info"].contains(&&*labels.severity), "{alert}");
        assert!(annotations.summary.len() > 15 && annotations.runbook.len() > 40, "{alert}");
    }
}

#[test]
fn every_rule_is_seen_to_fire_and_not_to_fire() {
    let all: Vec<&[Claim]> =
        vec![&DAY, &OUTAGES, &DEPLOY, &FORGETS, &CLOCK, &RECORDS, &CLUSTER, &TWO_STORES, &NOBODY, &SNAPSHOT];
    let fires: BTreeSet<_> =
        all.into_iter().flatten().filter(|claim| claim.3).map(|claim| claim.1.to_owned()).collect();
    let rules: BTreeSet<_> = rules().into_iter().map(|rule| rule.alert).collect();

    assert_eq!(fires, rules, "that it does not fire is what a quiet day shows");
}

#[test]
fn nothing_fires_on_a_quiet_day() {
    let timeline = stories::quiet();

    let ever = "count(count_over_time(ALERTS{alertstate=\"firing\"}[30h]))".to_owned();
    let minute = timeline.minutes() - 1;
    evaluate(&timeline, &[Check { minute, expression: ever, answer: None }]);
}

#[test]
fn what_goes_wrong_with_jobs_fires_its_alert_alone() {
    judge(&stories::day(), &DAY);
}

#[test]
fn a_store_that_is_away_and_one_that_refuses_fire_theirs() {
    judge(&stories::outages(), &OUTAGES);
}

#[test]
fn a_deploy_that_loses_a_job_fires_after_six_hours() {
    judge(&stories::deploy(), &DEPLOY);
}

#[test]
fn a_store_that_forgets_fires_and_so_does_a_clock_that_is_off() {
    judge(&stories::forgets(), &FORGETS);
    judge(&stories::clock(), &CLOCK);
}

#[test]
fn events_and_records_that_are_dropped_fire() {
    judge(&stories::records(), &RECORDS);
}

#[test]
fn two_stores_of_one_scope_fire_and_two_nodes_of_one_store_do_not() {
    judge(&stories::cluster(), &CLUSTER);
    judge(&stories::two_stores(), &TWO_STORES);
}

#[test]
fn nodes_that_are_not_scraped_fire() {
    judge(&Timeline::of_nobody(10), &NOBODY);
}

#[test]
fn an_old_snapshot_fires() {
    judge(&stories::cluster().set_by_hand("callsheet_store_snapshot_age_seconds", 700.0), &SNAPSHOT);
}
