//! The schema, and how it comes to the server.

use std::error::Error;

use callsheet_actors::port::LockError;
use refinery_core::{Migration, Runner};
use tokio_postgres::Client;

use super::{
    failure::{self, refusal},
    sql,
};

/// Every step, in order. A step that was released never changes.
const STEPS: [(&str, &str); 1] = [("V1__coordination", include_str!("migrations/V1__coordination.sql"))];

/// What the steps make and a node uses.
pub(super) const TABLES: [&str; 4] = ["leader", "jobs", "lock_keys", "runs"];

/// The table, in the schema itself, of the steps that were taken.
const TABLE: &str = "migrations";

/// What [`migrate`] does, for a role that may create: run it with `psql`, then use `migrate(false)`.
pub(super) fn ddl(schema: &str) -> String {
    let mut ddl = format!("CREATE SCHEMA IF NOT EXISTS {schema};\nSET search_path = {schema};\n");
    for (name, step) in STEPS {
        ddl.push_str(&format!("\n-- {name}\n{step}"));
    }
    ddl
}

/// Brings the schema up to date, one node at a time.
///
/// Steps that a newer version has taken are left alone: it may run beside this one.
pub(super) async fn migrate(client: &mut Client, schema: &str) -> Result<(), LockError> {
    let refused = |error| refusal(&error);
    // Freed with the connection, which serves nothing else.
    client.query(sql::MIGRATION_LOCK, &[&schema]).await.map_err(refused)?;
    // The name was checked. Not a plain "if not exists", which needs the right to create even if there is nothing to do.
    let exists = client.query_opt(sql::SCHEMA_EXISTS, &[&schema]).await.map_err(refused)?.is_some();
    if !exists {
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.map_err(refused)?;
    }
    let steps: Result<Vec<_>, _> =
        STEPS.iter().map(|(name, step)| Migration::unapplied(name, step)).collect();
    let steps = steps.map_err(|error| failure::refused(error.to_string()))?;
    let mut runner = Runner::new(&steps).set_abort_missing(false);
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
