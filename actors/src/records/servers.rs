//! A store that puts another server in the place of one, which may not know what that one had answered.
//!
//! What was granted there is known to whoever asked for it, and to nobody else. So a node that finds another server
//! writes forward what it has seen before it does anything else; and no tick that was due before is granted until
//! every node that lives has had the time to do the same.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{
    format::{ServerRow, decode, encode},
    request::{Answer, Request},
    rounds::Round,
    shared::{Shared, lock, lock_error},
};
use crate::{
    core::duration::DurationText,
    name::Term,
    port::{
        Authority, Change, Commit, Committed, LockError, RecordChange, RecordKind, RecordName, RecordServer,
        RecordsError, StoredRecord, Unit, UnitAnswer, Version,
    },
};

/// How long a node may take to find another server, beyond the pause between two of its calls: for a call that is not
/// answered, the pauses between attempts to connect, and what it has seen.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause between two calls of a node is this part of a lease.
const CALLS: u32 = 4;
/// By how much the clock of the server before may have been ahead.
const CLOCKS_APART_MAX: TimeDelta = TimeDelta::seconds(1);
/// How soon a claim that waits is made again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the server may change, or others write which one it is, before it is asked again later.
const TRIES: usize = 5;
/// How many cursors are written forward at once.
const AT_ONCE: usize = 512;

/// The server to which this node has said what it knows.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) server: RecordServer,
    /// What is not granted yet.
    pub(super) hold: Option<Arc<Hold>>,
}

/// What is not granted until nodes had the time to say what they know.
#[derive(Debug)]
pub(super) struct Hold {
    until: Instant,
    /// Ticks up to here may have been granted by a server before.
    due_until: DateTime<Utc>,
    /// Of this term, which goes on, nobody else was granted a tick of these jobs.
    led: Option<(Term, HashSet<Arc<str>>)>,
}

impl Hold {
    /// How long a claim waits before it is made again.
    pub(super) fn wait(&self, request: &Request) -> Option<Duration> {
        let Request::Claim(claim) = request else { return None };
        let tick = claim.tick.filter(|tick| tick.fire_time.instant() <= self.due_until)?;
        let is_led = |(term, jobs): &(Term, HashSet<Arc<str>>)| {
            tick.authority == Authority::Term(*term) && jobs.contains(claim.job.as_str())
        };
        if self.led.as_ref().is_some_and(is_led) {
            return None;
        }
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(AGAIN))
    }
}

impl Shared {
    /// The server to which this node has not said what it knows.
    pub(super) fn unsettled(&self) -> Option<RecordServer> {
        let server = self.records.server()?;
        let settled = lock(&self.settled).as_ref().map(|settled| settled.server);
        (settled != Some(server)).then_some(server)
    }

    /// How long the nodes may take to find another server, and to say what they know.
    fn hold_max(&self) -> Duration {
        self.lease / CALLS + FOUND_WITHIN
    }

    /// Says what this node knows to a server that is another one than before, if it is.
    pub(super) async fn settle(self: &Arc<Self>) -> Result<(), LockError> {
        if self.unsettled().is_none() {
            return Ok(());
        }
        let session = self.session()?;
        let mut core = self.core.clone().lock_owned().await;
        let shared = self.clone();
        // As a round: whoever gives up waiting gives up no commit.
        let settled =
            tokio::spawn(async move { Round::new(&shared, &mut core, session, &[]).settle().await });
        settled.await.unwrap_or_else(|error| {
            Err(LockError::NotDone { reason: format!("the call ended early: {error}") })
        })
    }

    /// Writes down which server answers, unless somebody has. Answers since when it does, if it came after another
    /// one; `Err`: another one answers meanwhile.
    async fn announce(&self, server: RecordServer) -> Result<Option<DateTime<Utc>>, RecordsError> {
        let knew_another = lock(&self.settled).is_some();
        let name = RecordName::only(RecordKind::Server);
        for _ in 0..TRIES {
            let stored = self.read(std::slice::from_ref(&name), &[]).await?.records;
            let StoredRecord { version, bytes } = stored.into_iter().next().unwrap_or(StoredRecord::ABSENT);
            let row: Option<ServerRow> = version.is_present().then(|| decode(&bytes)).transpose()?;
            let since = row.filter(|row| row.server == server.0).map(|row| row.since);
            // Whoever wrote that it is the first one knew no other, and owes no tick of before.
            if let Some(since) = since.filter(|since| since.is_some() || !knew_another) {
                return Ok(since.and_then(DateTime::from_timestamp_micros));
            }
            let now = self.clock.now();
            let is_other = version.is_present() || knew_another;
            let row = ServerRow { server: server.0, since: is_other.then(|| now.timestamp_micros()) };
            if self.write_server(server, version, &row).await? {
                return Ok(is_other.then_some(now));
            }
        }
        Err(other_server())
    }

