//! Texts of others, and questions that are meant to cost much.

use std::time::{Duration, Instant};

use callsheet::{
    Job, Run,
    chrono::{TimeDelta, Utc},
    schedule::{cron, every},
};
use serde_json::json;

use crate::{answers::percent, console, get, post, quiet, run_once, served, started, stop};

const SCRIPT: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

#[actix_web::test]
async fn stored_scripts_come_back_as_texts_of_json() {
    let job = Job::new(SCRIPT, every(Duration::from_hours(1))).tag(SCRIPT).lock_key(SCRIPT).run(
        async |run: Run| {
            run.report(SCRIPT);
            run.measure(SCRIPT, 1.0);
            Err::<(), _>(SCRIPT)
        },
    );
    let jobs = started([job]).await;
    let app = served(&console(&jobs)).await;
    run_once(&jobs, SCRIPT).await;
    let paused = post(&app, "pause", &json!({"jobs": [SCRIPT], "note": SCRIPT})).await;
    assert_eq!(paused.status, 200, "{}", paused.text);

    for path in [
        "jobs".to_owned(),
        "overview".to_owned(),
        "runs".to_owned(),
        "operations".to_owned(),
        format!("job?job={}", percent(SCRIPT)),
        format!("explain?job={}&at=2026-01-05T12:00:00Z", percent(SCRIPT)),
        // Also in errors.
        format!("job?job={}", percent(&SCRIPT[1..])),
        format!("preview?schedule={}", percent(SCRIPT)),
        format!("jobs?state={}", percent(SCRIPT)),
        percent(SCRIPT),
    ] {
        let answer = get(&app, &path).await;
        let kind = answer.header("content-type");
        assert!(kind == "application/json" || kind == "application/problem+json", "{path}: {kind}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(answer.json().is_object(), "{path}");
    }
    let row = get(&app, "jobs").await.json()["jobs"][0].clone();
    assert_eq!(
        (&row["name"], &row["tags"][0], &row["pause"]["note"]),
        (&json!(SCRIPT), &json!(SCRIPT), &json!(SCRIPT))
    );
    let run = get(&app, "runs").await.json()["runs"][0].clone();
    assert_eq!(
        (&run["error"], &run["report"], &run["measures"][0]["name"]),
        (&json!(SCRIPT), &json!(SCRIPT), &json!(SCRIPT))
    );
    stop(jobs).await;
}

#[actix_web::test]
async fn names_that_are_no_path_reach_their_jobs() {
    let names = ["a/b", "..", ".", "100%", "a?b=c&d#e", "ü b", "+"];
    let jobs = started(names.map(quiet)).await;
    let app = served(&console(&jobs)).await;

    for name in names {
        let answer = get(&app, &format!("job?job={}", percent(name))).await;
        assert_eq!((answer.status, &answer.json()["job"]["name"]), (200, &json!(name)), "{name}");
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn a_hostile_schedule_is_refused_or_cut_within_its_bounds() {
    let jobs = started([]).await;
    let app = served(&console(&jobs)).await;
    let many: Vec<_> = (0..200).map(|_| json!({"cron": "0 0 29 2 MON"})).collect();
    let all_day = json!([{"from": "00:00", "to": "23:59:59"}]);
    let except_all = json!({"cron": "* * * * * *", "except": [{"name": "all", "times": all_day}]});
    let nested = (0..200).fold(json!({"every": "1m"}), |inner, _| json!({"any": [inner]}));
    for text in [
        "0 0 1--100000000 * *".to_owned(),
        "0 0 1-100000000 * *".to_owned(),
        "0 0 */0 * *".to_owned(),
        "0 0 30 2 *".to_owned(),
        "0 0 29 2 MON".to_owned(),
        format!("{} * * * *", (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",")),
        "* ".repeat(4_000),
        "x".repeat(9_000),
        json!({"any": many}).to_string(),
        except_all.to_string(),
        nested.to_string(),
        json!({"every": "1ms"}).to_string(),
        json!({"random": {"min": "1ms", "max": "1ms"}}).to_string(),
    ] {
        let asked = Instant::now();
        let answer = get(&app, &format!("preview?count=100&schedule={}", percent(&text))).await;
        let start: String = text.chars().take(60).collect();
        assert!(matches!(answer.status, 200 | 400), "{start}: {} {}", answer.status, answer.text);
        // A bound against hanging, ten times what it promises: debug builds on machines that are busy.
        assert!(asked.elapsed() < Duration::from_secs(20), "{start}: {:?}", asked.elapsed());
        assert!(answer.text.len() < 100_000, "{start}");
        if answer.status == 200 {
            assert!(answer.json()["lines"].as_array().expect("a list").len() <= 100);
        }
    }
    stop(jobs).await;
}

#[actix_web::test]
async fn ten_thousand_jobs_are_paged_sorted_and_counted() {
    const MANY: usize = 10_000;
    // None fires while they are paged: which is the next would change.
    let in_two_hours = (Utc::now() + TimeDelta::hours(2)).format("%-M %-H * * *").to_string();
    let job = |number| {
        Job::new(format!("job {number:05}"), cron(&in_two_hours))
            .tag(if number % 2 == 0 { "even" } else { "odd" })
            .run(async |_: Run| {})
    };
    let jobs = started((0..MANY).map(job)).await;
    let app = served(&console(&jobs)).await;

    for (query, expected) in
        [("", MANY), ("&tag=even", MANY / 2), ("&sort=next&order=desc", MANY), ("&search=JOB%20099", 100)]
    {
        let (mut seen, mut after) = (std::collections::BTreeSet::new(), String::new());
        loop {
            let page = get(&app, &format!("jobs?limit=1000{query}&after={after}")).await.json();
            assert_eq!((&page["total"], &page["matched"]), (&json!(MANY), &json!(expected)), "{query}");
            for job in page["jobs"].as_array().expect("a list") {
                assert!(seen.insert(job["name"].as_str().expect("a name").to_owned()), "{query}: twice");
            }
            match page["next"].as_str() {
                Some(next) => after = percent(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), expected, "{query}");
    }
    let calendar = get(&app, "calendar?hours=3").await.json();
    assert_eq!(calendar["cut"], true, "of so many jobs some are not asked");
    let overview = get(&app, "overview").await;
    assert!(overview.text.len() < 20_000, "{} bytes", overview.text.len());
    let too_many = post(&app, "pause", &json!({"filter": {}, "count": MANY})).await;
    assert_eq!(too_many.status, 400, "{}", too_many.text);
    stop(jobs).await;
}

#[actix_web::test]
async fn a_job_that_fires_all_the_time_is_estimated_in_the_calendar() {
    let often = Job::new("often", every(Duration::from_secs(1))).run(async |_: Run| {});
    let jobs = started([often, quiet("hourly")]).await;
    let app = served(&console(&jobs)).await;

    let calendar = get(&app, "calendar?hours=24").await.json();

    assert_eq!((&calendar["jobs"], &calendar["cut"]), (&json!(2), &json!(false)));
    assert_eq!(
        (&calendar["frequent"][0]["job"], &calendar["frequent"][0]["every"]),
        (&json!("often"), &json!("1s"))
    );
    let buckets = calendar["buckets"].as_array().expect("a list");
    assert_eq!(buckets.len(), 24);
    // The first one has begun already.
    for bucket in &buckets[1..] {
        let count = bucket["count"].as_u64().expect("a number");
        assert!((3_598..=3_602).contains(&count), "{bucket:#}");
    }
    stop(jobs).await;
}
