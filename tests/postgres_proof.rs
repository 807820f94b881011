//! What it costs to prove that a claim would be possible.

#[path = "common/postgres.rs"]
mod harness;

use std::time::Duration;

use callsheet::{
    Callsheet, Job,
    backend::Postgres,
    port::{Backend, Proof},
    schedule::cron,
};
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect(query).get(0)
}

#[tokio::test]
async fn a_thousand_proofs_leave_one_row_that_never_left_its_page() {
    let admin = admin().await;
    let backend = Postgres::new(scope("proof"), server().url()).schema("proofs");
    let locker = backend.locker();
    locker.open().await.expect("a session");
    // Of the table's own: other tests have schemas of their own.
    let updates =
        "SELECT coalesce(sum(n_tup_upd), 0)::int8 FROM pg_stat_user_tables WHERE schemaname = 'proofs'";
    let hot =
        "SELECT coalesce(sum(n_tup_hot_upd), 0)::int8 FROM pg_stat_user_tables WHERE schemaname = 'proofs'";

    for _ in 0..1_000 {
        locker.prove(Proof::default()).await.expect("it could claim");
    }

    assert_eq!(count(&admin, "SELECT count(*) FROM proofs.names").await, 1);
    let size = count(&admin, "SELECT pg_relation_size('proofs.names')").await;
    assert!(size <= 4 * 8_192, "{size} bytes for one row");
    locker.close().await;
    let reported = async {
        loop {
            let updates = count(&admin, updates).await;
            if updates >= 999 {
                return (updates, count(&admin, hot).await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (updates, hot) =
        tokio::time::timeout(Duration::from_secs(30), reported).await.expect("it is counted");
    assert!(hot * 100 >= updates * 95, "{hot} of {updates} changed no index");
}

#[tokio::test]
async fn no_job_is_seen_in_the_row_of_the_proof() {
    let admin = admin().await;
    let name = scope("row");
    let backend = Postgres::new(name.clone(), server().url()).schema("row").lease(Duration::from_secs(1));
    let job = Job::new("yearly", cron("0 0 1 1 *")).run(async |_| {});
    let jobs = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
    let proved = async {
        while count(&admin, "SELECT count(*) FROM \"row\".names WHERE name = ''").await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), proved).await.expect("an idle node proves it");

    let other = Postgres::new(name, server().url()).schema("row");
    let locker = other.locker();
    locker.open().await.expect("a session");
    let lost = locker.close_lost(10).await.expect("it answers");

    assert!(lost.lost.is_empty(), "{lost:?}");
    let open = "SELECT count(*) FROM \"row\".all_runs";
    assert_eq!(count(&admin, open).await, 0);
    jobs.shutdown(Duration::from_secs(1)).await;
}
