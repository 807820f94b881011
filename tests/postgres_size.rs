//! What the size of the tables costs on a real PostgreSQL server: no statement reads more because there are
//! names, runs and pending retries that are long gone. The server itself writes down each plan and how many buffers it
//! read, while nodes do what nodes do.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use callsheet::{
    FencingToken, FireTime, JobName, LockKey, NodeId, Outcome, RunId, SkipReason, Term,
    backend::Postgres,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, CursorAdvance, Declaration,
        Elector, Enrolled, Enrolment, GrantedRun, Inquiry, KnownHistory, Locker, Pause, ScheduleIdentity,
        Skips, TickClaim, Verdict,
    },
};
use chrono::{DateTime, TimeDelta};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use self::harness::Server;

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

/// Long enough for a statement that reads far too much.
const LEASE: Duration = Duration::from_secs(60);

const SMALL: i64 = 1_000;
const LARGE: i64 = 200_000;

/// How many statements nodes ask at least.
const STATEMENTS_MIN: usize = 30;

/// How many more buffers a statement may read because an index of the large tables has more levels.
const DEEPER: u64 = 16;

/// Each connection of a node writes its plans, with what they read, into the server's log; and it uses plans
/// that know no values.
const EXPLAINED: &str = "?options=-c%20session_preload_libraries%3Dauto_explain%20-c%20auto_explain.log_min_duration%3D0%20\
                         -c%20auto_explain.log_analyze%3Don%20-c%20auto_explain.log_timing%3Doff%20\
                         -c%20auto_explain.log_buffers%3Don%20-c%20auto_explain.log_format%3Djson%20\
                         -c%20plan_cache_mode%3Dforce_generic_plan";

/// What nobody has touched for long: names that were claimed once by sessions of which nothing is left, or
/// withdrawn, or only paused for a while; the runs of all of them, and pending retries that no node resumes.
const STALE: &str = "
INSERT INTO names (scope, name, token, beacon, claimed_at, run_node, run_job, run_term, fire_time, cursor, cursor_run, term, withdrawn, runs)
SELECT $1, 'stale-' || lpad(n::text, 7, '0'), n, CASE WHEN n % 3 > 0 THEN n % 7 + 1 END, now() - interval '1 month', gen_random_uuid(),
       'stale-' || lpad(n::text, 7, '0'), 1, now() - interval '1 month', now() - interval '1 month', gen_random_uuid(), 1, n % 3 = 0, 1
FROM generate_series(1, $2::int8) AS g (n)";
const STALE_RUNS: &str = "
INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
SELECT cursor_run, 1, claimed_at, claimed_at, fire_time, 1, run_node, scope, name, name, 'succeeded' FROM names
WHERE scope = $1 AND name LIKE 'stale-%'";

/// Runs that ended one after another, in the order of their ids: every fourth one of the scope, up to 300 jobs.
const NEW_RUNS: &str = "
INSERT INTO runs (run, token, claimed_at, ended_at, fire_time, term, node, scope, job, key, outcome)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(2 * n), 12, '0'))::uuid, n, at, at, at, 1, gen_random_uuid(),
       CASE WHEN n % 4 = 0 THEN 'size' ELSE 'other' END, 'job-' || n % 300, 'job-' || n % 300, 'succeeded'
FROM (SELECT n, to_timestamp(n) AS at FROM generate_series(1, $1::int8) AS g (n)) AS runs";
/// How many there are: more of the scope than are ever looked at.
const NEW: u32 = 120_000;

/// How many rows, and how many buffers, a comparison may read in all parts of its plan.
const COMPARED_ROWS_MAX: u64 = 100_000;
const COMPARED_BUFFERS_MAX: u64 = 20_000;

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// What one statement did when it read most.
#[derive(Debug, Clone)]
struct Seen {
    buffers: u64,
    plan: Value,
}

/// The log of a server, from where it was last read.
struct Log {
    path: PathBuf,
    read: u64,
}

