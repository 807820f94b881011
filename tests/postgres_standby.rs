//! A server that waits for a synchronous standby which does not answer: its processes do not notice that their clients are gone.

#[path = "common/freeze.rs"]
mod freeze;
#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, HealthReport, Job, JobName, LockKey, NodeId, Outcome, Problem, RunId,
    backend::Postgres,
    port::{Backend, Campaign, ClaimRequest, Completion, Verdict},
    schedule::every,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use self::{
    freeze::Frozen,
    harness::{PASSWORD, Server, Stop},
    log::Log,
};

const LEASE: Duration = Duration::from_secs(2);
/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const NODES: usize = 3;
/// The connections of a node at any instant: two of a session that is lost and not ended yet, two of the next one, and the one that only
/// terminates.
const CONNECTIONS_MAX: i64 = 5;
/// For how long the standby is away: without a bound each node has more connections than that by then.
const AWAY: Duration = Duration::from_secs(26);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is().await {
        assert!(Instant::now() < until, "not {what}\n{}", Log::keep().text());
        sleep(Duration::from_millis(20)).await;
    }
}

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
                    FROM pg_stat_activity WHERE application_name LIKE 'callsheet %'";
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
                    AND split_part(application_name, ' ', 3) <> 'cleanup'";
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

#[tokio::test]
async fn connections_stay_few_while_the_standby_is_lost_and_none_is_left() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(node(store.backend("lost"), &runs).await);
    }
    runs.go_on().await;

    store.lose_standby().await;
    let (away_until, mut most) = (Instant::now() + AWAY, 0);
    while Instant::now() < away_until {
        let mut of_nodes: BTreeMap<String, i64> = BTreeMap::new();
        for (node, ..) in store.backends().await {
            *of_nodes.entry(node).or_default() += 1;
        }
        most = of_nodes.values().copied().max().unwrap_or_default().max(most);
        sleep(Duration::from_millis(50)).await;
    }

    assert!(most <= CONNECTIONS_MAX, "{most} connections of one node");
    // Others are served.
    connect(&store.server.url()).await.batch_execute("SELECT").await.expect("an answer");
    let last = nodes.pop().expect("a node");
    let id = last.health().await.expect("it runs").node.as_uuid().simple().to_string();
    last.shutdown(Duration::from_secs(1)).await;
    let of_last = async || {
        let backends = store.backends().await;
        backends
            .into_iter()
            .filter(|(node, ..)| id.starts_with(node))
            .map(|(_, purpose, _)| purpose)
            .collect()
    };
    // The server lets a process go a moment after the connection that ended the others was closed.
    let left: Vec<_> = of_last().await;
    assert!(left.iter().all(|purpose| purpose == "cleanup"), "{left:?}");
    until("gone", async || of_last().await == Vec::<String>::new()).await;

    store.find_standby().await;
    runs.go_on().await;
    until("as before", async || store.backends().await.len() == 2 * nodes.len()).await;
    for node in nodes {
        node.shutdown(Duration::from_secs(1)).await;
    }
    let ticks = runs.all();
    assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len(), "twice: {ticks:?}");
}

fn manual(key: &str) -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    ClaimRequest::new(JobName::new("manual").expect("a name"), LockKey::new(key).expect("a key"), run)
}

#[tokio::test]
async fn what_was_committed_without_the_standby_is_not_believed() {
    Log::keep();
    let store = Waiting::start().await;
    let backend = store.backend("believed");
    let (locker, elector) = (backend.locker(), backend.elector());
    let open = async || {
        store.find_standby().await;
        until("open", async || locker.open().await.is_ok()).await;
    };
    let led = async || {
        open().await;
        let answer = elector.campaign(Duration::MAX).await.expect("an answer");
        let Campaign::Won(grant) = answer else { panic!("{answer:?}") };
        grant.term
    };

    open().await;
    store.lose_standby().await;
    let asked = [manual("claimed")];
    let (claimed, ()) = tokio::join!(locker.claim(&asked), async {
        store.cut_short(store.waiting("session").await).await;
    });
    assert!(claimed.is_err(), "a claim: {claimed:?}");

    open().await;
    let claim = manual("ended");
    let verdicts = locker.claim(std::slice::from_ref(&claim)).await.expect("an answer");
    let [Verdict::Granted { token, .. }] = verdicts[..] else { panic!("{verdicts:?}") };
    let (job, key) = (JobName::new("manual").expect("a name"), LockKey::new("ended").expect("a key"));
    let end = Completion::new(job, key, claim.run, token, Outcome::Succeeded);
    store.lose_standby().await;
    let (ended, ()) = tokio::join!(locker.complete(std::slice::from_ref(&end)), async {
        store.cut_short(store.waiting("session").await).await;
    });
    assert!(ended.is_err(), "an end: {ended:?}");

    let term = led().await;
    store.lose_standby().await;
    let (renewed, ()) = tokio::join!(elector.renew(term), async {
        store.cut_short(store.waiting("leadership").await).await;
    });
    assert!(renewed.is_err(), "a renewal: {renewed:?}");

    open().await;
    store.lose_standby().await;
    let (granted, ()) = tokio::join!(elector.campaign(Duration::MAX), async {
        store.cut_short(store.waiting("leadership").await).await;
    });
    assert!(granted.is_err(), "a grant: {granted:?}");
    store.find_standby().await;
    locker.close().await;
}

