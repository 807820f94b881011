//! One message to a webhook when a job begins to fail, is overdue, or is well again; a check-in of each run with a
//! dead-man service (start, success, failure with its error), which calls somebody when they stay away.
//!
//! ```sh
//! WEBHOOK_URL=https://hooks.example.com/T0/B0 CHECK_URL=https://hc-ping.com/<uuid> cargo run --example notify -- FILE
//! ```

#![allow(clippy::print_stdout, reason = "it prints what it could not send")]

use std::{
    collections::HashSet,
    env,
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use callsheet::{FinishedRun, Outcome, OverdueAlarm, prelude::*};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// So many messages wait for one address; what is beyond is dropped.
const QUEUE: usize = 100;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long a message is given up.
const DEADLINE: Duration = Duration::from_secs(60);

/// What is appended to the address, and the text.
type Post = (&'static str, String);

/// Sends to an address. That is a secret: whoever knows it can send as well, so nothing prints it.
fn outbox(name: &'static str, address: String, tasks: &mut JoinSet<()>) -> mpsc::Sender<Post> {
    let (outbox, mut posts) = mpsc::channel::<Post>(QUEUE);
    tasks.spawn(async move {
        let agent = agent();
        while let Some((path, text)) = posts.recv().await {
            let (url, until) = (format!("{address}{path}"), Instant::now() + DEADLINE);
            let mut pause = Duration::from_millis(250);
            loop {
                let (agent, url, text) = (agent.clone(), url.clone(), text.clone());
                // On a thread that may block: neither bodies nor timers wait for it.
                let sent = tokio::task::spawn_blocking(move || agent.post(&url).send(&text).map(drop)).await;
                match sent {
                    Ok(Ok(())) => break,
                    Ok(Err(ureq::Error::StatusCode(code))) => println!("{name} answers {code}"),
                    // The error itself may quote the address.
                    Ok(Err(_)) | Err(_) => println!("{name} does not answer"),
                }
                pause *= 2;
                if Instant::now() + pause > until {
                    println!("{name}: a message is given up");
                    break;
                }
                sleep(pause).await;
            }
        }
    });
    outbox
}

/// TLS by rustls, with the certificates that the system trusts.
fn agent() -> ureq::Agent {
    let trusted = rustls_native_certs::load_native_certs().certs;
    let trusted: Vec<_> = trusted.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted));
    let tls = tls.unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let agent = ureq::Agent::config_builder().tls_config(tls.build()).timeout_global(Some(CALL_TIMEOUT));
    agent.max_redirects(0).build().into()
}

/// Says once that a job is not well, and once that it is again.
struct Notifier {
    webhook: mpsc::Sender<Post>,
    unwell: Mutex<HashSet<String>>,
}

impl Notifier {
    fn tell(&self, job: &str, is_well: bool, what: &str) {
        let Ok(mut unwell) = self.unwell.lock() else { return };
        let text = serde_json::json!({ "text": format!("{job} {what}") }).to_string();
        // Nothing waits here: if the queue is full, the next run tries again.
        if unwell.contains(job) == is_well && self.webhook.try_send(("", text)).is_ok() {
            let _ = if is_well { unwell.remove(job) } else { unwell.insert(job.to_owned()) };
        }
    }

    async fn ended(ended: FinishedRun, (this, checks): (Arc<Self>, mpsc::Sender<Post>)) {
        let error = ended.error.as_deref().unwrap_or_default();
        let (is_well, what) = match ended.outcome {
            Outcome::Succeeded => (true, "is well again".to_owned()),
            outcome => (false, format!("{outcome}: {error}")),
        };
        let _ = checks.try_send((if is_well { "" } else { "/fail" }, error.to_owned()));
        this.tell(ended.run.job().as_str(), is_well, &what);
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let webhook = outbox("the webhook", env::var("WEBHOOK_URL")?, &mut tasks);
    let checks = outbox("the dead-man service", env::var("CHECK_URL")?, &mut tasks);
    let this = Arc::new(Notifier { webhook, unwell: Mutex::default() });
    let (starts, succeeded) = (checks.clone(), (this.clone(), checks));
    let failed = succeeded.clone();
    let file = env::args().nth(1).unwrap_or_else(|| "Cargo.toml".to_owned());
    let backup = Job::new("backup", every(Duration::from_millis(500)))
        .expect_success_within(Duration::from_secs(3))
        // It waits for nothing: a hook that fails would veto the run.
        .before(move |_| {
            let _ = starts.try_send(("/start", String::new()));
            ready(())
        })
        .after_success(move |run| Notifier::ended(run, succeeded.clone()))
        .after_failure(move |run| Notifier::ended(run, failed.clone()))
        // Each node says so for itself: let the receiver group by the name of the job.
        .on_overdue(move |alarm: OverdueAlarm| {
            let what = format!("is overdue: {}, since {}", alarm.expectation, alarm.since);
            this.tell(alarm.job.as_str(), false, &what);
            ready(())
        })
        .run_with(file, async |_, file| tokio::fs::read(file).await.map(drop));
    let jobs = Callsheet::builder().job(backup).start().await?;
    tokio::signal::ctrl_c().await?;
    println!("{}", jobs.shutdown(Duration::from_secs(10)).await);
    // What waits is sent, within the time of a call.
    drop(jobs);
    let _ = tokio::time::timeout(CALL_TIMEOUT, tasks.join_all()).await;
    Ok(())
}
