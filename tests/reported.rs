//! What a body says of its run: who sees it, and what becomes of what cannot be kept.

use std::sync::{Arc, Mutex};

use callsheet::{
    EventKind, FinishedRun, Job, MEASURES_MAX, Reported, Retry, Run, RunResult,
    schedule::at,
    testkit::{Rig, simulate},
};

mod common;
use common::{details, node_with, secs};

#[path = "common/log.rs"]
mod log;
use log::Log;

const START: &str = "2026-01-05T00:00:00Z";

async fn import(run: Run, _: ()) {
    for tenth in 0..=10 {
        run.progress(f64::from(tenth) / 10.0);
        run.measure("rows", f64::from(tenth) * 100.0);
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    run.report("1,000 rows");
}

async fn shown(rig: &mut Rig, node: usize, job: &str) -> Reported {
    let mut runs = details(rig, node, job).await.active_runs;
    runs.pop().expect("it runs").reported
}

/// Keeps what the hooks are told that the body said.
fn keep(said: &Arc<Mutex<Vec<Reported>>>) -> impl Fn(FinishedRun) -> std::future::Ready<()> + use<> {
    let said = said.clone();
    move |ended| {
        said.lock().expect("nobody panics").push(ended.run.reported());
        std::future::ready(())
    }
}

#[test]
fn the_status_shows_what_a_body_says_and_hooks_are_told() {
    simulate(START, async |rig| {
        let said = Arc::default();
        let job = Job::new("import", at([rig.now() + secs(1)])).after_success(keep(&said));
        let node = rig.node(node_with([job.run_with((), import)])).await;

        rig.advance(secs(2)).await;
        let reported = shown(rig, node, "import").await;
        assert_eq!((reported.progress, reported.measure("rows")), (Some(0.4), Some(400.0)));
        assert_eq!(reported.report, None, "it comes at the end");
        rig.advance(secs(10)).await;

        let [told] = &said.lock().expect("nobody panics")[..] else { panic!("one run") };
        assert_eq!((told.progress, told.report.as_deref()), (Some(1.0), Some("1,000 rows")));
    });
}

#[test]
fn progress_is_published_at_most_once_a_second() {
    simulate(START, async |rig| {
        let job = Job::new("import", at([rig.now() + secs(1)])).run_with((), import);
        rig.node(node_with([job])).await;

        rig.advance(secs(10)).await;

        let progress = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
            EventKind::RunProgressed { progress, .. } => Some(progress),
            _ => None,
        });
        assert_eq!(progress.collect::<Vec<_>>(), [0.0, 0.4, 0.8], "in 2.5 s");
    });
}

#[test]
fn what_the_last_attempt_said_stands() {
    simulate(START, async |rig| {
        let said = Arc::default();
        let body = async |run: Run| -> RunResult {
            if run.attempt() == 1 {
                run.report("no connection");
                run.measure("sent", 1.0);
                return Err("no connection".into());
            }
            run.report("sent");
            Ok(())
        };
        let job = Job::new("mail", at([rig.now() + secs(1)]))
            .retry(Retry::attempts(2).initial(secs(5)))
            .after_success(keep(&said))
            .run(body);
        rig.node(node_with([job])).await;

        rig.advance(secs(30)).await;

        let [told] = &said.lock().expect("nobody panics")[..] else { panic!("one run") };
        assert_eq!((told.report.as_deref(), told.measures.len()), (Some("sent"), 0));
    });
}

#[test]
fn a_body_does_not_fail_for_what_it_says_and_the_log_says_once_what_is_left_out() {
    let log = Log::keep();
    simulate(START, async |rig| {
        let said = Arc::default();
        let body = async |run: Run| {
            run.measure("rate", f64::NAN);
            run.progress(f64::NAN);
            for nth in 0..100 {
                run.measure(format!("m{nth}"), 1.0);
            }
            run.report("x".repeat(1_000_000));
        };
        let job = Job::new("wordy", at([rig.now() + secs(1)])).after_success(keep(&said));
        rig.node(node_with([job.run(body)])).await;

        rig.advance(secs(10)).await;

        let [told] = &said.lock().expect("nobody panics")[..] else { panic!("it succeeds") };
        assert_eq!((told.measures.len(), told.progress), (MEASURES_MAX, None));
        assert_eq!(told.report.as_ref().map(|report| report.chars().count()), Some(1_000));
    });

    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("something that wordy said")).collect();
    let fault = "is left out: measure \"rate\" \"NaN\": a measure is a finite number; leave it out";
    assert!(matches!(&lines[..], [line] if line.contains(fault)), "{lines:?}");
}
