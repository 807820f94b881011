//! How fast the engine is on the embedded backend, beside bare tokio timers in the same run.
//!
//! ```text
//! cargo bench --bench engine                      1 k and 100 k jobs, about two minutes
//! cargo bench --bench engine -- 1k                only one size
//! cargo bench --bench engine -- --quick           a smoke test of a few seconds
//! cargo bench --bench engine -- --million         1 M jobs as well
//! cargo bench --bench engine -- clock             only this: the clock is set, with 1 M idle jobs, about five minutes
//! cargo bench --bench engine -- clock 100k        the same with fewer jobs
//! cargo bench --bench engine -- sizes             only this: what a job that is idle takes, and of which types
//! cargo bench --bench engine -- --arbiters 2      other threads than the default
//! ```
//!
//! Every number comes from a process of its own (this program, started again), so that neither memory nor threads
//! of one measurement touch another. What stands beside the engine is the least that could do the same work on
//! tokio: one task per job that sleeps until its next anchored instant and then spawns a task that notes how late it is.
//! Both sides note it with the same code.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    env, fmt, fs,
    future::{Ready, ready},
    process::{Command, ExitCode},
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use callsheet::{Callsheet, Fires, Job, JobState, Run, schedule::every, testkit::sizes};
use chrono::{DateTime, TimeDelta, Utc};
use hdrhistogram::Histogram;
use metrics::{Counter, CounterFn, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::runtime;

#[path = "engine/clock.rs"]
mod clock;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == CHILD => rest.join(" ").parse().and_then(|case| measure(&case)),
        _ => Plan::of(&arguments).and_then(|plan| plan.run()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

// The plan and the table.

struct Plan {
    sizes: Vec<u64>,
    clock: bool,
    types: bool,
    repetitions: usize,
    window: Duration,
    arbiters: u64,
    body_threads: u64,
}

impl Plan {
    fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let mut plan = Self {
            sizes: Vec::new(),
            clock: false,
            types: false,
            repetitions: 3,
            window: Duration::from_millis(1_200),
            arbiters: 0,
            body_threads: 0,
        };
        let mut million = false;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut number = || -> anyhow::Result<u64> {
                let value = arguments.next().with_context(|| format!("{argument} wants a number"))?;
                value.parse().with_context(|| format!("{argument} {value}: not a number"))
            };
            match argument.as_str() {
                "--quick" => (plan.repetitions, plan.window) = (1, Duration::from_millis(300)),
                "--million" => million = true,
                "--arbiters" => plan.arbiters = number()?,
                "--body-threads" => plan.body_threads = number()?,
                "clock" => plan.clock = true,
                "sizes" => plan.types = true,
                "1k" => plan.sizes.push(1_000),
                "100k" => plan.sizes.push(100_000),
                other => {
                    bail!(
                        "{other}: not one of 1k, 100k, clock, sizes, --quick, --million, --arbiters N, --body-threads N"
                    )
                }
            }
        }
        if plan.clock {
            million |= plan.sizes.is_empty();
        } else if plan.sizes.is_empty() {
            plan.sizes = if plan.repetitions == 1 { vec![1_000] } else { vec![1_000, 100_000] };
        }
        if million {
            plan.sizes.push(1_000_000);
        }
        Ok(plan)
    }

    fn run(&self) -> anyhow::Result<()> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        println!(
            "callsheet beside bare tokio timers, {processors} processors; median (min..max), x = callsheet / tokio\n"
        );
        if self.clock {
            return self.sizes.iter().try_for_each(|&jobs| self.clock(jobs));
        }
        if self.types {
            println!("bytes of the types of which every job has a value");
            for (what, bytes) in sizes() {
                println!("{bytes:>9}  {what}");
            }
            println!();
        }
        for &jobs in &self.sizes {
            self.idle(jobs)?;
        }
        if self.types {
            return Ok(());
        }
        self.burst()?;
        println!(
            "ticks: a trivial body each, phases spread evenly; lateness = start of the body - fire time, in ms"
        );
        println!(
            "{:>9} {:>10}  {:<16} {:>10} {:>9} {:>9} {:>15} {:>15} {:>9} {:>9}",
            "jobs", "offered/s", "", "started/s", "overlap/s", "misfire/s", "p50", "p99", "max", "CPU µs"
        );
        for &jobs in &self.sizes {
            for rate in [10_000, 100_000, 300_000] {
                self.ticks(jobs, rate)?;
            }
        }
        Ok(())
    }

    /// Jobs far in the future.
    fn idle(&self, jobs: u64) -> anyhow::Result<()> {
        let case = Case { kind: Kind::Idle, jobs, period: FAR, ..self.case() };
        let repetitions = if jobs > 100_000 { 1 } else { self.repetitions };
        let [callsheet, tokio] =
            [Side::Callsheet, Side::Tokio].map(|side| case.on(side).repeated(repetitions));
        let (callsheet, tokio) = (callsheet?, tokio?);
        println!("{jobs} idle jobs{:24} {:>26} {:>26} {:>8}", "", "callsheet", "tokio", "x");
        for (what, key) in [
            ("time to add, ms", "add_ms"),
            ("time until all are armed, ms", "armed_ms"),
            ("resident bytes per job", "bytes"),
            ("CPU while idle, % of a core", "idle_percent"),
        ] {
            let (own, other) = (callsheet.spread(key), tokio.spread(key));
            println!("  {what:<36} {own:>26} {other:>26} {:>8}", own.times(&other));
        }
        println!();
        Ok(())
    }

    /// The clock is set while all jobs but one are far in the future.
    fn clock(&self, jobs: u64) -> anyhow::Result<()> {
        let window = Duration::from_secs(10);
        let case = Case { kind: Kind::Clock, jobs, period: FAR, window, ..self.case() };
        let [led, local] = [Side::Callsheet, Side::CallsheetLocal].map(|side| case.on(side).repeated(1));
        let (led, local) = (led?, local?);
        println!(
            "{jobs} idle jobs while the clock is set{:7} {:>26} {:>26}",
            "", "callsheet", "callsheet, local"
        );
        for (what, key) in [
            ("CPU while idle, % of a core", "idle_percent"),
            ("from the step to the body, ms", "body_ms"),
            ("CPU until all timers are right, s", "rearm_cpu_s"),
            ("longest answer meanwhile, ms", "answer_ms"),
        ] {
            println!("  {what:<36} {:>26} {:>26}", led.spread(key), local.spread(key));
        }
        println!();
        Ok(())
    }

    /// Many jobs at one instant.
    fn burst(&self) -> anyhow::Result<()> {
        const JOBS: u64 = 10_000;
        let case = Case { kind: Kind::Burst, jobs: JOBS, period: Duration::from_millis(500), ..self.case() };
        let [callsheet, tokio] =
            [Side::Callsheet, Side::Tokio].map(|side| case.on(side).repeated(self.repetitions));
        let (callsheet, tokio) = (callsheet?, tokio?);
        println!("{JOBS} jobs at one instant{:16} {:>26} {:>26} {:>8}", "", "callsheet", "tokio", "x");
        for (what, key) in [("until the last has started, ms", "last_ms"), ("lost", "lost")] {
            let (own, other) = (callsheet.spread(key), tokio.spread(key));
            println!("  {what:<36} {own:>26} {other:>26} {:>8}", own.times(&other));
        }
        println!();
        Ok(())
    }

    /// Ticks as fast as `rate` a second, whether that is possible or not.
    fn ticks(&self, jobs: u64, rate: u64) -> anyhow::Result<()> {
        // Rounded down, so that no less than `rate` is offered.
        let period = Duration::from_millis((jobs * 1_000 / rate).max(1));
        let case = Case { kind: Kind::Ticks, jobs, period, ..self.case() };
        let offered = jobs as f64 / period.as_secs_f64();
        let mut baseline: Option<Numbers> = None;
        for side in [Side::Tokio, Side::TokioOneThread, Side::Callsheet, Side::CallsheetLocal] {
            let found = case.on(side).repeated(1)?;
            let baseline = baseline.get_or_insert_with(|| found.clone());
            let value = |key| found.spread(key).median;
            let times = |key| {
                let ratio = value(key) / baseline.spread(key).median;
                format!("{:.2} {:>6}", value(key), format!("x{ratio:.1}"))
            };
            println!(
                "{jobs:>9} {offered:>10.0}  {:<16} {:>10.0} {:>9.0} {:>9.0} {:>15} {:>15} {:>9.1} {:>9.2}",
                side.to_string(),
                value("started"),
                value("overlap"),
                value("misfire"),
                times("p50"),
                times("p99"),
                value("max"),
                value("cpu_us"),
            );
        }
        Ok(())
    }

    fn case(&self) -> Case {
        Case {
            kind: Kind::Idle,
            side: Side::Callsheet,
            jobs: 0,
            period: Duration::ZERO,
            window: self.window,
            arbiters: self.arbiters,
            body_threads: self.body_threads,
        }
    }
}

