//! Coordination on Consul, against a stub of its published protocol or, with `CALLSHEET_TEST_CONSUL_ADDR`, a real agent.

#[path = "../common/consul.rs"]
mod harness;
#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/records_store.rs"]
mod store;

mod faults;
mod protocol;
mod records;
mod refusals;

use std::sync::Arc;

use callsheet::{backend::Consul, port::Records};

use store::{SECOND, SOON, alive, made, name, one, put, stored, telling, until, write};

/// A client of a scope on the agent that all tests share.
fn client(scope: &str) -> Arc<dyn Records> {
    Consul::new(scope, harness::url()).records()
}
