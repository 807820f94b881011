//! Elector and locker over the records of a real server.

use callsheet::testkit::conformance;

use super::{SECOND, client, harness, store::Nodes};

#[tokio::test]
async fn redis_is_an_elector() {
    conformance::elector(&mut Nodes::new(harness::scope("elector"), 30 * SECOND, client)).await;
}

#[tokio::test]
async fn redis_is_a_locker() {
    conformance::locker(&mut Nodes::new(harness::scope("locker"), 30 * SECOND, client)).await;
}
