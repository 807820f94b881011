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
    open_runs::{OpenRun, OpenRuns, Which},
    options::HistoryOptions,
    pending::Pending,
    writer::{Flushed, HistoryThread},
};
use crate::{
    core::text::Grouped,
    name::{JobName, NodeId},
    port::{Batch, Clock, DecisionRecord, History, OperationRecord, Pause, RunRecord},
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
    rest: Mutex<Rest>,
    /// How much waits, without what is counted and what is in progress.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    max: usize,
    bytes_max: usize,
    /// There is something to write.
    pub(super) wake: Notify,
    /// How to have all of it written, and where the history is asked; empty until the writer is started.
    pub(super) flush: OnceLock<(mpsc::UnboundedSender<Flushed>, HistoryThread)>,
    /// Nothing is written any more.
    is_closed: AtomicBool,
    dropped: Dropped,
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

/// What is recorded seldom.
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

/// How many shards there are: a multiple of the usual numbers of job threads, each of which then has its own.
const SHARDS: usize = 16;

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
                rest: Mutex::default(),
                waiting: AtomicUsize::new(0),
                waiting_bytes: AtomicUsize::new(0),
                max: options.queue,
                bytes_max: options.queue_bytes,
                wake: Notify::new(),
                flush: OnceLock::new(),
                is_closed: AtomicBool::new(false),
                dropped: Dropped::new(dropped),
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

    /// Records a decision that started nothing.
    pub(crate) fn decision(&self, record: impl FnOnce() -> DecisionRecord) {
        let Some(outlet) = &self.outlet else { return };
        let (record, now) = (record(), outlet.clock.elapsed());
        outlet.take_rest(|Rest { pending, batch }| pending.add(now, record, &mut batch.decisions));
    }

    /// Records what somebody did to a job.
    pub(crate) fn operation(&self, record: impl FnOnce() -> OperationRecord) {
        let Some(outlet) = &self.outlet else { return };
        let record = record();
        outlet.take_rest(|rest| rest.batch.operations.push(record));
    }

    /// Records that a job is paused from now on, or is not.
    pub(crate) fn paused(&self, job: &JobName, pause: Option<&Pause>) {
        let Some(outlet) = &self.outlet else { return };
        let change = (job.clone(), pause.cloned());
        outlet.take_rest(|rest| rest.batch.pauses.push(change));
    }
}

fn shard_of(generation: u64) -> usize {
    (generation % SHARDS as u64) as usize
}