impl Log {
    /// What each statement of nodes did since this was last asked.
    fn statements(&mut self) -> BTreeMap<String, Seen> {
        let mut file = File::open(&self.path).expect("the server writes a log");
        file.seek(SeekFrom::Start(self.read)).expect("it is a file");
        let mut text = Vec::new();
        self.read += u64::try_from(file.read_to_end(&mut text).expect("it can be read")).expect("a size");
        let text = String::from_utf8_lossy(&text);
        let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
        for entry in text.split("  plan:\n").skip(1) {
            let parsed = serde_json::Deserializer::from_str(entry).into_iter::<Value>().next();
            let explained = parsed.expect("a plan").expect("a plan is JSON");
            let statement = explained["Query Text"].as_str().expect("the text of a statement").to_owned();
            let plan = explained["Plan"].clone();
            let count = |name: &str| plan[name].as_u64().unwrap_or_default();
            let buffers = count("Shared Hit Blocks") + count("Shared Read Blocks");
            let most = seen.get(&statement).map_or(0, |seen| seen.buffers);
            if buffers >= most {
                seen.insert(statement, Seen { buffers, plan });
            }
        }
        seen
    }
}

/// Each node of a plan that reads all of a table.
fn reads_all(plan: &Value, found: &mut Vec<String>) {
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    let kept = ["names", "debts", "runs", "sessions"].contains(&table);
    let unbounded = kind.contains("Index") && plan["Index Cond"].is_null();
    if kept && (kind == "Seq Scan" || unbounded) {
        found.push(format!("{kind} of {table}"));
    }
    let parts = plan["Plans"].as_array();
    parts.into_iter().flatten().for_each(|part| reads_all(part, found));
}

/// Each node of a plan that looks through all rows of a scope.
fn reads_scope(plan: &Value, found: &mut Vec<String>) {
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    let condition = plan["Index Cond"].as_str().unwrap_or_default();
    if ["names", "debts", "runs"].contains(&table)
        && condition.contains("scope")
        && !condition.contains(" AND ")
    {
        found.push(format!("{} of {}: {condition}", plan["Index Name"], plan["Alias"]));
    }
    let parts = plan["Plans"].as_array();
    parts.into_iter().flatten().for_each(|part| reads_scope(part, found));
}

/// Each kind of node of a plan.
fn kinds<'a>(plan: &'a Value, found: &mut BTreeSet<&'a str>) {
    found.extend(plan["Node Type"].as_str());
    plan["Plans"].as_array().into_iter().flatten().for_each(|part| kinds(part, found));
}

/// How many rows all nodes of a plan looked at.
fn rows_looked_at(plan: &Value) -> u64 {
    let count = |name: &str| plan[name].as_f64().unwrap_or_default();
    let names = [
        "Actual Rows",
        "Rows Removed by Filter",
        "Rows Removed by Join Filter",
        "Rows Removed by Index Recheck",
    ];
    let rows = names.into_iter().map(count).sum::<f64>() * count("Actual Loops");
    let parts = plan["Plans"].as_array();
    rows as u64 + parts.into_iter().flatten().map(rows_looked_at).sum::<u64>()
}

struct Node {
    backend: Postgres,
    locker: Arc<dyn Locker>,
    elector: Arc<dyn Elector>,
}

impl Node {
    async fn open(url: &str, schema: &str) -> Self {
        let backend = Postgres::new("size", format!("{url}{EXPLAINED}")).schema(schema).lease(LEASE);
        let (locker, elector) = (backend.locker(), backend.elector());
        locker.open().await.expect("a session opens");
        Self { backend, locker, elector }
    }

    async fn leads(&self) -> Term {
        match self.elector.campaign(Duration::MAX).await.expect("an answer") {
            Campaign::Won(grant) => grant.term,
            other => panic!("nobody else leads: {other:?}"),
        }
    }

