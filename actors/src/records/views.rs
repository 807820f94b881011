//! Questions that change nothing: they look at the store, never at the cache.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    format::{DecidedRow, decode, encode},
    shared::{Leader, Shared, lock_error, session_of},
};
use crate::{
    core::ledger::{FloorRow, Ledger, NameRow},
    name::Term,
    port::{
        Change, Commit, Committed, Decided, LockError, Proof, Proved, RecordChange, RecordKind, RecordName,
        RecordSession, RecordsError, Session, StoredRecord, Unit, Version,
    },
};

impl Shared {
    /// A cut with what stands under these names at present, who leads, and who of those that matter is alive.
    pub(super) async fn view(&self, names: Vec<Arc<str>>) -> Result<(Ledger, Session), LockError> {
        let session = self.session()?;
        let view = self.read_view(session, names).await;
        view.map(|ledger| (ledger, session_of(session))).map_err(lock_error)
    }

    async fn read_view(&self, session: RecordSession, names: Vec<Arc<str>>) -> Result<Ledger, RecordsError> {
        let mut ledger = Ledger::cut();
        let mut rows = Vec::new();
        let leader = self.ask_leader().await?;
        for part in names.chunks(self.records.limits().reads.max(1)) {
            let asked: Vec<_> =
                part.iter().map(|name| RecordName::new(RecordKind::Name, name.clone())).collect();
            let stored = self.read(&asked, &[]).await?.records;
            for (name, StoredRecord { version, bytes }) in part.iter().zip(stored) {
                if version.is_present() {
                    rows.push((name.clone(), decode::<NameRow>(&bytes)?));
                }
            }
        }
        let declarers: HashSet<u64> =
            rows.iter().flat_map(|(_, row)| row.declared_by()).map(|by| by.0).collect();
        let alive = self.alive(&declarers.into_iter().collect::<Vec<_>>()).await?;
        ledger.begin_cut(leader.term(), leader.alive, &FloorRow::default());
        ledger.load_live(session_of(session));
        alive.into_iter().for_each(|session| ledger.load_live(Session(session)));
        rows.iter().for_each(|(name, row)| ledger.load(name, row));
        Ok(ledger)
    }

    /// Proves that something can be written, keeps what the leader says, and answers what leaders said.
    pub(super) async fn prove(&self, proof: Proof) -> Result<Proved, LockError> {
        self.recheck_format().await?;
        self.say_again().await?;
        let session = self.session()?;
        let leader = self.ask_leader().await.map_err(lock_error)?;
        let leads = leader.term();
        let (version, mut said) = self.decided().await.map_err(lock_error)?;
        let now = self.clock.now();
        if let Some(term) = proof.term.filter(|term| leader.alive && leader.lives() == self.own_term(*term)) {
            said.term = term.0;
            said.overdue = proof.overdue_since.map(|since| since.timestamp_micros());
            said.catching_up_until = proof.catching_up_until.map(|until| until.timestamp_micros());
            if proof.all_decided {
                said.mark += 1;
                said.at = now.timestamp_micros();
            }
            self.say_decided(session, &leader, version, &said).await?;
        }
        let at = DateTime::from_timestamp_micros(said.at).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let decided = Decided { mark: said.mark, ago: (now - at).to_std().unwrap_or_default() };
        let of_leader = leader.alive && Term(said.term) == leads;
        let told =
            |micros: Option<i64>| micros.filter(|_| of_leader).and_then(DateTime::from_timestamp_micros);
        let proved = Proved::new(told(said.overdue), Some(decided));
        Ok(proved.catching_up_until(told(said.catching_up_until)))
    }

    async fn decided(&self) -> Result<(Version, DecidedRow), RecordsError> {
        let name = RecordName::only(RecordKind::Decided);
        let stored = self.read(std::slice::from_ref(&name), &[]).await?.records;
        let StoredRecord { version, bytes } = stored.into_iter().next().unwrap_or(StoredRecord::ABSENT);
        let row = if version.is_present() { decode(&bytes)? } else { DecidedRow::default() };
        Ok((version, row))
    }

    /// What the leader says is kept, unless it does not lead any more.
    async fn say_decided(
        &self,
        session: RecordSession,
        leader: &Leader,
        version: Version,
        said: &DecidedRow,
    ) -> Result<(), LockError> {
        let bytes = encode(said).map_err(lock_error)?;
        let name = RecordName::only(RecordKind::Decided);
        let change = RecordChange { name, version, change: Change::Put(bytes) };
        let commit = Commit {
            alive: [Some(session), leader.lives()].into_iter().flatten().collect(),
            leader: Some(leader.version),
            server: None,
            units: vec![Unit { records: vec![change], hints: Vec::new() }],
        };
        match self.records.commit(&commit).await.map_err(lock_error)? {
            Committed::Dead(dead) if dead == session => Err(self.lost_session(dead)),
            Committed::Units { .. }
            | Committed::Dead(_)
            | Committed::LeaderMoved
            | Committed::OtherServer => Ok(()),
        }
    }
}