    async fn write_server(
        &self,
        server: RecordServer,
        version: Version,
        row: &ServerRow,
    ) -> Result<bool, RecordsError> {
        let name = RecordName::only(RecordKind::Server);
        let change = RecordChange { name, version, change: Change::Put(encode(row)?) };
        let units = vec![Unit { records: vec![change], hints: Vec::new() }];
        let commit = Commit { server: Some(server), units, ..Commit::default() };
        match self.records.commit(&commit).await? {
            Committed::Units { answers, .. } => Ok(matches!(answers.first(), Some(UnitAnswer::Made { .. }))),
            Committed::OtherServer | Committed::Dead(_) | Committed::LeaderMoved => Err(other_server()),
        }
    }
}

impl Round<'_> {
    /// Says what this node knows to a server that is another one than before, if it is. Every commit of the round is
    /// made by that one.
    pub(super) async fn settle(&mut self) -> Result<(), LockError> {
        for _ in 0..TRIES {
            if self.shared.records.server().is_none() {
                return Ok(());
            }
            let Some(server) = self.shared.unsettled() else {
                let settled = lock(&self.shared.settled).clone();
                self.server = settled.as_ref().map(|settled| settled.server);
                self.hold = settled.and_then(|settled| settled.hold);
                return Ok(());
            };
            match self.settle_with(server).await {
                Err(_) if self.shared.records.server() != Some(server) => {}
                settled => settled?,
            }
        }
        Err(lock_error(other_server()))
    }

    async fn settle_with(&mut self, server: RecordServer) -> Result<(), LockError> {
        let since = self.shared.announce(server).await.map_err(lock_error)?;
        let jobs = self.write_all_forward(server).await?;
        let hold = match since {
            Some(since) => self.hold(since, jobs).await?.map(Arc::new),
            None => None,
        };
        let former = lock(&self.shared.settled).replace(Settled { server, hold });
        if former.is_some() {
            let wait = DurationText(self.shared.hold_max());
            tracing::info!(
                target: "callsheet", scope = %self.shared.scope,
                "another server of the store answers, which may not know what the former one had granted; ticks that were \
                 due before wait for up to {wait}, until all nodes have said what they know"
            );
        }
        Ok(())
    }

    async fn hold(&self, since: DateTime<Utc>, jobs: BTreeSet<Arc<str>>) -> Result<Option<Hold>, LockError> {
        let passed = (self.shared.clock.now() - since).to_std().unwrap_or_default();
        let left = self.shared.hold_max().saturating_sub(passed);
        if left.is_zero() {
            return Ok(None);
        }
        let leader = self.shared.ask_leader().await.map_err(lock_error)?;
        let own = self.shared.own_term(leader.term());
        let goes_on = own.is_some() && own == leader.lives();
        let led = goes_on.then(|| (leader.term(), jobs.into_iter().collect()));
        Ok(Some(Hold { until: Instant::now() + left, due_until: since + CLOCKS_APART_MAX, led }))
    }

    /// In a box: rounds settle, and this is a round.
    fn forward<'b>(
        &'b mut self,
        jobs: &'b [Request],
        server: RecordServer,
    ) -> BoxFuture<'b, Result<Vec<Answer>, LockError>> {
        let mut round = Round::new(self.shared, self.core, self.session, jobs);
        (round.server, round.settles) = (Some(server), false);
        round.run().boxed()
    }

    /// Moves the cursor of every job that is known forward to where it was seen. Answers these jobs.
    async fn write_all_forward(&mut self, server: RecordServer) -> Result<BTreeSet<Arc<str>>, LockError> {
        let cache = &mut self.core.cache;
        let jobs: BTreeSet<Arc<str>> = cache.jobs().into_iter().chain(cache.seen_jobs()).collect();
        jobs.iter().for_each(|job| cache.evict(job));
        cache.floor = None;
        let all: Vec<Request> = jobs.iter().cloned().map(Request::Forward).collect();
        for part in all.chunks(AT_ONCE) {
            let answers = self.forward(part, server).await?;
            if answers.iter().any(Answer::is_contended) {
                let reason = "others write what a former server had answered; it is tried again".to_owned();
                return Err(LockError::NotDone { reason });
            }
        }
        Ok(jobs)
    }
}

pub(super) fn other_server() -> RecordsError {
    let reason =
        "another server of the store answers; what this node knows is compared with it first".to_owned();
    RecordsError::NotDone { reason }
}
