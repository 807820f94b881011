//! The threads of an engine.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use actix_rt::{Arbiter, ArbiterHandle};
use tokio::runtime;

use super::options::EngineOptions;
use crate::{
    own_threads::{EngineBodies, OwnThreads},
    placement::JobThreads,
    port::{RuntimeSpawner, Spawner},
    supervisor::JOIN_MAX,
};

/// The threads that the engine owns.
pub(super) struct EngineThreads {
    arbiters: Vec<Arbiter>,
    bodies: Vec<runtime::Runtime>,
    own_threads: Option<Arc<EngineBodies>>,
}

impl EngineThreads {
    pub(super) fn make(options: &EngineOptions) -> std::io::Result<(Self, Threads)> {
        let mut made = Self { arbiters: Vec::new(), bodies: Vec::new(), own_threads: None };
        match made.fill(options) {
            Ok(threads) => Ok((made, threads)),
            Err(error) => {
                made.stop();
                Err(error)
            }
        }
    }

    fn fill(&mut self, options: &EngineOptions) -> std::io::Result<Threads> {
        let (spawner, bodies): (Arc<dyn Spawner>, _) = match &options.spawner {
            Some(spawner) => (spawner.clone(), None),
            None => {
                let bodies = self.body_threads(options.body_threads)?;
                (Arc::new(RuntimeSpawner::new(bodies.bodies.clone())), Some(bodies))
            }
        };
        // Job actors do no I/O: a thread that only has timers is woken up without a system call unless it
        // sleeps.
        let timers_only = || runtime::Builder::new_current_thread().enable_time().build();
        let jobs = self.more(options.arbiters, || Arbiter::try_with_tokio_rt(timers_only))?;
        let jobs = JobThreads::new(jobs);
        let coordination = self.more(1, Arbiter::try_new)?.pop();
        let history = self.more(usize::from(options.history.needs_thread()), Arbiter::try_new)?.pop();
        let local = self.more(options.local_body_threads, Arbiter::try_new)?;
        let own_threads = Arc::new(EngineBodies::new(local, options.blocking_threads));
        self.own_threads = Some(own_threads.clone());
        let own_threads = OwnThreads::OfEngine(own_threads);
        Ok(Threads { jobs, coordination, history, own_threads, spawner, bodies })
    }

    fn body_threads(&mut self, count: usize) -> std::io::Result<BodyThreads> {
        let mut handle = |mut builder: runtime::Builder| {
            let runtime = builder.build()?;
            let handle = runtime.handle().clone();
            self.bodies.push(runtime);
            std::io::Result::Ok(handle)
        };
        // It waits by no timer and no I/O of its own: what begins there has those of the other one.
        let mut runner = runtime::Builder::new_multi_thread();
        runner.worker_threads(1).thread_name("callsheet-runner");
        let mut bodies = runtime::Builder::new_multi_thread();
        bodies.worker_threads(count).thread_name("callsheet-body").enable_all();
        Ok(BodyThreads { runner: handle(runner)?, bodies: handle(bodies)? })
    }

    fn more(
        &mut self,
        count: usize,
        make: impl Fn() -> std::io::Result<Arbiter>,
    ) -> std::io::Result<Vec<ArbiterHandle>> {
        let first = self.arbiters.len();
        for _ in 0..count {
            self.arbiters.push(make()?);
        }
        Ok(self.arbiters[first..].iter().map(Arbiter::handle).collect())
    }

    /// Stops the threads and waits for them, but not for ever: code of the application may block them.
    pub(super) fn stop(self) {
        let (done, ended) = mpsc::channel();
        let count = self.arbiters.len();
        for arbiter in self.arbiters {
            arbiter.stop();
            let done = done.clone();
            thread::spawn(move || {
                let joined = arbiter.join();
                // Nobody waits any more if it took too long.
                let _ = done.send(joined.is_ok());
            });
        }
        let until = std::time::Instant::now() + JOIN_MAX;
        for left in (1..=count).rev() {
            let wait = until.saturating_duration_since(std::time::Instant::now());
            if ended.recv_timeout(wait).is_err() {
                tracing::warn!(target: "callsheet", left, "threads of the engine are blocked and left behind");
                break;
            }
        }
        // Each beside the others: one that is blocked takes no time of another.
        let left = until.saturating_duration_since(std::time::Instant::now());
        let of_bodies =
            self.bodies.into_iter().map(|bodies| thread::spawn(move || bodies.shutdown_timeout(left)));
        let of_bodies: Vec<_> = of_bodies.collect();
        if let Some(own_threads) = self.own_threads {
            own_threads.stop(left);
        }
        for ended in of_bodies {
            // It panicked: nothing is left to wait for.
            let _ = ended.join();
        }
    }
}

/// The engine's own threads for bodies.
pub(super) struct BodyThreads {
    /// Where bodies that are quick begin: one thread.
    pub(super) runner: runtime::Handle,
    pub(super) bodies: runtime::Handle,
}

/// Where the parts of an engine run.
pub(super) struct Threads {
    pub(super) jobs: JobThreads,
    pub(super) coordination: Option<ArbiterHandle>,
    /// Of a history that takes its time.
    pub(super) history: Option<ArbiterHandle>,
    pub(super) own_threads: OwnThreads,
    pub(super) spawner: Arc<dyn Spawner>,
    /// The engine's own threads for bodies, if the spawner is of them.
    pub(super) bodies: Option<BodyThreads>,
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_runner_that_is_blocked_takes_no_time_of_bodies_that_end() {
        let mut threads = EngineThreads { arbiters: Vec::new(), bodies: Vec::new(), own_threads: None };
        let BodyThreads { runner, bodies } = threads.body_threads(1).unwrap();
        let (begins, begun) = mpsc::channel();
        let (goes_on, until) = mpsc::channel::<()>();
        let ended = Arc::new(AtomicBool::new(false));
        let (blocks, ends) = (begins.clone(), ended.clone());
        runner.spawn(async move {
            blocks.send(()).unwrap();
            let _ = until.recv();
        });
        bodies.spawn(async move {
            begins.send(()).unwrap();
            thread::sleep(Duration::from_millis(200));
            ends.store(true, Ordering::SeqCst);
        });
        assert_eq!(begun.iter().take(2).count(), 2);

        threads.stop();

        assert!(ended.load(Ordering::SeqCst), "nobody waited for it");
        drop(goes_on);
    }
}
