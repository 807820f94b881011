//! Claims: who may run what.

use std::time::Duration;

use callsheet_actors::{
    FencingToken, Outcome, RunId,
    port::{BackfillId, ClaimRequest, LockError, Verdict},
};
use chrono::{DateTime, Utc};
use tokio_postgres::{Error, Row, Statement, types::ToSql};
use uuid::Uuid;

use super::{
    Asker, Statements,
    answer::{Answer, in_order, most_in_order, singly, term, token},
    authorities,
    pause::paused,
    pending_retries::{LOSSES_BOUND, PENDING_RETRIES_BOUND, debt, lost_run, owing},
    unless_none,
};

/// What a claim changes on a row (`n`): of its job (`d.job`), and of the job of a run that is lost by it
/// (`d.run_job`), which may be the same.
macro_rules! of_job {
    () => {
        "cursor = CASE
            WHEN n.name = d.job AND d.fire_time IS NOT NULL THEN d.fire_time
            WHEN n.name = d.run_job AND d.holder IS NOT NULL AND n.from_completion
                -- Rounded up: it is not before the end.
                THEN greatest(n.cursor, date_trunc('milliseconds', d.decided_at + interval '999 microseconds'))
            ELSE n.cursor
        END,
        cursor_run = CASE
            WHEN n.name = d.job AND d.fire_time IS NOT NULL THEN d.run
            WHEN n.name = d.run_job AND d.holder IS NOT NULL AND n.from_completion THEN NULL
            ELSE n.cursor_run
        END,
        runs = CASE WHEN n.name = d.job AND d.fire_time IS NOT NULL THEN n.runs + 1 ELSE n.runs END"
    };
}

/// The least token of a run that is granted: the time in microseconds, which is greater than any token that
/// was granted before by tables that were created again, or restored from before, since.
macro_rules! token {
    () => {
        "(date_part('epoch', d.decided_at) * 1e6)::int8"
    };
}

/// What is asked, once the leader row is locked.
macro_rules! asked {
    ($more:expr) => {
        concat!(
            "
WITH ",
            term!(terms: "$9", leaderless: "$10"),
            ", asked AS (
    SELECT unnest($4::text[]) AS job, unnest($5::text[]) AS key, unnest($6::uuid[]) AS run, unnest($7::timestamptz[]) AS fire_time,
           unnest($8::timestamptz[]) AS expected, unnest($9::int8[]) AS term, unnest($10::bool[]) AS unled,
           unnest($11::int8[]) AS runs_max",
            $more,
            ", generate_subscripts($4::text[], 1)::int8 AS ord
    -- The leader row is locked before any other.
    WHERE (SELECT count(*) FROM term) >= 0
)"
        )
    };
}

/// Who gets what, by a row that is locked (`f`).
macro_rules! verdict {
    (taken_up: $taken_up:expr, plainly: $plainly:literal, retaken: $retaken:literal, held: $held:expr) => {
        concat!(
            "CASE
            -- Asked again after a reply was lost.
            WHEN f.run = f.holder AND f.beacon = $2 THEN 'again'
",
            $taken_up,
            "            -- Granted to a session that is over: whoever takes over closes it.
            WHEN f.run = f.holder THEN 'granted before'
            -- It was granted before, and closed: only the debt says whether it goes on. Not EXISTS, which a plan made while the
            -- table was empty might answer from a hash of all of it.
            WHEN f.fire_time IS NULL",
            $plainly,
            " AND (
                SELECT true FROM runs r WHERE r.run = f.run LIMIT 1
            ) THEN 'granted before'
",
            $retaken,
            "            WHEN f.term IS NOT NULL
                 AND (f.term = (SELECT epoch FROM term) AND (SELECT expires_at FROM term) > clock_timestamp()) IS NOT TRUE
                THEN 'deposed'
            WHEN f.unled AND NOT f.withdrawn
                 AND f.job_term = (SELECT epoch FROM term) AND (SELECT expires_at FROM term) > clock_timestamp()
                THEN 'led'
            WHEN f.fire_time > clock_timestamp() THEN 'not yet'
            WHEN f.fire_time IS NOT NULL AND (f.withdrawn OR f.cursor IS NULL) THEN 'unknown'
            WHEN f.cursor = f.fire_time AND f.cursor_run IS NOT NULL AND f.cursor <> f.expected THEN 'already run'
            WHEN f.cursor <> f.expected THEN 'moved'
            WHEN f.fire_time IS NOT NULL AND f.paused AND coalesce(f.paused_until > clock_timestamp(), true) THEN 'paused'
            WHEN f.fire_time IS NOT NULL AND f.runs >= f.runs_max THEN 'exhausted'
            WHEN f.holder IS NULL THEN 'granted'
",
            $held,
            "
        END"
        )
    };
}

