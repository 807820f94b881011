//! The port when the server, or the way to it, fails.

use std::time::{Duration, Instant};

use callsheet::{
    backend::Mysql,
    port::{Change, Commit, Committed, RecordChange, Records, RecordsError, Unit, Version},
};
use futures_util::FutureExt;
use mysql_async::{Conn, Opts, prelude::Queryable};
use tokio::time::{sleep, timeout};

use super::{
    SECOND, alive, client,
    harness::{self, DATABASE, PASSWORD, Server, USER},
    made, name, one,
    proxy::Proxy,
    put, stored, until, write,
};

/// The URL of the server by way of a proxy.
fn through(proxy: &Proxy) -> String {
    format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{DATABASE}", proxy.port())
}

async fn version_of(records: &dyn Records) -> Version {
    records.read(&[name("job")], &[]).await.expect("an answer").records[0].version
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_done_once_or_never() {
    let proxy = Proxy::to(harness::server().port()).await;
    let records = Mysql::new(harness::scope("lost"), through(&proxy)).deadline(SECOND).records();
    let mut version = write(&*records, "job", Version::ABSENT, "one").await;

    // The answer to what it locks, and to what it writes.
    for (answered, done) in [(0, false), (1, true)] {
        proxy.lose_answers_after(answered);
        let lost = records.commit(&put("job", version, "two")).await;
        proxy.lose_answers(false);

        assert_eq!(lost, Err(RecordsError::Timeout));
        until("the record is read", async || records.read(&[], &[]).await.is_ok()).await;
        let expected = if done { "two" } else { "one" };
        assert_eq!(stored(&*records, "job").await.as_deref(), Some(expected), "{answered} answers came");
        let now = version_of(&*records).await;
        assert_eq!(now != version, done, "a version of its own");
        until("what was locked is free", async || {
            let again = records.commit(&put("job", now, "one")).await;
            again.is_ok_and(|committed| made(&committed).is_some())
        })
        .await;
        version = version_of(&*records).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_the_session_goes_on() {
    let proxy = Proxy::to(harness::server().port()).await;
    let records = Mysql::new(harness::scope("cut"), through(&proxy)).records();
    let session = records.open(10 * SECOND).await.expect("it opens");

    for _ in 0..3 {
        proxy.cut();
        until("renewed", async || records.renew(session).await == Ok(true)).await;
        until("read", async || records.read(&[], &[session]).await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_server_that_is_killed_or_stopped_loses_nothing() {
    let server = Server::start();
    let records = Mysql::new("scope", server.url()).records();
    let session = records.open(120 * SECOND).await.expect("it opens");
    let mut version = Version::ABSENT;
    for nth in 0..10 {
        version = write(&*records, "job", version, &nth.to_string()).await;
        if nth % 4 == 1 {
            if nth == 1 {
                server.kill()
            } else {
                server.stop()
            }
            let while_away = records.commit(&put("other", Version::ABSENT, "")).await;
            assert!(while_away.is_err(), "{while_away:?}");
            server.start_again();
            until("back", async || records.read(&[], &[]).await.is_ok()).await;
        }
    }

    assert_eq!(stored(&*records, "job").await.as_deref(), Some("9"));
    assert!(alive(&*records, session).await, "a session is a row like others");
    until("renewed", async || records.renew(session).await == Ok(true)).await;
}

#[tokio::test]
async fn a_frozen_server_fails_calls_within_their_deadline_and_sessions_expire_meanwhile() {
    let server = Server::start();
    let deadline = Duration::from_millis(300);
    let records = Mysql::new("scope", server.url()).deadline(deadline).records();
    let session = records.open(SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    server.freeze();
    let frozen_at = Instant::now();
    let unknown = records.commit(&put("job", version, "two")).await;
    assert_eq!(unknown, Err(RecordsError::Timeout));
    let not_renewed = records.renew(session).await;
    assert_eq!(not_renewed, Err(RecordsError::Timeout));
    let not_connected = records.renew(session).await;
    assert!(matches!(not_connected, Err(RecordsError::Unavailable { .. })), "{not_connected:?}");
    assert!(frozen_at.elapsed() < 10 * deadline, "all together took {:?}", frozen_at.elapsed());
    sleep(SECOND).await;
    server.thaw();

    until("back", async || records.read(&[], &[]).await.is_ok()).await;
    until("asked", async || matches!(records.renew(session).await, Ok(false))).await;
    assert!(!alive(&*records, session).await, "its time ran on");
    assert_eq!(
        stored(&*records, "job").await.as_deref(),
        Some("one"),
        "the node had not heard what it found"
    );
}

/// The connections of the nodes' user, but those of this question.
fn connections(server: &Server) -> u32 {
    let count = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{USER}'");
    server.ask(&count).trim().parse().expect("a number")
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_is_rolled_back_and_its_connection_is_closed() {
    let server = Server::start();
    let records = Mysql::new("scope", server.url()).records();
    let beside = Mysql::new("scope", server.url()).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    for at in 0..12 {
        let commit = put("job", version, "dropped");
        let call = records.commit(&commit);
        if at % 3 == 0 {
            let _ = call.now_or_never();
        } else {
            let _ = timeout(Duration::from_micros(150 * at), call).await;
        }
        // What nobody has asked about since is done as a whole, or not at all, and its locks are gone.
        let now = stored(&*records, "job").await.expect("it is there");
        if now == "dropped" {
            break;
        }
        let again = beside.commit(&put("other", Version::ABSENT, "")).await.expect("an answer");
        if let Some(other) = made(&again) {
            beside.commit(&one("other", other, Change::Delete)).await.expect("an answer");
        }
    }
    // Those that were given up are gone, and so are the locks of their commits.
    until("closed", async || connections(&server) <= 3).await;
}

/// A client that stands still between the two halves of a commit, with all its locks.
#[tokio::test]
async fn the_server_ends_a_commit_in_the_middle_of_which_nothing_comes() {
    let proxy = Proxy::to(harness::server().port()).await;
    let scope = harness::scope("still");
    let records = Mysql::new(&*scope, through(&proxy)).deadline(SECOND).records();
    let beside = client(&scope);
    let session = records.open(SECOND * 30).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    proxy.lose_answers(true);
    let unit = Unit {
        records: vec![RecordChange { name: name("job"), version, change: Change::Put(vec![2]) }],
        hints: Vec::new(),
    };
    let commit = Commit { alive: vec![session], leader: None, units: vec![unit] };
    assert_eq!(records.commit(&commit).await, Err(RecordsError::Timeout));
    // The proxy keeps the connection to the server open.
    let began = Instant::now();
    until("free", async || {
        beside.commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
    beside.end(session).await.expect("its row is free as well");
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let scope = harness::scope("deadlock");
    let records = client(&scope);
    write(&*records, "a", Version::ABSENT, "one").await;
    let version = write(&*records, "b", Version::ABSENT, "one").await;
    let mut other =
        Conn::new(Opts::from_url(&harness::server().url()).expect("a URL")).await.expect("a connection");
    let lock = |id: &str| {
        format!(
            "SELECT version FROM callsheet_records WHERE scope = '{scope}' AND name = 'name/{id}' FOR UPDATE"
        )
    };

    // It has the second one, and wants the first, which the commit has by then. It has written more, and is spared.
    other.query_drop("START TRANSACTION").await.expect("it begins");
    for nth in 0..50 {
        let insert = format!("INSERT INTO callsheet_records VALUES ('{scope}', 'name/z-{nth}', 7, 'x')");
        other.query_drop(insert).await.expect("it is written");
    }
    other.query_drop(lock("b")).await.expect("it is free");
    let wants = async {
        sleep(SECOND / 5).await;
        other.query_drop(lock("a")).await.expect("the commit gave way");
        other.query_drop("ROLLBACK").await.expect("it ends");
    };
    let first = records.read(&[name("a")], &[]).await.expect("an answer").records[0].version;
    let change = |id, version| RecordChange { name: name(id), version, change: Change::Put(vec![2]) };
    let unit = Unit { records: vec![change("a", first), change("b", version)], hints: Vec::new() };
    let commit = Commit { units: vec![unit], ..Commit::default() };

    let (committed, ()) = tokio::join!(records.commit(&commit), wants);

    let Ok(Committed::Units { answers, .. }) = committed else { panic!("{committed:?}") };
    assert_eq!(answers.len(), 1);
    assert_eq!(stored(&*records, "a").await.as_deref(), Some("\u{2}"));
}

#[tokio::test]
async fn a_row_that_stays_locked_is_told_in_time_and_does_no_harm() {
    let scope = harness::scope("locked");
    let records = client(&scope);
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let mut other =
        Conn::new(Opts::from_url(&harness::server().url()).expect("a URL")).await.expect("a connection");
    other.query_drop("START TRANSACTION").await.expect("it begins");
    let lock = format!("SELECT * FROM callsheet_records WHERE scope = '{scope}' FOR UPDATE");
    other.query_drop(lock).await.expect("it is free");

    let began = Instant::now();
    let late = records.commit(&put("job", version, "two")).await;
    assert_eq!(late, Err(RecordsError::Timeout));
    assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("one"), "who only reads waits for nobody");
    other.query_drop("ROLLBACK").await.expect("it ends");
    until("free", async || {
        records.commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
}

#[tokio::test]
async fn tables_that_are_dropped_are_told_and_made_again() {
    let server = Server::start();
    let records = Mysql::new("scope", server.url()).records();
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    server.ask("DROP TABLE callsheet_records, callsheet_sessions");

    let Err(RecordsError::NotDone { reason }) = records.commit(&put("job", version, "two")).await else {
        panic!("the table is gone")
    };
    assert!(reason.contains("the tables are gone") && reason.contains("Mysql::ddl()"), "{reason}");
    until("made", async || records.read(&[name("job")], &[]).await.is_ok()).await;
    assert_eq!(stored(&*records, "job").await, None);
}
