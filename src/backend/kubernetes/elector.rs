//! Terms: whoever holds the lease leads.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use callsheet_actors::{
    NodeId, Term,
    port::{
        Campaign, Clock, ElectError, Elector, Grant, Handover, Handovers, Observation, Renewal, SystemClock,
    },
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::{
    client::{Change, Changes, LeaseClient, Written},
    failure::Failure,
    lease::{self, Record, Taker, handover_text, is_held},
    observed::Observed,
    settings::Settings,
};

/// The pause after somebody else was faster.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// The longest part of an identity that is the pod's name.
const POD_MAX: usize = 63;

/// What a node knows of the lease, and how it asks.
pub(super) struct Node {
    pub(super) id: NodeId,
    identity: String,
    settings: Settings,
    client: LeaseClient,
    clock: OnceLock<Arc<dyn Clock>>,
    zone_data: OnceLock<Arc<str>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The term that this node holds, and the lease as it was written last.
    own: Option<(Term, Lease)>,
    observed: Observed,
    /// The greatest term that was seen.
    term: i32,
    /// What the newest leader left that was seen: it is not lost when somebody deletes the lease.
    left: Option<Handover>,
    /// Whoever was seen to hold the lease last.
    holder: Option<String>,
}

/// How a lease stands to this node.
enum Standing {
    Free,
    HeldUntil(Option<NodeId>, Instant),
}

pub(super) struct KubernetesElector {
    pub(super) node: Arc<Node>,
}

impl Elector for KubernetesElector {
    fn campaign(&self, patience: Duration) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move { self.node.campaign(patience).await.map_err(|failure| failure.to_elect_error()) }.boxed()
    }

    fn observe(&self, _stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let found = self.node.client.get().await.map_err(|failure| failure.to_elect_error())?;
            let leader = match self.node.see(found.as_ref()).map_err(|failure| failure.to_elect_error())? {
                Standing::Free => found.and_then(|lease| self.node.own_id(&lease)),
                Standing::HeldUntil(leader, _) => leader,
            };
            Ok(Observation { leader, candidate: false })
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        async move { self.node.extend(term, None).await.map_err(|failure| failure.to_elect_error()) }.boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        async move { self.node.resign(term).await.map_err(|failure| failure.to_elect_error()) }.boxed()
    }

    fn handovers(&self) -> Option<&dyn Handovers> {
        Some(self)
    }
}

impl Handovers for KubernetesElector {
    fn newest(&self) -> BoxFuture<'_, Result<Option<Handover>, ElectError>> {
        async move {
            let found = self.node.client.get().await.map_err(|failure| failure.to_elect_error())?;
            self.node.see(found.as_ref()).map_err(|failure| failure.to_elect_error())?;
            Ok(self.node.state().left.clone())
        }
        .boxed()
    }

    fn leave<'a>(&'a self, term: Term, handover: &'a Handover) -> BoxFuture<'a, Result<Renewal, ElectError>> {
        async move {
            let text = handover_text(handover).map_err(|reason| ElectError::Unavailable { reason })?;
            self.node.extend(term, Some(text)).await.map_err(|failure| failure.to_elect_error())
        }
        .boxed()
    }
}

impl Node {
    pub(super) fn new(settings: Settings) -> Self {
        let id = NodeId::random();
        let pod: String = std::env::var("HOSTNAME").unwrap_or_default().chars().take(POD_MAX).collect();
        Self {
            identity: format!("{pod}_{id}"),
            id,
            client: LeaseClient::new(settings.clone()),
            settings,
            clock: OnceLock::new(),
            zone_data: OnceLock::new(),
            state: Mutex::default(),
        }
    }

    pub(super) fn set_clock(&self, clock: Arc<dyn Clock>) {
        // Told once.
        let _ = self.clock.set(clock);
    }

    pub(super) fn set_zone_data(&self, version: Arc<str>) {
        // Told once.
        let _ = self.zone_data.set(version);
    }