    /// Enrols a job: a claim of its first tick, which is due.
    async fn due(&self, enrolment: Enrolment) -> ClaimRequest {
        let (job, key, authority) = (enrolment.job.clone(), enrolment.key.clone(), enrolment.authority);
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { cursor, .. }] = enrolled[..] else { panic!("{job}: {enrolled:?}") };
        sleep(Duration::from_millis(5)).await;
        let (expected, skips) = (cursor, Skips::default());
        let fire_time = FireTime::new(cursor + TimeDelta::milliseconds(1));
        let tick = TickClaim { fire_time, expected, skips, authority };
        ClaimRequest { tick: Some(tick), ..ClaimRequest::new(job, key, run()) }
    }

    async fn ends(&self, claim: &ClaimRequest, change: impl Fn(Completion) -> Completion) {
        let verdicts = self.locker.claim(std::slice::from_ref(claim)).await.expect("an answer");
        let [Verdict::Granted { token, .. }] = verdicts[..] else { panic!("{claim:?}: {verdicts:?}") };
        let ClaimRequest { job, key, run, .. } = claim.clone();
        let end = change(Completion::new(job, key, run, token, Outcome::Failed));
        // Once more: it was recorded before.
        for _ in 0..2 {
            self.locker.complete(std::slice::from_ref(&end)).await.expect("an answer");
        }
    }

    async fn is_killed(&self, admin: &Client) {
        let node = self.backend.node().expect("the store knows its nodes").as_uuid().simple().to_string();
        let name = format!("callsheet {}%", &node[..12]);
        let kill =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
        while admin.query_one(kill, &[&name]).await.expect("an answer").get::<_, i64>(0) > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn run() -> RunId {
    RunId::from(NodeId::random().as_uuid())
}

/// What nodes ask in their lives, all of it, for names that begin with `tag`. The second node dies.
async fn live(url: &str, schema: &str, node: &Node, dies: &Node, tag: &str) {
    let name = |job: &str| JobName::new(format!("{tag}-{job}")).expect("a name");
    let key = |key: &str| LockKey::new(format!("{tag}-{key}")).expect("a key");
    let term = node.leads().await;
    node.elector.renew(term).await.expect("an answer");
    assert!(
        matches!(dies.elector.campaign(Duration::MAX).await, Ok(Campaign::Lost { .. })),
        "somebody leads"
    );

    let enrolment =
        |job: &str, authority| Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), authority);
    let led = Authority::Term(term);
    let plain = node.due(enrolment("plain", led)).await;
    let mut keyed = enrolment("keyed", led);
    keyed.key = key("key");
    let keyed = node.due(keyed).await;
    let mut any = enrolment("any", Authority::Any);
    any.retry_lost = true;
    let any = node.due(any).await;
    let mine = node.due(enrolment("mine", Authority::Leaderless)).await;
    node.locker
        .enrol(&[enrolment("plain", led), enrolment("mine", Authority::Leaderless)])
        .await
        .expect("an answer");
    let asked = Declaration { job: name("keyed"), key: key("key"), overlap: callsheet::Overlap::Replace };
    dies.locker.conflicts(std::slice::from_ref(&asked)).await.expect("an answer");
    let inquiry = Inquiry { job: name("plain"), schedule: ScheduleIdentity::of_text("a schedule") };
    dies.locker.inquire(&[inquiry]).await.expect("an answer");

    node.ends(&plain, |end| end).await;
    node.ends(&keyed, |end| Completion { pause_after: Some(2), ..end }).await;
    // Of what the store knows.
    let known = GrantedRun {
        job: plain.job.clone(),
        key: plain.key.clone(),
        run: plain.run,
        fire_time: plain.tick.as_ref().map(|tick| tick.fire_time),
        token: FencingToken(1),
    };
    node.locker.compare(&KnownHistory { term: Some(term), runs: vec![known] }).await.expect("an answer");
    node.ends(&mine, |end| Completion { from_completion: true, pause_after: Some(1), ..end }).await;
    let manual = ClaimRequest::new(name("manual"), key("manual"), run());
    node.ends(&manual, |end| end).await;
    node.locker.claim(&[ClaimRequest { recheck: true, ..manual.clone() }]).await.expect("an answer");

    // What dies is found and taken up.
    let lost = dies.locker.claim(&[any.clone(), ClaimRequest::new(name("held"), key("held"), run())]).await;
    assert!(
        lost.is_ok_and(|verdicts| verdicts.iter().all(|verdict| matches!(verdict, Verdict::Granted { .. })))
    );
    let replaced = ClaimRequest { replace: true, ..ClaimRequest::new(name("held"), key("held"), run()) };
    node.locker.claim(std::slice::from_ref(&replaced)).await.expect("an answer");
    dies.is_killed(&connect(url).await).await;
    let robbed = ClaimRequest::new(name("held"), key("held"), run());
    node.ends(&robbed, |end| end).await;
    let closed = node.locker.close_lost(100).await.expect("an answer");
    assert_eq!(closed.lost.iter().map(|lost| lost.run).collect::<Vec<_>>(), [any.run]);
    node.locker.pending_retries(None, 100).await.expect("an answer");
    node.ends(&ClaimRequest { tick: None, resume_lost: true, ..any.clone() }, |end| end).await;

    let advanced = node.due(enrolment("moved", led)).await.tick.expect("a tick");
    let skips = Skips::new(SkipReason::Paused, 1, false);
    let TickClaim { expected, fire_time: to, authority, .. } = advanced;
    let step =
        CursorAdvance { id: NodeId::random().as_uuid(), job: name("moved"), expected, to, skips, authority };
    node.locker.advance(&[step]).await.expect("an answer");
    let pause = Pause::until_resumed();
    node.locker.pause(&[name("plain"), name("unknown")], Some(&pause)).await.expect("an answer");
    node.locker.pause(&[name("plain"), name("unknown")], None).await.expect("an answer");
    pause_in_turn(url, schema, node, &name("plain")).await;
    node.locker.retract(&[key("key")]).await.expect("an answer");
    node.locker.withdraw(term, &[name("plain"), name("moved")]).await.expect("an answer");
    node.locker.keep_names(&[name("keyed"), name("any")], Duration::ZERO).await.expect("an answer");
    // One page of stale names, and the next one, which reads nothing of the first.
    let forgotten = node.locker.forget(term, Duration::ZERO).await.expect("an answer");
    assert!(tag == "before" || forgotten.names > 256, "{forgotten:?}");
    node.elector.resign(term).await.expect("an answer");
}

