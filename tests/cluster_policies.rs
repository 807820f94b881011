//! The policies of jobs on several nodes of a real PostgreSQL server, as an application meets them: nodes that stop, lose
//! their sessions or are killed meanwhile.

#![allow(clippy::print_stdout, reason = "what a node that is killed says to its parent")]

#[path = "common/postgres.rs"]
mod harness;
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
        let connections =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'callsheet ' || $1 || ' %'";
        let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                     WHERE l.locktype = 'advisory' AND l.granted AND a.application_name LIKE 'callsheet ' || $1 || ' %'";
        let nodes: Vec<_> = nodes.into_iter().collect();
        for node in &nodes {
            let id = node.short_id();
            assert_eq!(self.number(connections, &[&id]).await, 2);
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

fn assert_refused(refused: &Result<Triggered, Error>) {
    assert!(matches!(refused, Err(Error::Trigger(TriggerError::Overlap { .. }))), "{refused:?}");
}

fn assert_refused_for(refused: Result<Triggered, Error>, run: RunId) {
    assert_refused(&refused);
    let Err(Error::Trigger(TriggerError::Overlap { holder, .. })) = refused else { return };
    assert_eq!(holder, Some(run));
}

/// Says that each of these is a tick of its own.
fn assert_distinct(fire_times: &[DateTime<Utc>]) {
    let distinct: BTreeSet<_> = fire_times.iter().collect();
    assert_eq!(distinct.len(), fire_times.len(), "a tick ran twice: {fire_times:?}");
}

/// Says that every tick from the first that ran to the newest that is decided ran once, or was skipped for a reason that
/// somebody said, and that whatever ran is recorded.
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
    while let Some(Some(event)) = futures_util::FutureExt::now_or_never(events.next()) {
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

/// The other nodes find it out within half a minute.
#[tokio::test]
async fn a_job_that_the_leader_lets_go_of_goes_on_where_it_is_held_and_no_tick_is_lost_silently() {
    recorder();
    let cluster = Cluster::of("let-go").await;
    let ([leader, follower], mut ran) = cluster.pair_that_runs(|| Job::new("let-go", every(PERIOD))).await;
    let events =
        [&leader, &follower].map(|node| node.jobs.events(EventFilter::new().job("let-go").buffer(100_000)));
    ran.await_on(&leader, 3).await;

    leader.jobs.remove("let-go").await.expect("it is there");
    ran.await_after(&follower, cluster.now().await).await;
    cluster.close([leader, follower]).await;

    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
    let [due, started, missed] = [
        ("callsheet_ticks_due_total", "name=\"let-go\""),
        ("callsheet_ticks_total", "name=\"let-go\",outcome=\"started\""),
        ("callsheet_ticks_total", "name=\"let-go\",outcome=\"misfire\""),
    ]
    .map(|series| counted(&cluster, series));
    assert_eq!(due, started + missed);
}

/// The key is the name of the job that is refused: it is added without a question.
#[tokio::test]
async fn a_job_whose_key_the_leader_gives_another_policy_is_refused_until_it_has_stopped() {
    let cluster = Cluster::of("one-policy").await;
    let ([leader, mut follower], mut ran) = (cluster.pair().await, Ran::nothing());
    assert_eq!(ran.on(&leader, Job::new("led", every(PERIOD)).lock_key(JOB)).await, Scheduled::Here);
    cluster.leader_schedules().await;

    let keyed = Job::new("keyed", every(PERIOD)).lock_key(JOB).overlap(Overlap::Allow(2));
    let added = follower.jobs.add(keyed.run(async |_| {})).await;
    assert!(matches!(added, Err(Error::Add(AddError::Invalid(_)))), "{added:?}");
    assert_eq!(ran.on(&follower, job().overlap(Overlap::Allow(2))).await, Scheduled::ByHolders);
    follower.hears("it is refused", |kind| matches!(kind, EventKind::JobRefused { .. })).await;
    assert_eq!(follower.status().await.state, JobState::Refused);
    let triggered = triggered(&follower.jobs).await;
    assert!(matches!(triggered, Err(Error::Trigger(TriggerError::Refused { .. }))), "{triggered:?}");
    ran.await_on(&leader, 3).await;
    assert!(ran.on_after(&follower, DateTime::UNIX_EPOCH).is_empty(), "the key is the leader's");

    leader.stop().await;
    ran.await_on(&follower, 3).await;
    assert_eq!(follower.status().await.refused, None);
    cluster.close([follower]).await;
}

#[tokio::test]
async fn a_tick_that_any_node_may_fire_runs_on_one_of_them_whoever_stops_or_loses_its_session() {
    recorder();
    let cluster = Cluster::of("any").await;
    let [first, second, third] = [cluster.start().await, cluster.start().await, cluster.start().await];
    let (mut ran, mut events) = (Ran::nothing(), Vec::new());
    for node in [&first, &second, &third] {
        let any = Job::new("any", every(PERIOD)).fires(Fires::AnyNode);
        assert_eq!(ran.on(node, any).await, Scheduled::Here);
        events.push(node.jobs.events(EventFilter::new().job("any").buffer(100_000)));
    }

    ran.await_any(10).await;
    third.stop().await;
    ran.await_any(10).await;
    cluster.cut(&second).await;
    ran.await_any(10).await;
    first.stop().await;
    ran.await_after(&second, cluster.now().await).await;
    cluster.close([second]).await;

    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
    assert_eq!(cluster.number(OPEN_RUNS, &[&cluster.scope]).await, 0);
    let elsewhere = counted(&cluster, ("callsheet_ticks_elsewhere_total", "name=\"any\""));
    assert!(elsewhere > 0, "all but one come second");
}

#[tokio::test]
async fn a_job_that_only_a_follower_holds_runs_there_until_the_leader_holds_it_too() {
    let cluster = Cluster::of("by-holders").await;
    let [leader, mut follower] = cluster.pair().await;
    let mut ran = Ran::nothing();
    let events =
        [&leader, &follower].map(|node| node.jobs.events(EventFilter::new().job(JOB).buffer(100_000)));

    assert_eq!(ran.on(&follower, job()).await, Scheduled::ByHolders);
    ran.await_on(&follower, 5).await;
    assert_eq!(ran.on(&leader, job()).await, Scheduled::Here);
    let led = ran.await_on(&leader, 10).await;

    assert_eq!(follower.status().await.state, JobState::Standby, "it has met the mark of the leader");
    assert!(ran.on_after(&follower, led[0]).is_empty(), "the leader fires it");

    leader.stop().await;
    follower.leads().await;
    ran.await_after(&follower, cluster.now().await).await;
    cluster.close([follower]).await;
    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
}

#[tokio::test]
async fn a_tick_during_a_run_on_another_node_is_skipped() {
    let mut cluster = Cluster::of("skip").await;
    let [mut leader, follower] = cluster.pair_with(job).await;
    let held = cluster.hold_on(&follower).await;

    leader.meets(held.run.id()).await;
    leader.skips(SkipReason::Overlap).await;
    let refused = triggered(&leader.jobs).await;

    assert_refused_for(refused, held.run.id());
    let token = held.token();
    held.succeeds();
    let next = cluster.begun().await;
    assert_eq!(next.on, leader.id);
    assert!(next.token() > token);
    drop(next);
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_tick_waits_in_the_queue_for_the_end_of_a_run_on_another_node() {
    let mut cluster = Cluster::of("queue").await;
    let [mut leader, follower] = cluster.pair_with(|| job().overlap(Overlap::Queue(1))).await;
    let held = cluster.hold_on(&follower).await;

    leader.meets(held.run.id()).await;
    let queued = triggered(&leader.jobs).await;
    let Ok(Triggered::Queued(queued)) = queued else { panic!("{queued:?}") };
    assert_refused_for(triggered(&leader.jobs).await, queued);
    leader.skips(SkipReason::Overlap).await;
    assert!(cluster.begun.try_recv().is_err(), "the key is held");

    let ended_at = cluster.now().await;
    let token = held.token();
    held.succeeds();
    let (mut tokens, mut ticks, mut ran_queued) = (vec![token], Vec::new(), false);
    while !ran_queued || ticks.is_empty() {
        let begun = cluster.begun().await;
        assert_eq!(begun.on, leader.id);
        tokens.push(begun.token());
        ticks.extend(begun.run.fire_time());
        ran_queued |= begun.run.id() == queued;
        begun.succeeds();
    }
    assert!(tokens.is_sorted_by(|one, next| one < next), "one after the other: {tokens:?}");
    let tick = ticks[0];
    assert!(tick > ended_at - TimeDelta::seconds(1), "the freshest tick waits: {tick} at {ended_at}");
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_run_on_another_node_is_asked_to_stop_by_the_tick_that_replaces_it() {
    let mut cluster = Cluster::of("replace").await;
    let [mut leader, mut follower] = cluster.pair_with(|| job().overlap(Overlap::Replace)).await;
    let held = cluster.hold_on(&follower).await;
    let run = held.run.id();

    let met = leader.meets(run).await;
    let replaced = |kind: &EventKind| matches!(kind, EventKind::RunCancelled { run: ended, why: CancelReason::Replaced, .. } if *ended == run);
    let stopped = follower.hears("it is asked to stop", replaced).await;

    let took = stopped.at - met.at;
    assert!(took < HEARD_WITHIN, "after {took}");
    let next = cluster.begun().await;
    assert_eq!(next.on, leader.id);
    assert!(next.token() > held.token());
    drop(next);
    cluster.close([leader, follower]).await;
    let outcomes: Vec<_> = cluster.runs().await.into_iter().map(|run| (run.run, run.outcome)).collect();
    assert!(outcomes.contains(&(run, "cancelled".to_owned())), "{outcomes:?}");
}

#[tokio::test]
async fn a_run_on_another_node_is_asked_to_stop_by_the_trigger_that_replaces_it() {
    let mut cluster = Cluster::of("replace-by-hand").await;
    let mut nodes = cluster.pair_with(|| by_hand().overlap(Overlap::Replace)).await;
    let started = triggered(&nodes[0].jobs).await;
    let Ok(Triggered::Started(first)) = started else { panic!("the key is free: {started:?}") };
    let mut held = cluster.begun_on(&nodes[0]).await;
    assert_eq!(held.run.id(), first);

    // The follower replaces the run of the leader, then the leader that of the follower.
    for (holder, other) in [(0, 1), (1, 0)] {
        let run = held.run.id();
        let queued = triggered(&nodes[other].jobs).await;
        let Ok(Triggered::Queued(next)) = queued else { panic!("the key is held: {queued:?}") };
        let met = nodes[other].meets(run).await;
        let replaced = |kind: &EventKind| matches!(kind, EventKind::RunCancelled { run: ended, why: CancelReason::Replaced, .. } if *ended == run);
        let stopped = nodes[holder].hears("it is asked to stop", replaced).await;

        let took = stopped.at - met.at;
        assert!(took < HEARD_WITHIN, "after {took}");
        let begun = cluster.begun().await;
        assert_eq!((begun.on, begun.run.id()), (nodes[other].id, next));
        assert!(begun.token() > held.token());
        held = begun;
    }

    let last = held.run.id();
    held.succeeds();
    let succeeded = |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { run, .. } if *run == last);
    nodes[0].hears("the last one succeeds", succeeded).await;
    cluster.close(nodes).await;
    let outcomes: Vec<_> = cluster.runs().await.into_iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, ["cancelled", "cancelled", "succeeded"]);
}

#[tokio::test]
async fn as_many_runs_as_are_allowed_go_on_at_once_whatever_their_nodes() {
    let mut cluster = Cluster::of("allow").await;
    let [mut leader, follower] = cluster.pair_with(|| job().overlap(Overlap::Allow(2))).await;
    let first = cluster.hold_on(&follower).await;

    let second = cluster.begun().await;
    assert_eq!(second.on, leader.id);
    assert_ne!(second.run.lock_key(), first.run.lock_key(), "each slot is a key");
    leader.meets(first.run.id()).await;
    leader.skips(SkipReason::Overlap).await;
    assert_refused(&triggered(&follower.jobs).await);
    assert!(!first.run.is_cancelled() && !second.run.is_cancelled());
    assert!(cluster.begun.try_recv().is_err(), "there are two");

    first.succeeds();
    let third = cluster.begun().await;
    assert_eq!(third.on, leader.id);
    drop((second, third));
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_pause_that_is_asked_on_a_follower_holds_on_every_node_until_the_job_is_resumed_on_any() {
    let cluster = Cluster::of("pause").await;
    let ([mut leader, mut follower], mut ran) = cluster.pair_that_runs(job).await;
    ran.await_on(&leader, 3).await;

    let note = Some("the disk is full".to_owned());
    let pause = PauseJobs::new(JOB).note("the disk is full");
    let paused = follower.jobs.supervisor().send(pause).await.expect("it runs");
    assert_eq!(paused.expect("the store answers").len(), 1);
    let paused_at = cluster.now().await;
    let skipped = leader.skips(SkipReason::Paused).await;

    assert!(
        skipped.at - paused_at < HEARD_WITHIN * 2,
        "the leader learnt it after {}",
        skipped.at - paused_at
    );
    for node in [&leader, &follower] {
        let status = node.status().await;
        assert_eq!(
            (status.state, status.pause.and_then(|pause| pause.note)),
            (JobState::Paused, note.clone())
        );
    }
    let started = triggered(&leader.jobs).await;
    assert!(matches!(started, Ok(Triggered::Started(_))), "{started:?}");

    // It outlives its leader, and a node that starts later knows it.
    leader.stop().await;
    follower.leads().await;
    follower.skips(SkipReason::Paused).await;
    let mut late = cluster.start().await;
    ran.on(&late, job()).await;
    follower.stop().await;
    late.leads().await;
    late.skips(SkipReason::Paused).await;
    assert_eq!(late.status().await.pause.and_then(|pause| pause.note), note);

    let resumed_at = cluster.now().await;
    late.jobs.resume(JOB).await.expect("it is resumed");
    ran.await_after(&late, resumed_at).await;
    cluster.close([late]).await;
    let runs = cluster.runs().await;
    let meanwhile = runs.iter().filter(|run| run.claimed_at > paused_at && run.claimed_at < resumed_at);
    assert!(meanwhile.clone().all(|run| run.fire_time.is_none()), "{:?}", meanwhile.collect::<Vec<_>>());
    assert_distinct(&ran.all());
}

#[tokio::test]
async fn a_pause_ends_by_itself_at_its_time_and_by_the_leader_before() {
    let cluster = Cluster::of("pause-until").await;
    let ([mut leader, follower], mut ran) = cluster.pair_that_runs(job).await;
    ran.await_on(&leader, 3).await;
    let until = (cluster.now().await + TimeDelta::seconds(1)).duration_trunc(TimeDelta::milliseconds(1));
    let until = until.expect("an instant of today");

    let pause = |until| PauseJobs::new(JOB).until(until);
    let paused = follower.jobs.supervisor().send(pause(until)).await.expect("it runs");
    paused.expect("the store answers");
    let paused_at = cluster.now().await;
    leader.skips(SkipReason::Paused).await;
    ran.await_after(&leader, until).await;

    let runs = cluster.runs().await;
    let meanwhile = runs.iter().filter(|run| run.claimed_at > paused_at && run.claimed_at < until);
    assert_eq!(meanwhile.collect::<Vec<_>>(), Vec::<&Recorded>::new());
    assert_eq!(leader.status().await.pause, None);

    let far = until + TimeDelta::hours(1);
    let paused = follower.jobs.supervisor().send(pause(far)).await.expect("it runs");
    paused.expect("the store answers");
    leader.skips_after(cluster.now().await, SkipReason::Paused).await;
    let resumed_at = cluster.now().await;
    assert_eq!(leader.jobs.resume(JOB).await.expect("the store answers").len(), 1);
    follower.shows("it is told", |status| status.pause.is_none()).await;
    ran.await_after(&leader, resumed_at).await;
    cluster.close([leader, follower]).await;
}

#[tokio::test]
async fn a_limit_of_runs_holds_across_a_hand_over() {
    let cluster = Cluster::of("limit").await;
    let ([leader, mut follower], mut ran) = cluster.pair_that_runs(|| job().limit(5)).await;

    let before = ran.await_on(&leader, 2).await.len();
    leader.stop().await;
    follower.leads().await;
    follower.shows("as many have run as may", |status| status.state == JobState::Exhausted).await;

    assert_eq!(before, 2);
    cluster.close([follower]).await;
    let recorded: Vec<_> = cluster.runs().await.into_iter().filter_map(|run| run.fire_time).collect();
    assert_eq!(recorded.len(), 5, "{recorded:?}");
    assert_eq!(ran.all(), recorded);
}

#[tokio::test]
async fn failures_in_a_row_are_counted_across_a_hand_over_and_pause_the_job() {
    let mut cluster = Cluster::of("pause-after").await;
    let [leader, mut follower] = cluster.pair_with(|| job().pause_after(3)).await;
    for _ in 0..2 {
        let begun = cluster.begun().await;
        assert_eq!(begun.on, leader.id);
        begun.ends(Err("out of paper".into()));
    }
    leader.shows("both are counted", |status| status.failures == 2).await;
    // A run that has begun meanwhile is cancelled, and passed over.
    leader.stop().await;

    follower.leads().await;
    cluster.begun_on(&follower).await.ends(Err("out of paper".into()));
    let paused = follower.hears("it is paused", |kind| matches!(kind, EventKind::JobPaused { .. })).await;

    let EventKind::JobPaused { pause, .. } = paused.kind else { unreachable!("it was looked for") };
    assert_eq!(pause.note.as_deref(), Some("runs that failed in a row: 3"));
    follower.skips(SkipReason::Paused).await;
    let status = follower.status().await;
    assert_eq!((status.state, status.failures), (JobState::Paused, 3));
    assert_eq!(cluster.runs().await.iter().filter(|run| run.outcome == "failed").count(), 3);
    cluster.close([follower]).await;
}

#[tokio::test]
async fn a_body_that_stops_its_job_on_the_leader_stops_it_on_every_node() {
    let mut cluster = Cluster::of("stop").await;
    let [mut leader, mut follower] = cluster.pair_with(job).await;

    let begun = cluster.begun().await;
    assert_eq!(begun.on, leader.id);
    begun.ends(Err(RunError::stop("the account is closed")));
    leader.hears("it is paused", |kind| matches!(kind, EventKind::JobPaused { .. })).await;

    let status = follower.shows("it is told", |status| status.pause.is_some()).await;
    let note = status.pause.and_then(|pause| pause.note);
    assert_eq!(note.as_deref(), Some("stopped by its body: the account is closed"));
    leader.stop().await;
    follower.leads().await;
    follower.skips(SkipReason::Paused).await;
    assert_eq!(cluster.runs().await.len(), 1);
    cluster.close([follower]).await;
}

#[tokio::test]
async fn a_limit_of_runs_is_that_of_all_nodes_where_any_may_fire() {
    let cluster = Cluster::of("any-limit").await;
    let nodes = [cluster.start().await, cluster.start().await];
    let ran = Ran::nothing();
    for node in &nodes {
        assert_eq!(ran.on(node, job().fires(Fires::AnyNode).limit(5)).await, Scheduled::Here);
    }

    for node in &nodes {
        node.shows("as many have run as may", |status| status.state == JobState::Exhausted).await;
    }

    cluster.close(nodes).await;
    let recorded: Vec<_> = cluster.runs().await.into_iter().filter_map(|run| run.fire_time).collect();
    assert_eq!(recorded.len(), 5, "{recorded:?}");
    let mut ran = ran.all();
    ran.sort();
    assert_eq!(ran, recorded);
}

#[tokio::test]
async fn a_run_keeps_its_claim_and_its_key_between_its_attempts() {
    let mut cluster = Cluster::of("retry").await;
    let retry = Retry::attempts(3).initial(PERIOD * 3).factor(1.0).jitter(0.0);
    let [mut leader, follower] = cluster.pair_with(|| job().retry(retry)).await;
    let first = cluster.begun().await;
    let (run, claim) = (first.run.id(), (first.fire_time(), first.token()));
    first.ends(Err("out of paper".into()));

    for attempt in 2..=3 {
        let retried =
            |kind: &EventKind| matches!(kind, EventKind::RunRetried { run: failed, .. } if *failed == run);
        leader.hears("it is to be tried again", retried).await;
        assert_refused_for(triggered(&follower.jobs).await, run);
        leader.skips_after(claim.0, SkipReason::Overlap).await;

        let again = cluster.begun().await;
        assert_eq!((again.on, again.run.id(), again.run.attempt()), (leader.id, run, attempt));
        assert_eq!((again.fire_time(), again.token()), claim);
        again.ends(if attempt == 3 { Ok(()) } else { Err("out of paper".into()) });
    }

    let next = cluster.begun().await;
    assert!(next.token() > claim.1, "the key was freed by the last attempt");
    drop(next);
    cluster.close([leader, follower]).await;
    let runs = cluster.runs().await;
    let recorded: Vec<_> = runs.iter().filter(|recorded| recorded.run == run).collect();
    let [recorded] = recorded[..] else { panic!("one claim, one end: {recorded:?}") };
    assert_eq!((recorded.fire_time, recorded.outcome.as_str()), (Some(claim.0), "succeeded"));
}

#[tokio::test]
async fn a_policy_that_is_changed_on_the_leader_costs_no_tick_there_nor_on_the_next_leader() {
    let cluster = Cluster::of("update").await;
    let ([leader, mut follower], mut ran) = cluster.pair_that_runs(job).await;
    let events =
        [&leader, &follower].map(|node| node.jobs.events(EventFilter::new().job(JOB).buffer(100_000)));
    ran.await_on(&leader, 3).await;

    for changed in [job().overlap(Overlap::Queue(1)), job().misfire(Misfire::Skip).pause_after(9)] {
        leader.jobs.update(ran.job_of(&leader, changed)).await.expect("it is right");
        ran.await_on(&leader, 5).await;
    }
    leader.stop().await;
    follower.leads().await;
    ran.await_after(&follower, cluster.now().await).await;
    cluster.close([follower]).await;

    let said: Vec<_> = events.into_iter().flat_map(rest_of).collect();
    assert_nothing_was_lost(&ran.all(), &cluster.runs().await, cluster.cursor().await, &said);
}

#[tokio::test]
async fn a_schedule_that_is_changed_owes_ticks_from_the_change_on() {
    let cluster = Cluster::of("update-schedule").await;
    let owes = || Misfire::All { max: 1_000, within: Duration::from_hours(1) };
    let ([leader, follower], mut ran) = cluster.pair_that_runs(|| by_hand().misfire(owes())).await;
    // There is something that could be owed.
    sleep(PERIOD * 3).await;

    let changed_at = cluster.now().await;
    leader.jobs.update(ran.job_of(&leader, job().misfire(owes()))).await.expect("it is right");
    ran.await_on(&leader, 3).await;

    cluster.close([leader, follower]).await;
    let ran = ran.all();
    assert!(ran.iter().all(|tick| *tick > changed_at), "{ran:?} after {changed_at}");
    assert_distinct(&ran);
}

#[tokio::test]
async fn a_shutdown_names_the_tick_that_another_node_runs_then() {
    let cluster = Cluster::of("shutdown").await;
    // Longer than a hand-over takes, so that no newer tick is due.
    let ([leader, follower], mut ran) =
        cluster.pair_that_runs(|| Job::new(JOB, every(Duration::from_secs(2)))).await;
    ran.await_on(&leader, 1).await;

    let report = leader.jobs.shutdown(Duration::ZERO).await;

    assert_eq!(report.left_to_others, 1, "{report}");
    let [(left, fire_time)] = &report.left[..] else { panic!("{:?}", report.left) };
    assert_eq!(left.as_str(), JOB);
    assert_eq!(ran.await_on(&follower, 1).await, [fire_time.instant()]);
    cluster.close([follower]).await;
    assert_distinct(&ran.all());
}

/// A time in which a leader surely stops.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn what_was_missed_while_nobody_led_is_decided_by_policy_on_the_next_leader() {
    let cluster = Cluster::of("misfire").await;
    let mut leader = cluster.start().await;
    leader.leads().await;
    let first = (cluster.now().await + STOPS_WITHIN)
        .duration_trunc(TimeDelta::milliseconds(1))
        .expect("an instant of today");
    let ticks = [0, 1, 2].map(|nth| first + period() * nth);
    let within = Duration::from_mins(5);
    // The policy, the ticks that run, and how many do not.
    let policies = [
        ("latest", Misfire::Latest { within }, &ticks[2..], 2),
        ("all", Misfire::All { max: 2, within }, &ticks[1..], 1),
        ("skip", Misfire::Skip, &[][..], 3),
    ];
    let jobs = || {
        policies.map(|(name, misfire, ..)| {
            // A job whose ticks are all over could not be added.
            let [one, two, three] = ticks;
            let ticks = [one, two, three, three + FAR_OFF];
            Job::new(name, at(ticks)).misfire(misfire).misfire_after(PERIOD).run(async |_| {})
        })
    };
    leader.jobs.add_all(jobs()).await.expect("they are right");
    let marked = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND term IS NOT NULL";
    while cluster.number(marked, &[&cluster.scope]).await < 3 {
        sleep(LOOK_AGAIN).await;
    }
    leader.stop().await;
    assert!(cluster.now().await < first, "nothing is due yet");

    // All of them are later than `misfire_after`.
    let missed_at = ticks[2] + period() * 2;
    while let Ok(wait) = (missed_at - cluster.now().await).to_std() {
        sleep(wait + LOOK_AGAIN).await;
    }
    let node = cluster.start().await;
    let mut events = policies.map(|(name, ..)| node.jobs.events(EventFilter::new().job(name)));
    node.jobs.add_all(jobs()).await.expect("they are right");
    for ((name, _, runs, skipped), events) in policies.iter().zip(&mut events) {
        let (mut ended, mut skips) = (0, 0);
        let decided = async {
            while (ended, skips) != (runs.len(), *skipped) {
                match events.next().await.expect("the node runs").kind {
                    EventKind::RunSucceeded { .. } => ended += 1,
                    EventKind::TickSkipped { count, reason: SkipReason::Misfire, .. } => skips += count,
                    _ => {}
                }
            }
        };
        timeout(DEADLINE, decided).await.unwrap_or_else(|_| panic!("{name}: not as its policy says"));
    }

    // Skips are written a little later than they are said.
    let decided = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND cursor = $2";
    while cluster.number(decided, &[&cluster.scope, &ticks[2]]).await < 3 {
        sleep(LOOK_AGAIN).await;
    }
    cluster.close([node]).await;
    let runs = cluster.runs().await;
    for (name, _, expected, _) in policies {
        let ran = runs.iter().filter(|run| run.job == name).filter_map(|run| run.fire_time);
        assert_eq!(ran.collect::<Vec<_>>(), expected, "{name}");
    }
}

/// The variables that make this program a node of a scope, on a server, which is killed during a run of such a job.
const VICTIM: &str = "CALLSHEET_CLUSTER_POLICIES_VICTIM";
const VICTIM_URL: &str = "CALLSHEET_CLUSTER_POLICIES_URL";
const VICTIM_JOB: &str = "CALLSHEET_CLUSTER_POLICIES_JOB";
/// The test that such a program runs.
const VICTIM_TEST: &str = "a_run_whose_process_is_killed_goes_on_with_its_next_attempt_on_another_node";
/// A time in which a job is surely enrolled.
const ENROLLED_WITHIN: TimeDelta = TimeDelta::seconds(2);
/// A job with a tick so far off is never over.
const FAR_OFF: TimeDelta = TimeDelta::days(1);
const PAUSE_BETWEEN_RUNS: Duration = Duration::from_secs(2);
const SEVERAL: u32 = 3;

/// A job whose run is lost. Of those with ticks there is one at this instant, and another one far off.
fn lost_job(which: &str, tick: DateTime<Utc>) -> Job<callsheet::Bodiless> {
    match which {
        "triggered" => by_hand().on_lost(OnLost::Retry),
        "several" => lost_job("triggered", tick).overlap(Overlap::Allow(SEVERAL)),
        "tick" => Job::new(JOB, at([tick, tick + FAR_OFF])).on_lost(OnLost::Retry),
        "tick with a key" => {
            Job::new(JOB, at([tick, tick + FAR_OFF])).on_lost(OnLost::Retry).lock_key("machine")
        }
        "recorded" => by_hand(),
        "from completion" => Job::new(JOB, every(PAUSE_BETWEEN_RUNS).from_completion()),
        "from completion with a key" => lost_job("from completion", tick).lock_key("machine"),
        other => panic!("no job {other:?}"),
    }
}

/// A node that runs its job, says what it was granted, and waits to be killed.
async fn victim(scope: &str, url: &str, which: &str) {
    let (begin, mut begun) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder().backend(Postgres::new(scope, url)).start().await.expect("it starts");
    let events = jobs.events(EventFilter::new());
    let id = jobs.health().await.expect("it runs").node;
    let mut node = Node { id, jobs, events, begin };
    node.leads().await;
    let tick = (Utc::now() + ENROLLED_WITHIN).duration_trunc(TimeDelta::milliseconds(1));
    let tick = tick.expect("an instant of today");
    node.add(lost_job(which, tick)).await;
    let mut ends = Vec::new();
    for _ in 0..if which == "several" { SEVERAL } else { 1 } {
        if matches!(which, "triggered" | "recorded" | "several") {
            triggered(&node.jobs).await.expect("it starts");
        }
        let Begun { run, end, .. } = begun.recv().await.expect("it begins");
        let token = run.token().expect("it was claimed");
        // On a line of its own: the name of the test stands before it.
        println!("\nbegun {} {} {} {}", run.id().as_uuid(), run.attempt(), token.0, tick.timestamp_millis());
        ends.push(end);
    }
    // Nobody kills it: whoever started it is gone.
    sleep(DEADLINE).await;
    drop(ends);
}

/// A process in a run of its job, and what it was granted.
struct Victim {
    process: Process,
    run: RunId,
    token: u64,
    /// That of the job's only tick, if it has one.
    tick: DateTime<Utc>,
}

impl Victim {
    fn of(cluster: &Cluster, which: &str) -> Self {
        let mut program = Command::new(env::current_exe().expect("a path"));
        program
            .args(["--exact", VICTIM_TEST, "--nocapture"])
            .env(VICTIM, &cluster.scope)
            .env(VICTIM_URL, server().url())
            .env(VICTIM_JOB, which);
        let process = Process::start(&mut program);
        let mut victim =
            Self { process, run: RunId::from(uuid::Uuid::nil()), token: 0, tick: DateTime::UNIX_EPOCH };
        victim.begins();
        victim
    }

    /// Waits for its next run, and answers it and its token.
    fn begins(&mut self) -> (RunId, u64) {
        let line = self.process.wait_for("begun ");
        let said: Vec<_> = line.split_whitespace().skip(1).collect();
        let [run, attempt, token, tick] = said[..] else { panic!("{line}") };
        assert_eq!(attempt, "1");
        self.run = RunId::from(run.parse::<uuid::Uuid>().expect("an id"));
        self.token = token.parse().expect("a number");
        self.tick = tick.parse().ok().and_then(DateTime::from_timestamp_millis).expect("an instant");
        (self.run, self.token)
    }

    fn is_killed(&mut self) {
        self.process.signal(Signal::KILL);
        assert_eq!(self.process.end().0, None, "it was killed");
    }

    /// Another node that holds the job hears of the loss. Answers the tick of the run.
    async fn is_lost_to(&self, node: &mut Node) -> Option<DateTime<Utc>> {
        let lost = |kind: &EventKind| matches!(kind, EventKind::RunLost { run, .. } if *run == self.run);
        let EventKind::RunLost { fire_time, .. } = node.hears("the run is lost", lost).await.kind else {
            unreachable!("it was looked for")
        };
        fire_time.map(FireTime::instant)
    }
}

#[tokio::test]
async fn a_run_whose_process_is_killed_goes_on_with_its_next_attempt_on_another_node() {
    if let (Ok(scope), Ok(url), Ok(which)) = (env::var(VICTIM), env::var(VICTIM_URL), env::var(VICTIM_JOB)) {
        return victim(&scope, &url, &which).await;
    }
    for which in ["triggered", "tick", "tick with a key"] {
        let mut cluster = Cluster::of("lost").await;
        let mut killed = Victim::of(&cluster, which);
        let Victim { run, token, tick, .. } = killed;
        let fire_time = (which != "triggered").then_some(tick);
        let mut node = cluster.start().await;
        node.add(lost_job(which, tick)).await;

        killed.is_killed();
        assert_eq!(killed.is_lost_to(&mut node).await, fire_time, "{which}");
        let again = cluster.begun().await;

        assert_eq!((again.run.id(), again.run.attempt()), (run, 2), "{which}");
        assert_eq!(again.run.fire_time(), fire_time, "{which}");
        let second = again.token().expect("it is claimed");
        assert!(second > FencingToken(token), "{which}: {second:?} after {token}");
        again.succeeds();
        let ended =
            |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { run: ended, .. } if *ended == run);
        node.hears("it succeeds", ended).await;
        cluster.close([node]).await;
        let runs = cluster.runs().await;
        let recorded: Vec<_> = runs
            .iter()
            .map(|run| (run.run, run.token.unsigned_abs(), run.fire_time, run.outcome.as_str()))
            .collect();
        let expected = [(run, token, fire_time, "lost"), (run, second.0, fire_time, "succeeded")];
        assert_eq!(recorded, expected, "{which}");
    }
}

#[tokio::test]
async fn each_of_several_runs_whose_process_is_killed_goes_on() {
    let mut cluster = Cluster::of("lost-together").await;
    let mut killed = Victim::of(&cluster, "several");
    let mut lost = vec![(killed.run, killed.token)];
    lost.extend((1..SEVERAL).map(|_| killed.begins()));
    let node = cluster.start().await;
    node.add(lost_job("several", killed.tick)).await;

    killed.is_killed();
    let mut again = Vec::new();
    for _ in 0..SEVERAL {
        again.push(cluster.begun().await);
    }

    again.sort_by_key(|begun| begun.run.id());
    lost.sort();
    for (begun, (run, token)) in again.iter().zip(&lost) {
        assert_eq!((begun.run.id(), begun.run.attempt()), (*run, 2));
        assert!(begun.token() > Some(FencingToken(*token)), "{:?} after {token:?}", begun.token());
    }
    again.into_iter().for_each(Begun::succeeds);
    cluster.close([node]).await;
    let debts = "SELECT count(*) FROM callsheet.debts WHERE scope = $1";
    assert_eq!(cluster.number(debts, &[&cluster.scope]).await, 0, "they are settled");
}

/// Long before a node that was not told asks what is owed, a minute after it has enrolled its jobs.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Whoever closes it, all nodes are told.
#[tokio::test]
async fn a_lost_run_goes_on_where_its_job_is_held_as_soon_as_any_node_has_closed_it() {
    let lost_job = || lost_job("triggered", DateTime::UNIX_EPOCH);
    for (test, fires) in [("told-holders", Fires::Leader), ("told-any", Fires::AnyNode)] {
        let mut cluster = Cluster::of(test).await;
        let [leader, holder] = cluster.pair().await;
        assert_ne!(holder.add(lost_job().fires(fires)).await, Scheduled::ByLeader);
        let enrolled = "SELECT count(*) FROM callsheet.names WHERE scope = $1 AND retry_lost";
        while cluster.number(enrolled, &[&cluster.scope]).await == 0 {
            sleep(LOOK_AGAIN).await;
        }
        let [dead, thief] = [0, 1].map(|_| Postgres::new(&cluster.scope, server().url()));
        let claim = |job: &str| {
            let [job, key] = [job, JOB].map(str::to_owned);
            let (job, key) = (JobName::new(job).expect("a name"), LockKey::new(key).expect("a key"));
            ClaimRequest::new(job, key, RunId::from(uuid::Uuid::now_v7()))
        };
        let lost = claim(JOB);
        dead.locker().open().await.expect("a session opens");
        let granted = dead.locker().claim(std::slice::from_ref(&lost)).await.expect("an answer");
        assert!(matches!(granted[..], [Verdict::Granted { .. }]), "{granted:?}");
        dead.locker().close().await;

        thief.locker().open().await.expect("a session opens");
        let robbed = thief.locker().claim(&[claim("thief")]).await.expect("an answer");
        assert!(matches!(robbed[..], [Verdict::Granted { lost: Some(_), .. }]), "{robbed:?}");
        thief.locker().close().await;

        let again = timeout(TOLD_WITHIN, cluster.begun()).await.expect("the holder is told");
        assert_eq!((again.on, again.run.id(), again.run.attempt()), (holder.id, lost.run, 2));
        again.succeeds();
        cluster.close([leader, holder]).await;
    }
}

#[tokio::test]
async fn a_run_whose_process_is_killed_is_recorded_and_does_not_go_on_unless_its_job_says_so() {
    let mut cluster = Cluster::of("lost-recorded").await;
    let mut killed = Victim::of(&cluster, "recorded");
    let mut node = cluster.start().await;
    node.add(lost_job("recorded", killed.tick)).await;

    killed.is_killed();
    assert_eq!(killed.is_lost_to(&mut node).await, None);
    node.leads().await;
    cluster.leader_schedules().await;
    // What is owed would go first.
    let started = triggered(&node.jobs).await;

    let Ok(Triggered::Started(next)) = started else { panic!("the key is free: {started:?}") };
    let begun = cluster.begun().await;
    assert_eq!((begun.run.id(), begun.run.attempt()), (next, 1));
    assert!(begun.token() > Some(FencingToken(killed.token)));
    begun.succeeds();
    cluster.close([node]).await;
    let outcomes: Vec<_> = cluster.runs().await.into_iter().map(|run| (run.run, run.outcome)).collect();
    assert_eq!(outcomes[0], (killed.run, "lost".to_owned()));
    assert_eq!(outcomes[1..].iter().map(|(run, _)| *run).collect::<Vec<_>>(), [next]);
}

/// Says that a tick is the first whole millisecond a period after an end.
fn assert_counts_from(tick: DateTime<Utc>, ended_at: DateTime<Utc>) {
    let from_end = tick - PAUSE_BETWEEN_RUNS - ended_at;
    let a_millisecond = TimeDelta::zero()..TimeDelta::milliseconds(1);
    assert!(a_millisecond.contains(&from_end), "{from_end} after {ended_at}");
}

#[tokio::test]
async fn an_interval_from_the_end_of_the_last_run_counts_on_when_its_node_is_gone() {
    let mut cluster = Cluster::of("completion").await;
    let [leader, follower] =
        cluster.pair_with(|| Job::new(JOB, every(PAUSE_BETWEEN_RUNS).from_completion())).await;
    let first = cluster.begun().await;
    assert_eq!(first.on, leader.id);
    let first_tick = first.fire_time();

    first.succeeds();
    leader.shows("it is recorded", |status| !status.last_runs.is_empty()).await;
    leader.stop().await;
    let second = cluster.begun().await;

    assert_eq!(second.on, follower.id);
    let runs = cluster.runs().await;
    let [recorded] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(recorded.fire_time, Some(first_tick));
    assert_counts_from(second.fire_time(), recorded.ended_at);
    second.succeeds();
    cluster.close([follower]).await;
}

#[tokio::test]
async fn an_interval_from_the_end_of_the_last_run_counts_on_from_its_loss_when_its_process_is_killed() {
    for which in ["from completion", "from completion with a key"] {
        let mut cluster = Cluster::of("completion-lost").await;
        let mut killed = Victim::of(&cluster, which);
        let mut node = cluster.start().await;
        node.add(lost_job(which, killed.tick)).await;

        let killed_at = cluster.now().await;
        killed.is_killed();
        let lost_tick = killed.is_lost_to(&mut node).await;
        let next = cluster.begun().await;

        assert_eq!(next.on, node.id, "{which}");
        assert_eq!(next.run.attempt(), 1, "{which}");
        let runs = cluster.runs().await;
        let [recorded] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((recorded.run, recorded.outcome.as_str()), (killed.run, "lost"), "{which}");
        assert_eq!(recorded.fire_time, lost_tick, "{which}");
        assert!(recorded.ended_at > killed_at, "{which}");
        assert_counts_from(next.fire_time(), recorded.ended_at);
        next.succeeds();
        cluster.close([node]).await;
    }
}
