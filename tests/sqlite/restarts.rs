//! An engine on a file is killed and started again: it goes on where it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{Write, stdout},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use callsheet::{
    Callsheet, Decisions, JobHistory, JobName, JobState, LOSSES_MAX, OnLost, Operations, Outcome, Run,
    RunHistory,
    backend::{Local, LocalFile},
    prelude::*,
};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::{history, place, process::Process};

/// How often the process is killed: as often as a run goes on that is lost each time.
const KILLS: u32 = LOSSES_MAX;
/// It is killed when so many runs have started, and the long one, and a while later.
const STARTS: usize = 6;
/// From tick to tick. What was missed is made up for at ten ticks a second.
const PERIOD: Duration = Duration::from_millis(250);
const TAKES: Duration = Duration::from_millis(120);

/// The file of a child. Without it the test of the child is none.
const CHILD: &str = "CALLSHEET_TEST_SQLITE_ENGINE";

/// What a child says: not so what runs in the process of the test.
fn say(line: &str) {
    if env::var_os(CHILD).is_none() {
        return;
    }
    // One call a line, which is out before anything else is done.
    writeln!(stdout().lock(), "{line}").expect("somebody reads it");
}

/// The tick of a run in milliseconds.
fn tick(run: &Run) -> i64 {
    run.fire_time().map_or(0, |fire_time| fire_time.timestamp_millis())
}

fn jobs() -> Vec<Job> {
    let steady = async |run: Run| {
        say(&format!("started {} {}", tick(&run), run.id()));
        sleep(TAKES).await;
        say(&format!("ended {}", tick(&run)));
    };
    let all = Misfire::All { max: 1_000, within: Duration::from_hours(1) };
    let often = || every(PERIOD);
    let seldom = || every(Duration::from_hours(24 * 365));
    vec![
        // On a busy machine a run may last until the next tick.
        Job::new("steady", often()).misfire(all).overlap(Overlap::Queue(1_000)).run(steady),
        Job::new("paused", often()).run(async |run: Run| say(&format!("never {}", tick(&run)))),
        Job::new("failing", seldom()).pause_after(FAILURES).run(async |_| {
            say("failed");
            Err::<(), _>("no paper")
        }),
        Job::new("long", seldom()).on_lost(OnLost::Retry).run(async |run: Run| {
            say(&format!("long {} {}", run.id(), run.attempt()));
            sleep(Duration::from_hours(1)).await;
        }),
    ]
}

async fn start(path: &Path) -> Callsheet {
    Callsheet::builder().backend(Local::at(path)).jobs(jobs()).start().await.expect("it starts")
}

/// Which child it is, from 0.
const WHICH: &str = "CALLSHEET_TEST_SQLITE_WHICH";
/// So many failures pause a job, each in another process.
const FAILURES: u32 = 3;

/// What a child does until it is killed. The first one pauses a job, and starts a run that never ends; each of the
/// first ones starts one that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_runs_jobs_until_it_is_killed() {
    let Ok(path) = env::var(CHILD) else { return };
    let jobs = start(Path::new(&path)).await;
    let which: u32 = env::var(WHICH).expect("a number").parse().expect("a number");
    if which == 0 {
        jobs.pause("paused").await.expect("it is paused");
        jobs.trigger("long").await.expect("it starts");
    }
    if which < FAILURES {
        jobs.trigger("failing").await.expect("it starts").finished().await;
    }
    sleep(Duration::from_hours(1)).await;
}

fn child(path: &Path, which: u32) -> Process {
    let mut command = Command::new(env::current_exe().expect("a path"));
    let test = "restarts::a_child_runs_jobs_until_it_is_killed";
    command
        .args(["--exact", test, "--nocapture", "--test-threads=2"])
        .env(CHILD, path)
        .env(WHICH, which.to_string());
    Process::start(&mut command)
}

/// Starts a process, kills it in the middle of things, and answers what it said.
fn killed(path: &Path, kill: u32) -> Vec<String> {
    let mut process = child(path, kill);
    let count = |lines: &[String], what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    if count(&process.seen, "long ") == 0 {
        process.wait_for("long ");
    }
    while count(&process.seen, "started ") < STARTS {
        process.wait_for("started ");
    }
    // At another place within the period of the job each time.
    thread::sleep(PERIOD / 5 * (kill % 5));
    process.signal(Signal::KILL);
    let (_, rest) = process.end();
    process.seen.iter().cloned().chain(rest).collect()
}

