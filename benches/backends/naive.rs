//! The usual way: a lock is a key that is set unless it is there, and deleted again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use redis::aio::MultiplexedConnection;

use crate::Measured;

/// What a lock is held with.
const HOLDER: &str = "0190b0c2-7c3e-7a53-9d0a-1f2e3d4c5b6a";
const LEASE_MILLIS: u64 = 60_000;

pub(crate) struct Naive {
    connection: MultiplexedConnection,
}

impl Naive {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        Ok(Self { connection })
    }

    /// Locks and unlocks so many keys at once, for a while.
    pub(crate) async fn run(
        &mut self,
        at_once: usize,
        time: Duration,
        measured: &mut Measured,
    ) -> anyhow::Result<()> {
        let keys: Vec<_> = (0..at_once).map(|nth| format!("lock of customer {nth}")).collect();
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            let mut lock = redis::pipe();
            for key in &keys {
                lock.cmd("SET").arg(key).arg(HOLDER).arg("NX").arg("PX").arg(LEASE_MILLIS);
            }
            let locked: Vec<Option<String>> = lock.query_async(&mut self.connection).await?;
            ensure!(locked.iter().all(Option::is_some), "nobody else locks");
            let claimed = began.elapsed();
            let mut unlock = redis::pipe();
            for key in &keys {
                unlock.cmd("DEL").arg(key);
            }
            let _: Vec<u64> = unlock.query_async(&mut self.connection).await?;
            measured.add(at_once, claimed, began.elapsed());
        }
        Ok(())
    }
}
