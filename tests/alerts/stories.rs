//! What happens to engines, on virtual time, and what a scraper reads of them meanwhile.

use std::{future::pending, sync::Arc, time::Duration};

use callsheet::{
    BoxFuture, Callsheet, DecisionPage, Decisions, EventFilter, Events, HistoryError, HistoryOptions, Job,
    JobHistory, JobName, JobRecord, Operation, OperationPage, Operations, Overlap, PauseJobs, RemoveJobs,
    Retention, RunHistory, RunPage,
    chrono::{DateTime, TimeDelta, Utc},
    port::{Batch, DivergedRun, Divergence, History, KnownHistory, LastEnds},
    schedule::every,
    testkit::{Rig, simulate},
};
use metrics::set_default_local_recorder;
use tokio::time::sleep;

use super::timeline::{Process, Timeline};

/// Where the clock of `promtool` begins.
const START: &str = "1970-01-01T00:00:00Z";
pub(crate) const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// As in production: a rig has a longer one.
const LEASE: Duration = Duration::from_secs(5);

const fn mins(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

/// Tells a story to a rig, and answers what was scraped.
fn told(story: impl AsyncFnOnce(&mut Rig, &mut Timeline)) -> Timeline {
    let mut timeline = Timeline::default();
    simulate(START, async |rig| story(rig, &mut timeline).await);
    timeline
}

/// What is done to the rig at a minute.
type Act<'a> = (usize, &'a dyn Fn(&mut Rig));

/// One node, the process `a`, with some jobs, for so many minutes.
fn of_one(
    jobs: impl IntoIterator<Item = Job>,
    lease: Duration,
    acts: &[Act<'_>],
    minutes: usize,
) -> Timeline {
    let jobs: Vec<_> = jobs.into_iter().collect();
    told(async |rig, timeline| {
        let process = Process::new("a");
        let _recorder = set_default_local_recorder(&process.recorder);
        rig.set_lease(lease);
        rig.node(Callsheet::builder().jobs(jobs)).await;
        for (minute, act) in acts {
            timeline.watch(rig, &[&process], minute - timeline.minutes()).await;
            act(rig);
        }
        timeline.watch(rig, &[&process], minutes - timeline.minutes()).await;
    })
}

fn well(name: &str, period: Duration) -> Job {
    Job::new(name, every(period)).run(async |_| {})
}

fn fails(name: &str, period: Duration) -> Job {
    Job::new(name, every(period)).run(async |_| Err::<(), _>("out of paper"))
}

/// More than a day on which all is well.
pub(crate) fn quiet() -> Timeline {
    of_one([well("well", mins(10)), well("hourly", HOUR)], HOUR, &[], 30 * 60)
}

/// A long day on which each job does something else wrong.
pub(crate) fn day() -> Timeline {
    told(async |rig, timeline| {
        let process = Process::new("a");
        let _recorder = set_default_local_recorder(&process.recorder);
        let stops = async |run: callsheet::Run| {
            let is_early = run.fire_time().is_some_and(|at| at.timestamp() < 2 * 3600);
            if is_early { Ok(()) } else { Err("out of paper") }
        };
        let jobs = [
            well("well", mins(10)),
            fails("fails", mins(10)),
            Job::new("hangs", every(HOUR)).run(async |_| pending::<()>().await),
            well("paused", mins(10)),
            fails("late", mins(10)).expect_success_within(mins(30)),
            Job::new("stops", every(mins(10))).run(stops),
            well("removed", mins(10)),
            Job::new("crowded", every(MINUTE))
                .overlap(Overlap::Queue(100))
                .run(async |_| sleep(MINUTE * 3 / 2).await),
        ];
        let node = rig.node(Callsheet::builder().jobs(jobs)).await;
        rig.send(node, PauseJobs::new("paused")).await.expect("it is there");
        timeline.watch(rig, &[&process], 8 * 60).await;
        rig.send(node, RemoveJobs::new("removed")).await.expect("it is there");
        timeline.watch(rig, &[&process], 21 * 60).await;
    })
}

/// A store that is away for a while, refuses claims later, and has a row locked at last.
pub(crate) fn outages() -> Timeline {
    let acts: [Act<'_>; 6] = [
        (30, &|rig| rig.cut_off(0)),
        (50, &|rig| rig.reconnect(0)),
        (100, &|rig| rig.store().refuse([Operation::Claim], "it has no right to")),
        (120, &|rig| rig.store().refuse_nothing()),
        (140, &|rig| rig.store().set_locked("seldom", true)),
        (160, &|rig| rig.store().set_locked("seldom", false)),
    ];
    of_one([well("minutely", MINUTE), well("seldom", mins(10))], LEASE, &acts, 180)
}

/// One version of an application is replaced by another, which lacks a job.
pub(crate) fn deploy() -> Timeline {
    told(async |rig, timeline| {
        let stays = || well("stays", mins(10));
        {
            let former = Process::new("former");
            let _recorder = set_default_local_recorder(&former.recorder);
            let node = rig.node(Callsheet::builder().jobs([stays(), well("lost", mins(10))])).await;
            timeline.watch(rig, &[&former], 60).await;
            rig.shutdown(node, MINUTE).await;
        }
        let next = Process::new("next");
        let _recorder = set_default_local_recorder(&next.recorder);
        rig.node(Callsheet::builder().job(stays())).await;
        timeline.watch(rig, &[&next], 6 * 60).await;
    })
}

/// A store that is restored from before.
pub(crate) fn forgets() -> Timeline {
    let forget = |known: &KnownHistory| Divergence {
        term: None,
        runs: known.runs.iter().map(DivergedRun::new).collect(),
    };
    let acts: [Act<'_>; 1] = [(60, &move |rig| {
        rig.store().set_forgets(forget);
        rig.end_session(0);
    })];
    of_one([well("well", mins(10))], LEASE, &acts, 100)
}

