//! Coordination on a real PostgreSQL server.

#[path = "common/postgres.rs"]
mod harness;

use tokio_postgres::NoTls;

#[tokio::test]
async fn the_harness_starts_a_durable_server_of_its_own() {
    let (client, connection) = tokio_postgres::connect(&harness::server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let setting = client.query_one("SHOW fsync", &[]).await.expect("an answer");
    assert_eq!(setting.get::<_, &str>(0), "on");
}
