//! Terms: a record that says who leads, and a session that lives as long as the term.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, timeout_at};

use super::{
    format::{Hint, LeaderRow, encode, encode_hint},
    shared::{Leader, Shared, lock},
};
use crate::{
    deadline,
    name::{NodeId, Term},
    port::{
        Campaign, Change, Commit, Committed, ElectError, Elector, Grant, Handovers, LockError, Observation,
        RecordChange, RecordKind, RecordName, RecordSession, RecordsError, Renewal, Unit, UnitAnswer,
    },
};

/// How often a candidate looks, in case it is not told.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct RecordsElector {
    pub(super) shared: Arc<Shared>,
}

impl Elector for RecordsElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move {
            let began = Instant::now();
            let until = deadline::after(began, patience);
            loop {
                // Before the look: what comes in between wakes it.
                let changed = self.shared.leader_changed.notified();
                let session = self.session()?;
                let asked_at = Instant::now();
                // Of terms that were not answered, too.
                self.shared.end_former().await.map_err(unavailable)?;
                let leader = self.shared.ask_leader().await.map_err(unavailable)?;
                if let Some(lives) = self.orphan(&leader) {
                    self.shared.end_term(lives).await.map_err(unavailable)?;
                    continue;
                }
                if !leader.alive {
                    let won = self.take_term(session, &leader).await?;
                    if let Some(term) = won {
                        let zones = leader.row.map(|row| row.zones).filter(|zones| !zones.is_empty());
                        return Ok(Campaign::Won(Grant {
                            term,
                            lease: Some(self.shared.terms()),
                            waited: asked_at - began,
                            former_zone_data: zones.map(Into::into),
                            undecided_from: None,
                        }));
                    }
                    continue;
                }
                let node = leader.row.map(|row| row.node);
                if Instant::now() >= until {
                    return Ok(Campaign::Lost { leader: node, retry_in: Duration::ZERO });
                }
                let look_at = deadline::after(Instant::now(), LOOK_EVERY).min(until);
                let _ = timeout_at(look_at, changed).await;
            }
        }
        .boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let stood = self.shared.stand(stands).await;
            stood.map_err(|error| ElectError::Unavailable { reason: error.to_string() })?;
            let (others, _) = self.shared.manifests().await.map_err(unavailable)?;
            let candidate = others.iter().any(|other| other.row.stands && other.row.node != self.shared.node);
            let leader = self.shared.ask_leader().await.map_err(unavailable)?;
            let leader = leader.row.filter(|_| leader.alive).map(|row| row.node);
            Ok(Observation { leader, candidate })
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        async move {
            let Some(lives) = self.shared.own_term(term) else { return Ok(Renewal::Deposed) };
            if self.shared.records.renew(lives).await.map_err(unavailable)? {
                // A store that lost what it had written may have another leader of that number.
                let leader = self.shared.ask_leader().await.map_err(unavailable)?;
                if leader.lives() == Some(lives) {
                    return Ok(Renewal::Renewed);
                }
            }
            self.shared.term_may_be_over(lives);
            self.drop_term(term);
            // One that lives on leads nobody. It ends by itself otherwise.
            let _ = self.shared.end_former().await;
            Ok(Renewal::Deposed)
        }
        .boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        async move {
            // What fails is done before the next campaign.
            self.drop_term(term);
            self.shared.end_former().await.map_err(unavailable)
        }
        .boxed()
    }

    fn handovers(&self) -> Option<&dyn Handovers> {
        Some(self)
    }
}

impl RecordsElector {
    fn session(&self) -> Result<RecordSession, ElectError> {
        self.shared.session().map_err(|error| ElectError::Unavailable { reason: error.to_string() })
    }

    /// The session of a term of this node that the node does not hold.
    fn orphan(&self, leader: &Leader) -> Option<RecordSession> {
        let row = leader.row.as_ref().filter(|row| row.node == self.shared.node)?;
        leader.lives().filter(|lives| self.shared.own_term(Term(row.term)) != Some(*lives))
    }

    /// The node holds a term no more, and has to end its session.
    fn drop_term(&self, Term(term): Term) {
        let dropped =
            lock(&self.shared.own).as_mut().and_then(|own| own.term.take_if(|(own, _)| *own == term));
        if let Some((_, lives)) = dropped {
            self.shared.owe_end(lives);
        }
    }

    /// Takes the term after one that is over, unless somebody else is faster.
    async fn take_term(&self, session: RecordSession, former: &Leader) -> Result<Option<Term>, ElectError> {
        let shared = &self.shared;
        let lives = shared.records.open(shared.lease).await.map_err(unavailable)?;
        shared.owe_end(lives);
        let node: NodeId = shared.node;
        let row =
            LeaderRow { term: former.term().0 + 1, node, lives: lives.0, zones: shared.zones().to_string() };
        let bytes = encode(&row).map_err(unavailable)?;
        let name = RecordName::only(RecordKind::Leader);
        let change = RecordChange { name, version: former.version, change: Change::Put(bytes) };
        let hints = encode_hint(&Hint::Leader).into_iter().collect();
        let commit = Commit {
            alive: vec![session, lives],
            leader: Some(former.version),
            server: None,
            units: vec![Unit { records: vec![change], hints }],
        };
        let committed = shared.records.commit(&commit).await;
        if let Ok(Committed::Units { answers, time }) = &committed
            && let Some(UnitAnswer::Made { versions }) = answers.first()
            && let Some(version) = versions.first()
        {
            shared.clock.heard(*time);
            let term = row.term;
            shared.set_leader(Some(Leader { version: *version, row: Some(row), alive: true }));
            let mut own = lock(&shared.own);
            if let Some(own) = own.as_mut().filter(|own| own.session == session)
                && shared.keep_session(lives)
            {
                own.term = Some((term, lives));
                return Ok(Some(Term(term)));
            }
        }
        // Whatever became of it, the term is over.
        let ended = shared.end_former().await;
        match committed {
            Ok(Committed::Dead(dead)) if dead == session => {
                let LockError::SessionLost { reason } = shared.lost_session(dead) else { return Ok(None) };
                Err(ElectError::Unavailable { reason })
            }
            Ok(_) => ended.map_err(unavailable).map(|()| None),
            Err(error) => Err(unavailable(error)),
        }
    }
}

impl Shared {
    /// Ends the session of a term, and tells the others.
    pub(super) async fn end_term(&self, lives: RecordSession) -> Result<(), RecordsError> {
        self.records.end(lives).await?;
        self.term_may_be_over(lives);
        let hints = encode_hint(&Hint::Leader).into_iter().collect();
        let commit = Commit { units: vec![Unit { records: Vec::new(), hints }], ..Commit::default() };
        // A hint only: candidates look now and then.
        let _ = self.records.commit(&commit).await;
        Ok(())
    }
}

pub(super) fn unavailable(error: RecordsError) -> ElectError {
    ElectError::Unavailable { reason: error.to_string() }
}
