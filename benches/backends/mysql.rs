//! MariaDB. The usual way: a named lock of a connection, taken with `GET_LOCK` and given back.

#[path = "../../tests/common/mysql.rs"]
mod harness;

use std::time::{Duration, Instant};

use anyhow::ensure;
use callsheet::backend::Mysql;
use futures_util::future::try_join_all;
use mysql_async::{Conn, Opts, prelude::Queryable};

use self::harness::Server;
use crate::{AT_ONCE, Measured, Naive, Turns, compare};

pub(crate) async fn measure(turns: Turns) -> anyhow::Result<()> {
    let server = Server::start_with("innodb_flush_log_at_trx_commit=1\nmax_connections=200");
    let records = Mysql::new("bench", server.url()).records();
    let naive = NamedLocks::connect(&server.url()).await?;
    compare("MariaDB, each commit on the disk", records, naive, turns).await
}

/// A connection for each lock that is held at a time.
struct NamedLocks(Vec<Conn>);

impl NamedLocks {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let options = Opts::from_url(url)?;
        Ok(Self(try_join_all((0..AT_ONCE).map(|_| Conn::new(options.clone()))).await?))
    }
}

impl Naive for NamedLocks {
    const NAME: &'static str = "`GET_LOCK` and `RELEASE_LOCK`";

    async fn run(&mut self, at_once: usize, time: Duration, measured: &mut Measured) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let began = Instant::now();
            let connections = self.0.iter_mut().take(at_once).enumerate();
            let locked = try_join_all(connections.map(async |(nth, connection)| {
                let lock = format!("SELECT GET_LOCK('lock of customer {nth}', 0)");
                connection.query_first::<u8, _>(lock).await
            }));
            ensure!(locked.await?.iter().all(|locked| *locked == Some(1)), "nobody else locks");
            let claimed = began.elapsed();
            let connections = self.0.iter_mut().take(at_once).enumerate();
            let freed = try_join_all(connections.map(async |(nth, connection)| {
                let free = format!("SELECT RELEASE_LOCK('lock of customer {nth}')");
                connection.query_first::<u8, _>(free).await
            }));
            freed.await?;
            measured.add(at_once, claimed, began.elapsed());
        }
        Ok(())
    }
}
