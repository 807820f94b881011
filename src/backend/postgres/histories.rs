//! Whether this server knows what a node was granted before, perhaps by another one: a standby that is
//! promoted may lack the last commits of its primary, and goes on with another history of the same terms and
//! tokens.

use std::sync::Arc;

use callsheet_actors::{
    RunId, Term,
    port::{DivergedRun, Divergence, KnownHistory, LockError},
};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    failure,
    session::OpenSession,
    statement::{answer::read, number},
};

/// How many runs that ended since the oldest of the node's own are looked at.
const NEWER_MAX: i64 = 20_000;

/// Which of the runs of a node this server does not know, and its epoch if that is lower than a term that the
/// node was granted. Locks nothing, and is asked once by a session that is opened anew.
///
/// Tokens of a key only grow, also when it is forgotten: a greater one than the newest was granted elsewhere.
/// So was one that another run has, and a tick that another run has. If there is any of these, so was a run
/// that is neither open nor ended; by itself that shows nothing, since rows of runs may be deleted. Of runs
/// that ended only some are looked at, the oldest first: their ids grow with time.
///
/// $1 scope, $2 the newest term, then the runs: $3 jobs, $4 keys, $5 runs, $6 tokens, $7 fire times; $8 how
/// many that ended.
const COMPARE: &str = "
WITH lead AS MATERIALIZED (
    SELECT epoch, token_bound FROM leader WHERE scope = $1
), asked AS MATERIALIZED (
    SELECT * FROM unnest($3::text[], $4::text[], $5::uuid[], $6::int8[], $7::timestamptz[])
    WITH ORDINALITY AS a (job, key, run, token, fire_time, ord)
), newer AS MATERIALIZED (
    SELECT run, token, job, key, fire_time FROM runs
    WHERE run >= (SELECT run FROM asked ORDER BY run LIMIT 1) AND scope = $1
    ORDER BY run LIMIT $8
), compared AS (
    SELECT a.ord, coalesce(n.token, (SELECT token_bound FROM lead), 0) < a.token AS unknown,
           n.run IS DISTINCT FROM a.run AND NOT EXISTS (SELECT FROM runs r WHERE r.run = a.run) AS missing,
           coalesce(
               CASE WHEN n.token = a.token AND n.run <> a.run THEN n.run END,
               (SELECT r.run FROM newer r WHERE r.key = a.key AND r.token = a.token AND r.run <> a.run LIMIT 1)
           ) AS token_also,
           coalesce(
               CASE WHEN j.cursor = a.fire_time AND j.cursor_run <> a.run THEN j.cursor_run END,
               (SELECT r.run FROM newer r WHERE r.job = a.job AND r.fire_time = a.fire_time AND r.run <> a.run LIMIT 1)
           ) AS tick_also
    FROM asked a
    LEFT JOIN names n ON n.scope = $1 AND n.name = a.key
    LEFT JOIN names j ON j.scope = $1 AND j.name = a.job
), shown AS (
    SELECT *, unknown OR token_also IS NOT NULL OR tick_also IS NOT NULL AS elsewhere FROM compared
)
SELECT ord, token_also, tick_also, NULL::int8 AS epoch FROM shown
WHERE elsewhere OR (missing AND (SELECT bool_or(elsewhere) FROM shown))
UNION ALL
SELECT NULL, NULL, NULL, coalesce((SELECT epoch FROM lead), 0) WHERE coalesce((SELECT epoch FROM lead), 0) < $2
ORDER BY ord";

impl OpenSession {
    pub(super) async fn compare(self: &Arc<Self>, known: &KnownHistory) -> Result<Divergence, LockError> {
        let KnownHistory { term, runs } = known;
        let statement = self.observer().prepare(COMPARE).await.map_err(|error| failure::not_done(&error))?;
        let jobs: Vec<_> = runs.iter().map(|run| run.job.as_str()).collect();
        let keys: Vec<_> = runs.iter().map(|run| run.key.as_str()).collect();
        let ids: Vec<_> = runs.iter().map(|run| run.run.as_uuid()).collect();
        let tokens: Vec<_> = runs.iter().map(|run| i64::try_from(run.token.0).unwrap_or(-1)).collect();
        let fire_times: Vec<_> = runs.iter().map(|run| run.fire_time.map(|at| at.instant())).collect();
        let (scope, term) = (&self.settings.scope, term.map(number));
        let parameters: [&(dyn ToSql + Sync); 8] =
            [scope, &term, &jobs, &keys, &ids, &tokens, &fire_times, &NEWER_MAX];
        let rows = self.ask_in_time(&statement, &parameters).await?;
        let run = |row: &Row, column| row.try_get::<_, Option<Uuid>>(column).map(|run| run.map(RunId::from));
        let found = read(&rows, |row| {
            let ord: Option<i64> = row.try_get("ord")?;
            let epoch: Option<i64> = row.try_get("epoch")?;
            Ok((ord, epoch, run(row, "token_also")?, run(row, "tick_also")?))
        })?;
        let mut divergence = Divergence::default();
        for (ord, epoch, token_also, tick_also) in found {
            divergence.term = divergence.term.or(epoch.map(|epoch| Term(epoch.unsigned_abs())));
            let place = ord.and_then(|ord| usize::try_from(ord - 1).ok());
            if let Some(granted) = place.and_then(|at| runs.get(at)) {
                let mut unknown = DivergedRun::new(granted);
                (unknown.token_also, unknown.tick_also) = (token_also, tick_also);
                divergence.runs.push(unknown);
            }
        }
        Ok(divergence)
    }
}
