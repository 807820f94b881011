//! The leader row and the leadership lock.

/// Waits for the leadership of a schema ($1) and scope ($2) while the term is $3, at most $4 times
/// `lock_timeout`. Answers whether the lock was had and, if not, who leads. One statement for a procedure of
/// many transactions: each has a snapshot of its own, which is never older than a fifth of `lock_timeout`, and
/// the server's log holds no error for a lock that was not had.
pub(in super::super) const WAIT_FOR_LEADERSHIP: &str = "
CALL wait_for_leadership(hashtextextended('callsheet leader ' || $1 || '/' || $2, 0), $2, $4, $3, NULL, NULL)";

/// Gives the leadership up, however often the lock was had: a wait that times out while the lock is granted
/// has it all the same.
pub(in super::super) const FREE_LEADERSHIP: &str = "SELECT pg_advisory_unlock_all()";

/// Waits, for `lock_timeout`, until the session that holds the term of a scope ($1) ends, unless it is the
/// own one (beacon $2).
pub(in super::super) const WAIT_FOR_HOLDER: &str = "
SELECT pg_advisory_xact_lock_shared(beacon) FROM leader
WHERE scope = $1 AND beacon <> $2 AND expires_at > clock_timestamp()";

/// Raises the epoch, whoever has the leadership lock. Locks the leader row for update, since the epoch is part
/// of a unique index: claims of the old term, which hold it for key share, are committed before, or wait and
/// then read the new epoch.
///
/// An epoch is at least the time in milliseconds: greater than any that was granted before the table was made
/// again, or restored from before.
///
/// $1 scope, $2 own beacon, $3 node, $4 lease in milliseconds, $5 the version of its time zone data. No row:
/// a term that is not over belongs to a live session.
pub(in super::super) const GRANT: &str = "
INSERT INTO leader AS l (scope, epoch, node, beacon, tells, granted_at, expires_at, zone_data)
VALUES ($1, (date_part('epoch', clock_timestamp()) * 1e3)::int8, $3, $2, $2, clock_timestamp(), clock_timestamp() + $4::float8 * interval '1 millisecond', $5)
ON CONFLICT (scope) DO UPDATE
SET epoch = greatest(l.epoch + 1, excluded.epoch),
    node = excluded.node,
    beacon = excluded.beacon,
    tells = excluded.tells,
    granted_at = clock_timestamp(),
    expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond',
    zone_data = excluded.zone_data
WHERE l.expires_at <= clock_timestamp()
   OR CASE WHEN l.beacon = $2 THEN true ELSE is_over($1, l.beacon) END
RETURNING l.epoch, pg_is_in_recovery() AS standby,
    -- As it was when the statement began. Who led in between, without the leadership lock, is passed over.
    (SELECT former.zone_data FROM leader former WHERE former.scope = $1) AS former_zone_data";

/// Extends a term that is not over. Changes no column of a unique index, and so waits for no claim of the term. $1 scope, $2 own beacon, $3 term, $4 lease in milliseconds.
pub(in super::super) const RENEW: &str = "
UPDATE leader
SET expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond'
WHERE scope = $1 AND beacon = $2 AND epoch = $3 AND expires_at > clock_timestamp()
RETURNING pg_is_in_recovery() AS standby";

/// Ends a term. $1 scope, $2 own beacon, $3 term.
pub(in super::super) const RESIGN: &str = "
UPDATE leader SET expires_at = '-infinity' WHERE scope = $1 AND beacon = $2 AND epoch = $3 RETURNING epoch";

/// What the leader row says, whoever leads. $1 scope, $2 own beacon.
pub(in super::super) const STANDING: &str = "
SELECT epoch, beacon = $2 AS own, expires_at > clock_timestamp() AS lasts FROM leader WHERE scope = $1";

/// Who leads, and for how many more milliseconds. $1 scope.
pub(in super::super) const LEADER: &str = "
SELECT node, greatest(0, extract(epoch FROM expires_at - clock_timestamp()) * 1000)::float8 AS remaining
FROM leader WHERE scope = $1 AND expires_at > clock_timestamp()";

/// Takes the leadership lock of a schema ($1) and scope ($2) if nobody has it.
pub(in super::super) const TRY_LEADERSHIP: &str = "
SELECT pg_try_advisory_lock(hashtextextended('callsheet leader ' || $1 || '/' || $2, 0)) AS acquired";
