//! What is measured: the engine, or bare timers.

use std::{
    future::{Ready, ready},
    thread,
    time::Duration,
};

use anyhow::bail;
use callsheet::{Callsheet, Job, JobState, Run, schedule::every};
use chrono::{DateTime, Utc};
use tokio::runtime;

use crate::{
    case::{Case, Kind, Side},
    clock,
    notes::note,
};

/// What holds the timers.
pub(crate) enum Timers {
    /// The engine, and a runtime for those who wait for its answers.
    Engine(Callsheet, runtime::Runtime),
    /// Tasks on a runtime.
    Tokio(runtime::Handle),
}

impl Timers {
    pub(crate) fn start(case: &Case) -> anyhow::Result<Self> {
        let tokio = |mut builder: runtime::Builder| -> anyhow::Result<Self> {
            let runtime = builder.enable_all().build()?;
            let handle = runtime.handle().clone();
            thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
            Ok(Self::Tokio(handle))
        };
        match case.side {
            Side::Tokio => {
                let mut builder = runtime::Builder::new_multi_thread();
                builder.worker_threads(2);
                tokio(builder)
            }
            Side::TokioOneThread => tokio(runtime::Builder::new_current_thread()),
            Side::Callsheet | Side::CallsheetLocal => {
                let runtime = runtime::Builder::new_current_thread().build()?;
                let mut builder = Callsheet::builder();
                if case.arbiters > 0 {
                    builder = builder.arbiters(usize::try_from(case.arbiters)?);
                }
                if case.body_threads > 0 {
                    builder = builder.body_threads(usize::try_from(case.body_threads)?);
                }
                if case.kind == Kind::Clock {
                    builder = builder.clock(clock::Settable::default());
                }
                let engine = runtime.block_on(builder.start())?;
                Ok(Self::Engine(engine, runtime))
            }
        }
    }

    pub(crate) fn add(&self, case: &Case, start: DateTime<Utc>) -> anyhow::Result<()> {
        match self {
            Self::Engine(engine, runtime) => {
                let fires = case.fires();
                let job = |nth| {
                    let schedule = every(case.period).anchored_at(case.first(start, nth));
                    Job::new(format!("job-{nth}"), schedule).fires(fires).run(body)
                };
                runtime.block_on(engine.add_all((0..case.jobs).map(job)))?;
            }
            Self::Tokio(handle) => {
                // One wall clock reading for all: what is planned is planned on the monotonic clock.
                let (wall, monotonic) = (Utc::now(), tokio::time::Instant::now());
                for nth in 0..case.jobs {
                    let first = case.first(start, nth);
                    handle.spawn(sleeper(first, monotonic + (first - wall).to_std()?, case.period));
                }
            }
        }
        Ok(())
    }

    /// Waits until the last job has its timer.
    pub(crate) fn await_armed(&self, case: &Case) -> anyhow::Result<()> {
        let Self::Engine(engine, runtime) = self else { return Ok(()) };
        await_armed(engine, runtime, &format!("job-{}", case.jobs - 1))
    }

    pub(crate) fn set_the_clock(&self, case: &Case, start: DateTime<Utc>) -> anyhow::Result<()> {
        let Self::Engine(engine, runtime) = self else { bail!("{case}: tokio sees no step") };
        clock::measure(case, start, engine, runtime)
    }
}

pub(crate) fn await_armed(engine: &Callsheet, runtime: &runtime::Runtime, last: &str) -> anyhow::Result<()> {
    loop {
        let status = runtime.block_on(engine.details(last))?;
        if status.state != JobState::Standby {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The body of a job.
fn body(run: Run) -> Ready<()> {
    if let Some(fire_time) = run.fire_time() {
        note(fire_time);
    }
    ready(())
}

/// What a job is without an engine.
async fn sleeper(mut fire_time: DateTime<Utc>, mut at: tokio::time::Instant, period: Duration) {
    loop {
        tokio::time::sleep_until(at).await;
        tokio::spawn(async move { note(fire_time) });
        fire_time += period;
        at += period;
    }
}
