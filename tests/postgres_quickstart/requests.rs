//! What is asked over HTTP: jobs that are added, triggered, listed and removed.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_job_is_added_fires_and_is_removed() {
    let mut quickstart = Quickstart::start();

    let added = quickstart.post(&json!({ "name": "hello", "every": "500ms" }));

    assert_eq!((added.status, added.location.as_deref()), (201, Some("/jobs/hello")), "{}", added.text);
    assert_eq!(added.json()["schedule"], "every 500ms");
    assert_eq!(added.json()["scheduled"], "scheduled by this node");
    quickstart.wait_for("JobAdded hello");
    quickstart.wait_for("RunStarted hello");
    quickstart.wait_for("RunSucceeded hello");

    let job = quickstart.listed("hello").expect("it is listed");
    assert_eq!(
        (&job["name"], &job["schedule"], &job["timezone"]),
        (&json!("hello"), &json!("every 500ms"), &Value::Null)
    );
    assert_eq!(parse_instant(&job["next_fire_time"]).timestamp_subsec_millis() % 500, 0);
    assert_eq!(job["last_run"]["outcome"], "succeeded");
    assert!(parse_instant(&job["last_run"]["started_at"]) <= Utc::now());
    // The body sleeps for 20 ms.
    let took = parse_duration(job["last_run"]["took"].as_str().expect("a text")).expect("a duration");
    assert!(took >= Duration::from_millis(20), "{job}");

    assert_eq!(quickstart.send("DELETE", "/jobs/hello").status, 204);
    quickstart.wait_for("JobRemoved hello");
    assert_eq!(quickstart.listed("hello"), None);
    let again = quickstart.send("DELETE", "/jobs/hello");
    assert_eq!(again.status, 404);
    assert_contains(&again.text, &["\"hello\""]);
    // The name is free.
    assert_eq!(quickstart.post(&json!({ "name": "hello", "every": "500ms" })).status, 201);
}

#[test]
fn a_cron_job_shows_its_zone_and_its_next_fire_time() {
    let quickstart = Quickstart::start();
    let before = Utc::now();

    let added =
        quickstart.post(&json!({ "name": "hello", "cron": "* * * * *", "timezone": "Europe/Lisbon" }));

    assert_eq!(added.status, 201, "{}", added.text);
    let job = quickstart.listed("hello").expect("it is listed");
    assert_eq!(job["schedule"], "cron * * * * * (Europe/Lisbon)");
    assert_eq!(job["timezone"], "Europe/Lisbon");
    assert_eq!(job["last_run"], Value::Null);
    let next = parse_instant(&job["next_fire_time"]);
    assert!(next > before && next <= Utc::now() + TimeDelta::minutes(1), "{next}");
    assert_eq!(next.timestamp() % 60, 0);
    assert_eq!(quickstart.get("/jobs/hello").json(), job);
    assert_eq!(quickstart.get("/jobs/nobody").status, 404);
}

#[test]
fn what_became_of_a_tick_is_explained_in_english_and_as_data() {
    let mut quickstart = Quickstart::start();
    let started = quickstart.wait_for("RunStarted steady ");
    let tick = started.split_whitespace().nth(3).expect("the fire time").to_owned();
    quickstart.wait_for("RunSucceeded steady ");

    let english = quickstart.get(&format!("/jobs/steady/explain?at={tick}"));
    assert_eq!(english.status, 200, "{}", english.text);
    assert_contains(
        &english.text,
        &[&*format!("steady at {tick}: it ran as run "), "schedule: every 2s: fires then"],
    );
    let data = quickstart.get_data(&format!("/jobs/steady/explain?at={tick}"));
    let answer = &data["explanations"][0];
    assert_eq!((&answer["answer"], &answer["outcome"]), (&json!("ran"), &json!("succeeded")), "{data}");
    let run = &answer["run"];
    let runs = quickstart.get("/jobs/steady/runs").json();
    let is_its = |one: &&Value| one["run"] == *run && one["fire_time"] == json!(tick);
    assert!(runs["runs"].as_array().expect("a page of runs").iter().any(|one| is_its(&one)), "{runs}");
    let range = quickstart.get_data(&format!("/jobs/steady/explain?from={tick}&to=2100-01-01T00:00:00Z"));
    assert_eq!(range["explanations"][0]["run"], *run, "{range}");
    let later = quickstart.get("/jobs/steady/explain?at=2100-01-01T00:00:00Z");
    assert_contains(&later.text, &["not decided yet: it has not come"]);
    let wrong = quickstart.get("/jobs/steady/explain");
    assert_eq!((wrong.status, &*wrong.text), (400, "ask `at` an instant, or `from` one `to` another"));
    assert_eq!(quickstart.get("/jobs/nobody/explain?at=2100-01-01T00:00:00Z").status, 404);
    quickstart.stop();
}

