//! The engine starts in any runtime and in none, keeps to threads of its own, and goes when it is told to.

mod process;

use std::{
    cell::Cell,
    env, fs,
    future::Future,
    pin::pin,
    process::Command,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        mpsc::{self, RecvTimeoutError},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, Addr, Context, Handler, Recipient, ResponseActFuture, WrapFuture};
use actix_web::{App, HttpServer};
use callsheet::{AddError, Error, SkipReason, StartError, prelude::*, schedule::Schedule};
use chrono::{DateTime, Utc};
use process::{DEADLINE, Process};
use rustix::process::Signal;
use tokio::{sync::mpsc as channel, task::LocalSet};

/// Says which role a child process of this test plays.
const ROLE: &str = "CALLSHEET_TEST_ROLE";
const OFTEN: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(30);

/// Runs a test on a thread of its own, outside every runtime, and fails if it hangs.
fn promptly<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = test();
        // An error: the test was given up.
        let _ = done.send(());
        result
    });
    match end.recv_timeout(DEADLINE) {
        // Disconnected: it panicked, and joining says so.
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        },
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

/// A job that says its name on `ran` each time it runs.
fn reporting(name: &str, ran: channel::UnboundedSender<String>) -> Job {
    Job::new(name, every(OFTEN)).run_with(ran, async |run, ran| {
        // An error: the test has seen enough.
        let _ = ran.send(run.job().to_string());
    })
}

/// What every program does: start, see a job run twice, stop.
async fn a_job_runs_twice_and_the_engine_stops() {
    let (ran, mut runs) = channel::unbounded_channel();

    let jobs = Callsheet::builder().job(reporting("hello", ran)).start().await.expect("it starts");

    assert_eq!(runs.recv().await.as_deref(), Some("hello"));
    assert_eq!(runs.recv().await.as_deref(), Some("hello"));
    let report = jobs.shutdown(LONG).await;
    assert_eq!((report.cancelled, report.aborted, report.still_running), (0, 0, 0));
    // Nothing is left that could run it.
    while runs.recv().await.is_some() {}
}

#[test]
fn it_starts_from_an_actix_web_main() {
    #[actix_web::main]
    async fn main() {
        a_job_runs_twice_and_the_engine_stops().await;
    }

    promptly(main);
}

#[test]
fn it_starts_from_a_tokio_main() {
    #[tokio::main]
    async fn main() {
        a_job_runs_twice_and_the_engine_stops().await;
    }

    promptly(main);
}

#[test]
fn it_starts_from_a_tokio_main_on_the_current_thread() {
    #[tokio::main(flavor = "current_thread")]
    async fn main() {
        a_job_runs_twice_and_the_engine_stops().await;
    }

    promptly(main);
}

#[test]
fn it_starts_from_a_plain_main() {
    fn main() {
        futures_executor::block_on(a_job_runs_twice_and_the_engine_stops());
    }

    promptly(main);
}

#[test]
fn it_starts_on_the_callers_local_set_and_stays_on_its_thread() {
    async fn main(local: &LocalSet) {
        let (ran, mut runs) = channel::unbounded_channel();
        let job = Job::new("here", every(OFTEN)).run_with(ran, async |_, ran| {
            // An error: the test has seen enough.
            let _ = ran.send(thread::current().id());
        });
        let before = threads();

        let jobs = Callsheet::builder().job(job).start_on(local).await.expect("it starts");

        assert_eq!(runs.recv().await, Some(thread::current().id()));
        assert_eq!(threads(), before, "it started threads");
        assert_eq!(jobs.shutdown(LONG).await.aborted, 0);
    }

    // Alone in a process: other tests start threads.
    in_a_child("it_starts_on_the_callers_local_set_and_stays_on_its_thread", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = LocalSet::new();
        local.block_on(&runtime, main(&local));
        let local = LocalSet::new();
        actix_web::rt::System::new().block_on(local.run_until(main(&local)));
    });
}

