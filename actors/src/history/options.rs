//! What an engine is told about its history.

use std::{fmt, sync::Arc};

use crate::{
    core::{duration::DurationText, text::Grouped},
    fault::Fault,
    port::{History, MEMORY_BYTES_MIN, MemoryBounds, RETENTION_MAX, RETENTION_MIN, Retention},
};

/// Whether a history is kept, where, and how much of it.
///
/// ```
/// use std::time::Duration;
///
/// use callsheet_actors::HistoryOptions;
///
/// let mut history = HistoryOptions::default();
/// history.memory.runs = 1_000;
/// history.retention.runs_for = Duration::from_hours(7 * 24);
/// assert!(!HistoryOptions::off().is_kept);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct HistoryOptions {
    /// Whether one is kept. Default: `true`, where the backend has one or `store` is given.
    pub is_kept: bool,
    /// Where it is kept, instead of where the backend keeps it. Default: `None`.
    pub store: Option<Arc<dyn History>>,
    /// How much the embedded backend keeps in memory.
    pub memory: MemoryBounds,
    /// How long, and how much of each job, is kept elsewhere. Nodes of one scope should be told the same; what
    /// the leader is told counts.
    pub retention: Retention,
    /// How many records may wait on this node to be written, at least [`HISTORY_QUEUE_MIN`]; of more, the
    /// newest are dropped and counted. Default: 65,536.
    pub queue: usize,
    /// How many bytes of records may wait, with their texts, at least 65,536; of more, the newest are dropped
    /// and counted. Default: 64 MiB.
    pub queue_bytes: usize,
}

/// The least number of records that may wait to be written.
pub const HISTORY_QUEUE_MIN: usize = 64;

/// The least number of bytes that may wait.
const QUEUE_BYTES_MIN: usize = 64 * 1024;

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            is_kept: true,
            store: None,
            memory: MemoryBounds::default(),
            retention: Retention::default(),
            queue: 65_536,
            queue_bytes: 64 * 1024 * 1024,
        }
    }
}

impl HistoryOptions {
    /// No history is kept.
    pub fn off() -> Self {
        Self { is_kept: false, ..Self::default() }
    }

    /// What is wrong with them.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let counts = [
            ("history: memory.runs", self.memory.runs as u64, 1, 10_000),
            ("history: memory.decisions", self.memory.decisions as u64, 1, 10_000),
            ("history: memory.operations", self.memory.operations as u64, 1, 1_000),
            ("history: memory.jobs", self.memory.jobs as u64, 2, 100_000),
            ("history: memory.bytes", self.memory.bytes as u64, MEMORY_BYTES_MIN as u64, 16 * 1024 * 1024),
            ("history: retention.runs_per_job", self.retention.runs_per_job, 1, 10_000),
            ("history: queue", self.queue as u64, HISTORY_QUEUE_MIN as u64, 65_536),
            ("history: queue_bytes", self.queue_bytes as u64, QUEUE_BYTES_MIN as u64, 64 * 1024 * 1024),
        ];
        for (option, value, min, default) in counts {
            if value < min {
                let rule = format!("it is at least {}", Grouped(min));
                let cure = format!("raise it, or leave it out; {} is the default", Grouped(default));
                faults.push(Fault::new(option, Grouped(value).to_string(), rule, cure));
            }
        }
        let Retention { runs_for, failures_for, decisions_for, operations_for, .. } = self.retention;
        let spans = [
            ("history: retention.runs_for", runs_for, "30d"),
            ("history: retention.failures_for", failures_for, "90d"),
            ("history: retention.decisions_for", decisions_for, "30d"),
            ("history: retention.operations_for", operations_for, "365d"),
        ];
        for (option, value, default) in spans {
            if !(RETENTION_MIN..=RETENTION_MAX).contains(&value) {
                let (min, max) = (DurationText(RETENTION_MIN), DurationText(RETENTION_MAX));
                let rule = format!("it is at least {min} and at most {max}");
                let cure = format!("choose a time in this range; {default} is the default");
                faults.push(Fault::new(option, DurationText(value).to_string(), rule, cure));
            }
        }
        if failures_for < runs_for {
            let rule = format!("it is at least as long as retention.runs_for, {}", DurationText(runs_for));
            let value = DurationText(failures_for).to_string();
            faults.push(Fault::new("history: retention.failures_for", value, rule, "raise it"));
        }
        faults
    }
}

impl fmt::Debug for HistoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryOptions").field("is_kept", &self.is_kept).finish_non_exhaustive()
    }
}
