//! A standby that is promoted without the last commits of its primary, and what a node says that goes on with it.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/log.rs"]
mod log;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    Callsheet, DivergedRun, Event, EventFilter, EventKind, EventName, EventStream, Job, JobName, LockKey,
    NodeId, Outcome, RunId,
    backend::Postgres,
    port::{Backend, ClaimRequest, Completion, Divergence, GrantedRun, KnownHistory, Locker, Verdict},
    schedule::{at, every},
};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::time::timeout;
use tokio_postgres::Client;

use self::{
    harness::{PASSWORD, Server, Stop, connect, scope, server},
    log::until,
};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
/// From when a job is added until its only tick: enough to cut the replication in between.
const SOON: TimeDelta = TimeDelta::seconds(8);

async fn next(events: &mut EventStream) -> Event {
    timeout(DEADLINE, events.next()).await.expect("in time").expect("it runs")
}

/// The next divergence: how many runs, and those that are named.
async fn diverged(events: &mut EventStream) -> (u64, Vec<DivergedRun>) {
    match next(events).await.kind {
        EventKind::HistoryDiverged { count, runs, .. } => (count, runs),
        other => panic!("{other}"),
    }
}

fn often() -> Job {
    Job::new("often", every(Duration::from_millis(500))).run(async |_| {})
}

/// The ids of so many runs that end from now on.
async fn ended(ends: &mut EventStream, job: &str, count: usize) -> BTreeSet<RunId> {
    let mut ended = BTreeSet::new();
    while ended.len() < count {
        if let EventKind::RunSucceeded { job: of, run, .. } = next(ends).await.kind
            && of.as_str() == job
        {
            ended.insert(run);
        }
    }
    ended
}

/// The runs of a job on one node.
type Ran = Arc<Mutex<Vec<RunId>>>;

/// A node that leads as long as it may.
async fn node(hosts: &str, jobs: impl IntoIterator<Item = Job>, may_lead: &Arc<AtomicBool>) -> Callsheet {
    let backend = Postgres::new("histories", format!("postgres://callsheet:{PASSWORD}@{hosts}/postgres"));
    let backend = backend.lease(Duration::from_secs(2));
    let may_lead = may_lead.clone();
    let check = move || {
        let may_lead = may_lead.load(Ordering::SeqCst);
        async move { may_lead }
    };
    Callsheet::builder().backend(backend).jobs(jobs).may_lead(check).start().await.expect("it starts")
}

fn once(tick: DateTime<Utc>, ran: &Ran) -> Job {
    Job::new("once", at([tick])).run_with(ran.clone(), async |run, ran| {
        ran.lock().expect("nobody panicked").push(run.id());
    })
}

fn succeeded(jobs: &Callsheet) -> EventStream {
    jobs.events(EventFilter::new().kinds([EventName::RunSucceeded]))
}

