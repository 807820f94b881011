//! Where the actors of a node say what happened.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use metrics::Counter;
use tokio::sync::{Notify, mpsc};

use super::{
    collected::{Collected, loss},
    dropped::Dropped,
    open_runs::{OpenRun, OpenRuns, Which},
    options::HistoryOptions,
    pending::{Pending, SHARDS},
    writer::{FLUSH_EVERY, Flushed, HistoryThread},
};
use crate::{
    name::{JobName, NodeId},
    port::{Batch, Clock, DecisionRecord, History, OperationRecord, Pause, PauseChange, RunRecord},
    run::Run,
};

/// Where the actors of a node say what happened. Without a history it is empty, and costs a branch.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(super) outlet: Option<Arc<Outlet>>,
    /// What the backend is called, and why it keeps no history, if it keeps none.
    pub(super) backend: &'static str,
    pub(super) is_off: bool,
}

/// What is recorded, until it is written.
pub(super) struct Outlet {
    pub(super) history: Arc<dyn History>,
    /// It is written on the thread of whoever records.
    pub(super) writes_now: bool,
    pub(super) node: NodeId,
    pub(super) clock: Arc<dyn Clock>,
    /// Each has a lock of its own, so that threads do not wait for each other.
    pub(super) shards: Box<[Shard]>,
    /// As many as there are shards.
    rest: Box<[Mutex<Rest>]>,
    /// How much waits, without what is counted and what is in progress.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    max: usize,
    bytes_max: usize,
    /// There is something to write.
    pub(super) wake: Notify,
    /// A run in progress said something that may not be recorded yet.
    has_news: AtomicBool,
    /// How to have all of it written, and where the history is asked; empty until the writer is started.
    pub(super) flush: OnceLock<(mpsc::UnboundedSender<Flushed>, HistoryThread)>,
    /// Nothing is taken any more.
    is_closed: AtomicBool,
    pub(super) dropped: Dropped,
    /// How many operations were recorded.
    operations: AtomicU64,
}

/// Runs of some of the jobs.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Shard(Mutex<Runs>);

#[derive(Default)]
pub(super) struct Runs {
    ended: Vec<RunRecord>,
    pub(super) open: OpenRuns,
}

/// What is recorded beside runs, of some of the jobs.
#[derive(Default)]
struct Rest {
    pending: Pending,
    batch: Batch,
}

impl Shard {
    pub(super) fn lock(&self) -> MutexGuard<'_, Runs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many records are handed on together to a history that writes at once.
const CHUNK: usize = 64;

impl Recorder {
    /// Of an engine with these options, which were settled, on a backend of this name.
    pub(crate) fn new(
        options: &HistoryOptions,
        backend: &'static str,
        (node, clock): (NodeId, Arc<dyn Clock>),
        dropped: Counter,
    ) -> Self {
        let history = options.store.clone().filter(|_| options.is_kept);
        let outlet = history.map(|history| {
            let writes_now =
                catch_unwind(AssertUnwindSafe(|| history.write_now(&mut Batch::default()))).unwrap_or(false);
            Arc::new(Outlet {
                history,
                writes_now,
                node,
                clock,
                shards: (0..SHARDS).map(|_| Shard::default()).collect(),
                rest: (0..SHARDS).map(|_| Mutex::default()).collect(),
                waiting: AtomicUsize::new(0),
                waiting_bytes: AtomicUsize::new(0),
                max: options.queue,
                bytes_max: options.queue_bytes,
                wake: Notify::new(),
                has_news: AtomicBool::new(false),
                flush: OnceLock::new(),
                is_closed: AtomicBool::new(false),
                dropped: Dropped::new(dropped),
                operations: AtomicU64::new(0),
            })
        });
        Self { outlet, backend, is_off: !options.is_kept }
    }

    /// Whether anything is recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.outlet.is_some()
    }

    /// Records a run that ended, of the job with this generation.
    pub(crate) fn run(&self, generation: u64, run: RunRecord) {
        if let Some(outlet) = &self.outlet {
            outlet.take_run(generation, run);
        }
    }

    /// A run of the job with this generation is in progress for as long as the answer is there.
    pub(crate) fn open(&self, generation: u64, run: &Run, started_at: DateTime<Utc>) -> Option<OpenRun> {
        let outlet = self.outlet.clone()?;
        let shard = shard_of(generation);
        let place = outlet.shards[shard].lock().open.add(run.clone(), started_at);
        outlet.wake_writer();
        Some(OpenRun { outlet, shard, place })
    }

    /// A run in progress has said something.
    pub(crate) fn has_news(&self) {
        if let Some(outlet) = &self.outlet
            && !outlet.writes_now
            && !outlet.has_news.load(Ordering::Relaxed)
            && !outlet.has_news.swap(true, Ordering::AcqRel)
        {
            outlet.wake.notify_one();
        }
    }

