//! Coordination on real etcd servers: what they keep, what is refused, and what becomes of nodes when servers are killed,
//! frozen, restarted, or cut off from each other.

#[path = "../common/authority.rs"]
mod authority;
#[path = "../common/etcd.rs"]
mod harness;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/records_store.rs"]
mod store;

mod backend;
mod cluster;
mod faults;
mod nodes;
mod records;
mod refusals;
mod tls;

use std::sync::Arc;

use callsheet::{backend::Etcd, port::Records};

use store::{SECOND, SOON, alive, made, name, one, put, stored, telling, until, write};

/// A client of a scope on the server that all tests share.
fn client(scope: &str) -> Arc<dyn Records> {
    Etcd::new(scope, harness::server().url()).records()
}

/// The URL of a server by way of another port.
fn url_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
