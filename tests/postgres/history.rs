//! The history on a real server.

use callsheet::port::{History, MemoryBounds, Retention};

use super::*;

async fn history(scope: &str) -> Arc<dyn History> {
    let node = Postgres::new(scope, server().url());
    // It makes the schema.
    node.locker().open().await.expect("a session opens");
    node.history(MemoryBounds::default()).expect("it has one")
}

#[tokio::test]
async fn it_is_a_history() {
    conformance::history(&*history(&scope("history")).await).await;
}

/// The constant `ENDS_DECIDED_BY` of the adapter.
const DECIDED_BY_DAYS: i32 = 7;

/// An end of a job, and a run that was asked for so many days ago.
const END: &str = "
INSERT INTO callsheet.runs (run, token, claimed_at, ended_at, node, scope, job, key, outcome)
VALUES ($1, 1, now(), now() - $2::int4 * interval '1 day' + $3::int4 * interval '1 minute', $1, $4, $5, $5, 'succeeded')";

#[tokio::test]
async fn ends_go_when_nobody_decides_by_them_any_more() {
    let scope = scope("ends");
    let history = history(&scope).await;
    let admin = admin().await;
    let backfill = "INSERT INTO callsheet.backfills (scope, backfill, job, range_from, range_to, max_concurrent, spacing_millis, again,
                        created_at, left_out, fire_times, ticks)
                    VALUES ($1, '00000000-0000-0000-0000-000000000001', 'backfilled', now(), now(), 1, 0, false, now(), 0, '{}', 0)";
    admin.execute(backfill, &[&scope]).await.expect("an answer");
    let asked_for = |days: i64, nth: i64| {
        RunId::first_at(Utc::now() - TimeDelta::days(days) + TimeDelta::milliseconds(nth)).as_uuid()
    };
    // Asked for so many days ago; ended so many days ago, and so many minutes later.
    let ends = [
        ("old", 8, DECIDED_BY_DAYS, -1),
        ("young", 8, DECIDED_BY_DAYS, 1),
        ("long", 300, 0, 0),
        // That of a tick.
        ("backfilled", 10, DECIDED_BY_DAYS, -1),
    ];
    for ((job, asked, days, minutes), nth) in ends.into_iter().zip(0..) {
        admin
            .execute(END, &[&asked_for(asked, nth), &days, &minutes, &scope, &job])
            .await
            .expect("an answer");
    }
    // The backfill's own, with another key.
    let own = "INSERT INTO callsheet.runs
         SELECT overlay(run::text PLACING '8' FROM 15)::uuid, token, claimed_at, ended_at, fire_time, term, node, scope, job, 'own', outcome
         FROM callsheet.runs WHERE scope = $1 AND job = 'backfilled'";
    assert_eq!(admin.execute(own, &[&scope]).await.expect("an answer"), 1);
    let left = async || {
        let rows =
            admin.query("SELECT key FROM callsheet.runs WHERE scope = $1 ORDER BY key", &[&scope]).await;
        rows.expect("an answer").iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let prune = async |now| while history.prune(now, &Retention::default()).await.expect("an answer") {};

    prune(Utc::now()).await;
    assert_eq!(left().await, ["long", "own", "young"]);

    // The clock of whoever prunes may be wrong: the server's decides.
    prune(Utc::now() + TimeDelta::days(10_000)).await;
    assert_eq!(left().await, ["long", "own", "young"]);

    admin
        .execute("UPDATE callsheet.backfills SET state = 'finished' WHERE scope = $1", &[&scope])
        .await
        .expect("an answer");
    prune(Utc::now()).await;
    assert_eq!(left().await, ["long", "young"]);
}

/// A role that may delete from all tables of the history but one.
#[tokio::test]
async fn a_kind_of_record_that_cannot_be_deleted_keeps_no_other_one() {
    let (scope, admin) = (scope("kept_ends"), admin().await);
    let made = Postgres::new(&scope, server().url()).schema("kept_ends");
    made.locker().open().await.expect("a session opens");
    let role = "CREATE ROLE kept_ends LOGIN PASSWORD 'kept_ends';
        GRANT USAGE ON SCHEMA kept_ends TO kept_ends;
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA kept_ends TO kept_ends;
        GRANT DELETE ON kept_ends.history_runs, kept_ends.history_decisions, kept_ends.history_operations TO kept_ends";
    admin.batch_execute(role).await.expect("a role");
    let old = [
        "INSERT INTO kept_ends.runs (run, token, claimed_at, ended_at, node, scope, job, key, outcome)
         VALUES ('00000000-0000-0000-0000-000000000001', 1, '2001-01-01', '2001-01-01', gen_random_uuid(), $1, 'old', 'old', 'succeeded')",
        "INSERT INTO kept_ends.history_runs (scope, run, job, key, slot, origin, node, ended_at, lateness, outcome, attempt)
         SELECT $1, ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 'old', 'old', 0, 'tick', gen_random_uuid(), '2001-01-01',
                0, CASE WHEN n % 2 = 0 THEN 'succeeded' ELSE 'failed' END, 1
         FROM generate_series(1, 25000) AS n",
    ];
    for statement in old {
        admin.execute(statement, &[&scope]).await.expect("an answer");
    }
    let url = format!("postgres://kept_ends:kept_ends@127.0.0.1:{}/postgres", server().port());
    let node = Postgres::new(&scope, url).schema("kept_ends").migrate(false);
    let history = node.history(MemoryBounds::default()).expect("it has one");
    let rows = async |table: &str| {
        let count = format!("SELECT count(*) FROM kept_ends.{table}");
        admin.query_one(&count, &[]).await.expect("an answer").get::<_, i64>(0)
    };
    let prune =
        async || while history.prune(Utc::now(), &Retention::default()).await.expect("others are deleted") {};

    prune().await;
    assert_eq!((rows("history_runs").await, rows("runs").await), (0, 1));

    // Also if it may not even look for it.
    admin.batch_execute("REVOKE SELECT ON kept_ends.runs FROM kept_ends").await.expect("an answer");
    admin.execute(old[1], &[&scope]).await.expect("an answer");
    let anew = node.history(MemoryBounds::default()).expect("it has one");
    while anew.prune(Utc::now(), &Retention::default()).await.expect("others are deleted") {}
    assert_eq!((rows("history_runs").await, rows("runs").await), (0, 1));
}
