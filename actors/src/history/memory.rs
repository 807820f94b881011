//! A history in the memory of this process: the newest records, within bounds.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use foldhash::{HashMap, HashMapExt};
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};

use super::job_row::JobRows;
use crate::{
    event::Outcome,
    name::{JobName, NodeId, RunId},
    port::{
        AskGaps, Batch, Decision, DecisionPage, DecisionRecord, Decisions, Gaps, History, HistoryError,
        Holder, JobHistory, JobRecord, LastEnds, MemoryBounds, OperationPage, OperationRecord, Operations,
        RecordsOf, Retention, RunHistory, RunPage, RunRecord,
    },
};

/// A history in the memory of this process. It ends with the process.
pub struct MemoryHistory {
    bounds: MemoryBounds,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The ended runs, in the order in which they were written, chunk by chunk.
    chunks: VecDeque<Chunk>,
    /// How many they are.
    runs: usize,
    /// Runs that failed and are older than those, in their order: a tenth of all runs at most.
    failures: VecDeque<RunRecord>,
    /// Runs in progress.
    open: HashMap<RunId, RunRecord>,
    decisions: BTreeMap<(DateTime<Utc>, i64), DecisionRecord>,
    /// Where the decision is that is the same but for what it counts.
    places: HashMap<Same, i64>,
    /// Each with its number, in the order of their times.
    operations: VecDeque<(i64, OperationRecord)>,
    /// How many decisions and operations there were.
    count: i64,
    /// What runs, decisions and operations take.
    bytes: usize,
    /// When what was dropped last for lack of room had been recorded.
    pruned_to: Option<DateTime<Utc>>,
    /// The same of operations.
    operations_pruned_to: Option<DateTime<Utc>>,
    jobs: JobRows,
}

/// Ended runs that were written one after another.
#[derive(Default)]
struct Chunk {
    runs: Vec<RunRecord>,
    /// The least and the greatest of their ids: most chunks need not be searched for one.
    ids: Option<(RunId, RunId)>,
}

impl Chunk {
    fn append(&mut self, runs: &mut Vec<RunRecord>) {
        for id in runs.iter().map(|run| run.run) {
            self.ids = Some(match self.ids {
                Some((least, greatest)) => (least.min(id), greatest.max(id)),
                None => (id, id),
            });
        }
        match self.runs.is_empty() {
            true => std::mem::swap(&mut self.runs, runs),
            false => self.runs.append(runs),
        }
    }

    fn may_have(&self, run: RunId) -> bool {
        self.ids.is_some_and(|(least, greatest)| least <= run && run <= greatest)
    }
}

/// What tells one decision from another.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    at: DateTime<Utc>,
    node: NodeId,
    job: Option<JobName>,
    reason: &'static str,
    lost: Option<RunId>,
}

impl Same {
    fn of(record: &DecisionRecord) -> Self {
        let lost = match record.decision {
            Decision::RunLost { run, .. } => Some(run),
            Decision::Skipped { .. }
            | Decision::Vetoed { .. }
            | Decision::TriggerRefused { .. }
            | Decision::LeaderGap { .. }
            | Decision::ClockStepped { .. }
            | Decision::RecordsDropped { .. } => None,
        };
        let DecisionRecord { at, node, job, decision, .. } = record;
        Self { at: *at, node: *node, job: job.clone(), reason: decision.reason(), lost }
    }
}

/// So many runs are kept together.
const CHUNK: usize = 64;

/// So many of all runs may be failures that are older than the rest: the tenth part.
const FAILURES_PART: usize = 10;

fn has_failed(run: &RunRecord) -> bool {
    match run.outcome {
        Some(Outcome::Succeeded | Outcome::Cancelled) | None => false,
        Some(Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Lost) => true,
    }
}

/// When a run was written, as far as it says.
fn written_at(run: &RunRecord) -> DateTime<Utc> {
    run.ended_at.or(run.started_at).unwrap_or(DateTime::UNIX_EPOCH)
}

/// What a run takes.
fn bytes_of(run: &RunRecord) -> usize {
    size_of::<RunRecord>() + run.text_bytes()
}

