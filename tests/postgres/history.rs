//! The history on a real server.

use callsheet::port::{History, MemoryBounds};

use super::*;

async fn history(scope: &str) -> Arc<dyn History> {
    let node = Postgres::new(scope, server().url());
    // It makes the schema.
    node.locker().open().await.expect("a session opens");
    node.history(MemoryBounds::default()).expect("it has one")
}

#[tokio::test]
async fn it_is_a_history() {
    conformance::history(&*history(&scope("history")).await).await;
}