/// What a repeated case found, by name.
#[derive(Clone, Default)]
struct Numbers(BTreeMap<String, Vec<f64>>);

impl Numbers {
    fn spread(&self, key: &str) -> Spread {
        let mut found = self.0.get(key).cloned().unwrap_or_else(|| vec![f64::NAN]);
        found.sort_by(f64::total_cmp);
        Spread { median: found[found.len() / 2], min: found[0], max: found[found.len() - 1] }
    }
}

struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// How many times the other it is.
    fn times(&self, other: &Self) -> String {
        if other.median == 0.0 { String::new() } else { format!("{:.2}", self.median / other.median) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = self;
        f.pad(&if median.abs() >= 100.0 {
            format!("{median:.0} ({min:.0}..{max:.0})")
        } else {
            format!("{median:.2} ({min:.2}..{max:.2})")
        })
    }
}

// One measurement, in a process of its own.

const CHILD: &str = "--child";
/// The period of idle jobs; their fire times are half of it away.
const FAR: Duration = Duration::from_secs(30 * 86_400);

#[derive(Clone, Copy)]
struct Case {
    kind: Kind,
    side: Side,
    jobs: u64,
    period: Duration,
    window: Duration,
    /// 0 is the default, here and below.
    arbiters: u64,
    body_threads: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Idle,
    Burst,
    Ticks,
    Clock,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
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
    fn on(self, side: Side) -> Self {
        Self { side, ..self }
    }

