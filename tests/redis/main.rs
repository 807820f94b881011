//! Coordination on a real Redis server: what it keeps, what it refuses, and what becomes of nodes when it is killed,
//! frozen, restarted, or replaced by a replica.

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/redis.rs"]
mod harness;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/records_store.rs"]
mod store;

mod backend;
mod cluster;
mod elected;
mod faults;
mod nodes;
mod records;
mod refusals;
mod sentinel;
mod tls;

use std::sync::Arc;

use callsheet::{backend::Redis, port::Records};

use store::{SECOND, SOON, alive, made, name, one, put, stored, until, write};

/// A client of a scope on the server that all tests share.
fn client(scope: &str) -> Arc<dyn Records> {
    Redis::new(scope, harness::server().url()).records()
}

/// The URL of a server by way of another port.
fn url_at(port: u16) -> String {
    format!("redis://:{}@127.0.0.1:{port}/0", harness::PASSWORD)
}