    /// Asks for the lease, which is enough to know whether this node may.
    pub(super) async fn reach(&self) -> Result<(), Failure> {
        let found = self.client.get().await?;
        self.see(found.as_ref()).map(drop)
    }

    /// By which times are written. None is compared.
    fn now(&self) -> DateTime<Utc> {
        self.clock.get_or_init(|| Arc::new(SystemClock::default())).now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the lease as it was found, and says whether this node may take it.
    fn see(&self, found: Option<&Lease>) -> Result<Standing, Failure> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(lease) = found {
            let record = Record::of(lease);
            state.observed.see(&record, now);
            state.term = state.term.max(record.term);
            state.holder = record.holder;
            match lease::handover(lease) {
                Ok(Some(left)) => state.left = Some(left),
                Ok(None) => {}
                Err(reason) => return Err(Failure::Refused(reason)),
            }
        }
        // One that is deleted may have a holder that does not know it yet.
        let other = state.holder.as_ref().filter(|holder| **holder != self.identity);
        let silent_at = state.observed.silent_at(self.settings.lease_duration);
        Ok(match (other, silent_at) {
            (Some(other), Some(silent_at)) if silent_at > now => {
                Standing::HeldUntil(node_of(other), silent_at)
            }
            (Some(_) | None, Some(_) | None) => Standing::Free,
        })
    }

    /// This node, if it holds a lease.
    fn own_id(&self, lease: &Lease) -> Option<NodeId> {
        Record::of(lease).holder.filter(|holder| *holder == self.identity).map(|_| self.id)
    }

    async fn campaign(&self, patience: Duration) -> Result<Campaign, Failure> {
        let began = Instant::now();
        let until = began.checked_add(patience).unwrap_or(began);
        let (mut changes, mut known) = (None, None);
        loop {
            let found = match known.take() {
                Some(found) => found,
                None => self.client.get().await?,
            };
            match self.see(found.as_ref())? {
                Standing::Free => {
                    if let Some(grant) = self.take(found.as_ref(), began).await? {
                        return Ok(Campaign::Won(grant));
                    }
                    let again_at = Instant::now() + CONFLICT_PAUSE;
                    if again_at >= until {
                        return Ok(Campaign::Lost { leader: None, retry_in: Duration::ZERO });
                    }
                    sleep_until(again_at).await;
                }
                Standing::HeldUntil(leader, silent_at) => {
                    let now = Instant::now();
                    if now >= until {
                        return Ok(Campaign::Lost { leader, retry_in: Duration::ZERO });
                    }
                    let look_at = until.min(silent_at).min(now + self.settings.retry_period());
                    known = self.next_change(&mut changes, found.as_ref(), look_at).await?;
                }
            }
        }
    }

