//! Elector and locker over the records of a real server.

use callsheet::testkit::{RecordNodes, conformance};

use super::{harness, patient};

#[tokio::test]
async fn postgres_through_a_pooler_is_an_elector() {
    let scope = harness::scope("elector");
    conformance::elector(&mut RecordNodes::new(|| patient(&scope))).await;
}

#[tokio::test]
async fn postgres_through_a_pooler_is_a_locker() {
    let scope = harness::scope("locker");
    conformance::locker(&mut RecordNodes::new(|| patient(&scope))).await;
}
