//! What was found, as JSON.

use std::{collections::BTreeMap, fs, path::Path, thread};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::numbers::Numbers;

#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) version: String,
    pub(crate) processors: usize,
    pub(crate) points: Vec<Point>,
}

/// What one side made of one load.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Of which table: `ticks`, `seconds`, `overload`.
    pub(crate) table: String,
    pub(crate) side: String,
    pub(crate) jobs: u64,
    /// Ticks a second.
    pub(crate) offered: f64,
    /// By name; where a case was repeated, the medians.
    pub(crate) found: BTreeMap<String, f64>,
}

impl Point {
    pub(crate) fn new(table: &str, side: &str, jobs: u64, offered: f64, numbers: &Numbers) -> Self {
        let found = numbers.0.keys().map(|key| (key.clone(), numbers.spread(key).median)).collect();
        Self { table: table.to_owned(), side: side.to_owned(), jobs, offered, found }
    }

    /// NaN if that was not found.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.found.get(name).copied().unwrap_or(f64::NAN)
    }
}

impl Report {
    pub(crate) fn new(points: Vec<Point>) -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), processors, points }
    }

    /// Writes it, and keeps the tables of the file that were not measured now.
    pub(crate) fn write(mut self, path: &Path) -> anyhow::Result<()> {
        if let Ok(former) = Self::read(path) {
            let again = |point: &Point| {
                self.points.iter().any(|new| new.table == point.table && new.jobs == point.jobs)
            };
            let kept: Vec<_> = former.points.iter().filter(|point| !again(point)).cloned().collect();
            self.points.splice(0..0, kept);
        }
        fs::write(path, serde_json::to_string_pretty(&self)? + "\n")
            .with_context(|| path.display().to_string())
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}