/// A node whose clock is wrong for a while.
pub(crate) fn clock() -> Timeline {
    let acts: [Act<'_>; 2] = [
        (30, &|rig| rig.set_skew(0, TimeDelta::seconds(3))),
        (60, &|rig| rig.set_skew(0, TimeDelta::zero())),
    ];
    of_one([well("well", mins(10))], LEASE, &acts, 80)
}

/// A listener that does not read, and a history that does not answer.
pub(crate) fn records() -> Timeline {
    told(async |rig, timeline| {
        let process = Process::new("a");
        let _recorder = set_default_local_recorder(&process.recorder);
        let mut options = HistoryOptions::default();
        options.store = Some(Arc::new(Silent));
        options.queue = 64;
        let jobs = [well("minutely", MINUTE)];
        let node = rig.node(Callsheet::builder().jobs(jobs).history(options)).await;
        timeline.watch(rig, &[&process], 30).await;
        let _unread = rig.send(node, Events(EventFilter::new().buffer(1))).await;
        timeline.watch(rig, &[&process], 90).await;
    })
}

/// Two nodes, each a process of its own, of one store.
pub(crate) fn cluster() -> Timeline {
    told(async |rig, timeline| {
        let processes = ["a", "b"].map(Process::new);
        for process in &processes {
            let _recorder = set_default_local_recorder(&process.recorder);
            rig.node(Callsheet::builder().job(well("well", mins(10)))).await;
            rig.advance(Duration::from_secs(1)).await;
        }
        timeline.watch(rig, &processes.each_ref(), 40).await;
    })
}

/// Two nodes of one scope, each with a store of its own.
pub(crate) fn two_stores() -> Timeline {
    let one = |instance| {
        told(async |rig, timeline| {
            let process = Process::new(instance);
            let _recorder = set_default_local_recorder(&process.recorder);
            rig.node(Callsheet::builder().job(well("well", mins(10)))).await;
            timeline.watch(rig, &[&process], 40).await;
        })
    };
    one("a").beside(one("b"))
}

/// A history that never answers.
#[derive(Debug)]
struct Silent;

impl History for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn write<'a>(&'a self, _: &'a Batch) -> BoxFuture<'a, Result<(), HistoryError>> {
        Box::pin(pending())
    }

    fn runs<'a>(&'a self, _: &'a RunHistory) -> BoxFuture<'a, Result<RunPage, HistoryError>> {
        Box::pin(pending())
    }

    fn job<'a>(&'a self, _: &'a JobHistory) -> BoxFuture<'a, Result<Option<JobRecord>, HistoryError>> {
        Box::pin(pending())
    }

    fn last_ends<'a>(&'a self, _: &'a [JobName]) -> BoxFuture<'a, Result<Vec<LastEnds>, HistoryError>> {
        Box::pin(pending())
    }

    fn decisions<'a>(&'a self, _: &'a Decisions) -> BoxFuture<'a, Result<DecisionPage, HistoryError>> {
        Box::pin(pending())
    }

    fn operations<'a>(&'a self, _: &'a Operations) -> BoxFuture<'a, Result<OperationPage, HistoryError>> {
        Box::pin(pending())
    }

    fn prune<'a>(&'a self, _: DateTime<Utc>, _: &'a Retention) -> BoxFuture<'a, Result<bool, HistoryError>> {
        Box::pin(pending())
    }
}
