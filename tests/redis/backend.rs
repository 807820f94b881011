//! Elector and locker over the records of a real server.

use callsheet::{
    backend::Redis,
    testkit::{RecordNodes, conformance},
};

use super::harness;

#[tokio::test]
async fn redis_is_an_elector() {
    let scope = harness::scope("elector");
    let client = || Redis::new(&*scope, harness::server().url()).records();
    conformance::elector(&mut RecordNodes::new(client)).await;
}

#[tokio::test]
async fn redis_is_a_locker() {
    let scope = harness::scope("locker");
    let client = || Redis::new(&*scope, harness::server().url()).records();
    conformance::locker(&mut RecordNodes::new(client)).await;
}
