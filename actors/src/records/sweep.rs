//! Searches through all names: for runs of dead sessions, and for names that nobody needs.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    cache::Cached,
    format::{PendingRow, decode},
    request::{Answer, Needs, Request},
    rounds::{Round, ask, bytes_of},
    shared::{Shared, lock_error},
};
use crate::{
    core::ledger::{FloorRow, NameRow},
    name::{JobName, LockKey, RunId, Term},
    port::{
        Change, ClosedRuns, Commit, Committed, Forgotten, ListedRecord, LockError, LostRun, PendingRetry,
        PendingRetryOfJob, RecordChange, RecordKind, RecordName, RecordSession, RecordsError, StoredRecord,
        Unit, UnitAnswer, Version,
    },
};

/// How many records a page has.
const PAGE: usize = 512;
/// The most records that closing a run takes: its key, its job, the retries of that, and the floor.
const RECORDS_OF_CLOSE: usize = 4;
/// How many pages one call reads at most.
const PAGES_MAX: usize = 32;

/// A name, and what stands under it.
type Named = (Arc<str>, Cached<NameRow>);
/// Runs of dead sessions, and the last name at which they were looked for.
type FoundRuns = (Vec<(LockKey, RunId)>, Option<Arc<str>>);

/// How far the searches have come.
#[derive(Default)]
pub(super) struct Sweep {
    lost: Option<LostSearch>,
    /// The runs that were closed and that nobody has been told of.
    closed: Vec<LostRun>,
    idle: Option<IdleSearch>,
}

/// A search for the runs of sessions that were gone when it began.
struct LostSearch {
    dead: HashSet<u64>,
    manifests: Vec<(RecordSession, Version)>,
    after: Option<Arc<str>>,
    /// Something that was found could not be closed.
    left: bool,
}

/// A search for names that nobody needs: first for the jobs that have runs.
#[derive(Default)]
struct IdleSearch {
    busy: HashSet<JobName>,
    busy_known: bool,
    after: Option<Arc<str>>,
}

impl Shared {
    /// Closes, as lost, up to `limit` runs of dead sessions.
    pub(super) async fn close_lost(self: &Arc<Self>, limit: usize) -> Result<ClosedRuns, LockError> {
        self.session()?;
        let shared = self.clone();
        // As a round. Whom nobody waited for is told to the next one who asks.
        let more = tokio::spawn(async move {
            let mut sweep = shared.sweep.lock().await;
            shared.close_pages(&mut sweep, limit).await
        });
        let more = more.await.unwrap_or_else(|error| Err(ended_early(&error)))?;
        let mut sweep = self.sweep.lock().await;
        let told = sweep.closed.len().min(limit);
        let lost = sorted(sweep.closed.drain(..told).collect());
        Ok(ClosedRuns { lost, more: more || !sweep.closed.is_empty() })
    }

