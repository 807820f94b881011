//! What PostgreSQL knows afterwards: runs and cursors of the scheduler, and the rows that bodies wrote.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Error, Row};

use super::history::{Advance, BodyMark, Books, Claimed};

/// Makes the tables of the scheduler (`ddl`), and writes down every move of a cursor in the transaction that makes it.
pub(crate) async fn prepare(client: &Client, ddl: &str, schema: &str) -> anyhow::Result<()> {
    client.batch_execute(ddl).await?;
    let own = format!(
        "
CREATE TABLE {schema}.moves (
    nth bigserial PRIMARY KEY,
    job text NOT NULL,
    moved_from timestamptz,
    moved_to timestamptz NOT NULL,
    run uuid,
    term bigint
);
CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.moves (job, moved_from, moved_to, run, term)
    SELECT NEW.name, OLD.cursor, NEW.cursor, NEW.cursor_run, (SELECT epoch FROM {schema}.leader);
    RETURN NULL;
END $$;
CREATE TRIGGER created AFTER INSERT ON {schema}.names FOR EACH ROW
WHEN (NEW.cursor IS NOT NULL) EXECUTE FUNCTION {schema}.note();
CREATE TRIGGER moved AFTER UPDATE ON {schema}.names FOR EACH ROW
WHEN (OLD.cursor IS DISTINCT FROM NEW.cursor) EXECUTE FUNCTION {schema}.note();"
    );
    Ok(client.batch_execute(&own).await?)
}

/// Makes the table of the bodies, on whichever server they write to.
pub(crate) async fn prepare_bodies(client: &Client, schema: &str) -> anyhow::Result<()> {
    // Nothing keeps a tick from being written twice: that is what is to be shown.
    let own = format!(
        "
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE {schema}.bodies (
    node integer NOT NULL,
    job text NOT NULL,
    key text NOT NULL,
    run text NOT NULL,
    token bigint NOT NULL,
    fire_time timestamptz,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz
);
CREATE INDEX ON {schema}.bodies (run);"
    );
    Ok(client.batch_execute(&own).await?)
}

/// Whether every tick up to an instant is decided: a cursor that late can stand only behind the last tick before it.
pub(crate) async fn decided(client: &Client, schema: &str, until: DateTime<Utc>) -> anyhow::Result<bool> {
    let decided = format!("SELECT coalesce(min(cursor) > $1, false) FROM {schema}.names");
    Ok(client.query_one(&decided, &[&until]).await?.try_get(0)?)
}

/// The books of the scheduler.
pub(crate) async fn read(client: &Client, schema: &str) -> anyhow::Result<Books> {
    let advances =
        format!("SELECT job, moved_from, moved_to, run::text, term FROM {schema}.moves ORDER BY nth");
    let read_advance = |row: &Row| -> Result<_, Error> {
        Ok(Advance {
            job: row.try_get(0)?,
            from: row.try_get(1)?,
            to: row.try_get(2)?,
            run: row.try_get(3)?,
            term: row.try_get(4)?,
        })
    };
    let advances = client.query(&advances, &[]).await?.iter().map(read_advance).collect::<Result<_, _>>()?;
    let runs = format!(
        "SELECT run::text, job, key, token, term, fire_time, claimed_at, ended_at, outcome, node::text
         FROM {schema}.runs
         UNION ALL
         SELECT run::text, run_job, name, token, run_term, fire_time, claimed_at, NULL, NULL, run_node::text
         FROM {schema}.names WHERE run IS NOT NULL"
    );
    let read_run = |row: &Row| -> Result<_, Error> {
        Ok(Claimed {
            run: row.try_get(0)?,
            job: row.try_get(1)?,
            key: row.try_get(2)?,
            token: row.try_get(3)?,
            term: row.try_get(4)?,
            fire_time: row.try_get(5)?,
            claimed_at: row.try_get(6)?,
            ended_at: row.try_get(7)?,
            outcome: row.try_get(8)?,
            node: row.try_get(9)?,
        })
    };
    let runs = client.query(&runs, &[]).await?.iter().map(read_run).collect::<Result<_, _>>()?;
    Ok(Books { advances, runs })
}

/// What the bodies wrote.
pub(crate) async fn bodies(client: &Client, schema: &str) -> anyhow::Result<Vec<BodyMark>> {
    let bodies = format!(
        "SELECT node, job, key, run, token, fire_time, at, ended_at FROM {schema}.bodies ORDER BY at"
    );
    let read_body = |row: &Row| -> anyhow::Result<_> {
        Ok(BodyMark {
            node: usize::try_from(row.try_get::<_, i32>(0)?)?,
            job: row.try_get(1)?,
            key: row.try_get(2)?,
            run: row.try_get(3)?,
            token: row.try_get(4)?,
            fire_time: row.try_get(5)?,
            started_at: row.try_get(6)?,
            ended_at: row.try_get(7)?,
        })
    };
    client.query(&bodies, &[]).await?.iter().map(read_body).collect()
}
