//! A node asks for its password each time that it connects: one that is rotated needs no restart.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    EventFilter, EventName, EventStream, Problem,
    backend::Postgres,
    port::{Backend, LockError},
    prelude::*,
};
use harness::{PASSWORD, scope, server};
use log::Log;
use tokio_postgres::{Client, NoTls};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const FIRST: &str = "the-first-secret";
const SECOND: &str = "the-second-secret";

async fn admin() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// What hands out passwords, and how often it was asked.
#[derive(Clone, Default)]
struct Vault {
    password: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Vault {
    fn of(password: &str) -> Self {
        let vault = Self::default();
        vault.put(password);
        vault
    }

    fn put(&self, password: &str) {
        password.clone_into(&mut *self.password.lock().expect("nobody panicked"));
    }

    fn password(&self) -> String {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.password.lock().expect("nobody panicked").clone()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn backend(user: &str, scope: String, vault: Vault) -> Postgres {
    let url = format!("postgres://{user}:of-no-use@127.0.0.1:{}/postgres", server().port());
    Postgres::new(scope, url).schema(user).password_from(move || {
        let password = vault.password();
        async move { Ok::<_, io::Error>(password) }
    })
}

async fn next_run(events: &mut EventStream) {
    let run = tokio::time::timeout(DEADLINE, events.next()).await;
    run.expect("it runs").expect("the engine has not stopped");
}

#[tokio::test]
async fn a_rotated_password_heals_without_a_restart() {
    let log = Log::keep();
    let admin = admin().await;
    let role =
        format!("CREATE ROLE rotated LOGIN PASSWORD '{FIRST}'; GRANT CREATE ON DATABASE postgres TO rotated");
    admin.batch_execute(&role).await.expect("a role");
    let vault = Vault::of(FIRST);
    let jobs = Callsheet::builder()
        .backend(backend("rotated", scope("rotated"), vault.clone()))
        .job(Job::new("often", every(Duration::from_millis(100))).run(async |_| {}))
        .start()
        .await
        .expect("it starts");
    let mut events = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded]));
    next_run(&mut events).await;
    let why =
        "for a session that finds no tables, the migration, the session, the leadership and the overrides";
    assert_eq!(vault.asked(), 5, "{why}");

    admin.batch_execute(&format!("ALTER ROLE rotated PASSWORD '{SECOND}'")).await.expect("it is rotated");
    let end =
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE usename = 'rotated'";
    admin.query_one(end, &[]).await.expect("they end");

    let until = Instant::now() + DEADLINE;
    let shown = loop {
        let health = jobs.health().await.expect("it answers");
        let reason = health.problems.iter().find_map(|problem| match problem {
            Problem::NoSession { reason, .. } => reason.as_deref(),
            _ => None,
        });
        if let Some(reason) = reason.filter(|reason| reason.contains("password authentication failed")) {
            assert!(reason.contains("check what the callback of `password_from` answers"), "{reason}");
            break format!("{health:?}");
        }
        assert!(Instant::now() < until, "{:?}", health.problems);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };

    vault.put(SECOND);
    let mut events = jobs.events(EventFilter::new().kinds([EventName::LeadershipGained]));
    next_run(&mut events).await;
    let mut events = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded]));
    next_run(&mut events).await;
    assert_eq!(jobs.shutdown(DEADLINE).await.aborted, 0);
    for text in [shown, log.text()] {
        assert!(!text.contains(FIRST) && !text.contains(SECOND), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_password_from_a_callback_does_not_end_a_start() {
    let admin = admin().await;
    let role =
        format!("CREATE ROLE late LOGIN PASSWORD '{SECOND}'; GRANT CREATE ON DATABASE postgres TO late");
    admin.batch_execute(&role).await.expect("a role");
    let vault = Vault::of(FIRST);
    let starting =
        tokio::spawn(Callsheet::builder().backend(backend("late", scope("late"), vault.clone())).start());
    let until = Instant::now() + DEADLINE;
    while vault.asked() < 2 {
        assert!(!starting.is_finished() && Instant::now() < until, "it is not asked again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    vault.put(SECOND);

    let jobs = starting.await.expect("no panic").expect("it starts");
    jobs.shutdown(DEADLINE).await;
}

/// Opens a session, which fails for now.
async fn reason(backend: Postgres) -> String {
    match backend.locker().open().await {
        Err(error @ LockError::Unavailable { .. }) => {
            let shown = format!("{error} {error:?} {backend:?}");
            assert!(!shown.contains(PASSWORD), "{shown}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_callback_without_a_use_is_told_with_its_reason_and_no_secret() {
    let url = || async { Ok::<_, io::Error>(format!("postgres://me:{PASSWORD}@/")) };
    let no_url = reason(Postgres::url_from("s", url)).await;
    assert!(no_url.contains("postgres: url") && no_url.contains("postgres://user:password@host"), "{no_url}");

    let plain = || async { Ok::<_, io::Error>(format!("postgres://me:{PASSWORD}@db.example/db")) };
    let not_encrypted = reason(Postgres::url_from("s", plain)).await;
    assert!(not_encrypted.contains("sslmode") && not_encrypted.contains("falls back"), "{not_encrypted}");

    let sealed = || async { Err::<String, _>(io::Error::other("the vault is sealed")) };
    let failed = reason(Postgres::url_from("s", sealed)).await;
    assert!(failed.contains("the callback of `url_from` failed: the vault is sealed"), "{failed}");

    let panics = || async { panic!("{PASSWORD}") };
    let panicked = reason(Postgres::new("s", server().url()).password_from::<_, _, io::Error>(panics)).await;
    assert!(panicked.contains("the callback of `password_from` panicked"), "{panicked}");
}

#[tokio::test]
async fn a_url_that_is_asked_for_is_used_as_a_whole() {
    let scope = scope("asked");
    let url = || async { Ok::<_, io::Error>(server().url() + "?application_name=asked-for\n") };
    let backend = Postgres::url_from(&scope, url);

    backend.locker().open().await.expect("a session opens");

    let named = "SELECT name FROM callsheet.sessions WHERE scope = $1";
    let row = admin().await.query_one(named, &[&scope]).await.expect("a session");
    assert_eq!(row.get::<_, String>(0), "asked-for");
    let connector = backend.connector().await.expect("it answers");
    let (client, connection) = connector.config.connect(connector.tls).await.expect("a connection");
    tokio::spawn(connection);
    let row = client.query_one("SELECT current_user::text", &[]).await.expect("an answer");
    assert_eq!(row.get::<_, &str>(0), harness::USER);
    backend.locker().close().await;
}