#[tokio::test]
async fn what_was_cut_short_and_lost_with_the_server_runs_once_all_the_same() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let standby = Server::standby_of(&store.server);
    store.set("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    let followed = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'";
    until("followed", async || store.admin.query_opt(followed, &[]).await.expect("an answer").is_some())
        .await;
    let url = format!(
        "postgres://nodes:{PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write&connect_timeout=2",
        store.server.port(),
        standby.port()
    );
    let jobs = node(Postgres::new("promoted", url).lease(LEASE), &runs).await;
    runs.go_on().await;

    standby.stop(Stop::Immediate);
    let former = store.waiting("session").await;
    let is_there = async || store.backends().await.iter().any(|(.., pid)| *pid == former);
    until("ended", async || !is_there().await).await;
    let claimed = "SELECT fire_time::text FROM callsheet.names WHERE name = 'job' AND scope = 'promoted'";
    let committed: Option<String> = store.admin.query_one(claimed, &[]).await.expect("a job").get(0);
    let before = runs.all();
    let Waiting { server, .. } = store;
    server.stop(Stop::Immediate);
    standby.start_again();
    let admin = connect(&standby.url()).await;
    admin.batch_execute("SELECT pg_promote()").await.expect("an answer");
    admin.batch_execute("SET synchronous_commit = local").await.expect("an answer");
    for statement in ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"] {
        admin.batch_execute(statement).await.expect("an answer");
    }

    until("run", async || runs.all().len() >= before.len() + 3).await;
    jobs.shutdown(Duration::from_secs(1)).await;
    let ticks = runs.all();
    assert_eq!(ticks.iter().collect::<BTreeSet<_>>().len(), ticks.len(), "twice: {ticks:?}");
    // The one of which only the former server knew, and every one since, is decided.
    assert!(committed.is_some(), "nothing was cut short");
}

/// An authority, and a certificate for `localhost` that it signed, with its key.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    (authority, params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
}

#[tokio::test]
async fn what_waits_is_cancelled_over_tls_by_a_role_without_a_place_for_more() {
    Log::keep();
    let (authority, certificate, key) = certificates();
    let server = Server::start_with(|data| {
        data.write("server.crt", &certificate);
        data.write("server.key", &key);
        data.prepend("postgresql.conf", "ssl = on");
    });
    let store = Waiting::on(server).await;
    let url = store.url().replace("127.0.0.1", "localhost") + "?sslmode=verify-full";
    let backend = Postgres::new("tls", url).root_certificates(&authority).lease(LEASE);
    let locker = backend.locker();
    locker.open().await.expect("a session opens");
    let encrypted =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'nodes'";
    assert!(store.admin.query_one(encrypted, &[]).await.expect("an answer").get::<_, bool>(0));

    store.admin.batch_execute("ALTER ROLE nodes CONNECTION LIMIT 0").await.expect("an answer");
    store.lose_standby().await;
    let claimed = locker.claim(&[manual("key")]).await;

    assert!(claimed.is_err(), "{claimed:?}");
    until("cancelled", async || store.backends().await.is_empty()).await;
}

/// Whatever serves a node stands still, until the node says that it opens no more. Answers the processes, and what it says.
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

