//! More ticks than can run, for a while, and how long it takes until everything is on time again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use callsheet::Callsheet;
use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use tokio::runtime;

use crate::{
    case::{Case, sleep_until},
    instruments::{TickCounter, histogram, processor_time, resident_bytes},
    notes::Notebook,
    timers::Timers,
};

/// The jobs that fire all the time, also when the load is gone, at a rate that costs next to nothing.
pub(crate) const WITNESSES: u64 = 100;
pub(crate) const WITNESS_PERIOD: Duration = Duration::from_millis(100);
/// How long the witnesses go on after the load.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// How long after the last tick of all the counters are read.
const UNTIL_DECIDED: Duration = Duration::from_millis(2_000);
const MEBIBYTE: f64 = (1 << 20) as f64;

/// When the load goes.
pub(crate) fn load_ends(case: &Case, start: DateTime<Utc>) -> DateTime<Utc> {
    Notebook::window_opens(case, start) + case.window
}

/// When nothing is due any more.
pub(crate) fn all_ends(case: &Case, start: DateTime<Utc>) -> DateTime<Utc> {
    load_ends(case, start) + AFTERWARDS
}

/// Prints what it found, a name and a number a line.
pub(crate) fn measure(
    case: &Case,
    start: DateTime<Utc>,
    bytes_before: u64,
    timers: &Timers,
    notebook: &Notebook,
) -> anyhow::Result<()> {
    let mebibytes = |bytes: u64| bytes.saturating_sub(bytes_before) as f64 / MEBIBYTE;
    sleep_until(start);
    println!("mib_idle {}", mebibytes(resident_bytes()?));
    let observer = Observer::start(timers.engine());
    sleep_until(notebook.lateness.from);
    let (used, earlier) = (processor_time()?, TickCounter::read());
    sleep_until(notebook.lateness.until);
    let (used, decided) = (processor_time()? - used, TickCounter::read().since(earlier));
    sleep_until(all_ends(case, start));
    let observed = observer.stop();
    thread::sleep(UNTIL_DECIDED);

    let lateness = notebook.lateness.all();
    let seconds = case.window.as_secs_f64();
    println!("started {}", lateness.len() as f64 / seconds);
    println!("misfire {}", decided.misfire as f64 / seconds);
    println!("overlap {}", decided.overlap as f64 / seconds);
    println!("other {}", decided.other as f64 / seconds);
    println!("p50 {}", lateness.value_at_quantile(0.5) as f64 / 1e3);
    println!("p99 {}", lateness.value_at_quantile(0.99) as f64 / 1e3);
    println!("max {}", lateness.max() as f64 / 1e3);
    println!("cpu_us {}", used.as_secs_f64() * 1e6 / lateness.len().max(1) as f64);
    println!("mib_most {}", mebibytes(observed.bytes_most));
    println!("mib_after {}", mebibytes(resident_bytes()?));
    let last_late = notebook.last_late_micros.load(Relaxed) - load_ends(case, start).timestamp_micros();
    println!("on_time_again_ms {}", last_late.max(0) as f64 / 1e3);
    if timers.engine().is_some() {
        println!("undecided {}", due(case, start) as f64 - TickCounter::read().all() as f64);
        for (name, answers) in [("health", observed.health), ("supervisor", observed.supervisor)] {
            println!("{name}_p99 {}", answers.value_at_quantile(0.99) as f64 / 1e3);
            println!("{name}_max {}", answers.max() as f64 / 1e3);
        }
    }
    Ok(())
}

/// How many ticks there are in all.
fn due(case: &Case, start: DateTime<Utc>) -> u64 {
    let ticks = |first: DateTime<Utc>, until: DateTime<Utc>, period: Duration| {
        let millis = u64::try_from((until - first).num_milliseconds()).unwrap_or_default();
        millis.div_ceil(period.as_millis() as u64)
    };
    let load = load_ends(case, start);
    let jobs = (0..case.jobs).map(|nth| ticks(case.first(start, nth), load, case.period));
    jobs.sum::<u64>() + WITNESSES * ticks(start, all_ends(case, start), WITNESS_PERIOD)
}

/// Somebody who asks the health and the supervisor again and again, and looks how much memory there is.
struct Observer {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Observed>,
}

/// Answer times in microseconds.
struct Observed {
    health: Histogram<u64>,
    supervisor: Histogram<u64>,
    bytes_most: u64,
}

impl Observer {
    const EVERY: Duration = Duration::from_millis(5);

    fn start(engine: Option<&Callsheet>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (engine, until) = (engine.cloned(), over.clone());
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
            let mut seen = Observed { health: histogram(), supervisor: histogram(), bytes_most: 0 };
            while !until.load(Relaxed) {
                if let Some(engine) = &engine {
                    let asked = Instant::now();
                    runtime.block_on(engine.health()).expect("the engine runs");
                    seen.health.saturating_record(asked.elapsed().as_micros() as u64);
                    let asked = Instant::now();
                    runtime.block_on(engine.details("no such job")).expect_err("there is none");
                    seen.supervisor.saturating_record(asked.elapsed().as_micros() as u64);
                }
                seen.bytes_most = seen.bytes_most.max(resident_bytes().unwrap_or_default());
                thread::sleep(Self::EVERY);
            }
            seen
        });
        Self { over, thread }
    }

    fn stop(self) -> Observed {
        self.over.store(true, Relaxed);
        self.thread.join().expect("it does not panic")
    }
}
