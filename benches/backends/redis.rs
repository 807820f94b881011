//! Redis. The usual way: a lock is a key that is set unless it is there, and deleted again.

#[path = "../../tests/common/redis.rs"]
pub(crate) mod harness;

use std::time::{Duration, Instant};

use anyhow::ensure;
use callsheet::backend::Redis;
use redis::aio::MultiplexedConnection;

use self::harness::{Durability, Server};
use crate::{Measured, Naive, Turns, compare};

/// What a lock is held with.
const HOLDER: &str = "0190b0c2-7c3e-7a53-9d0a-1f2e3d4c5b6a";
const LEASE_MILLIS: u64 = 60_000;

pub(crate) async fn measure(turns: Turns) -> anyhow::Result<()> {
    for (name, durability) in
        [("redis", Durability::Nothing), ("redis, each command on the disk", Durability::Always)]
    {
        let server = Server::start(durability);
        let records = Redis::new("bench", server.url()).records();
        let naive = SetAndDelete::connect(&server.url()).await?;
        compare(name, records, naive, turns).await?;
    }
    Ok(())
}

struct SetAndDelete(MultiplexedConnection);

impl SetAndDelete {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(Self(redis::Client::open(url)?.get_multiplexed_async_connection().await?))
    }
}

impl Naive for SetAndDelete {
    const NAME: &'static str = "`SET NX` and `DEL`";

    async fn run(&mut self, at_once: usize, time: Duration, measured: &mut Measured) -> anyhow::Result<()> {
        let keys: Vec<_> = (0..at_once).map(|nth| format!("lock of customer {nth}")).collect();
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            let mut lock = redis::pipe();
            for key in &keys {
                lock.cmd("SET").arg(key).arg(HOLDER).arg("NX").arg("PX").arg(LEASE_MILLIS);
            }
            let locked: Vec<Option<String>> = lock.query_async(&mut self.0).await?;
            ensure!(locked.iter().all(Option::is_some), "nobody else locks");
            let claimed = began.elapsed();
            let mut unlock = redis::pipe();
            for key in &keys {
                unlock.cmd("DEL").arg(key);
            }
            let _: Vec<u64> = unlock.query_async(&mut self.0).await?;
            measured.add(at_once, claimed, began.elapsed());
        }
        Ok(())
    }
}
