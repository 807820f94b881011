//! What an operator can do to a database under a running node is noticed: in the health, the metrics and the
//! log, and is over when it is mended.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    FireTime, HealthReport, JobName, LockKey, NodeId, Operation, Outcome, Pause, Problem, RunId, SkipReason,
    backend::Postgres,
    metrics::Prometheus,
    port::{
        Advanced, Authority, Backend, ClaimRequest, Clock, Completed, Completion, CursorAdvance, Enrolled,
        Enrolment, Proof, ScheduleIdentity, Skips, SystemClock, Verdict,
    },
    prelude::*,
};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::time::sleep;
use tokio_postgres::Client;

use self::{
    harness::{PASSWORD, Server, connect, server},
    log::Log,
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(2);

/// A database of its own for one case, whose nodes have a role of their own that owns nothing.
struct Case {
    /// Which is in the log, since each case has a schema of its own.
    schema: String,
    admin: Client,
    url: String,
}

impl Case {
    async fn new(server: &Server, name: &str) -> Self {
        let root = connect(&server.url()).await;
        let made =
            [format!("CREATE DATABASE {name}"), format!("CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")];
        for statement in made {
            root.batch_execute(&statement).await.expect("it is made");
        }
        let base = format!("127.0.0.1:{}/{name}", server.port());
        let admin = connect(&format!("postgres://{}:{PASSWORD}@{base}", harness::USER)).await;
        admin.batch_execute("SET default_transaction_read_only = off").await.expect("it may");
        let case =
            Self { schema: name.to_owned(), admin, url: format!("postgres://{name}:{PASSWORD}@{base}") };
        case.make_tables().await;
        case
    }

    fn backend(&self) -> Postgres {
        Postgres::new("silence", &self.url).schema(&self.schema).migrate(false).lease(LEASE)
    }

    async fn make_tables(&self) {
        self.run(&self.backend().ddl()).await;
        self.run(&format!(
            "GRANT USAGE ON SCHEMA {name} TO {name};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {name}",
            name = self.schema
        ))
        .await;
    }

    /// Runs statements as the owner, in which `$` stands for the schema, which is the role's name as well.
    async fn run(&self, statements: &str) {
        let statements =
            statements.replace("$.", &format!("{}.", self.schema)).replace("$ROLE", &self.schema);
        self.admin.batch_execute(&statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// A node with a job that is due soon, if `busy`, or else not for months.
    async fn node(&self, busy: bool) -> Callsheet {
        let schedule = if busy { "* * * * * *" } else { "0 0 1 1 *" };
        let job = Job::new("job", cron(schedule)).run(async |_| {});
        Callsheet::builder().backend(self.backend()).job(job).start().await.expect("it starts")
    }
}

/// The clock of a machine that is behind the server's, which is then ahead of it.
#[derive(Debug, Clone, Default)]
struct Behind {
    seconds: Arc<AtomicI64>,
    right: SystemClock,
}

impl Clock for Behind {
    fn now(&self) -> DateTime<Utc> {
        self.right.now() - TimeDelta::seconds(self.seconds.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        self.right.elapsed()
    }
}

/// Waits until the health is as it should be.
async fn until(what: &str, jobs: &Callsheet, is: impl Fn(&HealthReport) -> bool) -> HealthReport {
    let until = Instant::now() + DEADLINE;
    loop {
        let health = jobs.health().await.expect("it runs");
        if is(&health) {
            return health;
        }
        assert!(Instant::now() < until, "not {what}: {health:?}\n{}", Log::keep().text());
        sleep(Duration::from_millis(50)).await;
    }
}

/// How often operations have failed in this process.
fn errors() -> u64 {
    static PROMETHEUS: Mutex<Option<Prometheus>> = Mutex::new(None);
    let mut prometheus = PROMETHEUS.lock().expect("nobody panicked");
    let prometheus = prometheus.get_or_insert_with(|| Prometheus::install().expect("the only one"));
    let text = prometheus.render();
    let values = text.lines().filter(|line| line.starts_with("callsheet_coordination_errors_total"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}

/// A fault, what it looks like, and its mending.
struct Fault {
    name: &'static str,
    /// Statements, of which each element is one transaction. `$.` is the schema, `$ROLE` the role of the
    /// nodes.
    breaks: &'static [&'static str],
    mends: &'static [&'static str],
    /// A part of the reason of at least one problem.
    reason: &'static str,
}

/// Breaks a store under a leader with a job that is due every second, or with none that is due, and under a
/// follower.
async fn assert_noticed(fault: &Fault, busy: bool) {
    let log = Log::keep();
    errors();
    let Fault { name, breaks, mends, reason } = fault;
    // What concerns a whole server concerns no other test.
    let own = (*name == "read_only").then(Server::start);
    let server = own.as_ref().unwrap_or_else(|| server());
    let case = Case::new(server, &format!("{name}_{}", if busy { "busy" } else { "idle" })).await;
    let leader = case.node(busy).await;
    until("leading", &leader, |health| health.term.is_some()).await;
    let follower = case.node(busy).await;
    until("following", &follower, |health| health.healthy && health.leader.is_some()).await;
    let nodes = [&leader, &follower];
    let (before, logged) = (errors(), log.text().len());

    for statement in *breaks {
        case.run(statement).await;
    }
    let broken_at = Instant::now();
    for node in nodes {
        let health = until("unhealthy", node, |health| !health.healthy).await;
        assert!(health.live, "{name}: {health:?}");
        until("explained", node, |health| {
            health.problems.iter().any(|problem| problem.to_string().contains(reason))
        })
        .await;
    }
    // Within two leases, and a net for a busy machine.
    assert!(broken_at.elapsed() < 2 * LEASE + Duration::from_secs(8), "{name}: {:?}", broken_at.elapsed());
    sleep(Duration::from_secs(3)).await;
    assert!(errors() > before, "{name}: it is not counted");
    let said = log.text()[logged..].to_owned();
    let warnings: Vec<_> =
        said.lines().filter(|line| line.contains("WARN") && line.contains("the store")).collect();
    assert!(warnings.iter().any(|line| line.contains(reason)), "{name}: {said}");
    let distinct = warnings.len();
    assert!(distinct <= 24, "{name}: {distinct} lines\n{}", warnings.join("\n"));
    // Other stories of this program make their roles meanwhile.
    let by_a_node = |line: &&str| !line.contains("CREATE ROLE");
    let leaking: Vec<_> = said.lines().filter(by_a_node).filter(|line| line.contains(PASSWORD)).collect();
    assert!(leaking.is_empty(), "{name}: {leaking:?}");

    for statement in *mends {
        case.run(statement).await;
    }
    if mends.is_empty() {
        case.make_tables().await;
    }
    for node in nodes {
        let health = until("healthy", node, |health| health.healthy).await;
        assert!(health.ready && health.problems.is_empty(), "{name}: {health:?}");
    }
    let said = log.text()[logged..].to_owned();
    assert!(said.contains("the store is well again"), "{name}: {said}");
    for node in nodes {
        node.shutdown(Duration::from_secs(1)).await;
    }
}

/// How a store is made to refuse, as an operator, a migration gone wrong or a full disk does it.
const FAULTS: [Fault; 8] = [
    Fault {
        name: "revoked",
        breaks: &["REVOKE UPDATE ON $.leader FROM $ROLE"],
        mends: &["GRANT UPDATE ON $.leader TO $ROLE"],
        reason: "permission denied for table leader",
    },
    Fault {
        name: "unwritable",
        breaks: &["REVOKE UPDATE ON $.names FROM $ROLE"],
        mends: &["GRANT UPDATE ON $.names TO $ROLE"],
        reason: "permission denied for table names",
    },
    Fault {
        name: "endless",
        breaks: &["REVOKE INSERT ON $.runs FROM $ROLE"],
        mends: &["GRANT INSERT ON $.runs TO $ROLE"],
        reason: "permission denied for table runs",
    },
    Fault {
        name: "full",
        breaks: &["CREATE FUNCTION $.full() RETURNS trigger LANGUAGE plpgsql AS
                   $$BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END$$;
                   CREATE TRIGGER full_leader BEFORE INSERT OR UPDATE ON $.leader
                   FOR EACH ROW EXECUTE FUNCTION $.full();
                   CREATE TRIGGER full_names BEFORE INSERT OR UPDATE ON $.names
                   FOR EACH ROW EXECUTE FUNCTION $.full()"],
        mends: &["DROP FUNCTION $.full() CASCADE"],
        reason: "could not extend file",
    },
    Fault {
        name: "swallowed",
        breaks: &["CREATE FUNCTION $.swallow() RETURNS trigger LANGUAGE plpgsql AS
                   $$BEGIN RETURN NULL; END$$;
                   CREATE TRIGGER swallow_leader BEFORE INSERT OR UPDATE ON $.leader
                   FOR EACH ROW EXECUTE FUNCTION $.swallow();
                   CREATE TRIGGER swallow_names BEFORE INSERT OR UPDATE ON $.names
                   FOR EACH ROW EXECUTE FUNCTION $.swallow()"],
        mends: &["DROP FUNCTION $.swallow() CASCADE"],
        reason: "a trigger or row security drops the change",
    },
    Fault {
        name: "secured",
        breaks: &[
            "ALTER TABLE $.leader ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE $.names ENABLE ROW LEVEL SECURITY",
        ],
        mends: &[
            "ALTER TABLE $.leader DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE $.names DISABLE ROW LEVEL SECURITY",
        ],
        reason: "row security",
    },
    Fault {
        name: "read_only",
        breaks: &["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
        mends: &["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
        // Of the transaction, or of a session that was opened meanwhile.
        reason: "read-only",
    },
    Fault {
        name: "dropped",
        breaks: &["DROP SCHEMA $ROLE CASCADE"],
        mends: &[],
        // Of a session that was lost by it, and may not migrate.
        reason: "is not there, or not complete",
    },
];

fn fault(name: &str) -> &'static Fault {
    FAULTS.iter().find(|fault| fault.name == name).expect("a fault")
}

macro_rules! each_is_noticed {
    ($($test:ident: $name:literal,)*) => {
        $(
            mod $test {
                use super::*;

                #[tokio::test]
                async fn while_jobs_are_due() {
                    assert_noticed(fault($name), true).await;
                }

                #[tokio::test]
                async fn while_nothing_is_due() {
                    assert_noticed(fault($name), false).await;
                }
            }
        )*
    };
}

each_is_noticed! {
    a_right_on_the_leader_that_is_revoked: "revoked",
    a_right_on_the_names_that_is_revoked: "unwritable",
    a_right_on_the_runs_that_is_revoked: "endless",
    a_full_disk: "full",
    a_trigger_that_swallows_changes: "swallowed",
    row_security_that_hides_all_rows: "secured",
    a_database_that_becomes_read_only: "read_only",
    a_schema_that_is_dropped: "dropped",
}

#[tokio::test]
async fn a_leader_row_that_is_blocked_is_noticed_and_over_when_it_is_free() {
    let log = Log::keep();
    let case = Case::new(server(), "blocked").await;
    let node = case.node(true).await;
    until("leading", &node, |health| health.term.is_some()).await;

    case.run("BEGIN; SELECT FROM $.leader FOR UPDATE").await;
    // On a busy machine it may be unhealthy for other reasons before.
    let blocked = |problem: &Problem| problem.to_string().contains("lock timeout");
    let health = until("blocked", &node, |health| health.problems.iter().any(blocked)).await;
    assert!(health.live && health.ready && !health.healthy, "{health:?}");
    sleep(Duration::from_secs(3)).await;
    let is_warning = |line: &&str| line.contains("WARN") && line.contains("lock timeout");
    let warnings = log.text().lines().filter(is_warning).count();
    assert!((1..=12).contains(&warnings), "{warnings} lines");

    case.run("ROLLBACK").await;
    until("healthy", &node, |health| health.healthy && health.term.is_some()).await;
    node.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_clock_ten_minutes_off_is_noticed() {
    let log = Log::keep();
    let case = Case::new(server(), "skewed").await;
    let clock = Behind::default();
    let job = Job::new("job", cron("* * * * * *")).run(async |_| {});
    let builder = Callsheet::builder().backend(case.backend()).clock(clock.clone()).job(job);
    let node = builder.start().await.expect("it starts");
    until("leading", &node, |health| health.healthy && health.term.is_some()).await;

    clock.seconds.store(600, Ordering::Relaxed);
    let health = until("unhealthy", &node, |health| !health.healthy && health.problems.len() > 1).await;

    assert!(health.live && health.ready, "{health:?}");
    let campaign = health.problems.iter().find(|it| it.operation() == Some(Operation::Campaign));
    assert!(campaign.is_some_and(|it| it.cure() == "synchronise the clocks"), "{health:?}");
    assert!(health.problems.iter().any(|it| matches!(it, Problem::NoLeader { .. })), "{health:?}");
    assert!(log.text().contains("synchronise the clocks"));
    clock.seconds.store(0, Ordering::Relaxed);
    until("healthy", &node, |health| health.healthy && health.term.is_some()).await;
    node.shutdown(Duration::from_secs(1)).await;
}

/// Each operation on rows whose changes a trigger drops without an error.
#[tokio::test]
async fn no_statement_that_changed_nothing_says_that_it_is_done() {
    let case = Case::new(server(), "dropping").await;
    let backend = case.backend();
    let (locker, name) = (backend.locker(), |name: &str| JobName::new(name).expect("a name"));
    locker.open().await.expect("a session");
    let enrolment =
        |job: &str| Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any);
    let enrolled = locker.enrol(&[enrolment("job"), enrolment("held")]).await.expect("an answer");
    let [Enrolled::Done { cursor, .. }, _] = enrolled[..] else { panic!("{enrolled:?}") };
    let run = |number| RunId::from(NodeId::numbered(number).as_uuid());
    let claim = |job: &str, number| ClaimRequest::new(name(job), LockKey::from(&name(job)), run(number));
    let granted = locker.claim(&[claim("held", 1)]).await.expect("an answer");
    let [Verdict::Granted { token, .. }] = granted[..] else { panic!("{granted:?}") };
    let to = FireTime::new(cursor + TimeDelta::milliseconds(1));
    let advanced = CursorAdvance {
        id: NodeId::numbered(1).as_uuid(),
        job: name("job"),
        expected: cursor,
        to: FireTime::new(to.instant().trunc_subsecs(3)),
        skips: Skips::new(SkipReason::Paused, 1, false),
        authority: Authority::Any,
    };
    sleep(Duration::from_millis(10)).await;

    for statement in fault("swallowed").breaks {
        case.run(statement).await;
    }

    let end = Completion::new(name("held"), LockKey::from(&name("held")), run(1), token, Outcome::Succeeded);
    assert_eq!(
        locker.enrol(&[enrolment("job"), enrolment("new")]).await.ok(),
        Some(vec![Enrolled::Locked; 2])
    );
    assert_eq!(locker.claim(&[claim("job", 2)]).await.ok(), Some(vec![Verdict::Locked { holder: None }]));
    assert_eq!(locker.complete(std::slice::from_ref(&end)).await.ok(), Some(vec![Completed::Locked]));
    assert_eq!(locker.advance(std::slice::from_ref(&advanced)).await.ok(), Some(vec![Advanced::Locked]));
    let pause = Pause::until_resumed();
    assert!(locker.pause(&[name("job")], Some(&pause)).await.is_err());
    assert!(locker.prove(Proof::default()).await.is_err());

    for statement in fault("swallowed").mends {
        case.run(statement).await;
    }
    assert_eq!(locker.advance(&[advanced]).await.ok(), Some(vec![Advanced::Done]));
    let completed = locker.complete(&[end]).await.expect("an answer");
    assert!(matches!(completed[..], [Completed::Recorded { .. }]), "{completed:?}");
    locker.prove(Proof::default()).await.expect("it could claim");
}

#[tokio::test]
async fn a_session_whose_row_cannot_be_looked_at_lives_on() {
    let case = Case::new(server(), "unseen_session").await;
    let backend = case.backend();
    backend.locker().open().await.expect("a session opens");
    let asks = "SELECT pid, query_start FROM pg_stat_activity WHERE application_name LIKE '% session % silence' AND usename = $1
                AND query LIKE '%true AS stands,%'";
    let (until, role) = (Instant::now() + DEADLINE, case.schema.as_str());

    case.run("REVOKE SELECT ON $.sessions FROM $ROLE").await;

    let mut beats = Vec::new();
    while beats.len() < 3 {
        assert!(Instant::now() < until, "heartbeats: {beats:?}");
        let row = case.admin.query_opt(asks, &[&role]).await.expect("an answer");
        let beat: Option<(i32, DateTime<Utc>)> = row.map(|row| (row.get(0), row.get(1)));
        beats.extend(beat.filter(|beat| beats.last() != Some(beat)));
        sleep(Duration::from_millis(20)).await;
    }
    assert!(beats.iter().all(|(pid, _)| *pid == beats[0].0), "another session: {beats:?}");
}
