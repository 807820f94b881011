//! Runs whose process is killed.

use super::*;

/// The variables that make this program a node of a scope, on a server, which is killed during a run of such
/// a job.
const VICTIM: &str = "CALLSHEET_CLUSTER_POLICIES_VICTIM";

const VICTIM_URL: &str = "CALLSHEET_CLUSTER_POLICIES_URL";

const VICTIM_JOB: &str = "CALLSHEET_CLUSTER_POLICIES_JOB";

/// The test that such a program runs.
const VICTIM_TEST: &str = "lost_runs::a_run_whose_process_is_killed_is_retried_on_another_node";

/// A time in which a job is surely enrolled.
const ENROLLED_WITHIN: TimeDelta = TimeDelta::seconds(2);

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

    /// Another node that has the job hears of the loss. Answers the tick of the run.
    async fn is_lost_to(&self, node: &mut Node) -> Option<DateTime<Utc>> {
        let lost = |kind: &EventKind| matches!(kind, EventKind::RunLost { run, .. } if *run == self.run);
        let EventKind::RunLost { fire_time, .. } = node.hears("the run is lost", lost).await.kind else {
            unreachable!("it was looked for")
        };
        fire_time.map(FireTime::instant)
    }
}

#[tokio::test]
async fn a_run_whose_process_is_killed_is_retried_on_another_node() {
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
    let pending_retries = "SELECT count(*) FROM callsheet.debts WHERE scope = $1";
    assert_eq!(cluster.number(pending_retries, &[&cluster.scope]).await, 0, "they are resumed");
}

/// Long before a node that was not told asks for pending retries, a minute after it has enrolled its jobs.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Whoever closes it, all nodes are told.
#[tokio::test]
async fn a_lost_run_is_retried_as_soon_as_any_node_has_closed_it() {
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
            // A bit of the ids that nodes make says that a trigger had arguments of its own.
            let id = uuid::Uuid::now_v7().as_u128() & !(1 << 60);
            ClaimRequest::new(job, key, RunId::from(uuid::Uuid::from_u128(id)))
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
async fn a_run_whose_process_is_killed_is_recorded_and_not_retried_by_default() {
    let mut cluster = Cluster::of("lost-recorded").await;
    let mut killed = Victim::of(&cluster, "recorded");
    let mut node = cluster.start().await;
    node.add(lost_job("recorded", killed.tick)).await;

    killed.is_killed();
    assert_eq!(killed.is_lost_to(&mut node).await, None);
    node.leads().await;
    cluster.leader_schedules().await;
    // A pending retry would go first.
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
async fn an_interval_from_completion_counts_on_when_its_node_is_gone() {
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
async fn an_interval_from_completion_counts_from_the_loss_of_a_killed_run() {
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