/// Whether the owners of keys are dead, each asked for once.
macro_rules! owners {
    ($held:literal) => {
        concat!(
            "owners AS MATERIALIZED (
    SELECT beacon, is_over($1, beacon) AS dead
    FROM (SELECT DISTINCT beacon FROM found WHERE ",
            $held,
            " AND beacon <> $2) AS others
)"
        )
    };
}

/// What becomes of a claim of a key that is held.
macro_rules! of_held {
    ($dead_owner:literal) => {
        concat!(
            "            WHEN (SELECT o.dead FROM owners o WHERE o.beacon = f.beacon) THEN '",
            $dead_owner,
            "'
            WHEN f.beacon = $2 THEN 'busy here'
            ELSE 'busy'"
        )
    };
}

/// Whoever takes up a lost run that somebody else has taken up, or that is not closed yet.
macro_rules! of_retaken {
    () => {
        "            WHEN f.run = f.holder AND f.retake THEN 'not granted'\n"
    };
}

/// A lost run that goes on names what it named before.
macro_rules! name_of_retaken {
    () => {
        ", named_fire_time = CASE WHEN d.retake THEN d.owed_named ELSE n.named_fire_time END,
        named_run = CASE WHEN d.retake THEN d.run ELSE n.named_run END"
    };
}

