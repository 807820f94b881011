//! Votes on ticks by three Redis servers. The usual way: a key that is set on each of them, and deleted again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use callsheet::{
    FireTime, JobName, NodeId,
    backend::Redlock,
    chrono::Utc,
    port::{Election, TickVote, TickVoted, TickVotes},
};
use callsheet_actors::RunIds;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;

use super::redis::harness::{Durability, Server};
use crate::{AT_ONCE, Measured, Naive, ROUNDS, Turns, print};

const SERVERS: usize = 3;
const WINDOW: Duration = Duration::from_secs(5);
const HOLDER: &str = "0190b0c2-7c3e-7a53-9d0a-1f2e3d4c5b6a";

pub(crate) async fn measure(Turns { slice, slices }: Turns) -> anyhow::Result<()> {
    let servers: Vec<_> = (0..SERVERS).map(|_| Server::start(Durability::Nothing)).collect();
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let votes = Redlock::new("bench", &urls).votes().ok_or_else(|| anyhow::anyhow!("it votes"))?;
    let mut naive = OnEach::connect(&urls).await?;
    // Of ticks that were due before they were asked the first time, servers know nothing.
    votes.ask(&ticks(&RunIds::of(NodeId::random()), 1)).await;
    let mut of_rounds: [Measured; ROUNDS.len()] = Default::default();
    let [mut alone, mut many] = <[Measured; 2]>::default();
    for _ in 0..slices {
        for (round, measured) in ROUNDS.into_iter().zip(&mut of_rounds) {
            vote(&votes, round, slice, measured).await?;
        }
        naive.run(1, slice, &mut alone).await?;
        naive.run(AT_ONCE, slice, &mut many).await?;
    }
    print::<OnEach>("redlock, three servers: votes on ticks", of_rounds, alone, many);
    Ok(())
}

fn ticks(ids: &RunIds, count: usize) -> Vec<TickVote> {
    let now = Utc::now();
    let tick = |nth: usize| TickVote {
        job: JobName::new(format!("job of customer {nth}")).unwrap_or_else(|_| unreachable!("a plain name")),
        fire_time: FireTime::new(now),
        run: ids.next(now),
        window: WINDOW,
    };
    (0..count).map(tick).collect()
}

async fn vote(
    votes: &Arc<dyn TickVotes>,
    count: usize,
    time: Duration,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let ids = RunIds::of(NodeId::random());
    let until = Instant::now() + time;
    while Instant::now() < until {
        // Each round is of another millisecond.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let ticks = ticks(&ids, count);
        let began = Instant::now();
        let voted = votes.ask(&ticks).await;
        let took = began.elapsed();
        ensure!(voted.iter().all(|voted| *voted == TickVoted::Given), "nobody else asks: {voted:?}");
        measured.add(count, took, took);
    }
    Ok(())
}

/// A lock on a majority, as clients of Redlock take it: all keys at once on each server, and all servers at once.
struct OnEach(Vec<MultiplexedConnection>);

impl OnEach {
    async fn connect(urls: &[String]) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for url in urls {
            connections.push(redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?);
        }
        Ok(Self(connections))
    }

    async fn on_each(&self, commands: &redis::Pipeline) -> anyhow::Result<()> {
        let ask = |connection: &MultiplexedConnection| {
            let mut connection = connection.clone();
            async move { commands.query_async::<redis::Value>(&mut connection).await }
        };
        try_join_all(self.0.iter().map(ask)).await?;
        Ok(())
    }
}

impl Naive for OnEach {
    const NAME: &'static str = "`SET NX` and `DEL` on each server";

    async fn run(&mut self, at_once: usize, time: Duration, measured: &mut Measured) -> anyhow::Result<()> {
        let keys: Vec<_> = (0..at_once).map(|nth| format!("lock of customer {nth}")).collect();
        let (mut lock, mut unlock) = (redis::pipe(), redis::pipe());
        for key in &keys {
            lock.cmd("SET").arg(key).arg(HOLDER).arg("NX").arg("PX").arg(60_000);
            unlock.cmd("DEL").arg(key);
        }
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            self.on_each(&lock).await?;
            let claimed = began.elapsed();
            self.on_each(&unlock).await?;
            measured.add(at_once, claimed, began.elapsed());
        }
        Ok(())
    }
}
