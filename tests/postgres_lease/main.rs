//! Coordination on a real PostgreSQL server through PgBouncer in transaction mode: what it keeps, what it refuses, and
//! what becomes of nodes when the server or the pooler is killed, frozen, or restarted.

#![allow(clippy::duplicate_mod, reason = "each harness of a server brings what it stands on")]

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/postgres.rs"]
mod harness;
#[path = "../common/pgbouncer.rs"]
mod pooler;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/sql_faults.rs"]
mod sql;
#[path = "../common/records_store.rs"]
mod store;

mod backend;
mod credentials;
mod faults;
mod nodes;
mod plans;
mod records;
mod refusals;

use std::sync::{Arc, OnceLock};

use callsheet::{backend::PostgresLease, port::Records};

use pooler::Pooler;
use store::{SECOND, alive, made, name, one, put, stored, until, write};

/// The pooler before the server that all tests share. It has fewer connections than it is asked for.
fn pooler() -> &'static Pooler {
    static POOLER: OnceLock<Pooler> = OnceLock::new();
    POOLER.get_or_init(|| Pooler::before(harness::server(), 6))
}

/// A client for a suite, which asks for many things at once on a machine that may be busy.
fn patient(scope: &str) -> Arc<dyn Records> {
    PostgresLease::new(scope, pooler().url()).deadline(5 * SECOND).records()
}

/// A client of a scope through the pooler that all tests share.
fn client(scope: &str) -> Arc<dyn Records> {
    PostgresLease::new(scope, pooler().url()).records()
}

/// Asks the server something itself, as its superuser, and answers the first column of all rows.
async fn ask(server: &harness::Server, statements: &str) -> Vec<String> {
    let client = harness::connect(&server.url()).await;
    let answered =
        client.simple_query(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    let first = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
        _ => None,
    };
    answered.into_iter().filter_map(first).collect()
}
