//! The rules of requests, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{ANSWERS_BYTES_MAX, AskedNode, ControlRequest, NODES_MAX, NodeAnswer, Posted, TakenRequest, To};
use crate::name::NodeId;

/// The requests of a scope by the rules of [`Control`](crate::port::Control), in memory, and what the nodes say of
/// themselves.
#[derive(Debug, Default)]
pub struct ControlTable {
    requests: BTreeMap<Uuid, Open>,
    descriptions: HashMap<NodeId, Arc<str>>,
}

#[derive(Debug)]
struct Open {
    request: ControlRequest,
    deadline: DateTime<Utc>,
    to: Vec<(AskedNode, State)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    New,
    Taken,
    Answered(Arc<str>),
}

impl ControlTable {
    /// Keeps a request to those of the nodes that `live`, for so long from `now` on, unless so many are open.
    pub fn post(
        &mut self,
        request: &ControlRequest,
        to: To,
        within: Duration,
        open_max: usize,
        live: impl IntoIterator<Item = AskedNode>,
        now: DateTime<Utc>,
    ) -> Posted {
        self.requests.retain(|_, open| open.deadline > now);
        if let Some(open) = self.requests.get(&request.id) {
            return Posted::Asked(open.to.iter().map(|(asked, _)| asked.clone()).collect());
        }
        if self.requests.len() >= open_max {
            return Posted::TooMany;
        }
        let is_meant = |asked: &AskedNode| match to {
            To::Others => asked.node != request.asked_by,
            To::Node(node) => asked.node == node,
        };
        let mut asked: Vec<_> = live.into_iter().filter(is_meant).collect();
        asked.sort_by_key(|asked| asked.node);
        asked.truncate(NODES_MAX);
        if !asked.is_empty() {
            let to = asked.iter().map(|asked| (asked.clone(), State::New)).collect();
            let open = Open { request: request.clone(), deadline: now + within, to };
            self.requests.insert(request.id, open);
        }
        Posted::Asked(asked)
    }

    /// The requests to a node that it has not taken yet, and whose deadline has not passed: it has taken them now.
    pub fn take(&mut self, node: NodeId, now: DateTime<Utc>) -> Vec<TakenRequest> {
        let mut taken = Vec::new();
        for open in self.requests.values_mut().filter(|open| open.deadline > now) {
            let own = open.to.iter_mut().find(|(asked, state)| asked.node == node && *state == State::New);
            if let Some((_, state)) = own {
                *state = State::Taken;
                let left = (open.deadline - now).to_std().unwrap_or_default();
                taken.push(TakenRequest { request: open.request.clone(), left });
            }
        }
        taken
    }

    /// Keeps the answer of a node that has taken a request. A second one is not heard.
    pub fn answer(&mut self, request: Uuid, node: NodeId, answer: Arc<str>) {
        let open = self.requests.get_mut(&request);
        let own = open.and_then(|open| open.to.iter_mut().find(|(asked, _)| asked.node == node));
        if let Some((_, state @ State::Taken)) = own {
            *state = State::Answered(answer);
        }
    }

    /// How far the nodes are that were asked, except those that were heard; about [`ANSWERS_BYTES_MAX`] at once.
    pub fn answers(
        &self,
        request: Uuid,
        heard: &[NodeId],
        is_live: impl Fn(NodeId) -> bool,
    ) -> Vec<(NodeId, NodeAnswer)> {
        let open = self.requests.get(&request);
        let to = open.into_iter().flat_map(|open| &open.to);
        let mut bytes = 0;
        let answers =
            to.filter(|(asked, _)| !heard.contains(&asked.node)).map(|(asked, state)| match state {
                State::Answered(_) if bytes >= ANSWERS_BYTES_MAX => (asked.node, NodeAnswer::Waiting),
                State::Answered(answer) => {
                    bytes += answer.len();
                    (asked.node, NodeAnswer::Answered(answer.clone()))
                }
                State::New | State::Taken if is_live(asked.node) => (asked.node, NodeAnswer::Waiting),
                State::New | State::Taken => (asked.node, NodeAnswer::SessionOver),
            });
        answers.collect()
    }

    /// Forgets a request.
    pub fn close(&mut self, request: Uuid) {
        self.requests.remove(&request);
    }

    /// How many requests are open.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Keeps what a node says of itself.
    pub fn describe(&mut self, node: NodeId, description: Arc<str>) {
        self.descriptions.insert(node, description);
    }

    /// What a node says of itself.
    pub fn description(&self, node: NodeId) -> Option<Arc<str>> {
        self.descriptions.get(&node).cloned()
    }
}
