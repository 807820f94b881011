//! The proof that a node could claim, while nothing is due.

use std::sync::Arc;

use callsheet_actors::port::{Decided, LockError, Proof, Proved};
use chrono::{DateTime, Utc};
use tokio_postgres::types::ToSql;

use super::{
    cure,
    session::OpenSession,
    statement::{answer::read, number},
};

fn decided(at: DateTime<Utc>, now: DateTime<Utc>) -> Decided {
    let mark = u64::try_from(at.timestamp_micros()).unwrap_or_default();
    Decided { mark, ago: (now - at).to_std().unwrap_or_default() }
}

impl OpenSession {
    /// Fails as a claim would.
    pub(super) async fn prove(self: &Arc<Self>, proof: Proof) -> Result<Proved, LockError> {
        let Proof { term, overdue_since, all_decided, catching_up_until } = proof;
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&self.settings.scope, &term.map(number), &overdue_since, &all_decided, &catching_up_until];
        let clocks = self.pulse.clocks();
        let rows = self.ask(&self.statements.prove, &parameters).await?;
        let recognised = read(&rows, |row| self.pulse.recognise(&clocks, row))?;
        if let Some(Err(stranger)) = recognised.into_iter().next() {
            let reason = stranger.reason();
            self.discard(&reason);
            return Err(LockError::SessionLost { reason });
        }
        let answers = read(&rows, |row| {
            let epoch: Option<i64> = row.try_get("epoch")?;
            let tells: Option<bool> = row.try_get("tells")?;
            let decided_at: Option<DateTime<Utc>> = row.try_get("decided_at")?;
            let now: DateTime<Utc> = row.try_get("now")?;
            // By default: nobody has said it yet.
            let decided = (tells == Some(true))
                .then(|| decided_at.map_or_else(Decided::default, |at| decided(at, now)));
            let proved = Proved::new(row.try_get("overdue_since")?, decided);
            let proved = proved.catching_up_until(row.try_get("catching_up_until")?);
            Ok((epoch, row.try_get("written")?, proved))
        })?;
        let (epoch, written, proved) = answers.into_iter().next().unwrap_or((None, false, Proved::default()));
        let denied = |reason| Err(LockError::NotDone { reason });
        if !written {
            denied(cure::dropped("write the row of a name"))
        } else if term.is_some() && epoch.is_none() {
            denied("the row of the leader cannot be seen; it was deleted, or row security hides it: find out which".to_owned())
        } else {
            Ok(proved)
        }
    }
}
