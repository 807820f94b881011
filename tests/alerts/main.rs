//! The alerts of the guide: each is about metrics that the engine has, and fires on what a scraper read of an engine
//! to which that happened.
//!
//! Prometheus' own `promtool` evaluates them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    process::Command,
    time::Duration,
};

use callsheet::{Callsheet, Job, metrics::Prometheus, schedule::every};
use chrono::Utc;
use tokio::time::sleep;

/// What is scraped: a series, and its value.
type Scrape = BTreeMap<String, f64>;

fn scrape(prometheus: &Prometheus) -> Scrape {
    let text = prometheus.render();
    let lines = text.lines().filter(|line| line.starts_with("callsheet_"));
    let series = lines.filter_map(|line| line.rsplit_once(' '));
    series.map(|(series, value)| (series.to_owned(), value.parse().expect("it is a number"))).collect()
}

fn value(scrape: &Scrape, metric: &str, job: &str) -> Option<f64> {
    scrape.get(&format!("{metric}{{scope=\"_local\",name=\"{job}\"}}")).copied()
}

async fn scraped_when(prometheus: &Prometheus, is_so: impl Fn(&Scrape) -> bool) -> Scrape {
    loop {
        let scrape = scrape(prometheus);
        if is_so(&scrape) {
            return scrape;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The rules of the guide.
fn rules() -> String {
    let guide =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/alerts.md")).expect("it is there");
    let (_, rules) = guide.split_once("```yaml\n").expect("the guide has rules");
    rules.split_once("```").expect("they end").0.to_owned()
}

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_part(letter))
        .filter(|word| word.starts_with("callsheet_"))
        .map(str::to_owned)
        .collect()
}

/// What an alert is tried with: the series of a scrape that lasts, after which it is to fire or not.
struct Case<'a> {
    alert: &'a str,
    /// For how many minutes.
    minutes: u64,
    scrape: Scrape,
    /// The labels with which it fires, or nothing.
    fires: Option<&'a str>,
}

/// When the scrape is made by the clock of `promtool`, which begins at 0: no instant is before that.
const SCRAPED_AT: u64 = 600;

