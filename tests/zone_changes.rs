//! What a change of time zone data does to one occurrence: the table in the documentation of
//! `callsheet::schedule`.
//!
//! The job fires at 09:00 in a zone whose rules have changed: on the second of November, and from then on,
//! 09:00 is another instant by the newer data than by the older.

use std::fmt;

use callsheet::{
    EventKind, Fires, Job, Misfire, NodeId,
    schedule::Schedule,
    testkit::{EngineOptions, Recorded, Rig, simulate},
};
use chrono::{DateTime, TimeDelta, Utc};

mod common;
#[path = "common/log.rs"]
mod log;

use common::{hours, mins, node_with, secs};

const START: &str = "2026-11-01T12:00:00Z";
/// Up to here the versions agree: 09:00 is 16:00Z.
const DIFFERS_FROM: &str = "2026-11-02T00:00:00Z";
const AGREED: i64 = 16;

/// At 09:00 in a zone, as one version of the data has it.
#[derive(Debug)]
struct Nine {
    /// The hour in UTC from [`DIFFERS_FROM`] on.
    hour: i64,
}

impl fmt::Display for Nine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("at 09:00 (America/Vancouver)")
    }
}

impl Nine {
    fn on(&self, day: DateTime<Utc>) -> DateTime<Utc> {
        day + TimeDelta::hours(if day >= time(DIFFERS_FROM) { self.hour } else { AGREED })
    }
}

impl Schedule for Nine {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = midnight(after);
        [today, today + TimeDelta::days(1)].map(|day| self.on(day)).into_iter().find(|time| *time > after)
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = midnight(before);
        [today, today - TimeDelta::days(1)].map(|day| self.on(day)).into_iter().find(|time| *time < before)
    }
}

fn midnight(time: DateTime<Utc>) -> DateTime<Utc> {
    time.date_naive().and_hms_opt(0, 0, 0).expect("midnight").and_utc()
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// A node that goes by the data in which 09:00 is this hour in UTC.
fn node_by(hour: i64, misfire: Misfire, fires: Fires) -> EngineOptions {
    let job = Job::new("report", Nine { hour }).misfire(misfire).fires(fires).run(async |_| {});
    let mut options: EngineOptions = node_with([job]).into();
    options.zone_data = version(hour).into();
    options
}

fn version(hour: i64) -> &'static str {
    if hour == 17 { "2025b" } else { "2026f" }
}

/// Goes on until an hour and minute of the second of November.
async fn until(rig: &mut Rig, clock: &str) {
    let to = time(&format!("2026-11-02T{clock}:00Z"));
    rig.advance((to - rig.now()).to_std().expect("later")).await;
}

/// Goes on until a minute before. Two nodes for a day would be much work, as one of them campaigns all the
/// time.
async fn until_just_before(rig: &mut Rig, clock: &str) {
    let to = time(&format!("2026-11-02T{clock}:00Z")) - TimeDelta::minutes(1);
    rig.advance((to - rig.now()).to_std().expect("later")).await;
}

/// The fire times that ran, day and hour in UTC, in order.
fn ran(rig: &Rig) -> Vec<String> {
    let fire_time = |recorded: Recorded| match recorded.event.kind {
        EventKind::RunStarted { fire_time, .. } => fire_time,
        _ => None,
    };
    let fire_times = rig.events().into_iter().filter_map(fire_time);
    fire_times.map(|fire_time| fire_time.instant().format("%d %H:%M").to_string()).collect()
}

fn skipped(rig: &Rig) -> u64 {
    let count = |recorded: Recorded| match recorded.event.kind {
        EventKind::TickSkipped { count, .. } => count,
        _ => 0,
    };
    rig.events().into_iter().map(count).sum()
}

fn changes(rig: &Rig) -> Vec<(String, String)> {
    let change = |recorded: Recorded| match recorded.event.kind {
        EventKind::ZoneDataChanged { from, to } => Some((from, to)),
        _ => None,
    };
    rig.events().into_iter().filter_map(change).collect()
}

/// A leader hands over to a node of the other data, at an instant of the second of November. What ran on the
/// second, and how many ticks were skipped.
fn handed_over(from: i64, to: i64, clock: &str, misfire: Misfire) -> (Vec<String>, u64) {
    let mut seen = (Vec::new(), 0);
    simulate(START, async |rig| {
        // Fewer renewals: it is about days.
        rig.set_lease(hours(1));
        let before = rig.node(node_by(from, misfire, Fires::Leader)).await;
        until_just_before(rig, clock).await;
        rig.node(node_by(to, misfire, Fires::Leader)).await;
        until(rig, clock).await;
        rig.shutdown(before, secs(1)).await;
        until(rig, "23:00").await;

        assert_eq!(changes(rig), [(version(from).to_owned(), version(to).to_owned())]);
        let mut runs = ran(rig);
        assert_eq!(runs.remove(0), "01 16:00", "the versions agree on the day before");
        seen = (runs, skipped(rig));
    });
    seen
}

