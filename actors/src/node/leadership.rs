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
pub(crate) struct KnownLeader(Mutex<Heard>);

/// When somebody was known to lead last, by the monotonic clock, and who it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) node: Option<NodeId>,
    pub(crate) at: Duration,
}

impl KnownLeader {
    /// Nobody is known to lead; that counts from `now`.
    pub(crate) fn new(now: Duration) -> Self {
        Self(Mutex::new(Heard { node: None, at: now }))
    }

    /// A node leads at `now`.
    pub(crate) fn heard(&self, node: NodeId, now: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Heard { node: Some(node), at: now };
    }

    pub(crate) fn last(&self) -> Heard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