/// Pauses a job whose row somebody else has locked until the node waits for it.
async fn pause_in_turn(url: &str, schema: &str, node: &Node, job: &JobName) {
    let (holder, admin) = (connect(url).await, connect(url).await);
    holder.batch_execute("BEGIN").await.expect("an answer");
    let lock = format!("SELECT FROM {schema}.names WHERE scope = 'size' AND name = $1 FOR UPDATE");
    holder.execute(&lock, &[&job.as_str()]).await.expect("an answer");
    let pause = Pause::until_resumed();
    let waits = async {
        let waiting = "SELECT FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')";
        while admin.query(waiting, &[]).await.expect("an answer").is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        holder.batch_execute("ROLLBACK").await.expect("an answer");
    };
    let jobs = [job.clone()];
    let (paused, ()) = tokio::join!(node.locker.pause(&jobs, Some(&pause)), waits);
    paused.expect("an answer");
}

/// What statements read beside `stale` names. The session, and its plans, are older than these.
async fn statements_beside(server: &Server, schema: &str, stale: i64) -> BTreeMap<String, Seen> {
    let url = server.url();
    let mut log = Log { path: server.socket_directory().join("log"), read: 0 };
    let (node, dies) = (Node::open(&url, schema).await, Node::open(&url, schema).await);
    let admin = connect(&url).await;
    admin.batch_execute(&format!("SET search_path = {schema}")).await.expect("an answer");
    live(&url, schema, &node, &dies, "before").await;
    admin.execute(STALE, &[&"size", &stale]).await.expect("stale names");
    admin.execute(STALE_RUNS, &[&"size"]).await.expect("stale runs");
    // The server does it by itself, within a minute.
    admin.batch_execute("ANALYZE names; ANALYZE runs").await.expect("an answer");
    let dies = Node::open(&url, schema).await;
    log.statements();

    live(&url, schema, &node, &dies, "after").await;
    node.locker.close().await;
    log.statements()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_more_beside_names_that_are_long_gone() {
    let server = Server::start();
    let small = timeout(DEADLINE, statements_beside(&server, "small", SMALL)).await.expect("in time");
    let large = timeout(DEADLINE, statements_beside(&server, "large", LARGE)).await.expect("in time");

    let both = small.keys().filter(|statement| large.contains_key(*statement)).count();
    assert!(both >= STATEMENTS_MIN, "only {both} statements were seen");
    let mut faults = Vec::new();
    for (statement, seen) in &large {
        if let Some(of_small) = small.get(statement).map(|seen| seen.buffers)
            && seen.buffers > of_small + DEEPER
        {
            let Seen { buffers, plan } = seen;
            faults.push(format!("it reads {buffers} buffers instead of {of_small}: {statement}\n{plan:#}"));
        }
        let mut whole = Vec::new();
        reads_all(&seen.plan, &mut whole);
        if !whole.is_empty() {
            faults.push(format!("it reads all of a table ({whole:?}): {statement}"));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}

/// By which indexes the rows of names are found.
fn indexes(plan: &Value, found: &mut BTreeSet<String>) {
    let (table, index) = (plan["Relation Name"].as_str(), plan["Index Name"].as_str());
    found.extend(index.filter(|_| table == Some("names")).map(str::to_owned));
    plan["Plans"].as_array().into_iter().flatten().for_each(|part| indexes(part, found));
}

/// How many rows a statement may look at, in all parts of its plan, for each of its items.
const ROWS_EACH: u64 = 50;

/// Has runs of jobs claimed and ended, all of them in one call each.
async fn run_all(locker: &dyn Locker, requests: Vec<ClaimRequest>) {
    let verdicts = locker.claim(&requests).await.expect("an answer");
    let ends = requests.into_iter().zip(verdicts).map(|(request, verdict)| {
        let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
        Completion::new(request.job, request.key, request.run, token, Outcome::Succeeded)
    });
    let ends: Vec<_> = ends.collect();
    let ended = locker.complete(&ends).await.expect("an answer");
    assert!(ended.iter().all(|end| *end == Completed::RECORDED), "{ended:?}");
}

/// The plans are made while the tables are empty. Another index, or a join that is turned round, would read
/// all names for each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_finds_each_row_by_its_name_or_its_place() {
    const JOBS: u64 = 400;
    let server = Server::start();
    let url = server.url();
    let mut log = Log { path: server.socket_directory().join("log"), read: 0 };
    let node = Node::open(&url, "batch").await;
    let term = node.leads().await;
    let (authority, locker) = (Authority::Term(term), &*node.locker);
    let schedule = ScheduleIdentity::of_text("a schedule");
    let names: Vec<_> = (0..JOBS).map(|nth| JobName::new(format!("job-{nth}")).expect("a name")).collect();
    let enrolments: Vec<_> =
        names.iter().map(|job| Enrolment::new(job.clone(), schedule, authority)).collect();

    let mut ticks = Vec::new();
    for answer in locker.enrol(&enrolments).await.expect("an answer") {
        let Enrolled::Done { cursor: expected, .. } = answer else { panic!("{answer:?}") };
        let fire_time = FireTime::new(expected + TimeDelta::milliseconds(1));
        ticks.push(TickClaim { fire_time, expected, skips: Skips::default(), authority });
    }
    locker.enrol(&enrolments).await.expect("an answer");
    sleep(Duration::from_millis(5)).await;
    let by_hand = |key: &str, job: &JobName| {
        let key = LockKey::new(format!("{key}{}", job.as_str())).expect("a key");
        ClaimRequest::new(job.clone(), key, run())
    };
    let of_tick = |(tick, request): (&TickClaim, ClaimRequest)| ClaimRequest { tick: Some(*tick), ..request };
    let plain = || names.iter().map(|job| by_hand("", job));
    run_all(locker, ticks.iter().zip(plain()).map(of_tick).collect()).await;
    run_all(locker, plain().collect()).await;
    let next = |tick: &TickClaim| {
        let expected = tick.fire_time.instant();
        TickClaim { expected, fire_time: FireTime::new(expected + TimeDelta::milliseconds(1)), ..*tick }
    };
    let ticks: Vec<_> = ticks.iter().map(next).collect();
    let keyed = ticks.iter().zip(names.iter().map(|job| by_hand("key-", job)));
    run_all(locker, keyed.map(of_tick).collect()).await;
    let skips = Skips::new(SkipReason::Paused, 1, false);
    let advance = |(job, tick): (&JobName, &TickClaim)| {
        let (TickClaim { expected, fire_time: to, .. }, id) = (next(tick), NodeId::random().as_uuid());
        CursorAdvance { id, job: job.clone(), expected, to, skips, authority }
    };
    let advances: Vec<_> = names.iter().zip(&ticks).map(advance).collect();
    locker.advance(&advances).await.expect("an answer");
    let inquiries: Vec<_> = names.iter().map(|job| Inquiry { job: job.clone(), schedule }).collect();
    locker.inquire(&inquiries).await.expect("an answer");
    let pause = Pause { until: None, note: None, by: None };
    let unknown = (0..JOBS).map(|nth| JobName::new(format!("other-{nth}")).expect("a name"));
    let paused: Vec<_> = names.iter().cloned().chain(unknown).collect();
    locker.pause(&paused, Some(&pause)).await.expect("an answer");
    locker.pause(&paused, None).await.expect("an answer");
    locker.keep_names(&names, Duration::ZERO).await.expect("an answer");
    locker.withdraw(term, &names).await.expect("an answer");

    let seen = log.statements();
    for (statement, Seen { plan, .. }) in &seen {
        let mut found = BTreeSet::new();
        indexes(plan, &mut found);
        assert!(found.iter().all(|index| index == "names_pkey"), "{found:?}: {statement}");
        let rows = rows_looked_at(plan);
        assert!(rows <= ROWS_EACH * 2 * JOBS, "{rows} rows: {statement}\n{plan:#}");
        // What is never asked twice is not worth remembering.
        let mut kinds_found = BTreeSet::new();
        kinds(plan, &mut kinds_found);
        assert!(!kinds_found.contains("Memoize"), "{statement}\n{plan:#}");
    }
    for part in [
        "array_agg(place) AS places",
        "THEN 'needs takeover'",
        "array_agg(ord) AS ords FROM freed",
        "AS ords\nFROM freed",
    ] {
        let (_, seen) = seen.iter().find(|(text, _)| text.contains(part)).expect(part);
        assert!(rows_looked_at(&seen.plan) >= JOBS, "{part}: {:#}", seen.plan);
    }
}

/// The server knows nothing of tables that are new, until it has looked at them, a minute later: to it every
/// index of theirs costs the same. Ten thousand jobs were enrolled in six seconds once, each by a look at
/// all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_looks_through_a_scope_in_tables_that_are_new() {
    let server = Server::start();
    let url = server.url();
    let mut log = Log { path: server.socket_directory().join("log"), read: 0 };
    let (node, dies) = (Node::open(&url, "fresh").await, Node::open(&url, "fresh").await);

    timeout(DEADLINE, live(&url, "fresh", &node, &dies, "before")).await.expect("in time");
    node.locker.close().await;

    let statements = log.statements();
    assert!(statements.len() >= STATEMENTS_MIN, "only {} statements were seen", statements.len());
    let faults = statements.iter().filter_map(|(statement, seen)| {
        let mut found = Vec::new();
        reads_scope(&seen.plan, &mut found);
        (!found.is_empty()).then(|| format!("{found:?}: {statement}\n{:#}", seen.plan))
    });
    let faults: Vec<_> = faults.collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}

/// A run that the store granted for the n-th second, and which it lacks.
fn lacking(n: u32) -> GrantedRun {
    let name = format!("job-{}", n % 300);
    let run = RunId::from(uuid::Uuid::from_u128(0x7000_8000_0000_0000_0000 + u128::from(2 * n + 1)));
    let fire_time = DateTime::from_timestamp(i64::from(n), 0).map(FireTime::new);
    let (job, key) = (JobName::new(name.clone()).expect("a name"), LockKey::new(name).expect("a key"));
    GrantedRun { job, key, run, fire_time, token: FencingToken(0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_reads_the_newest_runs_only_whatever_else_there_is() {
    let server = Server::start();
    let url = server.url();
    let mut log = Log { path: server.socket_directory().join("log"), read: 0 };
    let node = Node::open(&url, "compared").await;
    let admin = connect(&url).await;
    admin.batch_execute("SET search_path = compared").await.expect("an answer");
    admin.execute(NEW_RUNS, &[&i64::from(NEW)]).await.expect("new runs");
    let granted: Vec<_> = (1..=1_024).map(|nth| lacking(117 * nth)).collect();
    log.statements();

    let known = KnownHistory { term: None, runs: granted.clone() };
    let divergence = node.locker.compare(&known).await.expect("in time");

    // Those of the scope, among the newest 10,000 of all: the first one is 117 * 944, which is more than 110,000.
    let (first, runs) = (943, divergence.runs);
    assert_eq!(runs.first().map(|run| run.run), Some(granted[first].run));
    assert_eq!(runs.len(), granted.len() - first, "all since then are lacking");
    assert_eq!(runs.iter().filter(|run| run.tick_also.is_some()).count(), 21);
    let seen = log.statements();
    let (_, seen) = seen.iter().find(|(text, _)| text.contains("tick_also")).expect("it was asked");
    let mut whole = Vec::new();
    reads_all(&seen.plan, &mut whole);
    assert!(whole.is_empty(), "it reads all of a table: {whole:?}");
    let rows = rows_looked_at(&seen.plan);
    assert!(rows <= COMPARED_ROWS_MAX, "{rows} rows: {:#}", seen.plan);
    assert!(seen.buffers <= COMPARED_BUFFERS_MAX, "{} buffers: {:#}", seen.buffers, seen.plan);
}
