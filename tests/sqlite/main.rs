//! A single node whose coordination and history are in a file: what it keeps, whoever is killed, and what is wrong
//! with a path.

#[path = "../process/mod.rs"]
mod process;

use std::{path::PathBuf, sync::Arc};

use callsheet::{
    backend::{Durability, Local, LocalFile},
    port::{Backend, History, MemoryBounds, Records},
    testkit::conformance::{self, Cluster, RecordStore},
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tempfile::TempDir;

mod disk;
mod kills;
mod named;
mod paths;
mod restarts;

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

/// The history of a file.
fn history(file: &LocalFile) -> Arc<dyn History> {
    Backend::history(file, MemoryBounds::default()).expect("it opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_history() {
    let (_directory, path) = place();
    conformance::history(&*history(&Local::at(path))).await;
}

/// The one node that a file has.
struct OneNode {
    _directory: TempDir,
    file: Arc<LocalFile>,
}

impl Cluster for OneNode {
    fn nodes_max(&self) -> usize {
        1
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        async { self.file.clone() as Arc<dyn Backend> }.boxed()
    }

    fn kill(&mut self, _: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        unreachable!("there is one node")
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

fn one_node() -> OneNode {
    let (directory, path) = place();
    let file = Local::at(path).durability(Durability::ProcessCrash);
    assert!(file.single_node() && file.faults().is_empty());
    OneNode { _directory: directory, file: Arc::new(file) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_an_elector() {
    conformance::elector(&mut one_node()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_locker() {
    conformance::locker(&mut one_node()).await;
}
