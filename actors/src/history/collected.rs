//! Records on their way to the history, in parts.

use crate::port::{Batch, Decision, DecisionRecord, RunRecord};

/// The most bytes that are written at once, with their texts, unless one record has more.
pub(super) const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// Records on their way to the history.
#[derive(Default)]
pub(super) struct Collected {
    batch: Batch,
    /// So many runs, the first ones, are in progress. They take none of the room of those that wait.
    open: usize,
    bytes: usize,
}

fn run_bytes(run: &RunRecord) -> usize {
    size_of_val(run) + run.text_bytes()
}

fn decision_bytes(record: &DecisionRecord) -> usize {
    size_of_val(record) + record.text_bytes()
}

/// Says that records were dropped. It is about those that were counted as dropped: it is none of them itself, and takes
/// none of the room of those that wait.
fn is_notice(record: &DecisionRecord) -> bool {
    matches!(record.decision, Decision::RecordsDropped { .. })
}

/// How many records are lost if these are not written.
pub(super) fn loss(batch: &Batch) -> usize {
    batch.len() - batch.decisions.iter().filter(|record| is_notice(record)).count()
}

impl Collected {
    /// Of which so many runs, the first ones, are in progress.
    pub(super) fn new(batch: Batch, open: usize) -> Self {
        let bytes = batch.bytes();
        Self { batch, open, bytes }
    }

    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }

    /// The room that they take: how many they are, and how many bytes.
    pub(super) fn room(&self) -> (usize, usize) {
        let open: usize = self.batch.runs[..self.open].iter().map(run_bytes).sum();
        let notices = || self.batch.decisions.iter().filter(|record| is_notice(record));
        let notice_bytes: usize = notices().map(decision_bytes).sum();
        (self.batch.len() - self.open - notices().count(), self.bytes - open - notice_bytes)
    }

    /// With the runs of each job one after the other, in their order: a part has few jobs, whose rows are written
    /// once for all of them.
    pub(super) fn by_job(mut self) -> Self {
        self.batch.runs[self.open..].sort_by(|one, other| one.job.cmp(&other.job));
        self
    }

    /// In parts of at most so many records, and of at most [`WRITE_BYTES_MAX`].
    pub(super) fn split(self, max: usize) -> Vec<Self> {
        let is_small = self.batch.len() <= max && self.bytes <= WRITE_BYTES_MAX;
        if self.batch.is_empty() || is_small {
            return if self.batch.is_empty() { Vec::new() } else { vec![self] };
        }
        let Self { batch, open, .. } = self;
        let mut parts = Parts { parts: Vec::new(), max };
        for (nth, run) in batch.runs.into_iter().enumerate() {
            let part = parts.next(run_bytes(&run));
            part.open += usize::from(nth < open);
            part.batch.runs.push(run);
        }
        for one in batch.decisions {
            parts.next(decision_bytes(&one)).batch.decisions.push(one);
        }
        for one in batch.operations {
            parts.next(size_of_val(&one) + one.text_bytes()).batch.operations.push(one);
        }
        for one in batch.pauses {
            parts.next(size_of_val(&one) + one.text_bytes()).batch.pauses.push(one);
        }
        parts.parts
    }
}

struct Parts {
    parts: Vec<Collected>,
    max: usize,
}

impl Parts {
    /// The part that takes the next record, which has so many bytes.
    fn next(&mut self, bytes: usize) -> &mut Collected {
        let has_room =
            |part: &Collected| part.batch.len() < self.max && part.bytes + bytes <= WRITE_BYTES_MAX;
        if !self.parts.last().is_some_and(has_room) {
            self.parts.push(Collected::default());
        }
        let last = self.parts.len() - 1;
        let part = &mut self.parts[last];
        part.bytes += bytes;
        part
    }
}
