//! Who leads, as this node knows it, readable without asking anybody.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::name::{NodeId, Term};

/// The election actor's answer to "does this node lead?", readable without asking it. Only that actor writes
/// it.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// 0: this node does not lead.
    term: AtomicU64,
    /// Milliseconds of the monotonic clock up to which the term may be trusted.
    trusted_until: AtomicU64,
}

impl Leadership {
    /// The term in which this node leads at the monotonic reading `elapsed`. Any doubt is "none".
    pub(crate) fn term(&self, elapsed: Duration) -> Option<Term> {
        let term = self.term.load(Ordering::Acquire);
        let trusted_until = self.trusted_until.load(Ordering::Acquire);
        let trusted = elapsed.as_millis() < u128::from(trusted_until);
        (term != 0 && trusted).then_some(Term(term))
    }

    /// `trusted_until` of `None` is for ever.
    pub(crate) fn set(&self, term: Option<Term>, trusted_until: Option<Duration>) {
        let until = trusted_until.and_then(|until| u64::try_from(until.as_millis()).ok()).unwrap_or(u64::MAX);
        match term {
            Some(term) => {
                self.trusted_until.store(until, Ordering::Release);
                self.term.store(term.0, Ordering::Release);
            }
            None => self.term.store(0, Ordering::Release),
        }
    }
}

/// Which node leads, as this one has heard last. Only the election actor writes it, and the actor that hears
/// of its death.
#[derive(Debug)]
pub(crate) struct KnownLeader {
    own: NodeId,
    heard: Mutex<Heard>,
}

/// When somebody was known to lead last, by the monotonic clock, and who it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    leader: Leader,
    pub(crate) at: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Leader {
    /// Nobody, since this node was started.
    Nobody,
    /// This node: if it does not lead any more, nobody is known to.
    This,
    /// Another node: it may lead for a lease after it was heard of.
    Another(NodeId),
}

impl Heard {
    /// The node that may lead at `now`, if it is another one.
    pub(crate) fn other(&self, now: Duration, lease: Duration) -> Option<NodeId> {
        match self.leader {
            Leader::Another(node) if now.saturating_sub(self.at) <= lease => Some(node),
            Leader::Nobody | Leader::This | Leader::Another(_) => None,
        }
    }

    /// For how long nobody is known to lead, if this node does not; `None`: somebody may. A node that was just started
    /// has a lease's time to hear of somebody.
    pub(crate) fn leaderless_for(&self, now: Duration, lease: Duration) -> Option<Duration> {
        let silent = now.saturating_sub(self.at);
        let may_be_led = match self.leader {
            Leader::This => false,
            Leader::Nobody | Leader::Another(_) => silent <= lease,
        };
        (!may_be_led).then_some(silent)
    }
}

impl KnownLeader {
    /// The node `own` knows of nobody who leads; that counts from `now`.
    pub(crate) fn new(own: NodeId, now: Duration) -> Self {
        Self { own, heard: Mutex::new(Heard { leader: Leader::Nobody, at: now }) }
    }

    /// The elector says that `node` leads at `now`. If that is this node, nothing changes: the store has not noticed
    /// yet that a former session of it is over, and this node knows by itself whether it leads.
    pub(crate) fn heard(&self, node: NodeId, now: Duration) {
        if node != self.own {
            self.set(Heard { leader: Leader::Another(node), at: now });
        }
    }

    /// This node leads at `now`, or has led until then.
    pub(crate) fn led(&self, now: Duration) {
        self.set(Heard { leader: Leader::This, at: now });
    }

    fn set(&self, heard: Heard) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }

    pub(crate) fn last(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_just_lost_the_lead_knows_of_no_leader() {
        let (second, lease) = (Duration::from_secs(1), Duration::from_secs(5));
        let own = NodeId::numbered(1);
        let known = KnownLeader::new(own, second);
        assert_eq!(known.last().leaderless_for(second * 6, lease), None, "it may hear of one");
        assert_eq!(known.last().leaderless_for(second * 7, lease), Some(second * 6));

        known.led(second * 10);
        assert_eq!(known.last().leaderless_for(second * 10, lease), Some(Duration::ZERO));
        assert_eq!(known.last().other(second * 10, lease), None);

        known.heard(own, second * 11);
        assert_eq!(known.last().leaderless_for(second * 11, lease), Some(second), "a former session led");
        assert_eq!(known.last().other(second * 11, lease), None);

        let another = NodeId::numbered(2);
        known.heard(another, second * 12);
        assert_eq!(known.last().leaderless_for(second * 17, lease), None);
        assert_eq!(known.last().other(second * 17, lease), Some(another));
        assert_eq!(known.last().leaderless_for(second * 18, lease), Some(second * 6));
        assert_eq!(known.last().other(second * 18, lease), None);
    }
}
