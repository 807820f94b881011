//! Every statement, what it locks, and why.
//!
//! Order of locks, the same everywhere: the leader row, then rows of names in their order, then debts. Only the leader row is
//! waited for, for `lock_timeout`, and a name that somebody else is just making; a row of a name that somebody else has locked
//! is skipped and asked for again, because overlapping batches of three nodes deadlocked otherwise. A skipped row is missing
//! in the answer: [`LOOK_UP`] says whether it is there at all. A debt that somebody else has locked is as good as settled. So
//! only names that are not there are inserted: `ON CONFLICT` waits for whoever is changing the row that is there, however many
//! rows this statement has locked already. One exception: the row of a job that is to be paused, and was skipped several
//! times, is waited for by a statement that locks no other ([`PAUSE_IN_TURN`]), so that nobody can wait for what it holds.
//!
//! What concerns a key locks its row `FOR UPDATE`, what concerns only a job's cursor `FOR NO KEY UPDATE`: so an application
//! that guards its writes with the key (`FOR KEY SHARE`) keeps others from the key, and nobody from the cursor.
//!
//! Liveness of an owner: dead if nobody holds the advisory lock of its beacon, or somebody who did not register it: the function
//! `is_over` of the schema. One's own beacon is never probed: the lock is
//! re-entrant, so a session would take itself for dead and steal from itself. The probe is *shared*, or two probers would
//! each take the other's probe for the owner. A key is free while its row has no run; the beacon of its last owner stays, so that a
//! claim and an end change no column of an index: then a new version of the row costs no entry in any (a "HOT" update).
//!
//! Plans are made once, perhaps while the tables are empty, and must stay good. So rows are looked up one by one in the order
//! of their names, by `LATERAL` queries that lock and therefore cannot be turned round: a plain join read every name of the
//! scope for each batch. And nothing is joined but what is asked with rows that an index or a place finds: a join of two
//! parts of a statement would become a nested loop (60 ms for a batch of 512).
//!
//! `READ COMMITTED` is taken for granted: a row that was locked is read again as it is then. What changes one row only finds
//! it again by its place (`ctid`), not by a second look into the index. If somebody changed the row after this statement
//! began and before it was locked, the statement does not see what is at that place and changes nothing. So nothing is
//! granted or recorded but what the change itself returns, and such a row is missing in the answer as one that is locked.

/// Whether this server can coordinate: its version, whether it is a standby, whether it is read-only, whether it took the
/// settings of the connection (by one that only this connection has, $1 with the value $2, and its schema $3), which of some ($4) have other
/// values than these ($5), how texts are encoded in the database and on the way there, its process; and its clock. Sets how many
/// milliseconds ($6) a transaction may take, if the server knows that.
pub(super) const INSPECT: &str = "
SELECT current_setting('server_version_num')::int4 AS version,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only') = 'on' AS read_only,
       coalesce(current_setting($1, true) = $2, false) AND current_setting('search_path') = $3 AS configured,
       ARRAY(SELECT s.name FROM unnest($4::text[], $5::text[]) AS asked (name, value) JOIN pg_settings s USING (name)
             WHERE s.setting <> asked.value ORDER BY s.name) AS overridden,
       CASE WHEN current_setting('server_version_num')::int4 >= 170000
            THEN set_config('transaction_timeout', $6, false) ELSE $6 END AS transaction_timeout,
       getdatabaseencoding()::text AS encoding,
       pg_client_encoding()::text AS client_encoding,
       pg_backend_pid() AS pid,
       coalesce(a.application_name, '') AS name, a.backend_start AS started,
       clock_timestamp() AS now
FROM pg_stat_get_activity(pg_backend_pid()) AS a";

/// What this role may do with the tables ($2) and routines ($4) of a schema ($1); from some tables ($3) it deletes. No
/// row: there is no such schema.
pub(super) const RIGHTS: &str = "
SELECT has_schema_privilege(n.oid, 'USAGE') AS usable,
       ARRAY(SELECT name FROM unnest($2::text[]) AS asked (name)
             WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = name)
             UNION ALL
             SELECT name FROM unnest($4::text[]) AS asked (name)
             WHERE NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = name)) AS missing,
       ARRAY(SELECT c.relname::text FROM pg_class c
             WHERE c.relnamespace = n.oid AND c.relname = ANY ($2)
               AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                        AND has_table_privilege(c.oid, 'UPDATE')
                        AND (c.relname <> ALL ($3) OR has_table_privilege(c.oid, 'DELETE')))
             ORDER BY c.relname) AS lacking,
       ARRAY(SELECT p.proname::text FROM pg_proc p
             WHERE p.pronamespace = n.oid AND p.proname = ANY ($4) AND NOT has_function_privilege(p.oid, 'EXECUTE')
             ORDER BY p.proname) AS uncallable
FROM pg_namespace n WHERE n.nspname = $1";

/// Hears the news of a channel.
pub(super) fn listen(channel: &str) -> String {
    format!("LISTEN {}", quoted(channel))
}

/// Whether the beacon ($1) of the node's session burns on this server as well: two connections to one name may reach two
/// servers.
pub(super) const SEES_BEACON: &str = "SELECT NOT pg_try_advisory_xact_lock_shared($1) AS seen";

/// Whether there is a table ($2) in a schema ($1) that this role may read.
pub(super) const READABLE: &str = "
SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')";

/// The newest step that was taken.
pub(super) const NEWEST_STEP: &str =
    "SELECT version, coalesce(name, '') AS name FROM migrations ORDER BY version DESC LIMIT 1";

/// The lock that serialises migrations of one schema ($1), for which `lock_timeout` is waited.
pub(super) const MIGRATION_LOCK: &str =
    "SELECT pg_advisory_lock(hashtextextended('callsheet migration ' || $1, 0))";

/// Who holds the lock of migrations of a schema ($1); a prepared transaction has no process.
pub(super) const MIGRATION_LOCK_HOLDER: &str = "
SELECT coalesce(l.pid, 0) AS pid, coalesce(pg_get_userbyid(a.usesysid)::text, '') AS role,
       coalesce(a.application_name, '') AS application
FROM pg_locks l LEFT JOIN LATERAL pg_stat_get_activity(coalesce(l.pid, 0)) AS a ON true
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::int8 << 32 | l.objid::int8 = hashtextextended('callsheet migration ' || $1, 0)
LIMIT 1";

/// Waits for the leadership of a schema ($1) and scope ($2) while the term is $3, at most $4 times `lock_timeout`. Answers whether the
/// lock was had and, if not, who leads. One statement for a procedure of many transactions: each has a snapshot of its own, which is
/// never older than `lock_timeout`, and the server's log holds no error for a lock that was not had.
pub(super) const WAIT_FOR_LEADERSHIP: &str = "
CALL wait_for_leadership(hashtextextended('callsheet leader ' || $1 || '/' || $2, 0), $2, $4, $3, NULL, NULL)";

/// Gives the leadership up, however often the lock was had: a wait that times out while the lock is granted has it all the same.
pub(super) const FREE_LEADERSHIP: &str = "SELECT pg_advisory_unlock_all()";

/// Waits, for `lock_timeout`, until the session that holds the term of a scope ($1) ends, unless it is the own one (beacon $2).
pub(super) const WAIT_FOR_HOLDER: &str = "
SELECT pg_advisory_xact_lock_shared(beacon) FROM leader
WHERE scope = $1 AND beacon <> $2 AND expires_at > clock_timestamp()";

/// Raises the epoch, whoever has the leadership lock. Locks the leader row for update: claims of the old term, which
/// hold it for share, are committed before, or wait and then read the new epoch.
///
/// An epoch is at least the time in milliseconds: greater than any that was granted before the table was made anew, or
/// restored from before.
///
/// $1 scope, $2 own beacon, $3 node, $4 lease in milliseconds, $5 the version of its time zone data. No row: a term that is not over belongs to a live session.
pub(super) const GRANT: &str = "
INSERT INTO leader AS l (scope, epoch, node, beacon, granted_at, expires_at, zone_data)
VALUES ($1, (date_part('epoch', clock_timestamp()) * 1e3)::int8, $3, $2, clock_timestamp(), clock_timestamp() + $4::float8 * interval '1 millisecond', $5)
ON CONFLICT (scope) DO UPDATE
SET epoch = greatest(l.epoch + 1, excluded.epoch),
    node = excluded.node,
    beacon = excluded.beacon,
    granted_at = clock_timestamp(),
    expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond',
    zone_data = excluded.zone_data
