//! What is measured, and the tables of it.

use std::{path::PathBuf, thread, time::Duration};

use anyhow::{Context, bail};
use callsheet::testkit::sizes;

use crate::{
    case::{Case, Kind, Side},
    numbers::Numbers,
    peers::Peer,
    plot,
    report::{Point, Report},
};

pub(crate) struct Plan {
    pub(crate) sizes: Vec<u64>,
    only: Option<Only>,
    pub(crate) repetitions: usize,
    pub(crate) window: Duration,
    /// Another program that stands in the tables.
    pub(crate) peer: Option<Peer>,
    /// Where what was found is written as JSON.
    json: Option<PathBuf>,
    arbiters: u64,
    body_threads: u64,
}

/// One thing, and not all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Clock,
    Overload,
    Seconds,
    Sizes,
    /// Draws what a file says.
    Plot,
}

impl Plan {
    pub(crate) fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let mut plan = Self {
            sizes: Vec::new(),
            only: None,
            repetitions: 3,
            window: Duration::from_millis(1_200),
            peer: None,
            json: None,
            arbiters: 0,
            body_threads: 0,
        };
        let mut million = false;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut text = || arguments.next().with_context(|| format!("{argument} wants a value"));
            let mut number = || -> anyhow::Result<u64> {
                let value = text()?;
                value.parse().with_context(|| format!("{argument} {value}: not a number"))
            };
            match argument.as_str() {
                "--quick" => (plan.repetitions, plan.window) = (1, Duration::from_millis(300)),
                "--million" => million = true,
                "--arbiters" => plan.arbiters = number()?,
                "--body-threads" => plan.body_threads = number()?,
                "--peer" => plan.peer = Some(Peer::of(text()?)?),
                "--json" => plan.json = Some(text()?.into()),
                "1k" => plan.sizes.push(1_000),
                "10k" => plan.sizes.push(10_000),
                "100k" => plan.sizes.push(100_000),
                "1m" => plan.sizes.push(1_000_000),
                "clock" => plan.only = Some(Only::Clock),
                "overload" => plan.only = Some(Only::Overload),
                "seconds" => plan.only = Some(Only::Seconds),
                "sizes" => plan.only = Some(Only::Sizes),
                "plot" => plan.only = Some(Only::Plot),
                other => bail!("{other}: not an argument; the top of benches/engine/main.rs has them"),
            }
        }
        plan.choose_sizes(million);
        Ok(plan)
    }

    fn choose_sizes(&mut self, million: bool) {
        let quick = self.repetitions == 1;
        if self.sizes.is_empty() {
            self.sizes = match self.only {
                Some(Only::Clock) => vec![1_000_000],
                Some(Only::Overload) if !quick => vec![1_000, 100_000, 1_000_000],
                Some(Only::Seconds) => vec![1_000, 10_000],
                _ if quick => vec![1_000],
                _ => vec![1_000, 100_000],
            };
        }
        if million && !self.sizes.contains(&1_000_000) {
            self.sizes.push(1_000_000);
        }
    }

    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        println!(
            "callsheet beside bare tokio timers, {processors} processors; median (min..max), x = callsheet / tokio\n"
        );
        let points = match self.only {
            Some(Only::Plot) => {
                let json = self.json.as_ref().context("plot wants --json FILE, and reads it")?;
                return plot::draw(&Report::read(json)?, &json.with_extension("svg"));
            }
            Some(Only::Clock) => return self.sizes.iter().try_for_each(|&jobs| self.clock(jobs)),
            Some(Only::Sizes) => {
                println!("bytes of the types of which every job has a value");
                for (what, bytes) in sizes() {
                    println!("{bytes:>9}  {what}");
                }
                println!();
                return self.sizes.iter().try_for_each(|&jobs| self.idle(jobs));
            }
            Some(Only::Overload) => self.curves()?,
            Some(Only::Seconds) => self.all_seconds()?,
            None => self.all()?,
        };
        match &self.json {
            Some(json) => Report::new(points).write(json),
            None => Ok(()),
        }
    }

    fn all(&self) -> anyhow::Result<Vec<Point>> {
        self.sizes.iter().try_for_each(|&jobs| self.idle(jobs))?;
        self.burst()?;
        println!(
            "ticks: a trivial body each, phases spread evenly; lateness = start of the body - fire time, in ms"
        );
        Self::heading();
        let mut points = Vec::new();
        for &jobs in &self.sizes {
            for rate in [10_000, 100_000, 300_000] {
                points.extend(self.ticks(jobs, rate)?);
            }
        }
        Ok(points)
    }

    fn all_seconds(&self) -> anyhow::Result<Vec<Point>> {
        println!("all jobs at each whole second, a trivial body each; lateness in ms");
        Self::heading();
        let points: anyhow::Result<Vec<_>> = self.sizes.iter().map(|&jobs| self.seconds(jobs)).collect();
        Ok(points?.concat())
    }

    /// Of this program, or of the peer's.
    pub(crate) fn repeated(&self, case: Case, repetitions: usize) -> anyhow::Result<Numbers> {
        match (&self.peer, case.side) {
            (Some(peer), Side::Peer) => case.repeated_by(&peer.program, repetitions),
            _ => case.repeated(repetitions),
        }
    }

    pub(crate) fn name_of(&self, side: Side) -> String {
        match (&self.peer, side) {
            (Some(peer), Side::Peer) => peer.name.clone(),
            _ => side.to_string(),
        }
    }

    pub(crate) fn case(&self) -> Case {
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