macro_rules! claim {
    (asked: $asked:expr, found: $found:expr, taken_up: $taken_up:expr, own: $own:literal, others: $others:literal,
     moved: $moved:expr, set: $set:expr, at: $at:literal, marked: $marked:literal, outcome: $outcome:expr) => {
        concat!(
            asked!($asked),
            ", ",
            $found,
            ", ",
            owners!("holder IS NOT NULL"),
            ", decided AS MATERIALIZED (
    -- One instant for a run that is lost and the one that takes its key: they do not overlap.
    SELECT f.*, clock_timestamp() AS decided_at,
        ",
            verdict!(
                taken_up: $taken_up,
                plainly: " AND f.retake IS NOT TRUE",
                retaken: "            WHEN f.retake AND (f.debt IS NULL OR f.withdrawn OR NOT f.retry_lost) THEN 'not granted'\n",
                held: of_held!("granted")
            ),
            " AS verdict
    FROM found f
), losing AS MATERIALIZED (
    -- Runs that are lost, whose jobs have rows of their own that move to their ends. One statement changes a row once.
    SELECT ord, run_job,
           row_number() OVER (PARTITION BY run_job ORDER BY ord) = 1 AND NOT run_job = ANY ($5::text[])",
            $others,
            " AS alone
    FROM decided d
    WHERE verdict = 'granted' AND holder IS NOT NULL AND run_job <> key",
            $own,
            "
      AND EXISTS (SELECT FROM names n WHERE n.name = d.run_job AND n.scope = CASE WHEN d.run_job IS NOT NULL THEN $1 END AND n.from_completion)
), elsewhere AS MATERIALIZED (
    SELECT l.ord, n.name
    FROM (SELECT * FROM losing WHERE alone ORDER BY run_job COLLATE \"C\") AS l
    CROSS JOIN LATERAL (
        SELECT name FROM names WHERE scope = $1 AND name = l.run_job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), barred AS MATERIALIZED (
    SELECT ord FROM losing EXCEPT SELECT ord FROM elsewhere
)",
            $moved,
            ", taken AS (
    UPDATE names n
    SET token = greatest(d.token + 1, d.owed_token + 1, ",
            token!(),
            "), run = d.run, beacon = $2, claimed_at = d.decided_at, run_node = $3,
        run_job = d.job, run_term = d.term, losses = coalesce(d.owed_losses, 0),
        fire_time = CASE WHEN d.retake THEN d.owed_fire_time ELSE d.fire_time END, ",
            $set,
            "
    FROM decided d
    WHERE d.verdict = 'granted' AND d.ord NOT IN (SELECT ord FROM barred) AND ",
            $at,
            "
    RETURNING d.*, n.token AS granted
), kept AS (
    UPDATE names n
    SET ",
            of_job!(),
            "
    FROM taken d JOIN elsewhere e ON e.ord = d.ord
    WHERE n.name = e.name AND n.scope = CASE WHEN e.name IS NOT NULL THEN $1 END
), settled AS (
    DELETE FROM debts o USING taken t WHERE o.ctid = t.debt
), lost AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT holder, token, claimed_at, decided_at, run_fire_time, run_term, run_node, $1, run_job, key, 'lost'
    FROM taken WHERE holder IS NOT NULL
)",
            $marked,
            owing!(
                from: "taken",
                numbers: "ord, granted",
                taken_up: "SELECT run FROM taken WHERE retake",
                losses_max: "$15",
                pending_retries_max: "$16"
            ),
            "
SELECT ord, 'granted' AS verdict, granted AS token, holder AS run, NULL::timestamptz AS cursor, NULL::int8 AS epoch,
    NULL::float8 AS wait, run_job AS lost_job, run_fire_time AS lost_fire_time, run_node AS lost_node,
    token AS lost_token,
    NULL::timestamptz AS paused_until, NULL AS pause_note, NULL AS outcome, ",
            debt!(channel: "$14", pending_retries_max: "$16"),
            "
FROM ranked WHERE NOT former
UNION ALL
SELECT ord, verdict, token, CASE verdict WHEN 'already run' THEN cursor_run ELSE holder END,
    coalesce(cursor, clock_timestamp()), (SELECT epoch FROM term),
    (extract(epoch FROM fire_time - clock_timestamp()) * 1e6)::float8, NULL, NULL, NULL, NULL, paused_until, pause_note, ",
            $outcome,
            ", NULL, NULL,
    CASE WHEN verdict LIKE 'busy%' AND replace THEN pg_notify($14::text, json_build_object('stop', json_build_object(
        'beacon', beacon, 'run', holder))::text)::text END
FROM decided WHERE verdict <> 'granted'"
        )
    };
}

