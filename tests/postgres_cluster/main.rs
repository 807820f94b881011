//! The policies of jobs on several nodes of a real PostgreSQL server, as an application meets them: nodes
//! that stop, lose their sessions or are killed meanwhile.

#![allow(clippy::print_stdout, reason = "what a node that is killed says to its parent")]

#[path = "../common/postgres.rs"]
mod harness;
#[path = "../process/mod.rs"]
mod process;

use std::{collections::BTreeSet, env, process::Command, sync::OnceLock, time::Duration};

use callsheet::{
    AddError, CancelReason, Error, Event, EventFilter, EventKind, EventStream, FencingToken, FireTime, Fires,
    Job, JobName, JobState, JobStatus, LockKey, Misfire, NodeId, OnLost, Overlap, PauseJobs, Retry, Run,
    RunError, RunId, RunResult, Scheduled, SkipReason, TriggerError, Triggered,
    backend::Postgres,
    metrics::Prometheus,
    port::{Backend, ClaimRequest, Verdict},
    prelude::Callsheet,
    schedule::{at, every},
};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use rustix::process::Signal;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls, types::ToSql};

use self::{
    harness::{scope, server},
    process::{DEADLINE, Process},
};

mod changes;
mod lost_runs;
mod overlap;
mod pauses;
mod who_fires;

const JOB: &str = "job";

const PERIOD: Duration = Duration::from_millis(100);

/// What one node asks another one is done within this time.
const HEARD_WITHIN: TimeDelta = TimeDelta::seconds(1);

/// How often it is looked at what no event tells.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

const OPEN_RUNS: &str = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND run IS NOT NULL";

/// The nodes of one scope, what their bodies say, and somebody who looks at the tables.
struct Cluster {
    scope: String,
    admin: Client,
    begin: mpsc::UnboundedSender<Begun>,
    begun: mpsc::UnboundedReceiver<Begun>,
}

/// A run whose body waits to be told how it ends.
struct Begun {
    on: NodeId,
    run: Run,
    end: oneshot::Sender<RunResult>,
}

impl Begun {
    fn ends(self, result: RunResult) {
        // An error: it was cancelled meanwhile.
        let _ = self.end.send(result);
    }

    fn succeeds(self) {
        self.ends(Ok(()));
    }

    fn fire_time(&self) -> DateTime<Utc> {
        self.run.fire_time().expect("a tick")
    }

    fn token(&self) -> Option<FencingToken> {
        self.run.token()
    }
}

/// A run that ended, as the store knows it.
#[derive(Debug, PartialEq, Eq)]
struct Recorded {
    job: String,
    run: RunId,
    token: i64,
    fire_time: Option<DateTime<Utc>>,
    claimed_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    outcome: String,
}

impl Cluster {
    async fn of(test: &str) -> Self {
        let (begin, begun) = mpsc::unbounded_channel();
        let (admin, connection) =
            tokio_postgres::connect(&server().url(), NoTls).await.expect("a connection");
        tokio::spawn(connection);
        Self { scope: scope(test), admin, begin, begun }
    }

    async fn start(&self) -> Node {
        let backend = Postgres::new(&self.scope, server().url());
        let builder = Callsheet::builder().backend(backend).arbiters(1).body_threads(1);
        let jobs = builder.start().await.expect("it starts");
        let events = jobs.events(EventFilter::new().buffer(100_000));
        let id = jobs.health().await.expect("it runs").node;
        Node { id, jobs, events, begin: self.begin.clone() }
    }

    /// A node that leads, and one that does not.
    async fn pair(&self) -> [Node; 2] {
        let mut leader = self.start().await;
        leader.leads().await;
        [leader, self.start().await]
    }

    /// The same, both with a job whose bodies are [`begun`](Self::begun).
    async fn pair_with(&self, job: impl Fn() -> Job<callsheet::Bodiless>) -> [Node; 2] {
        let [leader, follower] = self.pair().await;
        assert_eq!(leader.add(job()).await, Scheduled::Here);
        self.leader_schedules().await;
        assert_eq!(follower.add(job()).await, Scheduled::ByLeader);
        [leader, follower]
    }

    /// The same, with a job whose bodies end at once.
    async fn pair_that_runs(&self, job: impl Fn() -> Job<callsheet::Bodiless>) -> ([Node; 2], Ran) {
        let ([leader, follower], ran) = (self.pair().await, Ran::nothing());
        assert_eq!(ran.on(&leader, job()).await, Scheduled::Here);
        self.leader_schedules().await;
        assert_eq!(ran.on(&follower, job()).await, Scheduled::ByLeader);
        ([leader, follower], ran)
    }

