//! What is measured, and the tables of it.

use std::{thread, time::Duration};

use anyhow::{Context, bail};
use callsheet::testkit::sizes;

use crate::{
    case::{Case, FAR, Kind, Side},
    numbers::Numbers,
};

pub(crate) struct Plan {
    sizes: Vec<u64>,
    clock: bool,
    types: bool,
    repetitions: usize,
    window: Duration,
    arbiters: u64,
    body_threads: u64,
}

impl Plan {
    pub(crate) fn of(arguments: &[String]) -> anyhow::Result<Self> {
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

    pub(crate) fn run(&self) -> anyhow::Result<()> {
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
