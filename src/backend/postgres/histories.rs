//! Whether this server knows what a node was granted before, perhaps by another one: a standby that is
//! promoted may lack the last commits of its primary, and goes on with another history of the same terms and
//! tokens.

use std::{sync::Arc, time::Duration};

use callsheet_actors::{
    RunId, Term,
    port::{DivergedRun, Divergence, GrantedRun, KnownHistory, LockError},
};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use super::{
    session::OpenSession,
    statement::{answer::read, number},
};

/// How many runs that ended, of all scopes, are looked at: the newest ones. It bounds what is read.
const NEWER_MAX: i64 = 10_000;

/// How long the server may look: the claims of this session wait for it.
const COMPARE_MAX: Duration = Duration::from_millis(250);

/// What this server does not know of the runs of a node, and its epoch if that is lower than a term that the
/// node was granted. Locks nothing.
///
/// Tokens of a key only grow, also when it is forgotten: a greater one than the newest was granted elsewhere.
/// So was one that another run has, and a tick that another run has. A run that is missing is neither open
/// nor ended. Those that ended since the oldest of them are looked at: their ids grow with time, and no index
/// begins with the scope. What belongs together is found by grouping, since nothing is joined by a hash.
///
/// $1 scope, $2 the newest term, then the runs: $3 jobs, $4 keys, $5 runs, $6 tokens, $7 fire times; $8 how
/// many that ended. A run may have several rows.
pub(super) const COMPARE: &str = "
WITH lead AS MATERIALIZED (
    SELECT epoch, token_bound FROM leader WHERE scope = $1
), asked AS MATERIALIZED (
    SELECT * FROM unnest($3::text[], $4::text[], $5::uuid[], $6::int8[], $7::timestamptz[])
    WITH ORDINALITY AS a (job, key, run, token, fire_time, ord)
), compared AS MATERIALIZED (
    SELECT a.ord, a.job COLLATE \"C\" AS job, a.key COLLATE \"C\" AS key, a.run, a.token, a.fire_time,
           coalesce(n.token, (SELECT token_bound FROM lead), 0) < a.token AS unknown,
           n.run IS DISTINCT FROM a.run AND r.run IS NULL AS missing,
           CASE WHEN n.token = a.token AND n.run <> a.run THEN n.run END AS token_also,
           CASE WHEN j.cursor = a.fire_time AND j.cursor_run <> a.run THEN j.cursor_run END AS tick_also
    FROM asked a
    LEFT JOIN LATERAL (SELECT token, run FROM names WHERE scope = $1 AND name = a.key LIMIT 1) AS n ON true
    LEFT JOIN LATERAL (SELECT cursor, cursor_run FROM names WHERE scope = $1 AND name = a.job LIMIT 1) AS j ON true
    LEFT JOIN LATERAL (SELECT run FROM runs WHERE run = a.run LIMIT 1) AS r ON true
), newer AS MATERIALIZED (
    SELECT run, token, scope, job, key, fire_time FROM runs
    WHERE run >= (SELECT run FROM compared WHERE missing ORDER BY run LIMIT 1)
    ORDER BY run DESC LIMIT $8
)
SELECT ord, unknown, missing, token_also, tick_also, NULL::int8 AS epoch FROM compared
WHERE unknown OR missing OR token_also IS NOT NULL OR tick_also IS NOT NULL
UNION ALL
SELECT max(ord), false, true, (array_agg(run) FILTER (WHERE ord IS NULL))[1], NULL, NULL
FROM (
    SELECT ord, key, token, run FROM compared WHERE missing
    UNION ALL
    SELECT NULL, key, token, run FROM newer WHERE scope = $1
) AS of_tokens
GROUP BY key, token HAVING count(ord) BETWEEN 1 AND count(*) - 1
UNION ALL
SELECT max(ord), false, true, NULL, (array_agg(run) FILTER (WHERE ord IS NULL))[1], NULL
FROM (
    SELECT ord, job, fire_time, run FROM compared WHERE missing AND fire_time IS NOT NULL
    UNION ALL
    SELECT NULL, job, fire_time, run FROM newer WHERE scope = $1 AND fire_time IS NOT NULL
) AS of_ticks
GROUP BY job, fire_time HAVING count(ord) BETWEEN 1 AND count(*) - 1
UNION ALL
SELECT NULL, false, false, NULL, NULL, coalesce((SELECT epoch FROM lead), 0)
WHERE coalesce((SELECT epoch FROM lead), 0) < $2";