/// Claims runs: each takes its tick, its key and the next token, or nothing. For claims whose rows are the
/// ones of their keys: ticks of jobs that have no other key, and manual triggers. Most claims are of this
/// kind, and one alone costs what is to be set up for it, so what is rarely needed is left to
/// [`CLAIM_FULLY`]: a key of a dead owner is not taken; the answer says that it needs a takeover.
///
/// Locks the leader row, or its epoch, until the commit (without it an old term's claim was committed after the
/// takeover), unless no claim cares who leads; then the rows of the keys in their order, skipping those that
/// are locked. Whoever holds the lock of a key's row decides alone about its owner: probing without it
/// granted keys that were held. A claim that is refused while the leader schedules the job looks for the mark
/// in the row that it has locked, where the leader's enrolment puts it, and for the term in the leader row
/// that it has locked, so that no renewal comes in between.
///
/// $1 scope, $2 own beacon, $3 node, then the claims, at most one per name: $4 jobs, $5 keys, $6 runs, $7
/// fire times (none for a manual trigger), $8 expected cursors, $9 terms, $10 whether only unless the leader
/// schedules the job, $11 how many ticks of the job may run in all (none: any number). Of what few claims
/// have, the arrays may be shorter.
///
/// Most claims are granted: those are one row, with the numbers of the claims and their tokens; each other
/// one is a row of its own.
pub(in super::super) const CLAIM: &str = concat!(
    asked!(""),
    ", found AS MATERIALIZED (
    SELECT f.ord, f.job, f.run, f.fire_time, f.term, f.token, f.place, f.cursor, f.cursor_run, f.holder, f.beacon,
        f.paused_until, f.pause_note, clock_timestamp() AS decided_at,
        ",
    verdict!(taken_up: "", plainly: "", retaken: "", held: "            -- It is held: by whom is looked at last.
            ELSE NULL"),
    " AS verdict
    FROM (
        SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until, n.pause_note,
               n.token, n.run AS holder, n.beacon, n.ctid AS place
        FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
        CROSS JOIN LATERAL (
            SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
        ) AS n
    ) AS f
), ",
    owners!("verdict IS NULL"),
    ", taken AS (
    UPDATE names n
    SET token = greatest(d.token + 1, ",
    token!(),
    "), run = d.run, beacon = $2, claimed_at = d.decided_at, run_node = $3,
        run_job = d.job, run_term = d.term, fire_time = d.fire_time, losses = 0,
        cursor = coalesce(d.fire_time, n.cursor),
        cursor_run = CASE WHEN d.fire_time IS NULL THEN n.cursor_run ELSE d.run END,
        runs = CASE WHEN d.fire_time IS NULL THEN n.runs ELSE n.runs + 1 END
    FROM found d WHERE d.verdict = 'granted' AND n.ctid = d.place
    RETURNING d.ord, n.token
)
SELECT NULL::int8 AS ord, 'granted' AS verdict, NULL::int8 AS token, NULL::uuid AS run, NULL::timestamptz AS cursor,
    NULL::int8 AS epoch, NULL::float8 AS wait, NULL AS lost_job, NULL::timestamptz AS paused_until, NULL AS pause_note,
    array_agg(ord) AS ords, array_agg(token) AS tokens
FROM taken
UNION ALL
SELECT ord, CASE
            WHEN verdict IS NOT NULL THEN verdict
",
    of_held!("needs takeover"),
    "
        END, token, CASE verdict WHEN 'already run' THEN cursor_run ELSE holder END, coalesce(cursor, clock_timestamp()),
    (SELECT epoch FROM term), (extract(epoch FROM fire_time - clock_timestamp()) * 1e6)::float8, NULL, paused_until, pause_note,
    NULL, NULL
FROM found f WHERE verdict IS DISTINCT FROM 'granted'"
);

/// The same with all that is rarely needed: keys are taken from dead owners, whose runs are closed as lost;
/// runs with a pending retry are resumed; holders are told to stop. Where a run of another job is lost, and
/// the cursor of that job moves to its end, its row is locked last; a claim is not granted without it.
///
/// A pending retry is locked after the row of its job, and goes with the grant. The lock is what decides:
/// this statement may see a pending retry that was resumed before it got the row of the job, but it cannot
/// lock it.
///
/// As for [`CLAIM`], and $12 whether a live holder of the key is told to stop, $13 whether it takes up a run
/// that the job owes; $14 the channel of the scope, $15 how often a run is lost that is retried no more, $16
/// the most pending retries of a job.
pub(in super::super) const CLAIM_FULLY: &str = claim!(
    asked: ", unnest($12::bool[]) AS replace, unnest($13::bool[]) AS retake",
    found: "found AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until,
           n.pause_note, n.retry_lost, o.place AS debt, o.fire_time AS owed_fire_time, o.losses AS owed_losses, o.token AS owed_token,
           o.named_fire_time AS owed_named, n.token, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term,
           n.fire_time AS run_fire_time, n.losses AS run_losses, n.ctid AS place,
           CASE WHEN n.named_run = n.run THEN n.named_fire_time END AS run_named
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
    LEFT JOIN LATERAL (
        SELECT ctid AS place, fire_time, losses, token, named_fire_time FROM debts
        WHERE a.retake AND scope = $1 AND run = a.run AND job = n.name FOR UPDATE SKIP LOCKED
    ) AS o ON true
)",
    taken_up: of_retaken!(),
    own: "",
    others: "",
    moved: "",
    set: concat!(of_job!(), name_of_retaken!()),
    at: "n.ctid = d.place",
    marked: "",
    outcome: "NULL"
);

