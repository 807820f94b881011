//! Whoever was answered sees what it did: on the engine's own threads, in real time, with several callers at
//! once.

use std::time::Duration;

use callsheet::{
    Callsheet, Error, Job, JobDetails, JobState, ListJobs, Run, RunId, Scheduled, TriggerError, UpdateJob,
    schedule::at,
};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::task::JoinSet;

/// The callers, each with jobs of its own.
const CALLERS: usize = 3;
/// The jobs of each.
const JOBS: usize = 2;
/// How long a caller waits for anything before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a caller does next to one of its jobs.
#[derive(Debug, Clone, Copy)]
enum Command {
    Add { day: u8 },
    Update { day: u8 },
    Pause,
    Resume,
    Trigger,
    Cancel,
    CancelRun,
    Remove,
}

fn command() -> impl Strategy<Value = (usize, Command)> {
    let command = prop_oneof![
        2 => (1_u8..100).prop_map(|day| Command::Add { day }),
        2 => (1_u8..100).prop_map(|day| Command::Update { day }),
        4 => Just(Command::Pause),
        4 => Just(Command::Resume),
        3 => Just(Command::Trigger),
        1 => Just(Command::Cancel),
        1 => Just(Command::CancelRun),
        2 => Just(Command::Remove),
    ];
    (0..JOBS, command)
}

/// What a caller knows of a job that it added.
#[derive(Debug, Clone)]
struct Known {
    day: u8,
    /// The answer was that this node fires it: right after the start nobody leads yet.
    here: bool,
    paused: bool,
    run: Option<RunId>,
    cancelled: Option<RunId>,
}

/// An instant that no test lives to see.
fn fire_time(day: u8) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2199-01-01T00:00:00Z".parse().expect("an instant");
    start + TimeDelta::days(day.into())
}

async fn until_cancelled(run: Run) {
    run.cancelled().await;
}

fn job(name: &str, day: u8) -> Job {
    Job::new(name, at(fire_time(day))).tag(format!("day {day}")).run(until_cancelled)
}

struct Caller {
    jobs: Callsheet,
    prefix: String,
    known: [Option<Known>; JOBS],
    /// The runs of jobs that were removed, and those of them that were not cancelled.
    former: [Vec<RunId>; JOBS],
    going_on: [Vec<RunId>; JOBS],
    /// A pause outlives its job.
    paused: [bool; JOBS],
}

impl Caller {
    async fn performs(mut self, commands: Vec<(usize, Command)>) {
        for (nth, command) in commands {
            self.does(nth, command).await;
            self.sees(nth, command).await;
        }
    }

    fn name(&self, nth: usize) -> String {
        format!("{}{nth}", self.prefix)
    }

