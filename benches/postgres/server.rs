//! The server, its processes, and what a commit costs.

use std::time::{Duration, Instant};

use anyhow::Context;
use callsheet::{NodeId, backend::Postgres, port::Backend};
use hdrhistogram::Histogram;
use tokio_postgres::{Client, NoTls};

use crate::{harness, instruments::histogram};

/// The process of the server that serves the session of a node.
pub(crate) async fn process_of(backend: &Postgres) -> anyhow::Result<i32> {
    process_on(&connect().await?, backend.node().context("it has an id")?).await
}

/// The same on the server of a connection.
pub(crate) async fn process_on(client: &Client, node: NodeId) -> anyhow::Result<i32> {
    let node = node.as_uuid().simple().to_string();
    let process =
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'callsheet ' || $1 || '% session %'";
    Ok(client.query_one(process, &[&&node[..12]]).await?.try_get(0)?)
}

pub(crate) async fn connect() -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&harness::server().url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// How long it takes to change one row, once in 10 ms.
pub(crate) async fn commits(count: u32) -> anyhow::Result<Histogram<u64>> {
    let client = connect().await?;
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS one_row AS SELECT 0 AS n; SET jit = off; SET synchronous_commit = on",
        )
        .await?;
    let change = client.prepare("UPDATE one_row SET n = n + 1").await?;
    let mut took = histogram();
    for _ in 0..count {
        let started = Instant::now();
        client.execute(&change, &[]).await?;
        took.saturating_record(u64::try_from(started.elapsed().as_micros())?);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(took)
}

/// The processor time of a process with one thread.
pub(crate) fn processor_time_of(pid: i32) -> anyhow::Result<Duration> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanos = line.split(' ').next().context("schedstat: no first field")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}

/// The processor time of all processes that a process has started, and that are still there.
pub(crate) fn processor_time_below(parent: i32) -> anyhow::Result<Duration> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let mut all = Duration::ZERO;
    for child in children.split_whitespace() {
        // It may end meanwhile.
        all += processor_time_of(child.parse()?).unwrap_or_default();
    }
    Ok(all)
}
