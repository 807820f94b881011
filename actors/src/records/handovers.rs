//! What a leader leaves to the next one, in a record of its own: it is not kept beside claims, so that a renewal
//! conflicts with nothing.

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    elector::{RecordsElector, unavailable},
    format::{decode, encode},
};
use crate::{
    name::Term,
    port::{
        Change, Commit, Committed, ElectError, Elector, Handover, Handovers, RecordChange, RecordKind,
        RecordName, RecordSession, RecordsError, Renewal, StoredRecord, Unit, UnitAnswer, Version,
    },
};

/// How often a handover is written before it counts as not written: a former renewal of this node, which was not
/// answered, may come between.
const TRIES: usize = 3;

impl Handovers for RecordsElector {
    fn newest(&self) -> BoxFuture<'_, Result<Option<Handover>, ElectError>> {
        async move {
            let stored = self.stored().await.map_err(unavailable)?;
            let handover = stored.version.is_present().then(|| decode(&stored.bytes)).transpose();
            handover.map_err(unavailable)
        }
        .boxed()
    }

    fn leave<'a>(&'a self, term: Term, handover: &'a Handover) -> BoxFuture<'a, Result<Renewal, ElectError>> {
        async move {
            let Some(lives) = self.shared.own_term(term) else { return Ok(Renewal::Deposed) };
            let bytes = encode(handover).map_err(unavailable)?;
            for _ in 0..TRIES {
                match self.write(lives, &bytes).await.map_err(unavailable)? {
                    // Nothing is granted by it before it is known to be kept.
                    Some(true) => return self.renew(term).await,
                    Some(false) => {}
                    None => return Ok(Renewal::Deposed),
                }
            }
            let reason = "somebody else writes what this leader leaves".to_owned();
            Err(ElectError::Unavailable { reason })
        }
        .boxed()
    }
}

impl RecordsElector {
    async fn stored(&self) -> Result<StoredRecord, RecordsError> {
        let name = RecordName::only(RecordKind::Handover);
        let stored = self.shared.read(std::slice::from_ref(&name), &[]).await?.records;
        Ok(stored.into_iter().next().unwrap_or(StoredRecord::ABSENT))
    }

    /// Writes, as the leader whose term lives with a session, unless somebody else does at this moment: then
    /// `false`. `None`: the term is over.
    async fn write(&self, lives: RecordSession, bytes: &[u8]) -> Result<Option<bool>, RecordsError> {
        let leader = self.shared.ask_leader().await?;
        if leader.lives() != Some(lives) {
            return Ok(None);
        }
        let StoredRecord { version, .. } = self.stored().await?;
        let commit = guarded(lives, leader.version, version, bytes);
        match self.shared.records.commit(&commit).await? {
            Committed::Units { answers, time } => {
                self.shared.clock.heard(time);
                Ok(Some(matches!(answers.first(), Some(UnitAnswer::Made { .. }))))
            }
            Committed::Dead(_) | Committed::LeaderMoved | Committed::OtherServer => Ok(None),
        }
    }
}

fn guarded(lives: RecordSession, leader: Version, version: Version, bytes: &[u8]) -> Commit {
    let name = RecordName::only(RecordKind::Handover);
    let change = RecordChange { name, version, change: Change::Put(bytes.to_vec()) };
    Commit {
        alive: vec![lives],
        leader: Some(leader),
        server: None,
        units: vec![Unit { records: vec![change], hints: Vec::new() }],
    }
}
