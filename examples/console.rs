//! The console of a small cluster: two nodes in this process, with jobs that succeed, fail, hang, wait and are overdue.
//!
//! ```sh
//! cargo run --example console --features console,testkit      # then open http://127.0.0.1:8080/console/
//!
//! # The two nodes coordinate on PostgreSQL, or where the variables of the guide on configuration say:
//! CALLSHEET_DATABASE_URL=postgres://user:password@host/database cargo run --example console --features console,testkit
//! CALLSHEET_BIND=127.0.0.1:9000 cargo run --example console --features console,testkit        # and 9001: the second
//! node
//! ```
//!
//! Whoever reaches the address may do anything, so it is one of this machine. An application asks its own users in
//! `authorise`. Every two minutes the leader resigns, so that there are terms to look at.

#![allow(clippy::print_stdout, reason = "it says where the console is")]

use std::{env, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{App, HttpServer};
use anyhow::{Context, anyhow};
use callsheet::{
    Backfill, Builder, HistoryOptions, Settings, StoredJob,
    console::{Access, Console},
    port::{Clock, MemoryBounds, SystemClock},
    prelude::*,
    schemars::{self, JsonSchema},
    testkit::MemoryRecords,
};
use callsheet_actors::adapter::{MemoryCatalogue, MemoryHistory, RecordsBackend};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

const SCOPE: &str = "console";
const LEASE: Duration = Duration::from_secs(10);
const RESIGNS_EVERY: Duration = Duration::from_mins(2);
const TENANTS: u32 = 24;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let bind = env::var("CALLSHEET_BIND").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let first: SocketAddr = bind.parse().context("CALLSHEET_BIND is an address with a port")?;
    let second =
        SocketAddr::new(first.ip(), first.port().checked_add(1).context("its port is below 65,535")?);
    let signals = ShutdownSignals::new()?;

    let cluster = Cluster::new()?;
    let nodes = [cluster.start("web-1").await?, cluster.start("web-2").await?];
    stage(&nodes[0]).await?;
    actix_web::rt::spawn(hand_over(nodes.clone()));
    for (node, address) in nodes.iter().zip([first, second]) {
        // No name of another site can be made to lead to this console, which trusts whoever reaches it.
        let console = Console::new(node.clone()).origin(format!("http://{address}"))?;
        let console = console.authorise(async |_| Access::Edit("alice".to_owned()));
        let server = HttpServer::new(move || App::new().service(console.scope("/console")))
            .workers(1)
            .disable_signals()
            .bind(address)
            .with_context(|| format!("{address} is taken: choose another one in CALLSHEET_BIND"))?;
        println!("the console is at http://{address}/console/");
        actix_web::rt::spawn(server.run());
    }
    // The process ends with the first signal; what runs then may end.
    nodes[0].shutdown_on(signals, ShutdownBudget::within(Duration::from_secs(28)))?.await;
    nodes[1].shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Where the two nodes coordinate, and what they keep together.
struct Cluster {
    records: MemoryRecords,
    history: Arc<MemoryHistory>,
    catalogue: MemoryCatalogue,
    settings: Settings,
}

impl Cluster {
    fn new() -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let mut settings = Settings::from_env()?;
        settings.scope.get_or_insert_with(|| SCOPE.to_owned());
        Ok(Self {
            records: MemoryRecords::new(clock.clone()),
            history: Arc::new(MemoryHistory::new(MemoryBounds::default())),
            catalogue: MemoryCatalogue::new(clock),
            settings,
        })
    }

    async fn start(&self, name: &'static str) -> anyhow::Result<Callsheet> {
        let Settings { backend, database, local, .. } = &self.settings;
        let node = jobs(self.settings.builder()?.node_name(name).max_concurrent_runs(32));
        if backend.is_some() || database.url.is_some() || database.host.is_some() || local.file.is_some() {
            return Ok(node.start().await?);
        }
        let mut history = HistoryOptions::default();
        history.store = Some(self.history.clone());
        let backend = RecordsBackend::new(Arc::new(self.records.clone()), SCOPE, LEASE);
        Ok(node.backend(backend).history(history).catalogue(self.catalogue.clone()).start().await?)
    }
}

