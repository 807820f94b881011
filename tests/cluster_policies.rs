//! The policies of jobs on several nodes of a real PostgreSQL server, as an application meets them: nodes that stop, lose
//! their sessions or are killed meanwhile.

#![allow(clippy::print_stdout, reason = "what a node that is killed says to its parent")]

#[path = "common/postgres.rs"]
mod harness;
mod process;

use std::{collections::BTreeSet, env, process::Command, sync::OnceLock, time::Duration};

use callsheet::{
    CancelReason, Error, Event, EventFilter, EventKind, EventStream, FencingToken, Fires, Job, JobName,
    JobState, JobStatus, LockKey, NodeId, OnLost, Overlap, PauseJobs, Run, RunError, RunId, RunResult,
    Scheduled, SkipReason, TriggerError, Triggered,
    backend::Postgres,
    metrics::Prometheus,
    port::{Backend, ClaimRequest, Verdict},
    prelude::Callsheet,
    schedule::every,
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
        let Ok(Triggered::Started(run)) = holder.jobs.trigger(JOB).await else { panic!("the key is free") };
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
        let runs = "SELECT run, token, fire_time, claimed_at, ended_at, outcome FROM callsheet.runs
                    WHERE scope = $1 ORDER BY claimed_at, token";
        let rows = self.admin.query(runs, &[&self.scope]).await.expect("an answer");
        let recorded = |row: &tokio_postgres::Row| Recorded {
            run: RunId::from(row.get::<_, uuid::Uuid>(0)),
            token: row.get(1),
            fire_time: row.get(2),
            claimed_at: row.get(3),
            ended_at: row.get(4),
            outcome: row.get(5),
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
        self.jobs.details(JOB).await.expect("it runs").expect("it holds the job")
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

fn period() -> TimeDelta {
    TimeDelta::from_std(PERIOD).expect("a short time")
}

/// Says that a trigger was refused for a run in progress.
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

fn counted(series: &str) -> u64 {
    let text = recorder().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
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

    /// Adds a job to the node whose bodies write their ticks down, and end.
    async fn on(&self, node: &Node, job: Job<callsheet::Bodiless>) -> Scheduled {
        let job = job.run_with((node.id, self.write.clone()), async |run: Run, (node, write)| {
            write.send((node, run.fire_time().ok_or("a tick")?)).map_err(|_| "the test is over")?;
            RunResult::Ok(())
        });
        node.jobs.add(job).await.expect("it is right").scheduled
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
    assert!(counted("callsheet_ticks_elsewhere_total{job=\"any\"}") > 0, "all but one come second");
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
    let refused = leader.jobs.trigger(JOB).await;

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
    let queued = leader.jobs.trigger(JOB).await;
    let Ok(Triggered::Queued(queued)) = queued else { panic!("{queued:?}") };
    assert_refused_for(leader.jobs.trigger(JOB).await, queued);
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
async fn as_many_runs_as_are_allowed_go_on_at_once_whatever_their_nodes() {
    let mut cluster = Cluster::of("allow").await;
    let [mut leader, follower] = cluster.pair_with(|| job().overlap(Overlap::Allow(2))).await;
    let first = cluster.hold_on(&follower).await;

    let second = cluster.begun().await;
    assert_eq!(second.on, leader.id);
    assert_ne!(second.run.lock_key(), first.run.lock_key(), "each slot is a key");
    leader.meets(first.run.id()).await;
    leader.skips(SkipReason::Overlap).await;
    assert_refused(&follower.jobs.trigger(JOB).await);
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
    let pause = PauseJobs { jobs: JOB.into(), until: None, note: note.clone() };
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
    let started = leader.jobs.trigger(JOB).await;
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

    let pause = |until| PauseJobs { jobs: JOB.into(), until: Some(until), note: None };
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

/// The variable that makes this program a node of this scope, which is killed.
const VICTIM: &str = "CALLSHEET_CLUSTER_POLICIES_VICTIM";
/// The variable with the URL of its server.
const VICTIM_URL: &str = "CALLSHEET_CLUSTER_POLICIES_URL";

fn lost_job() -> Job<callsheet::Bodiless> {
    // Only triggers run it, so that no tick is in the way.
    Job::new(JOB, every(Duration::from_hours(1))).on_lost(OnLost::Retry)
}

/// A node that triggers its job, says what it was granted, and waits to be killed.
async fn victim(scope: &str, url: &str, job: Job<callsheet::Bodiless>, runs: usize) {
    let (begin, mut begun) = mpsc::unbounded_channel();
    let jobs = Callsheet::builder().backend(Postgres::new(scope, url)).start().await.expect("it starts");
    let events = jobs.events(EventFilter::new());
    let id = jobs.health().await.expect("it runs").node;
    let mut node = Node { id, jobs, events, begin };
    node.leads().await;
    node.add(job).await;
    let mut ends = Vec::new();
    for _ in 0..runs {
        node.jobs.trigger(JOB).await.expect("it starts");
        let Begun { run, end, .. } = begun.recv().await.expect("it begins");
        let token = run.token().expect("it was claimed");
        // On a line of its own: the name of the test stands before it.
        println!("\nbegun {} {} {}", run.id().as_uuid(), run.attempt(), token.0);
        ends.push(end);
    }
    // Nobody kills it: whoever started it is gone.
    sleep(DEADLINE).await;
    drop(ends);
}

/// This program again, as a node that is killed: it runs that test.
fn start_victim(cluster: &Cluster, test: &str) -> Process {
    let mut program = Command::new(env::current_exe().expect("a path"));
    program
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, &cluster.scope)
        .env(VICTIM_URL, server().url());
    Process::start(&mut program)
}

/// The next run that it says has begun, its attempt, and its token.
fn begun_there(victim: &mut Process) -> (RunId, u32, FencingToken) {
    let line = victim.wait_for("begun ");
    let said: Vec<_> = line.split_whitespace().skip(1).collect();
    let [run, attempt, token] = said[..] else { panic!("{line}") };
    let run = RunId::from(run.parse::<uuid::Uuid>().expect("an id"));
    (run, attempt.parse().expect("a number"), FencingToken(token.parse().expect("a number")))
}

#[tokio::test]
async fn a_run_whose_process_is_killed_goes_on_with_its_next_attempt_on_another_node() {
    if let (Ok(scope), Ok(url)) = (env::var(VICTIM), env::var(VICTIM_URL)) {
        return victim(&scope, &url, lost_job(), 1).await;
    }
    let mut cluster = Cluster::of("lost").await;
    let test = "a_run_whose_process_is_killed_goes_on_with_its_next_attempt_on_another_node";
    let mut killed = start_victim(&cluster, test);
    let (run, attempt, token) = begun_there(&mut killed);
    assert_eq!(attempt, 1);
    let mut node = cluster.start().await;
    node.add(lost_job()).await;

    killed.signal(Signal::KILL);
    assert_eq!(killed.end().0, None, "it was killed");
    let lost = |kind: &EventKind| matches!(kind, EventKind::RunLost { run: lost, .. } if *lost == run);
    node.hears("the run is lost", lost).await;
    let again = cluster.begun().await;

    assert_eq!((again.run.id(), again.run.attempt()), (run, 2));
    let second = again.token().expect("it is claimed");
    assert!(second > token, "{second:?} after {token:?}");
    again.succeeds();
    let ended =
        |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { run: ended, .. } if *ended == run);
    node.hears("it succeeds", ended).await;
    cluster.close([node]).await;
    let recorded: Vec<_> = cluster
        .runs()
        .await
        .into_iter()
        .map(|run| (run.run, run.token.unsigned_abs(), run.outcome))
        .collect();
    assert_eq!(recorded, [(run, token.0, "lost".to_owned()), (run, second.0, "succeeded".to_owned())]);
}

#[tokio::test]
async fn each_of_several_runs_whose_process_is_killed_goes_on() {
    const RUNS: usize = 3;
    let several = || lost_job().overlap(Overlap::Allow(3));
    if let (Ok(scope), Ok(url)) = (env::var(VICTIM), env::var(VICTIM_URL)) {
        return victim(&scope, &url, several(), RUNS).await;
    }
    let mut cluster = Cluster::of("lost-together").await;
    let mut killed = start_victim(&cluster, "each_of_several_runs_whose_process_is_killed_goes_on");
    let mut lost: Vec<_> = (0..RUNS).map(|_| begun_there(&mut killed)).collect();
    let node = cluster.start().await;
    node.add(several()).await;

    killed.signal(Signal::KILL);
    assert_eq!(killed.end().0, None, "it was killed");
    let mut again = Vec::new();
    for _ in 0..RUNS {
        again.push(cluster.begun().await);
    }

    again.sort_by_key(|begun| begun.run.id());
    lost.sort();
    for (begun, (run, _, token)) in again.iter().zip(&lost) {
        assert_eq!((begun.run.id(), begun.run.attempt()), (*run, 2));
        assert!(begun.token() > Some(*token), "{:?} after {token:?}", begun.token());
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

const PAUSE_BETWEEN_RUNS: Duration = Duration::from_secs(2);

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
    let from_end = second.fire_time() - PAUSE_BETWEEN_RUNS - recorded.ended_at;
    let a_millisecond = TimeDelta::zero()..TimeDelta::milliseconds(1);
    assert!(a_millisecond.contains(&from_end), "{from_end} after {}", recorded.ended_at);
    second.succeeds();
    cluster.close([follower]).await;
}
