//! Jobs that are posted are stored, where there is a database or a file.

use std::fs;

use tempfile::TempDir;

use super::*;

impl Quickstart {
    /// Starts it with a file of jobs.
    fn start_with_file(path: &std::path::Path) -> Self {
        Self::started_by(command("127.0.0.1:0").env("CALLSHEET_CATALOGUE", path))
    }
}

/// Two nodes of a cluster. The first one leads.
fn two_nodes(scope: &str) -> [Quickstart; 2] {
    let mut leader = Quickstart::start_node(scope);
    leader.wait_for("LeadershipGained");
    [leader, Quickstart::start_node(scope)]
}

#[test]
fn what_is_posted_on_one_node_shows_and_runs_on_all_and_after_a_restart() {
    let scope = harness::scope("stored");
    let mut nodes = two_nodes(&scope);

    let added = nodes[1].post(&json!({ "name": "fast", "every": "200ms" }));
    assert_eq!((added.status, &added.json()["scheduled"]), (201, &json!("stored")), "{}", added.text);
    nodes[0].wait_for("JobAdded fast");
    let versions = nodes.each_ref().map(|node| node.listed("fast").expect("it is listed")["stored"].clone());
    assert_eq!(versions, [json!(1), json!(1)]);
    // It fires on one of them.
    nodes[0].wait_for("RunSucceeded fast");
    // A name that is taken, and a schedule that is wrong, are told by either node.
    assert_eq!(nodes[0].post(&json!({ "name": "fast", "every": "1s" })).status, 409);
    assert_eq!(nodes[0].post(&json!({ "name": "other", "cron": "61 * * * *" })).status, 400);
    assert_eq!(nodes[0].post(&json!({ "name": "steady", "every": "1s" })).status, 400, "it is of code");
    // One that no tick is in the way of runs where it is asked for.
    assert_eq!(nodes[0].post(&json!({ "name": "yearly", "cron": "0 0 1 1 *" })).status, 201);
    nodes[1].wait_for("JobAdded yearly");
    for node in &mut nodes {
        assert_eq!(node.send("POST", "/jobs/yearly/run").status, 202);
        node.wait_for("RunSucceeded yearly");
    }

    for node in &mut nodes {
        node.stop();
    }
    let mut nodes = two_nodes(&scope);
    for node in &nodes {
        let until = Instant::now() + DEADLINE;
        while node.listed("fast").is_none() {
            assert!(Instant::now() < until, "it does not know it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    nodes[0].wait_for("RunSucceeded fast");

    assert_eq!(nodes[1].send("DELETE", "/jobs/fast").status, 204);
    for node in &mut nodes {
        node.wait_for("JobRemoved fast");
        assert_eq!(node.listed("fast"), None);
    }
    assert_eq!(nodes[0].send("DELETE", "/jobs/fast").status, 404);
    // A job of code is the node's own.
    assert_eq!(nodes[0].send("DELETE", "/jobs/moody").status, 204);
    assert!(nodes[1].listed("moody").is_some());
}

#[test]
fn what_is_posted_is_in_the_file_and_what_is_edited_there_runs() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("jobs.toml");
    let mut quickstart = Quickstart::start_with_file(&path);

    assert_eq!(quickstart.post(&json!({ "name": "fast", "every": "200ms" })).status, 201);
    quickstart.wait_for("RunSucceeded fast");
    let written = fs::read_to_string(&path).expect("it is there");
    assert_contains(&written, &["[fast]", "schedule = ", "task = { name = \"work\" }"]);

    fs::write(&path, written.replace("[fast]", "[renamed]")).expect("it is written");
    quickstart.wait_for("JobAdded renamed");
    quickstart.wait_for("RunSucceeded renamed");
    assert_eq!(quickstart.listed("fast"), None);

    quickstart.stop();
    let mut quickstart = Quickstart::start_with_file(&path);
    quickstart.wait_for("RunSucceeded renamed");
    assert_eq!(quickstart.send("DELETE", "/jobs/renamed").status, 204);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "");
}