WHERE l.expires_at <= clock_timestamp()
   OR CASE WHEN l.beacon = $2 THEN true ELSE is_over($1, l.beacon) END
RETURNING l.epoch, pg_is_in_recovery() AS standby,
    -- As it was when the statement began. Who led in between, without the leadership lock, is passed over.
    (SELECT former.zone_data FROM leader former WHERE former.scope = $1) AS former_zone_data";

/// Extends a term that is not over. $1 scope, $2 own beacon, $3 term, $4 lease in milliseconds.
pub(super) const RENEW: &str = "
UPDATE leader
SET expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond'
WHERE scope = $1 AND beacon = $2 AND epoch = $3 AND expires_at > clock_timestamp()
RETURNING pg_is_in_recovery() AS standby";

/// Ends a term. $1 scope, $2 own beacon, $3 term.
pub(super) const RESIGN: &str = "
UPDATE leader SET expires_at = '-infinity' WHERE scope = $1 AND beacon = $2 AND epoch = $3 RETURNING epoch";

/// What the leader row says, whoever leads. $1 scope, $2 own beacon.
pub(super) const STANDING: &str = "
SELECT epoch, beacon = $2 AS own, expires_at > clock_timestamp() AS lasts FROM leader WHERE scope = $1";

/// Who leads, and for how many more milliseconds. $1 scope.
pub(super) const LEADER: &str = "
SELECT node, greatest(0, extract(epoch FROM expires_at - clock_timestamp()) * 1000)::float8 AS remaining
FROM leader WHERE scope = $1 AND expires_at > clock_timestamp()";

/// Takes the leadership lock of a schema ($1) and scope ($2) if nobody has it.
pub(super) const TRY_LEADERSHIP: &str = "
SELECT pg_try_advisory_lock(hashtextextended('callsheet leader ' || $1 || '/' || $2, 0)) AS acquired";

/// Who has the leadership lock of a schema ($1) and scope ($2) in the way of this connection. Of another role's connection it may not be
/// known when it last did something: then it is how long it has had the lock that counts. $3 own lease in milliseconds.
pub(super) const LOCK_HOLDERS: &str = "
SELECT l.pid AS holder, l.classid::int8 << 32 | l.objid::int8 AS beacon, NULL::text AS transaction,
       pg_get_userbyid(a.usesysid)::text AS role,
       a.application_name AS application, true AS may_end, $3::float8 AS lease, coalesce(a.state_change::text, '') AS mark,
       a.query_start::text AS changed,
       (extract(epoch FROM clock_timestamp() - a.state_change) * 1e3)::float8 AS quiet
FROM pg_locks l CROSS JOIN LATERAL pg_stat_get_activity(l.pid) AS a
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::int8 << 32 | l.objid::int8 = hashtextextended('callsheet leader ' || $1 || '/' || $2, 0)
  AND l.pid <> pg_backend_pid()";

/// The transactions that keep another process ($1) waiting, and wait for nobody themselves; a prepared one has no process.
///
/// One of a node may be silent for the lease of its session: it is told by its beacon, a leader's second connection by
/// its lock ($2 schema, $3 scope). Any other one may be silent for $4 milliseconds, and is not ended while it works: it
/// begins and ends statements, it copies, or what it waits for is not a word of its client.
pub(super) const BLOCKERS: &str = "
WITH RECURSIVE chain (pid) AS (
    SELECT unnest(pg_blocking_pids($1)) UNION SELECT unnest(pg_blocking_pids(c.pid)) FROM chain c WHERE c.pid <> 0
)
SELECT c.pid AS holder, NULL::int8 AS beacon, t.virtualtransaction AS transaction,
       pg_get_userbyid(a.usesysid)::text AS role, a.application_name AS application,
       -- Of what it does, the state is shown or nothing.
       CASE WHEN s.lease IS NOT NULL OR o.lease IS NOT NULL THEN true WHEN a.state IS NOT NULL THEN w.waits END AS may_end,
       coalesce((extract(epoch FROM coalesce(s.lease, o.lease)) * 1e3)::float8, $4::float8) AS lease,
       concat_ws(' ', t.virtualtransaction, a.state_change, w.waits, p.bytes_processed, p.tuples_processed) AS mark,
       a.state_change::text AS changed,
       (extract(epoch FROM clock_timestamp() - a.state_change) * 1e3)::float8 AS quiet
FROM chain c
LEFT JOIN LATERAL (SELECT * FROM pg_stat_get_activity(nullif(c.pid, 0)) WHERE pid = c.pid) AS a ON true
LEFT JOIN LATERAL (
    SELECT virtualtransaction FROM pg_locks WHERE locktype = 'virtualxid' AND pid = c.pid AND granted LIMIT 1
) AS t ON true
CROSS JOIN LATERAL (
    SELECT a.state LIKE 'idle in transaction%' OR coalesce(a.wait_event = 'ClientRead', false) AS waits
) AS w
LEFT JOIN pg_stat_progress_copy p ON p.pid = c.pid
LEFT JOIN LATERAL (
    SELECT n.lease FROM sessions n
    WHERE n.scope = $3 AND n.pid = c.pid AND n.role = a.usesysid AND EXISTS (
        SELECT FROM pg_locks k
        WHERE k.pid = c.pid AND k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
          AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND k.classid::int8 << 32 | k.objid::int8 = n.beacon
    )
    LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT n.lease
    FROM leader l JOIN sessions n ON n.scope = l.scope AND n.beacon = l.beacon AND n.role = a.usesysid
    WHERE l.scope = $3 AND EXISTS (
        SELECT FROM pg_locks k
        WHERE k.pid = c.pid AND k.locktype = 'advisory' AND k.objsubid = 1 AND k.granted
          AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND k.classid::int8 << 32 | k.objid::int8 = hashtextextended('callsheet leader ' || $2 || '/' || $3, 0)
    )
) AS o ON true
WHERE NOT EXISTS (SELECT FROM unnest(pg_blocking_pids(nullif(c.pid, 0))))";

/// Ends the connection of a process ($1) that is still in a transaction ($2), and has done nothing since ($3) it was looked at.
pub(super) const EVICT_TRANSACTION: &str = "
SELECT pg_terminate_backend(pid) AS ended FROM pg_locks
WHERE pid = $1 AND locktype = 'virtualxid' AND granted AND virtualtransaction = $2
  AND EXISTS (SELECT FROM pg_stat_get_activity($1) AS a WHERE a.state_change::text IS NOT DISTINCT FROM $3)";

/// Ends the connection of a process ($1) that still holds a lock ($2), and was asked nothing since ($3) it was looked at: the id may have
/// been given to another one.
pub(super) const EVICT: &str = "
SELECT pg_terminate_backend(pid) AS ended FROM pg_locks
WHERE pid = $1 AND classid::int8 << 32 | objid::int8 = $2
  AND locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND EXISTS (SELECT FROM pg_stat_get_activity($1) AS a WHERE a.query_start::text IS NOT DISTINCT FROM $3)";

/// Who leads, to tell whether a declaration of a policy stands. Whoever decides by it locks the row for share: a renewal under way may
/// keep a term that seems to be over.
macro_rules! lead {
    ($lock:literal) => {
        concat!(
            "lead AS MATERIALIZED (
    SELECT epoch, beacon, expires_at, age, token_bound, cursor_bound FROM leader WHERE scope = $1 ",
            $lock,
            "
)"
        )
    };
}

/// Forgives what jobs owe ($jobs: by their names), whose rows are locked. What somebody else has locked is dropped just now.
macro_rules! forgive {
    ($jobs:literal) => {
        concat!(
            "
    DELETE FROM debts WHERE ctid = ANY (ARRAY(
        SELECT d.place
        FROM (",
            $jobs,
            ") AS f (job)
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM debts WHERE scope = $1 AND job = f.job FOR UPDATE SKIP LOCKED
        ) AS d
    ))"
        )
    };
}