    /// Waits for a change of the lease, or until it is to be read again: then `None`.
    async fn next_change(
        &self,
        changes: &mut Option<Changes>,
        found: Option<&Lease>,
        look_at: Instant,
    ) -> Result<Option<Option<Lease>>, Failure> {
        if changes.is_none()
            && let Some(version) = found.and_then(|lease| lease.metadata.resource_version.as_deref())
        {
            *changes = self.client.watch(version).await?;
        }
        let Some(watched) = changes else {
            // It is deleted, or the server has forgotten what this node knows.
            sleep_until(look_at).await;
            return Ok(None);
        };
        match timeout_at(look_at, watched.next()).await {
            Ok(Some(Change::Is(lease))) => Ok(Some(Some(*lease))),
            Ok(Some(Change::Deleted)) => Ok(Some(None)),
            Ok(Some(Change::Unknown) | None) => {
                *changes = None;
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    /// Takes a lease, unless somebody else is faster.
    async fn take(&self, found: Option<&Lease>, began: Instant) -> Result<Option<Grant>, Failure> {
        let zone_data = self.zone_data.get().cloned().unwrap_or_default();
        let (seen, left) = {
            let mut state = self.state();
            state.own = None;
            (state.term, state.left.clone())
        };
        let taker = Taker {
            name: &self.settings.scope,
            identity: &self.identity,
            duration: self.settings.lease_duration,
            zone_data: &zone_data,
            seen,
        };
        let taken = lease::taken(found, taker, self.now());
        let mut taken = taken.ok_or_else(|| {
            let name = &self.settings.scope;
            Failure::Refused(format!("the lease {name:?} was taken as often as can be counted; delete it"))
        })?;
        if let (None, Some(left)) = (found, &left) {
            // It was deleted, and with it what the leader before had left.
            lease::set_handover(&mut taken, handover_text(left).map_err(Failure::Unavailable)?);
        }
        let asked_at = Instant::now();
        let Written::Done(written) = self.client.write(&taken).await? else { return Ok(None) };
        self.see(Some(&written))?;
        let term = Term(u64::try_from(Record::of(&written).term).unwrap_or_default());
        self.state().own = Some((term, *written));
        Ok(Some(Grant {
            term,
            lease: Some(self.settings.lease()),
            waited: asked_at - began,
            former_zone_data: found.and_then(lease::zone_data).map(Into::into),
            undecided_from: None,
        }))
    }

    fn own(&self, term: Term) -> Option<Lease> {
        self.state().own.as_ref().filter(|(own, _)| *own == term).map(|(_, lease)| lease.clone())
    }

    /// The lease as it is now, if this node holds it in a term; otherwise it holds none.
    async fn still_own(&self, term: Term) -> Result<Option<Lease>, Failure> {
        let found = self.client.get().await?;
        self.see(found.as_ref())?;
        let held = found.filter(|lease| is_held(lease, &self.identity, term));
        if held.is_none() {
            self.state().own.take_if(|(own, _)| *own == term);
        }
        Ok(held)
    }

    async fn extend(&self, term: Term, handover: Option<String>) -> Result<Renewal, Failure> {
        let Some(mut own) = self.own(term) else { return Ok(Renewal::Deposed) };
        for is_last in [false, true] {
            let renewed = lease::renewed(&own, self.now(), handover.clone());
            if let Written::Done(written) = self.client.write(&renewed).await? {
                self.see(Some(&written))?;
                if let Some((_, own)) = self.state().own.as_mut().filter(|(own, _)| *own == term) {
                    *own = *written;
                }
                return Ok(Renewal::Renewed);
            }
            if is_last {
                break;
            }
            // An extension before that was not answered; or somebody else labelled it, or took it, or deleted it.
            match self.still_own(term).await? {
                Some(found) => own = found,
                None => return Ok(Renewal::Deposed),
            }
        }
        Err(Failure::Unavailable("somebody else writes the lease all the time".to_owned()))
    }

    async fn resign(&self, term: Term) -> Result<(), Failure> {
        let Some(mut own) = self.own(term) else { return Ok(()) };
        self.state().own = None;
        for _ in 0..2 {
            if let Written::Done(written) = self.client.write(&lease::released(&own, self.now())).await? {
                return self.see(Some(&written)).map(drop);
            }
            match self.still_own(term).await? {
                Some(found) => own = found,
                None => return Ok(()),
            }
        }
        Err(Failure::Unavailable("somebody else writes the lease all the time".to_owned()))
    }
}

/// The node that an identity names, if it is one of ours.
fn node_of(identity: &str) -> Option<NodeId> {
    let (_, id) = identity.rsplit_once('_')?;
    Uuid::parse_str(id).ok().map(|id| NodeId::numbered(id.as_u128()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_starts_in_one_pod_are_two_identities_that_name_their_nodes() {
        let node = || Node::new(Settings::new("billing".to_owned()));
        let (one, other) = (node(), node());

        assert_ne!(one.identity, other.identity);
        assert_eq!(node_of(&one.identity), Some(one.id));
        assert_eq!(node_of("somebody-else"), None);
        assert_eq!(node_of("some_body"), None);
    }
}
