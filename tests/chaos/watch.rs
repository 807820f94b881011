//! What is seen of the nodes from outside, several times a second: connections and locks on the server,
//! memory and descriptors of the processes.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::Client;

use super::store::{self, Holding, NODE_TEST};

const PERIOD: Duration = Duration::from_millis(250);
const ANSWER: Duration = Duration::from_secs(1);
/// The size of a page in `/proc/<pid>/statm`.
const PAGE: u64 = 4_096;

/// What was seen at an instant.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: DateTime<Utc>,
    /// Nothing while the server is away.
    pub(crate) holdings: Vec<Holding>,
    pub(crate) processes: Vec<Footprint>,
}

/// What a node takes of its machine.
#[derive(Debug, Clone)]
pub(crate) struct Footprint {
    pub(crate) node: usize,
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
}

/// Looks, until it is dropped.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    server: AtomicU16,
    pids: Mutex<BTreeMap<usize, u32>>,
    samples: Mutex<Vec<Sample>>,
}

impl Watch {
    pub(crate) fn start(server: u16) -> Self {
        let shared = Arc::new(Shared { server: server.into(), ..Shared::default() });
        let task = tokio::spawn(look(shared.clone()));
        Self { shared, task }
    }

    pub(crate) fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::SeqCst);
    }

    pub(crate) fn add(&self, node: usize, pid: u32) {
        locked(&self.shared.pids).insert(node, pid);
    }

    /// Everything that was seen so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        locked(&self.shared.samples).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(shared: Arc<Shared>) {
    let mut client: Option<(u16, Client)> = None;
    loop {
        let server = shared.server.load(Ordering::SeqCst);
        client = client.filter(|(port, client)| *port == server && !client.is_closed());
        if client.is_none() {
            let connected = timeout(ANSWER, store::connect(&store::super_url(server))).await;
            client = connected.ok().and_then(Result::ok).map(|client| (server, client));
        }
        let mut holdings = Vec::new();
        if let Some((_, connected)) = &client {
            match timeout(ANSWER, store::holdings(connected)).await {
                Ok(Ok(found)) => holdings = found,
                _ => client = None,
            }
        }
        let processes =
            locked(&shared.pids).iter().filter_map(|(node, pid)| footprint(*node, *pid)).collect();
        locked(&shared.samples).push(Sample { at: Utc::now(), holdings, processes });
        sleep(PERIOD).await;
    }
}

/// `None` once the process is gone. Its number may be another one's by then.
fn footprint(node: usize, pid: u32) -> Option<Footprint> {
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    if !command.contains(NODE_TEST) {
        return None;
    }
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    // Nothing is resident of one that has ended and was not waited for.
    (resident > 0).then(|| Footprint { node, memory: resident * PAGE, descriptors })
}
