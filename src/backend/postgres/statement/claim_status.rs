//! What became of claims whose replies were lost.

use callsheet_actors::port::{ClaimRequest, Verdict};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{Asker, answer::token};

/// Which runs ($3) were granted: to the session of a beacon ($2), under their keys ($4), and not completed,
/// or to a session that is over. Locks nothing: while a former session of the node lives, an abandoned
/// statement of it may still be granted one ([`FORMER_SESSION_LIVES`]). $1 scope.
pub(in super::super) const CLAIM_STATUS: &str = "
SELECT a.run, n.beacon IS NOT DISTINCT FROM $2 AS own, coalesce(n.token, 0) AS token
FROM unnest($3::uuid[], $4::text[]) AS a (run, key)
LEFT JOIN LATERAL (
    SELECT beacon, token FROM names WHERE scope = $1 AND name = a.key AND run = a.run LIMIT 1
) AS n ON true
WHERE n.token IS NOT NULL OR (SELECT true FROM runs r WHERE r.run = a.run LIMIT 1)";

/// Whether a session of a node ($3) of a scope ($1), besides the own one ($2), lives: what it was asked may
/// still be done.
pub(in super::super) const FORMER_SESSION_LIVES: &str = "
SELECT coalesce(bool_or(NOT is_over($1, beacon)), false) AS lives
FROM sessions WHERE scope = $1 AND node = $3 AND beacon <> $2";

parameters! {
    /// What [`CLAIM_STATUS`] is asked.
    struct Granted<'a> {
        scope: &'a str,
        beacon: i64,
        runs: Vec<Uuid>,
        keys: Vec<&'a str>,
    }
}

parameters! {
    /// What [`FORMER_SESSION_LIVES`] is asked.
    struct FormerSession<'a> {
        scope: &'a str,
        beacon: i64,
        node: Uuid,
    }
}

impl<'a> Granted<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, requests: &[&'a ClaimRequest]) -> Self {
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            runs: requests.iter().map(|request| request.run.as_uuid()).collect(),
            keys: requests.iter().map(|request| request.key.as_str()).collect(),
        }
    }
}

impl<'a> FormerSession<'a> {
    pub(in super::super) fn of(asker: Asker<'a>) -> Self {
        Self { scope: asker.scope, beacon: asker.beacon, node: asker.node }
    }
}

/// Reads a row of [`CLAIM_STATUS`]: a run that was granted, and to whom.
pub(in super::super) fn granted(row: &Row) -> Result<(Uuid, Verdict), Error> {
    let (run, own, token) = (row.try_get("run")?, row.try_get("own")?, token(row)?);
    Ok((run, if own { Verdict::Granted { token, lost: None } } else { Verdict::GrantedBefore }))
}

/// Reads the row of [`FORMER_SESSION_LIVES`].
pub(in super::super) fn lives(row: &Row) -> Result<bool, Error> {
    row.try_get("lives")
}