#[tokio::test]
async fn a_node_whose_former_connections_cannot_be_ended_opens_no_more() {
    let (log, store, runs) = (Log::keep(), Waiting::start().await, Runs::default());
    let jobs = node(store.backend("stuck"), &runs).await;
    runs.go_on().await;

    let (stopped, said) = stand_still(&store, &jobs).await;

    let there = store.served().await;
    assert!(said.contains("pg_stat_activity"), "{said}");
    let named = stopped.pids().iter().map(ToString::to_string).find(|pid| said.contains(pid.as_str()));
    let named = named.expect("it names them");
    sleep(LEASE * 2).await;
    assert_eq!(store.served().await, there);
    // Other tests say it of other processes.
    let says = |line: &&str| line.contains("no further one is opened") && line.contains(&named);
    assert_eq!(log.text().lines().filter(says).count(), 1, "{}", log.text());

    drop(stopped);
    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn connections_that_never_answered_count_among_those_that_are_left() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let jobs = node(store.backend("mute"), &runs).await;
    runs.go_on().await;

    let mut stopped = Frozen::default();
    for pid in store.asked().await {
        stopped.freeze(pid, &store.admin).await;
    }
    // From now on no connection gets an answer to its first question.
    let hold = connect(&store.server.url()).await;
    hold.batch_execute("BEGIN; LOCK TABLE pg_proc IN ACCESS EXCLUSIVE MODE").await.expect("it is locked");
    let said = stand_still_too(&mut stopped, &store, &jobs).await;

    assert!(said.contains(" session "), "{said}");
    hold.batch_execute("ROLLBACK").await.expect("an answer");
    drop(stopped);
    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_role_that_acts_as_another_one_takes_no_former_process_for_gone() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    for statement in [
        "CREATE ROLE owner",
        "GRANT owner TO nodes",
        "GRANT CREATE ON DATABASE postgres TO owner",
        "ALTER ROLE nodes SET role = 'owner'",
    ] {
        store.admin.batch_execute(statement).await.expect("an answer");
    }
    let jobs = node(store.backend("acting"), &runs).await;
    runs.go_on().await;

    let (stopped, _) = stand_still(&store, &jobs).await;
    let pids = stopped.pids().clone();
    drop(stopped);

    runs.go_on().await;
    until("gone", async || store.backends().await.iter().all(|(.., pid)| !pids.contains(pid))).await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_user_that_was_changed_takes_no_process_of_the_former_one_for_gone() {
    Log::keep();
    let (store, runs) = (Waiting::start().await, Runs::default());
    let (rotated, url) = (Arc::new(AtomicBool::new(false)), store.url());
    let asked = rotated.clone();
    let backend = Postgres::url_from("rotated", move || {
        let user = if asked.load(Ordering::SeqCst) { "//rotated:" } else { "//nodes:" };
        let url = url.replace("//nodes:", user);
        async move { Ok::<_, std::io::Error>(url) }
    });
    let jobs = node(backend.lease(LEASE), &runs).await;
    runs.go_on().await;
    for statement in [
        &format!("CREATE ROLE rotated LOGIN PASSWORD '{PASSWORD}'"),
        "GRANT USAGE ON SCHEMA callsheet TO rotated",
        "GRANT ALL ON ALL TABLES IN SCHEMA callsheet TO rotated",
    ] {
        store.admin.batch_execute(statement).await.expect("an answer");
    }
    rotated.store(true, Ordering::SeqCst);

    let (stopped, _) = stand_still(&store, &jobs).await;
    drop(stopped);

    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_node_goes_on_with_another_server_once_its_former_one_is_gone() {
    Log::keep();
    let (store, next, runs) = (Waiting::start().await, Waiting::start().await, Runs::default());
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", store.server.port(), next.server.port());
    let backend = Postgres::new("fenced", format!("postgres://nodes:{PASSWORD}@{hosts}/postgres"));
    let jobs = node(backend.lease(LEASE), &runs).await;
    runs.go_on().await;

    let (stopped, _) = stand_still(&store, &jobs).await;
    let of_server = store.server.socket_directory().join("data/postmaster.pid");
    let of_server = std::fs::read_to_string(of_server).expect("it runs");
    let of_server = of_server.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    // At once, as by a fence: nothing hears a cancel request any more.
    kill_process(of_server.expect("a number"), Signal::KILL).expect("it runs");

    runs.go_on().await;
    jobs.shutdown(Duration::from_secs(1)).await;
    drop(stopped);
}

#[tokio::test]
async fn a_session_opened_again_ends_the_former_one_without_a_connection() {
    Log::keep();
    let (store, runs, tries) = (Waiting::start().await, Runs::default(), Arc::new(AtomicUsize::new(0)));
    let counted = tries.clone();
    let backend = store.backend("frugal").password_from(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, std::io::Error>(PASSWORD.to_owned()) }
    });
    let jobs = node(backend, &runs).await;
    runs.go_on().await;
    let former = store.backends().await;
    let before = tries.load(Ordering::SeqCst);

    let (.., pid) = former.iter().find(|(_, purpose, _)| purpose == "session").expect("it has a session");
    let mut stopped = Frozen::default();
    stopped.freeze(*pid, &store.admin).await;
    // It is given up. From now on it ends when it is ended.
    until("tried", async || tries.load(Ordering::SeqCst) > before).await;
    drop(stopped);
    until("open", async || {
        let backends = store.backends().await;
        let is_new = |purpose: &str| {
            backends.iter().any(|(_, of, pid)| of == purpose && !former.iter().any(|(.., old)| old == pid))
        };
        is_new("session") && is_new("leadership")
    })
    .await;

    let tried = tries.load(Ordering::SeqCst) - before;
    assert_eq!((former.len(), tried), (2, 2), "two connections for two");
    until("gone", async || store.backends().await.iter().all(|(.., there)| there != pid)).await;
    jobs.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_node_that_has_ended_connects_no_more_whatever_is_left_of_it() {
    Log::keep();
    let (store, runs, tries) = (Waiting::start().await, Runs::default(), Arc::new(AtomicUsize::new(0)));
    let counted = tries.clone();
    let backend = store.backend("ended").password_from(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, std::io::Error>(PASSWORD.to_owned()) }
    });
    let jobs = node(backend, &runs).await;
    runs.go_on().await;
    let mut stopped = Frozen::default();
    for pid in store.asked().await {
        stopped.freeze(pid, &store.admin).await;
    }

    jobs.shutdown(Duration::from_secs(1)).await;

    // One attempt may be under way. The next one would begin after five seconds at most.
    sleep(Duration::from_secs(4)).await;
    let tried = tries.load(Ordering::SeqCst);
    sleep(Duration::from_secs(6)).await;
    assert_eq!(tries.load(Ordering::SeqCst), tried);
}
