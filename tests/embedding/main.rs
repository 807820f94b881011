//! The engine starts in any runtime and in none, keeps to threads of its own, and goes when it is told to.

#[path = "../process/mod.rs"]
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

mod bodies;
mod runtimes;
mod signals;
mod stopping;

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
