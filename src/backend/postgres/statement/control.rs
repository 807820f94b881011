//! What nodes ask of each other: the tables `requests` and `request_nodes`, and who has a session.
//!
//! These statements are not prepared: most nodes never ask them, and the others once a minute. They lock rows of these
//! tables, and the node's own row of the table of sessions, after which nothing else is locked.

/// Posts a request, to all other nodes that have a session, or to one ($9), at most $10; unless $11 are open. Deletes
/// those whose deadline has passed, or is one that no node writes: more than a minute ahead. Tells it to every session.
///
/// One row for each node that is asked, and at least one. If the request is there already, those are not the nodes that
/// it was posted to: see [`ADDRESSED`].
///
/// $1 scope, $2 the node that asks, $3 request, $4 what is asked, $5 who asks for it, $6 why, $7 within how many
/// milliseconds, $8 the channel of the scope.
pub(in super::super) const POST: &str = r#"
WITH old AS (
    DELETE FROM requests
    WHERE scope = $1 AND (deadline <= clock_timestamp() OR deadline > clock_timestamp() + interval '1 minute')
), standing AS (
    SELECT count(*) FILTER (WHERE deadline BETWEEN clock_timestamp() AND clock_timestamp() + interval '1 minute') AS open, coalesce(bool_or(request = $3), false) AS is_known
    FROM requests WHERE scope = $1
), live AS MATERIALIZED (
    SELECT DISTINCT ON (s.node) s.node, left(s.name, 400) AS name
    FROM sessions s
    WHERE s.scope = $1 AND s.node <> $2 AND ($9 IS NULL OR s.node = $9) AND NOT is_over($1, s.beacon)
    ORDER BY s.node LIMIT $10
), posted AS (
    INSERT INTO requests (scope, request, asked_node, body, asked_by, note, deadline)
    SELECT $1, $3, $2, $4, $5, $6, clock_timestamp() + $7 * interval '1 millisecond'
    FROM standing WHERE open < $11 AND NOT is_known AND EXISTS (SELECT FROM live)
    ON CONFLICT DO NOTHING
    RETURNING request
), addressed AS (
    INSERT INTO request_nodes (scope, node, request, name) SELECT $1, l.node, p.request, l.name FROM posted p CROSS JOIN live l
), told AS MATERIALIZED (
    SELECT pg_notify($8, '{"asked": {}}') FROM posted
)
SELECT s.open, s.is_known, l.node, l.name, (SELECT count(*) FROM told) AS told
FROM standing s LEFT JOIN live l ON true"#;

/// The nodes that a request ($2) of a scope ($1) was posted to.
pub(in super::super) const ADDRESSED: &str =
    "SELECT node, name FROM request_nodes WHERE scope = $1 AND request = $2 ORDER BY node";

/// Takes the requests of a scope ($1) to a node ($2), at most $3, whose texts have at most $4 characters: what is
/// longer is
/// cut. With how much time is left, at most a minute: whoever writes a deadline by hand may write any.
pub(in super::super) const TAKE: &str = "
WITH due AS (
    SELECT n.request FROM request_nodes n JOIN requests r ON r.scope = n.scope AND r.request = n.request
    WHERE n.scope = $1 AND n.node = $2 AND NOT n.taken AND r.deadline > clock_timestamp()
    LIMIT $3
), taken AS (
    UPDATE request_nodes n SET taken = true FROM due
    WHERE n.scope = $1 AND n.node = $2 AND n.request = due.request AND NOT n.taken
    RETURNING n.request
)
SELECT r.request, r.asked_node, left(r.body, $4) AS body, left(r.asked_by, $4) AS asked_by, left(r.note, $4) AS note,
       extract(epoch FROM least(r.deadline, clock_timestamp() + interval '1 minute') - clock_timestamp())::float8 AS seconds_left
FROM taken t JOIN requests r ON r.scope = $1 AND r.request = t.request";

/// Keeps the first answer ($4) of a node ($2) to a request ($3) of a scope ($1) that it has taken. Tells it, on the
/// channel of the scope ($5), to the node that asked.
pub(in super::super) const ANSWER: &str = "
WITH kept AS (
    UPDATE request_nodes SET answer = $4
    WHERE scope = $1 AND node = $2 AND request = $3 AND taken AND answer IS NULL
    RETURNING request
)
SELECT pg_notify($5, json_build_object('answered', json_build_object('node', r.asked_node))::text)
FROM kept k JOIN requests r ON r.scope = $1 AND r.request = k.request";

/// How far the nodes are that a request ($2) of a scope ($1) was posted to, except those that were heard ($5): the
/// answer,
/// at most $3 characters of it, and whether a node that has not answered has a session. At most $4. Once the answers
/// have
/// so many bytes ($6), the others are as if they were still to come.
pub(in super::super) const ANSWERS: &str = "
SELECT n.node, CASE WHEN n.bytes_before < $6 THEN left(n.answer, $3) END AS answer, n.answer IS NOT NULL OR EXISTS (
    SELECT FROM sessions s WHERE s.scope = $1 AND s.node = n.node AND NOT is_over($1, s.beacon)
) AS is_awaited
FROM (
    SELECT r.node, r.answer, coalesce(sum(octet_length(r.answer)) OVER (
        ORDER BY r.node ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS bytes_before
    FROM request_nodes r WHERE r.scope = $1 AND r.request = $2 AND r.node <> ALL ($5) LIMIT $4
) n";

/// Forgets a request ($2) of a scope ($1).
pub(in super::super) const CLOSE: &str = "DELETE FROM requests WHERE scope = $1 AND request = $2";

/// Keeps what a node says of itself ($3) with its session ($2) of a scope ($1).
pub(in super::super) const DESCRIBE: &str =
    "UPDATE sessions SET described = $3 WHERE scope = $1 AND beacon = $2";

/// The sessions of a scope ($1) that live, that of the beacon $2 included, at most $3, with texts of at most $4
/// characters; of a node that has several, the newest. Only whoever may see what a role does is told when its session
/// was
/// heard of last. One that somebody wrote as opened at no instant that can be is not listed.
pub(in super::super) const NODES: &str = "
SELECT s.node, left(s.name, 400) AS name, left(s.version, 400) AS version, left(s.zone_data, 400) AS zone_data, s.since,
       a.state_change AS seen_at, l.epoch, left(s.described, $4) AS described
FROM (
    SELECT DISTINCT ON (o.node) o.* FROM sessions o
    WHERE o.scope = $1 AND o.since > '-infinity' AND o.since < clock_timestamp() + interval '1 day' AND (o.beacon = $2 OR NOT is_over($1, o.beacon))
    ORDER BY o.node, o.since DESC
) s
LEFT JOIN leader l ON l.scope = s.scope AND l.beacon = s.beacon AND l.expires_at > clock_timestamp()
LEFT JOIN LATERAL pg_stat_get_activity(s.pid) AS a ON true
ORDER BY s.since, s.node LIMIT $3";