    /// Records a decision that started nothing, of the job with this generation; 0 if it is not about one.
    ///
    /// `record` makes it, at the instant at which the monotonic clock reads `now`.
    pub(crate) fn decision(&self, generation: u64, now: Duration, record: impl FnOnce() -> DecisionRecord) {
        if let Some(outlet) = &self.outlet {
            outlet.take_decision(generation, now, record());
        }
    }

    /// Records what somebody did to a job.
    pub(crate) fn operation(&self, record: impl FnOnce() -> OperationRecord) {
        let Some(outlet) = &self.outlet else { return };
        let number = outlet.operations.fetch_add(1, Ordering::Relaxed) + 1;
        let record = OperationRecord { number, ..record() };
        let (at, bytes) = (record.at, size_of::<OperationRecord>() + record.text_bytes());
        outlet.take(at, bytes, |to| to.operations.push(record));
    }

    /// Records that a job is paused from `at` on, by the store's clock, or is not.
    pub(crate) fn paused(&self, job: &JobName, at: DateTime<Utc>, pause: Option<&Pause>) {
        let Some(outlet) = &self.outlet else { return };
        let change = PauseChange::new(job.clone(), at, pause.cloned());
        outlet.take(at, size_of::<PauseChange>() + change.text_bytes(), |to| to.pauses.push(change));
    }
}

fn lock(rest: &Mutex<Rest>) -> MutexGuard<'_, Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shard_of(generation: u64) -> usize {
    (generation % SHARDS as u64) as usize
}

impl Outlet {
    fn take_run(&self, generation: u64, run: RunRecord) {
        let shard = &self.shards[shard_of(generation)];
        if !self.writes_now && !self.has_room(1, size_of::<RunRecord>() + run.text_bytes()) {
            let at = made_at(&run);
            return self.drop_records(1, (at, at));
        }
        let mut runs = shard.lock();
        if runs.ended.capacity() == 0 {
            runs.ended.reserve_exact(CHUNK);
        }
        runs.ended.push(run);
        if self.writes_now && runs.ended.len() >= CHUNK {
            let mut batch = Batch { runs: std::mem::take(&mut runs.ended), ..Batch::default() };
            self.write_now(&mut batch);
            // It is empty, and has room for the next ones.
            runs.ended = batch.runs;
        }
    }

    fn take_decision(&self, generation: u64, now: Duration, record: DecisionRecord) {
        let mut rest = lock(&self.rest[shard_of(generation)]);
        let Rest { pending, batch } = &mut *rest;
        let waited = batch.decisions.len();
        let at = record.at;
        let is_taken = pending.add(now, record, &mut batch.decisions);
        // They may be others, whose minute is over, whatever became of this one.
        let new = &batch.decisions[waited..];
        let (count, bytes) = (new.len(), new.iter().map(|one| size_of_val(one) + one.text_bytes()).sum());
        if count == 0 {
            drop(rest);
            if is_taken {
                // It is counted, and handed on when its minute is over.
                self.wake_writer();
            }
        } else if self.writes_now || self.has_room(count, bytes) {
            self.write_if_many(rest);
        } else {
            let span = span_of(new.iter().map(|one| one.at));
            batch.decisions.truncate(waited);
            drop(rest);
            self.drop_records(count, span);
        }
        if !is_taken {
            self.drop_records(1, (at, at));
        }
    }

    /// Takes one record of an instant, of so many bytes.
    fn take(&self, at: DateTime<Utc>, bytes: usize, put: impl FnOnce(&mut Batch)) {
        if !self.writes_now && !self.has_room(1, bytes) {
            return self.drop_records(1, (at, at));
        }
        // In one place, so that they stay in their order.
        let mut rest = lock(&self.rest[0]);
        put(&mut rest.batch);
        self.write_if_many(rest);
    }

    fn write_if_many(&self, mut rest: MutexGuard<'_, Rest>) {
        if self.writes_now && rest.batch.len() >= CHUNK {
            let mut batch = std::mem::take(&mut rest.batch);
            self.write_now(&mut batch);
            // Their room is for the next ones.
            batch.decisions.clear();
            rest.batch.decisions = batch.decisions;
        }
    }

    fn wake_writer(&self) {
        if !self.writes_now {
            self.wake.notify_one();
        }
    }

    /// Takes room for records that wait.
    fn has_room(&self, count: usize, bytes: usize) -> bool {
        let waited = self.waiting.fetch_add(count, Ordering::Relaxed);
        let waited_bytes = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = waited + count <= self.max && waited_bytes + bytes <= self.bytes_max;
        if !has_room || self.is_closed.load(Ordering::Relaxed) {
            self.free(count, bytes);
            return false;
        }
        if waited == 0 {
            // Of those that come while others wait, the writer takes note by itself.
            self.wake.notify_one();
        }
        true
    }

