//! The test kit, as an application uses it: a handle on virtual time, transcripts, and bodies that do real
//! I/O.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use actix::{Actor, Context, Handler};
use callsheet::{
    Bodiless, Callsheet, Error, ListJobs, Pause, RunResult, ShutdownBudget, prelude::*, testkit::simulate,
};
use chrono::{DateTime, Utc};
use tokio::{io::AsyncReadExt, runtime, task};

mod common;
use common::{assert_transcript, hours, mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";

fn hourly(name: &str) -> Job<Bodiless> {
    Job::new(name, every("1h"))
}

/// A function as applications have them.
async fn postpone(jobs: &Callsheet, job: &str, until: DateTime<Utc>) -> Result<bool, Error> {
    if jobs.details(job).await?.pause.is_some() {
        return Ok(false);
    }
    jobs.pause_with(job, Pause::until(until).note("postponed")).await?;
    Ok(true)
}

#[test]
fn a_function_that_takes_a_handle_works_on_virtual_time() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("mail").run(async |_| {})])).await;
        let jobs = Callsheet::of_rig(rig, node);
        let until = rig.now() + hours(3) + mins(10);

        assert_eq!(postpone(&jobs, "mail", until).await, Ok(true));
        assert_eq!(postpone(&jobs, "mail", until).await, Ok(false));
        let unknown = postpone(&jobs, "male", until).await.expect_err("there is none");
        assert_eq!(unknown.kind(), ErrorKind::NotFound);

        rig.advance(hours(3)).await;
        assert_eq!(rig.started("mail"), 0);
        rig.advance(hours(3)).await;
        // The one that the pause held at its end, and those after it.
        assert_eq!(rig.started("mail"), 4);
    });
}

#[test]
fn a_handle_on_virtual_time_does_what_any_handle_does() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([])).await;
        let jobs = Callsheet::of_rig(rig, node);
        let mut ends = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded]));

        jobs.add(hourly("takes a minute").run(async |_| tokio::time::sleep(mins(1)).await)).await.unwrap();
        jobs.add(hourly("waits").run(async |run| run.cancelled().await)).await.unwrap();
        let before = rig.now();
        let run = jobs.trigger("takes a minute").await.unwrap();
        let id = run.run();
        assert_eq!(run.finished().await, Outcome::Succeeded);
        assert_eq!((rig.now() - before).num_seconds(), 60);
        let end = ends.next().await.expect("it has ended").kind;
        assert!(matches!(end, EventKind::RunSucceeded { run, .. } if run == id), "{end}");

        let run = jobs.trigger("waits").await.unwrap();
        assert_eq!(jobs.cancel_run(run.run()).await.unwrap().as_str(), "waits");
        assert_eq!(run.finished().await, Outcome::Cancelled);
        jobs.reschedule("waits", cron("0 12 * * *")).await.unwrap();
        let noon: DateTime<Utc> = "2026-01-05T12:00:00Z".parse().expect("an instant");
        assert_eq!(jobs.next_fire_times("waits", 1).await.unwrap(), [noon]);
        jobs.update(hourly("waits").tag("often").run(async |_| {})).await.unwrap();
        assert_eq!(jobs.list(ListJobs::default().tag("often")).await.unwrap().jobs.len(), 1);
        jobs.pause("waits").await.unwrap();
        assert_eq!(jobs.details("waits").await.unwrap().state, JobState::Paused);
        jobs.resume("waits").await.unwrap();
        assert!(jobs.health().await.unwrap().healthy);
        jobs.remove("waits").await.unwrap();
        rig.advance(hours(5)).await;
        assert_eq!((rig.started("takes a minute"), rig.started("waits")), (6, 1));

        let stopped = jobs.shutdown_on(futures_util::stream::iter([()]), ShutdownBudget::within(secs(28)));
        stopped.expect("it fits").await;
        let report = jobs.shutdown(secs(10)).await;
        assert_eq!((report.drained, report.cancelled), (0, 0));
        assert_eq!(jobs.list(ListJobs::default()).await, Err(Error::Stopped));
    });
}

#[test]
fn the_handle_of_a_killed_node_answers_that_it_has_stopped() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([hourly("mail").run(async |_| {})])).await;
        let jobs = Callsheet::of_rig(rig, node);

        rig.kill(node);

        assert_eq!(jobs.trigger("mail").await.expect_err("it is dead"), Error::Stopped);
    });
}

#[test]
fn a_story_that_crosses_days_shows_the_dates() {
    simulate("2026-02-28T23:30:00Z", async |rig| {
        rig.node(node_with([Job::new("noon", cron("0 12 * * *")).run(async |_| {})])).await;
        rig.advance(hours(36)).await;

        assert_transcript(
            rig,
            "2026-02-28\n\
             23:30:00.001 n1 JobAdded noon\n\
             23:30:00.002 n1 LeadershipGained term 1\n\
             2026-03-01\n\
             12:00:00.001 n1 RunStarted noon 2026-03-01T12:00:00Z late 1.0ms\n\
             12:00:00.001 n1 RunSucceeded noon took 0.0ns\n",
        );
    });
}

