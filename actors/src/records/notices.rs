//! What other nodes tell this one, as hints that are held against the store.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{sync::Notify, task::AbortHandle, time::sleep};

use super::{
    format::{Hint, PendingRow, decode, encode_hint},
    shared::{Shared, lock},
};
use crate::{
    core::ledger::{Ledger, NOTIFICATIONS_MAX, NameRow},
    name::{JobName, LockKey, RunId},
    port::{
        Heard, HintStream, Notification, PendingRetry, PendingRetryOfJob, RecordKind, RecordName,
        RecordSession, RecordsError, Session,
    },
};

/// How soon a store that did not answer is asked again what a hint is about.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The hints that the node has not handed on yet.
#[derive(Default)]
pub(super) struct Notices {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// The task that listens.
    listener: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Waiting {
    /// Those that were dropped or handed on so far: the number of the first that waits.
    first: u64,
    hints: VecDeque<Option<Hint>>,
}

impl Notices {
    /// What is told from now on concerns another session.
    pub(super) fn clear(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.first += waiting.hints.len() as u64;
        waiting.hints.clear();
    }

    /// `None`: some were lost.
    fn push(&self, hint: Option<Hint>) {
        let mut waiting = lock(&self.waiting);
        waiting.hints.push_back(hint);
        if waiting.hints.len() > NOTIFICATIONS_MAX {
            waiting.hints.pop_front();
            waiting.first += 1;
            if let Some(first) = waiting.hints.front_mut() {
                *first = None;
            }
        }
        drop(waiting);
        self.arrived.notify_waiters();
    }

    fn front(&self) -> Option<(u64, Option<Hint>)> {
        let waiting = lock(&self.waiting);
        waiting.hints.front().map(|hint| (waiting.first, hint.clone()))
    }

    /// Takes the first, if it is still this one.
    fn pop(&self, number: u64) -> bool {
        let mut waiting = lock(&self.waiting);
        if waiting.first != number || waiting.hints.pop_front().is_none() {
            return false;
        }
        waiting.first += 1;
        true
    }

