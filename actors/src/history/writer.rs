//! Writing what was recorded to a history that takes its time, and asking it.

use std::{collections::VecDeque, future::pending, pin::pin, sync::Arc, time::Duration};

use actix_rt::ArbiterHandle;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{Either, select};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    collected::{Collected, loss},
    open_runs::Which,
    options::HistoryOptions,
    recorder::{Outlet, Recorder, span_of_batch},
};
use crate::{
    CALL_DEADLINE,
    contained::{contained, contained_within},
    core::{
        backoff::Backoff,
        text::{TEXT_MAX, one_line},
    },
    name::JobName,
    port::{
        AskGaps, Backend, Batch, DecisionPage, Decisions, Gaps, History, HistoryError, JobHistory, JobRecord,
        LastEnds, OperationPage, Operations, Retention, RunHistory, RunPage,
    },
};

/// How long records gather before they are written.
pub(super) const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// The most records that are written at once: what is to be done for each statement, and for each job of which it
/// has runs, is shared by more of them. After a failure it is half as many as were to be written, and
/// twice as many after each success.
const WRITE_MAX: usize = 4_096;
/// The least part of what gathered that is written by itself. The parts are spread over [`FLUSH_EVERY`]: a store
/// that writes all of it in one go takes the processors from whoever claims meanwhile.
const PART_MIN: usize = 512;
/// The most parts. What a run costs does not depend on it: in parts of 512 as much as in parts of 4,096, since those of
/// a job stand together.
const PARTS_MAX: usize = 8;
/// The pause before a batch is written again; it doubles up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a batch is written again.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long a question waits for what was recorded before it to be written.
const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// How long what is left may take to be written at a shutdown, with a pause that is cut short and one more try.
const CLOSE_WAIT: Duration = CALL_DEADLINE;

/// Where a history is written and asked that takes its time.
#[derive(Clone)]
pub(crate) enum HistoryThread {
    /// On a thread of its own.
    Own(ArbiterHandle),
    /// On the thread of whoever asks.
    Here,
}

impl HistoryThread {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Own(arbiter) => drop(arbiter.spawn(task)),
            Self::Here => drop(actix_rt::spawn(task)),
        }
    }
}

impl HistoryOptions {
    /// Takes the history of the backend, unless another one is given. Called once.
    pub(crate) fn settle(&mut self, backend: &dyn Backend) {
        if self.is_kept && self.store.is_none() {
            self.store = backend.history(self.memory);
        }
    }

    /// Whether it takes a thread of its own.
    pub(crate) fn needs_thread(&self) -> bool {
        self.is_kept && self.store.as_ref().is_some_and(|history| !history.write_now(&mut Batch::default()))
    }
}

/// Somebody waits until all that was recorded is written.
pub(super) type Flushed = oneshot::Sender<()>;

impl Recorder {
    /// Starts to write.
    pub(crate) fn start(&self, thread: HistoryThread) {
        let Some(outlet) = self.outlet.as_ref().filter(|outlet| !outlet.writes_now) else { return };
        let (flush, flushes) = mpsc::unbounded_channel();
        // It is started once.
        let _ = outlet.flush.set((flush, thread.clone()));
        let writer = Writer {
            again: Backoff::new(AGAIN_MIN, AGAIN_MAX, outlet.node.as_uuid().as_u64_pair().1),
            outlet: outlet.clone(),
            unwritten: VecDeque::new(),
            write_max: WRITE_MAX,
            busy_since: None,
            asked: Vec::new(),
        };
        thread.spawn(writer.work(flushes));
    }

    /// Writes what was recorded so far, as far as the history takes it in time.
    pub(crate) async fn flush(&self, wait: Duration) {
        let Some(outlet) = &self.outlet else { return };
        if outlet.writes_now {
            return outlet.flush_now();
        }
        let Some((flush, _)) = outlet.flush.get() else { return };
        let (done, flushed) = oneshot::channel();
        if flush.send(done).is_ok() {
            // Dropped, or late: what is written by now is.
            let _ = timeout(wait, flushed).await;
        }
    }

    /// Takes nothing more, and writes what is left. What is not written within the deadline, or by the time that
    /// the future is dropped, is counted as dropped.
    pub(crate) async fn close(&self) {
        let Some(outlet) = &self.outlet else { return };
        outlet.close();
        let _left = Left(outlet);
        self.flush(CLOSE_WAIT).await;
    }