/// What the server says of one run.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    unknown: bool,
    missing: bool,
    token_also: Option<RunId>,
    tick_also: Option<RunId>,
}

impl Compared {
    /// Whether it was granted by another history.
    fn is_elsewhere(&self) -> bool {
        self.unknown || self.token_also.is_some() || self.tick_also.is_some()
    }

    fn add(&mut self, other: Self) {
        self.unknown |= other.unknown;
        self.missing |= other.missing;
        self.token_also = self.token_also.or(other.token_also);
        self.tick_also = self.tick_also.or(other.tick_also);
    }
}

/// The runs that the server does not know. A server that was promoted lacks the last commits, so it lacks no
/// run that was granted before the oldest of another history. By itself a missing run shows nothing: rows of
/// runs may be deleted.
fn diverged(runs: &[GrantedRun], compared: &[Compared]) -> Vec<DivergedRun> {
    let lacking = runs.iter().zip(compared).skip_while(|(_, compared)| !compared.is_elsewhere());
    let lacking = lacking.filter(|(_, compared)| compared.is_elsewhere() || compared.missing);
    let named = lacking.map(|(granted, compared)| {
        let mut unknown = DivergedRun::new(granted);
        (unknown.token_also, unknown.tick_also) = (compared.token_also, compared.tick_also);
        unknown
    });
    named.collect()
}

/// One row: the place of the run, what is said of it, and the epoch.
fn said(row: &Row) -> Result<(Option<usize>, Compared, Option<Term>), Error> {
    let run = |column| row.try_get::<_, Option<Uuid>>(column).map(|run| run.map(RunId::from));
    let compared = Compared {
        unknown: row.try_get("unknown")?,
        missing: row.try_get("missing")?,
        token_also: run("token_also")?,
        tick_also: run("tick_also")?,
    };
    let (ord, epoch): (Option<i64>, Option<i64>) = (row.try_get("ord")?, row.try_get("epoch")?);
    let place = ord.and_then(|ord| usize::try_from(ord - 1).ok());
    Ok((place, compared, epoch.map(|epoch| Term(epoch.unsigned_abs()))))
}

impl OpenSession {
    pub(super) async fn compare(self: &Arc<Self>, known: &KnownHistory) -> Result<Divergence, LockError> {
        let KnownHistory { term, runs } = known;
        let jobs: Vec<_> = runs.iter().map(|run| run.job.as_str()).collect();
        let keys: Vec<_> = runs.iter().map(|run| run.key.as_str()).collect();
        let ids: Vec<_> = runs.iter().map(|run| run.run.as_uuid()).collect();
        let tokens: Vec<_> = runs.iter().map(|run| i64::try_from(run.token.0).unwrap_or(-1)).collect();
        let fire_times: Vec<_> = runs.iter().map(|run| run.fire_time.map(|at| at.instant())).collect();
        let (scope, term) = (&self.settings.scope, term.map(number));
        let parameters: [&(dyn ToSql + Sync); 8] =
            [scope, &term, &jobs, &keys, &ids, &tokens, &fire_times, &NEWER_MAX];
        let rows = self.ask_within(COMPARE_MAX, &self.statements.compare, &parameters).await?;
        let (mut compared, mut epoch) = (vec![Compared::default(); runs.len()], None);
        for (place, of_run, newest) in read(&rows, said)? {
            epoch = epoch.or(newest);
            if let Some(before) = place.and_then(|place| compared.get_mut(place)) {
                before.add(of_run);
            }
        }
        Ok(Divergence { term: epoch, runs: diverged(runs, &compared) })
    }
}
