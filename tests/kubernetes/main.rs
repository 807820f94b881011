//! Elections by a `Lease` of Kubernetes, through the real client: on a stub that keeps to the published protocol, and with
//! `CALLSHEET_TEST_KUBECONFIG` on a real API server.

#[path = "../common/kubernetes.rs"]
mod harness;

mod elector;
mod leases;
mod nodes;
mod refusals;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use callsheet::{
    backend::Kubernetes,
    port::{Campaign, Election, Elector, Grant},
};

use self::harness::ApiServer;

const SECOND: Duration = Duration::from_secs(1);
/// As short as it may be: what waits for the end of a lease waits in real time.
const LEASE: Duration = Duration::from_secs(2);

/// Where the tests elect.
enum Server {
    Stub(ApiServer),
    /// The kubeconfig of a real one.
    Real(PathBuf),
}

impl Server {
    fn start() -> Self {
        match std::env::var_os("CALLSHEET_TEST_KUBECONFIG") {
            Some(path) => Self::Real(path.into()),
            None => Self::Stub(ApiServer::start()),
        }
    }

    fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Stub(stub) => stub.kubeconfig(),
            Self::Real(path) => path.clone(),
        }
    }

    /// A node of a scope, with a short lease.
    fn node(&self, scope: &str) -> Kubernetes {
        Kubernetes::new(scope).kubeconfig(self.kubeconfig()).lease_duration(LEASE)
    }
}

/// A scope that no other test uses, nor a run of the tests before on a real server.
fn scope(test: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let nth = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("callsheet-test-{test}-{}-{nth}", std::process::id())
}

/// Campaigns until the term is won.
async fn win(elector: &Arc<dyn Elector>) -> Grant {
    for _ in 0..30 {
        match elector.campaign(SECOND).await {
            Ok(Campaign::Won(grant)) => return grant,
            Ok(Campaign::Lost { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody wins");
}

async fn elector_of(node: &Kubernetes) -> Arc<dyn Elector> {
    node.reach().await.expect("the server answers");
    node.elector()
}