    /// Records wait no more.
    pub(super) fn free(&self, count: usize, bytes: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts records that are not written, which were made in a time.
    pub(super) fn drop_records(&self, count: usize, span: (DateTime<Utc>, DateTime<Utc>)) {
        self.dropped.add(count as u64, span, self.clock.elapsed());
    }

    fn write_now(&self, batch: &mut Batch) {
        let (count, span) = (loss(batch), span_of_batch(batch));
        if catch_unwind(AssertUnwindSafe(|| self.history.write_now(batch))).is_err() && count > 0 {
            self.drop_records(count, span);
        }
    }

    /// Takes all that waits, and of what is counted or in progress what is to be written.
    pub(super) fn collect(&self, which: Which) -> Collected {
        let now = self.clock.elapsed();
        let (mut ended, mut runs) = (Vec::new(), Vec::new());
        // Before the look: what is said from now on is news again.
        self.has_news.store(false, Ordering::Release);
        let mut has_news = false;
        for shard in &self.shards {
            let mut shard = shard.lock();
            ended.append(&mut shard.ended);
            has_news |= shard.open.look(which, now, self.node, &mut runs);
        }
        if has_news {
            self.has_news.store(true, Ordering::Release);
        }
        let (mut counted, mut taken) = (Vec::new(), Batch::default());
        for rest in &self.rest {
            let mut rest = lock(rest);
            taken.extend(std::mem::take(&mut rest.batch));
            match which {
                Which::All => rest.pending.show(&mut counted),
                Which::Long => rest.pending.close(now, &mut counted),
            }
        }
        let open = runs.len();
        // After those in progress: they may have ended since they were looked at.
        runs.append(&mut ended);
        let mut batch = Batch { runs, ..taken };
        let waited = batch.decisions.len();
        batch.decisions.extend(counted.into_iter().map(Arc::unwrap_or_clone));
        if !self.writes_now {
            // What was counted waits from now on.
            let bytes = batch.decisions[waited..].iter().map(|one| size_of_val(one) + one.text_bytes()).sum();
            self.waiting.fetch_add(batch.decisions.len() - waited, Ordering::Relaxed);
            self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        batch.decisions.extend(self.dropped.record(self.node, now, which == Which::All));
        Collected::new(batch, open)
    }

    /// After which time there is something to be looked at, if nobody wakes the writer; `None`: there is nothing.
    pub(super) fn next_look(&self) -> Option<Duration> {
        if self.waiting() > 0 {
            // It came while others were written, and woke nobody: see `has_room`.
            return Some(Duration::ZERO);
        }
        if self.has_news.load(Ordering::Relaxed) {
            return Some(FLUSH_EVERY);
        }
        let counts = self.rest.iter().any(|rest| !lock(rest).pending.is_empty());
        let counted = counts.then_some(FLUSH_EVERY);
        let open = self.shards.iter().filter_map(|shard| shard.lock().open.next_look());
        open.chain(counted).chain(self.dropped.next_look(self.clock.elapsed())).min()
    }

    /// How many records wait to be written, without what is counted and what is in progress.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Whether at most half of the room for records that wait is taken.
    pub(super) fn has_half_of_its_room(&self) -> bool {
        self.waiting() <= self.max / 2 && self.waiting_bytes.load(Ordering::Relaxed) <= self.bytes_max / 2
    }

    /// How many are counted together, and count more than was handed on.
    pub(super) fn counted(&self) -> usize {
        self.rest.iter().map(|rest| lock(rest).pending.count_new()).sum()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Writes what a history takes at once.
    pub(super) fn flush_now(&self) {
        let mut batch = self.collect(Which::All).into_batch();
        if !batch.is_empty() {
            self.write_now(&mut batch);
        }
    }
}

/// When a run was recorded: it ended, or began.
fn made_at(run: &RunRecord) -> DateTime<Utc> {
    run.ended_at.or(run.started_at).unwrap_or_else(|| run.run.made_at())
}

/// From the first instant to the last.
fn span_of(instants: impl Iterator<Item = DateTime<Utc>>) -> (DateTime<Utc>, DateTime<Utc>) {
    let span = instants.map(|at| (at, at)).reduce(|(from, to), (at, _)| (from.min(at), to.max(at)));
    span.unwrap_or_default()
}

/// From the first of its records to the last.
pub(super) fn span_of_batch(batch: &Batch) -> (DateTime<Utc>, DateTime<Utc>) {
    let runs = batch.runs.iter().map(made_at);
    let decisions = batch.decisions.iter().map(|one| one.at);
    let operations = batch.operations.iter().map(|one| one.at);
    span_of(runs.chain(decisions).chain(operations).chain(batch.pauses.iter().map(|one| one.at)))
}
