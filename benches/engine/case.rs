//! One measurement, in a process of its own.

use std::{
    env, fmt,
    path::Path,
    process::Command,
    str::FromStr,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use callsheet::Fires;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::{
    instruments::{TickCounter, processor_time, resident_and_of_files},
    notes::{BURSTS, NOTEBOOK, Notebook},
    numbers::Numbers,
    overload,
    timers::Timers,
};

/// The first argument of the process that measures one case.
pub(crate) const CHILD: &str = "--child";
/// How many times longer than usual a process waits until the first jobs are due, by its environment.
const PATIENCE: &str = "CALLSHEET_BENCH_PATIENCE";
const PATIENCE_MAX: i64 = 8;
/// How a process ends whose jobs were due before they were armed.
const NOT_ARMED: i32 = 3;
/// The period of idle jobs; their fire times are half of it away.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 86_400);

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) side: Side,
    pub(crate) jobs: u64,
    pub(crate) period: Duration,
    pub(crate) window: Duration,
    /// 0 is the default, here and below.
    pub(crate) arbiters: u64,
    pub(crate) body_threads: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Idle,
    Burst,
    Ticks,
    Clock,
    /// Ticks for a while, and what comes after them.
    Overload,
    /// All jobs at each whole second.
    Seconds,
}

const KINDS: [Kind; 6] = [Kind::Idle, Kind::Burst, Kind::Ticks, Kind::Clock, Kind::Overload, Kind::Seconds];

/// How long jobs that were added are left alone before they count as idle: what adding them leaves behind is done then.
const SETTLES: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Callsheet,
    /// Jobs that fire without claims.
    CallsheetLocal,
    /// Two threads: as many as this program's target machine has processors.
    Tokio,
    TokioOneThread,
    /// The crate tokio-cron-scheduler.
    TokioCron,
    /// A program that is none of ours: see `benches/README.md`.
    Peer,
}

const SIDES: [Side; 6] =
    [Side::Callsheet, Side::CallsheetLocal, Side::Tokio, Side::TokioOneThread, Side::TokioCron, Side::Peer];

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Callsheet => "callsheet",
            Self::CallsheetLocal => "callsheet, local",
            Self::Tokio => "tokio",
            Self::TokioOneThread => "tokio, 1 thread",
            Self::TokioCron => "tokio-cron",
            Self::Peer => "peer",
        })
    }
}

impl Case {
    pub(crate) fn on(self, side: Side) -> Self {
        Self { side, ..self }
    }

    /// In processes of this program.
    pub(crate) fn repeated(self, repetitions: usize) -> anyhow::Result<Numbers> {
        self.repeated_by(&env::current_exe()?, repetitions)
    }

    /// In processes of a program that takes the arguments and prints the lines of this one.
    pub(crate) fn repeated_by(self, program: &Path, repetitions: usize) -> anyhow::Result<Numbers> {
        let mut numbers = Numbers::default();
        let mut patience = 1;
        for _ in 0..repetitions {
            let output = loop {
                let mut child = Command::new(program);
                child.arg(CHILD).args(self.to_string().split(' ')).env(PATIENCE, patience.to_string());
                let output = child.output()?;
                match output.status.code() {
                    Some(0) => break output,
                    Some(NOT_ARMED) if patience < PATIENCE_MAX => patience *= 2,
                    _ => bail!("{self}: {}", String::from_utf8_lossy(&output.stderr)),
                }
            };
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let (key, value) = line.split_once(' ').with_context(|| format!("{self}: {line}"))?;
                numbers.0.entry(key.to_owned()).or_default().push(value.parse()?);
            }
        }
        Ok(numbers)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, side, jobs, period, window, arbiters, body_threads } = *self;
        let (kind, side) = (kind as u64, side as u64);
        let (period, window) = (period.as_millis(), window.as_millis());
        write!(f, "{kind} {side} {jobs} {period} {window} {arbiters} {body_threads}")
    }
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let numbers: Vec<u64> = text.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [kind, side, jobs, period, window, arbiters, body_threads] = numbers[..] else {
            bail!("{text}: not a case")
        };
        Ok(Self {
            kind: *KINDS.get(usize::try_from(kind)?).context("no such kind")?,
            side: *SIDES.get(usize::try_from(side)?).context("no such side")?,
            jobs,
            period: Duration::from_millis(period),
            window: Duration::from_millis(window),
            arbiters,
            body_threads,
        })
    }
}