/// The jobs of the code: each node has them.
fn jobs(node: Builder) -> Builder {
    let seconds = Duration::from_secs;
    let nightly = (1..=TENANTS).map(|tenant| {
        Job::new(format!("tenant-{tenant:02}/close-the-day"), cron("0 0 * * *"))
            .tag("nightly")
            .tag("tenants")
            .run(quick)
    });
    node.task::<SendReport>(())
        .jobs(nightly)
        .job(Job::new("cache/warm", every(seconds(3))).tag("cache").fires(Fires::AnyNode).run(quick))
        .job(Job::new("import/prices", every(seconds(5))).tag("import").run(import_prices))
        .job(
            Job::new("import/partners", every(seconds(15)))
                .tag("import")
                .retry(tries(3))
                .run(import_partners),
        )
        .job(Job::new("search/reindex", every(seconds(20))).tag("search").run(reindex))
        .job(Job::new("mail/queue", every(seconds(2))).tag("mail").overlap(Overlap::Queue(3)).run(quick))
        .job(Job::new("mail/digest", cron("30 7 * * *").timezone("Europe/Paris")).tag("mail").run(quick))
        .job(
            Job::new("sync/crm", every(seconds(30)))
                .tag("sync")
                .expect_success_within(seconds(45))
                .run(async |_| Err::<(), _>("the CRM answers 503: maintenance until further notice")),
        )
        .job(Job::new("sync/warehouse", every(seconds(25))).tag("sync").timeout(seconds(4)).run(hangs))
        .job(Job::new("thumbnails", every(seconds(40))).tag("media").run(panics))
        .job(
            Job::new("billing/invoices", cron("30 2 * * *").timezone("Europe/Lisbon"))
                .tag("billing")
                .run(quick),
        )
        .job(
            Job::new("billing/reminders", cron("0 9 * * 1-5").timezone("America/New_York"))
                .tag("billing")
                .run(quick),
        )
        .job(Job::new("backup/database", cron("0 0 * * *")).tag("nightly").tag("ops").run(quick))
        .job(Job::new("ops/certificates", cron("0 4 * * *").jitter("2h")).tag("ops").run(quick))
}

fn tries(attempts: u32) -> Retry {
    let mut retry = Retry::attempts(attempts);
    retry.initial = Duration::from_millis(300);
    retry
}

async fn quick(_: Run) {
    sleep(Duration::from_millis(40)).await;
}

async fn import_prices(run: Run) {
    let rows = 900 + run.fire_time().map_or(0, |at| at.timestamp() % 400);
    for part in 1..=4 {
        run.progress(f64::from(part) / 4.0);
        sleep(Duration::from_millis(300)).await;
    }
    run.measure("rows", rows as f64);
    run.measure("rejected", (rows % 7) as f64);
    run.report(format!("imported {rows} prices"));
}

async fn import_partners(run: Run) -> anyhow::Result<()> {
    sleep(Duration::from_millis(150)).await;
    if run.fire_time().is_some_and(|at| at.timestamp() % 60 == 0) {
        return Ok(());
    }
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    Err(anyhow!(refused)).context("connect to ftp.partner.example:21").context("fetch the feed of partners")
}

/// It takes longer than the time between two of its ticks: some are skipped.
async fn reindex(run: Run) {
    for part in 0..30 {
        tokio::select! {
            () = sleep(Duration::from_secs(1)) => {}
            () = run.cancelled() => return,
        }
        run.progress(f64::from(part + 1) / 30.0);
        run.report(format!("{} of 30 shards are indexed", part + 1));
    }
}

async fn hangs(run: Run) {
    run.report("waiting for the warehouse");
    run.cancelled().await;
}

async fn panics(run: Run) {
    sleep(Duration::from_millis(200)).await;
    assert!(run.fire_time().is_none_or(|at| at.timestamp() % 120 != 0), "the image has no pixels");
}

/// What stored jobs run.
#[derive(Serialize, Deserialize, JsonSchema)]
struct SendReport {
    /// Who gets it.
    to: String,
    #[serde(default)]
    copies: u32,
}

impl Task for SendReport {
    const NAME: &'static str = "send_report";
    type State = ();

    async fn run(self, run: Run, (): ()) -> RunResult {
        sleep(Duration::from_millis(120)).await;
        run.report(format!("sent to {}, {} copies", self.to, self.copies));
        Ok(())
    }
}

/// What people have done by the time that somebody looks.
async fn stage(node: &Callsheet) -> anyhow::Result<()> {
    for (name, expression, zone, to) in [
        ("reports/daily", "0 6 * * 1-5", "Europe/Berlin", "finance@example.org"),
        ("reports/weekly", "0 9 * * 1", "America/New_York", "board@example.org"),
        ("reports/usage", "*/2 * * * *", "UTC", "team@example.org"),
    ] {
        let stored: StoredJob = serde_json::from_value(json!({
            "schedule": {"cron": expression, "timezone": zone},
            "task": {"name": SendReport::NAME, "arguments": {"to": to}},
            "tags": ["reports"],
        }))?;
        node.by("carol")?.note("for the new quarter")?.put(name, &stored).await?;
    }
    let wait = Pause::until(Utc::now() + TimeDelta::hours(3)).note("the provider asks us to wait");
    node.by("alice")?.pause_with("mail/digest", wait).await?;
    node.by("bob")?.note("the nightly run was too early")?.trigger("billing/invoices").await?;
    let (from, to) = (Utc::now() - TimeDelta::days(7), Utc::now());
    let week = Backfill::new("billing/reminders", from, to).spacing(Duration::from_secs(5));
    if let Err(error) = node.by("bob")?.backfill(week).await {
        println!("there is no backfill to look at: {error}");
    }
    Ok(())
}

/// The leader resigns now and then; the other node takes over.
async fn hand_over(nodes: [Callsheet; 2]) {
    loop {
        sleep(RESIGNS_EVERY).await;
        for node in &nodes {
            if node.resign().await.unwrap_or(false) {
                break;
            }
        }
    }
}