    pub(super) fn stop(&self) {
        if let Some(listener) = lock(&self.listener).take() {
            listener.abort();
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Listens to the hints of all nodes, unless it does already.
    pub(super) async fn listen(self: &Arc<Self>) -> Result<(), RecordsError> {
        if lock(&self.notices.listener).as_ref().is_some_and(|listener| !listener.is_finished()) {
            return Ok(());
        }
        let stream = self.records.subscribe().await?;
        let listener = tokio::spawn(hear(Arc::downgrade(self), stream)).abort_handle();
        if let Some(former) = lock(&self.notices.listener).replace(listener) {
            former.abort();
        }
        Ok(())
    }

    /// The next notification of a session.
    pub(super) async fn next_notification(&self, session: Session) -> Notification {
        loop {
            let arrived = self.notices.arrived.notified();
            let own = self.session().is_ok_and(|own| own.0 == session.0);
            match self.notices.front().filter(|_| own) {
                None => arrived.await,
                Some((number, hint)) => {
                    // It is taken only once it is known what it says: this may be given up before.
                    let Some(said) = self.looked_up(hint).await else {
                        sleep(ASK_AGAIN).await;
                        continue;
                    };
                    if let (true, Some(notification)) = (self.notices.pop(number), said) {
                        return notification;
                    }
                }
            }
        }
    }

    /// What the store says to a hint, if anything; `None`: it does not answer.
    async fn looked_up(&self, hint: Option<Hint>) -> Option<Option<Notification>> {
        match hint {
            None => Some(Some(Notification::Lagged)),
            Some(Hint::Stop(session, run, key)) => self.stop_of(Session(session), run, &key).await.ok(),
            Some(Hint::Leader) => Some(None),
            Some(Hint::Pause(job)) => self.pause_of(&job).await.ok(),
            Some(Hint::Retry(job, run)) => self.retry_of(&job, run).await.ok(),
        }
    }

    /// Anybody may say so who can publish a hint; the record can be written only by who may claim.
    async fn stop_of(
        &self,
        session: Session,
        run: RunId,
        key: &LockKey,
    ) -> Result<Option<Notification>, RecordsError> {
        let name = RecordName::new(RecordKind::Name, key.to_stored());
        let stored = self.read(&[name], &[]).await?.records;
        let row = match stored.first().filter(|stored| stored.version.is_present()) {
            Some(stored) => decode(&stored.bytes),
            None => Ok(NameRow::default()),
        };
        let Ok(row) = row else { return Ok(None) };
        Ok(row.stops(run, session).then_some(Notification::Stop { run }))
    }

    async fn pause_of(&self, job: &JobName) -> Result<Option<Notification>, RecordsError> {
        let name = RecordName::new(RecordKind::Name, job.to_stored());
        let stored = self.read(&[name], &[]).await?.records;
        let row = match stored.first().filter(|stored| stored.version.is_present()) {
            Some(stored) => decode(&stored.bytes),
            None => Ok(NameRow::default()),
        };
        // One that cannot be read now cannot be read later, and others wait behind it.
        let Ok(row) = row else { return Ok(None) };
        let pause = row.pause(self.clock.now());
        Ok(Some(Notification::PauseChanged { job: job.clone(), pause }))
    }

    async fn retry_of(&self, job: &JobName, run: RunId) -> Result<Option<Notification>, RecordsError> {
        let name = RecordName::new(RecordKind::Pending, job.to_stored());
        let stored = self.read(&[name], &[]).await?.records;
        let row = match stored.first().filter(|stored| stored.version.is_present()) {
            Some(stored) => decode(&stored.bytes),
            None => Ok(PendingRow::default()),
        };
        let Ok(row) = row else { return Ok(None) };
        let retry = row.retries.iter().map(PendingRetry::from).find(|retry| retry.run == run);
        Ok(retry.map(|retry| Notification::PendingRetry(PendingRetryOfJob { job: job.clone(), retry })))
    }
}

/// Hands hints on until the node is gone.
async fn hear(shared: std::sync::Weak<Shared>, mut stream: HintStream) {
    while let Some(heard) = stream.next().await {
        let Some(shared) = shared.upgrade() else { return };
        let hint = match heard {
            Heard::Lagged => {
                shared.leader_changed.notify_waiters();
                None
            }
            // What cannot be read is of a newer version.
            Heard::Hint(bytes) => match decode(&bytes) {
                Ok(hint) => Some(hint),
                Err(_) => continue,
            },
        };
        match &hint {
            Some(Hint::Leader) => {
                shared.leader_changed.notify_waiters();
                continue;
            }
            Some(Hint::Stop(session, ..)) if shared.session().ok() != Some(RecordSession(*session)) => {
                continue;
            }
            Some(Hint::Stop(..) | Hint::Pause(_) | Hint::Retry(..)) | None => {}
        }
        shared.notices.push(hint);
    }
}

/// What is told of a notification, and to whom; `None`: to all.
pub(super) fn hint_of(
    ledger: &Ledger,
    to: Option<Session>,
    notification: &Notification,
) -> Option<Arc<[u8]>> {
    let hint = match (notification, to) {
        (Notification::PauseChanged { job, .. }, _) => Hint::Pause(job.clone()),
        (Notification::PendingRetry(PendingRetryOfJob { job, retry }), _) => {
            Hint::Retry(job.clone(), retry.run)
        }
        (Notification::Stop { run }, Some(Session(session))) => {
            Hint::Stop(session, *run, ledger.key_of(*run)?.clone())
        }
        // Backfills are not kept over records.
        (Notification::Stop { .. } | Notification::Lagged | Notification::BackfillsChanged, _) => {
            return None;
        }
    };
    encode_hint(&hint)
}
