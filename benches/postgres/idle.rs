//! Nodes with nothing to do, behind a proxy that counts what they ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use callsheet::{Callsheet, Job, backend::Postgres, port::Backend, schedule::every};
use chrono::Utc;
use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{JOBS, Plan, harness, instruments::locked, server::connect, ticks::body};

/// The period of jobs that are not due.
const FAR: Duration = Duration::from_secs(30 * 86_400);

impl Plan {
    /// What nodes with nothing to do ask of the server. A proxy between counts the messages that make it
    /// execute something.
    ///
    /// What is asked once a minute must be in it: a shorter window tells what happened to fall into it.
    pub(crate) fn idle(&self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            // With it, a node asks the history about what it shows of each job.
            metrics::set_global_recorder(Keeper)
                .map_err(|_| anyhow::anyhow!("there is a recorder already"))?;
            println!(
                "idle: {JOBS} jobs that are not due, each with metrics, for {:?}; the target is 1 query/s",
                self.idle
            );
            println!("{:<10} {:>10} {:>12} {:>15}", "", "queries/s", "connections", "advisory locks");
            let admin = connect().await?;
            let mut nodes = Vec::new();
            for role in ["leader", "follower"] {
                let (url, queries) = counted().await?;
                let backend = Postgres::new("idle", url);
                let id = backend.node().context("it has an id")?.as_uuid().simple().to_string();
                let jobs = Callsheet::builder().backend(backend).job_labels_max(JOBS).start().await?;
                let far = || every(FAR).anchored_at(Utc::now() + FAR / 2);
                jobs.add_all((0..JOBS).map(|nth| Job::new(format!("job-{nth}"), far()).run(body))).await?;
                // Until it leads, has enrolled its jobs and has closed what was lost.
                tokio::time::sleep(Duration::from_secs(2)).await;
                nodes.push((role, id, jobs, queries));
            }
            // Until the follower has asked for the first time whether the leader has its jobs.
            tokio::time::sleep(Duration::from_secs(3)).await;
            nodes.iter().for_each(|(_, _, _, queries)| locked(queries).clear());
            tokio::time::sleep(self.idle).await;
            for (role, id, jobs, queries) in nodes {
                let queries = std::mem::take(&mut *locked(&queries));
                let rate = |count: u64| count as f64 / self.idle.as_secs_f64();
                let held = "SELECT count(DISTINCT a.pid), count(l.objid) FROM pg_stat_activity a
                            LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.granted
                            WHERE a.application_name LIKE $1";
                let row = admin.query_one(held, &[&format!("callsheet {}%", &id[..12])]).await?;
                let (connections, locks): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                println!("{role:<10} {:>10.2} {connections:>12} {locks:>15}", rate(queries.values().sum()));
                let mut queries: Vec<_> = queries.into_iter().collect();
                queries.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
                for (query, count) in queries {
                    println!("           {:>10.3}   {query}", rate(count));
                }
                drop(jobs);
            }
            println!();
            anyhow::Ok(())
        })
    }
}

/// A recorder that takes gauges, and looks at none.
struct Keeper;

impl GaugeFn for Keeper {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {}
}

impl Recorder for Keeper {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Keeper))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// How often each query was executed, by how it begins.
type Queries = Arc<Mutex<HashMap<String, u64>>>;

/// A way to the server that counts the queries which take it.
async fn counted() -> anyhow::Result<(String, Queries)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = harness::server().url();
    let port = harness::server().port();
    let own = url.replace(&format!(":{port}/"), &format!(":{}/", listener.local_addr()?.port()));
    let queries = Queries::default();
    let counter = queries.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", port)).await?;
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let answers = tokio::io::copy(&mut from_server, &mut to_client);
                tokio::select! {
                    asked = forward(from_client, to_server, &counter) => asked?,
                    answered = answers => drop(answered?),
                }
                anyhow::Ok(())
            });
        }
    });
    Ok((own, queries))
}

/// Forwards the messages of a client, and counts those that execute something: simple queries and `Execute`.
async fn forward(
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWriteExt + Unpin,
    queries: &Queries,
) -> anyhow::Result<()> {
    let mut prepared: HashMap<String, String> = HashMap::new();
    let mut bound = String::new();
    // The first message has no type.
    let mut head = 0;
    loop {
        let mut message = vec![0; head + 4];
        client.read_exact(&mut message).await?;
        let length = usize::try_from(u32::from_be_bytes(message[head..].try_into()?))?;
        message.resize(head + length, 0);
        client.read_exact(&mut message[head + 4..]).await?;
        if head == 1 {
            let mut texts = message[5..].split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
            match message[0] {
                b'P' => drop(prepared.insert(first.into(), beginning(&second))),
                b'B' => bound = prepared.get(&*second).cloned().unwrap_or_default(),
                b'E' => *locked(queries).entry(bound.clone()).or_default() += 1,
                b'Q' => *locked(queries).entry(beginning(&first)).or_default() += 1,
                _ => {}
            }
        }
        server.write_all(&message).await?;
        head = 1;
    }
}

/// How a query begins, on one line.
fn beginning(query: &str) -> String {
    let line = query.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(90).collect()
}
