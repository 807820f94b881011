//! Coordination on a real MariaDB server: what it keeps, what it refuses, and what becomes of nodes when it is killed,
//! frozen, restarted, or made read-only.

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/mysql.rs"]
mod harness;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/sql_faults.rs"]
mod sql;
#[path = "../common/records_store.rs"]
mod store;

mod backend;
mod faults;
mod nodes;
mod plans;
mod records;
mod refusals;
mod tls;

use std::sync::Arc;

use callsheet::{backend::Mysql, port::Records};

use store::{SECOND, alive, made, name, one, put, stored, until, write};

/// A client for a suite, which asks for many things at once on a machine that may be busy.
fn patient(scope: &str) -> Arc<dyn Records> {
    Mysql::new(scope, harness::server().url()).deadline(5 * SECOND).records()
}

/// A client of a scope on the server that all tests share.
fn client(scope: &str) -> Arc<dyn Records> {
    Mysql::new(scope, harness::server().url()).records()
}
