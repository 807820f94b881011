//! A console of one node answers for all of them, or says that it does not.

use std::time::Duration;

use callsheet::{
    Callsheet, Job, Run, TriggerJob,
    backend::OnUnproven,
    schedule::every,
    testkit::{NodeIndex, Rig, simulate},
};
use serde_json::json;
use tokio::task::LocalSet;

use crate::{Served, console, get, post, quiet, served};

const START: &str = "2026-01-05T00:00:00Z";

fn long() -> Job {
    Job::new("long", every(Duration::from_hours(24))).run(async |run: Run| run.cancelled().await)
}

/// Two nodes, and the console of the second, which does not lead.
fn on_a_follower(story: impl AsyncFnOnce(&mut Rig, Served)) {
    simulate(START, async |rig| {
        for _ in 0..2 {
            rig.node(Callsheet::builder().jobs([long(), quiet("sweep")])).await;
        }
        rig.advance(Duration::from_secs(5)).await;
        let served = async { story(rig, served(&console(&Callsheet::of_rig(rig, 1))).await).await };
        LocalSet::new().run_until(served).await;
    });
}

/// One node, of a backend that lets no nodes ask each other, and keeps no jobs.
fn on_an_island(story: impl AsyncFnOnce(&mut Rig, Served)) {
    simulate(START, async |rig| {
        rig.elect_only(OnUnproven::default());
        rig.node(Callsheet::builder().jobs([long(), quiet("sweep")])).await;
        rig.advance(Duration::from_secs(5)).await;
        let served = async { story(rig, served(&console(&Callsheet::of_rig(rig, 0))).await).await };
        LocalSet::new().run_until(served).await;
    });
}

async fn started_on(rig: &mut Rig, node: NodeIndex) -> String {
    let run = rig.send(node, TriggerJob::new("long")).await.expect("it starts").run();
    rig.advance(Duration::from_secs(2)).await;
    run.to_string()
}

#[test]
fn a_run_of_another_node_is_seen_and_stopped() {
    on_a_follower(async |rig, app| {
        let leader = rig.id(0).to_string();
        for action in ["cancel", "cancel-run"] {
            let run = started_on(rig, 0).await;
            let seen = get(&app, "runs?outcome=in_progress").await.json();
            let first = &seen["runs"][0];
            assert_eq!((&first["run"], &first["node"]), (&json!(run), &json!(leader)), "{seen:#}");
            assert_eq!((&first["key"], &seen["here_only"]), (&json!("long"), &json!(false)));
            let shown = get(&app, &format!("run?run={run}")).await.json();
            assert_eq!((&shown["here"], &shown["can_cancel"]), (&json!(false), &json!(true)));
            let body = if action == "cancel" { json!({"jobs": ["long"]}) } else { json!({ "run": run }) };

            let stopped = post(&app, action, &body).await.json();

            let told = if action == "cancel" { &stopped["done"][0] } else { &stopped };
            assert_eq!((&told["run"], &told["node"]), (&json!(run), &json!(leader)), "{stopped:#}");
            assert_eq!((&stopped["here_only"], &stopped["unconfirmed"]), (&json!(false), &json!([])));
            rig.advance(Duration::from_secs(2)).await;
            assert_eq!(get(&app, "runs?outcome=in_progress").await.json()["runs"], json!([]));
            assert_eq!(post(&app, "cancel", &json!({"jobs": ["long"]})).await.json()["done"], json!([]));
        }
    });
}

#[test]
fn where_nodes_cannot_be_asked_it_is_said_that_only_this_one_was() {
    on_an_island(async |rig, app| {
        let run = started_on(rig, 0).await;
        let seen = get(&app, "runs?outcome=in_progress").await.json();
        assert_eq!((&seen["runs"][0]["run"], &seen["here_only"]), (&json!(run), &json!(true)), "{seen:#}");

        let stopped = post(&app, "cancel", &json!({"jobs": ["long"]})).await.json();

        assert_eq!((&stopped["done"][0]["run"], &stopped["here_only"]), (&json!(run), &json!(true)));
        let nodes = get(&app, "nodes").await.json();
        assert_eq!((&nodes["complete"], &nodes["nodes"][0]["this"]), (&json!(false), &json!(true)));
    });
}

#[test]
fn a_schedule_of_code_is_overridden_on_all_nodes_until_it_is_cleared() {
    on_a_follower(async |rig, app| {
        let schedules = async |rig: &mut Rig| {
            // A node without tasks looks for changes less often.
            rig.advance(Duration::from_mins(2)).await;
            let mut schedules = Vec::new();
            for node in 0..2 {
                let job = Callsheet::of_rig(rig, node).details("sweep").await.expect("it is there");
                schedules.push(job.schedule.to_string());
            }
            schedules
        };
        let body =
            json!({"job": "sweep", "patch": {"schedule": {"every": "5m"}}, "schedule_was": "every 1h"});

        let done = post(&app, "edit", &body).await;

        assert_eq!((done.status, &done.json()["scope"]), (200, &json!("cluster")), "{}", done.text);
        assert_eq!(schedules(rig).await, ["every 5m", "every 5m"]);
        let row = get(&app, "jobs?search=sweep").await.json()["jobs"][0].clone();
        assert_eq!(
            (&row["overridden"]["code"], &row["overridden"]["by"]),
            (&json!("every 1h"), &json!("alice"))
        );

        let clear = json!({"job": "sweep", "patch": {"schedule": null}});
        let cleared = post(&app, "edit", &clear).await;

        assert_eq!((cleared.status, &cleared.json()["after"]["schedule"]), (200, &json!("every 1h")));
        assert_eq!(schedules(rig).await, ["every 1h", "every 1h"]);
        assert_eq!(post(&app, "edit", &clear).await.status, 400, "there is nothing to clear");
    });
}

#[test]
fn a_schedule_that_holds_on_this_node_only_is_said_to() {
    on_an_island(async |rig, app| {
        let mut body = json!({"job": "sweep", "patch": {"schedule": {"every": "5m"}}, "dry_run": true});
        assert_eq!(post(&app, "edit", &body).await.json()["scope"], "node");
        body["dry_run"] = json!(false);

        assert_eq!(post(&app, "edit", &body).await.json()["scope"], "node");

        let job = Callsheet::of_rig(rig, 0).details("sweep").await.expect("it is there");
        assert_eq!(&*job.schedule, "every 5m");
    });
}

#[test]
fn all_nodes_are_listed_with_what_each_has() {
    on_a_follower(async |rig, app| {
        started_on(rig, 0).await;
        rig.node(Callsheet::builder().job(quiet("sweep"))).await;
        rig.advance(Duration::from_secs(5)).await;

        let answer = get(&app, "nodes").await.json();

        assert_eq!(answer["complete"], true, "{answer:#}");
        let nodes = answer["nodes"].as_array().expect("a list");
        let of = |index| {
            let id = rig.id(index).to_string();
            nodes.iter().find(|node| node["node"] == id.as_str()).expect("it is listed")
        };
        assert_eq!((nodes.len(), &of(0)["role"], &of(1)["role"]), (3, &json!("leader"), &json!("follower")));
        assert_eq!([&of(0)["this"], &of(1)["this"]], [&json!(false), &json!(true)]);
        assert_eq!((&of(0)["runs"], &of(1)["runs"]), (&json!(1), &json!(0)), "{answer:#}");
        assert_eq!((&of(0)["jobs"], &of(2)["jobs"]), (&json!(2), &json!(1)));
        for node in nodes {
            assert!(node["clock_offset"].is_string() && node["since"].is_string(), "{node:#}");
        }
    });
}
