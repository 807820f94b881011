//! A network whose round trips take long: a lease that it cannot keep is named with the shortest that it can.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/impostor.rs"]
mod impostor;
#[path = "common/log.rs"]
mod log;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Callsheet, EventFilter, EventKind, EventName, Job, Problem, StartError,
    backend::Postgres,
    port::{Backend, Campaign},
    schedule::every,
};
use tokio::time::{sleep, timeout};

use self::{
    harness::{scope, server},
    impostor::{Slow, slow},
    log::{Log, until},
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn backend(scope: &str, way: &Slow, lease: Duration) -> Postgres {
    let url = server().url().replace(&format!(":{}/", server().port()), &format!(":{}/", way.port));
    // The handshake takes three round trips.
    Postgres::new(scope, format!("{url}?connect_timeout=10")).lease(lease)
}

/// Makes the tables, by a way that is quick.
async fn make_tables() {
    let backend = Postgres::new("tables", server().url());
    backend.locker().open().await.expect("a session opens");
    backend.locker().close().await;
}

async fn start(backend: Postgres, runs: &Arc<AtomicU64>) -> Result<Callsheet, StartError> {
    let job = Job::new("job", every(ms(500))).run_with(runs.clone(), async |_, runs| {
        runs.fetch_add(1, Ordering::SeqCst);
    });
    Callsheet::builder().backend(backend).job(job).connect_timeout(DEADLINE).start().await
}

#[tokio::test]
async fn a_lease_of_five_round_trips_is_kept() {
    Log::keep();
    make_tables().await;
    let (way, runs) = (slow(server().port(), ms(100)).await, Arc::default());

    let node = start(backend(&scope("kept"), &way, ms(1_000)), &runs).await.expect("it starts");
    until("run", async || runs.load(Ordering::SeqCst) > 0).await;
    let mut lost = node.events(EventFilter::new().kinds([EventName::LeadershipLost]));
    let before = runs.load(Ordering::SeqCst);
    let lost = timeout(ms(6_000), lost.next()).await;

    assert!(lost.is_err(), "{lost:?}");
    let ran = runs.load(Ordering::SeqCst) - before;
    assert!(ran >= 8, "{ran} of 12");
    node.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_idle_session_outlives_its_looks_at_snapshots_on_a_slow_way() {
    Log::keep();
    make_tables().await;
    let (way, lease) = (slow(server().port(), Duration::ZERO).await, ms(2_000));
    let backend = backend(&scope("idle"), &way, lease);
    let locker = backend.locker();

    let session = locker.open().await.expect("a session opens");
    // A heartbeat that is sent after a third of the lease, two round trips of more than a quarter, and the
    // trust is over.
    way.set_delay(ms(280));
    let lost = timeout(lease * 5, locker.lost(session)).await;

    assert!(lost.is_err(), "{lost:?}");
    locker.close().await;
}

#[tokio::test]
async fn a_way_that_is_slow_only_at_first_is_not_refused() {
    Log::keep();
    make_tables().await;
    let way = slow(server().port(), ms(245)).await;
    let backend = backend(&scope("at-first"), &way, ms(1_000));
    let locker = backend.locker();

    let quickens = async {
        // The handshake, what the server is, a second look, and the third, of which the answer is quick.
        until("asked", async || way.turns(false) >= 6).await;
        way.set_delay(Duration::ZERO);
    };
    let (opened, ()) = tokio::join!(locker.open(), quickens);

    assert!(opened.is_ok(), "{opened:?}");
    locker.close().await;
}

#[tokio::test]
async fn a_lease_that_the_network_cannot_keep_is_refused_with_one_that_works() {
    Log::keep();
    make_tables().await;
    let (way, runs) = (slow(server().port(), ms(240)).await, Arc::default());
    let short = backend(&scope("short"), &way, ms(1_000));

    let named = Mutex::new(String::new());
    until("named", async || {
        // The machine may be slower than the network: then it is silent.
        let error = short.locker().open().await.expect_err("too short").to_string();
        let is_named = error.contains("too long for a lease of 1s");
        *named.lock().expect("nobody panicked") = error;
        is_named
    })
    .await;

    let text = named.into_inner().expect("nobody panicked");
    // The proxy takes a moment of its own.
    let lease = |tenths: &u64| match tenths % 10 {
        0 => format!("a lease of at least {}s,", tenths / 10),
        rest => format!("a lease of at least {}s{rest}00ms,", tenths / 10),
    };
    let tenths = (19..40).find(|tenths| text.contains(&lease(tenths))).unwrap_or_else(|| panic!("{text}"));
    let node = start(backend(&scope("named"), &way, ms(tenths * 100)), &runs).await.expect("it starts");
    until("run", async || runs.load(Ordering::SeqCst) > 0).await;
    node.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_network_too_slow_for_the_lease_is_reported_once_until_it_is_good() {
    Log::keep();
    make_tables().await;
    let (way, runs) = (slow(server().port(), Duration::ZERO).await, Arc::default());
    let node = start(backend(&scope("slow"), &way, ms(2_000)), &runs).await.expect("it starts");
    until("run", async || runs.load(Ordering::SeqCst) > 0).await;
    let kinds = [EventName::LeaseTooShort, EventName::LeaseLongEnough];
    let mut events = node.events(EventFilter::new().kinds(kinds));
    let is_named = async || {
        let health = node.health().await.expect("it runs");
        let problem = health.problems.iter().find(|it| matches!(it, Problem::LeaseTooShort { .. }));
        problem.map(ToString::to_string)
    };
    assert_eq!(is_named().await, None);

    // A renewal still comes in time.
    way.set_delay(ms(380));
    until("named", async || is_named().await.is_some()).await;
    let named = is_named().await.expect("a problem");
    way.set_delay(Duration::ZERO);
    until("over", async || is_named().await.is_none()).await;

    assert!(named.contains("and the lease is shorter than the 3s"), "{named}");
    let first = events.next().await.expect("an event").kind.clone();
    let EventKind::LeaseTooShort { lease_min, .. } = first else { panic!("{first:?}") };
    assert!((ms(3_000)..ms(4_000)).contains(&lease_min), "{lease_min:?}");
    let second = events.next().await.expect("an event").kind.clone();
    assert!(matches!(second, EventKind::LeaseLongEnough { .. }), "{second:?}");
    node.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_session_and_a_term_take_few_round_trips() {
    Log::keep();
    make_tables().await;
    let way = slow(server().port(), ms(25)).await;
    let (scope, lease) = (scope("few"), Duration::from_secs(5));
    // The scope is known, as after the first start of any node.
    let first = Postgres::new(&scope, server().url()).lease(lease);
    first.locker().open().await.expect("a session opens");
    let Ok(Campaign::Won(grant)) = first.elector().campaign(Duration::MAX).await else {
        panic!("nobody else leads")
    };
    let second = backend(&scope, &way, lease);

    second.locker().open().await.expect("a session opens");
    let opened = way.turns(false);
    let turns = || way.turns(true);
    let lost = second.elector().campaign(Duration::MAX).await;
    assert!(matches!(lost, Ok(Campaign::Lost { .. })), "{lost:?}");
    let connected = turns();
    let (elector, resigns) = (second.elector(), first.elector());
    let waits = tokio::spawn(async move { elector.campaign(Duration::MAX).await });
    sleep(ms(200)).await;
    resigns.resign(grant.term).await.expect("it resigns");
    let won = waits.await.expect("it does not panic");
    let Ok(Campaign::Won(grant)) = won else { panic!("{won:?}") };
    let granted = turns();
    second.elector().renew(grant.term).await.expect("an answer");
    let renewed = turns();
    second.elector().resign(grant.term).await.expect("an answer");
    let resigned = turns();

    // Three of them are the handshake with a password.
    assert_eq!(opened, 6, "a session");
    assert_eq!(connected, 5, "the second connection, and the first wait on it");
    // The wait for the leader was a round trip of its own.
    assert_eq!(granted - connected, 2, "a term once the leader has resigned");
    assert_eq!((renewed - granted, resigned - renewed), (1, 1), "a renewal, and the end of the term");
}