    fn repeated(self, repetitions: usize) -> anyhow::Result<Numbers> {
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
    fn fires(&self) -> Fires {
        if self.side == Side::CallsheetLocal { Fires::Local } else { Fires::Leader }
    }

    /// The first fire time of a job: all at once, evenly over the period, or far away.
    fn first(&self, start: DateTime<Utc>, nth: u64) -> DateTime<Utc> {
        match self.kind {
            Kind::Burst => start,
            Kind::Ticks => start + Duration::from_millis(nth % (self.period.as_millis() as u64)),
            Kind::Idle | Kind::Clock => start + FAR / 2,
        }
    }
}

/// Does what the case says and prints what it found, a name and a number a line.
fn measure(case: &Case) -> anyhow::Result<()> {
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
            sleep_until(notebook.from);
            let (used, skips) = (processor_time()?, SkipCounter::read());
            sleep_until(notebook.until);
            let (used, later) = (processor_time()? - used, SkipCounter::read());
            // Whoever is later than this counts as not started.
            thread::sleep(Duration::from_millis(500));
            let lateness = notebook.lateness();
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

/// What holds the timers.
enum Timers {
    /// The engine, and a runtime for those who wait for its answers.
    Engine(Callsheet, runtime::Runtime),
    /// Tasks on a runtime.
    Tokio(runtime::Handle),
}

impl Timers {
    fn start(case: &Case) -> anyhow::Result<Self> {
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

    fn add(&self, case: &Case, start: DateTime<Utc>) -> anyhow::Result<()> {
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
    fn await_armed(&self, case: &Case) -> anyhow::Result<()> {
        let Self::Engine(engine, runtime) = self else { return Ok(()) };
        await_armed(engine, runtime, &format!("job-{}", case.jobs - 1))
    }

    fn set_the_clock(&self, case: &Case, start: DateTime<Utc>) -> anyhow::Result<()> {
        let Self::Engine(engine, runtime) = self else { bail!("{case}: tokio sees no step") };
        clock::measure(case, start, engine, runtime)
    }
}

fn await_armed(engine: &Callsheet, runtime: &runtime::Runtime, last: &str) -> anyhow::Result<()> {
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

// What the bodies note.

/// How many instants a burst is repeated at; the first one warms up.
const BURSTS: usize = 4;

static NOTEBOOK: OnceLock<Notebook> = OnceLock::new();

struct Notebook {
    start: DateTime<Utc>,
    period: Duration,
    /// Only ticks of this time are noted.
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// Lateness in microseconds; a histogram of its own for each thread, so that nobody waits.
    histograms: Mutex<Vec<Arc<Mutex<Histogram<u64>>>>>,
    bursts: Option<[Burst; BURSTS]>,
}

#[derive(Default)]
struct Burst {
    started: AtomicU64,
    latest_micros: AtomicU64,
}

impl Notebook {
    fn new(start: DateTime<Utc>, case: &Case) -> Self {
        let from = start + case.period.min(Duration::from_secs(1)) + Duration::from_millis(300);
        Self {
            start,
            period: case.period,
            from,
            until: from + case.window,
            histograms: Mutex::default(),
            bursts: (case.kind == Kind::Burst).then(Default::default),
        }
    }

    fn lateness(&self) -> Histogram<u64> {
        let mut all = histogram();
        for one in locked(&self.histograms).iter() {
            all.add(&*locked(one)).expect("invariant: same bounds");
        }
        all
    }
}

/// Notes that the body of the tick at `fire_time` has started.
fn note(fire_time: DateTime<Utc>) {
    thread_local! {
        static OWN: Arc<Mutex<Histogram<u64>>> = {
            let own = Arc::new(Mutex::new(histogram()));
            locked(&notebook().histograms).push(own.clone());
            own
        };
    }
    let notebook = notebook();
    let late = (Utc::now() - fire_time).num_microseconds().and_then(|micros| u64::try_from(micros).ok());
    let late = late.expect("never early");
    if let Some(bursts) = &notebook.bursts {
        let nth = (fire_time - notebook.start).num_milliseconds() / notebook.period.as_millis() as i64;
        if let Some(burst) = usize::try_from(nth).ok().and_then(|nth| bursts.get(nth)) {
            burst.started.fetch_add(1, Relaxed);
            burst.latest_micros.fetch_max(late, Relaxed);
        }
    } else if notebook.from <= fire_time && fire_time < notebook.until {
        OWN.with(|own| locked(own).saturating_record(late));
    }
}

fn notebook() -> &'static Notebook {
    NOTEBOOK.get().expect("invariant: set before any job is added")
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("invariant: good bounds")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A recorder that knows only how many ticks were skipped, so that recording costs next to nothing.
struct SkipCounter;

static MISFIRE: AtomicCounter = AtomicCounter(AtomicU64::new(0));
static OVERLAP: AtomicCounter = AtomicCounter(AtomicU64::new(0));

struct AtomicCounter(AtomicU64);

impl SkipCounter {
    /// Misfires and overlaps so far.
    fn read() -> [u64; 2] {
        [MISFIRE.0.load(Relaxed), OVERLAP.0.load(Relaxed)]
    }
}

impl CounterFn for &AtomicCounter {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

impl Recorder for SkipCounter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let outcome = key.labels().find(|label| label.key() == "outcome").map(|label| label.value());
        match (key.name(), outcome) {
            ("callsheet_ticks_total", Some("misfire")) => Counter::from_arc(Arc::new(&MISFIRE)),
            ("callsheet_ticks_total", Some("overlap")) => Counter::from_arc(Arc::new(&OVERLAP)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

// What the system says of this process.

fn resident_bytes() -> anyhow::Result<u64> {
    const PAGE: u64 = 4_096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).context("statm: no second field")?;
    Ok(pages.parse::<u64>()? * PAGE)
}

/// The processor time of all threads, to the nanosecond.
fn processor_time() -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += line.split(' ').next().context("schedstat: no first field")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn sleep_until(instant: DateTime<Utc>) {
    thread::sleep((instant - Utc::now()).to_std().unwrap_or_default());
}
