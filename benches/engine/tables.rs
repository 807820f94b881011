//! The tables that are printed.

use std::time::Duration;

use crate::{
    case::{Case, FAR, Kind, Side},
    plan::Plan,
    report::Point,
};

impl Plan {
    /// Jobs far in the future.
    pub(crate) fn idle(&self, jobs: u64) -> anyhow::Result<()> {
        let case = Case { kind: Kind::Idle, jobs, period: FAR, window: 4 * self.window, ..self.case() };
        let repetitions = if jobs > 100_000 { 1 } else { self.repetitions };
        let [callsheet, tokio] =
            [Side::Callsheet, Side::Tokio].map(|side| case.on(side).repeated(repetitions));
        let (callsheet, tokio) = (callsheet?, tokio?);
        println!("{jobs} idle jobs{:24} {:>26} {:>26} {:>8}", "", "callsheet", "tokio", "x");
        for (what, key) in [
            ("time to add, ms", "add_ms"),
            ("time until all are armed, ms", "armed_ms"),
            ("resident bytes per job", "bytes"),
            ("of which text of the program", "bytes_of_files"),
            ("CPU while idle, % of a core", "idle_percent"),
        ] {
            let (own, other) = (callsheet.spread(key), tokio.spread(key));
            println!("  {what:<36} {own:>26} {other:>26} {:>8}", own.times(&other));
        }
        println!();
        Ok(())
    }

    /// The clock is set while all jobs but one are far in the future.
    pub(crate) fn clock(&self, jobs: u64) -> anyhow::Result<()> {
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
    pub(crate) fn burst(&self) -> anyhow::Result<()> {
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

    /// Ticks as fast as `rate` a second, whether that is possible or not, evenly spread.
    pub(crate) fn ticks(&self, jobs: u64, rate: u64) -> anyhow::Result<Vec<Point>> {
        // Rounded down, so that no less than `rate` is offered.
        let period = Duration::from_millis((jobs * 1_000 / rate).max(1));
        let case = Case { kind: Kind::Ticks, jobs, period, ..self.case() };
        self.rows("ticks", case, &[Side::Tokio, Side::TokioOneThread, Side::Callsheet, Side::CallsheetLocal])
    }

    /// All jobs at each whole second, which is as often as cron crates can.
    pub(crate) fn seconds(&self, jobs: u64) -> anyhow::Result<Vec<Point>> {
        const SECONDS: u32 = 4;
        let period = Duration::from_secs(1);
        let case = Case { kind: Kind::Seconds, jobs, period, window: SECONDS * period, ..self.case() };
        self.rows("seconds", case, &[Side::Tokio, Side::Callsheet, Side::CallsheetLocal, Side::TokioCron])
    }

    pub(crate) fn heading() {
        println!(
            "{:>9} {:>10}  {:<16} {:>10} {:>9} {:>9} {:>15} {:>15} {:>9} {:>9}",
            "jobs", "offered/s", "", "started/s", "overlap/s", "misfire/s", "p50", "p99", "max", "CPU µs"
        );
    }

    /// A row for each side, the first of which is what the others are compared with.
    fn rows(&self, table: &str, case: Case, sides: &[Side]) -> anyhow::Result<Vec<Point>> {
        let jobs = case.jobs;
        let offered = jobs as f64 / case.period.as_secs_f64();
        let mut points: Vec<Point> = Vec::new();
        let peer = self.peer.as_ref().map(|_| Side::Peer);
        for side in sides.iter().copied().chain(peer) {
            let found = self.repeated(case.on(side), 1)?;
            let point = Point::new(table, &self.name_of(side), jobs, offered, &found);
            points.push(point.clone());
            let times = |key| {
                let ratio = point.value(key) / points[0].value(key);
                format!("{:.2} {:>6}", point.value(key), format!("x{ratio:.1}"))
            };
            println!(
                "{jobs:>9} {offered:>10.0}  {:<16} {:>10.0} {:>9.0} {:>9.0} {:>15} {:>15} {:>9.1} {:>9.2}",
                point.side,
                point.value("started"),
                point.value("overlap"),
                point.value("misfire"),
                times("p50"),
                times("p99"),
                point.value("max"),
                point.value("cpu_us"),
            );
        }
        Ok(points)
    }
}