    /// Until a job is marked with the leader's term: before, a follower may fire it.
    async fn leader_schedules(&self) {
        let marked = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND term IS NOT NULL";
        while self.number(marked, &[&self.scope]).await == 0 {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The next body that begins, on whatever node.
    async fn begun(&mut self) -> Begun {
        timeout(DEADLINE, self.begun.recv()).await.expect("a body begins").expect("nodes that can begin one")
    }

    async fn begun_on(&mut self, node: &Node) -> Begun {
        loop {
            let begun = self.begun().await;
            if begun.on == node.id {
                return begun;
            }
            begun.succeeds();
        }
    }

    /// Begins a run of the job on a node that is not the leader, while no tick is in its way.
    async fn hold_on(&mut self, holder: &Node) -> Begun {
        holder.jobs.pause(JOB).await.expect("it is paused");
        // A tick may have been granted before.
        while self.number(OPEN_RUNS, &[&self.scope]).await > 0 {
            if let Ok(begun) = self.begun.try_recv() {
                begun.succeeds();
            }
            sleep(LOOK_AGAIN).await;
        }
        let Ok(Triggered::Started(run)) = triggered(&holder.jobs).await else { panic!("the key is free") };
        let held = self.begun_on(holder).await;
        assert_eq!(held.run.id(), run);
        holder.jobs.resume(JOB).await.expect("it is resumed");
        held
    }

    async fn number(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> i64 {
        self.admin.query_one(query, parameters).await.expect("an answer").get(0)
    }

    /// The runs that ended, in the order of their claims.
    async fn runs(&self) -> Vec<Recorded> {
        let runs = "SELECT run, token, fire_time, claimed_at, ended_at, outcome, job FROM callsheet.runs
                    WHERE scope = $1 ORDER BY claimed_at, token";
        let rows = self.admin.query(runs, &[&self.scope]).await.expect("an answer");
        let recorded = |row: &tokio_postgres::Row| Recorded {
            run: RunId::from(row.get::<_, uuid::Uuid>(0)),
            token: row.get(1),
            fire_time: row.get(2),
            claimed_at: row.get(3),
            ended_at: row.get(4),
            outcome: row.get(5),
            job: row.get(6),
        };
        rows.iter().map(recorded).collect()
    }

    async fn now(&self) -> DateTime<Utc> {
        self.admin.query_one("SELECT clock_timestamp()", &[]).await.expect("an answer").get(0)
    }

    async fn cursor(&self) -> DateTime<Utc> {
        let cursor = "SELECT cursor FROM callsheet.names WHERE scope = $1 AND cursor IS NOT NULL";
        self.admin.query_one(cursor, &[&self.scope]).await.expect("one job").get(0)
    }

    /// Ends the session of a node, as a fault of the network does.
    async fn cut(&self, node: &Node) {
        let cut = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
                   WHERE application_name LIKE 'callsheet ' || $1 || ' session %'";
        assert_eq!(self.number(cut, &[&node.short_id()]).await, 1);
    }

    /// Says what each node costs the server, then stops them.
    async fn close(&self, nodes: impl IntoIterator<Item = Node>) {
        let connections = "SELECT count(*) FROM pg_stat_activity
                           WHERE application_name LIKE 'callsheet ' || $1 || ' %'
                             AND application_name NOT LIKE 'callsheet ' || $1 || ' history %'";
        // They coordinate nothing.
        let of_history = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'callsheet ' || $1 || ' history %'";
        let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                     WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE 'callsheet ' || $1 || ' %'";
        let nodes: Vec<_> = nodes.into_iter().collect();
        for node in &nodes {
            let id = node.short_id();
            assert_eq!(self.number(connections, &[&id]).await, 2);
            assert!((0..=2).contains(&self.number(of_history, &[&id]).await));
            assert!((1..=2).contains(&self.number(locks, &[&id]).await));
        }
        for node in nodes {
            node.stop().await;
        }
    }
}

struct Node {
    id: NodeId,
    jobs: Callsheet,
    events: EventStream,
    begin: mpsc::UnboundedSender<Begun>,
}

impl Node {
    /// As its connections are called on the server.
    fn short_id(&self) -> String {
        self.id.as_uuid().simple().to_string()[..12].to_owned()
    }

    /// Adds a job whose bodies are [`begun`](Cluster::begun).
    async fn add(&self, job: Job<callsheet::Bodiless>) -> Scheduled {
        let job = job.run_with((self.id, self.begin.clone()), body);
        self.jobs.add(job).await.expect("it is right").scheduled
    }

    /// The next event of which `wanted` says yes.
    async fn hears(&mut self, what: &str, wanted: impl Fn(&EventKind) -> bool) -> Event {
        let heard = async {
            loop {
                let event = self.events.next().await.expect("the node runs");
                if wanted(&event.kind) {
                    return event;
                }
            }
        };
        timeout(DEADLINE, heard).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn leads(&mut self) {
        if self.jobs.health().await.expect("it runs").term.is_none() {
            self.hears("it leads", |kind| matches!(kind, EventKind::LeadershipGained { .. })).await;
        }
    }

    async fn skips(&mut self, wanted: SkipReason) -> Event {
        let skipped =
            |kind: &EventKind| matches!(kind, EventKind::TickSkipped { reason, .. } if *reason == wanted);
        self.hears(wanted.as_str(), skipped).await
    }

    /// The same, of a tick that comes later than this.
    async fn skips_after(&mut self, instant: DateTime<Utc>, wanted: SkipReason) {
        let later = |kind: &EventKind| {
            matches!(kind, EventKind::TickSkipped { fire_time, reason, .. }
                if *reason == wanted && fire_time.instant() > instant)
        };
        self.hears(wanted.as_str(), later).await;
    }

    async fn meets(&mut self, run: RunId) -> Event {
        let contended = |kind: &EventKind| matches!(kind, EventKind::LockContended { holder, .. } if *holder == Some(run));
        self.hears("it finds the key held", contended).await
    }

    async fn status(&self) -> JobStatus {
        self.jobs.details(JOB).await.expect("it holds the job")
    }

    /// Until the job's status is as wanted: nothing is said of it on this node.
    async fn shows(&self, what: &str, wanted: impl Fn(&JobStatus) -> bool) -> JobStatus {
        let shown = async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(DEADLINE, shown).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn stop(self) {
        let report = self.jobs.shutdown(Duration::ZERO).await;
        assert_eq!((report.aborted, report.still_running), (0, 0), "{report}");
    }
}

/// Says that it has begun, and ends as it is told, or when it is cancelled.
async fn body(run: Run, (on, begin): (NodeId, mpsc::UnboundedSender<Begun>)) -> RunResult {
    let (end, ended) = oneshot::channel();
    let begun = Begun { on, run: run.clone(), end };
    begin.send(begun).map_err(|_| "the test is over")?;
    tokio::select! {
        () = run.cancelled() => Ok(()),
        result = ended => result.unwrap_or(Ok(())),
    }
}

fn job() -> Job<callsheet::Bodiless> {
    Job::new(JOB, every(PERIOD))
}

/// A job that no tick runs while this is tested.
fn by_hand() -> Job<callsheet::Bodiless> {
    Job::new(JOB, at("2100-01-01T00:00:00Z"))
}

fn period() -> TimeDelta {
    TimeDelta::from_std(PERIOD).expect("a short time")
}

/// Says that a trigger was refused for a run in progress.
/// What became of a trigger.
async fn triggered(jobs: &Callsheet) -> Result<Triggered, Error> {
    jobs.trigger(JOB).await.map(|run| run.triggered())
}

/// Says that each of these is a tick of its own.
fn assert_distinct(fire_times: &[DateTime<Utc>]) {
    let distinct: BTreeSet<_> = fire_times.iter().collect();
    assert_eq!(distinct.len(), fire_times.len(), "a tick ran twice: {fire_times:?}");
}

/// Says that every tick from the first that ran to the newest that is decided ran once, or was skipped for a
/// reason that somebody said, and that whatever ran is recorded.
fn assert_nothing_was_lost(
    ran: &[DateTime<Utc>],
    recorded: &[Recorded],
    cursor: DateTime<Utc>,
    said: &[Event],
) {
    assert_distinct(ran);
    let of_ticks: Vec<_> = recorded.iter().filter_map(|run| run.fire_time).collect();
    assert_distinct(&of_ticks);
    let mut decided: BTreeSet<_> = of_ticks.iter().copied().collect();
    assert!(ran.iter().all(|tick| decided.contains(tick)), "a run is not recorded");
    for event in said {
        if let EventKind::TickSkipped { fire_time, count, .. } = event.kind {
            let newest = fire_time.instant();
            let count = i32::try_from(count).expect("few");
            decided.extend((0..count).map(|before| newest - period() * before));
        }
    }
    let mut tick = *of_ticks.first().expect("a run");
    while tick <= cursor {
        assert!(decided.contains(&tick), "nobody said what became of {tick}, before {cursor}");
        tick += period();
    }
    assert!(of_ticks.iter().all(|tick| *tick <= cursor), "the cursor {cursor} is behind {of_ticks:?}");
}

fn rest_of(mut events: EventStream) -> Vec<Event> {
    let mut rest = Vec::new();
    // Or the runtime would have the task yield after 128 of them, as if there were no more.
    while let Some(Some(event)) =
        futures_util::FutureExt::now_or_never(tokio::task::unconstrained(events.next()))
    {
        rest.push(event);
    }
    rest
}

fn recorder() -> &'static Prometheus {
    static RECORDER: OnceLock<Prometheus> = OnceLock::new();
    RECORDER.get_or_init(|| Prometheus::install().expect("no other recorder"))
}

/// A counter of the nodes of a cluster, by its name and the labels after that of the scope.
fn counted(cluster: &Cluster, (metric, labels): (&str, &str)) -> u64 {
    let series = format!("{metric}{{scope=\"{}\",{labels}}}", cluster.scope);
    let text = recorder().render();
    let line = text.lines().find_map(|line| line.strip_prefix(&*series));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

/// The series of a metric with these labels, and others.
fn all_counted(cluster: &Cluster, (metric, labels): (&str, &str)) -> Vec<(String, u64)> {
    let series = format!("{metric}{{scope=\"{}\",{labels},", cluster.scope);
    let text = recorder().render();
    let lines = text.lines().filter_map(|line| line.strip_prefix(&*series)?.rsplit_once(' '));
    lines.map(|(others, count)| (others.to_owned(), count.parse().expect("a number"))).collect()
}

/// The ticks that ran.
struct Ran {
    write: mpsc::UnboundedSender<(NodeId, DateTime<Utc>)>,
    written: mpsc::UnboundedReceiver<(NodeId, DateTime<Utc>)>,
    ticks: Vec<(NodeId, DateTime<Utc>)>,
}

impl Ran {
    fn nothing() -> Self {
        let (write, written) = mpsc::unbounded_channel();
        Self { write, written, ticks: Vec::new() }
    }

    /// A job of the node whose bodies write their ticks down, and end.
    fn job_of(&self, node: &Node, job: Job<callsheet::Bodiless>) -> Job {
        job.run_with((node.id, self.write.clone()), async |run: Run, (node, write)| {
            write.send((node, run.fire_time().ok_or("a tick")?)).map_err(|_| "the test is over")?;
            RunResult::Ok(())
        })
    }

    /// Adds such a job to the node.
    async fn on(&self, node: &Node, job: Job<callsheet::Bodiless>) -> Scheduled {
        node.jobs.add(self.job_of(node, job)).await.expect("it is right").scheduled
    }

    /// Waits for so many more runs on a node. Answers their ticks.
    async fn await_on(&mut self, node: &Node, count: usize) -> Vec<DateTime<Utc>> {
        let mut ticks = Vec::new();
        while ticks.len() < count {
            let next = timeout(DEADLINE, self.written.recv()).await.expect("the job runs");
            let (by, tick) = next.expect("a sender is at hand");
            self.ticks.push((by, tick));
            if by == node.id {
                ticks.push(tick);
            }
        }
        ticks
    }

    /// Waits for three runs of ticks after an instant on a node.
    async fn await_after(&mut self, node: &Node, instant: DateTime<Utc>) {
        let mut after = 0;
        while after < 3 {
            let ticks = self.await_on(node, 1).await;
            after += ticks.iter().filter(|tick| **tick > instant).count();
        }
    }

    /// The ticks after this one that ran on a node, as far as is known.
    fn on_after(&self, node: &Node, tick: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let later = self.ticks.iter().filter(|(by, ran)| *by == node.id && *ran > tick);
        later.map(|(_, tick)| *tick).collect()
    }

    /// Waits for so many more runs, on whatever nodes.
    async fn await_any(&mut self, count: usize) {
        for _ in 0..count {
            let next = timeout(DEADLINE, self.written.recv()).await.expect("the job runs");
            self.ticks.push(next.expect("a sender is at hand"));
        }
    }

    /// The nodes have stopped: the ticks that ran in all.
    fn all(mut self) -> Vec<DateTime<Utc>> {
        while let Ok(ran) = self.written.try_recv() {
            self.ticks.push(ran);
        }
        self.ticks.into_iter().map(|(_, tick)| tick).collect()
    }
}

/// A job with a tick so far off is never over.
const FAR_OFF: TimeDelta = TimeDelta::days(1);
