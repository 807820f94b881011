//! A server, a user or a URL that is of no use is refused, with the cause and the cure, and the password never shows.

use std::time::{Duration, Instant};

use callsheet::{
    backend::Etcd,
    port::{Change, Commit, RecordKind, RecordsError, Version},
};
use etcd_client::{Client, ConnectOptions, Permission, PermissionType, RoleRevokePermissionOptions};
use tokio::net::TcpListener;

use super::{
    SECOND,
    harness::{self, PASSWORD, Server, server},
    made, one, put, telling, until, write,
};

/// What opening a session answers.
async fn refusal(etcd: Etcd) -> RecordsError {
    let shown = format!("{etcd:?}");
    let error = etcd.records().open(5 * SECOND).await.expect_err(&format!("{shown}: it opens"));
    assert!(
        !shown.contains(PASSWORD) && !format!("{error} {error:?}").contains(PASSWORD),
        "{shown}: {error:?}"
    );
    error
}

async fn refused(url: &str, reason: &str) {
    match refusal(Etcd::new("scope", url)).await {
        RecordsError::Refused { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

async fn unavailable(url: &str, reason: &str) {
    match refusal(Etcd::new("scope", url)).await {
        RecordsError::Unavailable { reason: said } => assert!(said.contains(reason), "{reason}: {said}"),
        other => panic!("{reason}: {other:?}"),
    }
}

/// Makes root and a user `node` with a role, and asks for passwords from then on. The answer is root's.
async fn enable_authentication(server: &Server) -> Client {
    let mut admin = server.client().await;
    admin.user_add("root", PASSWORD, None).await.expect("a user");
    admin.role_add("root").await.expect("a role");
    admin.user_grant_role("root", "root").await.expect("it is granted");
    admin.user_add("node", PASSWORD, None).await.expect("a user");
    admin.role_add("callsheet").await.expect("a role");
    admin.user_grant_role("node", "callsheet").await.expect("it is granted");
    admin.auth_enable().await.expect("authentication");
    let options = ConnectOptions::new().with_user("root", PASSWORD);
    Client::connect([server.url()], Some(options)).await.expect("root")
}

/// Gives the role a right on a prefix, and nothing else of it.
async fn allow(root: &mut Client, right: PermissionType, prefix: &str) {
    let permission = Permission::new(right, prefix).with_prefix();
    root.role_grant_permission("callsheet", permission).await.expect("it is granted");
}

async fn forbid(root: &mut Client, prefix: &str) {
    let options = RoleRevokePermissionOptions::new().with_prefix();
    root.role_revoke_permission("callsheet", prefix, Some(options)).await.expect("it is revoked");
}

#[tokio::test]
async fn a_user_needs_the_rights_that_are_documented_and_no_others() {
    let server = Server::start(&[]);
    let root = &mut enable_authentication(&server).await;
    let url = server.url_of("node");

    refused(&server.url(), "asks for a user and a password").await;
    refused(&server.url_of("nobody"), "check the user and the password").await;
    refused(&url.replace(PASSWORD, "wrong"), "check the user and the password").await;
    refused(&url, "the rights that the documentation of Etcd names").await;
    allow(root, PermissionType::Readwrite, "callsheet/other/").await;
    refused(&url, "permission denied").await;
    allow(root, PermissionType::Read, "callsheet/scope/").await;
    refused(&url, "permission denied").await;
    forbid(root, "callsheet/scope/").await;

    allow(root, PermissionType::Readwrite, "callsheet/scope/").await;
    let records = Etcd::new("scope", &url).records();
    let session = records.open(30 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    drop(records.subscribe().await.expect("a subscription"));
    records.commit(&telling("something")).await.expect("an answer");
    assert_eq!(records.renew(session).await, Ok(true));
    records.list(RecordKind::Name, None, 10).await.expect("a page");
    let delete = Commit { alive: vec![session], ..one("job", version, Change::Delete) };
    assert_eq!(made(&records.commit(&delete).await.expect("an answer")), Some(Version::ABSENT));

    // Taken away while a node is connected, and given back.
    forbid(root, "callsheet/scope/").await;
    let late = records.commit(&put("job", Version::ABSENT, "one")).await;
    assert!(late.is_err(), "{late:?}");
    allow(root, PermissionType::Readwrite, "callsheet/scope/").await;
    until("allowed", async || records.renew(session).await == Ok(true)).await;
    write(&*records, "job", Version::ABSENT, "one").await;
    records.end(session).await.expect("it ends");
}

#[tokio::test]
async fn a_login_that_the_server_has_forgotten_is_made_again() {
    let server = Server::start(&["--auth-token-ttl", "1"]);
    let root = &mut enable_authentication(&server).await;
    allow(root, PermissionType::Readwrite, "callsheet/scope/").await;
    let records = Etcd::new("scope", server.url_of("node")).records();
    let session = records.open(60 * SECOND).await.expect("it opens");
    let version = write(&*records, "job", Version::ABSENT, "one").await;

    tokio::time::sleep(3 * SECOND).await;
    let version = write(&*records, "job", version, "two").await;
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(records.renew(session).await, Ok(true));
    server.kill();
    server.start_again();
    until("back", async || records.renew(session).await == Ok(true)).await;
    write(&*records, "job", version, "three").await;
}

#[tokio::test]
async fn a_user_where_nobody_asks_for_one_is_refused() {
    refused(&server().url_of("me"), "leave the user out of the URL, or enable authentication").await;
}

#[tokio::test]
async fn servers_that_keep_leases_for_longer_than_asked_for_are_refused_with_the_lease_that_they_take() {
    let server = Server::start(&["--heartbeat-interval", "500", "--election-timeout", "5000"]);
    refused(&server.url(), "choose a lease of 8 s or more").await;
    let records = Etcd::new("scope", server.url()).records();
    records.open(8 * SECOND).await.expect("it opens");
}

#[tokio::test]
async fn servers_that_take_less_at_once_than_usual_are_named() {
    let server = Server::start(&["--max-txn-ops", "16", "--max-request-bytes", "20000"]);
    let records = Etcd::new(harness::scope("small"), server.url()).records();
    let record = |nth: usize| put(&nth.to_string(), Version::ABSENT, "x").units.remove(0);
    let many = Commit { units: (0..17).map(record).collect(), ..Commit::default() };
    let large = put("large", Version::ABSENT, &"x".repeat(60_000));
    for (commit, option) in [(many, "--max-txn-ops"), (large, "--max-request-bytes")] {
        match records.commit(&commit).await {
            Err(RecordsError::NotDone { reason }) => assert!(reason.contains(option), "{reason}"),
            other => panic!("{option}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unavailable_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address").port();
    let url = format!("http://me:{PASSWORD}@127.0.0.1:{silent}");
    let before = Instant::now();
    let patient = Etcd::new("scope", &url).lease(10 * SECOND).deadline(4 * SECOND);
    match refusal(patient).await {
        RecordsError::Unavailable { reason } => {
            assert!(reason.contains("did not answer within 1s500ms"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(before.elapsed() < 5 * SECOND, "{:?}", before.elapsed());
    drop(listener);
    unavailable(&url, "whether the server runs").await;
}

#[tokio::test]
async fn of_several_servers_the_one_that_is_of_use_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = listener.local_addr().expect("an address").port();
    let good = server().port();
    for hosts in
        [format!("127.0.0.1:1,127.0.0.1:{good}"), format!("127.0.0.1:{silent},127.0.0.1:{good},127.0.0.1:1")]
    {
        let records = Etcd::new(harness::scope("several"), format!("http://{hosts}")).records();
        until("found", async || records.open(5 * SECOND).await.is_ok()).await;
    }
}

#[tokio::test]
async fn what_is_no_etcd_is_not_taken_for_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nhello").await;
        }
    });
    unavailable(&format!("http://127.0.0.1:{port}"), "check the host and the port").await;
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    refused(&format!("etcd://{PASSWORD}@h"), "its scheme is http or https").await;
}

#[tokio::test]
async fn a_session_of_no_time_is_refused() {
    let records = Etcd::new(harness::scope("ttl"), server().url()).records();
    for ttl in [Duration::ZERO, Duration::from_millis(1_999), Duration::MAX] {
        let error = records.open(ttl).await.expect_err("no session");
        assert!(
            matches!(&error, RecordsError::Refused { reason } if reason.contains("2s to 1d")),
            "{error:?}"
        );
    }
}
