//! etcd. The usual way: a lock is a key of a lease that is written by a transaction unless it is there, and deleted again.

#[path = "../../tests/common/etcd.rs"]
mod harness;

use std::time::{Duration, Instant};

use anyhow::ensure;
use callsheet::backend::Etcd;
use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp};
use futures_util::future::try_join_all;

use self::harness::Server;
use crate::{Measured, Naive, Turns, compare};

const LEASE_SECONDS: i64 = 600;

pub(crate) async fn measure(turns: Turns) -> anyhow::Result<()> {
    let server = Server::start(&[]);
    let records = Etcd::new("bench", server.url()).records();
    let naive = TxnAndDelete::connect(&server).await?;
    compare("etcd, one server", records, naive, turns).await
}

struct TxnAndDelete {
    client: Client,
    lease: i64,
}

impl TxnAndDelete {
    async fn connect(server: &Server) -> anyhow::Result<Self> {
        let mut client = server.client().await;
        let lease = client.lease_grant(LEASE_SECONDS, None).await?.id();
        Ok(Self { client, lease })
    }
}

impl Naive for TxnAndDelete {
    const NAME: &'static str = "a transaction and a deletion";

    async fn run(&mut self, at_once: usize, time: Duration, measured: &mut Measured) -> anyhow::Result<()> {
        let keys: Vec<_> = (0..at_once).map(|nth| format!("lock of customer {nth}")).collect();
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            let lock = |key: &String| {
                let free = Compare::create_revision(key.as_str(), CompareOp::Equal, 0);
                let options = PutOptions::new().with_lease(self.lease);
                let take = TxnOp::put(key.as_str(), "holder", Some(options));
                let mut kv = self.client.kv_client();
                async move { kv.txn(Txn::new().when([free]).and_then([take])).await }
            };
            let locked = try_join_all(keys.iter().map(lock)).await?;
            ensure!(locked.iter().all(etcd_client::TxnResponse::succeeded), "nobody else locks");
            let claimed = began.elapsed();
            let unlock = |key: &String| {
                let (mut kv, key) = (self.client.kv_client(), key.clone());
                async move { kv.delete(key, None).await }
            };
            try_join_all(keys.iter().map(unlock)).await?;
            measured.add(at_once, claimed, began.elapsed());
        }
        Ok(())
    }
}
