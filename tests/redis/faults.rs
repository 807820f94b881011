//! The port when the server, or the way to it, fails.

use std::time::{Duration, Instant};

use callsheet::{
    backend::Redis,
    port::{Commit, Committed, Heard, RecordsError, Unit, Version},
};
use futures_util::StreamExt;

use super::{
    SECOND, SOON, alive,
    harness::{self, Durability, Server},
    made,
    proxy::Proxy,
    put, stored, until, url_at, write,
};

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_done_once() {
    let proxy = Proxy::to(harness::server().port()).await;
    let records = Redis::new(harness::scope("lost"), url_at(proxy.port())).deadline(SECOND / 5).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    proxy.lose_answers(true);
    let lost = records.commit(&put("job", version, "two")).await;
    proxy.lose_answers(false);

    assert_eq!(lost, Err(RecordsError::Timeout));
    until("the record is read", async || records.read(&[], &[]).await.is_ok()).await;
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("two"), "it was made");
    let again = records.commit(&put("job", version, "three")).await.expect("an answer");
    assert_eq!(made(&again), None, "who asks again finds that it was");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_the_session_goes_on() {
    let proxy = Proxy::to(harness::server().port()).await;
    let records = Redis::new(harness::scope("cut"), url_at(proxy.port())).records();
    let session = records.open(10 * SECOND).await.expect("it opens");

    for _ in 0..3 {
        proxy.cut();
        until("renewed", async || records.renew(session).await == Ok(true)).await;
    }
}

#[tokio::test]
async fn whoever_listens_is_told_that_hints_were_missed_while_the_connection_was_away() {
    let proxy = Proxy::to(harness::server().port()).await;
    let scope = harness::scope("hints");
    let listens = Redis::new(&*scope, url_at(proxy.port())).records();
    let mut hints = listens.subscribe().await.expect("a subscription");
    let tells = Redis::new(&*scope, harness::server().url()).records();
    let tell = async |what: &str| {
        let unit = Unit { records: Vec::new(), hints: vec![what.as_bytes().into()] };
        tells.commit(&Commit { units: vec![unit], ..Commit::default() }).await.expect("an answer");
    };
    let mut heard =
        async || tokio::time::timeout(SOON, hints.next()).await.expect("soon").expect("it goes on");

    tell("before").await;
    assert_eq!(heard().await, Heard::Hint(b"before".as_slice().into()));
    proxy.cut();
    assert_eq!(heard().await, Heard::Lagged);
    tell("after").await;
    assert_eq!(heard().await, Heard::Hint(b"after".as_slice().into()));
}

#[tokio::test]
async fn a_server_that_writes_down_each_command_loses_nothing_when_it_is_killed() {
    let server = Server::start(Durability::Always);
    let records = Redis::new("scope", server.url()).records();
    let session = records.open(30 * SECOND).await.expect("it opens");
    let mut version = Version::ABSENT;
    for nth in 0..20 {
        version = write(&*records, "job", version, &nth.to_string()).await;
        if nth % 5 == 0 {
            server.kill();
            let while_away = records.commit(&put("other", Version::ABSENT, "")).await;
            assert!(while_away.is_err(), "{while_away:?}");
            server.start_again();
            until("back", async || records.read(&[], &[]).await.is_ok()).await;
        }
    }

    assert_eq!(stored(&*records, "job").await.as_deref(), Some("19"));
    assert!(alive(&*records, session).await, "a session is a key like others");
    assert_eq!(records.renew(session).await, Ok(true));
    let page = records.list(callsheet::port::RecordKind::Name, None, 10).await.expect("a page");
    assert_eq!(page.records.len(), 1, "names and records are written down together");
}

#[tokio::test]
async fn a_server_that_writes_nothing_down_has_lost_everything_when_it_comes_back() {
    let server = Server::start(Durability::Nothing);
    let records = Redis::new("scope", server.url()).records();
    let session = records.open(30 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    server.stop();
    server.start_again();
    until("back", async || records.read(&[], &[]).await.is_ok()).await;

    assert_eq!(stored(&*records, "job").await, None);
    assert_eq!(records.renew(session).await, Ok(false), "who held something hears of it");
    let late = records.commit(&put("job", version, "two")).await.expect("an answer");
    assert_eq!(made(&late), None, "nothing is written on what is gone");
    let guarded = Commit { alive: vec![session], ..put("job", Version::ABSENT, "two") };
    assert_eq!(records.commit(&guarded).await, Ok(Committed::Dead(session)));
}

#[tokio::test]
async fn a_frozen_server_fails_calls_within_their_deadline_and_sessions_expire_meanwhile() {
    let server = Server::start(Durability::Nothing);
    let deadline = Duration::from_millis(300);
    let records = Redis::new("scope", server.url()).deadline(deadline).records();
    let session = records.open(SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    server.freeze();
    let frozen_at = Instant::now();
    let unknown = records.commit(&put("job", version, "two")).await;
    assert_eq!(unknown, Err(RecordsError::Timeout));
    let not_connected = records.renew(session).await;
    assert!(matches!(not_connected, Err(RecordsError::Unavailable { .. })), "{not_connected:?}");
    assert!(frozen_at.elapsed() < 10 * deadline, "both together took {:?}", frozen_at.elapsed());
    tokio::time::sleep(SECOND).await;
    server.thaw();

    until("back", async || records.read(&[], &[]).await.is_ok()).await;
    assert_eq!(records.renew(session).await, Ok(false), "its time ran on");
    // The server had read it: it is done late, once.
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("two"));
}

#[tokio::test]
async fn a_server_without_memory_refuses_a_commit_as_a_whole() {
    let server = Server::start(Durability::Nothing);
    let records = Redis::new("scope", server.url()).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let session = records.open(30 * SECOND).await.expect("it opens");
    assert!(server.ask("CONFIG SET maxmemory 1").contains("+OK"));

    let refused = records.commit(&put("job", version, "two")).await;

    let Err(RecordsError::NotDone { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("OOM") && reason.contains("raise maxmemory"), "{reason}");
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("one"));
    assert_eq!(records.renew(session).await, Ok(true), "what needs no memory goes on");
}

#[tokio::test]
async fn a_key_of_somebody_else_under_its_name_is_told_before_anything_is_written() {
    let server = Server::start(Durability::Nothing);
    let records = Redis::new("scope", server.url()).records();
    write(&*records, "job", Version::ABSENT, "one").await;
    server.ask("DEL callsheet:{scope}:names");
    server.ask("SET callsheet:{scope}:names mine");

    let refused = records.commit(&put("other", Version::ABSENT, "two")).await;

    let Err(RecordsError::NotDone { reason }) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("WRONGTYPE"), "{reason}");
    assert_eq!(stored(&*records, "other").await, None);
}
