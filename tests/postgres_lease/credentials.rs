//! URL and password are asked for each time that a connection is made: what is rotated needs no restart.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use callsheet::{
    backend::PostgresLease,
    port::{Records, Version},
};
use tokio::sync::Mutex;

use super::{ask, harness::server, stored, until, write};

const FIRST: &str = "the-first-secret";
const SECOND: &str = "the-second-secret";

/// What hands out a secret, and how often it was asked.
#[derive(Clone)]
struct Vault {
    secret: Arc<std::sync::Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Vault {
    fn of(secret: impl Into<String>) -> Self {
        Self { secret: Arc::new(std::sync::Mutex::new(secret.into())), asked: Arc::default() }
    }

    fn put(&self, secret: impl Into<String>) {
        *self.secret.lock().expect("nobody panicked") = secret.into();
    }

    fn callback(&self) -> impl Fn() -> std::future::Ready<io::Result<String>> + Send + Sync + use<> {
        let vault = self.clone();
        move || {
            vault.asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(vault.secret.lock().expect("nobody panicked").clone()))
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn url(user: &str, password: &str) -> String {
    format!("postgres://{user}:{password}@127.0.0.1:{}/postgres", server().port())
}

/// A role that may make its own schema.
async fn role(user: &str) {
    // Two at once would change the rights of one database at once, which the server refuses.
    static ONE_BY_ONE: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_BY_ONE.lock().await;
    let role =
        format!("CREATE ROLE {user} LOGIN PASSWORD '{FIRST}'; GRANT CREATE ON DATABASE postgres TO {user}");
    ask(server(), &role).await;
}

/// The role gets the second password, and all its connections end.
async fn rotate(user: &str) {
    ask(server(), &format!("ALTER ROLE {user} PASSWORD '{SECOND}'")).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE usename = '{user}'"
    );
    ask(server(), &end).await;
}

/// Waits until the store refuses, and answers why.
async fn refused(records: &dyn Records, by: &str) -> String {
    let said = Mutex::new(String::new());
    until("refused", async || {
        let Err(error) = records.read(&[], &[]).await else { return false };
        let mut said = said.lock().await;
        *said = error.to_string();
        said.contains(by)
    })
    .await;
    said.into_inner()
}

/// What was refused is answered again once the callback knows the second secret.
async fn heals(records: &dyn Records, vault: &Vault, secret: String, callback: &str) {
    let reason = refused(records, callback).await;
    assert!(!reason.contains(FIRST) && !reason.contains(SECOND), "{reason}");
    let asked = vault.asked();
    assert!(asked >= 2, "once for each connection: {asked}");
    vault.put(secret);
    until("well again", async || records.read(&[], &[]).await.is_ok()).await;
    assert_eq!(stored(records, "job").await.as_deref(), Some("one"));
    assert!(vault.asked() > asked);
}

#[tokio::test]
async fn a_rotated_password_heals_without_a_restart() {
    role("lease_password").await;
    let vault = Vault::of(FIRST);
    let lease = PostgresLease::new("rotated", url("lease_password", "of-no-use"))
        .schema("lease_password")
        .password_from(vault.callback());
    let records = lease.records();
    write(&*records, "job", Version::ABSENT, "one").await;

    rotate("lease_password").await;

    heals(&*records, &vault, SECOND.to_owned(), "check what the callback of `password_from` answers").await;
    assert!(!format!("{lease:?}").contains(SECOND));
}

#[tokio::test]
async fn a_url_that_changes_is_asked_for_again() {
    role("lease_url").await;
    let vault = Vault::of(url("lease_url", FIRST));
    let records = PostgresLease::url_from("rotated", vault.callback()).schema("lease_url").records();
    write(&*records, "job", Version::ABSENT, "one").await;

    rotate("lease_url").await;

    let changed = url("lease_url", SECOND);
    heals(&*records, &vault, changed, "check what the callback of `url_from` answers").await;
}

#[tokio::test]
async fn a_callback_that_fails_is_told_with_its_own_words() {
    let fails = async || Err::<String, _>(io::Error::other("the vault is sealed"));
    let of_url = PostgresLease::url_from("sealed", fails);
    let of_password = PostgresLease::new("sealed", url("nobody", "of-no-use")).password_from(fails);

    for (lease, callback) in [(of_url, "url_from"), (of_password, "password_from")] {
        let error = lease.records().read(&[], &[]).await.expect_err("there is no connection").to_string();
        let said = format!("the callback of `{callback}` failed: the vault is sealed");
        assert!(error.contains(&said), "{error}");
    }
}
