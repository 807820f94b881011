//! A server that waits for a synchronous standby which does not answer: its processes do not notice that
//! their clients are gone.

use callsheet::{
    Callsheet, HealthReport, HistoryOptions, Job, JobName, LockKey, NodeId, Outcome, Problem, RunId,
    backend::Postgres,
    port::{Backend, Campaign, ClaimRequest, Completion, Verdict},
    schedule::every,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_postgres::Client;

mod commits;
mod former;
#[path = "../common/freeze.rs"]
mod freeze;
#[path = "../common/postgres.rs"]
mod harness;
#[path = "../common/log.rs"]
mod log;

use self::{
    freeze::Frozen,
    harness::{PASSWORD, Server, Stop, connect},
    log::{Log, until},
};

const LEASE: Duration = Duration::from_secs(2);

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const NODES: usize = 3;

/// The connections of a node at any instant: two of a session that is lost and not ended yet, two of the next
/// one, and the one that only terminates.
const CONNECTIONS_MAX: i64 = 5;

/// For how long the standby is away: without a bound each node has more connections than that by then.
const AWAY: Duration = Duration::from_secs(26);

/// A server of one test, since what is done to it concerns everybody.
struct Waiting {
    server: Server,
    admin: Client,
}

impl Waiting {
    async fn start() -> Self {
        Self::on(Server::start()).await
    }

    async fn on(server: Server) -> Self {
        let admin = connect(&server.url()).await;
        // It is to be served whatever the standby does.
        let served = "SET synchronous_commit = local; SET statement_timeout = '30s'";
        admin.batch_execute(served).await.expect("an answer");
        let role = format!(
            "CREATE ROLE nodes LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE ON DATABASE postgres TO nodes"
        );
        admin.batch_execute(&role).await.expect("a role");
        Self { server, admin }
    }

    fn url(&self) -> String {
        self.server.url().replace("//callsheet:", "//nodes:")
    }

    fn backend(&self, scope: &str) -> Postgres {
        Postgres::new(scope, self.url()).lease(LEASE)
    }

    async fn set(&self, statement: &str) {
        self.admin.batch_execute(statement).await.expect("an answer");
        self.admin.batch_execute("SELECT pg_reload_conf()").await.expect("an answer");
    }

    /// From now on whatever is committed waits.
    async fn lose_standby(&self) {
        self.set("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
        // The server answers before it hears of it.
        let commits = connect(&self.server.url()).await;
        let pid: i32 = commits.query_one("SELECT pg_backend_pid()", &[]).await.expect("an answer").get(0);
        let commit = "SELECT pg_logical_emit_message(true, 'commit', '')";
        let waits = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'";
        tokio::select! {
            () = async { while commits.batch_execute(commit).await.is_ok() {} } => panic!("it was ended"),
            () = until("heard", async || {
                self.admin.query_opt(waits, &[&pid]).await.expect("an answer").is_some()
            }) => {}
        }
        self.cut_short(pid).await;
    }

    async fn find_standby(&self) {
        self.set("ALTER SYSTEM RESET synchronous_standby_names").await;
    }

    /// The processes that serve connections of nodes, by node and purpose.
    async fn backends(&self) -> Vec<(String, String, i32)> {
        let find = "SELECT split_part(application_name, ' ', 2), split_part(application_name, ' ', 3), pid
                    FROM pg_stat_activity WHERE application_name LIKE 'callsheet %'
                    -- Those of the history coordinate nothing.
                    AND split_part(application_name, ' ', 3) <> 'history'";
        let rows = self.admin.query(find, &[]).await.expect("an answer");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// Those of sessions, whether anything was asked on them or not.
    async fn served(&self) -> BTreeSet<i32> {
        let backends = self.backends().await;
        backends.into_iter().filter(|(_, purpose, _)| purpose != "cleanup").map(|(.., pid)| pid).collect()
    }

    /// Those of them that were asked something, but for the ones that only end others.
    async fn asked(&self) -> Vec<i32> {
        let find =
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'callsheet %' AND query <> ''
                    AND split_part(application_name, ' ', 3) NOT IN ('cleanup', 'history')";
        self.admin.query(find, &[]).await.expect("an answer").iter().map(|row| row.get(0)).collect()
    }

    /// The process of a node's connection, once it waits for the standby.
    async fn waiting(&self, purpose: &str) -> i32 {
        let found = Mutex::new(0);
        until("waiting", async || {
            let find = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'
                        AND split_part(application_name, ' ', 3) = $1";
            let row = self.admin.query_opt(find, &[&purpose]).await.expect("at most one");
            *found.lock().expect("nobody panicked") = row.as_ref().map_or(0, |row| row.get(0));
            row.is_some()
        })
        .await;
        found.into_inner().expect("nobody panicked")
    }

    /// Somebody cuts a wait short: what was to be committed is committed here, and nowhere else.
    async fn cut_short(&self, pid: i32) {
        let cut = self.admin.query_one("SELECT pg_cancel_backend($1)", &[&pid]).await.expect("an answer");
        assert!(cut.get::<_, bool>(0));
    }
}

/// The fire times of the runs of a job.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<Vec<String>>>);

impl Runs {
    fn job(&self) -> Job {
        Job::new("job", every(Duration::from_millis(200))).run_with(self.clone(), async |run, runs| {
            let tick = run.fire_time().map(|tick| tick.to_string()).unwrap_or_default();
            runs.0.lock().expect("nobody panicked").push(tick);
        })
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").clone()
    }

    /// Until it has run some more times.
    async fn go_on(&self) {
        let before = self.all().len();
        until("run", async || self.all().len() >= before + 3).await;
    }
}

async fn node(backend: Postgres, runs: &Runs) -> Callsheet {
    Callsheet::builder().backend(backend).job(runs.job()).start().await.expect("it starts")
}

/// A node that asks for a password for its coordinating connections only, since it keeps no history, and how often it
/// has.
async fn counted_node(backend: Postgres, runs: &Runs) -> (Callsheet, Arc<AtomicUsize>) {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let backend = backend.password_from(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, std::io::Error>(PASSWORD.to_owned()) }
    });
    let node = Callsheet::builder().backend(backend).history(HistoryOptions::off()).job(runs.job());
    (node.start().await.expect("it starts"), tries)
}

/// Whatever serves a node stands still, until the node says that it opens no more. Answers the processes, and
/// what it says.
async fn stand_still(store: &Waiting, jobs: &Callsheet) -> (Frozen, String) {
    let mut stopped = Frozen::default();
    let said = stand_still_too(&mut stopped, store, jobs).await;
    (stopped, said)
}

/// The same if some stand still already.
async fn stand_still_too(stopped: &mut Frozen, store: &Waiting, jobs: &Callsheet) -> String {
    let reason = |health: &HealthReport| {
        let problem = health.problems.iter().find(|it| matches!(it, Problem::NoSession { .. }));
        problem.map(ToString::to_string).filter(|text| text.contains("former connections"))
    };
    let until = Instant::now() + DEADLINE;
    let said = loop {
        for pid in store.asked().await {
            stopped.freeze(pid, &store.admin).await;
        }
        if let Some(said) = reason(&jobs.health().await.expect("it runs")) {
            break said;
        }
        assert!(Instant::now() < until, "it is not said: {:?}\n{}", stopped.pids(), Log::keep().text());
        sleep(Duration::from_millis(1)).await;
    };
    let there = store.served().await;
    assert!(there.len() <= 5, "{there:?}");
    said
}
