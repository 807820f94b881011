//! A web service with jobs: watch them fire, add and remove them over HTTP, scrape their metrics.
//!
//! ```sh
//! cargo run --example quickstart                  # CALLSHEET_BIND=127.0.0.1:8081 serves another address
//! # The console, a live page for all to read, is at http://localhost:8080/
//!
//! # Nodes of one cluster, each on an address of its own: one leads, and its jobs fire once in the cluster.
//! CALLSHEET_BIND=127.0.0.1:8081 CALLSHEET_DATABASE_URL=postgres://user:password@host/database cargo run --example
//! quickstart
//! CALLSHEET_BACKEND=redis CALLSHEET_REDIS_URL=redis://host CALLSHEET_BIND=127.0.0.1:8081 cargo run --example
//! quickstart --features redis
//! CALLSHEET_LOCAL_FILE=callsheet.db cargo run --example quickstart --features sqlite         # forgets nothing
//! # What is posted is stored, for all nodes and after a restart: on PostgreSQL, or in a file that may be edited by hand.
//! CALLSHEET_CATALOGUE=jobs.toml cargo run --example quickstart --features file-catalogue
//! CALLSHEET_TZDIR=/usr/share/zoneinfo cargo run --example quickstart      # newer time zone data
//!
//! curl localhost:8080/jobs
//! curl localhost:8080/jobs -d '{"name": "hello", "cron": "* * * * *", "timezone": "Europe/Lisbon"}'
//! curl localhost:8080/jobs -d '{"name": "fast", "every": "500ms"}'
//! curl -X POST localhost:8080/jobs/hello/run      # now
//! curl localhost:8080/jobs/hello/runs             # or /runs, of all jobs: ?outcome=failed&limit=10
//! curl localhost:8080/jobs/hello/explain?at=2026-11-29T17:03:00Z      # did it run then, and why not?
//! curl -X DELETE localhost:8080/jobs/fast
//! curl localhost:8080/nodes                       # of the cluster: who leads, what each has, what runs
//! curl localhost:8080/health                      # or /livez, /readyz, /healthz: see callsheet::guide::deploying
//! curl localhost:8080/metrics
//! # The log is on standard error, the events are on standard output.
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints what happens")]

use std::{
    env,
    io::{self, IsTerminal},
    net::TcpListener,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Context, Handler};
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    error::ErrorBadRequest,
    http::{StatusCode, header},
    web::{self, Bytes, Data, Json, Path, Query},
};
use callsheet::{
    Arguments, Error, ErrorKind, Fault, Faults, HealthReport, JobName, JobStatus, NodeList, RunHistory,
    RunPage, Settings, ShutdownBudget, ShutdownReport, ShutdownSignals, StoredJob, TaskCall, When,
    console::Console,
    metrics::Prometheus,
    port::Expected,
    prelude::*,
    schedule::{Definition, IntoSchedule, Schedule, parse_duration, use_zone_data},
    schemars::{self, JsonSchema},
};
use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::timeout;

/// From SIGTERM to the end of the process: less than Kubernetes' 30 s.
const SHUTDOWN: ShutdownBudget = ShutdownBudget::within(Duration::from_secs(28));

