//! The history on a real PostgreSQL server: what nodes write they all read, by indexes, and nothing waits for it.

#[path = "common/postgres.rs"]
mod harness;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, Decision, DecisionRecord, Decisions, Error, FencingToken, HistoryError, HistoryOptions, Job,
    JobHistory, JobName, JobOperation, MemoryBounds, NodeId, Operation, OperationRecord, Operations, Outcome,
    Problem, Retention, RunHistory, RunId, RunRecord,
    backend::Postgres,
    deadpool_postgres::{Manager, Pool, Runtime},
    metrics::Prometheus,
    port::{AskGaps, Backend, Batch, History, LAST_ENDS_MAX, RecordsOf},
    schedule::every,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls};

use self::harness::{Server, connect, scope, server};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);

fn name(name: &str) -> JobName {
    JobName::new(name).expect("a good name")
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{what}"))
}

async fn history(scope: &str, url: &str) -> Arc<dyn History> {
    let node = Postgres::new(scope, url);
    // It makes the schema.
    node.locker().open().await.expect("a session opens");
    node.history(MemoryBounds::default()).expect("it has one")
}

#[tokio::test]
async fn what_one_node_records_another_one_reads() {
    let scope = scope("two");
    let (go, wait) = watch::channel(false);
    let node = || {
        let wait = wait.clone();
        let long = Job::new("long", every("1h")).run(move |_| {
            let mut wait = wait.clone();
            async move {
                // The test is over.
                let _ = wait.wait_for(|go| *go).await;
                Err::<(), _>("no paper")
            }
        });
        let backend = Postgres::new(&scope, server().url());
        Callsheet::builder().backend(backend).job(long).start()
    };
    let (first, second) = (node().await.expect("it starts"), node().await.expect("it starts"));
    let triggered = first.by("alice").expect("a good name").trigger("long").await.expect("it starts");
    let run = triggered.run();
    let asked = || RunHistory::new().job(name("long"));

    let open = until("a run in progress is recorded", async || {
        second.runs(asked()).await.expect("an answer").runs.pop()
    });
    let open = open.await;
    assert_eq!((open.run, open.outcome, open.ended_at), (run, None, None));
    assert!(open.started_at.is_some());
    let refused = first.trigger("long").await.expect_err("it runs");

    go.send_replace(true);
    let ended = until("its end is recorded", async || {
        let run = second.runs(asked()).await.expect("an answer").runs.pop();
        run.filter(|run| run.outcome.is_some())
    });
    let ended = ended.await;
    assert_eq!((ended.run, ended.outcome), (run, Some(Outcome::Failed)));
    assert_eq!(ended.error.as_deref(), Some("no paper"));
    assert_eq!(ended.started_at, open.started_at);
    first.pause("long").await.expect("it is paused");
    let record = first.history(&name("long")).await.expect("an answer").expect("it is known");
    assert_eq!((record.runs, record.failures, record.holder), (1, 1, None));
    assert!(record.pause.is_some(), "{record:?}");
    let decisions = first.decisions(Decisions::new().job(name("long"))).await.expect("an answer").decisions;
    let texts: Vec<_> = decisions.iter().map(|one| &one.decision).collect();
    let is_refusal = |one: &&&Decision| match one {
        Decision::TriggerRefused { text, .. } => **text == *refused.to_string(),
        _ => false,
    };
    assert_eq!(texts.iter().filter(is_refusal).count(), 1, "{texts:?}");
    let operations =
        first.operations(Operations::new().job(name("long"))).await.expect("an answer").operations;
    assert!(operations.iter().any(|one| one.operation == JobOperation::Paused), "{operations:?}");
    first.shutdown(Duration::ZERO).await;
    second.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn what_waits_at_a_shutdown_is_written() {
    let scope = scope("shutdown");
    let job = Job::new("job", every("1h")).run(async |_| {});
    let backend = Postgres::new(&scope, server().url());
    let jobs = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
    jobs.trigger("job").await.expect("it starts").finished().await;
    jobs.shutdown(Duration::from_secs(5)).await;

    let page = history(&scope, &server().url()).await.runs(&RunHistory::new()).await.expect("an answer");

    assert_eq!(page.runs.len(), 1);
}

/// A pool whose connections get no answer.
fn silent_pool(listener: &TcpListener) -> Pool {
    let port = listener.local_addr().expect("an address").port();
    let config = format!("postgres://nobody@127.0.0.1:{port}/nothing").parse().expect("a URL");
    let timeouts = Some(Duration::from_millis(200));
    let pool = Pool::builder(Manager::new(config, NoTls)).runtime(Runtime::Tokio1).max_size(1);
    pool.wait_timeout(timeouts).create_timeout(timeouts).build().expect("a pool")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_silent_delays_no_tick_and_what_is_dropped_is_counted() {
    let prometheus = Prometheus::install().expect("no other recorder is installed");
    let scope = scope("silent");
    // It accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let backend = Postgres::new(&scope, server().url()).history_pool(silent_pool(&listener));
    let mut options = HistoryOptions::default();
    options.queue = 64;
    let (ended, mut heard) = watch::channel(0);
    let job = Job::new("often", every("10ms")).run(move |_| {
        ended.send_modify(|count| *count += 1);
        async {}
    });
    let jobs =
        Callsheet::builder().backend(backend).history(options).job(job).start().await.expect("it starts");

    timeout(DEADLINE, heard.wait_for(|count| *count >= 300)).await.expect("it runs").expect("it is there");

    let dropped = until("what finds no room is counted", async || {
        let text = prometheus.render();
        let line = text.lines().find(|line| {
            line.starts_with("callsheet_history_dropped_total") && line.contains(&format!("\"{scope}\""))
        })?;
        let count: f64 = line.rsplit(' ').next()?.parse().ok()?;
        (count >= 100.0).then_some(count)
    });
    assert!(dropped.await >= 100.0);
    let error = jobs.runs(RunHistory::new()).await.expect_err("nobody answers");
    assert!(
        matches!(error, Error::History(HistoryError::Unavailable { history: "postgres", .. })),
        "{error:?}"
    );
    let health = jobs.health().await.expect("it runs");
    // Stored jobs and overrides are read over the same pool, and that is said.
    let of_catalogue = |problem: &Problem| {
        matches!(problem, Problem::OperationFailing { operation: Operation::Catalogue, .. })
    };
    assert!(health.problems.iter().all(of_catalogue), "{health:?}");
    jobs.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn pruning_touches_nothing_by_which_nodes_decide() {
    let scope = scope("decides");
    let job = Job::new("often", every("50ms")).run(async |_| {});
    let backend = Postgres::new(&scope, server().url());
    let jobs = Callsheet::builder().backend(backend).job(job).start().await.expect("it starts");
    let history = history(&scope, &server().url()).await;
    until("runs are recorded", async || {
        let page = history.runs(&RunHistory::new()).await.expect("an answer");
        (page.runs.len() >= 20).then_some(())
    })
    .await;
    jobs.shutdown(Duration::from_secs(5)).await;
    let admin = connect(&server().url()).await;
    let decided = async |admin: &Client| {
        let runs = "SELECT count(*), max(run::text), sum(token)::text FROM callsheet.runs WHERE scope = $1";
        let names = "SELECT string_agg(n::text, ' ' ORDER BY name) FROM callsheet.names n WHERE scope = $1";
        let runs = admin.query_one(runs, &[&scope]).await.expect("an answer");
        let names = admin.query_one(names, &[&scope]).await.expect("an answer");
        let count: i64 = runs.get(0);
        (count, runs.get::<_, String>(1), runs.get::<_, String>(2), names.get::<_, String>(0))
    };
    let before = decided(&admin).await;

    while history.prune(Utc::now() + TimeDelta::days(10_000), &Retention::default()).await.expect("an answer")
    {
    }

    assert!(history.runs(&RunHistory::new()).await.expect("an answer").runs.is_empty(), "all of it is old");
    assert_eq!(decided(&admin).await, before);
    let record = history.job(&JobHistory(name("often"))).await.expect("an answer").expect("it is known");
    assert!(record.runs >= 20 && record.p95.is_some(), "the row outlives them: {record:?}");
}

#[tokio::test]
async fn what_is_old_is_deleted_though_the_rows_of_its_jobs_are_locked() {
    let scope = scope("locked");
    let history = history(&scope, &server().url()).await;
    let admin = connect(&server().url()).await;
    let (old, young) = (Utc::now() - TimeDelta::days(91), Utc::now());
    let ended = |job: &str, at: DateTime<Utc>| {
        let mut run = RunRecord::new(name(job), RunId::first_at(at), NodeId::numbered(1));
        (run.started_at, run.ended_at, run.outcome) = (Some(at), Some(at), Some(Outcome::Succeeded));
        run.took = Some(Duration::from_millis(5));
        run
    };
    let mut batch = Batch::default();
    batch.runs = vec![
        ended("busy", old),
        ended("busy", young),
        ended("resting", old + TimeDelta::seconds(1)),
        ended("locked", old + TimeDelta::seconds(2)),
    ];
    history.write(&batch).await.expect("it is written");
    // As a statement that writes runs of theirs.
    let lock = format!(
        "BEGIN; SELECT FROM callsheet.history_jobs WHERE scope = '{scope}' AND job IN ('busy', 'locked') FOR UPDATE"
    );
    admin.batch_execute(&lock).await.expect("nobody else has them");

    let pruned = timeout(DEADLINE, history.prune(Utc::now(), &Retention::default())).await;

    assert!(!pruned.expect("it waits for nobody").expect("an answer"), "that was all");
    let left = history.runs(&RunHistory::new()).await.expect("an answer").runs;
    assert_eq!(left.iter().map(|run| run.run).collect::<Vec<_>>(), [RunId::first_at(young)]);
    admin.batch_execute("COMMIT").await.expect("an answer");
    let p95 = async |job: &str| {
        history.job(&JobHistory(name(job))).await.expect("an answer").and_then(|job| job.p95)
    };
    assert_eq!(p95("resting").await, Some(Duration::from_millis(5)), "the row of the job outlives its runs");
    let kept = "SELECT job FROM callsheet.history_jobs WHERE scope = $1 AND p95 IS NOT NULL";
    let kept = admin.query(kept, &[&scope]).await.expect("an answer");
    assert_eq!(kept.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["resting"]);
}

#[tokio::test]
async fn a_run_of_which_its_node_says_nothing_any_more_is_stale_and_goes_when_it_is_old() {
    let scope = scope("stale");
    let history = history(&scope, &server().url()).await;
    let admin = connect(&server().url()).await;
    let node = NodeId::numbered(1);
    let (old, young) = (Utc::now() - TimeDelta::days(91), Utc::now() - TimeDelta::days(1));
    let mut batch = Batch::default();
    batch.runs = [old, young].map(|at| RunRecord::new(name("job"), RunId::first_at(at), node)).to_vec();
    // Its row is made by an end.
    let mut ended = RunRecord::new(name("job"), RunId::first_at(young + TimeDelta::hours(1)), node);
    (ended.outcome, ended.ended_at) = (Some(Outcome::Succeeded), Some(young));
    batch.runs.push(ended);
    history.write(&batch).await.expect("it is written");
    let stale = async || {
        let page = history.runs(&RunHistory::new()).await.expect("an answer");
        page.runs.iter().map(|run| run.is_stale).collect::<Vec<_>>()
    };
    let holder = async || {
        let record = history.job(&JobHistory(name("job"))).await.expect("an answer");
        record.expect("it is known").holder.map(|holder| holder.run)
    };
    let prune = async || history.prune(Utc::now(), &Retention::default()).await.expect("an answer");

    prune().await;
    assert_eq!(stale().await, [false; 3], "both are in progress, whenever they were asked for");
    assert_eq!(holder().await, Some(batch.runs[1].run));

    let silent = async |time: &str| {
        let silent = format!(
            "UPDATE callsheet.history_runs SET written_at = written_at - interval '{time}' WHERE scope = $1"
        );
        admin.execute(&silent, &[&scope]).await.expect("an answer");
    };
    silent("6 minutes").await;
    assert_eq!(stale().await, [false, true, true], "what ended is not stale");
    assert!(!prune().await);
    assert_eq!(stale().await.len(), 3, "its node spoke a moment ago, whenever the run was asked for");
    assert_eq!(holder().await, None);

    batch.runs.truncate(2);
    silent("91 days").await;
    let again = batch.runs.remove(1);
    let mut refreshed = Batch::default();
    refreshed.runs.push(again.clone());
    history.write(&refreshed).await.expect("it is written");
    assert_eq!(holder().await, Some(again.run), "its node says so again");

    assert!(!prune().await);
    assert_eq!(stale().await, [false, false], "the old one is deleted");
}

#[tokio::test]
async fn a_page_with_rows_that_only_a_newer_version_can_read_has_a_next_one() {
    let scope = scope("newer");
    let history = history(&scope, &server().url()).await;
    let admin = connect(&server().url()).await;
    let (node, at) = (NodeId::numbered(1), |nth| DateTime::UNIX_EPOCH + TimeDelta::seconds(nth));
    let mut batch = Batch::default();
    for nth in 0..6 {
        let (from, to) = (at(nth), at(nth));
        batch.decisions.push(DecisionRecord::new(None, at(nth), node, Decision::LeaderGap { from, to }));
        let operation = OperationRecord::new(name("job"), JobOperation::Added, at(nth), node);
        batch.operations.push(operation);
    }
    history.write(&batch).await.expect("it is written");
    // The newest is of no kind that is known.
    for newer in [
        "UPDATE callsheet.history_decisions SET decision = '{\"decision\": \"dreamt\"}' WHERE scope = $1 AND at = $2",
        "UPDATE callsheet.history_operations SET operation = 'dreamt' WHERE scope = $1 AND at = $2",
    ] {
        assert_eq!(admin.execute(newer, &[&scope, &at(5)]).await.expect("an answer"), 1);
    }

    let (mut decisions, mut before) = (Vec::new(), None);
    loop {
        let asked = Decisions::new().limit(2).before(before);
        let page = history.decisions(&asked).await.expect("an answer");
        assert_eq!(page.unread, usize::from(decisions.is_empty()), "the newest cannot be read");
        decisions.extend(page.decisions);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let (mut operations, mut before) = (Vec::new(), None);
    loop {
        let asked = Operations::new().limit(2).before(before);
        let page = history.operations(&asked).await.expect("an answer");
        assert_eq!(page.unread, usize::from(operations.is_empty()), "the newest cannot be read");
        operations.extend(page.operations);
        before = page.next;
        if before.is_none() {
            break;
        }
    }

    assert_eq!((decisions.len(), operations.len()), (5, 5), "all that can be read, on whichever page");
}

#[tokio::test]
async fn a_node_that_was_cut_off_does_not_undo_what_became_of_its_run() {
    let scope = scope("late");
    let history = history(&scope, &server().url()).await;
    let (first, second) = (NodeId::numbered(1), NodeId::numbered(2));
    let write = async |run: &RunRecord| {
        let mut batch = Batch::default();
        batch.runs.push(run.clone());
        history.write(&batch).await.expect("it is written");
    };
    let seen = async || history.runs(&RunHistory::new()).await.expect("an answer").runs.remove(0);
    let mut open = RunRecord::new(name("job"), RunId::first_at(Utc::now()), first);
    open.token = Some(FencingToken(1));
    write(&open).await;
    let mut lost = RunRecord::new(name("job"), open.run, second);
    (lost.outcome, lost.ended_at) = (Some(Outcome::Lost), Some(Utc::now()));
    write(&lost).await;

    write(&open).await;
    assert_eq!(seen().await.outcome, Some(Outcome::Lost));

    let mut goes_on = RunRecord::new(name("job"), open.run, second);
    goes_on.token = Some(FencingToken(2));
    write(&goes_on).await;
    write(&open).await;
    let seen = seen().await;
    assert_eq!((seen.outcome, seen.node), (None, second));
}

/// Each connection of the history writes its plans into the server's log.
const EXPLAINED: &str = "?options=-c%20session_preload_libraries%3Dauto_explain%20-c%20auto_explain.log_min_duration%3D0%20\
                         -c%20auto_explain.log_format%3Djson";

/// Runs of 200 jobs, rows of jobs, decisions and operations, one after another, and how many indexes of each table can
/// be made anew.
const FILLS: [(&str, usize, &str); 4] = [
    ("history_runs", 3, "
INSERT INTO callsheet.history_runs (scope, run, job, key, slot, origin, node, started_at, ended_at, lateness, took, outcome, attempt)
SELECT CASE WHEN n % 4 = 0 THEN 'other' ELSE 'big' END,
       (lpad(to_hex(1767225600000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid, 'job-' || n % 200, 'job', 0, 'tick',
       gen_random_uuid(), to_timestamp(1767225600 + n / 1000.0), to_timestamp(1767225600 + n / 1000.0), 0, n,
       CASE WHEN n % 1000 = 1 THEN 'failed' ELSE 'succeeded' END, 1
FROM generate_series(1, $1::int8) AS g (n)"),
    ("history_jobs", 1, "
INSERT INTO callsheet.history_jobs (scope, job, runs) SELECT CASE WHEN n % 4 = 0 THEN 'other' ELSE 'big' END, 'job-' || n, 1
     FROM generate_series(1, $1::int8) AS g (n)"),
    ("history_decisions", 2, "
INSERT INTO callsheet.history_decisions (scope, at, node, job, reason, lost, decision)
     SELECT CASE WHEN n % 4 = 0 THEN 'other' ELSE 'big' END, to_timestamp(1767225600 + n), gen_random_uuid(),
            CASE WHEN n % 100 = 1 THEN '' ELSE 'job-' || n % 200 END, 'paused', gen_random_uuid(),
            '{\"decision\": \"skipped\", \"reason\": \"paused\", \"count\": 1, \"at_least\": false, \"text\": null, \"run\": null}'
     FROM generate_series(1, $1::int8) AS g (n)"),
    ("history_operations", 2, "
INSERT INTO callsheet.history_operations (scope, at, node, number, job, operation)
     SELECT CASE WHEN n % 4 = 0 THEN 'other' ELSE 'big' END, to_timestamp(1767225600 + n), gen_random_uuid(), n, 'job-' || n % 200, 'paused'
     FROM generate_series(1, $1::int8) AS g (n)"),
];

/// How many rows each table has.
const ROWS: i64 = 1_000_000;

/// Each part of a plan that reads all of a table, or of an index.
fn reads_all(plan: &Value, found: &mut Vec<String>) {
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    let unbounded = kind.contains("Index") && plan["Index Cond"].is_null();
    if table.starts_with("history_") && (kind == "Seq Scan" || unbounded) {
        found.push(format!("{kind} of {table}"));
    }
    let parts = plan["Plans"].as_array();
    parts.into_iter().flatten().for_each(|part| reads_all(part, found));
}

/// The plans that a server wrote since its log had this length.
fn plans(log: &PathBuf, from: u64) -> Vec<(String, Value)> {
    let mut file = File::open(log).expect("the server writes a log");
    file.seek(SeekFrom::Start(from)).expect("it is a file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("it can be read");
    let entries = text.split("  plan:\n").skip(1);
    let parsed =
        entries.filter_map(|entry| serde_json::Deserializer::from_str(entry).into_iter::<Value>().next());
    let parsed = parsed.map(|plan| plan.expect("a plan is JSON"));
    parsed
        .map(|plan| (plan["Query Text"].as_str().unwrap_or_default().to_owned(), plan["Plan"].clone()))
        .collect()
}

/// Its indexes but the first are made anew: that is much faster than to fill them row by row.
async fn fill(admin: &Client, table: &str, count: usize, rows: &str) {
    let others = "SELECT indexname::text, indexdef FROM pg_indexes
                  WHERE schemaname = 'callsheet' AND tablename = $1 AND indexdef NOT LIKE 'CREATE UNIQUE%'";
    let others = admin.query(others, &[&table]).await.expect("an answer");
    assert_eq!(others.len(), count, "of {table}");
    for index in &others {
        let dropped = format!("DROP INDEX callsheet.{}", index.get::<_, String>(0));
        admin.batch_execute(&dropped).await.expect("an answer");
    }
    admin.execute(rows, &[&ROWS]).await.expect("it is filled");
    for index in &others {
        admin.batch_execute(&index.get::<_, String>(1)).await.expect("an answer");
    }
}

#[tokio::test]
async fn every_question_finds_its_rows_by_an_index() {
    let server = Server::start();
    let history = history("big", &format!("{}{EXPLAINED}", server.url())).await;
    let admin = connect(&server.url()).await;
    // Nothing of it has to outlive the server.
    admin
        .batch_execute("SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        .await
        .expect("an answer");
    for (table, indexes, rows) in FILLS {
        fill(&admin, table, indexes, rows).await;
    }
    admin.batch_execute("ANALYZE").await.expect("an answer");
    let log = server.socket_directory().join("log");
    let from = log.metadata().expect("there is a log").len();
    let instant = |text: &str| text.parse::<DateTime<Utc>>().expect("an instant");
    let (one, two) = (instant("2026-01-01T00:01:00Z"), instant("2026-01-01T00:01:10Z"));
    let before = RunId::first_at(one);
    let of_job = || RunHistory::new().job(name("job-7"));

    let asked = [
        RunHistory::new(),
        RunHistory::new().before(before),
        RunHistory::new().from(one).to(two),
        RunHistory::new().outcome(Outcome::Failed),
        RunHistory::new().outcome(Outcome::Failed).from(one).to(two),
        of_job(),
        of_job().before(before),
        of_job().from(one).to(two),
        RunHistory::new().fire_times(name("job-7"), one..two),
        of_job().outcome(Outcome::Succeeded),
        of_job().outcome(Outcome::Succeeded).before(before),
        of_job().outcome(Outcome::TimedOut),
    ];
    for asked in &asked {
        let began = Instant::now();
        history.runs(asked).await.expect("an answer");
        eprintln!("{:?} {asked:?}", began.elapsed());
    }
    for job in [None, Some(name("job-7"))] {
        let decisions = Decisions::new();
        let operations = Operations::new();
        let (decisions, operations) = match job {
            Some(job) => (decisions.job(job.clone()), operations.job(job)),
            None => (decisions, operations),
        };
        let page = history.decisions(&decisions).await.expect("an answer");
        assert_eq!(page.decisions.len(), 100);
        history.decisions(&decisions.clone().before(page.next).from(one)).await.expect("an answer");
        let page = history.operations(&operations).await.expect("an answer");
        assert_eq!(page.operations.len(), 100);
        history.operations(&operations.clone().before(page.next).from(one)).await.expect("an answer");
    }
    for of in [RecordsOf::Runs, RecordsOf::Decisions, RecordsOf::Operations] {
        for (job, from, to) in [(None, None, None), (Some(name("job-7")), Some(one), Some(two))] {
            history.gaps(&AskGaps { of, job, from, to }).await.expect("an answer");
        }
    }
    history.job(&JobHistory(name("job-7"))).await.expect("an answer").expect("it is known");
    let names: Vec<_> = (0..LAST_ENDS_MAX).map(|nth| name(&format!("job-{nth}"))).collect();
    assert!(history.last_ends(&names).await.expect("an answer").len() > LAST_ENDS_MAX / 2);
    let run = history.runs(&of_job()).await.expect("an answer").runs.remove(0);
    let again: RunRecord = run;
    let mut batch = Batch::default();
    batch.runs.push(again);
    history.write(&batch).await.expect("it is written");
    let old = Retention::default();
    history.prune(instant("2026-02-01T00:00:00Z"), &old).await.expect("an answer");
    history.prune(instant("2026-01-01T00:00:00Z"), &old).await.expect("an answer");

    let plans = plans(&log, from);
    assert!(plans.len() >= 32, "{}", plans.len());
    for (text, plan) in plans.iter().filter(|(text, _)| text.contains("history_")) {
        let mut found = Vec::new();
        reads_all(plan, &mut found);
        assert!(found.is_empty(), "{found:?} in {text}\n{plan:#}");
    }
}
