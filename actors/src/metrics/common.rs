//! The labels of every metric of an engine.

use std::sync::Arc;

use metrics::{Label as Pair, SharedString};

/// The labels of every metric of an engine: the scope of its backend, and the name of the backend if it has one.
///
/// Each series of each job is made with them, when the job is added: nothing is looped over that need not be.
#[derive(Clone)]
pub(super) struct Common {
    scope: SharedString,
    backend: Option<SharedString>,
}

impl Common {
    pub(super) fn new(scope: Arc<str>, backend: Option<&Arc<str>>) -> Self {
        Self { scope: SharedString::from(scope), backend: backend.cloned().map(SharedString::from) }
    }

    /// These, and others.
    pub(super) fn and<const N: usize>(&self, others: [(&'static str, SharedString); N]) -> Vec<Pair> {
        let mut all = Vec::with_capacity(2 + N);
        all.push(Pair::new("scope", self.scope.clone()));
        if let Some(backend) = &self.backend {
            all.push(Pair::new("backend", backend.clone()));
        }
        for (key, value) in others {
            all.push(Pair::new(key, value));
        }
        all
    }
}