    /// Where the history is asked, after what was recorded so far is written: once for all that is asked there.
    pub(crate) async fn read(&self) -> Reader<'_> {
        self.flush(FLUSH_WAIT).await;
        Reader(self)
    }

    /// Calls the history on its own thread.
    async fn call<T, F>(&self, question: impl FnOnce(Arc<dyn History>) -> F) -> Result<T, HistoryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, HistoryError>> + Send + 'static,
    {
        let Some(outlet) = &self.outlet else { return Err(self.not_kept()) };
        let question = question(outlet.history.clone());
        let name = outlet.history.name();
        let unavailable =
            |reason: &str| HistoryError::Unavailable { history: name, reason: reason.to_owned() };
        let Some((_, thread)) = outlet.flush.get() else {
            return contained(question).await.unwrap_or_else(|none| Err(unavailable(none.as_str())));
        };
        let (reply, answer) = oneshot::channel();
        thread.spawn(async move {
            let answer = contained(question).await;
            // Whoever asked may have given up.
            let _ = reply.send(answer);
        });
        match timeout_at(Instant::now() + CALL_DEADLINE + FLUSH_WAIT, answer).await {
            Ok(Ok(answer)) => answer.unwrap_or_else(|none| Err(unavailable(none.as_str()))),
            Ok(Err(_)) => Err(HistoryError::Stopped),
            Err(_) => Err(unavailable("its thread did not answer within the deadline")),
        }
    }

    fn not_kept(&self) -> HistoryError {
        let cure = match self.is_off {
            true => "switch it on: see HistoryOptions",
            false => "give it a store of its own: see HistoryOptions",
        };
        HistoryError::NotKept { backend: self.backend, cure }
    }

    /// When runs of these jobs ended last. What was recorded here just now may be missing: nothing is written
    /// for this question.
    pub(crate) async fn last_ends(&self, jobs: Vec<JobName>) -> Result<Vec<LastEnds>, HistoryError> {
        self.call(|history| async move { history.last_ends(&jobs).await }).await
    }

    /// Whether somebody has to delete what need not be kept any more: one in memory has bounds of its own.
    pub(crate) fn is_to_be_pruned(&self) -> bool {
        self.outlet.as_ref().is_some_and(|outlet| !outlet.writes_now)
    }

    /// Deletes some of what need not be kept any more at `now`, the store's time. Answers whether there is more
    /// to do.
    pub(crate) async fn prune(&self, now: DateTime<Utc>, retention: Retention) -> Result<bool, HistoryError> {
        self.call(move |history| async move { history.prune(now, &retention).await }).await
    }
}

/// The history, as of when the reader was made or later.
pub(crate) struct Reader<'a>(&'a Recorder);

impl Reader<'_> {
    pub(crate) async fn runs(&self, asked: RunHistory) -> Result<RunPage, HistoryError> {
        self.0.call(|history| async move { history.runs(&asked).await }).await
    }

    pub(crate) async fn job(&self, job: JobName) -> Result<Option<JobRecord>, HistoryError> {
        self.0.call(|history| async move { history.job(&JobHistory(job)).await }).await
    }

    pub(crate) async fn decisions(&self, asked: Decisions) -> Result<DecisionPage, HistoryError> {
        self.0.call(|history| async move { history.decisions(&asked).await }).await
    }

    pub(crate) async fn operations(&self, asked: Operations) -> Result<OperationPage, HistoryError> {
        self.0.call(|history| async move { history.operations(&asked).await }).await
    }

    /// What is not there of a time, of records that are kept for so long.
    pub(crate) async fn gaps(
        &self,
        asked: AskGaps,
        now: DateTime<Utc>,
        kept_for: Duration,
    ) -> Result<Gaps, HistoryError> {
        let from = asked.from;
        let known = self.0.call(|history| async move { history.gaps(&asked).await }).await?;
        let age = TimeDelta::from_std(kept_for).ok().filter(|_| self.0.is_to_be_pruned());
        let aged = age.and_then(|age| now.checked_sub_signed(age));
        let complete_from = known.complete_from.max(aged);
        let is_within = |complete_from: &DateTime<Utc>| from.is_none_or(|from| from < *complete_from);
        Ok(Gaps { complete_from: complete_from.filter(is_within), ..known })
    }
}

/// What is left at the end is counted.
struct Left<'a>(&'a Outlet);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let left = self.0.waiting() + self.0.counted();
        if left > 0 {
            // Nobody is told any more when they were made.
            let now = self.0.clock.now();
            self.0.drop_records(left, (now, now));
        }
    }
}

/// Writes what was recorded.
struct Writer {
    outlet: Arc<Outlet>,
    unwritten: VecDeque<Collected>,
    /// How many records are written at once.
    write_max: usize,
    again: Backoff,
    /// When records were taken last, if more than a part: others gathered while they were written.
    busy_since: Option<Instant>,
    /// They asked while parts were still to be written. What was recorded before that is written in the next
    /// round.
    asked: Vec<Flushed>,
}

type Flushes = mpsc::UnboundedReceiver<Flushed>;

impl Writer {
    async fn work(mut self, mut flushes: Flushes) {
        let mut flushed = Vec::new();
        loop {
            self.wait(&mut flushed, &mut flushes).await;
            // Before the look: nothing comes after the one that finds it closed.
            let is_last = self.outlet.is_closed();
            let which = if flushed.is_empty() && !is_last { Which::Long } else { Which::All };
            let collected = self.outlet.collect(which).by_job();
            let part = collected.batch().len().div_ceil(PARTS_MAX).clamp(PART_MIN, WRITE_MAX);
            self.unwritten.extend(collected.split(part));
            self.busy_since = (self.unwritten.len() > 1).then(Instant::now);
            self.write_all(&mut flushed, &mut flushes).await;
            if is_last {
                return;
            }
            if !self.outlet.is_closed() {
                flushed.clear();
            }
        }
    }

