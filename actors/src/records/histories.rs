//! What this node was granted, held against the store when a session is opened again: a store that fails over may have
//! lost what it had answered.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    format::decode,
    request::Request,
    rounds::ask,
    shared::{Shared, lock_error},
};
use crate::{
    core::ledger::{FloorRow, NameRow},
    name::{FencingToken, JobName},
    port::{
        DivergedRun, Divergence, GrantedRun, KnownHistory, LockError, RecordKind, RecordName, RecordsError,
    },
};

/// How many cursors are written forward at once.
const AT_ONCE: usize = 512;

impl Shared {
    /// What the store does not know any more. Then every cursor that this node has seen is written forward, so that
    /// what it knows to be decided is not decided again.
    pub(super) async fn compare(self: &Arc<Self>, known: &KnownHistory) -> Result<Divergence, LockError> {
        self.session()?;
        let leader = self.ask_leader().await.map_err(lock_error)?;
        let rows = self.rows_of(&known.runs).await.map_err(lock_error)?;
        let floor = FencingToken(self.floor().await.map_err(lock_error)?.token);
        let divergence = Divergence {
            term: known.term.map(|_| leader.term()).filter(|term| known.term > Some(*term)),
            runs: known.runs.iter().filter_map(|granted| diverged(granted, &rows, floor)).collect(),
        };
        if divergence != Divergence::default() {
            self.write_forward(&known.runs).await?;
        }
        Ok(divergence)
    }

    /// What stands under the jobs and the keys of runs, as the store has it.
    async fn rows_of(&self, runs: &[GrantedRun]) -> Result<HashMap<Arc<str>, NameRow>, RecordsError> {
        let names: BTreeSet<Arc<str>> =
            runs.iter().flat_map(|run| [run.job.to_stored(), run.key.to_stored()]).collect();
        let names: Vec<_> = names.into_iter().collect();
        let mut rows = HashMap::new();
        for part in names.chunks(self.records.limits().reads.max(1)) {
            let asked: Vec<_> =
                part.iter().map(|name| RecordName::new(RecordKind::Name, name.clone())).collect();
            for (name, stored) in part.iter().zip(self.read(&asked, &[]).await?.records) {
                if stored.version.is_present() {
                    rows.insert(name.clone(), decode(&stored.bytes)?);
                }
            }
        }
        Ok(rows)
    }

    async fn floor(&self) -> Result<FloorRow, RecordsError> {
        let name = RecordName::only(RecordKind::Floor);
        let stored = self.read(std::slice::from_ref(&name), &[]).await?.records;
        let stored = stored.first().filter(|stored| stored.version.is_present());
        stored.map_or_else(|| Ok(FloorRow::default()), |stored| decode(&stored.bytes))
    }

    /// Reads every job that is cached, and moves its cursor forward to where it was.
    async fn write_forward(self: &Arc<Self>, runs: &[GrantedRun]) -> Result<(), LockError> {
        let jobs = {
            let cache = &mut self.core.lock().await.cache;
            let mut jobs: BTreeSet<Arc<str>> = cache.jobs().into_iter().collect();
            jobs.iter().for_each(|job| cache.evict(job));
            for GrantedRun { job, fire_time, .. } in runs {
                if let Some(tick) = fire_time {
                    cache.see(job.to_stored(), tick.instant());
                    jobs.insert(job.to_stored());
                }
            }
            jobs
        };
        let jobs: Vec<_> = jobs.into_iter().collect();
        for part in jobs.chunks(AT_ONCE) {
            // It changes nothing but what the cursor that was seen changes.
            let touch = |job: &Arc<str>| Request::Keep(JobName::stored(job.clone()), Duration::MAX);
            ask(self, part.iter().map(touch).collect()).await?;
        }
        Ok(())
    }
}

/// What of a run the store does not know, if it does not. Of a key that was forgotten, no token is above the floor.
fn diverged(
    granted: &GrantedRun,
    rows: &HashMap<Arc<str>, NameRow>,
    floor: FencingToken,
) -> Option<DivergedRun> {
    let GrantedRun { job, key, run, fire_time, token } = granted;
    let of_key = rows.get(key.as_str());
    let forgotten = of_key.map_or(floor, NameRow::token) < *token;
    let token_also = of_key.and_then(|row| row.other_of_token(*token, *run));
    let tick_also = fire_time.and_then(|tick| rows.get(job.as_str())?.other_of_tick(tick, *run));
    if !forgotten && token_also.is_none() && tick_also.is_none() {
        return None;
    }
    Some(DivergedRun { token_also, tick_also, ..DivergedRun::new(granted) })
}
