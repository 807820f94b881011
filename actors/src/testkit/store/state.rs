//! What a shared store knows.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::faults::{BadData, CallFault};
use crate::{
    core::{ledger::Ledger, operation::Operation},
    name::{NodeId, Term},
    port::{ControlTable, Divergence, Handover, KnownHistory, LockError, Notification, Proof, Session},
};

pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) sessions: HashMap<NodeId, OwnSession>,
    pub(super) leader: Option<Leader>,
    /// By which time zone data the newest leader went, if it said so.
    pub(super) led_by_zone_data: Option<Arc<str>>,
    pub(super) partitioned: HashSet<NodeId>,
    pub(super) faults: HashMap<NodeId, VecDeque<CallFault>>,
    /// The names of jobs and keys that somebody else has locked.
    pub(super) locked: HashSet<String>,
    /// What is refused for its data, by the names of jobs and keys.
    pub(super) bad: HashSet<(String, BadData)>,
    /// Notifications are lost.
    pub(super) silent: bool,
    /// How many notifications each node may receive, if they are delayed.
    pub(super) delayed: Option<HashMap<NodeId, usize>>,
    /// What it refuses, and why.
    pub(super) refused: HashMap<Operation, String>,
    /// What it does not answer, so that it is given up; that panics.
    pub(super) panics_when_given_up: HashSet<Operation>,
    /// What a leader said last.
    pub(super) said: Proof,
    /// What the newest leader leaves to the next one.
    pub(super) handover: Option<Handover>,
    /// How often leaders said that all is decided, and when they did last.
    pub(super) decided: (u64, DateTime<Utc>),
    /// What it does not know any more of what a node was granted.
    pub(super) forgets: Option<Forgets>,
    /// Nobody can read its clock.
    pub(super) hides_clock: bool,
    pub(super) calls: u64,
    /// When something changed last that a node may want to know.
    pub(super) changed_at: Instant,
    /// How long each call takes.
    pub(super) latency: Duration,
    /// What nodes ask of each other.
    pub(super) control: ControlTable,
}

/// Says what of the history of a node is not known.
pub(super) type Forgets = Box<dyn Fn(&KnownHistory) -> Divergence + Send>;

#[derive(Clone)]
pub(super) struct OwnSession {
    pub(super) session: Session,
    pub(super) expires_at: Instant,
    pub(super) zone_data: Arc<str>,
    /// By the store's clock.
    pub(super) since: DateTime<Utc>,
    /// It is a candidate, to whom others leave the lead that would rather not have it.
    pub(super) stands: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Leader {
    pub(super) node: NodeId,
    pub(super) session: Session,
    pub(super) term: Term,
    pub(super) expires_at: Instant,
}

impl State {
    pub(super) fn is_locked(&self, name: &str) -> bool {
        self.locked.contains(name)
    }

    /// Refuses a whole batch if one of its names is bad, as a server does that undoes the statement.
    pub(super) fn check_data<'a>(
        &self,
        what: BadData,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), LockError> {
        if self.bad.is_empty() {
            return Ok(());
        }
        let is_bad = |name: &&str| self.bad.contains(&((*name).to_owned(), what));
        match names.into_iter().find(is_bad) {
            Some(name) => Err(LockError::BadData { reason: format!("{name} is bad") }),
            None => Ok(()),
        }
    }

    /// Whether an operation of a node would be answered, and not refused.
    pub(super) fn answers(&self, node: NodeId, operation: Operation) -> bool {
        self.sessions.contains_key(&node)
            && !self.partitioned.contains(&node)
            && !self.refused.contains_key(&operation)
            && !self.panics_when_given_up.contains(&operation)
    }

    /// When the newest term is over, unless it or its session is renewed before.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        let leader = self.leader?;
        let own = self.sessions.get(&leader.node).filter(|own| own.session == leader.session)?;
        Some(leader.expires_at.min(own.expires_at))
    }

    /// How many notifications wait for a node.
    pub(super) fn notifications_of(&self, node: NodeId) -> usize {
        self.sessions.get(&node).map_or(0, |own| self.ledger.waiting_notifications(own.session))
    }

    /// The next notification that a node may receive.
    pub(super) fn take_notification(&mut self, node: NodeId, session: Session) -> Option<Notification> {
        if let Some(heard) = &mut self.delayed {
            let left = heard.get_mut(&node)?;
            *left = left.checked_sub(1)?;
        }
        self.ledger.take_notification(session)
    }

    /// Ends sessions and terms whose lease ran out, or whose owner is gone.
    pub(super) fn expire(&mut self, now: Instant) {
        let expired: Vec<_> =
            self.sessions.iter().filter(|(_, own)| own.expires_at <= now).map(|(n, _)| *n).collect();
        for node in expired {
            if let Some(own) = self.sessions.remove(&node) {
                self.ledger.end_session(own.session);
                self.changed_at = now;
            }
        }
        if let Some(leader) = self.leader
            && (leader.expires_at <= now || !self.ledger.is_live(leader.session))
        {
            self.ledger.end_term(leader.term);
            self.leader = None;
            self.changed_at = now;
        }
    }
}