#[test]
fn a_node_is_made_by_a_closure_on_it_async_or_not() {
    struct Clerk;
    impl Actor for Clerk {
        type Context = Context<Self>;
    }
    impl Handler<Run> for Clerk {
        type Result = RunResult;

        fn handle(&mut self, _: Run, _: &mut Self::Context) -> RunResult {
            Ok(())
        }
    }
    simulate(START, async |rig| {
        let name = "one".to_owned();
        rig.drive_node(move || node_with([hourly(&name).run_actor(Clerk.start())])).await;
        rig.drive_node(async || {
            tokio::time::sleep(secs(1)).await;
            node_with([hourly("two").run_actor(Clerk.start())])
        })
        .await;
        rig.advance(mins(61)).await;

        assert_eq!((rig.started("one"), rig.started("two")), (1, 1));
    });
}

// Bodies that do real I/O: the table in the guide to tests.

/// A real server that says hello to whoever comes, once it is told to; and when it has.
struct Server {
    address: SocketAddr,
    go_on: mpsc::Sender<()>,
    ended: thread::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (go_on, told) = mpsc::channel();
        let ended = thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("somebody comes");
            told.recv().expect("it is told");
            // Whoever came may have gone.
            let _ = client.write_all(b"hello");
        });
        Self { address, go_on, ended }
    }

    /// After a while in real time.
    fn go_on_later(&self) {
        let go_on = self.go_on.clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            go_on.send(()).expect("the server waits");
        });
    }
}

fn fetch(address: SocketAddr) -> std::io::Result<()> {
    let mut said = String::new();
    TcpStream::connect(address)?.read_to_string(&mut said)?;
    assert_eq!(said, "hello");
    Ok(())
}

async fn fetch_async(address: SocketAddr) -> std::io::Result<()> {
    let mut said = String::new();
    tokio::net::TcpStream::connect(address).await?.read_to_string(&mut said).await?;
    assert_eq!(said, "hello");
    Ok(())
}

/// Triggers the job, whose timeout is a second of virtual time. Answers how it ended, and how long that took
/// in virtual time.
fn outcome_of(job: Job) -> (Outcome, Duration) {
    let mut ended = None;
    simulate(START, async |rig| {
        let node = rig.node(node_with([job])).await;
        // Whatever the start has to do is done.
        rig.advance(secs(5)).await;
        let before = rig.now();
        let run = Callsheet::of_rig(rig, node).trigger("fetch").await.expect("it starts");
        let outcome = run.finished().await;
        ended = Some((outcome, (rig.now() - before).to_std().expect("time goes on")));
        // What it has to tell the store.
        rig.advance(secs(1)).await;
    });
    ended.expect("it ends")
}

fn fetching() -> Job<Bodiless> {
    hourly("fetch").timeout(secs(1)).abort_after(secs(1))
}

#[test]
fn time_stands_still_while_a_body_blocks() {
    let bodies: [fn(SocketAddr) -> Job; 3] = [
        |address| fetching().run_with(address, async |_, address| fetch(address)),
        |address| fetching().run_blocking(move |_| fetch(address)),
        |address| {
            fetching().run_with(address, async |_, address| {
                let real = move || {
                    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                    runtime.block_on(fetch_async(address))
                };
                task::spawn_blocking(real).await.expect("it does not panic")
            })
        },
    ];
    for body in bodies {
        let server = Server::start();
        server.go_on_later();

        let (outcome, took) = outcome_of(body(server.address));

        assert_eq!(outcome, Outcome::Succeeded);
        assert!(took < Duration::from_millis(10), "{took:?}");
        server.ended.join().expect("it has said hello");
    }
}

#[test]
fn a_body_that_uses_sockets_of_tokio_panics() {
    let (outcome, _) =
        outcome_of(fetching().run(async |_| fetch_async("127.0.0.1:1".parse().expect("an address")).await));

    assert_eq!(outcome, Outcome::Panicked);
}

#[test]
fn time_does_not_wait_for_another_runtime() {
    let real =
        runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (server, there) = (Server::start(), real.handle().clone());
    let address = server.address;

    let (outcome, took) = outcome_of(fetching().run_with((there, address), async |_, (there, address)| {
        there.spawn(fetch_async(address)).await.expect("it does not panic")
    }));

    assert_eq!(outcome, Outcome::TimedOut);
    assert!((secs(1)..secs(3)).contains(&took), "{took:?}");
    server.go_on.send(()).expect("the server waits");
    server.ended.join().expect("it was told");
}