    /// Searches on until so many closed runs are there to be told of: whether there may be more.
    async fn close_pages(self: &Arc<Self>, sweep: &mut Sweep, limit: usize) -> Result<bool, LockError> {
        if sweep.lost.is_none() {
            let (_, dead) = self.manifests().await.map_err(lock_error)?;
            if dead.is_empty() {
                return Ok(false);
            }
            let manifests: Vec<_> =
                dead.iter().map(|manifest| (manifest.session, manifest.version)).collect();
            let dead = manifests.iter().map(|(session, _)| session.0).collect();
            sweep.lost = Some(LostSearch { dead, manifests, after: None, left: false });
        }
        let Some(search) = &mut sweep.lost else { return Ok(false) };
        for _ in 0..PAGES_MAX {
            let page = self
                .records
                .list(RecordKind::Name, search.after.as_deref(), PAGE)
                .await
                .map_err(lock_error)?;
            let room = limit.saturating_sub(sweep.closed.len());
            let (found, last) = search.found(&page.records, room)?;
            let full = found.len() == room;
            self.close_found(search, &mut sweep.closed, found).await?;
            // Only now: a page that was not answered is searched again.
            search.after = last.or(search.after.take());
            if full {
                return Ok(true);
            }
            if !page.more {
                if !search.left {
                    // What remains of them is found the next time.
                    let _ = self.delete_manifests(&search.manifests).await;
                }
                sweep.lost = None;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Closes what was found, as many runs at once as one commit takes: an error leaves no more than those in doubt.
    async fn close_found(
        self: &Arc<Self>,
        search: &mut LostSearch,
        closed: &mut Vec<LostRun>,
        found: Vec<(LockKey, RunId)>,
    ) -> Result<(), LockError> {
        let limits = self.records.limits();
        let most = limits.units.min(limits.commit_records / RECORDS_OF_CLOSE).max(1);
        for part in found.chunks(most) {
            let closes = part.iter().map(|(key, run)| Request::Close(key.clone(), *run)).collect();
            let answers = ask(self, closes).await.inspect_err(|_| search.left = true)?;
            for answer in answers {
                match answer {
                    Answer::Closed(run) => closed.extend(run),
                    Answer::Contended => search.left = true,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The pending retries of all jobs, in the order of their runs.
    pub(super) async fn pending_retries(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<PendingRetryOfJob>, RecordsError> {
        let mut found = BTreeMap::new();
        let mut from: Option<Arc<str>> = None;
        loop {
            let page = self.records.list(RecordKind::Pending, from.as_deref(), PAGE).await?;
            for ListedRecord { id, record } in &page.records {
                let row: PendingRow = decode(&record.bytes)?;
                for retry in
                    row.retries.iter().map(PendingRetry::from).filter(|retry| Some(retry.run) > after)
                {
                    found.insert(retry.run, PendingRetryOfJob { job: JobName::stored(id.clone()), retry });
                }
                while found.len() > limit {
                    found.pop_last();
                }
            }
            match page.records.last().filter(|_| page.more) {
                Some(last) => from = Some(last.id.clone()),
                None => return Ok(found.into_values().collect()),
            }
        }
    }

    /// Forgets, as the leader of `term`, names that were out of use for so long.
    pub(super) async fn forget(
        self: &Arc<Self>,
        term: Term,
        after: Duration,
    ) -> Result<Forgotten, LockError> {
        let session = self.session()?;
        let shared = self.clone();
        // As a round: whoever gives up waiting gives up no commit.
        let forgotten = tokio::spawn(async move {
            let mut sweep = shared.sweep.lock().await;
            shared.forget_pages(&mut sweep, session, term, after).await
        });
        forgotten.await.unwrap_or_else(|error| Err(ended_early(&error)))
    }

    async fn forget_pages(
        &self,
        sweep: &mut Sweep,
        session: RecordSession,
        term: Term,
        after: Duration,
    ) -> Result<Forgotten, LockError> {
        let mut search = sweep.idle.take().unwrap_or_default();
        let pending = self.pending_jobs().await.map_err(lock_error)?;
        let mut names = 0;
        for _ in 0..PAGES_MAX {
            let page = self
                .records
                .list(RecordKind::Name, search.after.as_deref(), PAGE)
                .await
                .map_err(lock_error)?;
            search.after = page.records.last().map(|last| last.id.clone());
            if search.busy_known {
                let old = search.old(&page.records, &pending)?;
                match self.forget_names(session, term, after, old).await? {
                    Some(forgotten) => names += forgotten,
                    None => return Ok(Forgotten { names, more: false }),
                }
            } else {
                search.note_busy(&page.records)?;
            }
            if page.more {
                continue;
            }
            if search.busy_known {
                return Ok(Forgotten { names, more: false });
            }
            (search.busy_known, search.after) = (true, None);
        }
        sweep.idle = Some(search);
        Ok(Forgotten { names, more: true })
    }

    /// The jobs that have pending retries.
    async fn pending_jobs(&self) -> Result<HashSet<Arc<str>>, RecordsError> {
        let mut jobs = HashSet::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.records.list(RecordKind::Pending, after.as_deref(), PAGE).await?;
            jobs.extend(page.records.iter().map(|listed| listed.id.clone()));
            match page.records.last().filter(|_| page.more) {
                Some(last) => after = Some(last.id.clone()),
                None => return Ok(jobs),
            }
        }
    }

    /// Forgets those of these names that are out of use, and counts the age of the store; `None`: the term is over.
    async fn forget_names(
        &self,
        session: RecordSession,
        term: Term,
        after: Duration,
        names: Vec<Named>,
    ) -> Result<Option<usize>, LockError> {
        let mut core = self.core.lock().await;
        let mut round = Round::new(self, &mut core, session, &[]);
        let most = self.records.limits().unit_records.saturating_sub(1).max(1);
        let mut forgotten = 0;
        let mut parts: Vec<_> = names.chunks(most).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for part in parts {
            match round.forget_part(term, after, part).await? {
                Some(names) => forgotten += names,
                None => return Ok(None),
            }
        }
        Ok(Some(forgotten))
    }
}

impl Round<'_> {
    async fn forget_part(
        &mut self,
        term: Term,
        after: Duration,
        names: &[Named],
    ) -> Result<Option<usize>, LockError> {
        let leader = match self.shared.leader() {
            Some(leader) => leader,
            None => self.shared.ask_leader().await.map_err(lock_error)?,
        };
        let own = self.shared.own_term(term);
        let Some(lives) = leader.lives().filter(|lives| own == Some(*lives)) else { return Ok(None) };
        self.leader = Some(leader.clone());
        let floor = self.read_floor(names).await.map_err(lock_error)?;
        let needs =
            Needs { names: names.iter().map(|(name, _)| name.clone()).collect(), pending: Vec::new() };
        self.begin(&needs);
        let forgotten = self.core.ledger.forget(self.shared.clock.now(), term, after).names;
        let unit = self.forgetting_unit(&floor, after, names).map_err(lock_error)?;
        let commit = Commit {
            alive: vec![self.session, lives],
            leader: Some(leader.version),
            server: None,
            units: vec![unit],
        };
        // Whatever becomes of it, these are read again.
        self.core.cache.floor = None;
        names.iter().for_each(|(name, _)| self.core.cache.evict(name));
        match self.shared.records.commit(&commit).await.map_err(lock_error)? {
            Committed::Units { answers, time } => {
                self.shared.clock.heard(time);
                let made = answers.first().is_some_and(|answer| *answer != UnitAnswer::Conflict);
                Ok(Some(if made { forgotten } else { 0 }))
            }
            Committed::Dead(dead) if dead == self.session => Err(self.shared.lost_session(dead)),
            Committed::Dead(dead) => {
                self.shared.term_may_be_over(dead);
                Ok(None)
            }
            Committed::LeaderMoved => {
                self.shared.set_leader(None);
                Ok(None)
            }
            Committed::OtherServer => Ok(None),
        }
    }

    /// Reads the floor, and who of those that declare policies for these names is alive.
    async fn read_floor(&mut self, names: &[Named]) -> Result<Cached<FloorRow>, RecordsError> {
        let name = RecordName::only(RecordKind::Floor);
        let stored = self.shared.read(std::slice::from_ref(&name), &[]).await?.records;
        let StoredRecord { version, bytes } = stored.into_iter().next().unwrap_or(StoredRecord::ABSENT);
        let row = if version.is_present() { decode(&bytes)? } else { FloorRow::default() };
        let floor = Cached { version, row };
        self.core.cache.floor = Some(floor.clone());
        let declarers: HashSet<u64> =
            names.iter().flat_map(|(_, cached)| cached.row.declared_by()).map(|session| session.0).collect();
        let declarers: Vec<u64> = declarers.into_iter().collect();
        self.alive.extend(self.shared.alive(&declarers).await?);
        for (name, cached) in names {
            self.core.cache.names.insert(name.clone(), cached.clone());
        }
        Ok(floor)
    }

    /// The floor rises as names go.
    fn forgetting_unit(
        &self,
        floor: &Cached<FloorRow>,
        after: Duration,
        names: &[Named],
    ) -> Result<Unit, RecordsError> {
        let ledger = &self.core.ledger;
        let mut records = Vec::new();
        let mut gone = Vec::new();
        for (name, Cached { version, row }) in names {
            let rest = ledger.row(name, row);
            let change = if ledger.is_idle(name, row, after) {
                Change::Delete
            } else if rest != *row {
                Change::Put(bytes_of(&rest)?)
            } else {
                continue;
            };
            gone.push(row);
            let name = RecordName::new(RecordKind::Name, name.clone());
            records.push(RecordChange { name, version: *version, change });
        }
        let after = ledger.floor_without(&floor.row, gone.into_iter());
        let name = RecordName::only(RecordKind::Floor);
        records.push(RecordChange { name, version: floor.version, change: Change::Put(bytes_of(&after)?) });
        Ok(Unit { records, hints: Vec::new() })
    }
}

impl LostSearch {
    /// Up to `limit` runs of dead sessions with the keys that they have, and the last name that was looked at.
    fn found(&self, page: &[ListedRecord], limit: usize) -> Result<FoundRuns, LockError> {
        let (mut found, mut last) = (Vec::new(), None);
        for ListedRecord { id, record } in page {
            if found.len() == limit {
                break;
            }
            let row: NameRow = decode(&record.bytes).map_err(lock_error)?;
            if let Some((session, run, _)) = row.holder(id)
                && self.dead.contains(&session.0)
            {
                found.push((LockKey::stored(id.clone()), run));
            }
            last = Some(id.clone());
        }
        Ok((found, last))
    }
}

impl IdleSearch {
    fn note_busy(&mut self, page: &[ListedRecord]) -> Result<(), LockError> {
        for ListedRecord { id, record } in page {
            let row: NameRow = decode(&record.bytes).map_err(lock_error)?;
            self.busy.extend(row.holder(id).map(|(_, _, job)| job));
        }
        Ok(())
    }

    /// The names that may be out of use.
    fn old(&self, page: &[ListedRecord], pending: &HashSet<Arc<str>>) -> Result<Vec<Named>, LockError> {
        let mut old = Vec::new();
        for ListedRecord { id, record } in page {
            let row: NameRow = decode(&record.bytes).map_err(lock_error)?;
            let in_use = row.holder(id).is_some() || self.busy.contains(&**id) || pending.contains(id);
            if !in_use {
                old.push((id.clone(), Cached { version: record.version, row }));
            }
        }
        Ok(old)
    }
}

fn ended_early(error: &tokio::task::JoinError) -> LockError {
    LockError::NotDone { reason: format!("the call ended early: {error}") }
}

fn sorted(mut lost: Vec<LostRun>) -> Vec<LostRun> {
    lost.sort_by_key(|lost| lost.run);
    lost
}