impl MemoryHistory {
    /// An empty one.
    pub fn new(bounds: MemoryBounds) -> Self {
        Self { bounds, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, batch: &mut Batch) {
        let mut kept = self.kept();
        let kept = &mut *kept;
        if !batch.runs.is_empty() {
            kept.take_runs(&mut batch.runs, self.bounds);
        }
        if batch.is_empty() {
            return kept.shrink(&mut batch.runs, self.bounds);
        }
        for decision in batch.decisions.drain(..) {
            kept.take_decision(decision);
        }
        for operation in batch.operations.drain(..) {
            kept.take_operation(operation, self.bounds);
        }
        for change in batch.pauses.drain(..) {
            let job = change.job.clone();
            kept.jobs.change(&job, self.bounds.jobs, |row| row.take_pause(change));
        }
        kept.shrink(&mut batch.runs, self.bounds);
    }
}

impl Kept {
    fn take_runs(&mut self, runs: &mut Vec<RunRecord>, bounds: MemoryBounds) {
        let is_plain = |run: &RunRecord| !matches!(run.outcome, None | Some(Outcome::Lost));
        if !self.open.is_empty() || !runs.iter().all(is_plain) {
            self.merge(runs);
        }
        for run in &*runs {
            self.bytes += bytes_of(run);
            self.jobs.change(&run.job, bounds.jobs, |row| row.take_run(run));
        }
        self.runs += runs.len();
        match self.chunks.back_mut() {
            Some(last) if last.runs.len() + runs.len() <= CHUNK => last.append(runs),
            Some(_) | None if runs.is_empty() => {}
            Some(_) | None => {
                let mut chunk = Chunk::default();
                chunk.append(runs);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Leaves those that ended, each with what was known of it before.
    fn merge(&mut self, runs: &mut Vec<RunRecord>) {
        let mut ended = Vec::with_capacity(runs.len());
        for mut run in runs.drain(..) {
            let is_plain = !matches!(run.outcome, None | Some(Outcome::Lost));
            let former = match self.open.get(&run.run) {
                Some(former) => Some(former),
                None if is_plain => None,
                // It may come after its end, which was on the way already.
                None => self.ended(run.run, &ended),
            };
            if former.is_some_and(|former| !run.supersedes(former)) {
                continue;
            }
            if let Some(former) = self.open.remove(&run.run) {
                run.follow(&former);
            }
            match run.outcome {
                None => drop(self.open.insert(run.run, run)),
                Some(_) => ended.push(run),
            }
        }
        *runs = ended;
    }

    /// The end of a run that was written last, `more` after the others.
    fn ended<'a>(&'a self, run: RunId, more: &'a [RunRecord]) -> Option<&'a RunRecord> {
        let chunks = self.chunks.iter().rev().filter(|chunk| chunk.may_have(run));
        let ended = chunks.flat_map(|chunk| chunk.runs.iter().rev());
        let mut all = more.iter().rev().chain(ended).chain(self.failures.iter().rev());
        all.find(|ended| ended.run == run)
    }

    fn take_decision(&mut self, decision: DecisionRecord) {
        self.count += 1;
        let count = self.count;
        let nth = *self.places.entry(Same::of(&decision)).or_insert(count);
        self.bytes += size_of::<DecisionRecord>() + decision.text_bytes();
        if let Some(former) = self.decisions.insert((decision.at, nth), decision) {
            self.bytes -= size_of::<DecisionRecord>() + former.text_bytes();
        }
    }

    fn take_operation(&mut self, operation: OperationRecord, bounds: MemoryBounds) {
        // Before it takes more room than that for so many.
        if self.operations.len() >= bounds.operations {
            self.drop_operation();
        }
        self.count += 1;
        self.bytes += size_of::<OperationRecord>() + operation.text_bytes();
        // The clock may have been set back.
        let place = self.operations.partition_point(|(_, one)| one.at <= operation.at);
        self.operations.insert(place, (self.count, operation));
    }

    /// Drops what is beyond the bounds. What room that frees is left for the next runs.
    fn shrink(&mut self, room: &mut Vec<RunRecord>, bounds: MemoryBounds) {
        while self.runs > 0 && self.runs + self.failures.len() > bounds.runs {
            self.drop_runs(self.runs + self.failures.len() - bounds.runs, bounds.runs / FAILURES_PART, room);
        }
        while self.decisions.len() > bounds.decisions {
            self.drop_decision();
        }
        while self.operations.len() > bounds.operations {
            self.drop_operation();
        }
        while self.bytes > bounds.bytes {
            let failure = self.failures.front().map(written_at);
            let run = self.chunks.front().and_then(|chunk| chunk.runs.first()).map(written_at);
            let decision = self.decisions.first_key_value().map(|((at, _), _)| *at);
            let operation = self.operations.front().map(|(_, one)| one.at);
            // What is oldest, of whatever kind.
            match [failure, run, decision, operation].into_iter().flatten().min() {
                None => break,
                oldest if oldest == failure => self.drop_failure(),
                oldest if oldest == run => self.drop_runs(1, 0, room),
                oldest if oldest == decision => self.drop_decision(),
                _ => self.drop_operation(),
            }
        }
    }

    /// Drops the oldest runs: so many, or the rest of their chunk. Of those that failed so many stay.
    fn drop_runs(&mut self, count: usize, failures: usize, room: &mut Vec<RunRecord>) {
        let Some(oldest) = self.chunks.front_mut() else { return };
        let count = count.min(oldest.runs.len());
        for run in oldest.runs.drain(..count) {
            if failures > 0 && has_failed(&run) {
                self.failures.push_back(run);
                continue;
            }
            self.bytes -= bytes_of(&run);
            self.pruned_to = self.pruned_to.max(Some(written_at(&run)));
        }
        self.runs -= count;
        if oldest.runs.is_empty()
            && let Some(oldest) = self.chunks.pop_front()
            && room.capacity() == 0
        {
            *room = oldest.runs;
        }
        while self.failures.len() > failures && failures > 0 {
            self.drop_failure();
        }
    }

    fn drop_failure(&mut self) {
        let Some(oldest) = self.failures.pop_front() else { return };
        self.bytes -= bytes_of(&oldest);
        self.pruned_to = self.pruned_to.max(Some(written_at(&oldest)));
    }

    fn drop_decision(&mut self) {
        let Some((_, oldest)) = self.decisions.pop_first() else { return };
        self.places.remove(&Same::of(&oldest));
        self.bytes -= size_of::<DecisionRecord>() + oldest.text_bytes();
        self.pruned_to = self.pruned_to.max(Some(oldest.at));
    }

    /// An instant is explained by runs and decisions: what is dropped of operations is missed by none.
    fn drop_operation(&mut self) {
        let Some((_, oldest)) = self.operations.pop_front() else { return };
        self.bytes -= size_of::<OperationRecord>() + oldest.text_bytes();
        self.operations_pruned_to = self.operations_pruned_to.max(Some(oldest.at));
    }

    fn gaps(&self, asked: &AskGaps) -> Gaps {
        let pruned_to = match asked.of {
            RecordsOf::Runs | RecordsOf::Decisions => self.pruned_to,
            RecordsOf::Operations => self.operations_pruned_to,
        };
        let from = (asked.from.unwrap_or(DateTime::<Utc>::MIN_UTC), i64::MIN);
        let dropped = self.decisions.range(from..).filter_map(|(_, record)| match record.decision {
            Decision::RecordsDropped { count, from, .. } => {
                asked.to.is_none_or(|to| from < to).then_some(count)
            }
            Decision::Skipped { .. }
            | Decision::Vetoed { .. }
            | Decision::TriggerRefused { .. }
            | Decision::LeaderGap { .. }
            | Decision::ClockStepped { .. }
            | Decision::RunLost { .. } => None,
        });
        Gaps::new(pruned_to, dropped.sum())
    }

    fn runs(&self, asked: &RunHistory) -> RunPage {
        let everywhere = RunHistory { outcome: None, ..asked.clone() };
        let ended = self.chunks.iter().rev().flat_map(|chunk| chunk.runs.iter().rev());
        let all = self.open.values().chain(ended).chain(self.failures.iter().rev());
        let mut found: Vec<_> = all.filter(|run| everywhere.admits(run)).collect();
        // It is stable: of one run, what was written last comes first.
        found.sort_by_key(|run| Reverse(run.run));
        let limit = asked.page_limit();
        let mut page: Vec<RunRecord> = Vec::new();
        for of_run in found.chunk_by(|one, other| one.run == other.run) {
            let (newest, former) = (of_run[0], &of_run[1..]);
            if !asked.admits(newest) {
                continue;
            }
            if page.len() > limit {
                break;
            }
            let mut run = newest.clone();
            former.iter().for_each(|former| run.follow(former));
            page.push(run);
        }
        RunPage::of(page, limit)
    }

    fn job(&self, job: &JobName) -> Option<JobRecord> {
        let mut record = self.jobs.get(job)?.record(job.clone());
        let open = self.open.values().filter(|run| run.job == *job).max_by_key(|run| run.run);
        record.holder = open.map(|run| Holder { run: run.run, node: run.node });
        record.pruned_to = self.pruned_to;
        Some(record)
    }

    fn prune(&mut self, now: DateTime<Utc>, retention: &Retention) {
        let since =
            |age: Duration| now.checked_sub_signed(chrono::TimeDelta::from_std(age).unwrap_or_default());
        let [runs, failures] = [retention.runs_for, retention.failures_for].map(since);
        let mut counts: HashMap<(JobName, Option<Outcome>), u64> = HashMap::new();
        let mut pruned_to = self.pruned_to;
        for chunk in self.chunks.iter_mut().rev() {
            // The newest first, as they are counted.
            let keeps: Vec<bool> = chunk
                .runs
                .iter()
                .rev()
                .map(|run| {
                    let count = counts.entry((run.job.clone(), run.outcome)).or_default();
                    *count += 1;
                    let since = match run.outcome {
                        Some(Outcome::Succeeded | Outcome::Cancelled) | None => runs,
                        Some(Outcome::Failed | Outcome::Panicked | Outcome::TimedOut | Outcome::Lost) => {
                            failures
                        }
                    };
                    let is_young = run.ended_at.zip(since).is_none_or(|(ended, since)| ended >= since);
                    let is_one_too_many = *count > retention.runs_per_job;
                    if is_one_too_many {
                        pruned_to = pruned_to.max(Some(written_at(run)));
                    }
                    !is_one_too_many && is_young
                })
                .collect();
            let mut keeps = keeps.into_iter().rev();
            chunk.runs.retain(|_| keeps.next().unwrap_or(true));
        }
        self.pruned_to = pruned_to;
        if let Some(since) = failures {
            self.failures.retain(|run| run.ended_at.is_none_or(|ended| ended >= since));
        }
        self.chunks.retain(|chunk| !chunk.runs.is_empty());
        self.runs = self.chunks.iter().map(|chunk| chunk.runs.len()).sum();
        if let Some(since) = since(retention.decisions_for) {
            self.decisions.retain(|(at, _), _| *at >= since);
            self.places.retain(|same, _| same.at >= since);
        }
        if let Some(since) = since(retention.operations_for) {
            self.operations.retain(|(_, one)| one.at >= since);
        }
        let runs = self.chunks.iter().flat_map(|chunk| &chunk.runs).chain(&self.failures).map(bytes_of);
        let decisions = self.decisions.values().map(|one| size_of_val(one) + one.text_bytes());
        let operations = self.operations.iter().map(|(_, one)| size_of_val(one) + one.text_bytes());
        self.bytes = runs.chain(decisions).chain(operations).sum();
    }
}

impl History for MemoryHistory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn write<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        let mut batch = batch.clone();
        let kept = self.kept();
        // What is written again changes nothing.
        batch.runs.retain(|run| kept.ended(run.run, &[]).is_none_or(|former| run.supersedes(former)));
        drop(kept);
        self.take(&mut batch);
        ready(Ok(())).boxed()
    }

    fn write_now(&self, batch: &mut Batch) -> bool {
        self.take(batch);
        true
    }

    fn runs<'a>(&'a self, asked: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        ready(Ok(self.kept().runs(asked))).boxed()
    }

