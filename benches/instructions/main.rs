//! Work of a known amount, whose instructions valgrind counts: see `.ci/instructions`, which runs this.
//!
//! ```text
//! cargo bench --bench instructions -- claim 3     the work alone, of length 3
//! .ci/instructions                                counts, and compares with benches/instructions/counts.txt
//! .ci/instructions record                         counts, and writes that file
//! .ci/instructions planted 15                     counts as if a fire took 15 % more: the guard is to see it
//! ```
//!
//! Everything is on one thread and follows a paused clock, so that the same length is the same work. It prints
//! how many pieces of work that was. Two lengths give the cost of a piece: what starting costs is the same in
//! both.

// It talks to a script.
#![allow(clippy::print_stdout)]

use std::{
    env,
    future::{Ready, ready},
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use callsheet::{
    Callsheet, Fires, Job, Run,
    backend::Local,
    port::{Backend, Clock, Elector, Locker},
    schedule::{IntoSchedule, cron, every},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{runtime, task::LocalSet, time::Instant};

/// The jobs of a claim round that is full.
const ROUND: u64 = 512;
/// The jobs that fire in turn.
const JOBS: u64 = 100;
/// How late jobs are that are due ten times a second.
const LATE: Duration = Duration::from_secs(3);
/// For how long jobs do nothing but wake up once a day.
const IDLE_DAYS: u32 = 12;
const DAY: Duration = Duration::from_hours(24);
/// 2026-01-01T00:00:00Z
const START_SECONDS: i64 = 1_767_225_600;

static FIRED: AtomicU64 = AtomicU64::new(0);
/// How many rounds of a loop each piece of work takes besides.
static PLANTED: AtomicU64 = AtomicU64::new(0);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [work, length, planted @ ..] = &arguments[..] else {
        // As `cargo bench` and `cargo test --benches` start it.
        println!("wants the name of a work and a length; see .ci/instructions");
        return Ok(());
    };
    let length: u32 = length.parse().with_context(|| format!("{length} is no length"))?;
    if let Some(rounds) = planted.first() {
        PLANTED.store(rounds.parse().with_context(|| format!("{rounds} is no number"))?, Relaxed);
    }
    let second = Duration::from_secs(1);
    let pieces = match work.as_str() {
        // One job after the other, ten times a second.
        "local" => fire(Fires::Local, Store::AtOnce, JOBS, length * second)?,
        "claim" => fire(Fires::Leader, Store::AtOnce, JOBS, length * second)?,
        // All jobs at once, through the lock actor.
        "round" => fire(Fires::Leader, Store::InRounds, ROUND, length * second)?,
        // Each time so late that many of its ticks have passed.
        "late" => late(JOBS, length)?,
        "next" => next(u64::from(length) * 10_000)?,
        "idle" => idle(u64::from(length) * 500)?,
        // No job at all.
        "quiet" => {
            engine(Store::AtOnce, std::iter::empty(), length * 1_000 * second)?;
            u64::from(length) * 1_000
        }
        other => bail!("{other}: not one of local, claim, round, late, next, idle, quiet"),
    };
    println!("{pieces}");
    Ok(())
}

/// How the store answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    AtOnce,
    InRounds,
}

/// Jobs that fire ten times a second. Answers how often they did.
fn fire(fires: Fires, store: Store, jobs: u64, span: Duration) -> anyhow::Result<u64> {
    let period = Duration::from_millis(100);
    let first = |nth| match store {
        Store::AtOnce => start() + Duration::from_millis(nth % 100),
        Store::InRounds => start(),
    };
    let job = |nth| {
        let schedule = every(period).anchored_at(first(nth));
        Job::new(format!("job-{nth}"), schedule).fires(fires).run(body)
    };
    engine(store, (0..jobs).map(job), span)?;
    Ok(FIRED.load(Relaxed))
}

/// Jobs that fire ten times a second and are woken up so many times, once in three seconds. Answers how often they
/// fired.
fn late(jobs: u64, times: u32) -> anyhow::Result<u64> {
    let job = |nth| {
        let first = start() + Duration::from_millis(nth % 100);
        let schedule = every(Duration::from_millis(100)).anchored_at(first);
        Job::new(format!("job-{nth}"), schedule).fires(Fires::Leader).run(body)
    };
    engine_while(Store::AtOnce, (0..jobs).map(job), async move {
        for _ in 0..times {
            tokio::time::advance(LATE).await;
            tokio::time::sleep(Duration::from_micros(1)).await;
        }
    })?;
    Ok(FIRED.load(Relaxed))
}

fn body(_: Run) -> Ready<()> {
    FIRED.fetch_add(1, Relaxed);
    planted();
    ready(())
}

/// What makes a piece of work dearer, to see that whoever counts finds it.
fn planted() {
    for round in 0..PLANTED.load(Relaxed) {
        black_box(round);
    }
}

/// Jobs that are due in years: their actors wake up once a day, and nothing is to be done. Answers how many.
fn idle(jobs: u64) -> anyhow::Result<u64> {
    let far = every(3_650 * DAY).anchored_at(start() + 3_000 * DAY);
    let job = |nth| Job::new(format!("job-{nth}"), far.clone()).run(body);
    engine(Store::AtOnce, (0..jobs).map(job), IDLE_DAYS * DAY)?;
    Ok(jobs)
}

/// Fire times of a cron pattern in a zone with daylight saving time. Answers how many.
fn next(count: u64) -> anyhow::Result<u64> {
    let schedule = cron("*/7 8-18 * * 1-5").timezone("Europe/Lisbon").into_schedule()?;
    let mut at = start();
    for _ in 0..count {
        at = schedule.next_after(at).context("it never ends")?;
        planted();
    }
    Ok(count)
}

/// An engine on this thread, with these jobs, for a span of virtual time.
fn engine(store: Store, jobs: impl Iterator<Item = Job>, span: Duration) -> anyhow::Result<()> {
    engine_while(store, jobs, async move { tokio::time::sleep(span).await })
}

/// An engine on this thread, with these jobs, while something is done.
fn engine_while(
    store: Store,
    jobs: impl Iterator<Item = Job>,
    work: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        let clock = Paused(Instant::now());
        let builder = Callsheet::builder().clock(clock).bodies_on(runtime::Handle::current()).jobs(jobs);
        let store_of_nodes = || InRounds(Local::new(Arc::new(clock)));
        let builder = match store {
            Store::AtOnce => builder,
            Store::InRounds => builder.backend(store_of_nodes()),
        };
        let engine = builder.start_on(&local).await?;
        work.await;
        // Not shut down: that is not what is counted.
        drop(engine);
        anyhow::Ok(())
    }))
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(START_SECONDS, 0).unwrap_or_default()
}

/// The paused clock of the runtime.
#[derive(Debug, Clone, Copy)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> DateTime<Utc> {
        start() + TimeDelta::from_std(self.elapsed()).unwrap_or_default()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn next_look(&self) -> BoxFuture<'static, ()> {
        // Nobody sets it.
        std::future::pending().boxed()
    }
}

/// The embedded store as one that several nodes could share: jobs ask it through the lock actor.
struct InRounds(Local);

impl Backend for InRounds {
    fn name(&self) -> &'static str {
        "rounds"
    }

    fn scope(&self) -> Arc<str> {
        self.0.scope()
    }

    fn elector(&self) -> Arc<dyn Elector> {
        self.0.elector()
    }

    fn locker(&self) -> Arc<dyn Locker> {
        self.0.locker()
    }
}