    async fn does(&mut self, nth: usize, command: Command) {
        let (jobs, name) = (self.jobs.clone(), self.name(nth));
        let known = &mut self.known[nth];
        match command {
            Command::Add { day } => match jobs.add(job(&name, day)).await {
                Ok(added) => {
                    let (here, paused) = (added.scheduled == Scheduled::Here, self.paused[nth]);
                    let former = known.replace(Known { day, here, paused, run: None, cancelled: None });
                    assert!(former.is_none(), "{former:?}");
                }
                Err(error) => assert!(known.is_some(), "{error}"),
            },
            Command::Update { day } => {
                let updated = jobs.supervisor().send(UpdateJob::new(job(&name, day))).await.expect("it runs");
                assert_eq!(updated.is_ok(), known.is_some(), "{updated:?}");
                if let (Some(known), Ok(updated)) = (known, updated) {
                    (known.day, known.here) = (day, updated.scheduled == Scheduled::Here);
                }
            }
            Command::Pause => {
                let paused = jobs.pause(name.as_str()).await;
                assert_eq!(paused.is_ok(), known.is_some(), "{paused:?}");
                if let Some(known) = known {
                    (known.paused, self.paused[nth]) = (true, true);
                }
            }
            Command::Resume => {
                let resumed = jobs.resume(name.as_str()).await;
                assert_eq!(resumed.is_ok(), known.is_some(), "{resumed:?}");
                if let Some(known) = known {
                    (known.paused, self.paused[nth]) = (false, false);
                }
            }
            Command::Trigger => match (jobs.trigger(name.as_str()).await, known) {
                (Ok(triggered), Some(known)) => known.run = Some(triggered.run()),
                (Err(Error::Trigger(TriggerError::UnknownJob { .. })), None) => {}
                (Err(Error::Trigger(TriggerError::Overlap { holder: Some(holder), .. })), Some(known)) => {
                    let runs = [known.run, known.cancelled];
                    assert!(runs.contains(&Some(holder)) || self.former[nth].contains(&holder), "{holder}");
                }
                (answer, known) => panic!("{known:?}: {answer:?}"),
            },
            Command::Cancel => {
                let cancelled = jobs.cancel_runs(name.as_str()).await;
                let runs = known.iter().filter_map(|known| known.run).chain(self.going_on[nth].drain(..));
                let runs: Vec<_> = runs.collect();
                let asked: Vec<_> = cancelled.into_iter().flatten().map(|(_, run)| run).collect();
                assert!(runs.iter().all(|run| asked.contains(run)), "{runs:?}: {asked:?}");
                if let Some(known) = known {
                    let run = known.run.take();
                    known.cancelled = run.or(known.cancelled);
                }
            }
            Command::CancelRun => {
                let run = self.going_on[nth].pop().or_else(|| {
                    let known = known.as_mut()?;
                    known.cancelled = known.run.take().or(known.cancelled);
                    known.cancelled
                });
                if let Some(run) = run {
                    match jobs.cancel_run(run).await {
                        Ok(job) => assert_eq!(job.as_str(), name),
                        // It was cancelled before, and has ended.
                        Err(Error::CancelRun(unknown)) => assert_eq!(unknown.run, run),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            Command::Remove => {
                assert_eq!(jobs.remove(name.as_str()).await.is_ok(), known.is_some());
                if let Some(known) = known.take() {
                    self.former[nth].extend(known.run.into_iter().chain(known.cancelled));
                    self.going_on[nth].extend(known.run);
                }
            }
        }
    }

    async fn sees(&self, nth: usize, command: Command) {
        let (jobs, name) = (&self.jobs, self.name(nth));
        let details = jobs.supervisor().send(JobDetails(name.clone())).await.expect("it runs");
        let next = jobs.next_fire_times(name.as_str(), 3).await;
        let listed = jobs.list(ListJobs::default().prefix(self.prefix.as_str())).await;
        let listed = listed.expect("it runs").jobs;
        let health = jobs.health().await.expect("it runs");
        assert!(health.healthy, "{health:?}");
        let own = self.known.iter().flatten().count();
        assert!(health.jobs >= own, "{health:?}");
        assert_eq!(listed.len(), own, "after {command:?}: {listed:?}");

        let (former, going_on) = (&self.former[nth], &self.going_on[nth]);
        let are_former = |runs: Vec<RunId>| {
            going_on.iter().all(|run| runs.contains(run)) && runs.iter().all(|run| former.contains(run))
        };
        let Some(known) = &self.known[nth] else {
            assert!(next.is_err(), "after {command:?}: {next:?}");
            let seen = format!("after {command:?}, of {going_on:?}: {details:?}");
            assert!(details.iter().all(|removed| removed.state == JobState::Removed), "{seen}");
            let runs =
                details.iter().flat_map(|removed| removed.active_runs.iter().chain(&removed.former_runs));
            assert!(are_former(runs.map(|run| run.run).collect()), "{seen}");
            return;
        };
        assert_eq!(next, Ok(vec![fire_time(known.day)]), "after {command:?}");
        let listed = listed.into_iter().find(|job| job.name.as_str() == name);
        for status in [details, listed] {
            let status = status.expect("it is there");
            let seen = format!("after {command:?}, of {known:?}: {status:?}");
            assert_eq!(status.next_fire_time.map(|at| at.instant()), Some(fire_time(known.day)), "{seen}");
            assert_eq!(status.tags.len(), 1, "{seen}");
            assert_eq!(status.tags[0].as_str(), format!("day {}", known.day), "{seen}");
            assert_eq!(status.pause.is_some(), known.paused, "{seen}");
            assert!(are_former(status.former_runs.iter().map(|run| run.run).collect()), "{seen}");
            let active: Vec<_> = status.active_runs.iter().map(|run| run.run).collect();
            if let Some(run) = known.run {
                assert_eq!(active, [run], "{seen}");
            } else if !active.is_empty() {
                assert_eq!(Some(active[0]), known.cancelled, "{seen}");
                assert!(status.active_runs[0].cancelled.is_some(), "{seen}");
            }
            let expected = match (active.is_empty(), known.paused) {
                (false, _) => JobState::Running,
                (true, true) => JobState::Paused,
                (true, false) if !known.here && status.state == JobState::Standby => JobState::Standby,
                (true, false) => JobState::Scheduled,
            };
            assert_eq!(status.state, expected, "{seen}");
        }
    }
}

#[test]
fn every_caller_sees_what_it_did_as_soon_as_it_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
    let commands = prop::collection::vec(prop::collection::vec(command(), 1..40), CALLERS);

    let result = runner.run(&commands, |commands| {
        runtime.block_on(async {
            let jobs = Callsheet::builder().arbiters(2).start().await.expect("it starts");
            let mut callers = JoinSet::new();
            for (nth, commands) in commands.into_iter().enumerate() {
                let caller = Caller {
                    jobs: jobs.clone(),
                    prefix: format!("{nth}-"),
                    known: Default::default(),
                    former: Default::default(),
                    going_on: Default::default(),
                    paused: Default::default(),
                };
                callers.spawn(tokio::time::timeout(PATIENCE, caller.performs(commands)));
            }
            let mut failed = None;
            while let Some(ended) = callers.join_next().await {
                failed = match ended {
                    Ok(Ok(())) => failed,
                    Ok(Err(_)) => Some("a caller was not answered".to_owned()),
                    Err(panicked) => panicked.into_panic().downcast_ref::<String>().cloned(),
                };
            }
            jobs.shutdown(Duration::ZERO).await;
            failed.map_or(Ok(()), |failed| Err(TestCaseError::fail(failed)))
        })
    });

    result.expect("each caller sees what it did");
}
