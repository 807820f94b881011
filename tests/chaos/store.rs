//! What the nodes coordinate on, as the harness sees it: from outside, and whatever is done to the nodes.

use std::{process::Command, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{task::block_in_place, time::timeout};
use tokio_postgres::{Client, NoTls};

use super::{
    books,
    freeze::Frozen,
    harness::{PASSWORD, Server, Stop, USER},
    history::Books,
    node::Plan,
};

/// How long the harness waits for an answer of its own.
const ANSWER: Duration = Duration::from_secs(10);
/// The role of the nodes: an ordinary one, which owns its tables.
pub(crate) const NODES: &str = "nodes";
/// A role that may do nothing but connect.
const STRANGER: &str = "stranger";

/// What of a node's connections and locks the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The beginning of the node's id.
    pub(crate) node: String,
    pub(crate) connections: i64,
    pub(crate) locks: i64,
}

/// A store of which the promises are checked. What is done to it is a fault of its own kind.
pub(crate) trait Store: Sized {
    /// Starts its server.
    fn start() -> Self;
    /// The port at which its server can be reached now.
    fn address(&self) -> u16;
    /// Stops its server. Blocks.
    fn stop(&self, how: Stop);
    /// Starts it again, on its port and its data. Blocks.
    fn restart(&self);
    /// How a node names it when it reaches it at a port.
    fn url(&self, port: u16) -> String;
    /// Makes its tables, whose moves are written down.
    async fn prepare(&self, plan: &Plan) -> anyhow::Result<()>;
    /// Whether every tick up to an instant is decided.
    async fn decided(&self, plan: &Plan, until: DateTime<Utc>) -> anyhow::Result<bool>;
    /// What it knows of runs and cursors.
    async fn books(&self, plan: &Plan) -> anyhow::Result<Books>;
}

/// A PostgreSQL server, and perhaps its standby.
pub(crate) struct PostgresStore {
    pub(crate) server: Server,
    pub(crate) standby: Option<Server>,
}

impl Store for PostgresStore {
    fn start() -> Self {
        Self { server: block_in_place(Server::start), standby: None }
    }

    fn address(&self) -> u16 {
        self.server.port()
    }

    fn stop(&self, how: Stop) {
        self.server.stop(how);
    }

    fn restart(&self) {
        self.server.start_again();
    }

    fn url(&self, port: u16) -> String {
        format!("postgres://{NODES}:{PASSWORD}@127.0.0.1:{port}/postgres")
    }

    async fn prepare(&self, plan: &Plan) -> anyhow::Result<()> {
        let roles = format!(
            "CREATE ROLE {NODES} LOGIN PASSWORD '{PASSWORD}';
             GRANT CREATE ON DATABASE postgres TO {NODES};
             CREATE ROLE {STRANGER} LOGIN PASSWORD '{PASSWORD}';"
        );
        self.run(&roles).await?;
        let client = connect(&self.url(self.address())).await?;
        books::prepare(&client, &plan.backend().ddl(), &plan.schema).await
    }

    async fn decided(&self, plan: &Plan, until: DateTime<Utc>) -> anyhow::Result<bool> {
        books::decided(&self.client().await?, &plan.schema, until).await
    }

    async fn books(&self, plan: &Plan) -> anyhow::Result<Books> {
        books::read(&self.client().await?, &plan.schema).await
    }
}

impl PostgresStore {
    /// A connection of the superuser.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        connect(&super_url(self.address())).await
    }

    /// A connection of the nodes' role: what it holds may be ended by them.
    pub(crate) async fn colleague(&self) -> anyhow::Result<Client> {
        connect(&format!("postgres://{NODES}:{PASSWORD}@127.0.0.1:{}/postgres", self.address())).await
    }

    /// A connection of a role that may do nothing but connect.
    pub(crate) async fn stranger(&self) -> anyhow::Result<Client> {
        connect(&format!("postgres://{STRANGER}:{PASSWORD}@127.0.0.1:{}/postgres", self.address())).await
    }

    /// Runs statements as the superuser, in the way of nobody.
    pub(crate) async fn run(&self, statements: &str) -> anyhow::Result<()> {
        let client = self.client().await?;
        for statement in statements.split(";\n") {
            let done = timeout(ANSWER, client.batch_execute(statement)).await;
            done.context("no answer")?.with_context(|| statement.to_owned())?;
        }
        Ok(())
    }

    /// The same with several that hold together.
    pub(crate) async fn run_all(&self, statements: &str) -> anyhow::Result<()> {
        let client = self.client().await?;
        let done = timeout(ANSWER, client.batch_execute(statements)).await;
        done.context("no answer")?.with_context(|| statements.to_owned())
    }

    /// The number that a query answers.
    pub(crate) async fn number(&self, query: &str) -> anyhow::Result<i64> {
        let client = self.client().await?;
        let row = timeout(ANSWER, client.query_one(query, &[])).await.context("no answer")?;
        Ok(row.with_context(|| query.to_owned())?.try_get(0)?)
    }

    /// The server process that serves the session of a node.
    pub(crate) async fn backend_of(&self, node: &str) -> anyhow::Result<i64> {
        let query = format!(
            "SELECT pid::int8 FROM pg_stat_activity WHERE application_name LIKE 'callsheet {node} session %'
             ORDER BY backend_start DESC LIMIT 1"
        );
        self.number(&query).await
    }

    /// Stops one process of the server until the answer is dropped.
    pub(crate) async fn freeze(&self, pid: i64) -> anyhow::Result<Frozen> {
        let mut frozen = Frozen::default();
        frozen.freeze(i32::try_from(pid)?, &self.client().await?).await;
        Ok(frozen)
    }

    /// Ends every connection of the nodes.
    pub(crate) async fn end_sessions(&self) -> anyhow::Result<()> {
        let query = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{NODES}'"
        );
        self.number(&query).await.map(drop)
    }
}

/// Sends a signal to a process of the server.
pub(crate) fn signal(pid: i64, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process")?;
    kill_process(pid, signal).context("only root, or whoever runs the server, may signal it")
}

/// The URL of the superuser at a port.
pub(crate) fn super_url(port: u16) -> String {
    format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres?connect_timeout=2")
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        timeout(ANSWER, tokio_postgres::connect(url, NoTls)).await.context("no answer")??;
    tokio::spawn(connection);
    Ok(client)
}

/// What the server holds of each node.
pub(crate) async fn holdings(client: &Client) -> Result<Vec<Holding>, tokio_postgres::Error> {
    const HOLDINGS: &str = "
SELECT split_part(a.application_name, ' ', 2) AS node, count(*) AS connections, sum(l.locks)::int8 AS locks
FROM pg_stat_activity a CROSS JOIN LATERAL (
    SELECT count(*) AS locks FROM pg_locks l
    WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock'
) AS l
WHERE a.application_name LIKE 'callsheet %' AND split_part(a.application_name, ' ', 3) <> 'history'
GROUP BY 1";
    let holding = |row: &tokio_postgres::Row| -> Result<_, tokio_postgres::Error> {
        Ok(Holding { node: row.try_get(0)?, connections: row.try_get(1)?, locks: row.try_get(2)? })
    };
    client.query(HOLDINGS, &[]).await?.iter().map(holding).collect()
}

/// The test that is a node.
pub(crate) const NODE_TEST: &str = "a_node";

/// This program as a node.
pub(crate) fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    // More than one thread: with one, the name of the test is printed before the first event, on its line.
    command.args(["--exact", NODE_TEST, "--nocapture", "--test-threads=2"]);
    command
}
