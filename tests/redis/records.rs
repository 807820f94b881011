//! The port on a server that works.

use std::{sync::Arc, time::Duration};

use callsheet::{
    backend::Redis,
    port::{Change, Committed, RecordKind, Version},
    testkit::conformance::records,
};

use super::{alive, client, harness, made, one, store::Clients, stored, write};

#[tokio::test]
async fn it_is_a_store_of_records() {
    records(&mut Clients { scope: harness::scope("suite"), connect: client }).await;
}

#[tokio::test]
async fn it_is_one_over_a_socket_of_this_machine_and_in_another_database() {
    let socket = harness::server().socket();
    let url = format!("unix://:{}@{}?db=7", harness::PASSWORD, socket.display());
    let connect = |scope: &str| Redis::new(scope, &url).records();

    records(&mut Clients { scope: harness::scope("socket"), connect }).await;
}

#[tokio::test]
async fn a_scope_may_have_any_name() {
    for scope in ["}", "{a}", "50 %", "größe", "a:b"] {
        let scope = harness::scope(scope);
        let (first, second) = (client(&scope), client(&scope));
        write(&*first, "job", Version::ABSENT, "here").await;
        assert_eq!(stored(&*second, "job").await.as_deref(), Some("here"), "{scope}");
    }
}

#[tokio::test]
async fn a_record_that_was_deleted_and_written_again_is_another_one() {
    let records = client(&harness::scope("aba"));
    let mut seen = Vec::new();
    for _ in 0..50 {
        let version = write(&*records, "job", Version::ABSENT, "the same").await;
        assert!(!seen.contains(&version), "no version comes twice");
        for old in &seen {
            let late = records.commit(&one("job", *old, Change::Delete)).await.expect("an answer");
            assert_eq!(made(&late), None, "what was read before the deletion is outdated");
        }
        seen.push(version);
        let deleted = records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
        assert_eq!(made(&deleted), Some(Version::ABSENT));
    }
}

#[tokio::test]
async fn a_renewal_that_waited_across_the_expiry_revives_nothing() {
    let records = client(&harness::scope("revived"));
    let session = records.open(Duration::from_millis(500)).await.expect("it opens");
    // The server does nothing else meanwhile, and the renewal waits until that is over.
    let blocked = std::thread::spawn(|| {
        harness::server().ask("EVAL \"local t = redis.call('TIME') local until_ = t[1] * 1000 + t[2] / 1000 + 800 repeat t = redis.call('TIME') until t[1] * 1000 + t[2] / 1000 > until_\" 0")
    });
    tokio::time::sleep(Duration::from_millis(100)).await;

    let renewed = records.renew(session).await.expect("an answer");

    blocked.join().expect("it ends");
    assert!(!renewed, "it had expired before the server came to it");
    assert!(!alive(&*records, session).await);
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_scripts_is_told_them_again() {
    let records = client(&harness::scope("flushed"));
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let session = records.open(Duration::from_secs(5)).await.expect("it opens");

    assert!(harness::server().ask("SCRIPT FLUSH").contains("+OK"));

    write(&*records, "job", version, "two").await;
    harness::server().ask("SCRIPT FLUSH");
    assert!(records.renew(session).await.expect("an answer"));
    harness::server().ask("SCRIPT FLUSH");
    let page = records.list(RecordKind::Name, None, 10).await.expect("an answer");
    assert_eq!(page.records.len(), 1);
}

#[tokio::test]
async fn nothing_outside_of_its_keys_is_touched_and_a_list_reads_none_of_them() {
    let server = harness::Server::start(harness::Durability::Nothing);
    // A thousand keys of the application's.
    server.ask("EVAL \"for i = 1, 1000 do redis.call('SET', 'app:' .. i, i) end\" 0");
    let records = Redis::new("scope", server.url()).records();
    for id in ["a", "b", "c"] {
        write(&*records, id, Version::ABSENT, id).await;
    }
    server.ask("CONFIG RESETSTAT");

    let page = records.list(RecordKind::Name, Some("a"), 10).await.expect("an answer");

    let ids: Vec<_> = page.records.iter().map(|record| &*record.id).collect();
    assert_eq!(ids, ["b", "c"]);
    let statistics = server.ask("INFO commandstats");
    assert!(statistics.contains("cmdstat_zrangebylex:calls=1,"), "{statistics}");
    assert!(!statistics.contains("scan") && !statistics.contains("cmdstat_keys"), "{statistics}");
    let kept = server.ask("EVAL \"local kept = {} for _, key in ipairs(redis.call('KEYS', '*')) do if string.sub(key, 1, 4) ~= 'app:' then kept[#kept + 1] = key end end return kept\" 0");
    assert!(kept.contains("callsheet:{scope}:records") && kept.contains("callsheet:{scope}:names"), "{kept}");
    assert!(kept.contains("*2\r\n"), "{kept}");
}

#[tokio::test]
async fn what_is_deleted_leaves_nothing_behind() {
    let server = harness::Server::start(harness::Durability::Nothing);
    let records = Redis::new("scope", server.url()).records();
    let session = records.open(Duration::from_secs(60)).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "here").await;

    records.commit(&one("job", version, Change::Delete)).await.expect("an answer");
    records.end(session).await.expect("an answer");

    assert!(server.ask("DBSIZE").contains(":0\r\n"), "{}", server.ask("KEYS *"));
}

#[tokio::test]
async fn a_commit_as_large_as_it_may_be_is_made() {
    let records = client(&harness::scope("large"));
    let limits = records.limits();
    let bytes = limits.commit_bytes / limits.commit_records;
    let per_unit = limits.commit_records / limits.units;
    let mut commit = callsheet::port::Commit::default();
    for unit in 0..limits.units {
        let record = |nth| callsheet::port::RecordChange {
            name: super::name(&format!("{unit}/{nth}")),
            version: Version::ABSENT,
            change: Change::Put(vec![b'x'; bytes]),
        };
        let records = (0..per_unit).map(record).collect();
        commit.units.push(callsheet::port::Unit { records, hints: Vec::new() });
    }

    let committed = records.commit(&commit).await.expect("an answer");

    let Committed::Units { answers, .. } = committed else { panic!("no guards: {committed:?}") };
    assert!(answers.iter().all(|answer| matches!(answer, callsheet::port::UnitAnswer::Made { .. })));
    let (mut found, mut after) = (0, None::<Arc<str>>);
    loop {
        let page = records.list(RecordKind::Name, after.as_deref(), usize::MAX).await.expect("a page");
        found += page.records.len();
        after = page.records.last().map(|record| record.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(found, limits.commit_records);
}
