//! The schema, and how it comes to the server.

use std::error::Error;

use callsheet_actors::port::LockError;
use refinery_core::{Migration, Runner, traits::r#async::AsyncMigrate};
use tokio_postgres::Client;

use super::{
    failure::{self, refusal},
    sql,
};

/// Every step, in order. A step that was released never changes.
const STEPS: [(&str, &str); 1] = [("V1__coordination", include_str!("migrations/V1__coordination.sql"))];

/// What the steps make and a node uses.
pub(super) const TABLES: [&str; 6] = ["leader", "scopes", "sessions", "names", "debts", "runs"];

/// From which of them it deletes.
pub(super) const EMPTIED: [&str; 3] = ["debts", "names", "sessions"];

/// What a node calls.
pub(super) const ROUTINES: [&str; 2] = ["is_over", "wait_for_leadership"];

/// The table, in the schema itself, of the steps that were taken.
const TABLE: &str = "migrations";

/// What [`migrate`] does, for a role that may create: run it with `psql`, then use `migrate(false)`.
pub(super) fn ddl(schema: &str) -> String {
    let name = sql::quoted(schema);
    let (emptied, called) = (emptied(schema), called(schema));
    let bookkeeping = Client::assert_migrations_table_query(TABLE);
    let mut ddl = format!(
        "-- The role of the nodes then needs:\n\
         --   GRANT USAGE ON SCHEMA {name} TO <role>;\n\
         --   GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {name} TO <role>;\n\
         --   GRANT DELETE ON {emptied} TO <role>;\n\
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
    let name = sql::quoted(schema);
    EMPTIED.map(|table| format!("{name}.{table}")).join(", ")
}

/// The functions and procedures that a node calls, as they stand in a `GRANT`.
pub(super) fn called(schema: &str) -> String {
    let name = sql::quoted(schema);
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

/// Brings the schema up to date, one node at a time.
///
/// Steps that a newer version has taken are left alone: it may run beside this one.
pub(super) async fn migrate(client: &mut Client, schema: &str) -> Result<(), LockError> {
    let refused = |error| refusal(&error);
    // Freed with the connection, which serves nothing else.
    client.query(sql::MIGRATION_LOCK, &[&schema]).await.map_err(refused)?;
    // Not a plain "if not exists", which needs the right to create even if there is nothing to do.
    let exists = client.query_opt(sql::SCHEMA_EXISTS, &[&schema]).await.map_err(refused)?.is_some();
    if !exists {
        client.batch_execute(&format!("CREATE SCHEMA {}", sql::quoted(schema))).await.map_err(refused)?;
    }
    let mut runner = Runner::new(&steps()).set_abort_missing(false);
    runner.set_migration_table_name(TABLE);
    let migrated = runner.run_async(client).await;
    migrated.map(drop).map_err(|error| {
        let of_server = error.source().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
        of_server.map_or_else(
            || failure::refused(format!("the schema {schema:?} could not be migrated: {error}")),
            refusal,
        )
    })
}
