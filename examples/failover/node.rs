//! One process of the cluster: a node that runs its jobs and says what happens, one line of JSON per event.

use std::{io::Read, sync::Arc, thread, time::Duration};

use actix::{Actor, Context, Handler};
use callsheet::{backend::Postgres, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_postgres::{Client, NoTls, Statement};

/// The variable that makes a process a node. Its value is a [`Plan`].
pub(crate) const PLAN: &str = "CALLSHEET_FAILOVER_NODE";
/// How long a node that is told to stop lets its runs drain.
const DRAIN: Duration = Duration::from_secs(10);

/// What a node is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) schema: String,
    pub(crate) jobs: Vec<JobPlan>,
}

/// A job: when it fires, what it excludes, how long it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobPlan {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) period_ms: u64,
    pub(crate) takes_ms: u64,
}

impl Plan {
    /// Where the nodes coordinate. The tables are there already.
    pub(crate) fn backend(&self) -> Postgres {
        Postgres::new("failover", &self.url).schema(&self.schema).migrate(false)
    }
}

/// Runs until SIGTERM, or until whoever started it is gone.
pub(crate) fn main(plan: &str) -> anyhow::Result<()> {
    actix::System::new().block_on(run(serde_json::from_str(plan)?))
}

async fn run(plan: Plan) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let orphaned = end_of_input();
    let bodies = Arc::new(Bodies::connect(&plan).await?);
    let job = |job: &JobPlan| {
        let period = every(Duration::from_millis(job.period_ms));
        let takes = Duration::from_millis(job.takes_ms);
        Job::new(&job.name, period).lock_key(&job.key).run_with((bodies.clone(), takes), body)
    };
    let jobs = Callsheet::builder()
        .backend(plan.backend())
        .jobs(plan.jobs.iter().map(job))
        .body_threads(2)
        .listen(Printer.start())
        .start()
        .await?;
    say(&json!({ "event": "ready", "at": chrono::Utc::now() }));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = orphaned => {}
    }
    jobs.shutdown(DRAIN).await;
    Ok(())
}

/// What the bodies write with. A connection lives on the runtime that opened it, so it is not opened by a body.
struct Bodies {
    client: Client,
    insert: Statement,
}

impl Bodies {
    async fn connect(plan: &Plan) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(&plan.url, NoTls).await?;
        // When it ends, the next body says so.
        actix_rt::spawn(connection);
        // Nothing keeps a tick from being written twice: that is what is to be shown.
        let insert = format!("INSERT INTO {}.bodies (job, fire_time, run) VALUES ($1, $2, $3)", plan.schema);
        let insert = client.prepare(&insert).await?;
        Ok(Self { client, insert })
    }
}

/// What every job does: write a row, then be busy for a while.
async fn body(run: Run, (bodies, takes): (Arc<Bodies>, Duration)) -> anyhow::Result<()> {
    let run_id = run.id().to_string();
    bodies.client.execute(&bodies.insert, &[&run.job().as_str(), &run.fire_time(), &run_id]).await?;
    tokio::select! {
        () = tokio::time::sleep(takes) => {}
        () = run.cancelled() => {}
    }
    Ok(())
}

/// Ends when the parent does, in whatever way: the pipe is its own.
fn end_of_input() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel::<()>();
    thread::spawn(move || {
        // What is read, and how it ends, does not matter.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(sender);
    });
    receiver
}

struct Printer;

impl Actor for Printer {
    type Context = Context<Self>;
}

impl Handler<Event> for Printer {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        say(&event);
    }
}

/// A line is in the pipe when this returns: what was said outlives the process.
fn say(what: &impl Serialize) {
    match serde_json::to_string(what) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{error}"),
    }
}
