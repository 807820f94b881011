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
    overload::{WITNESS_PERIOD, WITNESSES, all_ends, load_ends},
    peers::start_tokio_cron,
};

/// What holds the timers.
pub(crate) enum Timers {
    /// The engine, and a runtime for those who wait for its answers.
    Engine(Callsheet, runtime::Runtime),
    /// Tasks on a runtime.
    Tokio(runtime::Handle),
    /// Jobs of another crate.
    TokioCron,
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
            Side::TokioCron => Ok(Self::TokioCron),
            Side::Peer => bail!("{case}: the peer is another program"),
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
                let job = |nth| {
                    // Not only anchored there: it would fire before, while others are still added.
                    let schedule = every(case.period).starting_at(case.first(start, nth));
                    let schedule = match case.kind {
                        Kind::Overload => schedule.until(load_ends(case, start)),
                        _ => schedule,
                    };
                    Job::new(format!("job-{nth}"), schedule).fires(case.fires()).run(body)
                };
                let witness = |nth| {
                    let schedule = every(WITNESS_PERIOD).starting_at(start).until(all_ends(case, start));
                    Job::new(format!("witness-{nth}"), schedule).fires(case.fires()).run(body)
                };
                let witnesses = if case.kind == Kind::Overload { WITNESSES } else { 0 };
                let witnesses = (0..witnesses).map(witness);
                runtime.block_on(engine.add_all(witnesses.chain((0..case.jobs).map(job))))?;
            }
            Self::TokioCron => start_tokio_cron(case)?,
            Self::Tokio(handle) => {
                // One wall clock reading for all: what is planned is planned on the monotonic clock.
                let (wall, monotonic) = (Utc::now(), tokio::time::Instant::now());
                let spawn = |first: DateTime<Utc>, until, period| -> anyhow::Result<()> {
                    handle.spawn(sleeper(first, until, monotonic + (first - wall).to_std()?, period));
                    Ok(())
                };
                let overload = case.kind == Kind::Overload;
                let until = if overload { load_ends(case, start) } else { DateTime::<Utc>::MAX_UTC };
                for nth in 0..case.jobs {
                    spawn(case.first(start, nth), until, case.period)?;
                }
                for _ in 0..if overload { WITNESSES } else { 0 } {
                    spawn(start, all_ends(case, start), WITNESS_PERIOD)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the last jobs have their timers: those of each thread.
    pub(crate) fn await_armed(&self, case: &Case) -> anyhow::Result<()> {
        const THREADS_MAX: u64 = 8;
        let Self::Engine(engine, runtime) = self else { return Ok(()) };
        let last = case.jobs.saturating_sub(THREADS_MAX)..case.jobs;
        last.into_iter().try_for_each(|nth| await_armed(engine, runtime, &format!("job-{nth}")))
    }

    /// The engine, if it is measured.
    pub(crate) fn engine(&self) -> Option<&Callsheet> {
        match self {
            Self::Engine(engine, _) => Some(engine),
            Self::Tokio(_) | Self::TokioCron => None,
        }
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
async fn sleeper(
    mut fire_time: DateTime<Utc>,
    until: DateTime<Utc>,
    mut at: tokio::time::Instant,
    period: Duration,
) {
    while fire_time < until {
        tokio::time::sleep_until(at).await;
        tokio::spawn(async move { note(fire_time) });
        fire_time += period;
        at += period;
    }
}