/// Makes a standby go its own way.
async fn cut_off(standby: &Client) {
    for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
        standby.batch_execute(statement).await.expect("an answer");
    }
    until("cut off", async || {
        let receives = "SELECT FROM pg_stat_wal_receiver";
        standby.query(receives, &[]).await.expect("an answer").is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_runs_that_a_promoted_standby_does_not_know_are_named() {
    let primary = Arc::new(Server::start());
    let of_primary = primary.clone();
    let copied = tokio::task::spawn_blocking(move || Server::standby_of(&of_primary));
    let standby = copied.await.expect("it is made");
    let hosts = [&primary, &standby].map(|server| format!("127.0.0.1:{}", server.port()));
    let may_lead = Arc::new(AtomicBool::new(true));
    let first = node(&hosts.join(","), [often()], &may_lead).await;
    let mut ends = succeeded(&first);
    let mut events = first.events(EventFilter::new().kinds([EventName::HistoryDiverged]));
    ended(&mut ends, "often", 2).await;
    let tick = (Utc::now() + SOON).trunc_subsecs(3);
    first.add(once(tick, &Ran::default())).await.expect("a good job");
    let on_standby = connect(&standby.url()).await;
    until("replicated", async || {
        let find = "SELECT FROM callsheet.names WHERE name = 'once' AND cursor IS NOT NULL";
        on_standby.query(find, &[]).await.is_ok_and(|rows| !rows.is_empty())
    })
    .await;

    cut_off(&on_standby).await;
    assert!(Utc::now() < tick, "the tick is due only now");
    let unknown = ended(&mut ends, "once", 1).await;
    let more = ended(&mut ends, "often", 3).await;
    may_lead.store(false, Ordering::SeqCst);
    on_standby.batch_execute("SELECT pg_promote()").await.expect("it is promoted");
    tokio::task::spawn_blocking(move || primary.stop(Stop::Immediate)).await.expect("it is carried out");

    let (count, runs) = diverged(&mut events).await;
    let named: BTreeSet<_> = runs.iter().map(|run| run.run).collect();
    assert!(unknown.is_subset(&named) && more.is_subset(&named), "{unknown:?} {more:?} of {runs:?}");
    assert!(
        count >= runs.len() as u64 && runs.iter().all(|run| run.tick_also.is_none()),
        "{count}: {runs:?}"
    );

    // Its tick is due on the other server as well, and a node that knows only that one runs it.
    let again = Ran::default();
    let second = node(&hosts[1], [often(), once(tick, &again)], &Arc::new(AtomicBool::new(true))).await;
    let (count, twice) = diverged(&mut events).await;
    // The newest tick of the other job may have run there as well: it catches up.
    let is_known = |run: &DivergedRun| unknown.contains(&run.run) || more.contains(&run.run);
    assert!(count == twice.len() as u64 && twice.iter().all(is_known), "{count}: {twice:?}");
    let of_once: Vec<_> = twice.iter().filter(|run| unknown.contains(&run.run)).collect();
    let [DivergedRun { fire_time: Some(fire_time), tick_also: Some(other), .. }] = &of_once[..] else {
        panic!("{twice:?}")
    };
    assert_eq!(again.lock().expect("nobody panicked")[..], [*other]);
    assert_eq!(fire_time.instant(), tick);
    second.shutdown(Duration::from_secs(1)).await;
    first.shutdown(Duration::from_secs(1)).await;
}

async fn granted(locker: &dyn Locker, key: &str) -> GrantedRun {
    let (job, key) = (JobName::new(key).expect("a name"), LockKey::new(key).expect("a name"));
    let run = RunId::from(NodeId::random().as_uuid());
    let claim = ClaimRequest::new(job.clone(), key.clone(), run);
    match locker.claim(&[claim]).await.expect("an answer")[..] {
        [Verdict::Granted { token, .. }] => GrantedRun { job, key, run, fire_time: None, token },
        ref other => panic!("{other:?}"),
    }
}

/// A session that was lost for another reason says nothing.
#[tokio::test]
async fn a_server_knows_what_it_granted_whatever_became_of_it() {
    let (scope, admin) = (scope("known"), connect(&server().url()).await);
    let node = Postgres::new(&scope, server().url());
    let locker = node.locker();
    locker.open().await.expect("a session opens");
    let mut runs = Vec::new();
    for key in ["open", "ended", "claimed_again", "claimed_again", "forgotten"] {
        let run = granted(&*locker, key).await;
        if key != "open" {
            let end =
                Completion::new(run.job.clone(), run.key.clone(), run.run, run.token, Outcome::Succeeded);
            locker.complete(&[end]).await.expect("an answer");
        }
        runs.push(run);
    }
    let forget = "WITH gone AS (DELETE FROM callsheet.names WHERE scope = $1 AND name = 'forgotten' RETURNING token)
                  INSERT INTO callsheet.leader (scope, epoch, node, beacon, granted_at, expires_at, token_bound)
                  SELECT $1, 1, gen_random_uuid(), 1, now(), '-infinity', token FROM gone";
    admin.execute(forget, &[&scope]).await.expect("an answer");

    let known = KnownHistory { term: None, runs: runs.clone() };
    assert_eq!(locker.compare(&known).await.expect("an answer"), Divergence::default());

    // As another history has it.
    let [open, ended, ..] = &runs[..] else { panic!("{runs:?}") };
    let greater = GrantedRun { token: callsheet::FencingToken(ended.token.0 + 1), ..ended.clone() };
    let other = GrantedRun { run: RunId::from(NodeId::random().as_uuid()), ..open.clone() };
    // It might have been deleted.
    let token = callsheet::FencingToken(runs[2].token.0 - 1);
    let missing = GrantedRun { run: RunId::from(NodeId::random().as_uuid()), token, ..runs[2].clone() };
    let known = KnownHistory { term: None, runs: vec![missing.clone()] };
    assert_eq!(locker.compare(&known).await.expect("an answer"), Divergence::default());
    let known = KnownHistory {
        term: Some(callsheet::Term(2)),
        runs: vec![greater.clone(), other.clone(), runs[4].clone(), missing.clone()],
    };
    let divergence = locker.compare(&known).await.expect("an answer");
    assert_eq!(divergence.term, Some(callsheet::Term(1)));
    let [first, second, third] = &divergence.runs[..] else { panic!("{divergence:?}") };
    assert_eq!((first.run, first.token_also), (greater.run, None));
    assert_eq!((second.run, second.token_also), (other.run, Some(open.run)));
    assert_eq!((third.run, third.token_also), (missing.run, None));
}

/// What a promoted server lacks is the end of the history: older rows of runs were deleted.
#[tokio::test]
async fn runs_that_were_deleted_are_not_named_with_those_that_are_lacking() {
    let (scope, admin) = (scope("pruned"), connect(&server().url()).await);
    let node = Postgres::new(&scope, server().url());
    let locker = node.locker();
    locker.open().await.expect("a session opens");
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = granted(&*locker, "pruned").await;
        let end = Completion::new(run.job.clone(), run.key.clone(), run.run, run.token, Outcome::Succeeded);
        locker.complete(&[end]).await.expect("an answer");
        runs.push(run);
    }
    let prune = "DELETE FROM callsheet.runs WHERE scope = $1";
    assert_eq!(admin.execute(prune, &[&scope]).await.expect("an answer"), 3);
    let newest = runs[2].clone();
    let of = |added: u64| GrantedRun {
        run: RunId::from(NodeId::random().as_uuid()),
        token: callsheet::FencingToken(newest.token.0 + added),
        ..newest.clone()
    };
    // The second of them was freed without a row, or is younger than the key on this server.
    let (lost, also_lost) = (of(1), GrantedRun { token: newest.token, ..of(0) });
    runs.extend([lost.clone(), also_lost.clone()]);
    let known = KnownHistory { term: None, runs };

    let divergence = locker.compare(&known).await.expect("an answer");

    let named: Vec<_> = divergence.runs.iter().map(|run| run.run).collect();
    assert_eq!(named, [lost.run, also_lost.run]);
}