/// Whether the declarations of a key (`declared`, `declared_term`, `declared_by`, of rows `f` that are locked, by whoever asks with a policy
/// `overlap`, perhaps under a `term`) contradict it, and which other sessions that live declare a policy. Each is probed once.
macro_rules! judged {
    (found: $found:literal, own: $own:literal) => {
        concat!(
            "declarers AS MATERIALIZED (
    SELECT beacon, is_over($1, beacon) AS dead
    FROM (SELECT DISTINCT unnest(declared_by) AS beacon FROM ",
            $found,
            ") AS d WHERE beacon <> ",
            $own,
            "
), judged AS MATERIALIZED (
    SELECT f.*, coalesce(o.others, '{}') AS others, coalesce(f.declared <> f.overlap, false) AND (
        o.others IS NOT NULL
        -- The first term of all may have just begun.
        OR coalesce(f.declared_term IS DISTINCT FROM f.term AND (
            f.declared_term > coalesce(l.epoch, 0) OR (f.declared_term = l.epoch AND l.expires_at > clock_timestamp() AND l.beacon <> ",
            $own,
            ")
        ), false)
    ) AS conflicts,
    coalesce(f.declared_term = l.epoch AND l.beacon = ",
            $own,
            ", false) AS own_term
    FROM ",
            $found,
            " f LEFT JOIN lead l ON true
    CROSS JOIN LATERAL (
        SELECT array_agg(beacon) AS others FROM declarers
        WHERE f.declared_by IS NOT NULL AND NOT dead AND beacon = ANY (f.declared_by)
    ) AS o
)"
        )
    };
}

/// What an enrolment changes of the declarations of a key on its row (`n`), as it was judged (`j`). Who is contradicted declares
/// nothing any more. Sessions that are dead are left out, so that there are never more than nodes.
macro_rules! declares {
    (alone: $alone:literal, own: $own:literal) => {
        concat!(
            "overlap = CASE WHEN j.conflicts THEN n.overlap ELSE j.overlap END,
        declared_term = CASE
            WHEN NOT j.conflicts THEN coalesce(j.term, n.declared_term)
            WHEN NOT j.own_term THEN n.declared_term
        END,
        declared_by = nullif(j.others || CASE
            WHEN NOT j.conflicts AND (",
            $alone,
            " OR coalesce(",
            $own,
            " = ANY (n.declared_by), false)) THEN ARRAY[",
            $own,
            "]
            ELSE '{}'
        END, '{}')"
        )
    };
}

/// Declares the policies of keys that are not the names of their jobs, before these are enrolled. Locks the leader row for share and
/// the rows of the keys in their order, skipping those that are locked: that is all that decides. A job that the leader schedules declares nothing. Answers
/// what contradicts.
///
/// $1 scope, $2 own beacon, then the enrolments, whose rows there are: $3 jobs, $4 keys, $5 policies, $6 terms, $7 whether only unless
/// the leader schedules the job. All are of one node, which sees to it that those with one key have one policy.
pub(super) const DECLARE: &str = concat!(
    "
WITH ",
    lead!("FOR SHARE"),
    ", asked AS MATERIALIZED (
    SELECT a.key, (array_agg(a.overlap ORDER BY a.ord))[1] AS overlap, max(a.term) AS term, bool_or(a.term IS NULL) AS alone
    FROM unnest($3::text[], $4::text[], $5::text[], $6::int8[], $7::bool[])
         WITH ORDINALITY AS a (job, key, overlap, term, unled, ord)
    LEFT JOIN lead l ON true
    LEFT JOIN LATERAL (
        SELECT withdrawn, term FROM names WHERE scope = $1 AND name = a.job LIMIT 1
    ) AS n ON a.unled
    WHERE CASE WHEN a.term IS NULL THEN (a.unled AND l.expires_at > clock_timestamp() AND NOT n.withdrawn AND n.term = l.epoch) IS NOT TRUE
          ELSE l.expires_at > clock_timestamp() AND a.term = l.epoch END
    GROUP BY a.key
), found AS MATERIALIZED (
    SELECT a.*, n.overlap AS declared, n.declared_term, n.declared_by, n.ctid AS place
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), ",
    judged!(found: "found", own: "$2"),
    ", declared AS (
    UPDATE names n
    SET ",
    declares!(alone: "j.alone", own: "$2"),
    "
    FROM judged j WHERE n.ctid = j.place
)
SELECT key, declared FROM judged WHERE conflicts"
);

/// Which policies contradict those ($5) that jobs ($3) are to have for their keys ($4), in their order, as it stands now: of others than the
/// own session ($2) of a scope ($1), unless one is the leader and schedules the job. Locks nothing.
pub(super) const CONFLICTS: &str = concat!(
    "
WITH ",
    lead!(""),
    ", found AS MATERIALIZED (
    SELECT a.*, NULL::int8 AS term, k.overlap AS declared, k.declared_term, k.declared_by,
           l.expires_at > clock_timestamp() AND k.declared_term = l.epoch AND n.term = l.epoch AND NOT n.withdrawn AS led
    FROM unnest($3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS a (job, key, overlap, ord)
    LEFT JOIN lead l ON l.beacon <> $2
    LEFT JOIN LATERAL (
        SELECT overlap, declared_term, declared_by FROM names WHERE scope = $1 AND name = a.key LIMIT 1
    ) AS k ON true
    LEFT JOIN LATERAL (SELECT withdrawn, term FROM names WHERE scope = $1 AND name = a.job LIMIT 1) AS n ON true
), ",
    judged!(found: "found", own: "$2"),
    "
SELECT CASE WHEN conflicts AND led IS NOT TRUE THEN declared END AS declared FROM judged ORDER BY ord"
);

/// Takes back what a session ($2) of a scope ($1), or its term, declares of keys ($3). Those that are locked are missing in the answer.
pub(super) const RETRACT: &str = concat!(
    "
WITH ",
    lead!(""),
    ", found AS MATERIALIZED (
    SELECT n.name, n.ctid AS place, coalesce(n.declared_term = l.epoch AND l.beacon = $2, false) AS own_term,
           coalesce($2 = ANY (n.declared_by), false) AS declares
    FROM (SELECT * FROM unnest($3::text[]) AS a (key) ORDER BY key COLLATE \"C\") AS a
    LEFT JOIN lead l ON true
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), retracted AS (
    UPDATE names n
    SET declared_by = nullif(array_remove(n.declared_by, $2), '{}'),
        declared_term = CASE WHEN f.own_term THEN NULL ELSE n.declared_term END
    FROM found f WHERE (f.own_term OR f.declares) AND n.ctid = f.place
    RETURNING n.name
)
SELECT name FROM retracted
UNION ALL SELECT name FROM found WHERE NOT (own_term OR declares)
UNION ALL
SELECT key FROM unnest($3::text[]) AS a (key) WHERE NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = a.key)"
);

/// That a stored identity of a schedule and another one are known to be two rules: those of different
/// versions never are. The version is what stands before the colon, in any version.
macro_rules! differs {
    ($stored:literal, $other:literal) => {
        concat!(
            "(",
            $stored,
            " <> ",
            $other,
            " AND split_part(",
            $stored,
            ", ':', 1) = split_part(",
            $other,
            ", ':', 1))"
        )
    };
}

