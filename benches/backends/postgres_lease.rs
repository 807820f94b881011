//! PostgreSQL through PgBouncer in transaction mode. The usual way: an advisory lock of a transaction that is open as long
//! as the run.

#[path = "../../tests/common/postgres.rs"]
mod harness;
#[path = "../../tests/common/pgbouncer.rs"]
mod pooler;

use std::time::{Duration, Instant};

use anyhow::ensure;
use callsheet::backend::PostgresLease;
use futures_util::future::{join_all, try_join_all};
use tokio_postgres::{Client, types::Type};

use self::{harness::Server, pooler::Pooler};
use crate::{AT_ONCE, Measured, Naive, Turns, compare};

pub(crate) async fn measure(turns: Turns) -> anyhow::Result<()> {
    let server = Server::start();
    let pooler = Pooler::before(&server, AT_ONCE + 4);
    let records = PostgresLease::new("bench", pooler.url()).records();
    let naive = AdvisoryLocks::connect(&pooler.url()).await;
    compare("PostgreSQL through PgBouncer, each commit on the disk", records, naive, turns).await
}

/// A connection for each lock that is held at a time.
struct AdvisoryLocks(Vec<Client>);

impl AdvisoryLocks {
    async fn connect(url: &str) -> Self {
        Self(join_all((0..AT_ONCE).map(|_| harness::connect(url))).await)
    }
}

impl Naive for AdvisoryLocks {
    const NAME: &'static str = "`pg_try_advisory_xact_lock` and `COMMIT`";

    async fn run(&mut self, at_once: usize, time: Duration, measured: &mut Measured) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            let clients = self.0.iter().take(at_once).enumerate();
            let locked = try_join_all(clients.map(async |(nth, client)| {
                let key = i64::try_from(nth).unwrap_or_default();
                client.batch_execute("BEGIN").await?;
                let lock = "SELECT pg_try_advisory_xact_lock($1)";
                client.query_typed_one(lock, &[(&key, Type::INT8)]).await?.try_get::<_, bool>(0)
            }));
            ensure!(locked.await?.iter().all(|locked| *locked), "nobody else locks");
            let claimed = began.elapsed();
            let clients = self.0.iter().take(at_once);
            try_join_all(clients.map(|client| client.batch_execute("COMMIT"))).await?;
            measured.add(at_once, claimed, began.elapsed());
        }
        Ok(())
    }
}
