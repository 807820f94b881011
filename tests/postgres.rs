//! Coordination on a real PostgreSQL server.

#[path = "common/postgres.rs"]
mod harness;

use std::{sync::Arc, time::Duration};

use callsheet::{
    backend::Postgres,
    port::{Backend, Locker},
    testkit::conformance::{self, Cluster},
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// The nodes of one scope.
struct PostgresCluster {
    scope: String,
    url: String,
    admin: Client,
}

impl PostgresCluster {
    async fn new(test: &str) -> Self {
        Self { scope: scope(test), url: server().url(), admin: admin().await }
    }

    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Postgres::new(&self.scope, &self.url))
    }

    /// A node with a session.
    async fn open(&self) -> (Arc<dyn Backend>, Arc<dyn Locker>) {
        let backend = self.backend();
        let locker = backend.locker();
        locker.open().await.expect("a session opens");
        (backend, locker)
    }
}

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

impl Cluster for PostgresCluster {
    fn nodes_max(&self) -> usize {
        usize::MAX
    }

    fn node(&mut self) -> BoxFuture<'_, Arc<dyn Backend>> {
        let backend = self.backend();
        async move { backend }.boxed()
    }

    fn kill(&mut self, backend: &Arc<dyn Backend>) -> BoxFuture<'_, ()> {
        let node = backend.node().expect("the store knows its nodes");
        async move {
            let name = format!("callsheet {}%", &node.as_uuid().simple().to_string()[..12]);
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
            while self.admin.query_one(kill, &[&name]).await.expect("an answer").get::<_, i64>(0) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed()
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

#[tokio::test]
async fn the_harness_starts_a_durable_server_of_its_own() {
    let setting = admin().await.query_one("SHOW fsync", &[]).await.expect("an answer");
    assert_eq!(setting.get::<_, &str>(0), "on");
}

#[tokio::test]
async fn postgres_is_an_elector() {
    conformance::elector(&mut PostgresCluster::new("elector").await).await;
}

#[tokio::test]
async fn postgres_is_a_locker() {
    conformance::locker(&mut PostgresCluster::new("locker").await).await;
}