/// Enrols jobs, and marks them with the term of those who have one. The leader row is locked for share: a newer term cannot begin,
/// nor the present one be renewed, until this is committed. Jobs whose rows are locked are missing in the answer.
///
/// $1 scope, $2 jobs (each once), $3 the identities of their schedules, $4 terms, $5 whether only unless the
/// leader schedules it, $6 whether lost runs are owed, $7 whether the cursor moves to their ends, $8 for how
/// many milliseconds they have been held, $9 own beacon, $10 the policies of their keys, $11 the keys that
/// are not their names: their policies were declared by [`DECLARE`] just before, $12 the most that a job
/// owes, $13 what the node believes that this server's clock read when it was asked. Of what few jobs have, the arrays may be shorter. The policy that contradicts stands in the place of
/// the note.
pub(super) const ENROL: &str = concat!(
    "
WITH ",
    lead!("FOR SHARE"),
    ", asked AS MATERIALIZED (
    SELECT a.job, a.schedule, a.term, a.unled, l.epoch,
           coalesce(a.retry_lost, false) AS retry_lost, coalesce(a.from_completion, false) AS from_completion,
           a.held_for * interval '1 millisecond'
               -- What the way here took.
               + least(greatest(statement_timestamp() - $13::timestamptz, interval '0'), interval '5 s') AS held_for,
           a.overlap, a.key,
           coalesce(l.expires_at > clock_timestamp(), false) AS led
    FROM unnest($2::text[], $3::text[], $4::int8[], $5::bool[], $6::bool[], $7::bool[], $8::float8[],
                $10::text[], $11::text[])
         AS a (job, schedule, term, unled, retry_lost, from_completion, held_for, overlap, key)
    LEFT JOIN lead l ON true
), entitled AS MATERIALIZED (
    SELECT a.*, a.key IS NULL OR coalesce(
        k.overlap = a.overlap AND (coalesce(k.declared_term = a.term, false) OR $9 = ANY (k.declared_by)), false
    ) AS may
    FROM asked a
    LEFT JOIN LATERAL (
        SELECT overlap, declared_term, declared_by FROM names WHERE scope = $1 AND name = a.key LIMIT 1
    ) AS k ON a.key IS NOT NULL
    WHERE a.term IS NULL OR (a.led AND a.term = a.epoch)
), found AS MATERIALIZED (
    -- A new or changed job owes ticks only since it is so.
    SELECT a.job, a.schedule, a.term, a.retry_lost, a.from_completion, a.held_for, a.key, a.overlap, a.may, n.ctid AS place,
           CASE WHEN a.key IS NULL THEN n.overlap END AS declared, n.declared_term,
           CASE WHEN a.key IS NULL THEN n.declared_by END AS declared_by,
           n.cursor IS NULL OR n.withdrawn OR coalesce(",
    differs!("n.schedule", "a.schedule"),
    ", true) AS anew,
           n.withdrawn OR (n.retry_lost AND NOT a.retry_lost) AS forgives,
           -- The leader's own enrolment locks the same row: it is seen here, or comes later.
           a.unled AND a.led AND NOT n.withdrawn AND coalesce(n.term = a.epoch, false) AS refused
    FROM (SELECT * FROM entitled ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), ", judged!(found: "found", own: "$9"), ", contradicted AS (
    -- Followers that hold the job may fire it.
    UPDATE names n
    SET term = nullif(n.term, j.term),
        declared_term = CASE WHEN j.key IS NOT NULL OR NOT j.own_term THEN n.declared_term END,
        declared_by = CASE WHEN j.key IS NOT NULL THEN n.declared_by ELSE nullif(j.others, '{}') END
    FROM judged j WHERE (j.conflicts OR NOT j.may) AND NOT j.refused AND n.ctid = j.place
    RETURNING n.name, j.declared, j.conflicts
), marked AS (
    UPDATE names n
    SET term = CASE WHEN f.anew THEN f.term ELSE coalesce(f.term, n.term) END,
        schedule = f.schedule,
        withdrawn = false,
        -- A copy that was held before the last tick is the same job; one that was added later begins anew.
        runs = CASE WHEN n.withdrawn AND statement_timestamp() - f.held_for > n.cursor THEN 0 ELSE n.runs END,
        failures = CASE WHEN n.withdrawn THEN 0 ELSE n.failures END,
        retry_lost = f.retry_lost,
        from_completion = f.from_completion,
        -- It never goes back. What this statement waits is not counted in how long the job was held.
        cursor = CASE
            WHEN f.anew THEN greatest(n.cursor, statement_timestamp() - f.held_for, (SELECT cursor_bound FROM lead))
            ELSE n.cursor
        END,
        -- Not each time: the column is in an index.
        held_age = CASE
            WHEN n.withdrawn OR n.held_age < (SELECT age FROM lead) - 300000 THEN coalesce((SELECT age FROM lead), n.held_age)
            ELSE n.held_age
        END,
        cursor_run = CASE WHEN f.anew THEN NULL ELSE n.cursor_run END,
        overlap = CASE WHEN f.key IS NULL THEN f.overlap ELSE n.overlap END,
        declared_term = CASE WHEN f.key IS NULL THEN coalesce(f.term, n.declared_term) ELSE n.declared_term END,
        declared_by = CASE
            WHEN f.key IS NOT NULL THEN n.declared_by
            WHEN f.term IS NOT NULL AND n.declared_by IS NULL THEN NULL
            WHEN f.term IS NULL OR $9 = ANY (n.declared_by) THEN f.others || $9::int8
            ELSE nullif(f.others, '{}')
        END
    FROM judged f WHERE f.may AND NOT f.conflicts AND NOT f.refused AND n.ctid = f.place
    RETURNING n.name, n.cursor, n.paused AND coalesce(n.paused_until > clock_timestamp(), true) AS paused,
              n.paused_until, n.pause_note, n.failures, n.retry_lost AND NOT f.forgives AS owes, f.forgives
), forgiven AS (",
    // Not of a job whose row was changed since this statement began: it is not enrolled.
    forgive!("SELECT name FROM marked WHERE forgives"),
    "
), made AS (
    INSERT INTO names (scope, name, token, held_age, cursor, schedule, term, retry_lost, from_completion, overlap, declared_term, declared_by)
    SELECT $1, job, coalesce((SELECT token_bound FROM lead), 0), coalesce((SELECT age FROM lead), 0),
           greatest(statement_timestamp() - held_for, (SELECT cursor_bound FROM lead)), schedule, term, retry_lost, from_completion,
           CASE WHEN key IS NULL THEN overlap END, CASE WHEN key IS NULL THEN term END,
           CASE WHEN key IS NULL AND term IS NULL THEN ARRAY[$9] END
    FROM entitled e WHERE may AND NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = e.job) ORDER BY job
    ON CONFLICT DO NOTHING
    RETURNING name, cursor
)
SELECT name AS job, 'done' AS answer, cursor, NULL::int8 AS epoch, paused, paused_until, pause_note, failures,
    CASE WHEN owes THEN (
        SELECT json_agg(json_build_object('run', run, 'fire_time', fire_time, 'losses', losses) ORDER BY run)::text
        FROM (
            SELECT run, fire_time, losses FROM debts WHERE scope = $1 AND job = m.name ORDER BY run DESC LIMIT $12
        ) AS d
    ) END AS owed
FROM marked m
UNION ALL SELECT name, 'done', cursor, NULL, false, NULL, NULL, 0, NULL FROM made
UNION ALL SELECT name, 'conflict', NULL, NULL, NULL, NULL, declared, NULL, NULL FROM contradicted WHERE conflicts
UNION ALL SELECT name, 'undeclared', NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM contradicted WHERE NOT conflicts
UNION ALL SELECT job, 'undeclared', NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM entitled e WHERE NOT may AND NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = e.job)
UNION ALL SELECT job, 'led', NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM found WHERE refused
UNION ALL SELECT job, 'deposed', NULL, epoch, NULL, NULL, NULL, NULL, NULL
FROM asked WHERE (led AND term = epoch) IS NOT TRUE AND term IS NOT NULL"
);

/// What the leader does with jobs, as it stands now. Locks nothing. $1 scope, $2 jobs, $3 the identities of
/// their schedules.
pub(super) const INQUIRE: &str = concat!(
    "
SELECT CASE
    WHEN l.scope IS NULL THEN 'no leader'
    WHEN n.withdrawn OR n.term IS DISTINCT FROM l.epoch THEN 'not held'
    WHEN ",
    differs!("n.schedule", "a.schedule"),
    " THEN 'other schedule'
    ELSE 'scheduled'
END AS standing
FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS a (job, schedule, ord)
LEFT JOIN leader l ON l.scope = $1 AND l.expires_at > clock_timestamp()
LEFT JOIN names n ON n.scope = $1 AND n.name = a.job
ORDER BY a.ord"
);