impl Case {
    pub(crate) fn fires(&self) -> Fires {
        if self.side == Side::CallsheetLocal { Fires::Local } else { Fires::Leader }
    }

    fn fires_soon(&self) -> bool {
        !matches!(self.kind, Kind::Idle | Kind::Clock)
    }

    /// The first fire time of a job: all at once, evenly over the period, or far away.
    pub(crate) fn first(&self, start: DateTime<Utc>, nth: u64) -> DateTime<Utc> {
        match self.kind {
            Kind::Burst | Kind::Seconds => start,
            Kind::Ticks | Kind::Overload => {
                start + Duration::from_millis(nth % (self.period.as_millis() as u64))
            }
            Kind::Idle | Kind::Clock => start + FAR / 2,
        }
    }
}

/// Does what the case says and prints what it found, a name and a number a line.
pub(crate) fn measure(case: &Case) -> anyhow::Result<()> {
    metrics::set_global_recorder(TickCounter).map_err(|_| anyhow::anyhow!("there is a recorder already"))?;
    let timers = Timers::start(case)?;
    thread::sleep(Duration::from_millis(100));

    let (bytes, of_files) = resident_and_of_files()?;
    // Far enough from now that every job is armed before, and at a whole second.
    let patience = env::var(PATIENCE).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let start = Utc::now() + TimeDelta::milliseconds(1_300 + patience * i64::try_from(case.jobs)? / 50);
    let start = start.trunc_subsecs(0);
    let notebook = NOTEBOOK.get_or_init(|| Notebook::new(start, case));
    let began = Instant::now();
    timers.add(case, start)?;
    let added = began.elapsed();
    timers.await_armed(case)?;
    let armed = began.elapsed();
    if case.fires_soon() && start < Utc::now() {
        eprintln!("it took {armed:.1?} until all jobs were armed, and the first were due before that");
        std::process::exit(NOT_ARMED);
    }

    match case.kind {
        Kind::Idle => {
            thread::sleep(SETTLES);
            println!("add_ms {}", added.as_secs_f64() * 1e3);
            println!("armed_ms {}", armed.as_secs_f64() * 1e3);
            let (bytes_now, of_files_now) = resident_and_of_files()?;
            let of_a_job = |now: u64, before: u64| (now as f64 - before as f64) / case.jobs as f64;
            println!("bytes {}", of_a_job(bytes_now, bytes));
            println!("bytes_of_files {}", of_a_job(of_files_now, of_files));
            let used = processor_time()?;
            thread::sleep(case.window);
            let used = processor_time()? - used;
            println!("idle_percent {}", 100.0 * used.as_secs_f64() / case.window.as_secs_f64());
        }
        Kind::Burst => {
            sleep_until(start + case.period * BURSTS as u32);
            // The first one warms up.
            for burst in notebook.bursts.iter().flatten().skip(1) {
                println!("last_ms {}", burst.latest_micros.load(Relaxed) as f64 / 1e3);
                println!("lost {}", case.jobs - burst.started.load(Relaxed));
            }
        }
        Kind::Ticks | Kind::Seconds => ticks(case, notebook)?,
        Kind::Overload => overload::measure(case, start, bytes, &timers, notebook)?,
        Kind::Clock => timers.set_the_clock(case, start)?,
    }
    // Not shut down: taking a million jobs apart is not what is measured.
    std::process::exit(0);
}

/// Bodies that start in the window count, whichever tick they are of.
fn ticks(case: &Case, notebook: &Notebook) -> anyhow::Result<()> {
    sleep_until(notebook.lateness.from);
    let (used, earlier) = (processor_time()?, TickCounter::read());
    sleep_until(notebook.lateness.until);
    let (used, decided) = (processor_time()? - used, TickCounter::read().since(earlier));
    let lateness = notebook.lateness.all();
    let seconds = case.window.as_secs_f64();
    println!("started {}", lateness.len() as f64 / seconds);
    println!("misfire {}", decided.misfire as f64 / seconds);
    println!("overlap {}", decided.overlap as f64 / seconds);
    println!("p50 {}", lateness.value_at_quantile(0.5) as f64 / 1e3);
    println!("p99 {}", lateness.value_at_quantile(0.99) as f64 / 1e3);
    println!("max {}", lateness.max() as f64 / 1e3);
    println!("cpu_us {}", used.as_secs_f64() * 1e6 / lateness.len().max(1) as f64);
    Ok(())
}

pub(crate) fn sleep_until(instant: DateTime<Utc>) {
    thread::sleep((instant - Utc::now()).to_std().unwrap_or_default());
}
