//! The schema, and how it comes to the server.

use std::{any::Any, error::Error, panic::AssertUnwindSafe};

use callsheet_actors::{DurationText, adapter::bounded, port::LockError};
use futures_util::FutureExt;
use refinery_core::{Migration, Runner, error::Kind, traits::r#async::AsyncMigrate};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

use super::{
    failure::{self, MESSAGE_MAX, refusal, refused, unavailable},
    lock_holders::{end_of, process},
    settings::MIGRATION_LOCK_TIMEOUT,
    statement::schema::{self, quoted},
};

/// Every step, in order. A step that was released never changes.
const STEPS: [(&str, &str); 1] = [("V1__coordination", include_str!("migrations/V1__coordination.sql"))];

/// How many steps a newer version may have taken that this one still works on. What this one sends is kept
/// when the next step is made, and tried on the tables that it makes (`tests/postgres_upgrade.rs`).
const NEWER_STEPS_MAX: i32 = 1;

/// What the steps make and a node uses.
pub(super) const TABLES: [&str; 6] = ["leader", "scopes", "sessions", "names", "debts", "runs"];

/// From which of them it deletes.
pub(super) const EMPTIED: [&str; 3] = ["debts", "names", "sessions"];

/// From which of the others it deletes what is old.
const HISTORY: [&str; 4] = ["history_runs", "history_decisions", "history_operations", "runs"];

/// What a node calls.
pub(super) const ROUTINES: [&str; 3] = ["is_over", "take_over", "wait_for_leadership"];

/// The table, in the schema itself, of the steps that were taken.
const TABLE: &str = "migrations";

/// What [`migrate`] does, for a role that may create: run it with `psql`, then use `migrate(false)`.
pub(super) fn ddl(schema: &str) -> String {
    let name = quoted(schema);
    let (emptied, called) = (emptied(schema), called(schema));
    let old = HISTORY.map(|table| format!("{name}.{table}")).join(", ");
    let bookkeeping = Client::assert_migrations_table_query(TABLE);
    let mut ddl = format!(
        "-- The role of the nodes then needs:\n\
         --   GRANT USAGE ON SCHEMA {name} TO <role>;\n\
         --   GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {name} TO <role>;\n\
         --   GRANT DELETE ON {emptied} TO <role>;\n\
         --   GRANT DELETE ON {name}.backfills TO <role>; -- if there are to be any\n\
         --   GRANT DELETE ON {name}.requests TO <role>; -- so that nodes can ask each other\n\
         --   GRANT DELETE ON {name}.catalogue_jobs TO <role>; -- if jobs are to be stored\n\
         --   GRANT DELETE ON {old} TO <role>; -- so that old history goes\n\
         --   GRANT EXECUTE ON ROUTINE {called} TO <role>; -- unless everybody may\n\
         BEGIN;\n\
         CREATE SCHEMA IF NOT EXISTS {name};\n\
         SET LOCAL search_path = {name};\n\n\
         {bookkeeping}\n"
    );
    for ((name, sql), step) in STEPS.iter().zip(steps()) {
        // As the library writes it down, so that a later migration goes on from here.
        let taken = format!(
            "INSERT INTO {TABLE} (version, name, applied_on, checksum)\n\
             VALUES ({}, '{}', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{}');\n",
            step.version(),
            step.name(),
            step.checksum()
        );
        ddl.push_str(&format!("\n-- {name}\n{sql}\n{taken}"));
    }
    ddl.push_str("COMMIT;\n");
    ddl
}

/// The tables from which a node deletes, as they stand in a `GRANT`.
pub(super) fn emptied(schema: &str) -> String {
    let name = quoted(schema);
    EMPTIED.map(|table| format!("{name}.{table}")).join(", ")
}

/// The functions and procedures that a node calls, as they stand in a `GRANT`.
pub(super) fn called(schema: &str) -> String {
    let name = quoted(schema);
    ROUTINES.map(|routine| format!("{name}.{routine}")).join(", ")
}

fn steps() -> Vec<Migration> {
    let step = |(name, sql): &(&str, &str)| Migration::unapplied(name, sql);
    STEPS
        .iter()
        .map(step)
        .collect::<Result<_, _>>()
        .expect("invariant: the names of the steps are well-formed")
}

/// Refuses a schema to which a newer version has done more than this one can work on. This role can read
/// which steps were taken.
pub(super) async fn check_version(client: &Client, schema: &str) -> Result<(), LockError> {
    let newest = client.query_typed_opt(schema::NEWEST_STEP, &[]).await.map_err(|error| refusal(&error))?;
    let Some(row) = newest else { return Ok(()) };
    let read = || Ok((row.try_get("version")?, row.try_get("name")?));
    let (newest, name): (i32, String) = read().map_err(|error| refusal(&error))?;
    let own = steps().iter().map(Migration::version).max().unwrap_or_default();
    let most = own + NEWER_STEPS_MAX;
    if newest <= most {
        return Ok(());
    }
    let (build, name) = (env!("CARGO_PKG_VERSION"), bounded(&name, MESSAGE_MAX));
    Err(refused(format!(
        "the schema {schema:?} is at version V{newest} ({name:?}), and Callsheet {build}, which made V{own}, works on V{most} at \
         most; update this node to the version of the others, or let it use another schema"
    )))
}

/// Brings the schema up to date, one node at a time.
///
/// Steps that a newer version has taken are left alone: it may run beside this one.
pub(super) async fn migrate(client: &mut Client, schema: &str) -> Result<(), LockError> {
    let mut runner = Runner::new(&steps()).set_abort_missing(false);
    runner.set_migration_table_name(TABLE);
    if is_readable(client, schema).await? {
        check_version(client, schema).await?;
        // Another node may have done it meanwhile. Anybody who may connect can hold the lock.
        if is_up_to_date(client).await? {
            return Ok(());
        }
    }
    lock(client, schema).await?;
    // Not a plain "if not exists", which needs the right to create even if there is nothing to do.
    let exists =
        client.query_opt(schema::SCHEMA_EXISTS, &[&schema]).await.map_err(|error| refusal(&error))?;
    if exists.is_none() {
        let create = format!("CREATE SCHEMA {}", quoted(schema));
        client.batch_execute(&create).await.map_err(|error| refusal(&error))?;
    }
    contained(schema, runner.run_async(client)).await.map(drop)
}

/// Answers what the library does, if only that it panics: it does so over rows of its table that it did not
/// write.
async fn contained<T>(
    schema: &str,
    call: impl Future<Output = Result<T, refinery_core::Error>>,
) -> Result<T, LockError> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(answer) => answer.map_err(|error| failed(schema, &error)),
        Err(panic) => Err(panicked(schema, &*panic)),
    }
}