#[test]
fn a_trigger_starts_a_run_now_unless_the_job_runs_already() {
    let mut quickstart = Quickstart::start();
    assert_eq!(quickstart.post(&json!({ "name": "yearly", "cron": "0 0 1 1 *" })).status, 201);

    let triggered = quickstart.send("POST", "/jobs/yearly/run");

    assert_eq!(triggered.status, 202, "{}", triggered.text);
    quickstart.wait_for("RunStarted yearly triggered");
    quickstart.wait_for("RunSucceeded yearly");
    assert_eq!(quickstart.send("POST", "/jobs/nobody/run").status, 404);

    for path in ["/jobs/yearly/runs?limit=10", "/runs?limit=1000"] {
        let recorded = quickstart.get(path).json();
        let runs = recorded["runs"].as_array().expect("a page of runs");
        assert!(runs.iter().any(|run| run["run"] == triggered.json()["run"]), "{path}: {recorded}");
    }
    assert_eq!(quickstart.get("/runs?outcome=no-such-word").status, 400);
    // Page by page.
    quickstart.wait_for("RunSucceeded steady");
    quickstart.wait_for("RunSucceeded steady");
    let (mut seen, mut next) = (BTreeSet::new(), String::new());
    for _ in 0..2 {
        let page = quickstart.get(&format!("/jobs/steady/runs?limit=1{next}")).json();
        seen.insert(page["runs"][0]["run"].to_string());
        // The last page names no next one.
        next = page["next"].as_str().map_or_else(String::new, |run| format!("&before={run}"));
    }
    assert_eq!(seen.len(), 2, "each once");

    // A run takes 20 ms: of triggers without a pause, one soon meets a run in progress.
    let until = Instant::now() + DEADLINE;
    let refused = loop {
        let answer = quickstart.send("POST", "/jobs/yearly/run");
        if answer.status != 202 {
            break answer;
        }
        assert!(Instant::now() < until, "runs of one job overlap, or end at once");
    };
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_contains(&refused.text, &["yearly", "its lock key is held", "wait"]);
}

#[test]
fn what_is_wrong_with_a_job_is_said_all_at_once() {
    let quickstart = Quickstart::start();
    let long = "x".repeat(201);
    let either = ["`cron`", "`every`"].as_slice();
    let cases = [
        (
            json!({ "name": "a", "cron": "61 * * * *" }),
            ["\"61 * * * *\"", "column 1", "from 0 to 59"].as_slice(),
        ),
        (json!({ "name": "a", "cron": "0 0 30 2 *" }), &["0 0 30 2 *"]),
        (
            json!({ "name": "a", "cron": "* * * * *", "timezone": "Mars/Olympus" }),
            &["Mars/Olympus", "IANA", "UTC"],
        ),
        (json!({ "name": "a", "every": "0s" }), &["\"a\"", "a period is not zero", "at least 1 ms"]),
        (json!({ "name": "a", "every": "-5s" }), &["\"-5s\"", "not negative", "for example `1h30m`"]),
        (json!({ "name": "a", "every": "soon" }), &["\"soon\"", "whole number", "for example `1h30m`"]),
        (json!({ "name": "", "every": "1s" }), &["name \"\"", "not empty"]),
        (json!({ "name": long, "every": "1s" }), &["at most 200 bytes", "201", "shorten"]),
        (json!({ "name": "a\nb", "every": "1s" }), &["control characters", "character 2"]),
        (json!({ "name": "a" }), either),
        (json!({ "name": "a", "cron": "* * * * *", "every": "1s" }), either),
        (json!({ "name": "a", "every": "1s", "timezone": "UTC" }), either),
        // Several faults at once.
        (
            json!({ "name": "a", "cron": "61 25 * * *", "timezone": "Mars/Olympus" }),
            &["`61` is not a minute", "`25` is not an hour", "Mars/Olympus"],
        ),
        (json!({ "name": "", "every": "soon" }), &["not empty", "\"soon\""]),
        // Not a job at all.
        (json!({ "name": "a", "every": "1s", "colour": "red" }), &["`colour`"]),
        (json!({ "every": "1s" }), &["`name`"]),
        (json!({ "name": 1, "every": "1s" }), &["integer", "string"]),
        (json!({ "name": "a", "every": 500 }), &["integer", "string"]),
        (json!(["a"]), &["the body is not the JSON of a job"]),
    ];

    for (job, reasons) in cases {
        let refused = quickstart.post(&job);

        assert_eq!(refused.status, 400, "{job}: {}", refused.text);
        assert_contains(&refused.text, reasons);
    }
    for text in ["", "{", "name=a&every=1s", "{\"name\": \"a\", \"name\": \"b\", \"every\": \"1s\"}"] {
        let refused = quickstart.post_text(text);

        assert_eq!(refused.status, 400, "{text}: {}", refused.text);
        assert_contains(&refused.text, &["the body is not the JSON of a job"]);
    }
    assert_eq!(quickstart.get("/health").json()["jobs"], 3, "a refused job was added");
}

