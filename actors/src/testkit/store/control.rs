//! How the nodes of a shared store see each other, as one node sees it: cut off, it gets no answer.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::{backend::StoreBackend, state::State};
use crate::{
    core::operation::Operation,
    name::NodeId,
    port::{
        AskedNode, Control, ControlError, ControlRequest, LockError, NodeAnswer, NodeRow, Posted,
        TakenRequest, To,
    },
};

/// The nodes, as a node sees them.
#[derive(Clone)]
pub(super) struct StoreControl(pub(super) StoreBackend);

/// How often somebody was asked, and has answered.
#[derive(Clone, Default)]
pub(super) struct Hints {
    asked: Arc<watch::Sender<u64>>,
    answered: Arc<watch::Sender<u64>>,
}

impl fmt::Debug for StoreControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreControl").field("node", &self.0.node).finish_non_exhaustive()
    }
}

impl State {
    /// The nodes that have a session. The name of each is that by which transcripts call it.
    fn live(&self) -> Vec<AskedNode> {
        let name = |node: NodeId| format!("n{}", node.as_uuid().as_u128()).into();
        let mut live: Vec<_> =
            self.sessions.keys().map(|node| AskedNode { node: *node, name: name(*node) }).collect();
        live.sort_by_key(|asked| asked.node);
        live
    }

    fn rows(&self) -> Vec<NodeRow> {
        let row = |AskedNode { node, name }: AskedNode| {
            let own = self.sessions.get(&node)?;
            let leads = self.leader.filter(|leader| leader.session == own.session);
            Some(NodeRow {
                name,
                zone_data: own.zone_data.clone(),
                term: leads.map(|leader| leader.term),
                description: self.control.description(node),
                ..NodeRow::new(node, own.since)
            })
        };
        self.live().into_iter().filter_map(row).collect()
    }
}

impl StoreControl {
    async fn ask<T>(
        &self,
        work: impl FnOnce(&mut State, chrono::DateTime<chrono::Utc>) -> T,
    ) -> Result<T, ControlError> {
        let answer = self.0.with_session(Operation::Control, |state, _, now| work(state, now)).await;
        answer.map_err(|error: LockError| ControlError::Unavailable { reason: error.to_string() })
    }

    async fn hint(&self, hints: &watch::Sender<u64>, seen: u64) -> u64 {
        let mut hints = hints.subscribe();
        // The sender lives as long as the store.
        let hinted = hints.wait_for(|hints| *hints != seen).await.map(|hints| *hints);
        let Ok(hinted) = hinted else { return pending().await };
        self.0.connected().await;
        if self.0.store.lock().silent { pending().await } else { hinted }
    }
}

impl Control for StoreControl {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, ControlError>> {
        self.ask(|state, _| state.rows()).boxed()
    }

    fn describe(&self, description: Arc<str>) -> BoxFuture<'_, Result<(), ControlError>> {
        let node = self.0.node;
        let described = self.ask(move |state, _| {
            // Others want to know it.
            state.changed_at = Instant::now();
            state.control.describe(node, description);
        });
        described.boxed()
    }

    fn post<'a>(
        &'a self,
        request: &'a ControlRequest,
        to: To,
        within: Duration,
        open_max: usize,
    ) -> BoxFuture<'a, Result<Posted, ControlError>> {
        async move {
            let posted = self.ask(|state, now| {
                let live = state.live();
                state.control.post(request, to, within, open_max, live, now)
            });
            let posted = posted.await?;
            self.0.store.hints.asked.send_modify(|hints| *hints += 1);
            Ok(posted)
        }
        .boxed()
    }

    fn take(&self) -> BoxFuture<'_, Result<Vec<TakenRequest>, ControlError>> {
        let node = self.0.node;
        self.ask(move |state, now| state.control.take(node, now)).boxed()
    }

    fn answer(&self, request: Uuid, answer: Arc<str>) -> BoxFuture<'_, Result<(), ControlError>> {
        let node = self.0.node;
        async move {
            self.ask(move |state, _| state.control.answer(request, node, answer)).await?;
            self.0.store.hints.answered.send_modify(|hints| *hints += 1);
            Ok(())
        }
        .boxed()
    }

    fn answers<'a>(
        &'a self,
        request: Uuid,
        heard: &'a [NodeId],
    ) -> BoxFuture<'a, Result<Vec<(NodeId, NodeAnswer)>, ControlError>> {
        let answers = self.ask(move |state, _| {
            let sessions = &state.sessions;
            state.control.answers(request, heard, |node| sessions.contains_key(&node))
        });
        answers.boxed()
    }

    fn close(&self, request: Uuid) -> BoxFuture<'_, Result<(), ControlError>> {
        self.ask(move |state, _| state.control.close(request)).boxed()
    }

    /// Its hints are lost if a story says so.
    fn asked(&self, seen: u64) -> BoxFuture<'_, u64> {
        self.hint(&self.0.store.hints.asked, seen).boxed()
    }

    fn answered(&self, seen: u64) -> BoxFuture<'_, u64> {
        self.hint(&self.0.store.hints.answered, seen).boxed()
    }
}