/// The row of a job, which is locked first, and that of the key. The pending retry that is resumed.
macro_rules! found_with_key {
    () => {
        "job_rows AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until,
           n.pause_note, n.retry_lost, o.place AS debt, o.fire_time AS owed_fire_time, o.losses AS owed_losses, o.token AS owed_token,
           o.named_fire_time AS owed_named
    FROM (SELECT * FROM asked ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = a.job FOR UPDATE SKIP LOCKED) AS n
    LEFT JOIN LATERAL (
        SELECT ctid AS place, fire_time, losses, token, named_fire_time FROM debts
        WHERE a.retake AND scope = $1 AND run = a.run AND job = n.name FOR UPDATE SKIP LOCKED
    ) AS o ON true
), found AS MATERIALIZED (
    SELECT j.*, n.token, n.run AS holder, n.beacon, n.claimed_at,
           n.run_node, n.run_job, n.run_term, n.fire_time AS run_fire_time, n.losses AS run_losses,
           CASE WHEN n.named_run = n.run THEN n.named_fire_time END AS run_named
    FROM (SELECT * FROM job_rows ORDER BY key COLLATE \"C\") AS j
    CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = j.key FOR UPDATE SKIP LOCKED) AS n
)"
    };
}

/// The same as [`CLAIM_FULLY`] for ticks and pending retries of jobs that have another key than their name.
/// Locks the rows of the jobs, then those of the keys; it waits for neither, so that their order does not
/// matter.
pub(in super::super) const CLAIM_WITH_KEY: &str = claim!(
    asked: ", unnest($12::bool[]) AS replace, unnest($13::bool[]) AS retake",
    found: found_with_key!(),
    taken_up: of_retaken!(),
    own: " AND run_job <> job",
    others: " AND NOT run_job = ANY ($4::text[])",
    moved: concat!(
        ", moved AS (
    UPDATE names n
    SET ",
        of_job!(),
        "
    FROM decided d
    WHERE d.verdict = 'granted' AND d.ord NOT IN (SELECT ord FROM barred) AND n.name = d.job AND n.scope = CASE WHEN d.job IS NOT NULL THEN $1 END
)"
    ),
    set: concat!(of_job!(), name_of_retaken!()),
    at: "n.name = d.key AND n.scope = CASE WHEN d.key IS NOT NULL THEN $1 END",
    marked: "",
    outcome: "NULL"
);

mod named;

pub(in super::super) use self::named::{CLAIM_NAMED, RESUME_BACKFILLED};
pub(super) use of_job;

/// Which of the five statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Plain,
    Full,
    WithKey,
    Named,
    Resumed,
}

impl Kind {
    /// The least that a claim needs.
    pub(in super::super) fn of(request: &ClaimRequest) -> Self {
        let of_key_alone = request.tick.is_none() && !request.resume_lost;
        let own_key = of_key_alone || request.job.as_str() == request.key.as_str();
        match own_key {
            _ if request.resume_lost && of_backfill(request).is_some() => Self::Resumed,
            _ if of_key_alone && (request.named.is_some() || of_backfill(request).is_some()) => Self::Named,
            true if request.resume_lost || request.replace => Self::Full,
            true => Self::Plain,
            false => Self::WithKey,
        }
    }

