//! A server, a role or a URL that is of no use is refused, with the cause and the cure, and the password never shows.

use std::time::{Duration, Instant};

use callsheet::{
    backend::PostgresLease,
    port::{RecordKind, RecordsError, Version},
};
use tokio::net::TcpListener;

use super::{
    SECOND, ask,
    authority::Authority,
    harness::{self, PASSWORD, Server, USER, server},
    made, pooler,
    pooler::Pooler,
    put, until, write,
};

/// What opening a session answers.
async fn refusal(url: &str) -> RecordsError {
    let lease = PostgresLease::new("scope", url).schema("refusals");
    let shown = format!("{lease:?}");
    let error = lease.records().open(5 * SECOND).await.expect_err(&format!("{shown}: it opens"));
    assert!(
        !shown.contains(PASSWORD) && !format!("{error} {error:?}").contains(PASSWORD),
        "{shown}: {error:?}"
    );
    error
}

async fn refused(url: &str, reason: &str) {
    match refusal(url).await {
        RecordsError::Refused { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

async fn unavailable(url: &str, reason: &str) {
    match refusal(url).await {
        RecordsError::Unavailable { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_or_database_is_told_by_the_server_and_by_the_pooler() {
    refused(&server().url_with("wrong"), "check the user and the password").await;
    let missing = server().url().replace("/postgres", "/missing");
    refused(&missing, "create the database").await;
    let by_pooler = refusal(&pooler().url_as(USER, "wrong")).await;
    assert!(by_pooler.to_string().contains("check"), "{by_pooler:?}");
}

#[tokio::test]
async fn a_standby_is_refused_and_a_role_that_may_not_write_too() {
    let standby = Server::standby_of(server());
    let behind = Pooler::before(&standby, 4);
    refused(&behind.url(), "read-only: a standby").await;

    let own = Server::start();
    ask(&own, &format!("ALTER ROLE {USER} SET default_transaction_read_only = on")).await;
    refused(&own.url(), "default_transaction_read_only").await;
}

#[tokio::test]
async fn a_server_that_becomes_read_only_answers_nothing_that_counts() {
    let server = Server::start();
    let pooler = Pooler::before(&server, 2);
    let clients = [(); 4].map(|()| PostgresLease::new("scope", pooler.url()).records());
    let session = clients[0].open(60 * SECOND).await.expect("it opens");
    let version = write(&*clients[0], "job", Version::ABSENT, "one").await;
    for records in &clients {
        records.read(&[], &[session]).await.expect("it is connected");
        assert_eq!(records.renew(session).await, Ok(true));
    }

    ask(&server, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    ask(&server, "SELECT pg_reload_conf()").await;
    let seen = "SELECT current_setting('default_transaction_read_only')";
    until("read-only", async || ask(&server, seen).await == ["on"]).await;
    tokio::time::sleep(SECOND / 2).await;

    let answers = [
        clients[0].read(&[], &[session]).await.err(),
        clients[1].list(RecordKind::Name, None, 10).await.err(),
        clients[2].renew(session).await.err(),
        clients[3].end(session).await.err(),
    ];
    for answer in answers {
        let answer = answer.expect("no answer of a standby is believed");
        assert!(
            matches!(&answer, RecordsError::NotDone { reason } if reason.contains("read-only")),
            "{answer:?}"
        );
    }
    let admin = harness::connect(&server.url()).await;
    admin.batch_execute("SET default_transaction_read_only = off").await.expect("it is set");
    admin.batch_execute("ALTER SYSTEM RESET default_transaction_read_only").await.expect("it is reset");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("it is read");
    until("a primary again", async || {
        clients[3].commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
}

#[tokio::test]
async fn a_role_needs_the_rights_that_are_documented_and_no_others() {
    let server = Server::start();
    let pooler = Pooler::before(&server, 4);
    let url = pooler.url_as("poor", PASSWORD);
    ask(&server, &format!("CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'")).await;
    let cure = "or let another role run the statements of PostgresLease::ddl() once";
    refused(&url, cure).await;

    let lease = PostgresLease::new("scope", &url).schema("refusals");
    ask(&server, &lease.ddl()).await;
    ask(&server, &lease.ddl()).await;
    refused(&url, cure).await;
    ask(&server, "GRANT USAGE ON SCHEMA refusals TO poor").await;
    refused(&url, cure).await;
    ask(&server, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA refusals TO poor").await;

    let records = lease.records();
    let session = records.open(5 * SECOND).await.expect("it opens");
    write(&*records, "job", Version::ABSENT, "one").await;
    assert_eq!(records.renew(session).await, Ok(true));
    records.end(session).await.expect("it ends");

    for table in ["records", "sessions"] {
        for right in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
            ask(&server, &format!("REVOKE {right} ON refusals.{table} FROM poor")).await;
            refused(&url, "grant this role USAGE on the schema and SELECT, INSERT, UPDATE and DELETE").await;
            ask(&server, &format!("GRANT {right} ON refusals.{table} TO poor")).await;
        }
    }
}

#[tokio::test]
async fn a_server_or_a_pooler_that_does_not_answer_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address").port();
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:{silent}/app");
    let before = Instant::now();
    unavailable(&url, "no connection was made within 2s").await;
    assert!(before.elapsed() < 5 * SECOND, "{:?}", before.elapsed());
    drop(listener);
    unavailable(&url, "whether the server runs").await;
    let behind = Pooler::before_port(silent, 2);
    let error = refusal(&behind.url()).await;
    assert!(matches!(error, RecordsError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_url_or_a_schema_that_is_none_is_refused() {
    refused(&format!("http://{PASSWORD}@h"), "connection string").await;
    refused(
        &format!("postgres://me:{PASSWORD}@db.example/app"),
        "no password is sent that may not be encrypted",
    )
    .await;
    let lease = PostgresLease::new("scope", server().url()).schema("x; DROP TABLE y");
    let error = lease.records().open(5 * SECOND).await.expect_err("no schema");
    assert!(error.to_string().contains("lower-case letters"), "{error}");
    let authority = Authority::new("ours");
    let lease =
        PostgresLease::new("scope", "postgres://h/app?sslmode=disable").root_certificates(&authority.pem);
    let error = lease.records().open(5 * SECOND).await.expect_err("a contradiction");
    assert!(error.to_string().contains("sslmode"), "{error}");
}

#[tokio::test]
async fn an_encrypted_connection_verifies_the_servers_certificate() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let (certificate, key) = authority.certify("localhost");
    let server = Server::start_with(|data| {
        data.write("cert.pem", &certificate);
        data.write("key.pem", &key);
        data.write(
            "postgresql.auto.conf",
            "ssl = on\nssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'\n",
        );
    });
    let url = server.url().replace("127.0.0.1", "localhost");
    let given = PostgresLease::new("scope", &url).root_certificates(&authority.pem);
    given.records().open(5 * SECOND).await.expect("it opens");
    let unknown = PostgresLease::new("scope", &url).root_certificates(&other.pem);
    let error = unknown.records().open(5 * SECOND).await.expect_err("of another authority");
    assert!(error.to_string().contains("the encrypted connection was not made"), "{error}");
}

#[tokio::test]
async fn a_session_of_no_time_is_refused() {
    let records = PostgresLease::new(harness::scope("ttl"), pooler().url()).records();
    for ttl in [Duration::ZERO, Duration::MAX] {
        let error = records.open(ttl).await.expect_err("no session");
        assert!(
            matches!(&error, RecordsError::Refused { reason } if reason.contains("1s to 1d")),
            "{error:?}"
        );
    }
}
