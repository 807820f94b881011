//! Sentinels find a primary dead and promote its replica: what that loses, and what it does not.

use callsheet::{
    backend::Redis,
    port::{Change, Records, Version},
};

use super::{
    SECOND, alive,
    harness::{self, Durability, PASSWORD, PRIMARY, Server},
    made, one, stored, until, write,
};

/// A primary, a replica, and three Sentinels that know of each other.
struct Cluster {
    primary: Server,
    replica: Server,
    sentinels: [Server; 3],
}

impl Cluster {
    async fn start() -> Self {
        let primary = Server::start(Durability::Nothing);
        let replica = Server::replica_of(&primary);
        let sentinels = std::array::from_fn(|_| Server::sentinel_of(&primary, 2));
        let cluster = Self { primary, replica, sentinels };
        let knows = |sentinel: &Server| {
            let told = sentinel.ask("INFO sentinel");
            told.contains("slaves=1") && told.contains("sentinels=3")
        };
        until("acquainted", async || cluster.sentinels.iter().all(knows)).await;
        cluster
    }

    fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis://:{PASSWORD}@{}?sentinel={PRIMARY}", hosts.join(","))
    }

    async fn promoted(&self) {
        until("promoted", async || self.replica.ask("INFO replication").contains("role:master")).await;
    }
}

async fn written_to(records: &dyn Records, id: &str) -> bool {
    records.commit(&one(id, Version::ABSENT, Change::Put(b"later".to_vec()))).await.is_ok()
}

#[tokio::test]
async fn a_node_follows_the_sentinels_to_the_new_primary_and_what_was_not_copied_is_lost() {
    let cluster = Cluster::start().await;
    let records = Redis::new(harness::scope("failover"), cluster.url()).records();
    let copied = write(&*records, "copied", Version::ABSENT, "here").await;
    let session = records.open(60 * SECOND).await.expect("it opens");
    let caught_up = || {
        let offset = |server: &Server, key: &str| {
            let told = server.ask("INFO replication");
            let line = told.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
            line.expect("an offset").trim().parse::<u64>().expect("a number")
        };
        offset(&cluster.replica, "slave_repl_offset:") >= offset(&cluster.primary, "master_repl_offset:")
    };
    until("copied", async || caught_up()).await;

    // From here on the replica gets nothing, and the primary grants all the same.
    cluster.replica.freeze();
    cluster.primary.ask("CLIENT KILL TYPE replica");
    until("parted", async || cluster.primary.ask("INFO replication").contains("connected_slaves:0")).await;
    let granted = write(&*records, "granted", Version::ABSENT, "by the former primary").await;
    let session_lost = records.open(60 * SECOND).await.expect("it opens");
    cluster.primary.kill();
    cluster.replica.thaw();
    cluster.promoted().await;
    until("the node is there", async || written_to(&*records, "later").await).await;

    // What its documentation says: acknowledged, and gone.
    assert_eq!(stored(&*records, "granted").await, None);
    assert!(!alive(&*records, session_lost).await);
    assert_eq!(records.renew(session_lost).await, Ok(false));
    // What was copied is there, with its version.
    assert_eq!(stored(&*records, "copied").await.as_deref(), Some("here"));
    assert!(alive(&*records, session).await);
    let deleted = records.commit(&one("copied", copied, Change::Delete)).await.expect("an answer");
    assert_eq!(made(&deleted), Some(Version::ABSENT));
    // What rested on the lost write is refused, also if the record was written again meanwhile.
    let again = write(&*records, "granted", Version::ABSENT, "by the new one").await;
    assert_ne!(again, granted);
    let late = records.commit(&one("granted", granted, Change::Delete)).await.expect("an answer");
    assert_eq!(made(&late), None);
}
