//! How fast coordination through PostgreSQL is, beside the barest statements that could do the same, in the
//! same run.
//!
//! ```text
//! cargo bench --bench postgres --features postgres                all of it, some twenty minutes
//! cargo bench --bench postgres --features postgres -- adapter     one part: adapter, contended, sessions, snapshot, ticks, latency,
//!                                                                 idle, stale, reopen, history, retention, record, catalogue
//! cargo bench --bench postgres --features postgres -- --quick     a smoke test
//! ```
//!
//! The server is one of its own on this machine, with the settings of a fresh installation: every commit
//! waits for the disk. What a commit costs is measured as well, because little else matters at low load. The
//! two sides of a comparison take turns, so that whatever else the machine does meets both.

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod catalogue;
mod claims;
#[path = "../../tests/common/postgres.rs"]
mod harness;
mod history;
mod idle;
#[path = "../instruments/mod.rs"]
mod instruments;
mod latency;
mod locker;
mod old_rows;
mod server;
mod sessions;
mod ticks;

use std::{env, process::ExitCode, thread, time::Duration};

use anyhow::bail;

use crate::{
    server::connect,
    ticks::{CHILD, Case},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == CHILD => Case::of(rest).and_then(|case| case.measure()),
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

const PARTS: [&str; 13] = [
    "adapter",
    "contended",
    "sessions",
    "snapshot",
    "ticks",
    "latency",
    "idle",
    "stale",
    "reopen",
    "history",
    "retention",
    "record",
    "catalogue",
];
/// The jobs whose ticks are claimed.
const JOBS: usize = 10_000;

struct Plan {
    parts: Vec<String>,
    /// How long one side of a comparison is measured at a time, and how often.
    slice: Duration,
    slices: usize,
    window: Duration,
    /// How long idle nodes are watched.
    idle: Duration,
    /// For how long a snapshot stays open.
    snapshot: Duration,
    /// How many names are long gone.
    stale: u32,
    /// How long the server is away, and how often it is away so long.
    outages: &'static [u64],
    restarts: u32,
    /// How many runs the history has that is asked.
    runs: i64,
    /// How many jobs are stored, and how many of them are changed.
    stored: usize,
    changes: usize,
}

impl Plan {
    fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let mut plan = Self {
            parts: Vec::new(),
            slice: Duration::from_millis(900),
            slices: 4,
            window: Duration::from_secs(6),
            idle: Duration::from_secs(60),
            snapshot: Duration::from_secs(60),
            stale: 3_000_000,
            outages: &[2, 15],
            restarts: 3,
            runs: 5_000_000,
            stored: 100_000,
            changes: 1_000,
        };
        for argument in arguments {
            match argument.as_str() {
                "--quick" => {
                    (plan.slice, plan.slices, plan.window) =
                        (Duration::from_millis(200), 1, Duration::from_secs(1));
                    (plan.idle, plan.snapshot) = (Duration::from_secs(1), Duration::from_secs(2));
                    (plan.stale, plan.runs) = (100_000, 50_000);
                    (plan.outages, plan.restarts) = (&[1], 1);
                    (plan.stored, plan.changes) = (2_000, 20);
                }
                part if PARTS.contains(&part) => plan.parts.push(argument.clone()),
                other => bail!("{other}: not one of {}, --quick", PARTS.join(", ")),
            }
        }
        Ok(plan)
    }

    fn run(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let wanted = |part: &str| self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part);
        let version: String = runtime.block_on(async {
            let client = connect().await?;
            anyhow::Ok(client.query_one("SHOW server_version", &[]).await?.get(0))
        })?;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        println!("PostgreSQL {version}, durable, {processors} processors for it and for everything else\n");
        if wanted("adapter") {
            runtime.block_on(self.adapter())?;
        }
        if wanted("contended") {
            runtime.block_on(self.contended())?;
        }
        if wanted("sessions") {
            runtime.block_on(self.sessions())?;
        }
        if wanted("snapshot") {
            runtime.block_on(self.snapshot())?;
        }
        if wanted("ticks") {
            self.ticks(&runtime)?;
        }
        if wanted("latency") {
            self.latency(&runtime)?;
        }
        if wanted("idle") {
            self.idle()?;
        }
        if wanted("stale") {
            runtime.block_on(self.stale())?;
        }
        if wanted("reopen") {
            self.reopen()?;
        }
        if wanted("history") {
            self.history()?;
        }
        if wanted("retention") {
            self.retention()?;
        }
        if wanted("record") {
            self.record(&runtime)?;
        }
        if wanted("catalogue") {
            runtime.block_on(self.catalogue())?;
        }
        Ok(())
    }
}
