//! Claims of a leader, as nearly all of them are.

use callsheet_actors::{
    FencingToken, Term,
    port::{ClaimRequest, LockError, Verdict},
};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    Asker,
    answer::{Answer, placed, read},
    names::Place,
    number,
};

/// Claims ticks of jobs that this node leads and that have no other key than their name: nearly all claims of a
/// leader. Answers one row, with the numbers of those that were granted, their tokens, and the places of their
/// rows. Why another one was not is asked by [`CLAIM`](super::claim::CLAIM), which grants as well.
///
/// It locks what [`CLAIM`](super::claim::CLAIM) locks, in the same order, which is that of the names as they are given. Nothing is
/// decided before the row is locked, but for the term, whose epoch cannot change any more: where somebody has changed the row meanwhile, the server looks at it
/// again. What is said of a row is said by its change alone, so that no part of the statement is written down
/// for another one.
///
/// $1 scope, $2 own beacon, $3 node, $4 term, then the ticks, at most one per name, in the order of the names:
/// $5 names, $6 runs, $7 fire times, $8 expected cursors.
pub(in super::super) const CLAIM_AS_LEADER: &str = "
WITH term AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader WHERE scope = $1 FOR KEY SHARE
), taken AS (
    UPDATE names n
    SET token = greatest(n.token + 1, (date_part('epoch', clock_timestamp()) * 1e6)::int8), run = d.run, beacon = $2,
        claimed_at = clock_timestamp(), run_node = $3, run_job = n.name, run_term = $4, fire_time = d.fire_time, losses = 0,
        cursor = d.fire_time, cursor_run = d.run, runs = n.runs + 1
    FROM (
        SELECT a.ord, a.run, a.fire_time, l.place
        FROM (
            SELECT unnest($5::text[]) AS name, unnest($6::uuid[]) AS run, unnest($7::timestamptz[]) AS fire_time,
                   unnest($8::timestamptz[]) AS expected, generate_subscripts($5::text[], 1)::int8 AS ord
            -- The leader row is locked before any other.
            WHERE (SELECT count(*) FROM term WHERE epoch = $4 AND expires_at > clock_timestamp()) > 0
        ) AS a
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM names
            WHERE scope = $1 AND name = a.name AND run IS NULL AND cursor = a.expected AND NOT withdrawn
              AND NOT (paused AND coalesce(paused_until > clock_timestamp(), true)) AND a.fire_time <= clock_timestamp()
            FOR UPDATE SKIP LOCKED
        ) AS l
    ) AS d
    WHERE n.ctid = d.place
    RETURNING d.ord, n.token, n.ctid AS place
)
SELECT array_agg(ord) AS ords, array_agg(token) AS tokens, array_agg(place) AS places FROM taken";

parameters! {
    /// What [`CLAIM_AS_LEADER`] is asked.
    struct Ticks<'a> {
        scope: &'a str,
        beacon: i64,
        node: Uuid,
        term: i64,
        names: Vec<&'a str>,
        runs: Vec<Uuid>,
        fire_times: Vec<DateTime<Utc>>,
        expected: Vec<DateTime<Utc>>,
    }
}

/// The verdicts, and where the rows of the runs that were granted are.
type Answers = (Vec<Answer<Verdict>>, Vec<(Uuid, Place)>);

/// The term under which [`CLAIM_AS_LEADER`] claims this, if it does.
pub(in super::super) fn term(request: &ClaimRequest) -> Option<Term> {
    let tick = request.tick.filter(|_| request.job.as_str() == request.key.as_str())?;
    let more = request.recheck || request.replace || request.resume_lost || request.limit.is_some();
    tick.authority.term().filter(|_| !more)
}

impl<'a> Ticks<'a> {
    /// Of requests in the order of their names, all of them under this term.
    pub(in super::super) fn of(asker: Asker<'a>, term: Term, requests: &[&'a ClaimRequest]) -> Self {
        let ticks = || requests.iter().filter_map(|request| request.tick);
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            node: asker.node,
            term: number(term),
            names: requests.iter().map(|request| request.key.as_str()).collect(),
            runs: requests.iter().map(|request| request.run.as_uuid()).collect(),
            fire_times: ticks().map(|tick| tick.fire_time.instant()).collect(),
            expected: ticks().map(|tick| tick.expected).collect(),
        }
    }

    /// Reads what [`CLAIM_AS_LEADER`] answers.
    pub(in super::super) fn answers(&self, rows: &[Row]) -> Result<Answers, LockError> {
        let granted = read(rows, granted)?.into_iter().flatten().collect::<Vec<_>>();
        let run = |ord: i64| self.runs.get(usize::try_from(ord).ok()?.checked_sub(1)?).copied();
        let places = granted.iter().filter_map(|(ord, _, place)| Some((run(*ord)?, *place))).collect();
        let verdict = |token: i64| Verdict::Granted { token: FencingToken(token.unsigned_abs()), lost: None };
        let verdicts = granted.into_iter().map(|(ord, token, _)| (ord, Answer::Is(verdict(token))));
        Ok((placed(self.runs.len(), verdicts, || Answer::NotSaid)?, places))
    }
}

/// The numbers, the tokens and the places of what was granted.
fn granted(row: &Row) -> Result<Vec<(i64, i64, Place)>, Error> {
    let ords: Option<Vec<i64>> = row.try_get("ords")?;
    let tokens: Option<Vec<i64>> = row.try_get("tokens")?;
    let places: Option<Vec<Place>> = row.try_get("places")?;
    let tokens = tokens.unwrap_or_default().into_iter().zip(places.unwrap_or_default());
    Ok(ords
        .unwrap_or_default()
        .into_iter()
        .zip(tokens)
        .map(|(ord, (token, place))| (ord, token, place))
        .collect())
}
