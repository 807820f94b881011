//! Sessions: what an idle one costs, and how soon there is one again after the server was away.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use callsheet::{Callsheet, backend::Postgres, port::Backend};
use futures_util::future::join_all;
use tokio_postgres::NoTls;

use crate::{
    Plan, harness,
    harness::{Server, Stop},
    server::{process_of, processor_time_of},
};

impl Plan {
    /// What an idle session costs the server beside others: it beats, and watches some of them.
    pub(crate) async fn sessions(&self) -> anyhow::Result<()> {
        const LEASE: Duration = Duration::from_secs(1);
        println!("sessions: an idle one with a lease of {LEASE:?} beside others");
        println!("{:>8} {:>24}", "others", "server CPU µs a second");
        let mut others = Vec::new();
        let one = Postgres::new("sessions", harness::server().url()).lease(LEASE);
        one.locker().open().await?;
        let server = process_of(&one).await?;
        for count in [0, 4, 16, 48] {
            while others.len() < count {
                let other =
                    Postgres::new("sessions", harness::server().url()).lease(Duration::from_secs(600));
                other.locker().open().await?;
                others.push(other);
            }
            let mut used = Vec::new();
            for _ in 0..self.slices * 2 {
                let before = processor_time_of(server)?;
                tokio::time::sleep(self.slice * 2).await;
                used.push(
                    (processor_time_of(server)? - before).as_secs_f64() * 1e6
                        / (self.slice * 2).as_secs_f64(),
                );
            }
            used.sort_unstable_by(f64::total_cmp);
            println!("{count:>8} {:>24.0}", used[used.len() / 2]);
        }
        println!();
        Ok(())
    }

    /// How long nodes are without a session after their server was away: from its first answer to a client
    /// that asks each millisecond.
    pub(crate) fn reopen(&self) -> anyhow::Result<()> {
        const NODES: usize = 5;
        println!(
            "reopen: {NODES} nodes, {} restarts a line; from the server's first answer to each node's session, in ms; \
             spread = from the first node to the last",
            self.restarts
        );
        println!(
            "{:<10} {:>7} {:>8} {:>8} {:>8} {:>12} {:>12} {:>12}",
            "stopped", "away s", "min", "median", "max", "min spread", "med. spread", "max spread"
        );
        let server = Arc::new(Server::start());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let mut nodes = Vec::new();
            for _ in 0..NODES {
                let backend = Postgres::new("reopen", server.url());
                nodes.push(Callsheet::builder().backend(backend).start().await?);
            }
            for how in [Stop::Fast, Stop::Immediate] {
                for away in self.outages {
                    let (mut took, mut spreads) = (Vec::new(), Vec::new());
                    for _ in 0..self.restarts {
                        let mut each = restart(&server, how, Duration::from_secs(*away), &nodes).await?;
                        each.sort_unstable();
                        spreads.push(each[NODES - 1] - each[0]);
                        took.append(&mut each);
                    }
                    let millis = |sorted: &mut Vec<Duration>| {
                        sorted.sort_unstable();
                        [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
                            .map(|one| one.as_secs_f64() * 1e3)
                    };
                    let ([min, median, max], spreads) = (millis(&mut took), millis(&mut spreads));
                    println!(
                        "{:<10} {away:>7} {min:>8.0} {median:>8.0} {max:>8.0} {:>12.0} {:>12.0} {:>12.0}",
                        format!("{how:?}").to_lowercase(),
                        spreads[0],
                        spreads[1],
                        spreads[2]
                    );
                }
            }
            println!();
            anyhow::Ok(())
        })
    }
}

/// How long each node is without a session once its server, which was away, answers again.
async fn restart(
    server: &Arc<Server>,
    how: Stop,
    away: Duration,
    nodes: &[Callsheet],
) -> anyhow::Result<Vec<Duration>> {
    let order = |order: fn(&Server, Stop)| {
        let server = server.clone();
        tokio::task::spawn_blocking(move || order(&server, how))
    };
    order(Server::stop).await?;
    join_all(nodes.iter().map(|node| until_ready(node, false))).await;
    tokio::time::sleep(away).await;
    let started = order(|server, _| server.start_again());
    let url = server.url();
    let answers = async {
        loop {
            if let Ok((_client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                drop(connection);
                return Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (answered_at, ready_at) =
        tokio::join!(answers, join_all(nodes.iter().map(|node| until_ready(node, true))));
    started.await?;
    Ok(ready_at.into_iter().map(|ready_at| ready_at.saturating_duration_since(answered_at)).collect())
}

/// Waits until a node has a session, or has none, and answers when.
async fn until_ready(node: &Callsheet, ready: bool) -> Instant {
    loop {
        if node.health().await.is_ok_and(|health| health.ready == ready) {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
