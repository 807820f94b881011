//! What an engine leaves behind when it has stopped: nothing. One test, so that nothing else of the process
//! comes and goes.

use std::{
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use callsheet::{Callsheet, Event, EventKind, Job, Run, RunResult, schedule::every};
use tokio::{sync::mpsc, task::LocalSet};

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(60);
const CYCLES: usize = 50;

/// Hears the events, and does the work of a job.
struct Ear {
    events: mpsc::UnboundedSender<EventKind>,
    _probe: Arc<()>,
}

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<Event> for Ear {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        // The cycle is over.
        let _ = self.events.send(event.kind);
    }
}

impl Handler<Run> for Ear {
    type Result = ResponseFuture<RunResult>;

    fn handle(&mut self, _: Run, _: &mut Self::Context) -> Self::Result {
        Box::pin(async { Ok(()) })
    }
}

/// Starts a scheduler with every kind of body and stops it while they run; without arbiters, on the caller's
/// thread.
async fn start_and_stop(local: &LocalSet, arbiters: usize, deadline: Duration, probe: &Arc<()>) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let ear = Ear { events: sender, _probe: probe.clone() }.start();
    let often = || every(Duration::from_millis(1));
    let held = probe.clone();
    let jobs = [
        Job::new("send", often()).run_with(probe.clone(), async |_, _| {}),
        Job::new("local", often()).run_local(move |_| {
            let held = held.clone();
            async move { drop(held) }
        }),
        Job::new("actor", often()).run_actor(ear.clone()),
        Job::new("stays", often()).run_with(probe.clone(), async |run: Run, _| run.cancelled().await),
    ];
    let jobs = Callsheet::builder().listen(ear.clone()).jobs(jobs);
    let started = match arbiters {
        0 => jobs.start_on(local).await,
        _ => jobs.arbiters(arbiters).start().await,
    };
    let jobs = started.expect("it starts");

    let mut missing = vec!["actor", "local", "send", "stays"];
    while !missing.is_empty() {
        if let EventKind::RunStarted { job, .. } = events.recv().await.expect("it runs") {
            missing.retain(|name| *name != job.as_str());
        }
    }
    let report = jobs.shutdown(deadline).await;

    assert_eq!((report.aborted, report.still_running), (0, 0), "{report:?}");
    assert!(!jobs.supervisor().connected(), "the supervisor has stopped");
    drop((jobs, ear));
    // The ear has nobody left to hear.
    while events.recv().await.is_some() {}
}

/// What the process holds: the names of its threads, and how many files and sockets.
fn census() -> (Vec<String>, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux: /proc is mounted");
    // One that ends between the two calls has no name any more.
    let mut threads: Vec<_> =
        tasks.flatten().flat_map(|task| fs::read_to_string(task.path().join("comm"))).collect();
    threads.sort();
    (threads, fs::read_dir("/proc/self/fd").expect("Linux: /proc is mounted").count())
}

/// Rapid cycles of start and stop.
#[test]
fn fifty_starts_and_stops_leave_no_thread_task_actor_or_file_behind() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let probe = Arc::new(());
    let cycle = |arbiters, deadline| {
        let local = LocalSet::new();
        let story = async {
            tokio::time::timeout(DEADLINE, start_and_stop(&local, arbiters, deadline, &probe))
                .await
                .expect("it ends");
        };
        local.block_on(&runtime, story);
    };
    // What is made once and kept: the pipe of the signal handler and the like.
    cycle(2, Duration::ZERO);
    let tasks = || runtime.metrics().num_alive_tasks();
    let settled = |what: &str, is: &dyn Fn() -> bool| {
        // The thread that reported the end may be on its last instructions.
        let until = Instant::now() + DEADLINE;
        while !is() {
            assert!(Instant::now() < until, "{what} left behind: {:?}, {} tasks", census(), tasks());
            thread::yield_now();
        }
    };
    settled("a thread", &|| census().0.iter().all(|name| !name.starts_with("callsheet")));
    let (before, tasks_before) = (census(), tasks());

    for nth in 0..CYCLES {
        cycle(nth % 3, Duration::from_millis(nth as u64 % 2));
    }

    settled("threads or files", &|| census() == before);
    assert_eq!(tasks(), tasks_before);
    assert_eq!(Arc::strong_count(&probe), 1, "bodies, jobs and actors are gone");
}
