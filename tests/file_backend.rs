//! The example `file_backend`: a backend of one's own passes the suites.

#[path = "../examples/file_backend.rs"]
#[allow(dead_code, reason = "it is a program as well")]
mod example;

use std::sync::Arc;

use callsheet::{
    BoxFuture,
    port::Records,
    testkit::{
        RecordNodes,
        conformance::{self, RecordStore},
    },
};
use tempfile::TempDir;

use self::example::FileRecords;

/// Two scopes: two files.
struct Store(TempDir);

impl Store {
    fn records(&self, file: &str) -> Arc<dyn Records> {
        Arc::new(FileRecords(self.0.path().join(file), Arc::default()))
    }
}

impl RecordStore for Store {
    fn client(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let client = self.records("scope.json");
        Box::pin(async { client })
    }

    fn stranger(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        let stranger = self.records("other.json");
        Box::pin(async { stranger })
    }
}

fn store() -> Store {
    Store(TempDir::with_prefix("callsheet-file-").expect("a directory"))
}

#[tokio::test]
async fn a_file_is_a_store_of_records() {
    conformance::records(&mut store()).await;
}

#[tokio::test]
async fn so_a_backend_over_it_is_an_elector_and_a_locker() {
    let (elects, locks) = (store(), store());
    conformance::elector(&mut RecordNodes::new(|| elects.records("scope.json"))).await;
    conformance::locker(&mut RecordNodes::new(|| locks.records("scope.json"))).await;
}
