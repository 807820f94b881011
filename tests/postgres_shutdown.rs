//! A service of jobs and an actix-web server, run as a process and stopped by signals: jobs drain while the
//! server still serves.

#![allow(clippy::print_stdout, reason = "the service tells the test that started it what happens")]

#[path = "common/postgres.rs"]
mod harness;
mod process;

use std::{
    env,
    io::Write,
    net::TcpStream,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{
    App, HttpResponse, HttpServer,
    web::{self, Data, Path},
};
use callsheet::{Error, EventFilter, EventName, ShutdownBudget, ShutdownSignals, prelude::*};
use process::{DEADLINE, Process};
use rustix::process::Signal;
use tokio::sync::{OnceCell, watch};
use tokio_postgres::{Client, NoTls};
use ureq::http::Request;

/// Says which role a child process of this test plays.
const ROLE: &str = "CALLSHEET_TEST_ROLE";
/// Where its database is.
const URL: &str = "CALLSHEET_TEST_URL";
const HOUR: Duration = Duration::from_hours(1);

/// What requests and bodies share.
#[derive(Clone, Default)]
struct Shared {
    /// Opened by the first request that asks for it, and driven by the worker of the server that served it.
    connection: Arc<OnceCell<Client>>,
    /// Runs may end.
    finish: Arc<watch::Sender<bool>>,
}

/// Ends when it is told to, after a question to the database if there is a connection.
async fn patient(_: Run, shared: Shared) -> anyhow::Result<()> {
    println!("run started");
    shared.finish.subscribe().wait_for(|finish| *finish).await?;
    if let Some(connection) = shared.connection.get() {
        let row = connection.query_one("SELECT 7", &[]).await?;
        println!("the database answered {}", row.get::<_, i32>(0));
    }
    Ok(())
}

async fn stubborn(_: Run) {
    println!("run started");
    std::future::pending().await
}

/// It can be neither cancelled nor aborted.
async fn blocking(_: Run) {
    println!("run started");
    std::thread::sleep(HOUR);
}

async fn jobs(abort_after: Duration, shared: &Shared) -> Callsheet {
    let never = || cron("0 0 29 2 *");
    let builder = Callsheet::builder().shutdown_abort_after(abort_after).jobs([
        Job::new("patient", never()).run_with(shared.clone(), patient),
        Job::new("stubborn", never()).run(stubborn),
        Job::new("blocking", never()).run(blocking),
        Job::new("quick", never()).run(async |_| {}),
    ]);
    let jobs = builder.start().await.expect("it starts");
    let mut events = jobs.events(EventFilter::new().kinds([EventName::ShutdownStarted]));
    actix_web::rt::spawn(async move {
        if events.next().await.is_some() {
            println!("shutdown started");
        }
    });
    jobs
}

/// Serves until a signal comes, and says how it ended.
async fn serve(abort_after: Duration, budget: ShutdownBudget) {
    let shared = Shared::default();
    let signals = ShutdownSignals::new().expect("signals");
    let jobs = jobs(abort_after, &shared).await;
    let handle = Data::new(jobs.clone());
    let app = move || {
        App::new()
            .app_data(Data::new(shared.clone()))
            .app_data(handle.clone())
            .route("/connect", web::post().to(connect))
            .route("/finish", web::post().to(finish))
            .route("/hang", web::get().to(hang))
            .route("/readyz", web::get().to(ready))
            .route("/jobs", web::post().to(add))
            .route("/jobs/{job}/run", web::post().to(trigger))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .shutdown_timeout(budget.server_timeout_secs())
        .shutdown_signal(jobs.shutdown_on(signals, budget).expect("it fits"))
        .bind("127.0.0.1:0")
        .expect("a free port");
    println!("listening on {}", server.addrs()[0]);
    let served = server.run().await;
    println!("served: {served:?}");
    println!("report: {}", jobs.shutdown(HOUR).await);
}

async fn connect(shared: Data<Shared>) -> HttpResponse {
    let open = || async {
        let url = env::var(URL).expect("a database");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
        actix_web::rt::spawn(connection);
        client
    };
    shared.connection.get_or_init(open).await;
    HttpResponse::Ok().finish()
}

async fn finish(shared: Data<Shared>) -> HttpResponse {
    shared.finish.send_replace(true);
    HttpResponse::Ok().finish()
}

async fn hang() -> HttpResponse {
    println!("a request hangs");
    std::future::pending().await
}

async fn ready(jobs: Data<Callsheet>) -> HttpResponse {
    match jobs.health().await {
        Ok(health) if health.ready => HttpResponse::Ok().finish(),
        Ok(health) => HttpResponse::ServiceUnavailable().body(format!("{:?}", health.problems)),
        Err(error) => refused(&error),
    }
}

async fn add(jobs: Data<Callsheet>) -> HttpResponse {
    match jobs.add(Job::new("new", every(HOUR)).run(async |_| {})).await {
        Ok(_) => HttpResponse::Created().finish(),
        Err(error) => refused(&error),
    }
}

async fn trigger(jobs: Data<Callsheet>, job: Path<String>) -> HttpResponse {
    match jobs.trigger(job.into_inner()).await {
        Ok(_) => HttpResponse::Accepted().finish(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> HttpResponse {
    HttpResponse::ServiceUnavailable().body(error.to_string())
}

/// The service as its tests see it.
struct Service {
    process: Process,
    address: String,
}

impl Service {
    /// This program again, with one test, which finds [`ROLE`] set.
    fn start(test: &str) -> Self {
        let mut command = Command::new(env::current_exe().expect("a path"));
        command.args(["--exact", test, "--nocapture"]).env(ROLE, test);
        let mut process = Process::start(command.env(URL, harness::server().url()));
        let listening = process.wait_for("listening on ");
        let (_, address) = listening.split_once("listening on ").expect("it was found");
        Self { process, address: address.to_owned() }
    }

    fn signal(&mut self) {
        self.process.signal(Signal::TERM);
    }

    fn wait_for(&mut self, text: &str) {
        self.process.wait_for(text);
    }

    /// The status and the text of an answer.
    fn send(&self, method: &str, path: &str) -> (u16, String) {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent = config.timeout_global(Some(DEADLINE)).build().into();
        let url = format!("http://{}{path}", self.address);
        let request = Request::builder().method(method).uri(url).body(()).expect("a request");
        let mut answer = agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("a body"))
    }

    fn trigger(&mut self, job: &str) {
        assert_eq!(self.send("POST", &format!("/jobs/{job}/run")).0, 202);
        self.wait_for("run started");
    }

    /// What it says at its end.
    fn end(mut self) -> (String, Vec<String>) {
        let (code, last) = self.process.end();
        let lines: Vec<_> = self.process.seen.drain(..).chain(last).collect();
        assert_eq!(code, Some(0), "{lines:?}");
        assert!(lines.iter().any(|line| line == "served: Ok(())"), "{lines:?}");
        let report = lines.iter().find_map(|line| line.strip_prefix("report: "));
        (report.unwrap_or_else(|| panic!("{lines:?}")).to_owned(), lines)
    }
}

/// In a child process the service, else nothing.
fn is_service(abort_after: Duration, budget: ShutdownBudget) -> bool {
    let child = env::var_os(ROLE).is_some();
    if child {
        actix_web::rt::System::new().block_on(serve(abort_after, budget));
    }
    child
}

/// Runs drain for about an hour.
const PATIENT: ShutdownBudget = ShutdownBudget::within(HOUR);

#[test]
fn a_body_drains_with_a_connection_of_a_server_worker() {
    if is_service(Duration::ZERO, PATIENT) {
        return;
    }
    let mut service = Service::start("a_body_drains_with_a_connection_of_a_server_worker");
    assert_eq!(service.send("POST", "/connect").0, 200);
    service.trigger("patient");

    service.signal();
    service.wait_for("shutdown started");
    assert_eq!(service.send("POST", "/finish").0, 200);

    let (report, lines) = service.end();
    assert!(lines.iter().any(|line| line == "the database answered 7"), "{lines:?}");
    assert_eq!(report, "drained 1, cancelled 0, aborted 0");
}

#[test]
fn a_request_while_jobs_drain_is_told_so() {
    if is_service(Duration::ZERO, PATIENT) {
        return;
    }
    let mut service = Service::start("a_request_while_jobs_drain_is_told_so");
    assert_eq!(service.send("GET", "/readyz").0, 200);
    service.trigger("patient");

    service.signal();
    service.wait_for("shutdown started");

    let (status, problems) = service.send("GET", "/readyz");
    assert!(status == 503 && problems.contains("ShuttingDown"), "{status}: {problems}");
    for path in ["/jobs", "/jobs/quick/run", "/jobs/patient/run"] {
        let (status, reason) = service.send("POST", path);
        assert!(status == 503 && reason.contains("the engine shuts down"), "{path}: {status}: {reason}");
    }
    assert_eq!(service.send("POST", "/finish").0, 200);
    assert_eq!(service.end().0, "drained 1, cancelled 0, aborted 0");
}

#[test]
fn a_second_signal_stops_the_jobs_at_once() {
    // Neither the deadline nor the time to abort is waited for.
    if is_service(HOUR / 2, PATIENT) {
        return;
    }
    let mut service = Service::start("a_second_signal_stops_the_jobs_at_once");
    service.trigger("stubborn");
    service.signal();
    service.wait_for("shutdown started");

    service.signal();

    assert_eq!(service.end().0, "drained 0, cancelled 0, aborted 1");
}

#[test]
fn before_its_jobs_stop_a_node_is_not_ready_but_works() {
    if is_service(Duration::ZERO, PATIENT.readiness_delay(HOUR / 2)) {
        return;
    }
    let mut service = Service::start("before_its_jobs_stop_a_node_is_not_ready_but_works");

    service.signal();

    let until = Instant::now() + DEADLINE;
    while service.send("GET", "/readyz").0 != 503 {
        assert!(Instant::now() < until, "it stays ready");
    }
    service.trigger("patient");
    assert_eq!(service.send("POST", "/jobs").0, 201);

    service.signal();
    let (report, _) = service.end();
    assert!(report.ends_with("aborted 1"), "{report}");
}

#[test]
fn requests_and_runs_that_hang_end_within_the_total() {
    let total = Duration::from_secs(15);
    let budget = ShutdownBudget::within(total).server_timeout(Duration::from_secs(1));
    if is_service(Duration::from_secs(1), budget) {
        return;
    }
    let mut service = Service::start("requests_and_runs_that_hang_end_within_the_total");
    service.trigger("stubborn");
    service.trigger("blocking");
    let mut request = TcpStream::connect(&service.address).expect("it listens");
    request.write_all(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    service.wait_for("a request hangs");

    let signalled = Instant::now();
    service.signal();
    let (report, _) = service.end();

    assert!(signalled.elapsed() <= total, "{:?}", signalled.elapsed());
    assert_eq!(report, "drained 0, cancelled 0, aborted 1, still running 1");
}

#[test]
fn jobs_drain_after_a_server_that_ends_with_an_error() {
    #[actix_web::main]
    async fn main() {
        let shared = Shared::default();
        let jobs = jobs(Duration::ZERO, &shared).await;
        jobs.trigger("patient").await.expect("it starts");
        // Its workers do not start.
        let app = || App::new().data_factory(|| async { Err::<(), _>("the state is lost") });
        let signals = ShutdownSignals::new().expect("signals");
        let server = HttpServer::new(app)
            .workers(1)
            .shutdown_signal(jobs.shutdown_on(signals, PATIENT).expect("it fits"))
            .bind("127.0.0.1:0")
            .expect("a free port");

        let served = server.run().await;
        assert!(served.is_err());
        let mut started = jobs.events(EventFilter::new().kinds([EventName::ShutdownStarted]));
        let finish = async {
            started.next().await;
            shared.finish.send_replace(true);
        };
        let (report, ()) = tokio::join!(jobs.shutdown(HOUR), finish);

        assert_eq!(report.to_string(), "drained 1, cancelled 0, aborted 0");
    }

    main();
}

#[test]
fn a_signal_before_the_server_runs_is_not_lost() {
    #[actix_web::main]
    async fn main() {
        let signals = ShutdownSignals::new().expect("signals");
        let jobs = jobs(Duration::ZERO, &Shared::default()).await;
        let signal = jobs.shutdown_on(signals, PATIENT).expect("it fits");
        rustix::process::kill_process(rustix::process::getpid(), Signal::TERM).expect("it runs");

        let server = HttpServer::new(App::new).workers(1).shutdown_signal(signal);
        let served = server.bind("127.0.0.1:0").expect("a free port").run().await;

        println!("served: {served:?}");
        println!("report: {}", jobs.shutdown(HOUR).await);
    }

    if env::var_os(ROLE).is_some() {
        return main();
    }
    let test = "a_signal_before_the_server_runs_is_not_lost";
    let mut command = Command::new(env::current_exe().expect("a path"));
    let process = Process::start(command.args(["--exact", test, "--nocapture"]).env(ROLE, test));
    let service = Service { process, address: String::new() };
    assert_eq!(service.end().0, "drained 0, cancelled 0, aborted 0");
}