/// By the clock of `promtool`.
fn by_its_clock(scrape: &Scrape, now: f64) -> Scrape {
    let shifted = scrape.iter().map(|(series, value)| {
        let is_instant = series.contains("_timestamp_seconds") && *value > 0.0;
        (series.clone(), if is_instant { value - now + SCRAPED_AT as f64 } else { *value })
    });
    shifted.collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn test_file(cases: &[Case<'_>]) -> String {
    let mut text = "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n".to_owned();
    for Case { alert, minutes, scrape, fires } in cases {
        writeln!(text, "- interval: 1m\n  input_series:").expect("a text takes all");
        for (series, value) in scrape {
            let lasts = if series.contains("callsheet_vanishes") { *minutes - 60 } else { *minutes };
            let series = series.replace("callsheet_vanishes", "callsheet_job_info");
            writeln!(text, "  - series: {}\n    values: '{value}x{lasts}'", quoted(&series))
                .expect("a text takes all");
        }
        writeln!(text, "  alert_rule_test:\n  - eval_time: {minutes}m\n    alertname: {alert}")
            .expect("a text takes all");
        match fires {
            Some(labels) => writeln!(text, "    exp_alerts: [{{exp_labels: {{{labels}}}}}]"),
            None => writeln!(text, "    exp_alerts: []"),
        }
        .expect("a text takes all");
    }
    text
}

fn promtool(dir: &std::path::Path, arguments: &[&str]) {
    let output =
        Command::new("promtool").args(arguments).current_dir(dir).output().expect("promtool is installed");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

/// One test: a recorder belongs to the process.
#[tokio::test(flavor = "multi_thread")]
async fn each_alert_of_the_guide_fires_on_what_was_scraped() {
    let prometheus = Prometheus::install().expect("it is the first one");
    let second = Duration::from_secs(1);
    let jobs = [
        Job::new("well", every(second)).run(async |_| {}),
        Job::new("fails", every(second)).run(async |_| Err::<(), _>("out of paper")),
        Job::new("hangs", every(second)).run(async |_| std::future::pending::<()>().await),
        Job::new("paused", every(second)).run(async |_| {}),
        Job::new("late", every(second))
            .expect_success_within(second)
            .run(async |_| Err::<(), _>("out of paper")),
    ];
    let scheduler = Callsheet::builder().jobs(jobs).start().await.expect("it starts");
    scheduler.pause("paused").await.expect("it is there");

    let seen = scraped_when(&prometheus, |scrape| {
        value(scrape, "callsheet_job_consecutive_failures", "fails").is_some_and(|failures| failures >= 3.0)
            && value(scrape, "callsheet_job_last_success_timestamp_seconds", "well").is_some()
            && value(scrape, "callsheet_job_running_since_timestamp_seconds", "hangs")
                .is_some_and(|since| since > 0.0)
            && value(scrape, "callsheet_job_paused", "paused") == Some(1.0)
            && value(scrape, "callsheet_job_overdue", "late") == Some(1.0)
    })
    .await;
    let now = Utc::now().timestamp_millis() as f64 / 1_000.0;
    let newest = value(&seen, "callsheet_job_last_run_timestamp_seconds", "well").expect("it ran");
    assert!((now - newest).abs() < 60.0, "{newest} at {now}");
    let next = value(&seen, "callsheet_job_next_fire_timestamp_seconds", "well").expect("it runs again");
    assert!((next - now).abs() < 60.0, "{next} at {now}");
    let is_one = |series: &str| seen.get(series) == Some(&1.0);
    assert!(is_one("callsheet_job_state{scope=\"_local\",name=\"hangs\",state=\"running\"}"), "{seen:?}");
    assert!(is_one("callsheet_job_state{scope=\"_local\",name=\"paused\",state=\"paused\"}"), "{seen:?}");
    assert!(is_one("callsheet_job_info{scope=\"_local\",name=\"well\",schedule=\"every 1s\"}"), "{seen:?}");
    for metric in
        ["callsheet_waiting_ticks", "callsheet_oldest_undecided_tick_seconds", "callsheet_build_info"]
    {
        assert!(seen.keys().any(|series| series.starts_with(metric)), "{metric}");
    }
    let rules = rules();
    let known = metrics(&seen.keys().cloned().collect::<Vec<_>>().join("\n"));
    let unknown: Vec<_> = metrics(&rules).difference(&known).cloned().collect();
    assert_eq!(unknown, Vec::<String>::new(), "the rules are about what there is");

    let seen = by_its_clock(&seen, now);
    let with = |changes: &[(&str, &str)]| -> Scrape {
        let changed =
            |series: &String| changes.iter().fold(series.clone(), |text, (from, to)| text.replace(from, to));
        seen.iter().map(|(series, value)| (changed(series), *value)).collect()
    };
    let leaderless = seen.iter().map(|(series, value)| {
        (series.clone(), if series.starts_with("callsheet_leader{") { 0.0 } else { *value })
    });
    let leaderless: Scrape = leaderless.collect();
    let cluster = with(&[("scope=\"_local\"", "scope=\"billing\"")]);
    let mut two = with(&[("scope=\"_local\"", "scope=\"billing\",instance=\"a\"")]);
    two.extend(with(&[("scope=\"_local\"", "scope=\"billing\",instance=\"b\"")]));
    let vanished = with(&[(
        "callsheet_job_info{scope=\"_local\",name=\"well\"",
        "callsheet_vanishes{scope=\"_local\",name=\"well\"",
    )]);
    let case =
        |alert, minutes, scrape: &Scrape, fires| Case { alert, minutes, scrape: scrape.clone(), fires };
    let day = 24 * 60;
    let cases = [
        case("CallsheetNoLeader", 5, &leaderless, Some("scope: _local")),
        case("CallsheetNoLeader", 5, &seen, None),
        case("CallsheetTwoLeaders", 5, &two, Some("scope: billing")),
        case("CallsheetTwoLeaders", 5, &cluster, None),
        case("CallsheetNoSuccess", 26 * 60 + 15, &seen, Some("scope: _local, name: well")),
        case("CallsheetNoSuccess", 25 * 60, &seen, None),
        case("CallsheetJobOverdue", 5, &seen, Some("scope: _local, name: late")),
        case("CallsheetJobPaused", day + 5, &seen, Some("scope: _local, name: paused")),
        case("CallsheetJobPaused", day - 15, &seen, None),
        case("CallsheetRunTooLong", 75, &seen, Some("scope: _local, name: hangs")),
        case("CallsheetRunTooLong", 50, &seen, None),
        case("CallsheetJobVanished", day, &vanished, Some("scope: _local, name: well")),
        case("CallsheetJobVanished", day, &seen, None),
    ];
    let dir = tempfile::tempdir().expect("there is room");
    fs::write(dir.path().join("rules.yml"), &rules).expect("there is room");
    promtool(dir.path(), &["check", "rules", "rules.yml"]);
    fs::write(dir.path().join("tests.yml"), test_file(&cases)).expect("there is room");
    promtool(dir.path(), &["test", "rules", "tests.yml"]);
    let failing = Case {
        alert: "CallsheetJobFails",
        minutes: 5,
        scrape: seen.clone(),
        fires: Some("scope: _local, name: fails"),
    };
    let only_one: Scrape = failing
        .scrape
        .iter()
        .filter(|(series, _)| !series.contains("\"late\""))
        .map(|(s, v)| (s.clone(), *v))
        .collect();
    fs::write(dir.path().join("tests.yml"), test_file(&[Case { scrape: only_one, ..failing }]))
        .expect("there is room");
    promtool(dir.path(), &["test", "rules", "tests.yml"]);
}
