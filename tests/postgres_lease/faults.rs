//! The port when the server, the pooler, or the way to them, fails.

use std::time::{Duration, Instant};

use callsheet::{
    backend::PostgresLease,
    port::{Change, Commit, RecordChange, Records, RecordsError, Unit, Version},
};
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use super::{
    SECOND, alive, ask, client,
    harness::{self, PASSWORD, Server, Stop, USER},
    made, name, one,
    pooler::Pooler,
    proxy::Proxy,
    put, stored, until, write,
};

/// The URL of the pooler by way of a proxy.
fn through(proxy: &Proxy) -> String {
    format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/postgres", proxy.port())
}

async fn is_back(records: &dyn Records) -> bool {
    records.read(&[], &[]).await.is_ok()
}

async fn version_of(records: &dyn Records) -> Version {
    records.read(&[name("job")], &[]).await.expect("an answer").records[0].version
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_done_once_or_never() {
    let proxy = Proxy::to(super::pooler().port()).await;
    let records = PostgresLease::new(harness::scope("lost"), through(&proxy)).deadline(SECOND / 2).records();
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
    let proxy = Proxy::to(super::pooler().port()).await;
    let records = PostgresLease::new(harness::scope("cut"), through(&proxy)).records();
    let session = records.open(10 * SECOND).await.expect("it opens");

    for _ in 0..3 {
        proxy.cut();
        until("renewed", async || records.renew(session).await == Ok(true)).await;
        until("read", async || records.read(&[], &[session]).await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_pooler_that_is_killed_and_started_again_loses_nothing() {
    let pooler = Pooler::before(harness::server(), 4);
    let records = PostgresLease::new(harness::scope("pooler"), pooler.url()).records();
    let session = records.open(60 * SECOND).await.expect("it opens");
    let mut version = write(&*records, "job", Version::ABSENT, "0").await;
    for nth in ["1", "2"] {
        pooler.kill();
        let while_away = records.commit(&put("job", version, "never")).await;
        assert!(while_away.is_err(), "{while_away:?}");
        pooler.start_again();
        until("back", async || is_back(&*records).await).await;
        assert_ne!(stored(&*records, "job").await.as_deref(), Some("never"));
        version = write(&*records, "job", version, nth).await;
        until("renewed", async || records.renew(session).await == Ok(true)).await;
    }
    assert!(alive(&*records, session).await);
}

#[tokio::test]
async fn a_pooler_that_stands_still_fails_calls_within_their_deadline() {
    let pooler = Pooler::before(harness::server(), 4);
    let deadline = Duration::from_millis(400);
    let records = PostgresLease::new(harness::scope("still"), pooler.url()).deadline(deadline).records();
    let session = records.open(SECOND).await.expect("it opens");
    write(&*records, "job", Version::ABSENT, "one").await;

    pooler.freeze();
    let frozen_at = Instant::now();
    assert_eq!(records.renew(session).await, Err(RecordsError::Timeout));
    let not_connected = records.renew(session).await;
    assert!(matches!(not_connected, Err(RecordsError::Unavailable { .. })), "{not_connected:?}");
    assert!(frozen_at.elapsed() < 10 * deadline, "both together took {:?}", frozen_at.elapsed());
    sleep(SECOND).await;
    pooler.thaw();

    until("back", async || is_back(&*records).await).await;
    until("asked", async || records.renew(session).await == Ok(false)).await;
    assert!(!alive(&*records, session).await, "its time ran on");
}

#[tokio::test]
async fn a_server_that_is_killed_or_stopped_behind_its_pooler_loses_nothing() {
    let server = Server::start();
    let pooler = Pooler::before(&server, 4);
    let records = PostgresLease::new("scope", pooler.url()).records();
    let session = records.open(120 * SECOND).await.expect("it opens");
    let mut version = Version::ABSENT;
    for (nth, how) in [Stop::Immediate, Stop::Fast].into_iter().enumerate() {
        version = write(&*records, "job", version, &nth.to_string()).await;
        server.stop(how);
        let while_away = records.commit(&put("other", Version::ABSENT, "")).await;
        assert!(while_away.is_err(), "{while_away:?}");
        server.start_again();
        until("back", async || is_back(&*records).await).await;
    }

    assert_eq!(stored(&*records, "job").await.as_deref(), Some("1"));
    assert!(alive(&*records, session).await, "a session is a row like others");
    until("renewed", async || records.renew(session).await == Ok(true)).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_in_the_middle_is_rolled_back_and_its_connection_is_closed() {
    let scope = harness::scope("dropped");
    let records = client(&scope);
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    for at in 0..12_u64 {
        let commit = put("job", version, "dropped");
        let call = records.commit(&commit);
        if at % 3 == 0 {
            let _ = call.now_or_never();
        } else {
            let _ = timeout(Duration::from_micros(200 * at), call).await;
        }
        // What nobody has asked about since is done as a whole, or not at all, and its locks are gone.
        let now = stored(&*records, "job").await.expect("it is there");
        if now == "dropped" {
            break;
        }
    }
    let open = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'callsheet dropped%' AND xact_start IS NOT NULL";
    until("rolled back", async || ask(harness::server(), open).await.is_empty()).await;
    let read = records.read(&[name("job")], &[]).await.expect("an answer").records;
    let after = records.commit(&put("job", read[0].version, "after")).await.expect("an answer");
    assert!(made(&after).is_some());
}

/// A client that stands still between the two halves of a commit, with all its locks.
#[tokio::test]
async fn the_server_ends_a_commit_in_the_middle_of_which_nothing_comes() {
    let proxy = Proxy::to(super::pooler().port()).await;
    let scope = harness::scope("middle");
    let records = PostgresLease::new(&*scope, through(&proxy)).deadline(SECOND).records();
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
    let began = Instant::now();
    until("free", async || {
        beside.commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
    until("its row is free as well", async || beside.end(session).await.is_ok()).await;
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let scope = harness::scope("deadlock");
    let records = client(&scope);
    let first = write(&*records, "a", Version::ABSENT, "one").await;
    let version = write(&*records, "b", Version::ABSENT, "one").await;
    let other = harness::connect(&harness::server().url()).await;
    let lock = |id: &str| {
        format!(
            "SELECT FROM callsheet_lease.records WHERE scope = convert_to('{scope}', 'UTF8') AND name = 'name/{id}' FOR UPDATE"
        )
    };

    // It has the second one, and wants the first, which the commit has by then.
    other
        .batch_execute(&format!("BEGIN; SET LOCAL deadlock_timeout = '1min'; {}", lock("b")))
        .await
        .expect("it is free");
    let wants = async {
        sleep(SECOND / 5).await;
        other.batch_execute(&lock("a")).await.expect("the commit gave way");
        other.batch_execute("ROLLBACK").await.expect("it ends");
    };
    let change = |id, version| RecordChange { name: name(id), version, change: Change::Put(vec![2]) };
    let unit = Unit { records: vec![change("a", first), change("b", version)], hints: Vec::new() };
    let commit = Commit { units: vec![unit], ..Commit::default() };

    let (committed, ()) = tokio::join!(records.commit(&commit), wants);

    committed.expect("it was tried again");
    assert_eq!(stored(&*records, "a").await.as_deref(), Some("\u{2}"));
}

#[tokio::test]
async fn a_row_that_stays_locked_is_told_in_time_and_does_no_harm() {
    let scope = harness::scope("locked");
    let records = client(&scope);
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let other = harness::connect(&harness::server().url()).await;
    let lock = format!(
        "BEGIN; SELECT FROM callsheet_lease.records WHERE scope = convert_to('{scope}', 'UTF8') FOR UPDATE"
    );
    other.batch_execute(&lock).await.expect("it is free");

    let began = Instant::now();
    let late = records.commit(&put("job", version, "two")).await;
    assert_eq!(late, Err(RecordsError::Timeout));
    assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("one"), "who only reads waits for nobody");
    other.batch_execute("ROLLBACK").await.expect("it ends");
    until("free", async || {
        records.commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
    let read = records.read(&[name("job")], &[]).await.expect("an answer").records;
    records.commit(&one("job", read[0].version, Change::Delete)).await.expect("an answer");
}