    /// Its statement, or the text of one that is prepared when it is asked.
    pub(in super::super) fn statement(self, statements: &Statements) -> Result<&Statement, &'static str> {
        match self {
            Self::Plain => Ok(&statements.claim),
            Self::Full => Ok(&statements.claim_fully),
            Self::WithKey => Ok(&statements.claim_with_key),
            Self::Named => Err(CLAIM_NAMED),
            Self::Resumed => Err(RESUME_BACKFILLED),
        }
    }

    /// Reads what it answers.
    pub(in super::super) fn answers(
        self,
        count: usize,
        rows: &[Row],
    ) -> Result<Vec<Answer<Verdict>>, LockError> {
        match self {
            Self::Plain => claimed_plainly(count, rows),
            Self::Full | Self::WithKey | Self::Named | Self::Resumed => in_order(count, rows, claimed),
        }
    }

    /// Those that it takes are the first ones.
    pub(in super::super) fn takes<'a, 'b>(
        self,
        all: &'b [&'a (dyn ToSql + Sync)],
    ) -> &'b [&'a (dyn ToSql + Sync)] {
        match self {
            Self::Plain => &all[..11],
            Self::Full | Self::WithKey => &all[..16],
            Self::Named | Self::Resumed => all,
        }
    }
}

parameters! {
    /// What [`CLAIM_NAMED`] and [`RESUME_BACKFILLED`] are asked, and the other three of it: see [`Kind::takes`].
    struct Claims<'a> {
        scope: &'a str,
        beacon: i64,
        node: Uuid,
        jobs: Vec<&'a str>,
        keys: Vec<&'a str>,
        runs: Vec<Uuid>,
        fire_times: Vec<Option<DateTime<Utc>>>,
        expected: Vec<Option<DateTime<Utc>>>,
        terms: Vec<Option<i64>>,
        leaderless: Vec<bool>,
        runs_max: Vec<Option<i64>>,
        replace: Vec<Option<bool>>,
        resume_lost: Vec<Option<bool>>,
        channel: &'a str,
        losses_max: i32,
        pending_retries_max: i64,
        named: Vec<Option<DateTime<Utc>>>,
        backfills: Vec<Option<Uuid>>,
        nths: Vec<Option<i32>>,
    }
}

impl<'a> Claims<'a> {
    pub(in super::super) fn of(asker: Asker<'a>, requests: &[&'a ClaimRequest]) -> Self {
        let ticks = || requests.iter().map(|request| request.tick);
        let (terms, leaderless) = authorities(ticks().map(|tick| tick.map(|tick| tick.authority)));
        let limit = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        Self {
            scope: asker.scope,
            beacon: asker.beacon,
            node: asker.node,
            jobs: requests.iter().map(|request| request.job.as_str()).collect(),
            keys: requests.iter().map(|request| request.key.as_str()).collect(),
            runs: requests.iter().map(|request| request.run.as_uuid()).collect(),
            fire_times: ticks().map(|tick| tick.map(|tick| tick.fire_time.instant())).collect(),
            expected: ticks().map(|tick| tick.map(|tick| tick.expected)).collect(),
            terms,
            leaderless,
            runs_max: unless_none(requests.iter().map(|request| request.limit.map(limit))),
            replace: unless_none(requests.iter().map(|request| request.replace.then_some(true))),
            resume_lost: unless_none(requests.iter().map(|request| request.resume_lost.then_some(true))),
            channel: asker.channel,
            losses_max: LOSSES_BOUND,
            pending_retries_max: PENDING_RETRIES_BOUND,
            named: unless_none(requests.iter().map(|request| request.named.map(|at| at.instant()))),
            backfills: unless_none(requests.iter().map(|request| Some(of_backfill(request)?.0.as_uuid()))),
            nths: unless_none(requests.iter().map(|request| i32::try_from(of_backfill(request)?.1).ok())),
        }
    }
}

/// The backfill of which a run is asked for, and the number of its fire time.
fn of_backfill(request: &ClaimRequest) -> Option<(BackfillId, u32)> {
    BackfillId::of_run(request.run).filter(|_| request.tick.is_none())
}

words! {
    /// What became of a claim.
    Word {
        Granted = "granted",
        Again = "again",
        NotGranted = "not granted",
        GrantedBefore = "granted before",
        RanBefore = "ran before",
        AlreadyRun = "already run",
        Unknown = "unknown",
        Elsewhere = "moved",
        Busy = "busy",
        BusyHere = "busy here",
        Deposed = "deposed",
        HasLeader = "led",
        Paused = "paused",
        Exhausted = "exhausted",
        NotYet = "not yet",
        NeedsTakeover = "needs takeover",
    }
}

