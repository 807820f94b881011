//! Postbox: a service that sends letters when they are due.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::prelude::*;
use actix_web::{
    App, HttpResponse, HttpServer, Responder, get,
    http::StatusCode,
    post, put,
    web::{Bytes, Data, Json, Path},
};
use callsheet::{
    Error, JobPage, JobStatus, ShutdownReport, metrics::Prometheus, prelude::*, schedule::Definition,
};
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info, warn};

/// The operator's file. What it does not say is as in [`jobs`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    collect: JobConfig,
    #[serde(default)]
    sort: JobConfig,
    /// How long the delivery of a letter may take.
    #[serde(with = "callsheet::serde::duration")]
    delivery: Duration,
}

/// What the jobs and the handlers share.
#[derive(Clone)]
pub(crate) struct Office {
    delivery: Duration,
    delivered: Arc<Mutex<Vec<String>>>,
}

impl Office {
    pub(crate) fn new(config: &Config) -> Self {
        Self { delivery: config.delivery, delivered: Arc::default() }
    }

    pub(crate) fn delivered(&self) -> Vec<String> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn deliver(&self, letter: String) {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
    }
}

/// The jobs that every node has.
pub(crate) fn jobs(config: Config, office: &Office) -> [Job; 3] {
    [
        Job::new("collect", cron("0 9-17 * * MON-FRI").timezone("Europe/Lisbon"))
            .retry(Retry::attempts(3))
            .misfire_after(Duration::from_secs(5))
            .apply(config.collect)
            .run_with(office.clone(), collect),
        Job::new("sort", any([random("10m", "20m").into(), cron("@daily").into()]))
            .apply(config.sort)
            .run_blocking(sort),
        Job::new("stamp", every("1h")).run_actor(Stamper { stamped: 0 }.start()),
    ]
}

async fn collect(run: Run, office: Office) -> RunResult {
    if office.delivered().is_empty() {
        return Err(RunError::permanent("there is nothing to collect"));
    }
    info!(time_left = ?run.time_left(), "collected");
    Ok(())
}

/// It takes a processor, so it has a thread that may be blocked.
fn sort(_: Run) {
    info!("sorted");
}

/// There is one stamp, so an actor has it.
struct Stamper {
    stamped: u32,
}

impl Actor for Stamper {
    type Context = Context<Self>;
}

impl Handler<Run> for Stamper {
    type Result = ResponseFuture<RunResult>;

    fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
        self.stamped += 1;
        let stamped = self.stamped;
        let stamp = async move {
            info!(stamped, "stamped");
            Ok(())
        };
        Box::pin(stamp.instrument(run.span().clone()))
    }
}

/// A letter, and when it is to be delivered.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) to: String,
    pub(crate) at: DateTime<Utc>,
}

/// The answer to who posted a letter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) job: String,
    pub(crate) due: Option<DateTime<Utc>>,
}

/// Makes a job of a letter. It is gone once the letter is delivered.
pub(crate) async fn post_letter(jobs: &Callsheet, office: &Office, letter: Letter) -> Result<Posted, Error> {
    let job = Job::new(format!("letter.{}", letter.to), at(letter.at))
        .tag("letter")
        .metrics_label("letter")
        .timeout(office.delivery)
        .abort_after(Duration::from_secs(1))
        .remove_when_done()
        .run_with((office.clone(), letter.to), deliver);
    let Added { job, .. } = jobs.add(job).await?;
    let due = jobs.details(&job).await?.next_fire_time;
    Ok(Posted { job: job.into(), due: due.map(DateTime::from) })
}

async fn deliver(_: Run, (office, letter): (Office, String)) {
    info!(letter, "delivered");
    office.deliver(letter);
}

#[post("/letters")]
async fn letters(
    jobs: Data<Callsheet>,
    office: Data<Office>,
    letter: Json<Letter>,
) -> Result<impl Responder, Error> {
    let posted = post_letter(&jobs, &office, letter.into_inner()).await?;
    Ok((Json(posted), StatusCode::CREATED))
}

#[get("/jobs")]
async fn list(jobs: Data<Callsheet>) -> Result<Json<JobPage>, Error> {
    Ok(Json(jobs.list(ListJobs::default()).await?))
}

/// Answers when the run has ended.
#[post("/jobs/{name}/run")]
async fn trigger(jobs: Data<Callsheet>, name: Path<String>) -> Result<Json<Outcome>, Error> {
    Ok(Json(jobs.trigger(name.into_inner()).await?.finished().await))
}

/// Answers with what is probably not meant.
#[put("/jobs/{name}/schedule")]
async fn reschedule(
    jobs: Data<Callsheet>,
    name: Path<String>,
    schedule: Json<Definition>,
) -> Result<Json<Vec<String>>, Error> {
    jobs.reschedule(name.into_inner(), schedule.clone()).await?;
    let warnings = schedule.lint(Utc::now()).unwrap_or_default();
    Ok(Json(warnings.iter().map(ToString::to_string).collect()))
}

#[derive(Deserialize)]
struct Break {
    #[serde(with = "callsheet::serde::duration")]
    lasts: Duration,
    why: String,
}

#[put("/jobs/{name}/pause")]
async fn pause(
    jobs: Data<Callsheet>,
    name: Path<String>,
    given: Json<Break>,
) -> Result<Json<JobStatus>, Error> {
    let Break { lasts, why } = given.into_inner();
    jobs.pause_with(name.as_str(), Pause::until(Utc::now() + lasts).note(why)).await?;
    Ok(Json(jobs.details(name.into_inner()).await?))
}

/// A line of JSON for each run that ends, until the service stops.
#[get("/ends")]
async fn ends(jobs: Data<Callsheet>) -> impl Responder {
    let ends = jobs.events(EventFilter::new().kinds([EventName::RunSucceeded, EventName::RunFailed]));
    let lines =
        ends.map(|event| serde_json::to_vec(&event).map(|line| Bytes::from([line, b"\n".into()].concat())));
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}

/// Serves until it is told to stop; the jobs end first.
pub(crate) async fn serve(
    config: Config,
    listener: TcpListener,
    stop: impl Stream<Item: Send> + Send + 'static,
) -> anyhow::Result<ShutdownReport> {
    let prometheus = Prometheus::install()?;
    let office = Office::new(&config);
    let jobs = Callsheet::builder()
        .jobs(jobs(config, &office))
        .after_failure(async |ended| warn!(outcome = ended.outcome.as_str(), "somebody should look at it"))
        .start()
        .await?;
    let (shared, office) = (Data::new(jobs.clone()), Data::new(office));
    let app = move || {
        let app = App::new().app_data(shared.clone()).app_data(office.clone());
        let app = app.service(letters).service(list).service(trigger).service(reschedule).service(pause);
        app.service(ends).service(prometheus.resource("/metrics"))
    };
    let budget = ShutdownBudget::within(Duration::from_secs(28));
    let server = HttpServer::new(app)
        .workers(1)
        .shutdown_timeout(budget.server_timeout_secs())
        .shutdown_signal(jobs.shutdown_on(stop, budget)?);
    let served = server.listen(listener)?.run().await;
    let report = jobs.shutdown(Duration::from_secs(10)).await;
    served?;
    Ok(report)
}