#[actix_web::main]
async fn main() -> ExitCode {
    // What the scheduler has to say, from INFO on.
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).init();
    match run().await {
        Ok(report) => {
            println!("stopped: {report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quickstart did not run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<ShutdownReport> {
    let signals = ShutdownSignals::new()?;
    // Before anything is started, so that nothing has to be stopped if the address cannot be had.
    let listener = listen()?;
    let address = listener.local_addr()?;

    if let Some(dir) = env::var_os("CALLSHEET_TZDIR") {
        use_zone_data(dir)?;
    }
    let prometheus = Prometheus::install()?;
    // Alone, or a node of the cluster that has the same scope where the environment says.
    let mut settings = Settings::from_env()?;
    settings.scope.get_or_insert_with(|| "quickstart".to_owned());
    let in_file = settings.catalogue.is_some();
    let jobs = settings
        .builder()?
        .task::<Work>(())
        .listen(Printer.start())
        .job(Job::new("minutely", cron("* * * * *").timezone("Europe/Lisbon")).run(work))
        .job(Job::new("steady", every(Duration::from_secs(2))).run(work))
        .job(Job::new("moody", every(Duration::from_secs(3))).run(moody))
        .start()
        .await?;
    println!("listening on http://{address}");

    // Who may operate jobs there, an application says by `authorise`.
    let console = Console::new(jobs.clone()).anyone_may_read();
    let shared = Data::new(jobs.clone());
    let stores = Data::new(Stores(in_file || jobs.health().await?.backend == "postgres"));
    let app = move || {
        App::new()
            .app_data(shared.clone())
            .app_data(stores.clone())
            .service(prometheus.resource("/metrics"))
            .route("/health", web::get().to(health))
            .route("/livez", web::get().to(|jobs| probe(jobs, |health| health.live)))
            .route("/readyz", web::get().to(|jobs| probe(jobs, |health| health.ready)))
            .route("/healthz", web::get().to(|jobs| probe(jobs, |health| health.healthy)))
            .service(web::resource("/jobs").get(list).post(add))
            .service(web::resource("/jobs/{name}").get(details).delete(remove))
            .route("/jobs/{name}/run", web::post().to(trigger))
            .route("/nodes", web::get().to(nodes))
            .route("/runs", web::get().to(runs))
            .route("/jobs/{name}/runs", web::get().to(runs_of))
            .route("/jobs/{name}/explain", web::get().to(explain))
            // The last: it answers whatever is left.
            .service(console.scope("/"))
    };
    // The jobs first: while they drain the server still serves, and what was opened on its workers still
    // works.
    let server = HttpServer::new(app)
        .workers(2)
        .shutdown_timeout(SHUTDOWN.server_timeout_secs())
        .shutdown_signal(jobs.shutdown_on(signals, SHUTDOWN)?);
    let served = match server.listen(listener) {
        Ok(server) => server.run().await,
        Err(error) => Err(error),
    };
    // The same report; or, if the server has ended by itself, the jobs' turn.
    let report = jobs.shutdown(Duration::from_secs(10)).await;
    served?;
    Ok(report)
}

fn listen() -> Result<TcpListener, Faults> {
    let address = env::var("CALLSHEET_BIND").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    TcpListener::bind(&address).map_err(|error| {
        let rule = format!("it is an address of this machine with a port that nobody listens on: {error}");
        let cure = "stop the other program, or choose another address: CALLSHEET_BIND=127.0.0.1:8081";
        Fault::new("CALLSHEET_BIND", address, rule, cure).into()
    })
}

/// Whether jobs that are posted are stored, for all nodes, or are this node's own.
struct Stores(bool);

/// Prints one line per event.
struct Printer;

impl Actor for Printer {
    type Context = Context<Self>;
}

impl Handler<Event> for Printer {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        println!("{event}");
    }
}

/// What the jobs do; yours do something useful.
async fn work(_: Run) {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// The same for a job that is stored, and names it.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Work;

impl Task for Work {
    const NAME: &'static str = "work";
    type State = ();

    async fn run(self, run: Run, (): ()) -> RunResult {
        work(run).await;
        Ok(())
    }
}

async fn moody(run: Run) -> RunResult {
    work(run.clone()).await;
    let even = run.fire_time().is_some_and(|fire_time| fire_time.timestamp() % 2 == 0);
    if even { Err("not in the mood for even seconds".into()) } else { Ok(()) }
}

/// The body of `POST /jobs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewJob {
    name: String,
    cron: Option<String>,
    timezone: Option<String>,
    every: Option<String>,
}

impl NewJob {
    fn definition(self) -> Result<Definition, Faults> {
        match (self.cron, self.timezone, self.every) {
            (Some(expression), Some(zone), None) => Ok(cron(expression).timezone(zone).into()),
            (Some(expression), None, None) => Ok(cron(expression).into()),
            (None, None, Some(period)) => Ok(every(parse_duration(&period)?).into()),
            (cron, zone, every) => {
                let given = [cron.map(|_| "cron"), zone.map(|_| "timezone"), every.map(|_| "every")];
                let given = given.into_iter().flatten().collect::<Vec<_>>().join(" and ");
                let rule = "a job has either `cron`, with or without a `timezone`, or `every`";
                Err(Fault::new("schedule", given, rule, "give it one of the two").into())
            }
        }
    }
}

impl IntoSchedule for NewJob {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        self.definition()?.into_schedule()
    }
}

