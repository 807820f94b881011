//! The labels of every metric of an engine.

use std::sync::Arc;

use metrics::{Label as Pair, SharedString};

/// The labels of every metric of an engine: the scope of its backend, and the name of the backend if it has one.
#[derive(Clone)]
pub(super) struct Common(Arc<[Pair]>);

impl Common {
    pub(super) fn new(scope: Arc<str>, backend: Option<&Arc<str>>) -> Self {
        let backend = backend.map(|name| Pair::new("backend", SharedString::from(name.clone())));
        Self([Pair::new("scope", SharedString::from(scope))].into_iter().chain(backend).collect())
    }

    /// These, and others.
    pub(super) fn and(&self, others: impl IntoIterator<Item = (&'static str, SharedString)>) -> Vec<Pair> {
        let others = others.into_iter().map(|(key, value)| Pair::new(key, value));
        self.0.iter().cloned().chain(others).collect()
    }
}
