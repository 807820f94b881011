//! The named backends of the nodes of a rig: a store for each name.

use std::{iter, sync::Arc};

use super::{NodeIndex, Rig, RigNode};
use crate::{name::NodeId, testkit::SharedStore};

impl Rig {
    /// Cuts a node off from the store of a named backend, or connects it again.
    ///
    /// # Panics
    ///
    /// If the node has no backend of this name.
    pub fn cut_off_from(&mut self, node: NodeIndex, backend: &str, cut_off: bool) {
        self.sessions_lost = true;
        self.store_named(backend).set_partitioned(self.id_on(node, backend), cut_off);
    }

    /// The id of a node on a named backend.
    ///
    /// # Panics
    ///
    /// If the node has no backend of this name.
    pub fn id_on(&self, node: NodeIndex, backend: &str) -> NodeId {
        let node = self.nodes.of(node);
        let id = node.named.iter().find(|(name, _)| **name == *backend).map(|(_, id)| *id);
        id.expect("the node has a backend of this name")
    }

    /// The store of a named backend.
    ///
    /// # Panics
    ///
    /// If no node has a backend of this name.
    pub fn store_named(&self, backend: &str) -> SharedStore {
        self.named.borrow().get(backend).cloned().expect("a node has a backend of this name")
    }

    /// The node that leads the jobs of a named backend, as its store sees it.
    ///
    /// # Panics
    ///
    /// As for [`store_named`](Self::store_named).
    pub fn leader_on(&self, backend: &str) -> Option<NodeIndex> {
        let leader = self.store_named(backend).leader()?;
        let leads = |node: &RigNode| node.named.iter().any(|(name, id)| **name == *backend && *id == leader);
        self.nodes.all.borrow().iter().position(leads)
    }

    /// The names of the named backends, and `None` for the default one, with their stores.
    pub(in crate::testkit) fn stores(&self) -> Vec<(Option<Arc<str>>, SharedStore)> {
        let named = self.named.borrow();
        let named = named.iter().map(|(name, store)| (Some(name.clone()), store.clone()));
        iter::once((None, self.store.clone())).chain(named).collect()
    }
}
