//! A primary of Redis, its replica, and three Sentinels: what a fail-over loses, and what nodes that live know all the
//! same.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use tokio::task::block_in_place;

use super::{
    fault::Fault,
    judged,
    redis::harness::{Durability, PASSWORD, PRIMARY, Server},
    store::Store,
};

const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

struct Sentinels {
    servers: [Server; 2],
    sentinels: [Server; 3],
    /// Which of the servers is the primary.
    primary: AtomicUsize,
}

impl Sentinels {
    fn start() -> Self {
        block_in_place(|| {
            let primary = Server::start(Durability::Nothing);
            let replica = Server::replica_of(&primary);
            let sentinels: [Server; 3] = std::array::from_fn(|_| Server::sentinel_of(&primary, 2));
            for sentinel in &sentinels {
                until("acquainted", || {
                    let told = sentinel.ask("INFO sentinel");
                    told.contains("slaves=1") && told.contains("sentinels=3")
                });
            }
            Self { servers: [primary, replica], sentinels, primary: AtomicUsize::new(0) }
        })
    }

    /// The primary, and its replica.
    fn roles(&self) -> [&Server; 2] {
        let primary = self.primary.load(Ordering::Relaxed);
        [&self.servers[primary], &self.servers[1 - primary]]
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline, "not {what} within {DEADLINE:?}");
        sleep(LOOK);
    }
}

impl Store for Sentinels {
    const NAME: &'static str = "redis";
    const LAGS: bool = true;

    fn ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(Server::port).collect()
    }

    fn variables(&self, ports: &[u16]) -> Vec<(&'static str, String)> {
        let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let url = format!("redis://:{PASSWORD}@{}?sentinel={PRIMARY}", hosts.join(","));
        vec![("CALLSHEET_REDIS_URL", url)]
    }

    /// The replica gets nothing more.
    fn lag(&self) {
        let [primary, replica] = self.roles();
        replica.freeze();
        primary.ask("CLIENT KILL TYPE replica");
        until("parted", || primary.ask("INFO replication").contains("connected_slaves:0"));
    }

    fn stop(&self) {
        self.kill();
    }

    /// Blocks until the replica is promoted.
    fn kill(&self) {
        let [primary, replica] = self.roles();
        primary.kill();
        replica.thaw();
        until("promoted", || replica.ask("INFO replication").contains("role:master"));
    }

    fn start_again(&self) {
        let [former, _] = self.roles();
        former.start_again();
        self.primary.fetch_xor(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tick_runs_twice_after_a_lossy_fail_over_while_those_live_who_know() {
    let audit = judged(Sentinels::start(), &[Fault::FailedOver], 1).await;

    // The keys of runs in progress are forgotten, as the documentation says.
    let other: Vec<_> =
        audit.broken.iter().filter(|what| !what.starts_with("two bodies of the key")).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert_eq!(audit.doubled, 0, "a node lets no cursor fall below what it has seen");
    assert!(audit.started > 0, "of {} ticks", audit.due);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_run_twice_if_the_leader_dies_with_what_was_not_copied() {
    let audit = judged(Sentinels::start(), &[Fault::FailedOverWithLeader], 1).await;

    assert!(audit.doubled > 0, "no tick runs twice: nothing was lost");
}
