//! What nodes leave behind on their server when they have stopped: nothing. One test, so that nothing else of
//! the process comes and goes.

#[path = "common/postgres.rs"]
mod harness;

use std::{fs, time::Duration};

use callsheet::{Callsheet, Job, backend::Postgres, schedule::every};
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};

use self::harness::{scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const CYCLES: usize = 10;

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn count(client: &Client, of: &str) -> i64 {
    client.query_one(of, &[]).await.expect("a count").get(0)
}

const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";

/// Starts a node, waits for a run, and stops it.
async fn start_and_stop(scope: &str, admin: &Client) {
    let (ran, mut runs) = mpsc::unbounded_channel();
    let job = Job::new("tick", every(Duration::from_millis(10))).run_with(ran, async |_, ran| {
        // The cycle is over.
        let _ = ran.send(());
    });
    let builder = Callsheet::builder().backend(Postgres::new(scope, server().url()));
    let jobs = builder.job(job).start().await.expect("it starts");
    runs.recv().await.expect("it runs");
    // Two of the session, and one over which it has looked for overrides.
    assert_eq!((count(admin, CONNECTIONS).await, count(admin, LOCKS).await), (3, 2), "while it leads");

    let report = jobs.shutdown(DEADLINE).await;

    assert_eq!((report.cancelled, report.aborted, report.still_running), (0, 0, 0), "{report:?}");
    assert!(!jobs.supervisor().connected(), "the supervisor has stopped");
}

/// What the process holds: the names of its threads, and how many files and sockets.
fn census() -> (Vec<String>, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux: /proc is mounted");
    // One that ends between the two calls has no name any more.
    let mut threads: Vec<_> =
        tasks.flatten().flat_map(|task| fs::read_to_string(task.path().join("comm"))).collect();
    threads.sort();
    (threads, fs::read_dir("/proc/self/fd").expect("Linux: /proc is mounted").count())
}

#[tokio::test]
async fn nodes_leave_no_connection_lock_thread_or_file_behind() {
    let scope = scope("leaks");
    let admin = connect().await;
    let settled = async |before: Option<&(Vec<String>, usize)>| {
        let clean = || match before {
            Some(before) => census() == *before,
            None => census().0.iter().all(|thread| !thread.starts_with("callsheet")),
        };
        let gone = async {
            // A server process ends a moment after its client, a thread after it has told its end.
            while !clean() || (count(&admin, CONNECTIONS).await, count(&admin, LOCKS).await) != (0, 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(DEADLINE, gone).await;
        assert!(ended.is_ok(), "left behind: {before:?} before, {:?} now", census());
    };
    // What is made once and kept.
    start_and_stop(&scope, &admin).await;
    settled(None).await;
    let before = census();

    for _ in 0..CYCLES {
        start_and_stop(&scope, &admin).await;
        settled(None).await;
    }

    settled(Some(&before)).await;
}