/// Says that jobs ($2) of a scope ($1) were removed by the leader of a term ($3) that is not over. Locks the leader row for share until the
/// commit. Jobs whose rows are locked stay as they are.
pub(super) const WITHDRAW: &str = concat!(
    "
WITH term AS MATERIALIZED (
    SELECT epoch FROM leader WHERE scope = $1 AND epoch = $3 AND expires_at > clock_timestamp() FOR SHARE
), found AS MATERIALIZED (
    SELECT n.name, n.retry_lost
    FROM (
        SELECT * FROM unnest($2::text[]) AS a (job) WHERE EXISTS (SELECT FROM term) ORDER BY job COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job AND NOT withdrawn FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), forgiven AS (",
    forgive!("SELECT name FROM found WHERE retry_lost"),
    "
)
UPDATE names n SET withdrawn = true, held_age = coalesce((SELECT age FROM leader WHERE scope = $1), n.held_age), beacon = CASE WHEN n.run IS NULL THEN NULL ELSE n.beacon END
FROM found f WHERE n.scope = $1 AND n.name = f.name"
);

/// Pauses or resumes jobs, and tells it. A claim of one of their ticks, which locks the row as well, is granted before or not at
/// all.
macro_rules! pause {
    (locked: $locked:literal) => {
        concat!(
            "
WITH asked AS MATERIALIZED (
    SELECT job, $3::bool AND coalesce($4::timestamptz > clock_timestamp(), true) AS pauses FROM unnest($2::text[]) AS a (job)
), found AS MATERIALIZED (
    SELECT a.job, a.pauses,
           CASE
               WHEN n.paused AND coalesce(n.paused_until > clock_timestamp(), true)
                   THEN NOT a.pauses OR (n.paused_until, n.pause_note) IS DISTINCT FROM ($4::timestamptz, $5::text)
               ELSE a.pauses
           END AS changes
    FROM (SELECT * FROM asked ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE",
            $locked,
            "
    ) AS n
), changed AS (
    UPDATE names n
    SET paused = f.pauses,
        paused_until = CASE WHEN f.pauses THEN $4::timestamptz END,
        pause_note = CASE WHEN f.pauses THEN $5::text END,
        failures = CASE WHEN f.pauses THEN n.failures ELSE 0 END
    FROM found f WHERE f.changes AND n.scope = $1 AND n.name = f.job
    RETURNING n.name, n.paused
), made AS (
    INSERT INTO names (scope, name, token, held_age, paused, paused_until, pause_note)
    SELECT $1, job, coalesce(l.token_bound, 0), coalesce(l.age, 0), true, $4::timestamptz, $5::text
    FROM asked a LEFT JOIN leader l ON l.scope = $1
    WHERE pauses AND NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = a.job) ORDER BY job
    ON CONFLICT DO NOTHING
    RETURNING name, paused
)
SELECT name AS job, true AS changed,
       pg_notify($7::text, json_build_object('pause', json_build_object(
           'job', name, 'pause', CASE WHEN paused THEN $6::text::json END))::text)::text AS told
FROM (SELECT * FROM changed UNION ALL SELECT * FROM made) AS c
UNION ALL SELECT job, false, NULL FROM found WHERE NOT changes
UNION ALL SELECT job, false, NULL FROM asked a
WHERE NOT pauses AND NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = a.job)"
        )
    };
}

/// Pauses or resumes jobs. Locks their rows in the order of their names; those that are locked are missing in the answer.
///
/// $1 scope, $2 jobs (each once), $3 whether to pause, $4 until when (none: until resumed), $5 the note, $6 all that as JSON,
/// $7 the channel of the scope.
pub(super) const PAUSE: &str = pause!(locked: " SKIP LOCKED");

/// The same for one job, whose row it waits for, for `lock_timeout`, holding no other: so a pause gets its turn among claims and
/// ends that hardly ever leave the row alone. What its session asks meanwhile waits as well.
pub(super) const PAUSE_IN_TURN: &str = pause!(locked: "");

/// Makes the rows of keys ($2) that were never claimed before, or were forgotten, in their order.
pub(super) const MAKE_KEYS: &str = "
INSERT INTO names (scope, name, token, held_age)
SELECT $1, key, coalesce(l.token_bound, 0), coalesce(l.age, 0)
FROM unnest($2::text[]) AS a (key) LEFT JOIN leader l ON l.scope = $1
WHERE NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = a.key) ORDER BY key
ON CONFLICT DO NOTHING";

/// Opens a transaction for what is asked in one round.
pub(super) const BEGIN: &str = "BEGIN";

/// Limits, until the end of the transaction, how many milliseconds ($1) a statement may take.
pub(super) const LIMIT_TIME: &str = "SELECT set_config('statement_timeout', $1, true)";

/// Commits a round, or says that it was undone.
pub(super) const COMMIT: &str = "COMMIT";

/// Why a row was missing in an answer: whether there is one, whether a job has it, and which run of a live session holds
/// the key, as committed last. Locks nothing.
///
/// $1 scope, $2 own beacon, $3 names.
pub(super) const LOOK_UP: &str = "
SELECT a.ord, n.name IS NOT NULL AS found, n.cursor,
       CASE
           WHEN n.run IS NULL THEN NULL
           WHEN n.beacon = $2 OR NOT is_over($1, n.beacon) THEN n.run
       END AS holder
FROM unnest($3::text[]) WITH ORDINALITY AS a (name, ord) LEFT JOIN names n ON n.scope = $1 AND n.name = a.name";

/// What a claim changes on a row (`n`): of its job (`d.job`), and of the job of a run that is lost by it (`d.run_job`), which may
/// be the same.
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

/// What is owed because of runs that were closed as lost ($from). Of all that a job owes then, the oldest runs beyond the bound
/// are dropped; one that somebody else is just taking up is left to them. The rows of the jobs are read without a lock: one
/// that is withdrawn, or enrolled to record its losses, at this very moment may be left with a debt, which no claim takes up
/// for as long as it stays so.
macro_rules! owing {
    (from: $from:literal, numbers: $numbers:literal, taken_up: $taken_up:literal, losses_max: $losses_max:literal, debts_max: $debts_max:literal) => {
        concat!(
            ", owing AS MATERIALIZED (
    SELECT l.*, l.holder IS NOT NULL AND l.run_losses + 1 < ",
            $losses_max,
            " AND EXISTS (
               SELECT FROM names n WHERE n.scope = $1 AND n.name = l.run_job AND n.retry_lost AND NOT n.withdrawn
           ) AS owes
    FROM ",
            $from,
            " l
), ranked AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY owes, run_job ORDER BY holder DESC) AS nth
    FROM (
        SELECT ",
            $numbers,
            ", token, holder, run_job, run_fire_time, run_losses + 1 AS losses, owes, false AS former FROM owing
        UNION ALL
        SELECT NULL, NULL, NULL, d.run, d.job, NULL, NULL, true, true
        FROM (SELECT DISTINCT run_job FROM owing WHERE owes) AS o
        CROSS JOIN LATERAL (SELECT run, job FROM debts WHERE scope = $1 AND job = o.run_job) AS d
        WHERE d.run NOT IN (",
            $taken_up,
            ")
    ) AS r
), dropped AS (
    DELETE FROM debts WHERE ctid = ANY (ARRAY(
        SELECT d.place
        FROM (SELECT holder FROM ranked WHERE former AND nth > ",
            $debts_max,
            ") AS r
        CROSS JOIN LATERAL (
            SELECT ctid AS place FROM debts WHERE scope = $1 AND run = r.holder FOR UPDATE SKIP LOCKED
        ) AS d
    ))
), owed AS (
    INSERT INTO debts (scope, run, job, fire_time, losses, token)
    SELECT $1, holder, run_job, run_fire_time, losses, token FROM ranked
    WHERE owes AND NOT former AND nth <= ",
            $debts_max,
            "
    ON CONFLICT DO NOTHING
)"
        )
    };
}

/// What the answer says of a run that was closed as lost, and the news of it on a channel.
macro_rules! debt {
    (channel: $channel:literal, debts_max: $debts_max:literal) => {
        concat!(
            "CASE WHEN owes AND nth <= ",
            $debts_max,
            " THEN losses END AS losses,
    CASE WHEN owes AND nth <= ",
            $debts_max,
            " THEN pg_notify(",
            $channel,
            "::text, json_build_object('owed', json_build_object('job', run_job, 'owed', json_build_object(
        'run', holder, 'fire_time', run_fire_time, 'losses', losses)))::text)::text END AS told"
        )
    };
}

/// The least token of a run that is granted: the time in microseconds, which is greater than any token that was granted
/// before by tables that were made anew, or restored from before, since.
macro_rules! token {
    () => {
        "(date_part('epoch', d.decided_at) * 1e6)::int8"
    };
}

