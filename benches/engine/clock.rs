//! What it takes to notice that the clock was set, and to make the timers right again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use callsheet::{
    Callsheet, Job,
    port::{CLOCK_LOOK_EVERY, Clock, SystemClock},
    schedule::at,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::runtime::{self, Runtime};

use crate::{case::Case, instruments::processor_time, timers::await_armed};

/// How far apart the instants are to which the clock is set.
const HOUR: Duration = Duration::from_hours(1);
/// How often the clock is set, each time at another moment between two looks.
const STEPS: u32 = 8;
/// Of these, so many while somebody keeps asking the supervisor, which takes processor time as well.
const ASKED: u32 = 2;
/// Longer than the engine takes to arm all timers again.
const REARMED_WITHIN: Duration = Duration::from_secs(13);
/// How long each body gets to start.
const DEADLINE: Duration = Duration::from_secs(60);

static AHEAD_MICROS: AtomicI64 = AtomicI64::new(0);

/// The clock that the program sets.
#[derive(Debug, Default)]
pub(crate) struct Settable(SystemClock);

impl Settable {
    fn set(at: DateTime<Utc>) {
        AHEAD_MICROS.store((at - Utc::now()).num_microseconds().unwrap_or_default(), Relaxed);
    }
}

impl Clock for Settable {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(AHEAD_MICROS.load(Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Sets the clock of an engine that holds nothing but idle jobs. Prints what it found, a name and a number a
/// line.
pub(crate) fn measure(
    case: &Case,
    start: DateTime<Utc>,
    engine: &Callsheet,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    let (started, starts) = channel();
    // Behind all others in the order of names.
    // Due at no other time: whatever starts has been made due by the step before.
    let instants: Vec<_> = (1..=STEPS).map(|nth| start + HOUR * nth).collect();
    let due = Job::new("next", at(instants)).fires(case.fires());
    let due = due.run_with(started, async |_, started: Sender<Instant>| {
        // Nobody waits for it any more.
        let _ = started.send(Instant::now());
    });
    runtime.block_on(engine.add(due))?;
    await_armed(engine, runtime, "next")?;
    await_quiet()?;

    let used = processor_time()?;
    thread::sleep(case.window);
    let idle = (processor_time()? - used).as_secs_f64() / case.window.as_secs_f64();
    println!("idle_percent {}", 100.0 * idle);

    for nth in 1..=STEPS {
        let used = processor_time()?;
        let asking = (nth > STEPS - ASKED).then(|| Asking::start(engine));
        // Never at the same distance from the last look.
        thread::sleep(CLOCK_LOOK_EVERY * nth / STEPS);
        let next = start + HOUR * nth;
        println!("body_ms {}", step(next, &starts)?.as_secs_f64() * 1e3);
        thread::sleep(REARMED_WITHIN);
        match asking {
            Some(asking) => println!("answer_ms {}", asking.longest().as_secs_f64() * 1e3),
            None => println!("rearm_cpu_s {}", (processor_time()? - used).as_secs_f64()),
        }
    }
    Ok(())
}

/// Waits until the engine has done what adding the jobs left to do.
fn await_quiet() -> anyhow::Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    let quiet = |used: Duration| used < SECOND / 100;
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let used = processor_time()?;
        thread::sleep(SECOND);
        if quiet(processor_time()? - used) {
            return Ok(());
        }
    }
    bail!("the engine does not come to rest")
}

/// Sets the clock and waits for the body that is due by it. Answers how long that took.
fn step(to: DateTime<Utc>, starts: &Receiver<Instant>) -> anyhow::Result<Duration> {
    Settable::set(to);
    let set = Instant::now();
    let started = starts.recv_timeout(DEADLINE).context("the body that is due did not start")?;
    Ok(started - set)
}

/// Somebody who asks the supervisor one question after the other.
struct Asking {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Asking {
    fn start(engine: &Callsheet) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (engine, until) = (engine.clone(), over.clone());
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
            let mut longest = Duration::ZERO;
            while !until.load(Relaxed) {
                let asked = Instant::now();
                runtime.block_on(engine.details("no such job")).expect_err("there is none");
                longest = longest.max(asked.elapsed());
                thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        Self { over, thread }
    }

    fn longest(self) -> Duration {
        self.over.store(true, Relaxed);
        self.thread.join().expect("it does not panic")
    }
}