async fn add(jobs: Data<Callsheet>, stores: Data<Stores>, body: Bytes) -> actix_web::Result<HttpResponse> {
    let unreadable = |error| ErrorBadRequest(format!("the body is not the JSON of a job: {error}"));
    let new: NewJob = serde_json::from_slice(&body).map_err(unreadable)?;
    let name = new.name.clone();
    let scheduled = if stores.0 {
        let definition = new.definition().map_err(ErrorBadRequest)?;
        let work = TaskCall::new(Work::NAME, Arguments::default());
        jobs.put_if(&*name, &StoredJob::new(definition, work), Expected::Absent).await?;
        "stored".to_owned()
    } else {
        let Added { scheduled, .. } = jobs.add(Job::new(name.clone(), new).run(work)).await?;
        // On a follower: whether the leader fires it, or why not.
        scheduled.to_string()
    };
    let location = format!("/jobs/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
    let mut job = shown(&jobs.details(name).await?);
    job["scheduled"] = json!(scheduled);
    Ok(HttpResponse::Created().insert_header((header::LOCATION, location)).json(job))
}

/// An [`Error`] is an answer by itself: its status is that of its kind, and its text is the body.
async fn remove(
    jobs: Data<Callsheet>,
    stores: Data<Stores>,
    name: Path<String>,
) -> Result<HttpResponse, Error> {
    let name = name.into_inner();
    match jobs.delete(&*name).await {
        Err(error) if !stores.0 || error.kind() == ErrorKind::NotFound => drop(jobs.remove(name).await?),
        deleted => drop(deleted?),
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn trigger(jobs: Data<Callsheet>, name: Path<String>) -> Result<HttpResponse, Error> {
    let run = jobs.trigger(name.into_inner()).await?.run();
    Ok(HttpResponse::Accepted().json(json!({ "run": run })))
}

/// The nodes of the cluster, whichever of them is asked.
async fn nodes(jobs: Data<Callsheet>) -> Result<Json<NodeList>, Error> {
    Ok(Json(jobs.cluster().nodes().await?))
}

/// What the history keeps, of all nodes: the newest first, page by page.
async fn runs(jobs: Data<Callsheet>, asked: Query<RunHistory>) -> Result<Json<RunPage>, Error> {
    Ok(Json(jobs.runs(asked.into_inner()).await?))
}

async fn runs_of(
    jobs: Data<Callsheet>,
    name: Path<String>,
    asked: Query<RunHistory>,
) -> actix_web::Result<Json<RunPage>> {
    let job = JobName::new(name.into_inner()).map_err(ErrorBadRequest)?;
    Ok(Json(jobs.runs(asked.into_inner().job(job)).await?))
}

/// The query of `GET /jobs/{name}/explain`: an instant, or a range.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    at: Option<DateTime<Utc>>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

/// As data with `Accept: application/json`, otherwise in English.
async fn explain(
    jobs: Data<Callsheet>,
    name: Path<String>,
    asked: Query<Asked>,
    request: HttpRequest,
) -> actix_web::Result<HttpResponse> {
    let when = match asked.into_inner() {
        Asked { at: Some(at), from: None, to: None } => When::from(at),
        Asked { at: None, from: Some(from), to: Some(to) } => When::from(from..to),
        Asked { .. } => return Err(ErrorBadRequest("ask `at` an instant, or `from` one `to` another")),
    };
    let explained = jobs.explain(name.into_inner(), when).await?;
    let accepts = request.headers().get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("json")) {
        return Ok(HttpResponse::Ok().json(explained));
    }
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(explained.to_string()))
}

async fn list(jobs: Data<Callsheet>) -> Result<Json<Vec<Value>>, Error> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = jobs.list(ListJobs::default().after(after)).await?;
        all.extend(page.jobs.iter().map(shown));
        after = page.next;
        if after.is_none() {
            return Ok(Json(all));
        }
    }
}

async fn details(jobs: Data<Callsheet>, name: Path<String>) -> Result<Json<Value>, Error> {
    Ok(Json(shown(&jobs.details(name.into_inner()).await?)))
}

async fn health(jobs: Data<Callsheet>) -> Result<HttpResponse, Error> {
    let health = jobs.health().await?;
    Ok(HttpResponse::build(status(health.healthy)).json(health))
}

/// A short answer for a probe: `ok`, or a line for each problem.
async fn probe(jobs: Data<Callsheet>, well: fn(&HealthReport) -> bool) -> HttpResponse {
    let (well, text) = match timeout(Duration::from_secs(3), jobs.health()).await {
        Ok(Ok(health)) if well(&health) => (true, "ok\n".to_owned()),
        Ok(Ok(health)) => (false, health.problems.iter().map(|problem| format!("{problem}\n")).collect()),
        Ok(Err(error)) => (false, format!("{error}\n")),
        Err(_) => (false, "the engine does not answer\n".to_owned()),
    };
    HttpResponse::build(status(well)).content_type("text/plain; charset=utf-8").body(text)
}

fn status(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn shown(job: &JobStatus) -> Value {
    json!({
        "name": job.name,
        "schedule": job.schedule,
        "timezone": job.timezone,
        "stored": job.stored,
        "state": job.state,
        "reason": job.broken.as_ref().or(job.parked.as_ref()).or(job.conflicting.as_ref()),
        "pause": job.pause,
        "held": job.held,
        "next_fire_time": job.next_fire_time,
        "last_run": job.last_runs.first(),
    })
}