    /// Waits until there is something to write, and until enough of it has gathered.
    async fn wait(&mut self, flushed: &mut Vec<Flushed>, flushes: &mut Flushes) {
        flushed.append(&mut self.asked);
        let look = self.outlet.next_look();
        let due = async {
            match look {
                Some(look) => sleep(look).await,
                None => pending().await,
            }
        };
        let (woken, due) = (pin!(self.outlet.wake.notified()), pin!(due));
        if flushed.is_empty()
            && !self.outlet.is_closed()
            && let Either::Right((flush, _)) = select(select(woken, due), pin!(flushes.recv())).await
        {
            flushed.extend(flush);
        }
        let gathered = self.busy_since.unwrap_or_else(Instant::now) + FLUSH_EVERY;
        if flushed.is_empty()
            && let Ok(Some(flush)) = timeout_at(gathered, flushes.recv()).await
        {
            flushed.push(flush);
        }
        while let Ok(flush) = flushes.try_recv() {
            flushed.push(flush);
        }
    }

    /// Waits until the next of so many parts is to be written, each in its share of [`FLUSH_EVERY`]: not while
    /// somebody asks, nor where room gets scarce.
    async fn spread(&mut self, began: Instant, parts: usize, is_asked: bool, flushes: &mut Flushes) {
        let share = |parts: usize| u32::try_from(parts).unwrap_or(u32::MAX);
        let next = FLUSH_EVERY * share(parts - self.unwritten.len().min(parts)) / share(parts).max(1);
        let is_urgent = is_asked
            || !self.asked.is_empty()
            || self.outlet.is_closed()
            || !self.outlet.has_half_of_its_room();
        if !is_urgent && let Ok(Some(flush)) = timeout_at(began + next, flushes.recv()).await {
            self.asked.push(flush);
        }
    }

    /// Writes all that there is. Whoever waits is told at the first failure; who closes, at the failure of a try
    /// that was begun since.
    async fn write_all(&mut self, flushed: &mut Vec<Flushed>, flushes: &mut Flushes) {
        let (began, parts) = (Instant::now(), self.unwritten.len());
        while !self.unwritten.is_empty() {
            self.spread(began, parts, !flushed.is_empty(), flushes).await;
            let Some(collected) = self.unwritten.pop_front() else { return };
            let len = collected.batch().len();
            if len > self.write_max {
                self.put_back(collected.split(self.write_max));
                continue;
            }
            let is_last_try = self.outlet.is_closed();
            let write = self.outlet.history.write(collected.batch());
            let written = contained_within(CALL_DEADLINE, write).await;
            let reason = match written {
                Ok(Ok(())) => {
                    self.again.succeeded();
                    self.write_max = (self.write_max * 2).min(WRITE_MAX);
                    self.free(&collected);
                    continue;
                }
                Ok(Err(HistoryError::BadData { reason, .. })) if len == 1 => {
                    tracing::warn!(target: "callsheet", "the history refuses a record: {}", one_line(&reason, TEXT_MAX));
                    self.free(&collected);
                    self.drop_refused(collected.batch());
                    continue;
                }
                Ok(Err(HistoryError::BadData { .. })) => {
                    self.put_back(collected.split(len.div_ceil(2)));
                    continue;
                }
                Ok(Err(error)) => one_line(error, TEXT_MAX),
                Err(none) => none.as_str().to_owned(),
            };
            tracing::debug!(target: "callsheet", "the history was not written: {reason}");
            // It may have been too much.
            self.write_max = len.div_ceil(2);
            self.put_back(vec![collected]);
            if is_last_try {
                return;
            }
            self.pause(flushed, flushes).await;
        }
    }

    /// Pauses after a failure, unless it is to close. Whoever asks meanwhile does not wait for what cannot be
    /// written.
    async fn pause(&mut self, flushed: &mut Vec<Flushed>, flushes: &mut Flushes) {
        let until = Instant::now() + self.again.failed();
        if self.outlet.is_closed() {
            return;
        }
        flushed.clear();
        self.asked.clear();
        while let Ok(Some(flush)) = timeout_at(until, flushes.recv()).await {
            if self.outlet.is_closed() {
                return flushed.push(flush);
            }
        }
    }

    fn put_back(&mut self, parts: Vec<Collected>) {
        parts.into_iter().rev().for_each(|part| self.unwritten.push_front(part));
    }

    fn drop_refused(&self, batch: &Batch) {
        let lost = loss(batch);
        if lost > 0 {
            self.outlet.drop_records(lost, span_of_batch(batch));
        }
    }

    fn free(&self, collected: &Collected) {
        let (count, bytes) = collected.room();
        self.outlet.free(count, bytes);
    }
}