impl Outlet {
    fn take_run(&self, generation: u64, run: RunRecord) {
        let shard = &self.shards[shard_of(generation)];
        if !self.writes_now && !self.has_room(1, size_of::<RunRecord>() + run.text_bytes()) {
            return self.drop_records(1);
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

    fn take_rest(&self, take: impl FnOnce(&mut Rest)) {
        let mut rest = self.rest();
        let waited = std::mem::take(&mut rest.batch);
        take(&mut rest);
        let new = std::mem::replace(&mut rest.batch, waited);
        let (count, bytes) = (new.len(), new.bytes());
        if count == 0 {
            // It is counted, and handed on when its minute is over.
            drop(rest);
            return self.wake_writer();
        }
        if !self.writes_now && !self.has_room(count, bytes) {
            drop(rest);
            return self.drop_records(count);
        }
        rest.batch.extend(new);
        if self.writes_now && rest.batch.len() >= CHUNK {
            let mut batch = std::mem::take(&mut rest.batch);
            self.write_now(&mut batch);
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
            self.wake.notify_one();
        }
        true
    }

    /// Records wait no more.
    pub(super) fn free(&self, count: usize, bytes: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts records that are not written.
    pub(super) fn drop_records(&self, count: usize) {
        self.dropped.add(count as u64, self.clock.elapsed());
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_now(&self, batch: &mut Batch) {
        let count = batch.len();
        if catch_unwind(AssertUnwindSafe(|| self.history.write_now(batch))).is_err() {
            self.drop_records(count);
        }
    }

    /// Takes all that waits, and of what is counted or in progress what is to be written.
    pub(super) fn collect(&self, which: Which) -> Collected {
        let (mut batch, mut open) = (Batch::default(), Vec::new());
        for shard in &self.shards {
            let mut runs = shard.lock();
            batch.runs.append(&mut runs.ended);
            runs.open.look(which, self.node, &mut open);
        }
        let mut rest = self.rest();
        batch.extend(std::mem::take(&mut rest.batch));
        let (charged, charged_bytes) = (batch.len(), batch.bytes());
        match which {
            Which::All => rest.pending.show(&mut batch.decisions),
            Which::Long => rest.pending.close(Some(self.clock.elapsed()), &mut batch.decisions),
        }
        drop(rest);
        // Before what ended since it was looked at.
        open.append(&mut batch.runs);
        Collected { batch: Batch { runs: open, ..batch }, charged, charged_bytes }
    }

    /// Whether something is in progress or counted, which is to be looked at again.
    pub(super) fn looks_again(&self) -> bool {
        self.shards.iter().any(|shard| shard.lock().open.looks_again()) || !self.rest().pending.is_empty()
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
        let Collected { mut batch, .. } = self.collect(Which::All);
        if !batch.is_empty() {
            self.write_now(&mut batch);
        }
    }
}

/// Records on their way to the history, and the room that those of them take that were recorded one by one.
pub(super) struct Collected {
    pub(super) batch: Batch,
    pub(super) charged: usize,
    pub(super) charged_bytes: usize,
}

impl Collected {
    /// In parts of at most so many records. The room is free when the last of them is written.
    pub(super) fn split(self, max: usize) -> Vec<Self> {
        let Self { mut batch, charged, charged_bytes } = self;
        let mut parts = Vec::new();
        while batch.len() > max {
            let runs = batch.runs.split_off(batch.runs.len().min(max));
            let mut part = Batch { runs: std::mem::replace(&mut batch.runs, runs), ..Batch::default() };
            let mut room = max - part.len();
            let mut take = |count: usize| {
                let taken = count.min(room);
                room -= taken;
                taken
            };
            part.decisions = batch.decisions.drain(..take(batch.decisions.len())).collect();
            part.operations = batch.operations.drain(..take(batch.operations.len())).collect();
            part.pauses = batch.pauses.drain(..take(batch.pauses.len())).collect();
            parts.push(Self { batch: part, charged: 0, charged_bytes: 0 });
        }
        if !batch.is_empty() || charged > 0 {
            parts.push(Self { batch, charged, charged_bytes });
        }
        parts
    }
}

/// Records that were not written: counted, and said once a minute.
struct Dropped {
    counter: Counter,
    counted: AtomicU64,
    /// How many of them were said before.
    said: AtomicU64,
    /// When it was said last, in seconds of the monotonic clock, plus one; 0: never.
    said_at: AtomicU64,
}

/// How often it is said.
const SAID_EVERY: Duration = Duration::from_mins(1);

impl Dropped {
    fn new(counter: Counter) -> Self {
        // Zero from the first scrape on.
        counter.increment(0);
        Self { counter, counted: AtomicU64::new(0), said: AtomicU64::new(0), said_at: AtomicU64::new(0) }
    }

    fn add(&self, count: u64, now: Duration) {
        self.counter.increment(count);
        let counted = self.counted.fetch_add(count, Ordering::Relaxed) + count;
        let (said_at, now) = (self.said_at.load(Ordering::Relaxed), now.as_secs() + 1);
        let is_due = said_at == 0 || now >= said_at + SAID_EVERY.as_secs();
        let is_first =
            || self.said_at.compare_exchange(said_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due && is_first() {
            let count = Grouped(counted.saturating_sub(self.said.swap(counted, Ordering::Relaxed)));
            tracing::warn!(
                target: "callsheet",
                "{count} records of history were dropped: the history does not keep up, or does not answer; jobs go on"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use futures_util::future::{BoxFuture, FutureExt, pending};

    use super::*;
    use crate::{
        name::RunIds,
        port::{
            DecisionPage, Decisions, HistoryError, JobHistory, JobRecord, OperationPage, Operations,
            Retention, RunHistory, RunPage,
        },
        testkit::VirtualClock,
    };

    /// It never answers.
    #[derive(Debug)]
    struct Silent;

    impl History for Silent {
        fn name(&self) -> &'static str {
            "silent"
        }

        fn write<'a>(&'a self, _: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
            pending().boxed()
        }

        fn runs<'a>(&'a self, _: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
            pending().boxed()
        }

        fn job<'a>(&'a self, _: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
            pending().boxed()
        }

        fn decisions<'a>(&'a self, _: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
            pending().boxed()
        }

        fn operations<'a>(&'a self, _: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
            pending().boxed()
        }

        fn prune<'a>(
            &'a self,
            _: DateTime<Utc>,
            _: &'a Retention,
        ) -> BoxFuture<'a, Result<bool, HistoryError>> {
            pending().boxed()
        }
    }

    /// What waits once so many runs a second were recorded for so many seconds, and how many were dropped.
    fn waits(options: &HistoryOptions, runs: u64, error: Option<&str>) -> (usize, usize, u64) {
        let node = NodeId::numbered(1);
        let clock = Arc::new(VirtualClock::starting_at(DateTime::UNIX_EPOCH));
        let recorder = Recorder::new(options, "silent", (node, clock), Counter::noop());
        let (ids, job) = (RunIds::of(node), JobName::new("often").expect("a good name"));
        for nth in 0..runs {
            let mut run = RunRecord::new(job.clone(), ids.next(DateTime::UNIX_EPOCH), node);
            run.error = error.map(Into::into);
            recorder.run(nth, run);
        }
        let outlet = recorder.outlet.expect("it is on");
        let dropped = outlet.dropped.counted.load(Ordering::Relaxed);
        let Collected { batch, charged, charged_bytes } = outlet.collect(Which::Long);
        assert_eq!((charged, charged_bytes), (batch.len(), batch.bytes()));
        (charged, charged_bytes, dropped)
    }

    #[test]
    fn thirty_thousand_runs_a_second_for_a_minute_are_bounded_in_count() {
        let options = HistoryOptions { store: Some(Arc::new(Silent)), ..HistoryOptions::default() };

        let (waits, _, dropped) = waits(&options, 30_000 * 60, None);

        assert_eq!((waits, dropped), (options.queue, 30_000 * 60 - options.queue as u64));
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let queue_bytes = 1024 * 1024;
        let options =
            HistoryOptions { store: Some(Arc::new(Silent)), queue_bytes, ..HistoryOptions::default() };
        let error = "x".repeat(16 * 1024);

        let (count, bytes, dropped) = waits(&options, 1_000, Some(&error));

        assert!(bytes <= queue_bytes && bytes > queue_bytes - 32 * 1024, "{bytes}");
        assert_eq!(count as u64 + dropped, 1_000, "each is there or counted");
    }
}
