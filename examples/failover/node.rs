//! One process of the cluster: a node that runs its jobs and says what happens, one line of JSON per event.

use std::{
    fs::File,
    io::{Read, Write},
    sync::Arc,
    thread,
    time::Duration,
};

use actix::{Actor, Context, Handler};
use callsheet::{Builder, Faults, Settings, backend::Postgres, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tokio_postgres::{Client, NoTls, Statement};

/// The variable that makes a process a node. Its value is a [`Plan`], or [`FROM_INPUT`].
pub(crate) const PLAN: &str = "CALLSHEET_FAILOVER_NODE";
/// The plan is the first line of the input.
pub(crate) const FROM_INPUT: &str = "from input";
/// The bodies write to a file whose path follows.
pub(crate) const FILE: &str = "file:";
/// How long a node that is told to stop lets its runs drain.
const DRAIN: Duration = Duration::from_secs(10);

/// The jobs that have metrics of their own: what is read of them are sums.
const LABELS_MAX: usize = 32;

/// What a node is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Its number.
    pub(crate) node: usize,
    /// The scope in which the nodes coordinate where the environment says. `None`: on PostgreSQL, at the URL and in
    /// the schema that follow.
    pub(crate) scope: Option<String>,
    pub(crate) url: String,
    /// Where the bodies write: the URL of a database, or the path of a file behind `file:`.
    pub(crate) bodies_url: String,
    pub(crate) schema: String,
    pub(crate) lease: Duration,
    pub(crate) jobs: Vec<JobPlan>,
}

/// A job: when it fires, what it excludes, how long it takes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobPlan {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) period_ms: u64,
    pub(crate) takes_ms: u64,
    /// Whether any node may fire it, without an election.
    pub(crate) any_node: bool,
}

impl Plan {
    /// A node that coordinates where the plan says.
    fn builder(&self) -> Result<Builder, Faults> {
        match &self.scope {
            Some(scope) => {
                let mut settings = Settings::from_env()?;
                settings.scope = Some(scope.clone());
                settings.builder()
            }
            None => Ok(Callsheet::builder().backend(self.backend())),
        }
    }

    /// Where the nodes coordinate. The tables are there already.
    pub(crate) fn backend(&self) -> Postgres {
        Postgres::new("failover", &self.url).schema(&self.schema).lease(self.lease).migrate(false)
    }
}

/// Runs until SIGTERM, or until whoever started it is gone. `started` gets the scheduler once it has started.
pub(crate) fn main(plan: &str, started: impl FnOnce(&Callsheet)) -> anyhow::Result<()> {
    let mut line = String::new();
    if plan == FROM_INPUT {
        std::io::stdin().read_line(&mut line)?;
    }
    let plan = if plan == FROM_INPUT { &line } else { plan };
    actix::System::new().block_on(run(serde_json::from_str(plan)?, started))
}

async fn run(plan: Plan, started: impl FnOnce(&Callsheet)) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let orphaned = end_of_input();
    let bodies = Arc::new(Bodies::open(&plan).await?);
    let job = |job: &JobPlan| {
        let period = every(Duration::from_millis(job.period_ms));
        let takes = Duration::from_millis(job.takes_ms);
        let fires = if job.any_node { Fires::AnyNode } else { Fires::Leader };
        Job::new(&job.name, period).lock_key(&job.key).fires(fires).run_with((bodies.clone(), takes), body)
    };
    let jobs = plan
        .builder()?
        .jobs(plan.jobs.iter().map(job))
        .body_threads(2)
        .job_labels_max(LABELS_MAX)
        .listen(Printer.start())
        .start()
        .await?;
    started(&jobs);
    say(&json!({ "event": "ready", "at": chrono::Utc::now(), "pid": std::process::id() }));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = orphaned => {}
    }
    jobs.shutdown(DRAIN).await;
    Ok(())
}

/// What the bodies write with.
enum Bodies {
    Table(Table),
    /// A line of JSON for each mark, which is whole, whatever becomes of the process.
    File {
        node: usize,
        file: File,
    },
}

/// A connection lives on the runtime that opened it, so it is not opened by a body.
struct Table {
    node: i32,
    client: Client,
    begin: Statement,
    end: Statement,
}

impl Bodies {
    async fn open(plan: &Plan) -> anyhow::Result<Self> {
        match plan.bodies_url.strip_prefix(FILE) {
            Some(path) => {
                let file = File::options().append(true).create(true).open(path)?;
                Ok(Self::File { node: plan.node, file })
            }
            None => Table::connect(plan).await.map(Self::Table),
        }
    }

    /// A body began.
    async fn begin(&self, run: &Run) -> anyhow::Result<()> {
        let (job, key, id) = (run.job().as_str(), run.lock_key().as_str(), run.id().to_string());
        match self {
            Self::Table(Table { node, client, begin, .. }) => {
                client.execute(begin, &[node, &job, &key, &id, &token(run)?, &run.fire_time()]).await?;
                Ok(())
            }
            Self::File { node, file } => mark(*node, file, run, false),
        }
    }

    /// It ended.
    async fn end(&self, run: &Run) -> anyhow::Result<()> {
        match self {
            Self::Table(Table { client, end, .. }) => {
                client.execute(end, &[&run.id().to_string(), &token(run)?]).await?;
                Ok(())
            }
            Self::File { node, file } => mark(*node, file, run, true),
        }
    }
}

/// Writes a line, at once and as a whole.
fn mark(node: usize, mut file: &File, run: &Run, ended: bool) -> anyhow::Result<()> {
    let mark = json!({
        "node": node,
        "job": run.job().as_str(),
        "key": run.lock_key().as_str(),
        "run": run.id().to_string(),
        "token": token(run)?,
        "fire_time": run.fire_time(),
        "at": chrono::Utc::now(),
        "ended": ended,
    });
    Ok(file.write_all(format!("{mark}\n").as_bytes())?)
}

impl Table {
    async fn connect(plan: &Plan) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(&plan.bodies_url, NoTls).await?;
        // When it ends, the next body says so.
        actix_rt::spawn(connection);
        // It is a node that is killed, not the server: no row is lost, and none waits for a disk.
        client.batch_execute("SET synchronous_commit = off").await?;
        let table = format!("{}.bodies", plan.schema);
        let begin = format!(
            "INSERT INTO {table} (node, job, key, run, token, fire_time) VALUES ($1, $2, $3, $4, $5, $6)"
        );
        let begin = client.prepare(&begin).await?;
        let end = format!("UPDATE {table} SET ended_at = clock_timestamp() WHERE run = $1 AND token = $2");
        let end = client.prepare(&end).await?;
        Ok(Self { node: i32::try_from(plan.node)?, client, begin, end })
    }
}

fn token(run: &Run) -> anyhow::Result<i64> {
    Ok(run.token().map_or(Ok(0), |token| i64::try_from(token.0))?)
}

/// What every job does: write down that it began, be busy for a while, and write down that it ended.
async fn body(run: Run, (bodies, takes): (Arc<Bodies>, Duration)) -> anyhow::Result<()> {
    bodies.begin(&run).await?;
    tokio::select! {
        () = tokio::time::sleep(takes) => {}
        () = run.cancelled() => {}
    }
    bodies.end(&run).await
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
pub(crate) fn say(what: &impl Serialize) {
    let line = serde_json::to_string(what).expect("invariant: events are JSON");
    // An error: nobody listens any more.
    let _ = writeln!(std::io::stdout(), "{line}");
}
