//! Bodies of each kind, each on its own threads.

use super::*;

/// An actor of the application with a state that is not `Send`.
struct Mailer {
    sent: Rc<Cell<u32>>,
    ran: channel::UnboundedSender<u32>,
}

impl Mailer {
    fn new(ran: channel::UnboundedSender<u32>) -> Self {
        Self { sent: Rc::default(), ran }
    }
}

impl Actor for Mailer {
    type Context = Context<Self>;
}

impl Handler<Run> for Mailer {
    type Result = ResponseActFuture<Self, RunResult>;

    fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
        let sent = self.sent.clone();
        let work = async move {
            tokio::task::yield_now().await;
            sent.set(sent.get() + 1);
            assert_eq!(run.job().as_str(), "mail");
        };
        Box::pin(work.into_actor(self).map(|(), mailer, _| {
            // An error: the test has seen enough.
            let _ = mailer.ran.send(mailer.sent.get());
            if mailer.sent.get() == 2 { Err("the second mail bounced".into()) } else { Ok(()) }
        }))
    }
}

#[test]
fn bodies_that_block_every_thread_delay_no_timer_and_no_other_kind() {
    promptly(|| {
        let gate = Arc::new(RwLock::new(()));
        let closed = gate.write().expect("nobody panicked");
        let (blocked, mut blocking) = channel::unbounded_channel();
        let block = |name| {
            Job::new(name, every(OFTEN)).run_with(
                (gate.clone(), blocked.clone()),
                async |_, (gate, blocked)| {
                    // An error: the test is over.
                    let _ = blocked.send(());
                    drop(gate.read());
                },
            )
        };
        let (listener, mut events) = ear();
        // Besides the two, one thread for bodies that are quick, as far as is known.
        let walls = ["wall 1", "wall 2", "wall 3"];
        let builder = Callsheet::builder().body_threads(2).listen(listener).jobs(walls.map(block));
        let jobs = futures_executor::block_on(builder.start()).expect("it starts");
        for _ in walls {
            blocking.blocking_recv().expect("it blocks");
        }

        let (sent, mut mails) = channel::unbounded_channel();
        let more = [
            Job::new("local", every(OFTEN)).run_local(async |_| {}),
            Job::new("mail", every(OFTEN)).run_actor(on_its_own_thread(|| Mailer::new(sent))),
            Job::new("waits for a thread", every(OFTEN)).run(async |_| {}),
        ];
        futures_executor::block_on(jobs.add_all(more)).expect("they are added");
        let mut next = || events.blocking_recv().expect("an event").kind;
        // The ticks of the jobs that block are decided: each is skipped while the run goes on. So are those
        // of the job that waits, after the first, which was claimed. Bodies on threads of their own run again
        // and again.
        let mut skipped = [walls[0], walls[1], walls[2], "waits for a thread"].map(|job| (job, 0));
        let mut local = 0;
        while local < 5 || skipped.iter().any(|(_, count)| *count < 5) {
            match next() {
                EventKind::TickSkipped { job, reason: SkipReason::Overlap, count, .. } => {
                    skipped
                        .iter_mut()
                        .filter(|(name, _)| job.as_str() == *name)
                        .for_each(|(_, sum)| *sum += count);
                }
                EventKind::RunSucceeded { job, .. } => match job.as_str() {
                    "local" => local += 1,
                    "mail" => {}
                    job => panic!("{job} ended although its thread is blocked"),
                },
                _ => {}
            }
        }
        while mails.blocking_recv().expect("it is sent") < 5 {}
        let health = futures_executor::block_on(jobs.health()).expect("it answers");
        assert!(health.healthy, "{:?}", health.problems);

        drop(closed);
        let ended = |kind: &EventKind| matches!(kind, EventKind::RunSucceeded { job, .. } if job.as_str() == "waits for a thread");
        while !ended(&next()) {}
        assert_eq!(futures_executor::block_on(jobs.shutdown(LONG)).still_running, 0);
    });
}

#[test]
fn a_body_that_took_its_time_begins_elsewhere_when_it_runs_again() {
    promptly(|| {
        let (began, mut begun) = channel::unbounded_channel();
        let job = Job::new("slow", every(OFTEN)).run_with(began, async |_, began| {
            // An error: the test has seen enough.
            let _ = began.send(thread::current().name().map(str::to_owned));
            tokio::time::sleep(Duration::from_millis(1)).await;
        });
        let jobs = futures_executor::block_on(Callsheet::builder().job(job).start()).expect("it starts");

        // It was taken for a quick one.
        begun.blocking_recv().expect("it runs");
        for _ in 0..5 {
            assert_eq!(begun.blocking_recv().expect("it runs").as_deref(), Some("callsheet-body"));
        }

        futures_executor::block_on(jobs.shutdown(LONG));
    });
}

#[test]
fn an_actor_of_the_application_does_the_work_with_its_own_state() {
    #[actix_web::main]
    async fn main() {
        let (ran, mut runs) = channel::unbounded_channel();
        let (heard, mut events) = channel::unbounded_channel();
        let mailer = Mailer::new(ran).start();

        let builder = Callsheet::builder().listen(Ear(heard).start());
        let jobs =
            builder.job(Job::new("mail", every(OFTEN)).run_actor(mailer)).start().await.expect("it starts");

        for sent in 1..=3 {
            assert_eq!(runs.recv().await, Some(sent));
        }
        // What the actor answers is how the run ended.
        let error = loop {
            if let EventKind::RunFailed { error, .. } = events.recv().await.expect("an event").kind {
                break error;
            }
        };
        assert_eq!(&*error, "the second mail bounced");
        jobs.shutdown(LONG).await;
    }

    promptly(main);
}

#[test]
fn a_local_body_may_hold_what_is_not_send_across_an_await() {
    #[tokio::main]
    async fn main() {
        let (ran, mut runs) = channel::unbounded_channel();
        let job = Job::new("local", every(OFTEN)).run_local(move |_| {
            let ran = ran.clone();
            async move {
                let count = Rc::new(Cell::new(1));
                let shared = count.clone();
                tokio::task::spawn_local(async move { shared.set(shared.get() + 1) }).await?;
                ran.send((count.get(), thread::current().id()))?;
                RunResult::Ok(())
            }
        });

        let jobs = Callsheet::builder().job(job).start().await.expect("it starts");

        let first = runs.recv().await.expect("it runs");
        assert_eq!(first.0, 2);
        assert_ne!(first.1, thread::current().id());
        assert_eq!(runs.recv().await, Some(first), "another thread");
        jobs.shutdown(LONG).await;
    }

    promptly(main);
}

#[test]
fn bodies_run_on_the_runtime_that_they_are_given_to() {
    promptly(|| {
        let name = "of-the-application";
        let bodies = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).build();
        let bodies = bodies.expect("a runtime");
        let (ran, mut runs) = channel::unbounded_channel();
        let job = Job::new("elsewhere", every(OFTEN)).run_with(ran, async |_, ran| {
            // An error: the test has seen enough.
            let _ = ran.send(thread::current().name().map(str::to_owned));
        });

        let builder = Callsheet::builder().bodies_on(bodies.handle().clone()).job(job);
        let jobs = futures_executor::block_on(builder.start()).expect("it starts");

        assert_eq!(runs.blocking_recv().flatten().as_deref(), Some(name));
        futures_executor::block_on(jobs.shutdown(LONG));
        // The runtime is the application's: it is still there.
        assert_eq!(bodies.block_on(bodies.spawn(async { 7 })).ok(), Some(7));
    });
}
