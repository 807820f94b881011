//! What a body says by its error, and what the events make of it.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use callsheet::{EventKind, Job, Retry, Run, RunError, RunResult, schedule::every, testkit::simulate};

mod common;
use common::{hours, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

/// An error with a cause.
#[derive(Debug)]
struct Because(String, Option<Box<Because>>);

impl Because {
    /// `error 0: error 1: …`, so many in all.
    fn chain(count: usize) -> Self {
        let links = (0..count).rev();
        let chain = links.fold(None, |cause, nth| Some(Box::new(Self(format!("error {nth}"), cause))));
        *chain.expect("at least one")
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Because {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as _)
    }
}

fn number(text: &str) -> anyhow::Result<u16> {
    text.parse().with_context(|| format!("{text:?} is no number")).context("reading the settings")
}

const NUMBER: &str = "reading the settings: \"x\" is no number: invalid digit found in string";

/// What the events say of the errors of a job.
fn said(rig: &callsheet::testkit::Rig) -> Vec<String> {
    let errors = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
        EventKind::RunRetried { error, .. } | EventKind::RunFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    errors.collect()
}

/// Row 76 of what the best peer's tests pin down: the wrapped cause is told.
#[test]
fn the_chain_of_an_anyhow_error_is_whole_in_every_event() {
    simulate(START, async |rig| {
        let job = Job::new("settings", every(hours(1)))
            .retry(Retry::attempts(2).initial(secs(1)).jitter(0.0))
            .run(async |_| number("x").map(drop));
        rig.node(node_with([job])).await;

        rig.advance(hours(1) + secs(60)).await;

        assert_eq!(said(rig), [NUMBER, NUMBER], "of the first attempt, and of the run");
    });
}

#[test]
fn a_long_chain_is_not_shortened() {
    simulate(START, async |rig| {
        let body = async |_| -> RunResult { Err(Because::chain(500).into()) };
        rig.node(node_with([Job::new("deep", every(hours(1))).run(body)])).await;

        rig.advance(hours(1) + secs(1)).await;

        let whole: Vec<_> = (0..500).map(|nth| format!("error {nth}")).collect();
        assert_eq!(said(rig), [whole.join(": ")]);
    });
}

#[test]
fn a_chain_without_end_is_cut_and_says_so() {
    /// Its own cause.
    #[derive(Debug)]
    struct Circle;

    impl fmt::Display for Circle {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("o")
        }
    }

    impl Error for Circle {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Circle)
        }
    }

    let text = RunError::from(Circle).to_string();

    assert!(text.ends_with(": o: and more than 1024 causes"), "{}", &text[text.len() - 60..]);
}

#[test]
fn an_error_can_be_downcast_and_so_can_the_causes_of_an_anyhow_error() {
    let own = RunError::from(Because::chain(2));
    assert_eq!(own.as_error().downcast_ref::<Because>().map(|error| error.0.as_str()), Some("error 0"));

    let foreign = RunError::permanent(number("x").unwrap_err());
    let mut root: &dyn Error = foreign.as_error();
    while let Some(cause) = root.source() {
        root = cause;
    }
    assert!(root.is::<std::num::ParseIntError>(), "{foreign:?}");
    assert_eq!(foreign.to_string(), NUMBER);
}

#[test]
fn an_error_says_what_follows_from_it() {
    let said = |error: RunError| (error.is_permanent(), error.stops_job());

    assert_eq!(said("busy".into()), (false, false));
    assert_eq!(said(anyhow::anyhow!("busy").into()), (false, false));
    assert_eq!(said(RunError::permanent("no such address")), (true, false));
    assert_eq!(said(RunError::stop("the account is closed")), (true, true));
}

/// Fails for good in its second attempt.
async fn closed_meanwhile(run: Run, attempts: Arc<AtomicU32>) -> RunResult {
    attempts.fetch_add(1, Ordering::Relaxed);
    if run.attempt() == 1 {
        Err("busy".into())
    } else {
        Err(RunError::stop(number("x").expect_err("no number")))
    }
}

#[test]
fn an_error_that_stops_the_job_ends_the_run_at_once() {
    simulate(START, async |rig| {
        let attempts = Arc::new(AtomicU32::new(0));
        let job = Job::new("mail", every(hours(1)))
            .retry(Retry::attempts(5).initial(secs(1)).jitter(0.0))
            .run_with(attempts.clone(), closed_meanwhile);
        rig.node(node_with([job])).await;

        rig.advance(hours(1) + Duration::from_mins(10)).await;

        assert_eq!(attempts.load(Ordering::Relaxed), 2);
        assert_eq!(said(rig), ["busy", NUMBER]);
        assert_eq!(rig.counter("callsheet_runs_total", "outcome=failed"), 1);
        assert_eq!(rig.store().held(), 0);
    });
}
