//! The notifications of a session, handed on once the store has confirmed them.

use std::{collections::VecDeque, fmt::Display, future::pending, sync::Arc, time::Duration};

use callsheet_actors::{
    adapter::{Asked, LogBudget},
    port::Notification,
};
use tokio::{
    sync::broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, timeout},
};
use tokio_postgres::Client;

use super::{control_hints::ControlHints, notifications};

/// Reads the notifications for the session of a beacon.
pub(super) struct NotificationReader {
    beacon: i64,
    client: Arc<Client>,
    witness: notifications::Witness,
    /// How long the store may take to answer.
    deadline: Duration,
    hints: Arc<ControlHints>,
    notifications: tokio::sync::Mutex<Notifications>,
    /// The same, for whoever waits for changes of stored jobs.
    of_catalogue: tokio::sync::Mutex<broadcast::Receiver<String>>,
}

struct Notifications {
    received: broadcast::Receiver<String>,
    /// The store is to be asked about these.
    heard: Vec<Notification>,
    confirmed: VecDeque<Notification>,
    /// Any role that knows the name of the channel can send any number of them.
    log: LogBudget<()>,
    since: Instant,
}

impl Notifications {
    fn warn(&mut self, kind: &'static str, detail: &dyn Display) {
        let Asked { logged, over, .. } = self.log.ask(self.since.elapsed(), kind, (), None);
        for left_out in over {
            tracing::warn!(target: "callsheet", "{left_out}");
        }
        if logged {
            tracing::warn!(target: "callsheet", "{kind}: {detail}");
        }
    }

    fn hear(&mut self, payload: &str, beacon: i64) {
        if payload == notifications::CATALOGUE_CHANGED {
            return;
        }
        match notifications::read(payload, beacon) {
            Ok(Some(notification)) => self.heard.push(notification),
            // To another node.
            Ok(None) => {}
            Err(reason) => self.warn("ignored a notification that no node sent", &reason),
        }
    }

    fn miss(&mut self, count: u64) {
        self.warn("dropped the oldest notifications, unread", &count);
        self.heard.push(Notification::Lagged);
    }
}

impl NotificationReader {
    pub(super) fn new(
        beacon: i64,
        hints: Arc<ControlHints>,
        received: broadcast::Receiver<String>,
        client: Arc<Client>,
        witness: notifications::Witness,
        deadline: Duration,
    ) -> Self {
        let of_catalogue = tokio::sync::Mutex::new(received.resubscribe());
        let notifications = Notifications {
            received,
            heard: Vec::new(),
            confirmed: VecDeque::new(),
            log: LogBudget::default(),
            since: Instant::now(),
        };
        let notifications = tokio::sync::Mutex::new(notifications);
        Self { beacon, client, witness, deadline, hints, notifications, of_catalogue }
    }

    fn hear(&self, notifications: &mut Notifications, payload: &str) {
        // Whoever hears of a request asks the store for it.
        if !self.hints.hear(payload) {
            notifications.hear(payload, self.beacon);
        }
    }

    fn miss(&self, notifications: &mut Notifications, count: u64) {
        self.hints.missed();
        notifications.miss(count);
    }

    /// Which session it is that hears.
    pub(super) const fn beacon(&self) -> i64 {
        self.beacon
    }

    /// Resolves once something was heard of stored jobs that are changed, or may have been missed. Nobody else needs to
    /// read the notifications for that.
    pub(super) async fn catalogue_changed(&self) {
        let mut received = self.of_catalogue.lock().await;
        loop {
            match received.recv().await {
                Ok(payload) if payload == notifications::CATALOGUE_CHANGED => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return pending().await,
            }
        }
        // What came together is looked at together.
        while received.try_recv().is_ok() {}
    }

    /// The next notification that the store confirms; none any more once the connection has ended.
    pub(super) async fn next(&self) -> Notification {
        let mut notifications = self.notifications.lock().await;
        loop {
            if let Some(notification) = notifications.confirmed.pop_front() {
                return notification;
            }
            if notifications.heard.is_empty() {
                match notifications.received.recv().await {
                    Ok(payload) => self.hear(&mut notifications, &payload),
                    Err(RecvError::Lagged(count)) => self.miss(&mut notifications, count),
                    Err(RecvError::Closed) => return pending().await,
                }
            }
            while notifications.heard.len() < notifications::ASKED_MAX {
                match notifications.received.try_recv() {
                    Ok(payload) => self.hear(&mut notifications, &payload),
                    Err(TryRecvError::Lagged(count)) => self.miss(&mut notifications, count),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            // They stay until the store has answered: this future may be dropped.
            let heard = notifications.heard.clone();
            let confirmed = timeout(self.deadline, self.witness.confirm(&self.client, heard)).await;
            let heard = std::mem::take(&mut notifications.heard);
            let confirmed =
                confirmed.ok().and_then(Result::ok).unwrap_or_else(|| notifications::unconfirmed(heard));
            notifications.confirmed.extend(confirmed);
        }
    }
}
