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

/// Locks and writes what a claim and an end lock and write, on a row that no job and no key can have: its
/// name is empty. One row of the scope, of which each version takes the place of the one before: no index is
/// touched.
///
/// What changes no row asks for the rights that its change would need, and for the table. Order of locks as
/// everywhere: the leader row, then the row of the name; whoever waits for that one holds nothing that its
/// holder waits for.
///
/// A leader leaves there since when a tick is due and not decided, which holds for the present term only, and
/// when it said last that all that was due is decided, which holds until a leader says so again. A leader of the
/// version before never says the latter: its session is not the one that `tells`.
///
/// It stands in for a heartbeat: so it looks at the server process, and reads the clock.
///
/// $1 scope, $2 the term of a leader, $3 since when a tick is overdue, $4 whether all is decided.
pub(super) const PROVE: &str = "
WITH lead AS MATERIALIZED (
    SELECT epoch, tells = beacon AS tells FROM leader WHERE scope = $1 FOR SHARE
), proved AS (
    INSERT INTO names AS n (scope, name, claimed_at, run_term, fire_time, decided_at)
    SELECT $1, '', clock_timestamp(), $2, $3,
           CASE WHEN $4 AND (SELECT epoch FROM lead) = $2 THEN clock_timestamp() END
    WHERE (SELECT count(*) FROM lead) >= 0
    ON CONFLICT (scope, name) DO UPDATE
    SET claimed_at = excluded.claimed_at,
        decided_at = coalesce(excluded.decided_at, n.decided_at),
        run_term = coalesce(excluded.run_term, n.run_term),
        fire_time = CASE WHEN excluded.run_term IS NULL THEN n.fire_time ELSE excluded.fire_time END
    RETURNING run_term, fire_time, decided_at
), ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, claimed_at, run_node, scope, name, name, name FROM names WHERE false
), owed AS (
    INSERT INTO debts (scope, run, job, losses, token) SELECT scope, run, job, 1, token FROM runs WHERE false
), settled AS (
    DELETE FROM debts WHERE false
)
SELECT epoch, EXISTS (SELECT FROM proved) AS written,
       (SELECT fire_time FROM proved WHERE run_term = epoch) AS overdue_since,
       (SELECT tells FROM lead) AS tells, (SELECT decided_at FROM proved) AS decided_at,
       pg_backend_pid() AS pid, clock_timestamp() AS now
FROM (SELECT (SELECT epoch FROM lead) AS epoch) AS l";

fn decided(at: DateTime<Utc>, now: DateTime<Utc>) -> Decided {
    let mark = u64::try_from(at.timestamp_micros()).unwrap_or_default();
    Decided { mark, ago: (now - at).to_std().unwrap_or_default() }
}

impl OpenSession {
    /// Fails as a claim would.
    pub(super) async fn prove(self: &Arc<Self>, proof: Proof) -> Result<Proved, LockError> {
        let Proof { term, overdue_since, all_decided } = proof;
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&self.settings.scope, &term.map(number), &overdue_since, &all_decided];
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
            // Before there was a leader there was nothing to say.
            let decided = (tells == Some(true))
                .then(|| decided_at.map_or_else(Decided::default, |at| decided(at, now)));
            Ok((epoch, row.try_get("written")?, Proved::new(row.try_get("overdue_since")?, decided)))
        })?;
        let (epoch, written, proved) = answers.into_iter().next().unwrap_or((None, false, Proved::default()));
        let denied = |reason| Err(LockError::NotDone { reason });
        if !written {
            denied(cure::dropped("write the row of a name"))
        } else if term.is_some() && epoch.is_none() {
            denied("the row of the leader is not to be seen; it was deleted, or row security hides it: find out which".to_owned())
        } else {
            Ok(proved)
        }
    }
}
