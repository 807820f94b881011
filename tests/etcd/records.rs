//! The port on a server that works.

use std::time::Duration;

use callsheet::{
    backend::Etcd,
    port::{
        Change, Commit, Committed, HINT_BYTES_MAX, RECORD_ID_MAX, RecordChange, RecordKind, RecordName,
        RecordSession, Unit, UnitAnswer, Version,
    },
    testkit::conformance::records,
};

use super::{
    SECOND, alive, client,
    harness::{self, Cluster, Server},
    made, name, one, put,
    store::Clients,
    stored, write,
};

#[tokio::test]
async fn it_is_a_store_of_records() {
    records(&mut Clients { scope: harness::scope("suite"), connect: client }).await;
}

#[tokio::test]
async fn three_servers_are_one_whichever_of_them_is_asked() {
    let cluster = Cluster::start();
    let connected = std::sync::atomic::AtomicUsize::new(0);
    // Each client is of another server.
    let connect = |scope: &str| {
        let at = connected.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Etcd::new(scope, cluster.servers[at % 3].url()).records()
    };

    records(&mut Clients { scope: harness::scope("three"), connect }).await;
}

#[tokio::test]
async fn a_scope_may_have_any_name() {
    for scope in ["/", "a/b", "50 %", "größe", "a:b", &"é".repeat(48)] {
        let scope = harness::scope(scope);
        let (first, second) = (client(&scope), client(&scope));
        write(&*first, "job", Version::ABSENT, "here").await;
        assert_eq!(stored(&*second, "job").await.as_deref(), Some("here"), "{scope}");
    }
}

#[tokio::test]
async fn a_commit_as_large_as_it_may_be_is_made() {
    // The longest keys, and as many of everything as there may be.
    let records = client(&"%".repeat(100));
    let limits = records.limits();
    let session = records.open(30 * SECOND).await.expect("it opens");
    let (units, widest) = (limits.units, limits.unit_records);
    let bytes = limits.commit_bytes / limits.commit_records;
    let mut left = limits.commit_records;
    let commit = Commit {
        alive: vec![session; Commit::ALIVE_MAX],
        leader: Some(Version::ABSENT),
        server: None,
        units: (0..units)
            .map(|unit| {
                let count = widest.min(left - (units - unit - 1));
                left -= count;
                let record = |nth| {
                    let id = format!("{unit}/{nth}/");
                    let name = RecordName::new(RecordKind::Pending, format!("{id:x<RECORD_ID_MAX$}"));
                    RecordChange { name, version: Version::ABSENT, change: Change::Put(vec![b'x'; bytes]) }
                };
                let hints = vec![vec![b'h'; HINT_BYTES_MAX].into(); 7];
                Unit { records: (0..count).map(record).collect(), hints }
            })
            .collect(),
    };

    let committed = records.commit(&commit).await.expect("an answer");

    let Committed::Units { answers, .. } = committed else { panic!("the guards hold: {committed:?}") };
    assert!(answers.iter().all(|answer| matches!(answer, UnitAnswer::Made { .. })));
    let (mut found, mut after) = (0, None::<std::sync::Arc<str>>);
    loop {
        let page = records.list(RecordKind::Pending, after.as_deref(), usize::MAX).await.expect("a page");
        found += page.records.len();
        after = page.records.last().map(|record| record.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!((found, left), (limits.commit_records, 0));
}

#[tokio::test]
async fn the_largest_records_are_read_and_listed_together() {
    let records = client(&harness::scope("large"));
    let limits = records.limits();
    let largest = Change::Put(vec![b'x'; limits.record_bytes]);
    let mut names = Vec::new();
    for nth in 0..limits.reads {
        let committed = records.commit(&one(&nth.to_string(), Version::ABSENT, largest.clone())).await;
        made(&committed.expect("an answer")).expect("it is new");
        names.push(name(&nth.to_string()));
    }

    let read = records.read(&names, &[]).await.expect("an answer");

    assert!(read.records.iter().all(|record| record.bytes.len() == limits.record_bytes));
    let page = records.list(RecordKind::Name, None, usize::MAX).await.expect("a page");
    assert_eq!(page.records.len(), limits.reads);
}

#[tokio::test]
async fn a_lease_that_has_expired_is_gone_for_whoever_renews_it() {
    let (own, other) = (client("expired"), client("expired"));
    let session = own.open(2 * SECOND).await.expect("it opens");
    super::until("expired", async || !alive(&*other, session).await).await;

    assert_eq!(own.renew(session).await, Ok(false));
    assert_eq!(other.renew(session).await, Ok(false));
    assert_eq!(own.end(session).await, Ok(()));
    for never in [RecordSession(1), RecordSession(u64::MAX)] {
        assert_eq!(own.renew(never).await, Ok(false));
        assert_eq!(own.end(never).await, Ok(()));
    }
}

#[tokio::test]
async fn a_session_is_a_key_with_a_lease_and_nothing_of_it_is_left() {
    let server = Server::start(&[]);
    let records = Etcd::new("scope", server.url()).records();
    let session = records.open(2 * SECOND + Duration::from_millis(1)).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "here").await;
    let mut admin = server.client().await;
    let lease = i64::try_from(session.0).expect("it fits");
    let granted = admin.lease_time_to_live(lease, None).await.expect("a lease").granted_ttl();
    assert_eq!(granted, 3, "whole seconds, and not less than what was asked for");
    let prefix = etcd_client::GetOptions::new().with_prefix();
    let all = admin.get("", Some(prefix.clone())).await.expect("an answer");
    assert!(all.kvs().iter().all(|kv| kv.key().starts_with(b"callsheet/scope/")), "{all:?}");

    records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
    records.end(session).await.expect("an answer");

    assert_eq!(admin.get("", Some(prefix)).await.expect("an answer").count(), 0);
    assert!(admin.leases().await.expect("an answer").leases().is_empty());
}

#[tokio::test]
async fn versions_are_revisions_of_the_cluster() {
    let records = client(&harness::scope("revisions"));
    let mut former = 0;
    for _ in 0..20 {
        let version = write(&*records, "job", Version::ABSENT, "the same").await;
        assert!(version.0 > former, "they only grow");
        let late = records.commit(&put("job", Version(former), "late")).await.expect("an answer");
        assert_eq!(made(&late), None, "what was read before the deletion is outdated");
        former = version.0;
        let deleted = records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
        assert_eq!(made(&deleted), Some(Version::ABSENT));
    }
}
