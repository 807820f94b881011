//! What a node logs: at the level that it deserves, and so many lines a minute.

use std::time::Duration;

use callsheet::{
    Callsheet, Job, PauseJobs, ResumeJobs, ShutdownBudget,
    schedule::every,
    testkit::{fakes::PanickingSchedule, fakes::Period, simulate},
};

mod common;
use common::{node_with, secs};
#[path = "common/log.rs"]
mod log;
use log::Log;

const START: &str = "2026-01-05T00:00:00Z";

/// Level and text of the lines that name something.
fn lines_about(log: &Log, what: &str) -> Vec<(String, String)> {
    let text = log.text();
    let line = |line: &str| {
        let (_, rest) = line.split_once(char::is_whitespace)?;
        let (level, rest) = rest.trim_start().split_once(' ')?;
        // Without the span, which a formatter puts before the target.
        let (_, text) = rest.split_once("callsheet: ")?;
        let text = text.rsplit_once(" node=").map_or(text, |(text, _)| text);
        Some((level.to_owned(), text.to_owned()))
    };
    text.lines().filter(|line| line.contains(what)).filter_map(line).collect()
}

/// The texts of the lines that name something, of one level.
fn texts(log: &Log, what: &str, level: &str) -> Vec<String> {
    lines_about(log, what).into_iter().filter(|(of, _)| of == level).map(|(_, text)| text).collect()
}

#[test]
fn a_job_that_fails_each_second_warns_five_times_a_minute() {
    let log = Log::keep();
    simulate(START, async |rig| {
        let failing = Job::new("failing", every(secs(1))).run(async |_| Err::<(), _>("out\nof paper"));
        rig.node(node_with([failing])).await;

        rig.advance(secs(125)).await;
    });

    let lines = texts(&log, "failing", "WARN");
    let of_minute = |more: usize| {
        let mut lines = vec!["RunFailed failing took 0.0ns: out\\nof paper".to_owned(); 5];
        lines.push(format!("RunFailed failing: … {more} more in the last minute"));
        lines
    };
    assert_eq!(lines[..12], [of_minute(54), of_minute(55)].concat(), "{lines:#?}");
    assert_eq!(lines_about(&log, "failing").iter().filter(|(level, _)| level == "ERROR").count(), 0);
}

#[test]
fn what_goes_wrong_is_at_warn_and_error_and_what_goes_well_at_debug() {
    let log = Log::keep();
    simulate(START, async |rig| {
        let minutely = |name: &str| Job::new(name, every(secs(60)));
        let jobs = [
            minutely("good").run(async |_| {}),
            minutely("slow").timeout(secs(1)).run(async |run| run.cancelled().await),
            minutely("panicky").run(async |_| -> () { panic!("on purpose") }),
            Job::new("dying", PanickingSchedule::new(Period::seconds(60), rig.now() + secs(59), 1))
                .run(async |_| {}),
        ];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(secs(100)).await;
        let pause = PauseJobs::new("good");
        rig.send(node, pause).await.expect("it is paused");
        rig.send(node, ResumeJobs::new("good")).await.expect("it is resumed");
        rig.update(node, minutely("good").run(async |_| {})).await.expect("it is updated");
    });

    let levels = |what: &str| {
        let mut levels: Vec<_> = lines_about(&log, what).into_iter().map(|(level, _)| level).collect();
        levels.dedup();
        levels
    };
    assert_eq!(levels("RunStarted good"), ["DEBUG"]);
    assert_eq!(levels("RunSucceeded good"), ["DEBUG"]);
    assert_eq!(levels("RunTimedOut slow"), ["WARN"]);
    assert_eq!(levels("RunPanicked panicky"), ["ERROR"]);
    assert_eq!(levels("JobRestarted dying"), ["ERROR"]);
    for what in ["JobPaused good", "JobResumed good", "JobUpdated good", "LeadershipGained"] {
        assert_eq!(levels(what), ["INFO"], "{what}");
    }
}

#[test]
fn the_reason_of_a_lost_session_is_logged() {
    let log = Log::keep();
    simulate(START, async |rig| {
        let node = rig.node(node_with([Job::new("any", every(secs(60))).run(async |_| {})])).await;
        rig.end_session(node);
        rig.advance(secs(10)).await;
    });

    let lines = texts(&log, "the session is lost: the store ended it", "WARN");
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_shutdown_is_no_error() {
    let log = Log::keep();
    for round in 0..10 {
        let busy = |nth| {
            let job = Job::new(format!("stops-{round}-{nth}"), every(Duration::from_millis(50)));
            job.run(async |_| tokio::time::sleep(Duration::from_millis(5)).await)
        };
        let node = Callsheet::builder().jobs((0..1_000).map(busy)).arbiters(2);
        let jobs = node.start().await.expect("it starts");

        jobs.remove("stops-0-0").await.ok();
        jobs.shutdown(secs(10)).await;
    }

    assert_eq!(texts(&log, "stop", "ERROR"), [""; 0]);
    assert_eq!(lines_about(&log, "actor of a job"), []);
}

#[tokio::test]
async fn what_a_shutdown_may_take_is_logged_with_its_shares() {
    let log = Log::keep();
    let jobs = Callsheet::builder().start().await.expect("it starts");

    let budget = ShutdownBudget::within(secs(28)).readiness_delay(secs(2));
    drop(jobs.shutdown_on(futures_util::stream::pending::<()>(), budget).expect("it fits"));

    let lines = texts(&log, "a shutdown takes at most", "INFO");
    let sum = "28s: 2s not ready + 11s to drain + 5s from cancel to abort + 5s to end + 5s for the server";
    assert!(matches!(&lines[..], [line] if line.contains(sum)), "{lines:?}");
    jobs.shutdown(secs(5)).await;
}