/// The hour of 09:00 before and after, when the nodes change over, the misfire policy; what ran, and how many
/// were skipped.
type Line = (i64, i64, &'static str, Misfire, &'static [&'static str], u64);

/// Every line of the table.
#[test]
fn one_change_makes_at_most_one_extra_or_one_skipped_run() {
    let latest = Misfire::Latest { within: hours(1) };
    let table: [Line; 9] = [
        // 09:00 is an hour earlier by the newer data.
        (17, 16, "15:00", latest, &["02 16:00"], 0),
        (17, 16, "16:30", latest, &["02 16:00"], 0),
        (17, 16, "16:30", Misfire::Skip, &[], 1),
        (17, 16, "17:30", latest, &["02 17:00"], 0),
        // An hour later.
        (16, 17, "15:00", latest, &["02 17:00"], 0),
        (16, 17, "16:30", latest, &["02 16:00", "02 17:00"], 0),
        (16, 17, "17:30", latest, &["02 16:00", "02 17:00"], 0),
        (16, 17, "17:30", Misfire::Skip, &["02 16:00"], 1),
        (16, 17, "19:00", latest, &["02 16:00"], 1),
    ];
    for (from, to, clock, misfire, runs, skips) in table {
        let (ran, skipped) = handed_over(from, to, clock, misfire);

        assert_eq!(
            (ran.iter().map(String::as_str).collect::<Vec<_>>(), skipped),
            (runs.to_vec(), skips),
            "{from}:00Z to {to}:00Z at {clock}, {misfire:?}"
        );
    }
}

/// To and fro between two nodes: each hand-over obeys the table.
#[test]
fn nodes_of_different_zone_data_run_an_occurrence_once_more_each() {
    let latest = Misfire::Latest { within: hours(1) };
    simulate(START, async |rig| {
        rig.set_lease(hours(1));
        let node = |hour| node_by(hour, latest, Fires::Leader);
        let mut leader = rig.node(node(17)).await;
        for (clock, hour) in [("15:30", 16), ("16:30", 17), ("17:30", 16)] {
            until_just_before(rig, clock).await;
            let next = rig.node(node(hour)).await;
            until(rig, clock).await;
            rig.shutdown(leader, secs(1)).await;
            leader = next;
        }
        until(rig, "23:00").await;

        assert_eq!(ran(rig), ["01 16:00", "02 16:00", "02 17:00"], "{}", rig.transcript());
        assert_eq!(skipped(rig), 0);
        let forth = ("2025b".to_owned(), "2026f".to_owned());
        let back = ("2026f".to_owned(), "2025b".to_owned());
        assert_eq!(changes(rig), [forth.clone(), back, forth]);
    });
}

/// Without a leader no node hands over: each fires by its own data, for as long as they differ.
#[test]
fn any_nodes_of_different_data_run_an_occurrence_twice() {
    simulate("2026-11-02T15:50:00Z", async |rig| {
        for hour in [17, 16] {
            rig.node(node_by(hour, Misfire::Latest { within: hours(1) }, Fires::AnyNode)).await;
        }
        until(rig, "17:10").await;

        assert_eq!(ran(rig), ["02 16:00", "02 17:00"]);
    });
}

#[test]
fn a_leader_that_takes_over_with_the_same_data_says_nothing() {
    simulate(START, async |rig| {
        let first = rig.node(node_by(16, Misfire::default(), Fires::Leader)).await;
        rig.node(node_by(16, Misfire::default(), Fires::Leader)).await;
        rig.advance(mins(5)).await;
        rig.kill(first);
        rig.advance(mins(5)).await;

        assert_eq!(rig.leader(), Some(1));
        assert_eq!(changes(rig), []);
        assert_eq!(rig.count(|kind| matches!(kind, EventKind::ZoneDataDiffers { .. })), 0);
    });
}

/// The node that was there first hears of it as well, within a minute.
#[test]
fn nodes_of_different_data_both_say_so_once() {
    simulate(START, async |rig| {
        let said = |rig: &Rig| -> Vec<(String, String, String, NodeId)> {
            let differs = |recorded: Recorded| match recorded.event.kind {
                EventKind::ZoneDataDiffers { own, other, other_node } => {
                    Some((recorded.node, own, other, other_node))
                }
                _ => None,
            };
            rig.events().into_iter().filter_map(differs).collect()
        };
        let first = rig.node(node_by(16, Misfire::default(), Fires::Leader)).await;
        rig.advance(mins(10)).await;
        assert_eq!(said(rig), []);

        let second = rig.node(node_by(17, Misfire::default(), Fires::Leader)).await;
        rig.advance(secs(61)).await;

        let (older, newer) = ("2025b".to_owned(), "2026f".to_owned());
        let mut heard = said(rig);
        heard.sort();
        assert_eq!(
            heard,
            [
                ("n1".to_owned(), newer.clone(), older.clone(), rig.id(second)),
                ("n2".to_owned(), older, newer, rig.id(first)),
            ]
        );
        rig.advance(mins(10)).await;
        assert_eq!(said(rig).len(), 2, "once");
    });
}

#[test]
fn the_health_of_a_node_names_its_time_zone_data() {
    simulate(START, async |rig| {
        let node = rig.node(node_by(17, Misfire::default(), Fires::Leader)).await;

        let health = rig.send(node, callsheet::Health).await;

        assert_eq!(health.zone_data, "2025b");
    });
}

#[test]
fn the_data_is_logged_when_a_node_starts_and_when_another_differs() {
    let log = log::Log::keep();
    simulate(START, async |rig| {
        for version in ["1999y", "1999z"] {
            let mut options = node_by(17, Misfire::default(), Fires::Leader);
            options.zone_data = version.into();
            rig.node(options).await;
        }
        rig.advance(mins(5)).await;
    });

    let text = log.text();
    let lines = |level: &str, parts: &[&str]| {
        let is_one = |line: &&str| line.contains(level) && parts.iter().all(|part| line.contains(part));
        text.lines().filter(is_one).count()
    };
    assert_eq!(lines(" INFO ", &["time zone data", "version=\"1999y\""]), 1, "{text}");
    assert_eq!(lines(" INFO ", &["time zone data", "version=\"1999z\""]), 1, "{text}");
    assert_eq!(lines(" WARN ", &["ZoneDataDiffers 1999y here, 1999z on"]), 1, "{text}");
    assert_eq!(lines(" WARN ", &["ZoneDataDiffers 1999z here, 1999y on"]), 1, "{text}");
}
