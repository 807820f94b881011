//! The port when the server, the pooler, or the way to them, fails.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use callsheet::{
    backend::PostgresLease,
    port::{Records, Version},
};
use tokio_postgres::Client;

use super::{
    SECOND, alive, ask,
    harness::{self, PASSWORD, Server, Stop, USER},
    pooler::Pooler,
    put,
    sql::{Database, sql_faults},
    stored, until, write,
};

/// A server, and the pooler before it.
struct Pooled {
    server: Server,
    pooler: Pooler,
}

impl Database for Pooled {
    type Other = Client;

    fn start() -> Self {
        let server = Server::start();
        let pooler = Pooler::before(&server, 4);
        Self { server, pooler }
    }

    fn shared() -> &'static Self {
        static SHARED: OnceLock<Pooled> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn port(&self) -> u16 {
        self.pooler.port()
    }

    fn records(scope: &str, port: u16, deadline: Duration) -> Arc<dyn Records> {
        let url = format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres");
        PostgresLease::new(scope, url).deadline(deadline).records()
    }

    fn end(&self, killed: bool) {
        self.server.stop(if killed { Stop::Immediate } else { Stop::Fast });
    }

    fn start_again(&self) {
        self.server.start_again();
    }

    fn freeze(&self) {
        self.pooler.freeze();
    }

    fn thaw(&self) {
        self.pooler.thaw();
    }

    async fn other(&self, statements: &str) -> Client {
        let mut other = harness::connect(&self.server.url()).await;
        Self::run(&mut other, statements).await;
        other
    }

    async fn run(other: &mut Client, statements: &str) {
        other.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    fn begin(_: &str) -> String {
        "BEGIN; SET LOCAL deadlock_timeout = '1min'".to_owned()
    }

    fn lock(scope: &str, id: Option<&str>) -> String {
        let record = id.map(|id| format!(" AND name = 'name/{id}'")).unwrap_or_default();
        format!(
            "SELECT FROM callsheet_lease.records WHERE scope = convert_to('{scope}', 'UTF8'){record} FOR UPDATE"
        )
    }

    async fn left_open(&self, scope: &str) -> usize {
        let open = format!(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'callsheet {scope}' AND xact_start IS NOT NULL"
        );
        ask(&self.server, &open).await.len()
    }
}

sql_faults!(Pooled);

#[tokio::test]
async fn a_pooler_that_is_killed_and_started_again_loses_nothing() {
    let Pooled { server: _server, pooler } = Pooled::start();
    let records = PostgresLease::new(harness::scope("pooler"), pooler.url()).records();
    let session = records.open(60 * SECOND).await.expect("it opens");
    let mut version = write(&*records, "job", Version::ABSENT, "0").await;
    for nth in ["1", "2"] {
        pooler.kill();
        let while_away = records.commit(&put("job", version, "never")).await;
        assert!(while_away.is_err(), "{while_away:?}");
        pooler.start_again();
        until("back", async || records.read(&[], &[]).await.is_ok()).await;
        assert_ne!(stored(&*records, "job").await.as_deref(), Some("never"));
        version = write(&*records, "job", version, nth).await;
        until("renewed", async || records.renew(session).await == Ok(true)).await;
    }
    assert!(alive(&*records, session).await);
}