#[test]
fn a_local_set_outside_a_runtime_is_refused_without_a_panic() {
    // Alone in a process: the hook is everybody's.
    in_a_child("a_local_set_outside_a_runtime_is_refused_without_a_panic", || {
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            std::process::abort();
        }));

        let local = LocalSet::new();
        let refused = futures_executor::block_on(Callsheet::builder().start_on(&local));

        let Err(error @ StartError::NoRuntime) = refused else {
            panic!("it started, or {:?}", refused.err())
        };
        assert!(error.to_string().contains("call it inside one, or call start"), "{error}");
    });
}

#[test]
fn a_run_of_2_s_drains_after_sigterm_to_an_actix_web_server() {
    /// As applications do it: with the server's own signal handling, which stops the `System` as well.
    #[actix_web::main]
    async fn main() {
        let (served, end_of_service) = tokio::sync::watch::channel(false);
        let job = Job::new("long", every(OFTEN)).run_with(end_of_service, async |_, mut end_of_service| {
            println!("run started");
            // 2 s from the signal on, however slow the test is to send it.
            end_of_service.wait_for(|served| *served).await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            println!("run ended");
            RunResult::Ok(())
        });
        let jobs = Callsheet::builder().job(job).start().await.expect("it starts");
        let server = HttpServer::new(App::new).workers(1).bind("127.0.0.1:0").expect("a free port").run();
        let mut server = pin!(server);
        // The first poll sets the signal handlers up.
        assert!(std::future::poll_fn(|task| Poll::Ready(server.as_mut().poll(task).is_pending())).await);
        println!("serving");
        server.await.expect("it serves");
        println!("server ended");
        served.send_replace(true);
        println!("report: {}", jobs.shutdown(LONG).await);
    }

    if env::var_os(ROLE).is_some() {
        return main();
    }
    let mut server = child("a_run_of_2_s_drains_after_sigterm_to_an_actix_web_server");
    // In either order.
    while !["run started", "serving"].iter().all(|said| server.seen.iter().any(|line| line.contains(said))) {
        server.wait_for("");
    }

    server.signal(Signal::TERM);
    server.wait_for("server ended");
    let (code, lines) = server.end();

    let lines: Vec<_> = lines.iter().map(String::as_str).filter(|line| line.starts_with(['r'])).collect();
    assert_eq!(lines, ["run ended", "report: drained 1, cancelled 0, aborted 0"]);
    assert_eq!(code, Some(0));
}

/// An application's own actor, which hears the events.
struct Ear(channel::UnboundedSender<Event>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<Event> for Ear {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        // An error: the test has seen enough.
        let _ = self.0.send(event);
    }
}

/// Starts an actor of the application in a system, and on a thread, of its own.
fn on_its_own_thread<A: Actor<Context = Context<A>>>(make: impl FnOnce() -> A + Send + 'static) -> Addr<A> {
    let (address, started) = mpsc::channel();
    thread::spawn(move || {
        let system = actix_web::rt::System::new();
        system.block_on(async { address.send(make().start()).expect("somebody waits") });
        system.run().expect("it runs");
    });
    started.recv().expect("it starts")
}

