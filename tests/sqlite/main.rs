//! A single node whose coordination and history are in a file: what it keeps, whoever is killed, and what is wrong
//! with a path.

#[path = "../process/mod.rs"]
mod process;

use std::{path::PathBuf, sync::Arc};

use callsheet::{
    backend::{Durability, Local, LocalFile},
    port::Records,
    testkit::conformance::{self, RecordStore},
};
use futures_util::{FutureExt, future::BoxFuture};
use tempfile::TempDir;

mod disk;
mod kills;
mod paths;

/// A directory of a test, and a file in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("callsheet.db");
    (directory, path)
}

/// Two files: each is a scope.
struct Files {
    _directory: TempDir,
    own: LocalFile,
    other: LocalFile,
}

impl RecordStore for Files {
    fn client(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        async { self.own.records().expect("it opens") }.boxed()
    }

    fn stranger(&mut self) -> BoxFuture<'_, Arc<dyn Records>> {
        async { self.other.records().expect("it opens") }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_store_of_records() {
    let (directory, own) = place();
    // As long as a disk takes for thousands of commits, no session of the suite lives.
    let quick = |path| Local::at(path).durability(Durability::ProcessCrash);
    let other = quick(directory.path().join("other.db"));
    conformance::records(&mut Files { _directory: directory, own: quick(own), other }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_history() {
    let (_directory, path) = place();
    let history = Local::at(path).history().expect("it opens");
    conformance::history(&*history).await;
}
