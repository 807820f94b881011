//! Writing what was recorded to a history that takes its time, and asking it.

use std::{collections::VecDeque, future::pending, pin::pin, sync::Arc, time::Duration};

use actix_rt::ArbiterHandle;
use futures_util::future::{Either, select};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    open_runs::Which,
    options::HistoryOptions,
    recorder::{Collected, Outlet, Recorder},
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
        Backend, Batch, DecisionPage, Decisions, History, HistoryError, JobHistory, JobRecord, OperationPage,
        Operations, Retention, RunHistory, RunPage,
    },
};

/// How long records gather before they are written.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// The most records that are written at once.
const WRITE_MAX: usize = 1_024;
/// The pause before a batch is written again; it doubles up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a batch is written again.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long a question waits for what was recorded before it to be written.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

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

    /// Writes what is left, and takes nothing more.
    pub(crate) async fn close(&self) {
        self.flush(FLUSH_WAIT).await;
        if let Some(outlet) = &self.outlet {
            outlet.close();
        }
    }

    /// Asks the history, after what was recorded so far is written.
    async fn ask<T, F>(&self, question: impl FnOnce(Arc<dyn History>) -> F) -> Result<T, HistoryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, HistoryError>> + Send + 'static,
    {
        let Some(outlet) = &self.outlet else { return Err(self.not_kept()) };
        self.flush(FLUSH_WAIT).await;
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

    pub(crate) async fn runs(&self, asked: RunHistory) -> Result<RunPage, HistoryError> {
        self.ask(|history| async move { history.runs(&asked).await }).await
    }

    pub(crate) async fn job(&self, job: JobName) -> Result<Option<JobRecord>, HistoryError> {
        self.ask(|history| async move { history.job(&JobHistory(job)).await }).await
    }

    pub(crate) async fn decisions(&self, asked: Decisions) -> Result<DecisionPage, HistoryError> {
        self.ask(|history| async move { history.decisions(&asked).await }).await
    }

    pub(crate) async fn operations(&self, asked: Operations) -> Result<OperationPage, HistoryError> {
        self.ask(|history| async move { history.operations(&asked).await }).await
    }

    /// Whether somebody has to delete what need not be kept any more: one in memory has bounds of its own.
    pub(crate) fn is_to_be_pruned(&self) -> bool {
        self.outlet.as_ref().is_some_and(|outlet| !outlet.writes_now)
    }

    /// Deletes some of what need not be kept any more. Answers whether there is more to do.
    pub(crate) async fn prune(&self, retention: Retention) -> Result<bool, HistoryError> {
        let Some(outlet) = &self.outlet else { return Ok(false) };
        let now = outlet.clock.now();
        self.ask(move |history| async move { history.prune(now, &retention).await }).await
    }
}

/// Writes what was recorded.
struct Writer {
    outlet: Arc<Outlet>,
    unwritten: VecDeque<Collected>,
    again: Backoff,
}

impl Writer {
    async fn work(mut self, mut flushes: mpsc::UnboundedReceiver<Flushed>) {
        let mut flushed = Vec::new();
        while !self.outlet.is_closed() {
            let again = self.outlet.looks_again();
            let due = async {
                match again {
                    true => sleep(FLUSH_EVERY).await,
                    false => pending().await,
                }
            };
            let outlet = self.outlet.clone();
            let (woken, due) = (pin!(outlet.wake.notified()), pin!(due));
            if let Either::Right((flush, _)) = select(select(woken, due), pin!(flushes.recv())).await {
                flushed.extend(flush);
            }
            if flushed.is_empty()
                && let Ok(Some(flush)) = timeout(FLUSH_EVERY, flushes.recv()).await
            {
                flushed.push(flush);
            }
            while let Ok(flush) = flushes.try_recv() {
                flushed.push(flush);
            }
            let which = if flushed.is_empty() { Which::Long } else { Which::All };
            self.unwritten.extend(self.outlet.collect(which).split(WRITE_MAX));
            self.write_all(&mut flushed, &mut flushes).await;
            flushed.clear();
        }
    }

    /// Writes all that there is. Whoever waits is told at the first failure.
    async fn write_all(
        &mut self,
        flushed: &mut Vec<Flushed>,
        flushes: &mut mpsc::UnboundedReceiver<Flushed>,
    ) {
        while let Some(collected) = self.unwritten.pop_front() {
            let write = self.outlet.history.write(&collected.batch);
            let written = contained_within(CALL_DEADLINE, write).await;
            let reason = match written {
                Ok(Ok(())) => {
                    self.again.succeeded();
                    self.outlet.free(collected.charged, collected.charged_bytes);
                    continue;
                }
                Ok(Err(HistoryError::BadData { reason, .. })) if collected.batch.len() == 1 => {
                    tracing::warn!(target: "callsheet", "the history refuses a record: {}", one_line(&reason, TEXT_MAX));
                    self.outlet.free(collected.charged, collected.charged_bytes);
                    self.outlet.drop_records(1);
                    continue;
                }
                Ok(Err(HistoryError::BadData { .. })) => {
                    let half = collected.batch.len().div_ceil(2);
                    collected.split(half).into_iter().rev().for_each(|part| self.unwritten.push_front(part));
                    continue;
                }
                Ok(Err(error)) => one_line(error, TEXT_MAX),
                Err(none) => none.as_str().to_owned(),
            };
            self.unwritten.push_front(collected);
            flushed.clear();
            tracing::debug!(target: "callsheet", "the history was not written: {reason}");
            let pause = self.again.failed();
            // Whoever asks meanwhile does not wait for what cannot be written.
            let until = Instant::now() + pause;
            while let Ok(Some(flush)) = timeout_at(until, flushes.recv()).await {
                drop(flush);
            }
            if self.outlet.is_closed() {
                return;
            }
        }
    }
}
