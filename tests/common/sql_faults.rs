//! The port of records on a database when the server, what stands before it, or the way to them fails.
//!
//! [`sql_faults`] makes the tests of a [`Database`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use callsheet::port::{Change, Commit, Committed, RecordChange, Records, RecordsError, Unit, Version};
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

use super::{
    proxy::Proxy,
    store::{SECOND, alive, made, name, one, put, stored, until, write},
};

/// A server under test.
pub(crate) trait Database: Send + Sync + Sized + 'static {
    /// A connection of somebody else.
    type Other: Send;

    /// One of its own, for a test that does something to it.
    fn start() -> Self;

    /// The one that tests share.
    fn shared() -> &'static Self;

    /// Where nodes connect to: the server, or what stands before it.
    fn port(&self) -> u16;

    /// The records of a scope, as a client at this port sees them.
    fn records(scope: &str, port: u16, deadline: Duration) -> Arc<dyn Records>;

    /// Ends the server, or kills it.
    fn end(&self, killed: bool);

    fn start_again(&self);

    /// What nodes connect to stands still, and goes on.
    fn freeze(&self);
    fn thaw(&self);

    /// Connects to the server itself, and does this.
    fn other(&self, statements: &str) -> impl Future<Output = Self::Other> + Send;

    fn run(other: &mut Self::Other, statements: &str) -> impl Future<Output = ()> + Send;

    /// Begins a transaction in which it is not the victim of a deadlock.
    fn begin(scope: &str) -> String;

    /// A statement that locks a record, or all.
    fn lock(scope: &str, id: Option<&str>) -> String;

    /// How many transactions of nodes of a scope are open, or connections beyond those that are in use.
    fn left_open(&self, scope: &str) -> impl Future<Output = usize> + Send;
}

fn client<D: Database>(database: &D, scope: &str) -> Arc<dyn Records> {
    D::records(scope, database.port(), 2 * SECOND)
}

async fn version_of(records: &dyn Records) -> Version {
    records.read(&[name("job")], &[]).await.expect("an answer").records[0].version
}

async fn is_back(records: &dyn Records) -> bool {
    records.read(&[], &[]).await.is_ok()
}