fn panicked(schema: &str, panic: &(dyn Any + Send)) -> LockError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let name = quoted(schema);
    refused(format!(
        "the migration library panicked over the schema {schema:?}: {}; look at {name}.{TABLE}, which nobody else may write: \
         each row has a number as its version, a time like 2026-01-31T12:00:00Z as applied_on, and a whole number as its checksum",
        bounded(text, MESSAGE_MAX)
    ))
}

/// Whether this role can read which steps were taken.
pub(super) async fn is_readable(client: &Client, schema: &str) -> Result<bool, LockError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&schema, Type::TEXT), (&TABLE, Type::TEXT)];
    let readable = client.query_typed_opt(schema::READABLE, &parameters).await;
    readable.map(|row| row.is_some()).map_err(|error| refusal(&error))
}

/// Whether every step was taken. In one round trip, as the library does not: each start of a node asks.
pub(super) async fn is_up_to_date(client: &Client) -> Result<bool, LockError> {
    let asked = client.query_typed(&Client::get_applied_migrations_query(TABLE), &[]).await;
    let taken = asked.and_then(|rows| rows.iter().map(Taken::of).collect::<Result<Vec<_>, _>>());
    let taken = taken.map_err(|error| refusal(&error))?;
    Ok(steps().iter().all(|step| taken.iter().any(|taken| taken.is(step))))
}

/// A step that was taken, as the library writes it down.
struct Taken {
    version: i32,
    name: String,
    checksum: String,
}

impl Taken {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            version: row.try_get("version")?,
            name: row.try_get("name")?,
            checksum: row.try_get("checksum")?,
        })
    }

    fn is(&self, step: &Migration) -> bool {
        self.version == step.version()
            && self.name == step.name()
            && self.checksum == step.checksum().to_string()
    }
}

/// Takes the lock of migrations, which is freed with the connection: it serves nothing else.
async fn lock(client: &Client, schema: &str) -> Result<(), LockError> {
    let Err(error) = client.query(schema::MIGRATION_LOCK, &[&schema]).await else { return Ok(()) };
    if !failure::is_lock_timeout(&error) {
        return Err(refusal(&error));
    }
    let holder = client.query_opt(schema::MIGRATION_LOCK_HOLDER, &[&schema]).await;
    let holder = holder.and_then(|row| row.as_ref().map(who_and_cure).transpose());
    Err(unavailable(match holder.map_err(|error| refusal(&error))? {
        Some((who, cure)) => format!(
            "the schema {schema:?} is not up to date, and for {} its migration waited for an advisory lock that is \
             held by {who}; if that is no node that migrates, {cure}",
            DurationText(MIGRATION_LOCK_TIMEOUT)
        ),
        None => format!("another node migrated the schema {schema:?} until just now; try again"),
    }))
}

fn who_and_cure(row: &Row) -> Result<(String, String), tokio_postgres::Error> {
    let pid = row.try_get("pid")?;
    Ok((process(pid, row.try_get("role")?, row.try_get("application")?), end_of(pid)))
}

fn failed(schema: &str, error: &refinery_core::Error) -> LockError {
    if let Kind::DivergentVersion(taken, step) = error.kind() {
        return refused(format!(
            "the schema {schema:?} was made by another build of Callsheet: its step {taken} is not the step {step} of \
             this one; use another schema, or stop all nodes and drop it with all \
             that they know of their jobs: DROP SCHEMA {} CASCADE",
            quoted(schema)
        ));
    }
    let of_server = error.source().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    of_server
        .map_or_else(|| refused(format!("the schema {schema:?} could not be migrated: {error}")), refusal)
}
