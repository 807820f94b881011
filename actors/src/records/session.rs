//! Sessions: opened, kept alive, lost.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    format::{FORMAT, FormatRow, decode, encode},
    shared::{Shared, lock, lock_error, session_of},
};
use crate::port::{
    Change, Commit, Lease, LockError, RecordChange, RecordKind, RecordName, RecordSession, RecordsError,
    Session, StoredRecord, Unit, Version,
};

/// A session is renewed so often in a lease: a session that was ended is noticed within a quarter of it.
const RENEWALS: u32 = 4;

/// The session that is open.
pub(super) struct Own {
    pub(super) session: RecordSession,
    pub(super) trusted_until: Instant,
    lost: watch::Sender<Option<String>>,
    keeper: AbortHandle,
    /// The term that was won in it, and the session of that.
    pub(super) term: Option<(u64, RecordSession)>,
}

impl Own {
    pub(super) fn lose(self, reason: &str) {
        self.lost.send_replace(Some(reason.to_owned()));
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Shared {
    /// Opens a session, once the former one is gone for good: nothing may be done in its name any more.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Session, LockError> {
        let own = lock(&self.own).take();
        if let Some(own) = own {
            self.put_away(own, "another session was opened");
        }
        self.end_former().await.map_err(open_error)?;
        self.check_format().await.map_err(open_error)?;
        self.listen().await.map_err(open_error)?;
        let sent_at = Instant::now();
        let session = self.records.open(self.lease).await.map_err(open_error)?;
        self.owe_end(session);
        self.first_manifest(session).await?;
        if !self.keep_session(session) {
            return Err(LockError::SessionLost { reason: "it was ended while it was opened".to_owned() });
        }
        self.notices.clear();
        let Lease { duration, margin } = self.terms();
        let (lost, _) = watch::channel(None);
        let keeper = tokio::spawn(keep_alive(Arc::downgrade(self), session, sent_at)).abort_handle();
        *lock(&self.own) =
            Some(Own { session, trusted_until: sent_at + (duration - margin), lost, keeper, term: None });
        self.settle().await?;
        Ok(session_of(session))
    }

    /// Ends the sessions before, for good: what they asked for and was not answered is not done any more.
    pub(super) async fn end_former(&self) -> Result<(), RecordsError> {
        loop {
            let former = lock(&self.former).last().copied();
            let Some(former) = former else { return Ok(()) };
            // Perhaps of a term.
            self.end_term(former).await?;
            lock(&self.former).retain(|session| *session != former);
        }
    }

    /// Refuses records that a newer version wrote; says in which format they are, if nobody has said so.
    pub(super) async fn check_format(&self) -> Result<(), RecordsError> {
        let name = RecordName::only(RecordKind::Format);
        for _ in 0..2 {
            let stored = self.read(std::slice::from_ref(&name), &[]).await?.records;
            let stored = stored.into_iter().next().unwrap_or(StoredRecord::ABSENT);
            if stored.version.is_present() {
                let FormatRow { format } = decode(&stored.bytes)?;
                if format <= FORMAT {
                    return Ok(());
                }
                let reason = format!(
                    "the records of the scope {:?} are of format {format}, and this version knows format {FORMAT}; \
                     run the newer version on all nodes",
                    self.scope
                );
                return Err(RecordsError::Refused { reason });
            }
            let bytes = encode(&FormatRow { format: FORMAT })?;
            let change =
                RecordChange { name: name.clone(), version: Version::ABSENT, change: Change::Put(bytes) };
            let units = vec![Unit { records: vec![change], hints: Vec::new() }];
            self.records.commit(&Commit { units, ..Commit::default() }).await?;
        }
        Ok(())
    }

    /// Does nothing more in the session if a newer version has said, meanwhile, that the records are in its format.
    pub(super) async fn recheck_format(&self) -> Result<(), LockError> {
        match self.check_format().await {
            Ok(()) => Ok(()),
            Err(RecordsError::Refused { reason }) => {
                if let Ok(session) = self.session() {
                    self.lose(session, &reason);
                }
                Err(LockError::Refused { reason })
            }
            Err(error) => Err(lock_error(error)),
        }
    }

    /// The store says that the session is gone.
    pub(super) fn lost_session(&self, session: RecordSession) -> LockError {
        let reason = "the store ended it";
        self.lose(session, reason);
        LockError::SessionLost { reason: reason.to_owned() }
    }

    /// Resolves when a session is lost.
    pub(super) async fn lost(&self, session: Session) -> String {
        let watched = {
            let own = lock(&self.own);
            own.as_ref().filter(|own| own.session.0 == session.0).map(|own| own.lost.subscribe())
        };
        let Some(mut watched) = watched else { return "it is over".to_owned() };
        match watched.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "it was closed".to_owned(),
        }
    }

    pub(super) fn trusts(&self, session: Session) -> bool {
        let own = lock(&self.own);
        own.as_ref().is_some_and(|own| own.session.0 == session.0 && Instant::now() < own.trusted_until)
    }

    /// Ends the session that is open.
    pub(super) async fn close(&self) {
        let own = lock(&self.own).take();
        if let Some(own) = own {
            self.put_away(own, "it was closed");
        }
        // They end by themselves otherwise.
        let _ = self.end_former().await;
        self.notices.stop();
    }
}

/// Renews a session until it is lost: it is trusted from the start of the last renewal that was answered, for less
/// than the lease of the store.
async fn keep_alive(shared: std::sync::Weak<Shared>, session: RecordSession, opened_at: Instant) {
    let mut heard_at = opened_at;
    let mut next = None;
    loop {
        let Some((lease, records)) = shared.upgrade().map(|shared| (shared.terms(), shared.records.clone()))
        else {
            return;
        };
        let every = lease.duration / RENEWALS;
        sleep_until(next.unwrap_or(heard_at + every)).await;
        let (sent_at, until) = (Instant::now(), heard_at + (lease.duration - lease.margin));
        let renewed = timeout_at(until, records.renew(session)).await;
        let Some(shared) = shared.upgrade() else { return };
        match renewed {
            Ok(Ok(true)) => {
                heard_at = sent_at;
                next = None;
                if let Some(own) = lock(&shared.own).as_mut().filter(|own| own.session == session) {
                    own.trusted_until = sent_at + (lease.duration - lease.margin);
                }
                if shared.unsettled().is_some() {
                    // Beside the renewals. What fails is tried again after the next one.
                    tokio::spawn(async move { shared.settle().await });
                }
            }
            Ok(Ok(false)) => return shared.lose(session, "the store ended it: it was not renewed in time"),
            // Asked again soon, for as long as there is trust.
            Ok(Err(_)) if Instant::now() < until => next = Some(Instant::now() + every / RENEWALS),
            Ok(Err(_)) | Err(_) => {
                return shared.lose(session, "the store did not answer a renewal in time");
            }
        }
    }
}

/// An error of the store, as whoever opens a session hears it.
fn open_error(error: RecordsError) -> LockError {
    match error {
        RecordsError::Timeout => LockError::Timeout,
        RecordsError::Refused { reason } => LockError::Refused { reason },
        RecordsError::Unavailable { reason } | RecordsError::NotDone { reason } => {
            LockError::Unavailable { reason }
        }
        RecordsError::OverLimit { .. } => LockError::Refused { reason: error.to_string() },
    }
}