/// What all processes said, together.
#[derive(Default)]
struct Said {
    /// The ticks that started, with how often.
    started: BTreeMap<i64, usize>,
    ended: BTreeSet<i64>,
    /// Attempts of the long run, in order.
    long: Vec<(String, u32)>,
    failed: u32,
    never: usize,
}

impl Said {
    fn hear(&mut self, lines: &[String]) {
        for line in lines {
            match *line.split(' ').collect::<Vec<_>>() {
                ["started", tick, _] => {
                    *self.started.entry(tick.parse().expect("a tick")).or_default() += 1;
                }
                ["ended", tick] => {
                    self.ended.insert(tick.parse().expect("a tick"));
                }
                ["long", run, attempt] => {
                    self.long.push((run.to_owned(), attempt.parse().expect("a number")));
                }
                ["failed"] => self.failed += 1,
                ["never", _] => self.never += 1,
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_goes_on_where_it_was() {
    let (_directory, path) = place();
    let mut said = Said::default();
    for kill in 0..KILLS {
        said.hear(&killed(&path, kill));
    }
    let jobs = start(&path).await;
    // Runs of this process are said to nobody: they are asked for.
    sleep(PERIOD * 8).await;
    let failing = jobs.details("failing").await.expect("it is there");
    let paused = jobs.details("paused").await.expect("it is there");
    jobs.shutdown(Duration::from_secs(20)).await;

    assert!(said.started.len() >= STARTS * KILLS as usize);
    assert!(said.started.values().all(|count| *count == 1), "no tick started twice: {:?}", said.started);
    let lost = lost(&path).await;
    let (first, last) =
        (*said.started.keys().next().expect("some"), *said.started.keys().last().expect("some"));
    let step = i64::try_from(PERIOD.as_millis()).expect("few");
    let missing: Vec<_> = (first..=last)
        .step_by(usize::try_from(step).expect("few"))
        .filter(|tick| !said.started.contains_key(tick) && !lost.contains(tick))
        .collect();
    assert!(missing.is_empty(), "each tick started, or was claimed and lost: {missing:?}, lost {lost:?}");
    let unended: Vec<_> = said.started.keys().filter(|tick| !said.ended.contains(tick)).collect();
    assert!(!unended.is_empty(), "a run was killed");
    assert!(
        unended.iter().all(|tick| lost.contains(tick)),
        "what was killed is lost: {unended:?} of {lost:?}"
    );
    assert!(lost.len() <= KILLS as usize, "at most one a kill: {lost:?}");

    assert_eq!(said.never, 0, "a pause outlives a kill");
    assert_eq!((paused.state, failing.state), (JobState::Paused, JobState::Paused));
    assert_eq!(
        said.failed, FAILURES,
        "failures are counted across kills, and the pause that follows is kept"
    );
    let runs: BTreeSet<_> = said.long.iter().map(|(run, _)| run).collect();
    let attempts: Vec<_> = said.long.iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(runs.len(), 1, "it is one run");
    assert_eq!(attempts, (1..=KILLS).collect::<Vec<_>>(), "a lost run goes on as its next attempt");
}

/// The ticks of the steady job whose runs were lost, as the history says.
async fn lost(path: &Path) -> BTreeSet<i64> {
    let file: LocalFile = Local::at(path);
    let history = history(&file);
    let steady = || JobName::new("steady").expect("a name");
    let asked = RunHistory::new().job(steady()).outcome(Outcome::Lost).limit(1_000);
    let lost = history.runs(&asked).await.expect("an answer").runs;
    let all = history.runs(&RunHistory::new().job(steady()).limit(1_000)).await.expect("an answer").runs;
    assert!(all.iter().any(|run| run.outcome == Some(Outcome::Succeeded)), "runs of the killed are there");
    let job = history.job(&JobHistory(steady())).await.expect("an answer").expect("it ran");
    assert!(job.runs >= all.len() as u64 - 1 && job.failures == lost.len() as u64, "{job:?}");
    let paused = Decisions::new().job(JobName::new("paused").expect("a name"));
    let skipped = history.decisions(&paused).await.expect("an answer").decisions;
    assert!(!skipped.is_empty(), "why a job did not run is there");
    let done = history.operations(&Operations::new()).await.expect("an answer").operations;
    assert!(!done.is_empty(), "and who did what");
    lost.iter()
        .filter_map(|run| run.fire_time)
        .map(|fire_time| fire_time.instant().timestamp_millis())
        .collect()
}
