//! One measurement, in a process of its own.

use std::{
    env, fmt, fs,
    process::Command,
    str::FromStr,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use callsheet::Fires;
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    instruments::{SkipCounter, processor_time},
    notes::{BURSTS, NOTEBOOK, Notebook},
    numbers::Numbers,
    timers::Timers,
};

/// The first argument of the process that measures one case.
pub(crate) const CHILD: &str = "--child";
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
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Callsheet,
    /// Jobs that fire without claims.
    CallsheetLocal,
    /// Two threads: as many as this program's target machine has processors.
    Tokio,
    TokioOneThread,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Callsheet => "callsheet",
            Self::CallsheetLocal => "callsheet, local",
            Self::Tokio => "tokio",
            Self::TokioOneThread => "tokio, 1 thread",
        })
    }
}

impl Case {
    pub(crate) fn on(self, side: Side) -> Self {
        Self { side, ..self }
    }

    pub(crate) fn repeated(self, repetitions: usize) -> anyhow::Result<Numbers> {
        let mut numbers = Numbers::default();
        for _ in 0..repetitions {
            let mut child = Command::new(env::current_exe()?);
            let output = child.arg(CHILD).args(self.to_string().split(' ')).output()?;
            if !output.status.success() {
                bail!("{self}: {}", String::from_utf8_lossy(&output.stderr));
            }
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
            kind: [Kind::Idle, Kind::Burst, Kind::Ticks, Kind::Clock][kind as usize],
            side: [Side::Callsheet, Side::CallsheetLocal, Side::Tokio, Side::TokioOneThread][side as usize],
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

    /// The first fire time of a job: all at once, evenly over the period, or far away.
    pub(crate) fn first(&self, start: DateTime<Utc>, nth: u64) -> DateTime<Utc> {
        match self.kind {
            Kind::Burst => start,
            Kind::Ticks => start + Duration::from_millis(nth % (self.period.as_millis() as u64)),
            Kind::Idle | Kind::Clock => start + FAR / 2,
        }
    }
}

/// Does what the case says and prints what it found, a name and a number a line.
pub(crate) fn measure(case: &Case) -> anyhow::Result<()> {
    metrics::set_global_recorder(SkipCounter).map_err(|_| anyhow::anyhow!("there is a recorder already"))?;
    let timers = Timers::start(case)?;
    thread::sleep(Duration::from_millis(100));

    let bytes = resident_bytes()?;
    // Far enough from now that every job is armed before.
    let start = Utc::now() + TimeDelta::milliseconds(300 + i64::try_from(case.jobs)? / 70);
    let notebook = NOTEBOOK.get_or_init(|| Notebook::new(start, case));
    let began = Instant::now();
    timers.add(case, start)?;
    let added = began.elapsed();
    timers.await_armed(case)?;
    let armed = began.elapsed();

    match case.kind {
        Kind::Idle => {
            thread::sleep(Duration::from_millis(300));
            println!("add_ms {}", added.as_secs_f64() * 1e3);
            println!("armed_ms {}", armed.as_secs_f64() * 1e3);
            println!("bytes {}", (resident_bytes()? as f64 - bytes as f64) / case.jobs as f64);
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
        Kind::Ticks => {
            sleep_until(notebook.lateness.from);
            let (used, skips) = (processor_time()?, SkipCounter::read());
            sleep_until(notebook.lateness.until);
            let (used, later) = (processor_time()? - used, SkipCounter::read());
            // Whoever is later than this counts as not started.
            thread::sleep(Duration::from_millis(500));
            let lateness = notebook.lateness.all();
            let seconds = case.window.as_secs_f64();
            println!("started {}", lateness.len() as f64 / seconds);
            println!("misfire {}", (later[0] - skips[0]) as f64 / seconds);
            println!("overlap {}", (later[1] - skips[1]) as f64 / seconds);
            println!("p50 {}", lateness.value_at_quantile(0.5) as f64 / 1e3);
            println!("p99 {}", lateness.value_at_quantile(0.99) as f64 / 1e3);
            println!("max {}", lateness.max() as f64 / 1e3);
            println!("cpu_us {}", used.as_secs_f64() * 1e6 / lateness.len().max(1) as f64);
        }
        Kind::Clock => timers.set_the_clock(case, start)?,
    }
    // Not shut down: taking a million jobs apart is not what is measured.
    std::process::exit(0);
}

fn resident_bytes() -> anyhow::Result<u64> {
    const PAGE: u64 = 4_096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).context("statm: no second field")?;
    Ok(pages.parse::<u64>()? * PAGE)
}

fn sleep_until(instant: DateTime<Utc>) {
    thread::sleep((instant - Utc::now()).to_std().unwrap_or_default());
}
