//! The server, or the way to it, goes away and comes back.

use std::{collections::BTreeSet, net::TcpListener};

use callsheet::port::CatalogueError;
use futures_util::{StreamExt, stream};

use super::{
    harness::{PASSWORD, Stop},
    proxy::{Flow, Proxy},
    *,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_catches_up() {
    let (scope, done) = (scope("cut off"), Done::default());
    let near = node(&scope, &done).await;
    let proxy = Proxy::to(server().port()).await;
    let url = server().url().replace(&format!(":{}/", server().port()), &format!(":{}/", proxy.port()));
    let far = builder(&url, &scope, &done).start().await.expect("it starts");
    for job in ["goes", "stays"] {
        near.put(job, &stored(says("hello"))).await.expect("it is right");
    }
    holds(&far, &["goes", "stays"]).await;

    proxy.set(Flow::Stall);
    near.delete("goes").await.expect("it is stored");
    near.put("comes", &stored(says("hello"))).await.expect("it is right");
    let is_ill = async || !far.health().await.expect("it answers").healthy;
    until("it says so", is_ill).await;
    assert_eq!(held(&far).await, ["goes", "stays"], "it runs what it knows");
    proxy.set(Flow::Pass);
    proxy.cut();

    holds(&far, &["comes", "stays"]).await;
    stop([near, far]).await;
}

/// Each is put by one call, whatever becomes of the server meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_server_restarts_while_jobs_are_added() {
    const JOBS: usize = 1_000;
    const AT_ONCE: usize = 8;
    let server = Arc::new(Server::start());
    let done = Done::default();
    let mut yearly = says("hello");
    yearly["schedule"] = json!("0 0 1 1 *");
    let yearly = stored(yearly);
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(builder(&server.url(), "restart", &done).start().await.expect("it starts"));
    }

    let restarted = server.clone();
    let puts = stream::iter(0..JOBS).map(|nth| {
        let (node, yearly, server) = (&nodes[nth % 2], &yearly, restarted.clone());
        async move {
            if nth == JOBS / 3 || nth == JOBS * 2 / 3 {
                let how = if nth == JOBS / 3 { Stop::Immediate } else { Stop::Fast };
                let restart = move || {
                    server.stop(how);
                    server.start_again();
                };
                tokio::task::spawn_blocking(restart).await.expect("it restarts");
            }
            node.put_if(format!("job {nth:04}"), yearly, Expected::Absent).await
        }
    });
    let answers: Vec<_> = puts.buffer_unordered(AT_ONCE).collect().await;

    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let versions: BTreeSet<_> = answers.iter().flatten().map(|status| status.version).collect();
    let all: BTreeSet<_> = (1..=u64::try_from(JOBS).expect("a number")).collect();
    let lost_or_doubled: Vec<_> = all.symmetric_difference(&versions).collect();
    assert!(lost_or_doubled.is_empty(), "versions {lost_or_doubled:?}");
    let expected: Vec<_> = (0..JOBS).map(|nth| format!("job {nth:04}")).collect();
    for node in &nodes {
        until("it holds all of them", async || held(node).await == expected).await;
    }
    let admin = connect(&server.url()).await;
    let rows = "SELECT job FROM callsheet.catalogue_jobs WHERE definition IS NOT NULL ORDER BY job";
    let rows = admin.query(rows, &[]).await.expect("an answer");
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), expected);
    stop(nodes).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_in_time_without_the_password() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("an address").port();
    let wrong = server().url_with(&format!("{PASSWORD}-at-all"));
    let table = [
        (format!("postgres://somebody:{PASSWORD}@127.0.0.1:1/postgres"), "refused"),
        (format!("postgres://somebody:{PASSWORD}@127.0.0.1:{silent}/postgres"), "Timeout"),
        (wrong, "password"),
        (format!("postgres//{PASSWORD}"), "connection string"),
    ];

    for (url, told) in table {
        let backend = Postgres::new("silent", &url);
        let catalogue = backend.catalogue().expect("it keeps one");
        let change = put("job", "hello");
        let errors = [
            timeout(DEADLINE, catalogue.change(&change)).await.expect("in time").expect_err(told),
            timeout(DEADLINE, catalogue.changes(0, 10)).await.expect("in time").expect_err(told),
        ];
        for error in errors {
            assert!(matches!(error, CatalogueError::Unavailable { .. }), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(told) && !error.contains(PASSWORD), "{told}: {error}");
        }
    }
}

/// The server gives it up, whatever bounds the pool has.
#[tokio::test]
async fn a_change_that_waits_too_long_is_given_up_and_leaves_no_lock_behind() {
    let scope = scope("locked");
    let (backend, catalogue) = catalogue(&server().url(), &scope).await;
    catalogue.change(&put("job", "first")).await.expect("an answer");
    let admin = connect(&server().url()).await;
    let lock = format!("BEGIN; SELECT FROM callsheet.catalogue_versions WHERE scope = '{scope}' FOR UPDATE");
    admin.batch_execute(&lock).await.expect("an answer");

    let late = catalogue.change(&put("job", "second")).await.expect_err("somebody has the version");

    assert!(matches!(late, CatalogueError::Unavailable { .. }), "{late:?}");
    assert!(late.to_string().contains("lock timeout"), "{late}");
    let observer = connect(&server().url()).await;
    let waiting = "SELECT FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')";
    until("nothing waits", async || observer.query(waiting, &[]).await.expect("an answer").is_empty()).await;
    admin.batch_execute("COMMIT").await.expect("an answer");
    let made = catalogue.change(&put("job", "third")).await.expect("an answer");
    assert!(matches!(made, Changed::Done(row) if row.version == 2), "the late one was not made");
    backend.locker().close().await;
}
