//! The port when the server, or the way to it, fails.

use std::{sync::Arc, time::Duration};

use callsheet::{
    backend::Mysql,
    port::{Records, RecordsError, Version},
};
use mysql_async::{Conn, Opts, prelude::Queryable};

use super::{
    harness::{self, DATABASE, PASSWORD, Server, USER},
    put,
    sql::{Database, sql_faults},
    stored, until, write,
};

impl Database for Server {
    type Other = Conn;

    fn start() -> Self {
        Self::start()
    }

    fn shared() -> &'static Self {
        harness::server()
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn records(scope: &str, port: u16, deadline: Duration) -> Arc<dyn Records> {
        let url = format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{port}/{DATABASE}");
        Mysql::new(scope, url).deadline(deadline).records()
    }

    fn end(&self, killed: bool) {
        if killed { self.kill() } else { self.stop() }
    }

    fn start_again(&self) {
        self.start_again();
    }

    fn freeze(&self) {
        self.freeze();
    }

    fn thaw(&self) {
        self.thaw();
    }

    async fn other(&self, statements: &str) -> Conn {
        let mut other = Conn::new(Opts::from_url(&self.url()).expect("a URL")).await.expect("a connection");
        Self::run(&mut other, statements).await;
        other
    }

    async fn run(other: &mut Conn, statements: &str) {
        for statement in statements.split(';').filter(|statement| !statement.trim().is_empty()) {
            other.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// Who has written more is spared.
    fn begin(scope: &str) -> String {
        let rows: Vec<_> = (0..50).map(|nth| format!("('{scope}', 'name/z-{nth}', 7, 'x')")).collect();
        format!("BEGIN; INSERT INTO callsheet_records VALUES {}", rows.join(", "))
    }

    fn lock(scope: &str, id: Option<&str>) -> String {
        let record = id.map(|id| format!(" AND name = 'name/{id}'")).unwrap_or_default();
        format!("SELECT version FROM callsheet_records WHERE scope = '{scope}'{record} FOR UPDATE")
    }

    /// A client keeps two connections.
    async fn left_open(&self, _: &str) -> usize {
        let count = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'");
        self.ask(&count).trim().parse::<usize>().expect("a number").saturating_sub(2)
    }
}

sql_faults!(Server);

#[tokio::test]
async fn tables_that_are_dropped_are_told_and_made_again() {
    let server = Server::start();
    let records = Mysql::new("scope", server.url()).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    server.ask("DROP TABLE callsheet_records, callsheet_sessions");

    let Err(RecordsError::NotDone { reason }) = records.commit(&put("job", version, "two")).await else {
        panic!("the table is gone")
    };
    assert!(reason.contains("the tables are gone") && reason.contains("Mysql::ddl()"), "{reason}");
    until("made", async || records.read(&[], &[]).await.is_ok()).await;
    assert_eq!(stored(&*records, "job").await, None);
}