/// Who gets what, by the rows that are locked.
macro_rules! decided {
    (arrays: $arrays:literal, columns: $columns:literal, found: $found:literal, taken_up: $taken_up:literal, plainly: $plainly:literal,
     retaken: $retaken:literal, robs: $robs:literal) => {
        concat!(
            "
WITH term AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader
    -- Who does not care who leads must not keep a renewal waiting.
    WHERE scope = $1 AND (array_remove($9::int8[], NULL) <> '{}' OR true = ANY ($10::bool[])) FOR SHARE
), asked AS (
    SELECT *
    FROM unnest($4::text[], $5::text[], $6::uuid[], $7::timestamptz[], $8::timestamptz[], $9::int8[], $10::bool[],
                $11::int8[]",
            $arrays,
            ")
    WITH ORDINALITY AS a (job, key, run, fire_time, expected, term, unled, runs_max",
            $columns,
            ", ord)
    -- The leader row is locked before any other.
    WHERE (SELECT count(*) FROM term) >= 0
), ",
            $found,
            ", owners AS MATERIALIZED (
    SELECT beacon, is_over($1, beacon) AS dead
    FROM (SELECT DISTINCT beacon FROM found WHERE holder IS NOT NULL AND beacon <> $2) AS others
), decided AS MATERIALIZED (
    -- One instant for a run that is lost and the one that takes its key: they do not overlap.
    SELECT f.*, clock_timestamp() AS decided_at,
        CASE
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
                 AND (SELECT t.epoch = f.term AND t.expires_at > clock_timestamp() FROM term t) IS NOT TRUE
                THEN 'deposed'
            WHEN f.unled AND NOT f.withdrawn
                 AND (SELECT t.epoch = f.job_term AND t.expires_at > clock_timestamp() FROM term t)
                THEN 'led'
            WHEN f.fire_time > clock_timestamp() THEN 'not yet'
            WHEN f.fire_time IS NOT NULL AND (f.withdrawn OR f.cursor IS NULL) THEN 'unknown'
            WHEN f.cursor = f.fire_time AND f.cursor_run IS NOT NULL AND f.cursor <> f.expected THEN 'already run'
            WHEN f.cursor <> f.expected THEN 'moved'
            WHEN f.fire_time IS NOT NULL AND f.paused AND coalesce(f.paused_until > clock_timestamp(), true) THEN 'paused'
            WHEN f.fire_time IS NOT NULL AND f.runs >= f.runs_max THEN 'exhausted'
            WHEN f.holder IS NULL THEN 'granted'
            WHEN (SELECT o.dead FROM owners o WHERE o.beacon = f.beacon) THEN '",
            $robs,
            "'
            ELSE 'busy'
        END AS verdict
    FROM found f
)"
        )
    };
}

macro_rules! claim {
    (found: $found:literal, own: $own:literal, others: $others:literal, moved: $moved:expr, set: $set:expr,
     at: $at:literal) => {
        concat!(
            decided!(
                arrays: ", $12::bool[], $13::bool[]",
                columns: ", replace, retake",
                found: $found,
                taken_up: "            -- Somebody else has taken it up, or it is not closed yet.
            WHEN f.run = f.holder AND f.retake THEN 'not granted'\n",
                plainly: " AND f.retake IS NOT TRUE",
                retaken: "            WHEN f.retake AND (f.debt IS NULL OR f.withdrawn OR NOT f.retry_lost) THEN 'not granted'\n",
                robs: "granted"
            ),
            ", losing AS MATERIALIZED (
    -- Runs that are lost, whose jobs have rows of their own that move to their ends. One statement changes a row once.
    SELECT ord, run_job,
           row_number() OVER (PARTITION BY run_job ORDER BY ord) = 1 AND NOT run_job = ANY ($5::text[])",
            $others,
            " AS alone
    FROM decided d
    WHERE verdict = 'granted' AND holder IS NOT NULL AND run_job <> key",
            $own,
            "
      AND EXISTS (SELECT FROM names n WHERE n.scope = $1 AND n.name = d.run_job AND n.from_completion)
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
    WHERE n.scope = $1 AND n.name = e.name
), settled AS (
    DELETE FROM debts o USING taken t WHERE o.ctid = t.debt
), lost AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT holder, token, claimed_at, decided_at, run_fire_time, run_term, run_node, $1, run_job, key, 'lost'
    FROM taken WHERE holder IS NOT NULL
)",
            owing!(
                from: "taken",
                numbers: "ord, granted",
                taken_up: "SELECT run FROM taken WHERE retake",
                losses_max: "$15",
                debts_max: "$16"
            ),
            "
SELECT ord, 'granted' AS verdict, granted AS token, holder AS run, NULL::timestamptz AS cursor, NULL::int8 AS epoch,
    NULL::float8 AS wait, run_job AS lost_job, run_fire_time AS lost_fire_time,
    NULL::timestamptz AS paused_until, NULL AS pause_note, ",
            debt!(channel: "$14", debts_max: "$16"),
            "
FROM ranked WHERE NOT former
UNION ALL
SELECT ord, verdict, token, CASE verdict WHEN 'already run' THEN cursor_run ELSE holder END,
    coalesce(cursor, clock_timestamp()), (SELECT epoch FROM term),
    (extract(epoch FROM fire_time - clock_timestamp()) * 1e6)::float8, NULL, NULL, paused_until, pause_note, NULL,
    CASE WHEN verdict = 'busy' AND replace THEN pg_notify($14::text, json_build_object('stop', json_build_object(
        'beacon', beacon, 'run', holder))::text)::text END
FROM decided WHERE verdict <> 'granted'"
        )
    };
}

/// Claims runs: each takes its tick, its key and the next token, or nothing. For claims whose rows are the ones of their keys:
/// ticks of jobs that have no other key, and manual triggers. Most claims are of this kind, and one alone costs what is to be
/// set up for it, so what is rarely needed is left to [`CLAIM_FULLY`]: a key of a dead owner is not taken, but answered as
/// one to rob.
///
/// Locks the leader row for share until the commit (without it an old term's claim was committed after the takeover), unless
/// no claim cares who leads; then the rows of the keys in their order, skipping those that are locked. Whoever holds the lock
/// of a key's row decides alone about its owner: probing without it granted keys that were held. A claim that is refused
/// while the leader schedules the job looks for the mark in the row that it has locked, where the leader's enrolment puts it,
/// and for the term in the leader row that it has locked, so that no renewal comes in between.
///
/// $1 scope, $2 own beacon, $3 node, then the claims, at most one per name: $4 jobs, $5 keys, $6 runs, $7 fire times (none for
/// a manual trigger), $8 expected cursors, $9 terms, $10 whether only unless the leader schedules the job, $11 how
/// many ticks of the job may run in all (none: any number). Of what few claims have, the arrays may be shorter.
pub(super) const CLAIM: &str = concat!(
    decided!(
        arrays: "",
        columns: "",
        found: "found AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until, n.pause_note,
           n.token, n.run AS holder, n.beacon, n.ctid AS place
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
)",
        taken_up: "",
        plainly: "",
        retaken: "",
        robs: "robs"
    ),
    ", taken AS (
    UPDATE names n
    SET token = greatest(d.token + 1, ",
    token!(),
    "), run = d.run, beacon = $2, claimed_at = d.decided_at, run_node = $3,
        run_job = d.job, run_term = d.term, fire_time = d.fire_time, losses = 0,
        cursor = coalesce(d.fire_time, n.cursor),
        cursor_run = CASE WHEN d.fire_time IS NULL THEN n.cursor_run ELSE d.run END,
        runs = CASE WHEN d.fire_time IS NULL THEN n.runs ELSE n.runs + 1 END
    FROM decided d WHERE d.verdict = 'granted' AND n.ctid = d.place
    RETURNING d.ord, n.token
)
SELECT ord, 'granted' AS verdict, token, NULL::uuid AS run, NULL::timestamptz AS cursor, NULL::int8 AS epoch,
    NULL::float8 AS wait, NULL AS lost_job, NULL::timestamptz AS paused_until, NULL AS pause_note
FROM taken
UNION ALL
SELECT ord, verdict, token, CASE verdict WHEN 'already run' THEN cursor_run ELSE holder END,
    coalesce(cursor, clock_timestamp()), (SELECT epoch FROM term),
    (extract(epoch FROM fire_time - clock_timestamp()) * 1e6)::float8, NULL, paused_until, pause_note
FROM decided WHERE verdict <> 'granted'"
);

/// The same with all that is rarely needed: keys are taken from dead owners, whose runs are closed as lost; runs that are
/// owed are taken up; holders are told to stop. Where a run of another job is lost, and the cursor of that job moves to its end,
/// its row is locked last; a claim is not granted without it.
///
/// A debt is locked after the row of its job, and goes with the grant. The lock is what decides: this statement may see a debt
/// that was settled before it got the row of the job, but it cannot lock it.
///
/// As for [`CLAIM`], and $12 whether a live holder of the key is told to stop, $13 whether it takes up a run that the job owes;
/// $14 the channel of the scope, $15 how often a run is lost that is owed no more, $16 the most that a job owes.
pub(super) const CLAIM_FULLY: &str = claim!(
    found: "found AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until,
           n.pause_note, n.retry_lost, o.place AS debt, o.fire_time AS owed_fire_time, o.losses AS owed_losses, o.token AS owed_token,
           n.token, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term,
           n.fire_time AS run_fire_time, n.losses AS run_losses, n.ctid AS place
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
    LEFT JOIN LATERAL (
        SELECT ctid AS place, fire_time, losses, token FROM debts
        WHERE a.retake AND scope = $1 AND run = a.run AND job = n.name FOR UPDATE SKIP LOCKED
    ) AS o ON true
)",
    own: "",
    others: "",
    moved: "",
    set: of_job!(),
    at: "n.ctid = d.place"
);

