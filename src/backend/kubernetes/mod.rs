//! Elections on Kubernetes: a `Lease` object that says who leads.
//!
//! ```text
//! election ──▶ elector ──▶ lease (what is written) ──▶ client (calls with deadlines) ──▶ API server
//!                 └──▶ observed (whether the holder is silent, by the own clock)
//! ```

mod client;
mod elector;
mod failure;
mod lease;
mod observed;
mod settings;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use callsheet_actors::{
    Fault, NodeId,
    port::{Clock, Election, Elector, LockError},
};
use futures_util::{FutureExt, future::BoxFuture};

use self::{
    elector::{KubernetesElector, Node},
    settings::Settings,
};

/// Nodes that elect their leader by a `Lease` of Kubernetes. It keeps no claims: wrap it in
/// [`Elected`](super::Elected), or name another backend for them with [`Composed`](super::Composed).
///
/// ```
/// use callsheet::backend::{Elected, Kubernetes};
///
/// let backend = Elected::new(Kubernetes::new("billing"));
/// ```
///
/// Nodes of one *scope* and namespace share a leader. The scope is the name of the lease.
///
/// # How the lease is used
///
/// As by the leader election of Kubernetes' own client library for Go, so that `kubectl get lease` shows who leads:
///
/// * The leader extends the lease. It is trusted for the *renew deadline* after it asked for the last extension that
///   was answered. Others take the lease once they have seen no change of it for the *lease duration*, by their own
///   clocks: times of the lease are never compared with them. So nobody leads beside another node unless one clock
///   runs half as fast again as another one.
/// * `leaseTransitions` is the term. It grows whenever the lease is taken.
/// * `holderIdentity` is the name of the pod and the node's id, which is another one for each start of a process:
///   two processes of one pod are two nodes.
/// * What the leader leaves to the next one stands in the annotation `callsheet/handover`, and is written together
///   with each extension. The version of its time zone data is in `callsheet/zone-data`.
/// * A node that shuts down gives the lease up when its runs have ended, and the next one takes it at once.
///
/// Other nodes do not stand in the lease: `prefer_not_to_lead` finds no candidate to yield to.
///
/// # Rights
///
/// The service account of the pod needs a role in the namespace:
///
/// ```yaml
/// rules:
///   - apiGroups: ["coordination.k8s.io"]
///     resources: ["leases"]
///     verbs: ["get", "create", "update", "watch"]
/// ```
///
/// # Connecting
///
/// With `$KUBECONFIG`, or `~/.kube/config`, or, in a pod, with its service account; the file of its token is read
/// again as it changes. A node keeps up to two connections: one for its calls, and while another node leads, one on
/// which it hears when the lease changes.
pub struct Kubernetes {
    settings: Settings,
    node: OnceLock<Arc<Node>>,
}

impl Kubernetes {
    /// Makes a node of a scope. Nothing is checked or opened before [`start`](crate::Builder::start).
    ///
    /// The scope is the name of the lease: 1 to 253 bytes of lower-case letters, digits, `-` and `.`, which begins and
    /// ends with a letter or digit.
    pub fn new(scope: impl Into<String>) -> Self {
        Self::with(Settings::new(scope.into()))
    }

    fn with(settings: Settings) -> Self {
        Self { settings, node: OnceLock::new() }
    }

    fn set(&self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings.clone();
        set(&mut settings);
        Self::with(settings)
    }

    /// Sets the namespace of the lease. Default: that of the kubeconfig's context, or of the pod.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        self.set(|settings| settings.namespace = Some(namespace.into()))
    }

    /// Sets the file that says where the API server is, and who this node is. Default: `$KUBECONFIG`, or
    /// `~/.kube/config`, or, in a pod, its service account.
    #[must_use]
    pub fn kubeconfig(self, path: impl Into<PathBuf>) -> Self {
        self.set(|settings| settings.kubeconfig = Some(path.into()))
    }

    /// Sets for how long a node must have seen no change of the lease before it takes it, in whole seconds, 2 s to
    /// 1 h. Default: 15 s.
    #[must_use]
    pub fn lease_duration(self, duration: Duration) -> Self {
        self.set(|settings| settings.lease_duration = duration)
    }

    /// Sets for how long the leader is trusted after it asked for the last extension that was answered; at least 1 s,
    /// and at most three quarters of the lease duration: the rest is for clocks that run differently, and for runs
    /// that are cancelled. Default: two thirds of the lease duration.
    #[must_use]
    pub fn renew_deadline(self, deadline: Duration) -> Self {
        self.set(|settings| settings.renew_deadline = Some(deadline))
    }

    /// Sets how often a node that does not lead looks at the lease, in case it does not hear of a change; at least
    /// 100 ms, and at most half of the renew deadline. Default: 2 s, or a fifth of a shorter renew deadline.
    #[must_use]
    pub fn retry_period(self, period: Duration) -> Self {
        self.set(|settings| settings.retry_period = Some(period))
    }

    /// Sets how long one call to the API server may take, 100 ms to 2 s. Default: 1.5 s.
    ///
    /// After it, it is unknown whether what was asked was done: the next call finds out.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        self.set(|settings| settings.deadline = deadline)
    }

    fn node(&self) -> &Arc<Node> {
        self.node.get_or_init(|| Arc::new(Node::new(self.settings.clone())))
    }
}

impl Election for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn scope(&self) -> Arc<str> {
        self.settings.scope.as_str().into()
    }

    fn faults(&self) -> Vec<Fault> {
        self.settings.faults()
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.node().id)
    }

    fn set_clock(&self, clock: Arc<dyn Clock>) {
        self.node().set_clock(clock);
    }

    fn set_zone_data(&self, version: Arc<str>) {
        self.node().set_zone_data(version);
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(KubernetesElector { node: self.node().clone() })
    }

    fn reach(&self) -> BoxFuture<'_, Result<(), LockError>> {
        async move { self.node().reach().await.map_err(|failure| failure.to_lock_error()) }.boxed()
    }

    fn lease(&self) -> Duration {
        self.settings.lease_duration
    }

    fn margin(&self) -> Duration {
        self.settings.lease().margin
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kubernetes").field(&self.settings).finish()
    }
}
