//! The table of sessions on a real PostgreSQL server: whom a beacon belongs to.

#[path = "common/postgres.rs"]
mod harness;

use std::time::Duration;

use callsheet::{backend::Postgres, port::Backend};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use self::harness::{scope, server};

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The rows of a scope whose beacons the registered processes and roles hold, and the number of all of them.
const HELD: &str = "
SELECT s.node, s.name, s.version, extract(epoch FROM s.lease)::float8 AS lease, s.zone_data,
       s.since BETWEEN clock_timestamp() - interval '1 minute' AND clock_timestamp() AS fresh
FROM callsheet.sessions s
JOIN pg_locks l ON l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock' AND l.pid = s.pid
               AND (l.classid::int8 << 32 | l.objid::int8) = s.beacon
JOIN pg_stat_activity a ON a.pid = s.pid AND a.usename = s.role
WHERE s.scope = $1";

#[tokio::test]
async fn an_open_session_stands_in_the_table_and_goes_with_its_close() {
    let (scope, admin) = (scope("table"), admin().await);
    let url = format!("{}?application_name=north", server().url());
    let node = Postgres::new(&scope, url).lease(Duration::from_secs(7));
    node.locker().open().await.expect("a session opens");

    let row = admin.query_one(HELD, &[&scope]).await.expect("one session, whose process holds the beacon");
    assert_eq!(row.get::<_, Uuid>("node"), node.node().expect("the store knows its nodes").as_uuid());
    assert_eq!(row.get::<_, &str>("name"), "north");
    assert_eq!(row.get::<_, &str>("version"), env!("CARGO_PKG_VERSION"));
    assert!((row.get::<_, f64>("lease") - 7.0).abs() < 1e-6);
    assert!(row.get::<_, bool>("fresh"));

    node.locker().close().await;
    let left = "SELECT FROM callsheet.sessions WHERE scope = $1";
    assert!(admin.query(left, &[&scope]).await.expect("an answer").is_empty());
}