/// The same as [`CLAIM_FULLY`] for ticks and owed runs of jobs that have another key than their name. Locks the rows of the jobs, then those of the keys; it
/// waits for neither, so that their order does not matter.
pub(super) const CLAIM_WITH_KEY: &str = claim!(
    found: "job_rows AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_run, n.withdrawn, n.term AS job_term, n.runs, n.paused, n.paused_until,
           n.pause_note, n.retry_lost, o.place AS debt, o.fire_time AS owed_fire_time, o.losses AS owed_losses, o.token AS owed_token
    FROM (SELECT * FROM asked ORDER BY job COLLATE \"C\") AS a
    CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = a.job FOR UPDATE SKIP LOCKED) AS n
    LEFT JOIN LATERAL (
        SELECT ctid AS place, fire_time, losses, token FROM debts
        WHERE a.retake AND scope = $1 AND run = a.run AND job = n.name FOR UPDATE SKIP LOCKED
    ) AS o ON true
), found AS MATERIALIZED (
    SELECT j.*, n.token, n.run AS holder, n.beacon, n.claimed_at,
           n.run_node, n.run_job, n.run_term, n.fire_time AS run_fire_time, n.losses AS run_losses
    FROM (SELECT * FROM job_rows ORDER BY key COLLATE \"C\") AS j
    CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = j.key FOR UPDATE SKIP LOCKED) AS n
)",
    own: " AND run_job <> job",
    others: " AND NOT run_job = ANY ($4::text[])",
    moved: concat!(
        ", moved AS (
    UPDATE names n
    SET ",
        of_job!(),
        "
    FROM decided d
    WHERE d.verdict = 'granted' AND d.ord NOT IN (SELECT ord FROM barred) AND n.scope = $1 AND n.name = d.job
)"
    ),
    set: of_job!(),
    at: "n.scope = $1 AND n.name = d.key"
);

/// Which runs ($3) were granted: to the session of a beacon ($2), under their keys ($4), and not completed, or to a session that is
/// over. Locks nothing: while a former session of the node lives, an abandoned statement of it may still be granted one
/// ([`FORMER_SESSION_LIVES`]). $1 scope.
pub(super) const SETTLE: &str = "
SELECT a.run, n.beacon IS NOT DISTINCT FROM $2 AS own, coalesce(n.token, 0) AS token
FROM unnest($3::uuid[], $4::text[]) AS a (run, key)
LEFT JOIN LATERAL (
    SELECT beacon, token FROM names WHERE scope = $1 AND name = a.key AND run = a.run LIMIT 1
) AS n ON true
WHERE n.token IS NOT NULL OR (SELECT true FROM runs r WHERE r.run = a.run LIMIT 1)";

/// Whether a session of a node ($3) of a scope ($1), besides the own one ($2), lives: what it was asked may still be done.
pub(super) const FORMER_SESSION_LIVES: &str = "
SELECT coalesce(bool_or(NOT is_over($1, beacon)), false) AS lives
FROM sessions WHERE scope = $1 AND node = $3 AND beacon <> $2";

/// What the end of a run changes on the row of its job.
macro_rules! job_end {
    () => {
        "failures = d.failed,
        paused = n.paused OR d.pauses,
        paused_until = CASE WHEN d.pauses THEN NULL ELSE n.paused_until END,
        pause_note = CASE WHEN d.pauses THEN 'runs that failed in a row: ' || d.failed ELSE n.pause_note END,
        cursor = coalesce(d.anchor, n.cursor),
        cursor_run = CASE WHEN d.anchor > n.cursor THEN NULL ELSE n.cursor_run END"
    };
}

macro_rules! complete {
    (jobs: $jobs:literal, job: $job:literal, found: $found:literal, freed: $freed:expr, ended: $ended:expr) => {
        concat!(
            "
WITH asked AS (
    SELECT * FROM unnest($3::text[], $4::uuid[], $5::int8[], $6::text[], $7::int8[], $8::bool[]",
            $jobs,
            ")
    WITH ORDINALITY AS a (key, run, token, outcome, failures_max, from_completion",
            $job,
            ", ord)
), ",
            $found,
            ", decided AS MATERIALIZED (
    SELECT f.*,
           coalesce(failed > failures AND failed >= failures_max AND NOT (paused AND paused_until IS NULL), false) AS pauses,
           CASE WHEN from_completion AND cursor IS NOT NULL
               -- Rounded up: it is not before the end.
               THEN greatest(cursor, date_trunc('milliseconds', ended_at + interval '999 microseconds'))
           END AS anchor
    FROM (
        SELECT f.*, f.holder IS NOT DISTINCT FROM f.run AND f.newest = f.token AND f.beacon = $2 AS now,
               clock_timestamp() AS ended_at,
               CASE
                   WHEN f.cursor IS NULL THEN f.failures
                   WHEN f.outcome = 'succeeded' THEN 0
                   WHEN f.outcome IN ('failed', 'panicked', 'timed_out') THEN f.failures + 1
                   ELSE f.failures
               END AS failed
        FROM found f
    ) AS f
), freed AS (
    UPDATE names n SET run = NULL, beacon = CASE WHEN n.withdrawn THEN NULL ELSE n.beacon END",
            $freed,
            "
    RETURNING d.*
), ",
            $ended,
            "ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, ended_at, fire_time, run_term, run_node, $1, run_job, key, outcome
    FROM freed
)
SELECT ord, true AS recorded, anchor AS cursor, pauses, note AS pause_note,
       CASE WHEN pauses THEN pg_notify($9::text, json_build_object('pause', json_build_object(
           'job', run_job, 'pause', json_build_object('until', NULL::text, 'note', note)))::text)::text END AS told
FROM freed CROSS JOIN LATERAL (SELECT CASE WHEN pauses THEN 'runs that failed in a row: ' || failed END AS note) AS noted
UNION ALL
-- An end that was recorded before.
SELECT ord, EXISTS (SELECT FROM runs r WHERE r.run = d.run AND r.token = d.token AND r.outcome <> 'lost'),
    CASE WHEN from_completion THEN cursor END,
    coalesce(paused AND paused_until IS NULL AND failures >= failures_max, false), pause_note, NULL
FROM decided d WHERE NOT now"
        )
    };
}

