//! What a shutdown leaves, and who may ask for it.

use super::*;

#[test]
fn after_a_shutdown_every_call_is_refused() {
    #[tokio::main]
    async fn main() {
        let (listener, _events) = ear();
        let idle = || Job::new("idle", cron("0 0 1 1 *")).run(async |_| {});
        let jobs = Callsheet::builder().job(idle()).start().await.expect("it starts");
        jobs.shutdown(LONG).await;

        assert_eq!(jobs.add(idle()).await, Err(Error::Stopped));
        assert_eq!(jobs.add_all([idle()]).await, Err(Error::Stopped));
        assert_eq!(jobs.remove("idle").await, Err(Error::Stopped));
        assert_eq!(jobs.trigger("idle").await.map(|run| run.triggered()), Err(Error::Stopped));
        assert_eq!(jobs.list(callsheet::ListJobs::default()).await.err(), Some(Error::Stopped));
        assert_eq!(jobs.details("idle").await.err(), Some(Error::Stopped));
        assert_eq!(jobs.listen(listener).await, Err(Error::Stopped));
        assert_eq!(jobs.health().await.err(), Some(Error::Stopped));
        assert!(Error::Stopped.to_string().contains("start another one"));
        assert_eq!(jobs.shutdown(LONG).await, callsheet::ShutdownReport::default());
    }

    promptly(main);
}

#[test]
fn during_a_shutdown_no_job_is_added() {
    #[tokio::main]
    async fn main() {
        let (started, mut runs) = channel::unbounded_channel();
        let (finish, finished) = tokio::sync::watch::channel(false);
        let body = async |_,
                          (started, mut finished): (
            channel::UnboundedSender<_>,
            tokio::sync::watch::Receiver<_>,
        )| {
            started.send(())?;
            finished.wait_for(|finished| *finished).await?;
            RunResult::Ok(())
        };
        let job = Job::new("long", every(OFTEN)).run_with((started, finished), body);
        let (heard, mut events) = ear();
        let jobs = Callsheet::builder().listen(heard).job(job).start().await.expect("it starts");
        runs.recv().await.expect("it runs");

        let shutdown = tokio::spawn({
            let jobs = jobs.clone();
            async move { jobs.shutdown(LONG).await }
        });
        while !matches!(events.recv().await.expect("an event").kind, EventKind::ShutdownStarted { .. }) {}
        let refused = jobs.add(Job::new("late", every(OFTEN)).run(async |_| {})).await;

        assert_eq!(refused, Err(Error::Add(AddError::ShuttingDown)));
        finish.send_replace(true);
        assert_eq!(shutdown.await.expect("it ends").drained, 1);
    }

    promptly(main);
}

/// A body that shuts its own engine down.
fn suicidal(body: fn(&Callsheet)) {
    #[derive(Clone, Default)]
    struct Handle(Arc<OnceLock<Callsheet>>);

    promptly(move || {
        let handle = Handle::default();
        let job = Job::new("last", cron("0 0 1 1 *")).run_with(
            handle.clone(),
            move |_, Handle(handle)| async move {
                let jobs = handle.get().expect("it was set before the trigger");
                body(jobs);
                jobs.shutdown(Duration::ZERO).await;
            },
        );
        let (listener, mut events) = ear();
        let builder = Callsheet::builder().shutdown_abort_after(Duration::ZERO).listen(listener).job(job);
        let jobs = futures_executor::block_on(builder.start()).expect("it starts");
        assert!(handle.0.set(jobs.clone()).is_ok());

        futures_executor::block_on(jobs.trigger("last")).expect("it starts");

        // The body's own call ends the engine.
        let ended = |kind| matches!(kind, EventKind::ShutdownFinished { .. });
        while !ended(events.blocking_recv().expect("an event").kind) {}
        futures_executor::block_on(jobs.shutdown(LONG));
        assert_eq!(futures_executor::block_on(jobs.health()).err(), Some(Error::Stopped));
    });
}

#[test]
fn a_body_that_awaits_the_shutdown_of_its_own_engine_does_not_deadlock() {
    suicidal(|_| {});
}

#[test]
fn a_body_that_blocks_on_the_shutdown_of_its_own_engine_does_not_deadlock() {
    suicidal(|jobs| {
        futures_executor::block_on(jobs.shutdown(Duration::ZERO));
    });
}

#[test]
fn after_a_shutdown_its_threads_are_gone() {
    in_a_child("stopping::after_a_shutdown_its_threads_are_gone", || {
        let before = threads();
        let (ran, mut runs) = channel::unbounded_channel();
        let local = Job::new("local", every(OFTEN)).run_local(async |_| {});
        let builder = Callsheet::builder().arbiters(3).body_threads(2).local_body_threads(2);
        let builder = builder.job(reporting("hello", ran)).job(local);

        let jobs = futures_executor::block_on(builder.start()).expect("it starts");
        runs.blocking_recv().expect("it runs");
        // Its own, 3 + 2 arbiters, 2 for bodies and one for those that are quick, coordination.
        assert_eq!(threads().len(), before.len() + 10);
        futures_executor::block_on(jobs.shutdown(LONG));

        // The thread that reported the end may be on its last instructions.
        let until = Instant::now() + DEADLINE / 2;
        while threads() != before {
            assert!(Instant::now() < until, "left behind: {:?}, before: {before:?}", threads());
            thread::yield_now();
        }
    });
}
