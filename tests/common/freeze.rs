//! Stops processes of a PostgreSQL server where they hold nothing that the whole server needs.
//!
//! A process may be stopped at any instruction: while it flushes the log for everybody, or in the middle of its entry
//! of `pg_stat_activity`, of which every reader then waits for the end. That is a frozen server, not a frozen process.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

/// What the server does for others while the process stands still. It commits without a standby.
const SERVES_OTHERS: &str = "
    SELECT count(*) FROM pg_stat_activity;
    SELECT count(*) FROM pg_locks;
    BEGIN; SET LOCAL synchronous_commit = local; SELECT pg_logical_emit_message(true, 'frozen', ''); COMMIT";
/// How long that may take: many times what it takes.
const SERVES_MAX: Duration = Duration::from_secs(2);
/// For how long another instant to stop a process at is looked for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Processes that stand still until this is dropped.
#[derive(Default)]
pub(crate) struct Frozen(BTreeSet<i32>);

impl Frozen {
    /// Stops one more, unless it is stopped or has just ended, and answers since when it stands still. `admin` is a
    /// superuser's connection to its server.
    ///
    /// # Panics
    ///
    /// If the server does not serve others while that process stands still, whenever it is stopped.
    pub(crate) async fn freeze(&mut self, pid: i32, admin: &Client) -> Instant {
        let begun_at = Instant::now();
        if !self.0.insert(pid) {
            return begun_at;
        }
        loop {
            let stopped_at = Instant::now();
            send(pid, Signal::STOP);
            if let Ok(served) = timeout(SERVES_MAX, admin.batch_execute(SERVES_OTHERS)).await {
                served.expect("an answer");
                return stopped_at;
            }
            send(pid, Signal::CONT);
            assert!(begun_at.elapsed() < DEADLINE, "the server stands still whenever {pid} does");
            sleep(Duration::from_millis(7)).await;
        }
    }

    pub(crate) fn pids(&self) -> &BTreeSet<i32> {
        &self.0
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| send(*pid, Signal::CONT));
    }
}

fn send(pid: i32, signal: Signal) {
    // An error: it has just ended.
    let _ = kill_process(Pid::from_raw(pid).expect("a process"), signal);
}