/// Records ends, frees keys, and counts failures. For ends of runs whose key is the name of their job, that neither pause it nor
/// move its cursor: as for claims, what most ends do not need is left to [`COMPLETE_FULLY`]. Locks the rows in their order,
/// skipping those that are locked.
///
/// $1 scope, $2 own beacon, then the ends, at most one per name: $3 keys, $4 runs, $5 tokens, $6 outcomes.
pub(super) const COMPLETE: &str = "
WITH found AS MATERIALIZED (
    SELECT a.*, n.token AS newest, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term, n.fire_time,
           n.ctid AS place
    FROM (
        SELECT * FROM unnest($3::text[], $4::uuid[], $5::int8[], $6::text[])
        WITH ORDINALITY AS a (key, run, token, outcome, ord)
        ORDER BY key COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
), decided AS MATERIALIZED (
    SELECT f.*, f.holder IS NOT DISTINCT FROM f.run AND f.newest = f.token AND f.beacon = $2 AS now FROM found f
), freed AS (
    UPDATE names n
    SET run = NULL, beacon = CASE WHEN n.withdrawn THEN NULL ELSE n.beacon END,
        failures = CASE
            WHEN d.outcome = 'succeeded' THEN 0
            WHEN d.outcome IN ('failed', 'panicked', 'timed_out') AND n.cursor IS NOT NULL THEN n.failures + 1
            ELSE n.failures
        END
    FROM decided d WHERE d.now AND n.ctid = d.place
    RETURNING d.*
), ended AS (
    INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
    SELECT run, token, claimed_at, clock_timestamp(), fire_time, run_term, run_node, $1, run_job, key, outcome
    FROM freed
)
SELECT ord, true AS recorded, NULL::timestamptz AS cursor, false AS pauses, NULL AS pause_note FROM freed
UNION ALL
-- An end that was recorded before.
SELECT ord, EXISTS (SELECT FROM runs r WHERE r.run = d.run AND r.token = d.token AND r.outcome <> 'lost'), NULL, false, NULL
FROM decided d WHERE NOT now";

/// The same with what follows for the job: too many failures pause it, and its cursor may move to the end.
///
/// As for [`COMPLETE`], and $7 after how many failures to pause the job, $8 whether the cursor moves to the end; $9 the channel
/// of the scope. Of what few ends have, the arrays may be shorter.
pub(super) const COMPLETE_FULLY: &str = complete!(
    jobs: "", job: "",
    found: "found AS MATERIALIZED (
    SELECT a.*, n.token AS newest, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term, n.fire_time,
           n.cursor, n.paused, n.paused_until, n.pause_note, n.failures, n.ctid AS place
    FROM (SELECT * FROM asked ORDER BY key COLLATE \"C\") AS a
    CROSS JOIN LATERAL (
        SELECT ctid, * FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
)",
    freed: concat!(", ", job_end!(), "\n    FROM decided d WHERE d.now AND n.ctid = d.place"),
    ended: ""
);

/// The same as [`COMPLETE_FULLY`] for runs with another key; $10 their jobs. Locks the rows of the jobs, those that there are, then those of the
/// keys; it waits for neither, so that their order does not matter.
pub(super) const COMPLETE_WITH_KEY: &str = complete!(
    jobs: ", $10::text[]", job: ", job",
    found: "job_rows AS MATERIALIZED (
    SELECT a.*, n.cursor, n.paused, n.paused_until, n.pause_note, n.failures
    FROM (SELECT * FROM asked ORDER BY job COLLATE \"C\") AS a
    LEFT JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n ON true
    WHERE n.name IS NOT NULL OR NOT EXISTS (SELECT FROM names WHERE scope = $1 AND name = a.job)
), found AS MATERIALIZED (
    SELECT j.*, n.token AS newest, n.run AS holder, n.beacon, n.claimed_at, n.run_node, n.run_job, n.run_term, n.fire_time
    FROM (SELECT * FROM job_rows ORDER BY key COLLATE \"C\") AS j
    CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = j.key FOR UPDATE SKIP LOCKED) AS n
)",
    freed: "
    FROM decided d WHERE d.now AND n.scope = $1 AND n.name = d.key",
    ended: concat!("counted AS (\n    UPDATE names n SET ", job_end!(), "\n    FROM freed d\n    WHERE n.scope = $1 AND n.name = d.job AND (d.failed <> d.failures OR d.pauses OR d.anchor > d.cursor)\n), ")
);

/// Frees keys of runs of whose ends nothing can be kept. Locks the rows in their order, skipping those that are locked. A key that
/// the run does not hold any more was freed by an earlier call, unless the run was closed as lost.
///
/// $1 scope, $2 own beacon, then the ends, at most one per key: $3 keys, $4 runs, $5 tokens.
pub(super) const RELEASE: &str = "
WITH found AS MATERIALIZED (
    SELECT a.ord, n.place, n.run = a.run AND n.token = a.token AND n.beacon = $2 AS now,
           n.token >= a.token AND n.run IS DISTINCT FROM a.run AND NOT EXISTS (
               SELECT FROM runs r WHERE r.run = a.run AND r.token = a.token AND r.outcome = 'lost'
           ) AS before
    FROM (
        SELECT * FROM unnest($3::text[], $4::uuid[], $5::int8[]) WITH ORDINALITY AS a (key, run, token, ord)
        ORDER BY key COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT ctid AS place, run, token, beacon FROM names WHERE scope = $1 AND name = a.key FOR UPDATE SKIP LOCKED
    ) AS n
), freed AS (
    UPDATE names n SET run = NULL, beacon = NULL FROM found f WHERE f.now AND n.ctid = f.place RETURNING f.ord
)
SELECT ord, true AS recorded, NULL::timestamptz AS cursor, false AS pauses, NULL AS pause_note FROM freed
UNION ALL SELECT ord, before, NULL, false, NULL FROM found WHERE now IS NOT TRUE";

/// Whether a run ($3) of a scope ($1) holds its key ($2) under a token ($4): one row, or none. For a connection of the
/// application, so names are qualified.
///
/// Locks the key's row for key share until the application's transaction ends: claims and ends, which lock it for update
/// before they change it, skip it, so the key changes hands before or after that transaction, never in between; its job's
/// cursor moves on. Waits for a claim or an end that has the row locked.
pub(super) fn guard(schema: &str) -> String {
    let schema = quoted(schema);
    format!(
        "SELECT FROM {schema}.names WHERE scope = $1 AND name = $2 AND run = $3 AND token = $4 FOR KEY SHARE"
    )
}

/// A name may be a word of the language.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Moves cursors over ticks that nobody runs. Locks the leader row for share, unless no move cares who leads, then the rows of
/// the jobs in their order, skipping those that are locked.
///
/// $1 scope, then the moves, at most one per job: $2 jobs, $3 expected cursors, $4 new cursors, $5 terms, $6 whether only
/// unless the leader schedules the job, $7 the ids of the moves.
pub(super) const ADVANCE: &str = "
WITH term AS MATERIALIZED (
    SELECT epoch, expires_at FROM leader
    WHERE scope = $1 AND (array_remove($5::int8[], NULL) <> '{}' OR true = ANY ($6::bool[])) FOR SHARE
), found AS MATERIALIZED (
    SELECT a.*, n.cursor, n.cursor_move, n.withdrawn, n.term AS job_term
    FROM (
        SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[], $5::int8[], $6::bool[], $7::uuid[])
        WITH ORDINALITY AS a (job, expected, until, term, unled, id, ord)
        WHERE (SELECT count(*) FROM term) >= 0
        ORDER BY job COLLATE \"C\"
    ) AS a
    CROSS JOIN LATERAL (
        SELECT * FROM names WHERE scope = $1 AND name = a.job FOR NO KEY UPDATE SKIP LOCKED
    ) AS n
), decided AS MATERIALIZED (
    SELECT f.*,
        CASE
            -- The same call before, whose answer was lost.
            WHEN f.cursor_move = f.id THEN 'done before'
            WHEN f.term IS NOT NULL
                 AND (SELECT t.epoch = f.term AND t.expires_at > clock_timestamp() FROM term t) IS NOT TRUE
                THEN 'deposed'
            WHEN f.unled AND NOT f.withdrawn
                 AND (SELECT t.epoch = f.job_term AND t.expires_at > clock_timestamp() FROM term t)
                THEN 'led'
            -- Ticks that are not due are decided by a clock that is wrong.
            WHEN f.withdrawn OR f.cursor IS NULL THEN 'unknown'
            WHEN f.cursor <> f.expected OR f.until > clock_timestamp() THEN 'elsewhere'
            ELSE 'done'
        END AS verdict
    FROM found f
), moved AS (
    UPDATE names n SET cursor = d.until, cursor_run = NULL, cursor_move = d.id
    FROM decided d WHERE d.verdict = 'done' AND n.scope = $1 AND n.name = d.job
    RETURNING d.ord
)
SELECT ord, verdict, coalesce(cursor, clock_timestamp()) AS cursor, (SELECT epoch FROM term) AS epoch FROM decided
-- Nothing is done but what the change itself says.
WHERE verdict <> 'done' OR ord IN (SELECT ord FROM moved)";

/// What jobs owe that take it up, in the order of the runs. Locks nothing. $1 scope, $2 the run after which to begin, $3 the most
/// to answer.
pub(super) const DEBTS: &str = "
SELECT d.job, d.run, d.fire_time, d.losses FROM debts d
WHERE d.scope = $1 AND d.run > $2
  AND EXISTS (SELECT FROM names n WHERE n.scope = $1 AND n.name = d.job AND n.retry_lost AND NOT n.withdrawn)
ORDER BY d.run LIMIT $3";

/// Whether there is a schema ($1).
pub(super) const SCHEMA_EXISTS: &str = "SELECT FROM pg_namespace WHERE nspname = $1";

mod forget;
mod lost_runs;
pub(super) use forget::{AGE, FORGET, HOLD};
pub(super) use lost_runs::{CLOSE_LOST, FORGET_SESSION, NEXT_DEAD};