words! {
    /// How a run ended.
    Ended {
        Succeeded = "succeeded",
        Failed = "failed",
        Panicked = "panicked",
        TimedOut = "timed_out",
        Cancelled = "cancelled",
        Lost = "lost",
    }
}

impl Ended {
    fn outcome(self) -> Outcome {
        match self {
            Self::Succeeded => Outcome::Succeeded,
            Self::Failed => Outcome::Failed,
            Self::Panicked => Outcome::Panicked,
            Self::TimedOut => Outcome::TimedOut,
            Self::Cancelled => Outcome::Cancelled,
            Self::Lost => Outcome::Lost,
        }
    }
}

/// Reads what [`CLAIM`] answers: its first row says which claims were granted.
fn claimed_plainly(count: usize, rows: &[Row]) -> Result<Vec<Answer<Verdict>>, LockError> {
    let granted = |row: &Row| {
        let (ords, tokens): (Option<Vec<i64>>, Option<Vec<i64>>) =
            (row.try_get("ords")?, row.try_get("tokens")?);
        let (ords, tokens) = (ords.unwrap_or_default(), tokens.unwrap_or_default());
        let verdict = |token: i64| {
            singly(row, |row| {
                // A word that is not known says nothing.
                row.try_get::<_, Word>("verdict")?;
                Ok(Answer::Is(Verdict::Granted { token: FencingToken(token.unsigned_abs()), lost: None }))
            })
        };
        Ok(ords.into_iter().zip(tokens).map(|(ord, token)| (ord, verdict(token))).collect())
    };
    most_in_order(count, rows, granted, claimed)
}

/// Reads a row of any of the three that is of one claim.
fn claimed(row: &Row) -> Result<Answer<Verdict>, Error> {
    Ok(Answer::Is(match row.try_get("verdict")? {
        Word::NeedsTakeover => return Ok(Answer::NeedsTakeover),
        Word::Granted => {
            let lost = lost_run(row)?.map(Box::new);
            Verdict::Granted { token: token(row)?, lost }
        }
        Word::Again => Verdict::Granted { token: token(row)?, lost: None },
        Word::NotGranted => Verdict::NotGranted,
        Word::GrantedBefore => Verdict::GrantedBefore,
        Word::RanBefore => {
            let outcome: Option<Ended> = row.try_get("outcome")?;
            Verdict::RanBefore { outcome: outcome.map(Ended::outcome) }
        }
        Word::AlreadyRun => {
            let run: Uuid = row.try_get("run")?;
            Verdict::AlreadyRun { run: RunId::from(run), cursor: row.try_get("cursor")? }
        }
        Word::Unknown => Verdict::Unknown,
        Word::Elsewhere => Verdict::Elsewhere { cursor: row.try_get("cursor")? },
        Word::Busy => busy(row, false)?,
        Word::BusyHere => busy(row, true)?,
        Word::Deposed => Verdict::Deposed { term: term(row)? },
        Word::HasLeader => Verdict::HasLeader,
        Word::Paused => Verdict::Paused(paused(row)?),
        Word::Exhausted => Verdict::Exhausted,
        Word::NotYet => {
            let micros: f64 = row.try_get("wait")?;
            Verdict::NotYet { wait: Duration::try_from_secs_f64(micros / 1e6).unwrap_or_default() }
        }
    }))
}

fn busy(row: &Row, own: bool) -> Result<Verdict, Error> {
    let holder: Option<Uuid> = row.try_get("run")?;
    Ok(Verdict::Busy { holder: holder.map(RunId::from), own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_claim_is_known() {
        let texts = [CLAIM, CLAIM_FULLY, CLAIM_WITH_KEY, CLAIM_NAMED, RESUME_BACKFILLED];
        super::super::answer::assert_words(&texts, "verdict", Word::WORDS);
    }

    #[test]
    fn a_run_ended_as_it_is_written() {
        assert_eq!(Ended::WORDS, Outcome::ALL.map(Outcome::as_str));
    }
}
