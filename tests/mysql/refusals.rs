//! A server, a user or a URL that is of no use is refused, with the cause and the cure, and the password never shows.

use std::time::{Duration, Instant};

use callsheet::{
    backend::Mysql,
    port::{RecordKind, RecordsError, Version},
};
use tokio::net::TcpListener;

use super::{
    SECOND,
    harness::{self, DATABASE, PASSWORD, Server, server},
    made, put, until, write,
};

/// What opening a session answers.
async fn refusal(url: &str) -> RecordsError {
    let mysql = Mysql::new("scope", url);
    let shown = format!("{mysql:?}");
    let error = mysql.records().open(5 * SECOND).await.expect_err(&format!("{shown}: it opens"));
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
async fn a_wrong_password_user_or_database_is_refused() {
    refused(&server().url_as(harness::USER, "wrong"), "check the user and the password").await;
    refused(&server().url_as("nobody", PASSWORD), "check the user and the password").await;
    let missing = server().url().replace(&format!("/{DATABASE}"), "/missing");
    refused(&missing, "grant this user SELECT").await;
}

#[tokio::test]
async fn a_server_that_is_read_only_is_refused_and_one_that_becomes_so_answers_nothing() {
    let server = Server::start();
    let clients = [(); 4].map(|()| Mysql::new("scope", server.url()).records());
    let session = clients[0].open(60 * SECOND).await.expect("it opens");
    let version = write(&*clients[0], "job", Version::ABSENT, "one").await;
    for records in &clients {
        records.read(&[], &[session]).await.expect("it is connected");
        assert_eq!(records.renew(session).await, Ok(true));
    }

    server.ask("SET GLOBAL read_only = 1");

    let answers = [
        clients[0].read(&[], &[session]).await.err(),
        clients[1].list(RecordKind::Name, None, 10).await.err(),
        clients[2].renew(session).await.err(),
        clients[3].commit(&put("job", Version(version.0 ^ 1), "two")).await.err(),
        clients[3].end(session).await.err(),
    ];
    for answer in answers {
        let answer = answer.expect("no answer of a replica is believed");
        assert!(
            matches!(&answer, RecordsError::NotDone { reason } if reason.contains("read-only")),
            "{answer:?}"
        );
    }
    refused(&server.url(), "read-only: a replica, or a primary that was one until now; name the primary")
        .await;

    server.ask("SET GLOBAL read_only = 0");
    until("a primary again", async || {
        clients[3].commit(&put("job", version, "two")).await.is_ok_and(|committed| made(&committed).is_some())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_takes_too_little_at_once_is_refused() {
    let server = Server::start_with("max_allowed_packet=1M");
    refused(&server.url(), "max_allowed_packet is 1048576; it must be at least").await;
}

#[tokio::test]
async fn a_server_that_writes_down_statements_for_its_replicas_is_refused() {
    let server = Server::start_with("log-bin=binlog\nbinlog_format=STATEMENT\nserver-id=1");
    refused(&server.url(), "set binlog_format to ROW or MIXED").await;
    server.ask("SET GLOBAL binlog_format = ROW");
    Mysql::new("scope", server.url()).records().open(5 * SECOND).await.expect("it is fit now");
}

#[tokio::test]
async fn a_table_that_locks_no_rows_is_refused() {
    let server = Server::start();
    server.ask(&Mysql::ddl());
    server.ask("ALTER TABLE callsheet_sessions ENGINE=MyISAM");
    refused(&server.url(), "ALTER TABLE callsheet_sessions ENGINE=InnoDB").await;
}

#[tokio::test]
async fn a_user_needs_the_rights_that_are_documented_and_no_others() {
    let server = Server::start();
    let url = server.url_as("poor", PASSWORD);
    let name = format!("poor IDENTIFIED BY '{PASSWORD}'");
    server.ask(&format!("CREATE USER {name}; GRANT USAGE ON {DATABASE}.* TO poor"));
    let cure = "or let another user run the statements of Mysql::ddl() once";
    refused(&url, cure).await;
    // It may look, and not make the tables.
    server.ask(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {DATABASE}.* TO poor"));
    refused(&url, cure).await;
    server.ask(&Mysql::ddl());
    server.ask(&format!("REVOKE ALL ON {DATABASE}.* FROM poor"));
    let grant = |right: &str, table: &str| server.ask(&format!("GRANT {right} ON callsheet_{table} TO poor"));
    for table in ["records", "sessions"] {
        grant("SELECT, INSERT, UPDATE, DELETE", table);
    }

    let records = Mysql::new("scope", &url).records();
    let session = records.open(5 * SECOND).await.expect("it opens");
    write(&*records, "job", Version::ABSENT, "one").await;
    assert_eq!(records.renew(session).await, Ok(true));
    records.end(session).await.expect("it ends");

    for table in ["records", "sessions"] {
        for right in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
            server.ask(&format!("REVOKE {right} ON callsheet_{table} FROM poor"));
            refused(&url, "grant this user SELECT, INSERT, UPDATE and DELETE").await;
            grant(right, table);
        }
    }
    Mysql::new("scope", &url).records().open(5 * SECOND).await.expect("it has them all again");
}

#[tokio::test]
async fn the_statements_that_make_the_tables_make_them_and_may_be_run_again() {
    let server = Server::start();
    server.ask(&Mysql::ddl());
    let made = server.ask("SHOW CREATE TABLE callsheet_records; SHOW CREATE TABLE callsheet_sessions");
    server.ask(&Mysql::ddl());
    let records = Mysql::new("scope", server.url()).records();
    records.open(5 * SECOND).await.expect("it opens");
    let after = server.ask("SHOW CREATE TABLE callsheet_records; SHOW CREATE TABLE callsheet_sessions");
    assert_eq!(after, made);
}

#[tokio::test]
async fn too_many_connections_are_told_with_what_a_node_needs() {
    let server = Server::start_with("max_connections=10");
    let clients: Vec<_> = (0..10).map(|_| Mysql::new("scope", server.url()).records()).collect();
    let mut told = None;
    for records in &clients {
        if let Err(RecordsError::Unavailable { reason }) = records.read(&[], &[]).await {
            told = Some(reason);
            break;
        }
        let _ = records.open(5 * SECOND).await;
    }
    assert!(told.is_some_and(|reason| reason.contains("each node needs two connections")));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address").port();
    let url = format!("mysql://me:{PASSWORD}@127.0.0.1:{silent}/app");
    let before = Instant::now();
    unavailable(&url, "no connection was made within 2s").await;
    assert!(before.elapsed() < 5 * SECOND, "{:?}", before.elapsed());
    drop(listener);
    unavailable(&url, "whether the server runs").await;
    unavailable("mysql:///app?socket=/nowhere/mysqld.sock", "whether the server runs").await;
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    refused(&format!("http://{PASSWORD}@h"), "scheme is mysql").await;
    refused(
        &format!("mysql://me:{PASSWORD}@db.example/app"),
        "no password is sent that may not be encrypted",
    )
    .await;
}

#[tokio::test]
async fn a_session_of_no_time_is_refused() {
    let records = Mysql::new(harness::scope("ttl"), server().url()).records();
    for ttl in [Duration::ZERO, Duration::MAX] {
        let error = records.open(ttl).await.expect_err("no session");
        assert!(
            matches!(&error, RecordsError::Refused { reason } if reason.contains("1s to 1d")),
            "{error:?}"
        );
    }
}
