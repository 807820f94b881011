//! The curve of overload: from a tenth of what a side can do to ten times of it.

use std::time::Duration;

use crate::{
    case::{Case, Kind, Side},
    overload::WITNESSES,
    plan::Plan,
    report::Point,
};

/// Offered load, in percent of what the side can do.
const PERCENT: [u64; 8] = [10, 30, 60, 90, 150, 300, 600, 1_000];
/// More than any side can do; what it starts then is what it can do.
const SATURATING: u64 = 600_000;
/// Started ticks may never be fewer than this share of the most.
const LEVEL: f64 = 0.8;

impl Plan {
    pub(crate) fn curves(&self) -> anyhow::Result<Vec<Point>> {
        println!(
            "overload: {:?} of more ticks than can run, trivial bodies, and {WITNESSES} witnesses beside",
            self.window
        );
        println!("skipped = ticks decided not to run; again = until all is on time after the load, in ms;");
        println!("health, supervisor = their longest answer meanwhile, in ms; left = ticks never decided\n");
        let mut points = Vec::new();
        let peer = self.peer.as_ref().map(|_| Side::Peer);
        for &jobs in &self.sizes {
            for side in [Side::Callsheet, Side::CallsheetLocal, Side::Tokio].into_iter().chain(peer) {
                points.extend(self.curve(jobs, side)?);
            }
        }
        Ok(points)
    }

    fn curve(&self, jobs: u64, side: Side) -> anyhow::Result<Vec<Point>> {
        println!(
            "{:>9} {:>10}  {:<16} {:>10} {:>10} {:>9} {:>9} {:>9} {:>15} {:>8} {:>8} {:>10} {:>6}",
            "jobs",
            "offered/s",
            "",
            "started/s",
            "skipped/s",
            "p50",
            "p99",
            "CPU µs",
            "MiB idle..most",
            "again",
            "health",
            "supervisor",
            "left"
        );
        let most = self.point(jobs, side, SATURATING)?.value("started");
        let mut points: Vec<Point> = Vec::new();
        for percent in PERCENT {
            let point = self.point(jobs, side, (most * percent as f64 / 100.0) as u64)?;
            if points.last().is_some_and(|last| last.offered == point.offered) {
                // Schedules go by whole milliseconds: these jobs cannot offer more.
                break;
            }
            print(&point);
            points.push(point);
        }
        let started = |point: &Point| point.value("started");
        let most = points.iter().map(started).fold(0.0, f64::max);
        let beyond = points.iter().filter(|point| point.offered >= most).map(started);
        let least = 100.0 * beyond.fold(most, f64::min) / most;
        println!(
            "{:>22} the least beyond the peak is {least:.0} % of it (goal: {:.0} %)\n",
            "",
            100.0 * LEVEL
        );
        Ok(points)
    }

    /// What a load of `rate` ticks a second, or a little more, does.
    fn point(&self, jobs: u64, side: Side, rate: u64) -> anyhow::Result<Point> {
        let period = Duration::from_millis((jobs * 1_000 / rate.max(1)).max(1));
        let case = Case { kind: Kind::Overload, side, jobs, period, ..self.case() };
        let offered = jobs as f64 / period.as_secs_f64();
        Ok(Point::new("overload", &self.name_of(side), jobs, offered, &self.repeated(case, 1)?))
    }
}

fn print(point: &Point) {
    let Point { side, jobs, offered, .. } = point;
    let value = |name| point.value(name);
    println!(
        "{jobs:>9} {offered:>10.0}  {side:<16} {:>10.0} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>15} {:>8.0} {:>8.1} {:>10.1} {:>6.0}",
        value("started"),
        value("misfire") + value("overlap") + value("other"),
        value("p50"),
        value("p99"),
        value("cpu_us"),
        format!("{:.0}..{:.0}", value("mib_idle"), value("mib_most")),
        value("on_time_again_ms"),
        value("health_max"),
        value("supervisor_max"),
        value("undecided"),
    );
}