    fn job<'a>(&'a self, job: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        ready(Ok(self.kept().job(&job.0))).boxed()
    }

    fn last_ends<'a>(&'a self, jobs: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        let kept = self.kept();
        let known = jobs.iter().filter_map(|job| Some(kept.jobs.get(job)?.last_ends(job.clone())));
        ready(Ok(known.collect())).boxed()
    }

    fn decisions<'a>(&'a self, asked: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        let kept = self.kept();
        let is_about = |one: &DecisionRecord| {
            asked.job.as_ref().is_none_or(|job| one.job.as_ref().is_none_or(|about| about == job))
        };
        let all =
            kept.decisions.iter().rev().filter(|((at, nth), one)| asked.admits(*at, *nth) && is_about(one));
        let limit = asked.page_limit();
        let page = all.take(limit + 1).map(|((_, nth), one)| (*nth, one.clone())).collect();
        ready(Ok(DecisionPage::of(page, limit))).boxed()
    }

    fn operations<'a>(&'a self, asked: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        let kept = self.kept();
        let is_on = |one: &OperationRecord| asked.job.as_ref().is_none_or(|job| *job == one.job);
        let all = kept.operations.iter().rev().filter(|(nth, one)| asked.admits(one.at, *nth) && is_on(one));
        let limit = asked.page_limit();
        let page = all.take(limit + 1).cloned().collect();
        ready(Ok(OperationPage::of(page, limit))).boxed()
    }

    fn gaps<'a>(&'a self, asked: &'a AskGaps) -> BoxFuture<'a, Result<Gaps, HistoryError>> {
        ready(Ok(self.kept().gaps(asked))).boxed()
    }

    fn prune<'a>(
        &'a self,
        now: DateTime<Utc>,
        retention: &'a Retention,
    ) -> BoxFuture<'a, Result<bool, HistoryError>> {
        self.kept().prune(now, retention);
        ready(Ok(false)).boxed()
    }
}

impl fmt::Debug for MemoryHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryHistory").field(&self.bounds).finish()
    }
}