/// Waits until what others had locked is free.
async fn until_written(records: &dyn Records, version: Version) {
    until("free", async || {
        records.commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
}

pub(crate) async fn lost_answers<D: Database>(scope: &str) {
    let proxy = Proxy::to(D::shared().port()).await;
    let records = D::records(scope, proxy.port(), SECOND / 2);
    let mut version = write(&*records, "job", Version::ABSENT, "one").await;

    // The answer to what it locks, and to what it writes.
    for (answered, done) in [(0, false), (1, true)] {
        proxy.lose_answers_after(answered);
        let lost = records.commit(&put("job", version, "two")).await;
        proxy.lose_answers(false);

        assert_eq!(lost, Err(RecordsError::Timeout));
        until("the record is read", async || is_back(&*records).await).await;
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

pub(crate) async fn cut_connections<D: Database>(scope: &str) {
    let proxy = Proxy::to(D::shared().port()).await;
    let records = D::records(scope, proxy.port(), 2 * SECOND);
    let session = records.open(10 * SECOND).await.expect("it opens");

    for _ in 0..3 {
        proxy.cut();
        until("renewed", async || records.renew(session).await == Ok(true)).await;
        until("read", async || records.read(&[], &[session]).await.is_ok()).await;
    }
}

pub(crate) async fn servers_that_end<D: Database>(scope: &str) {
    let database = D::start();
    let records = client(&database, scope);
    let session = records.open(120 * SECOND).await.expect("it opens");
    let mut version = Version::ABSENT;
    for (nth, killed) in [true, false].into_iter().enumerate() {
        version = write(&*records, "job", version, &nth.to_string()).await;
        database.end(killed);
        let while_away = records.commit(&put("other", Version::ABSENT, "")).await;
        assert!(while_away.is_err(), "{while_away:?}");
        database.start_again();
        until("back", async || is_back(&*records).await).await;
    }

    assert_eq!(stored(&*records, "job").await.as_deref(), Some("1"));
    assert!(alive(&*records, session).await, "a session is a row like others");
    until("renewed", async || records.renew(session).await == Ok(true)).await;
}

pub(crate) async fn standing_still<D: Database>(scope: &str) {
    let database = D::start();
    let deadline = Duration::from_millis(400);
    let records = D::records(scope, database.port(), deadline);
    let session = records.open(SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    database.freeze();
    let frozen_at = Instant::now();
    let unknown = records.commit(&put("job", version, "two")).await;
    assert_eq!(unknown, Err(RecordsError::Timeout));
    assert_eq!(records.renew(session).await, Err(RecordsError::Timeout));
    let not_connected = records.renew(session).await;
    assert!(matches!(not_connected, Err(RecordsError::Unavailable { .. })), "{not_connected:?}");
    assert!(frozen_at.elapsed() < 10 * deadline, "all together took {:?}", frozen_at.elapsed());
    sleep(SECOND).await;
    database.thaw();

    until("back", async || is_back(&*records).await).await;
    until("asked", async || records.renew(session).await == Ok(false)).await;
    assert!(!alive(&*records, session).await, "its time ran on");
    let stored = stored(&*records, "job").await;
    assert_eq!(stored.as_deref(), Some("one"), "the node had not heard what it found");
}

pub(crate) async fn dropped_calls<D: Database>(scope: &str) {
    let database = D::start();
    let records = client(&database, scope);
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    for at in 0..12_u64 {
        let commit = put("job", version, "dropped");
        let call = records.commit(&commit);
        if at % 3 == 0 {
            let _ = call.now_or_never();
        } else {
            let _ = timeout(Duration::from_micros(150 * at), call).await;
        }
        // What nobody has asked about since is done as a whole, or not at all.
        if stored(&*records, "job").await.expect("it is there") == "dropped" {
            break;
        }
    }
    // Those that were given up are gone, and so are the locks of their commits.
    until("closed", async || database.left_open(scope).await == 0).await;
    let after = records.commit(&put("job", version_of(&*records).await, "after")).await.expect("an answer");
    assert!(made(&after).is_some());
}

/// A client that stands still between the two halves of a commit, with all its locks.
pub(crate) async fn half_a_commit<D: Database>(scope: &str) {
    let proxy = Proxy::to(D::shared().port()).await;
    let records = D::records(scope, proxy.port(), SECOND);
    let beside = client(D::shared(), scope);
    let session = records.open(SECOND * 30).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    proxy.lose_answers(true);
    let unit = Unit {
        records: vec![RecordChange { name: name("job"), version, change: Change::Put(vec![2]) }],
        hints: Vec::new(),
    };
    let commit = Commit { alive: vec![session], units: vec![unit], ..Commit::default() };
    assert_eq!(records.commit(&commit).await, Err(RecordsError::Timeout));
    // The proxy keeps the connection to the server open.
    let began = Instant::now();
    until_written(&*beside, version).await;
    until("its row is free as well", async || beside.end(session).await.is_ok()).await;
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
}

/// A client whose message ends in the middle, with the connection open: what it had locked before is free in time.
pub(crate) async fn half_a_message<D: Database>(scope: &str) {
    let proxy = Proxy::to(D::shared().port()).await;
    let records = D::records(scope, proxy.port(), SECOND);
    let beside = client(D::shared(), scope);
    let session = records.open(SECOND * 30).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    // A commit is two messages. The half of the second comes behind the locks of the first.
    let mut version = version;
    for whole in [0, 1] {
        proxy.halve_message_after(whole);
        let commit = Commit { alive: vec![session], ..put("job", version, "half") };
        assert_eq!(records.commit(&commit).await, Err(RecordsError::Timeout), "after {whole} messages");
        let stored = stored(&*beside, "job").await;
        assert_eq!(stored.as_deref(), Some("one"), "half a message does nothing");

        // The proxy keeps the connection to the server open.
        let began = Instant::now();
        until_written(&*beside, version).await;
        assert!(began.elapsed() < 10 * SECOND, "{:?} after {whole} messages", began.elapsed());

        proxy.cut();
        until("back", async || is_back(&*records).await).await;
        version = write(&*records, "job", version_of(&*records).await, "one").await;
    }
    assert!(alive(&*beside, session).await, "it was not ended");
}

pub(crate) async fn deadlocks<D: Database>(scope: &str) {
    let records = client(D::shared(), scope);
    let first = write(&*records, "a", Version::ABSENT, "one").await;
    let version = write(&*records, "b", Version::ABSENT, "one").await;

    // It has the second one, and wants the first, which the commit has by then.
    let mut other = D::shared().other(&D::begin(scope)).await;
    D::run(&mut other, &D::lock(scope, Some("b"))).await;
    let wants = async {
        sleep(SECOND / 5).await;
        D::run(&mut other, &D::lock(scope, Some("a"))).await;
        D::run(&mut other, "ROLLBACK").await;
    };
    let change = |id, version| RecordChange { name: name(id), version, change: Change::Put(vec![2]) };
    let unit = Unit { records: vec![change("a", first), change("b", version)], hints: Vec::new() };
    let commit = Commit { units: vec![unit], ..Commit::default() };

    let (committed, ()) = tokio::join!(records.commit(&commit), wants);

    let Ok(Committed::Units { answers, .. }) = committed else { panic!("{committed:?}") };
    assert_eq!(answers.len(), 1);
    assert_eq!(stored(&*records, "a").await.as_deref(), Some("\u{2}"));
}

pub(crate) async fn locked_rows<D: Database>(scope: &str) {
    let records = client(D::shared(), scope);
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let mut other = D::shared().other("BEGIN").await;
    D::run(&mut other, &D::lock(scope, None)).await;

    let began = Instant::now();
    let late = records.commit(&put("job", version, "two")).await;
    assert_eq!(late, Err(RecordsError::Timeout));
    assert!(began.elapsed() < 4 * SECOND, "{:?}", began.elapsed());
    assert_eq!(stored(&*records, "job").await.as_deref(), Some("one"), "who only reads waits for nobody");
    D::run(&mut other, "ROLLBACK").await;
    until_written(&*records, version).await;
    let now = version_of(&*records).await;
    records.commit(&one("job", now, Change::Delete)).await.expect("an answer");
}

/// The tests of a database, each with a scope of its own.
macro_rules! sql_faults {
    ($database:ty, $($fact:ident: $story:ident;)*) => {
        $(
            #[tokio::test]
            async fn $fact() {
                $crate::sql::$story::<$database>(&$crate::harness::scope(stringify!($story))).await;
            }
        )*
    };
    ($database:ty) => {
        sql_faults! {
            $database,
            a_commit_whose_answer_is_lost_is_unknown_and_done_once_or_never: lost_answers;
            a_connection_that_is_cut_is_made_again_and_the_session_goes_on: cut_connections;
            a_server_that_is_killed_or_stopped_loses_nothing: servers_that_end;
            one_that_stands_still_fails_calls_in_time_and_sessions_expire: standing_still;
            a_call_that_is_dropped_in_the_middle_is_rolled_back: dropped_calls;
            the_server_ends_a_commit_in_the_middle_of_which_nothing_comes: half_a_commit;
            a_message_that_is_cut_in_two_does_nothing_and_holds_nothing: half_a_message;
            a_deadlock_is_tried_again: deadlocks;
            a_row_that_stays_locked_is_told_in_time_and_does_no_harm: locked_rows;
        }
    };
}

pub(crate) use sql_faults;