#[test]
fn a_name_that_exists_is_a_conflict_and_a_fault_comes_first() {
    let quickstart = Quickstart::start();

    let same_name = quickstart.post(&json!({ "name": "steady", "every": "1s" }));
    let invalid_too = quickstart.post(&json!({ "name": "steady", "every": "0s" }));

    assert_eq!(same_name.status, 409);
    assert_contains(&same_name.text, &["\"steady\"", "exists", "another name"]);
    assert_eq!(invalid_too.status, 400, "{}", invalid_too.text);
    assert_eq!(quickstart.listed("steady").expect("it is listed")["schedule"], "every 2s");
}

#[test]
fn a_name_may_have_any_character_when_it_is_percent_encoded() {
    let mut quickstart = Quickstart::start();

    for name in ["a/b c%25+d?#&", "überprüfen", "..", "\"<'>\\"] {
        let added = quickstart.post(&json!({ "name": name, "cron": "0 0 1 1 *" }));
        assert_eq!(added.status, 201, "{name}: {}", added.text);
        let path = added.location.expect("a location");

        assert_eq!(quickstart.get(&path).json()["name"], name);
        assert_eq!(quickstart.send("POST", &format!("{path}/run")).status, 202, "{name}");
        quickstart.wait_for(&format!("RunSucceeded {name}"));
        assert_eq!(quickstart.send("DELETE", &path).status, 204, "{name}");
        assert_eq!(quickstart.listed(name), None);
    }
}

#[test]
fn the_list_has_all_jobs_however_many_pages_that_takes() {
    let quickstart = Quickstart::start();
    let added = PAGE_MAX + 1;

    for nth in 0..added {
        let job = json!({ "name": format!("job {nth:04}"), "cron": "0 0 1 1 *" });
        assert_eq!(quickstart.post(&job).status, 201);
    }

    let jobs = quickstart.get("/jobs").json();
    let names: Vec<_> = jobs.as_array().expect("a list").iter().map(|job| job["name"].to_string()).collect();
    assert_eq!(names.len(), added + 3);
    assert!(names.is_sorted());
    assert_eq!(quickstart.get("/health").json()["jobs"], added + 3);
}

#[test]
fn the_console_is_at_the_root_and_shadows_no_other_route() {
    let quickstart = Quickstart::start();

    let page = quickstart.get("/");
    assert_eq!(page.status, 200, "{}", page.text);
    let script = page.text.split('"').find(|part| part.ends_with("/app.js")).expect("it has one");
    assert_eq!(quickstart.get(&format!("/{script}")).status, 200, "{script}");
    assert_eq!(quickstart.get("/api/me").json()["right"], "read");
    assert_eq!(quickstart.get("/api/jobs").json()["total"], 3);
    assert_eq!(quickstart.send("POST", "/api/actions/pause").status, 403, "who may is not said");

    assert!(quickstart.get("/jobs").json().is_array());
    for (path, member) in [
        ("/health", "backend"),
        ("/runs", "runs"),
        ("/nodes", "nodes"),
        ("/jobs/steady", "schedule"),
        ("/jobs/steady/runs", "runs"),
    ] {
        let answer = quickstart.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(answer.json().get(member).is_some(), "{path}: {}", answer.text);
    }
    for path in ["/livez", "/readyz", "/healthz", "/metrics"] {
        let answer = quickstart.get(path);
        assert!(answer.status == 200 && !answer.text.starts_with(['<', '{']), "{path}: {}", answer.text);
    }
    // What their resources do not take is not the console's either.
    assert_eq!(quickstart.send("PUT", "/jobs").status, 405);
    let unknown = quickstart.get("/no-such-path");
    assert_eq!((unknown.status, &unknown.json()["kind"]), (404, &json!("not_found")));
}