/// A listener, and what it hears.
fn ear() -> (Recipient<Event>, channel::UnboundedReceiver<Event>) {
    let (heard, events) = channel::unbounded_channel();
    (on_its_own_thread(|| Ear(heard)).recipient(), events)
}

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
fn bodies_that_block_every_body_thread_delay_no_timer_and_no_other_kind_of_body() {
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
        let builder =
            Callsheet::builder().body_threads(2).listen(listener).jobs([block("wall 1"), block("wall 2")]);
        let jobs = futures_executor::block_on(builder.start()).expect("it starts");
        for _ in ["wall 1", "wall 2"] {
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
        // The ticks of the jobs that block are decided: each is skipped while the run goes on. So are those of the
        // job that waits, after the first, which was claimed. Bodies on threads of their own run again and again.
        let (mut skipped, mut local) = ([("wall 1", 0), ("wall 2", 0), ("waits for a thread", 0)], 0);
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

/// Behaviours 36 and 49 of gocron's tests.
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

#[test]
fn one_handle_works_in_several_runtimes_at_once() {
    promptly(|| {
        let (ran, mut runs) = channel::unbounded_channel();
        let jobs = futures_executor::block_on(Callsheet::builder().start()).expect("it starts");
        let add = |name: &'static str| {
            let (jobs, ran) = (jobs.clone(), ran.clone());
            async move { jobs.add(reporting(name, ran)).await.map(|added| added.job.to_string()) }
        };
        let (actix, tokio, plain) = (add("actix"), add("tokio"), add("plain"));

        let threads = [
            thread::spawn(|| actix_web::rt::System::new().block_on(actix)),
            thread::spawn(|| tokio::runtime::Runtime::new().expect("a runtime").block_on(tokio)),
            thread::spawn(|| futures_executor::block_on(plain)),
        ];

        let added = threads.map(|thread| thread.join().expect("no panic").expect("it is added"));
        assert_eq!(added, ["actix", "tokio", "plain"]);
        // The runtimes are gone; the jobs are not.
        for name in added {
            while runs.blocking_recv().expect("they run") != name {}
        }
        futures_executor::block_on(jobs.shutdown(LONG));
    });
}

#[test]
fn two_engines_in_one_process_are_strangers() {
    #[actix_web::main]
    async fn main() {
        let ((ran_1, mut runs_1), (ran_2, mut runs_2)) =
            (channel::unbounded_channel(), channel::unbounded_channel());
        let first = Callsheet::builder().job(reporting("same name", ran_1)).start().await.expect("it starts");
        let second =
            Callsheet::builder().job(reporting("same name", ran_2)).start().await.expect("it starts");
        runs_1.recv().await.expect("it runs");
        runs_2.recv().await.expect("it runs");
        let (node_1, node_2) =
            (first.health().await.map(|it| it.node), second.health().await.map(|it| it.node));
        assert_ne!(node_1.expect("it answers"), node_2.expect("it answers"));

        first.remove("same name").await.expect("it is removed");
        first.shutdown(LONG).await;

        while runs_1.recv().await.is_some() {}
        while runs_2.try_recv().is_ok() {}
        runs_2.recv().await.expect("it goes on");
        second.shutdown(LONG).await;
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
    in_a_child("after_a_shutdown_its_threads_are_gone", || {
        let before = threads();
        let (ran, mut runs) = channel::unbounded_channel();
        let local = Job::new("local", every(OFTEN)).run_local(async |_| {});
        let builder = Callsheet::builder().arbiters(3).body_threads(2).local_body_threads(2);
        let builder = builder.job(reporting("hello", ran)).job(local);

        let jobs = futures_executor::block_on(builder.start()).expect("it starts");
        runs.blocking_recv().expect("it runs");
        // Its own, 3 + 2 arbiters, 2 for bodies, coordination.
        assert_eq!(threads().len(), before.len() + 9);
        futures_executor::block_on(jobs.shutdown(LONG));

        // The thread that reported the end may be on its last instructions.
        let until = Instant::now() + DEADLINE / 2;
        while threads() != before {
            assert!(Instant::now() < until, "left behind: {:?}, before: {before:?}", threads());
            thread::yield_now();
        }
    });
}

/// The names of the threads of this process.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux: /proc is mounted");
    // One that ends between the two calls has no name any more.
    let mut names: Vec<_> =
        tasks.flatten().flat_map(|task| fs::read_to_string(task.path().join("comm"))).collect();
    names.sort();
    names
}

/// Runs `test`, which is that of the caller, alone in a process of its own.
fn in_a_child(test: &str, role: impl FnOnce()) {
    if env::var_os(ROLE).is_some() {
        return role();
    }
    let mut process = child(test);
    let (code, lines) = process.end();
    assert_eq!(code, Some(0), "{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line.contains(" 1 passed")), "{}", lines.join("\n"));
}

/// This program again, with one test, which finds [`ROLE`] set.
fn child(test: &str) -> Process {
    let mut command = Command::new(env::current_exe().expect("a path"));
    Process::start(command.args(["--exact", test, "--nocapture"]).env(ROLE, test))
}

/// The least that fits if runs are aborted at once: 6 s for the jobs.
const LEAST: ShutdownBudget = ShutdownBudget::within(Duration::from_secs(8)).server_timeout(Duration::ZERO);

#[test]
fn a_stream_of_signals_that_ends_counts_as_a_signal() {
    #[tokio::main]
    async fn main() {
        let jobs =
            Callsheet::builder().shutdown_abort_after(Duration::ZERO).start().await.expect("it starts");

        jobs.shutdown_on(futures_util::stream::empty::<()>(), LEAST).expect("it fits").await;

        assert_eq!(jobs.health().await.err(), Some(Error::Stopped));
    }

    promptly(main);
}

#[test]
fn a_stream_of_signals_is_not_polled_after_its_end() {
    #[tokio::main]
    async fn main() {
        let jobs =
            Callsheet::builder().shutdown_abort_after(Duration::ZERO).start().await.expect("it starts");
        // Panics if it is polled after its end.
        let ended = futures_util::stream::unfold((), async |()| None::<((), ())>);

        jobs.shutdown_on(ended, LEAST).expect("it fits").await;

        assert_eq!(jobs.health().await.err(), Some(Error::Stopped));
    }

    promptly(main);
}

#[test]
fn a_budget_that_is_too_small_is_refused_before_anything_stops() {
    #[tokio::main]
    async fn main() {
        let jobs = Callsheet::builder()
            .shutdown_abort_after(Duration::from_millis(1))
            .start()
            .await
            .expect("it starts");

        let refused =
            jobs.shutdown_on(futures_util::stream::empty::<()>(), LEAST).err().expect("it does not fit");

        let shown = refused.to_string();
        assert!(shown.contains("8s") && shown.contains("1ms from cancel to abort"), "{shown}");
        assert!(jobs.health().await.expect("it runs").ready);
        jobs.shutdown(LONG).await;
    }

    promptly(main);
}

/// A schedule that blocks whoever asks it, until it is let go.
#[derive(Debug)]
struct Stuck(Mutex<mpsc::Receiver<()>>);

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stuck")
    }
}

impl Schedule for Stuck {
    fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // An error: it is let go.
        let _ = self.0.lock().expect("nobody panicked").recv();
        None
    }

    fn previous_before(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
        None
    }
}

#[test]
fn a_server_may_stop_in_time_though_the_engine_does_not() {
    #[tokio::main]
    async fn main() {
        let jobs =
            Callsheet::builder().shutdown_abort_after(Duration::ZERO).start().await.expect("it starts");
        let (go, wait) = mpsc::channel();
        // The supervisor asks the schedule, and hears nothing more.
        let stuck = Job::new("stuck", Stuck(Mutex::new(wait))).run(async |_| {});
        let added = tokio::spawn({
            let jobs = jobs.clone();
            async move { jobs.add(stuck).await }
        });
        let silent = async { while tokio::time::timeout(OFTEN, jobs.health()).await.is_ok() {} };
        silent.await;

        jobs.shutdown_on(futures_util::stream::empty::<()>(), LEAST).expect("it fits").await;

        assert!(!added.is_finished(), "it is stuck to the end");
        drop(go);
        // Whether it was added before the shutdown matters not.
        let _ = added.await;
        assert_eq!(jobs.shutdown(LONG).await.still_running, 0);
    }

    promptly(main);
}
