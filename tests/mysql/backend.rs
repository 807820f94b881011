//! Elector and locker over the records of a real server.

use callsheet::testkit::conformance;

use super::{SECOND, harness, patient, store::Nodes};

#[tokio::test]
async fn mysql_is_an_elector() {
    conformance::elector(&mut Nodes::new(harness::scope("elector"), 30 * SECOND, patient)).await;
}

#[tokio::test]
async fn mysql_is_a_locker() {
    conformance::locker(&mut Nodes::new(harness::scope("locker"), 30 * SECOND, patient)).await;
}
