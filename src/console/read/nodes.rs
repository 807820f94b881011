//! Which nodes there are, and how each is.

use std::time::Duration;

use actix_web::web::Json;
use callsheet_actors::{HealthReport, NodeId, NodeList, NodeStatus, port::Role};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{
    access::{Caller, Reads},
    cluster::{UnconfirmedView, named},
    problem::Problem,
    view::span,
};

/// Within which time the nodes are to say how they are.
const WITHIN: Duration = Duration::from_secs(2);

/// The nodes that are known.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NodesAnswer {
    nodes: Vec<NodeView>,
    /// All nodes are known; otherwise this one, and the leader that it has heard of.
    complete: bool,
}

/// A node; `null`: this node does not know it of another one.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct NodeView {
    node: String,
    name: Option<String>,
    /// It is the node that answers.
    this: bool,
    #[schema(value_type = String)]
    role: &'static str,
    term: Option<String>,
    version: Option<String>,
    healthy: Option<bool>,
    ready: Option<bool>,
    #[schema(value_type = Vec<Object>)]
    problems: Vec<Value>,
    zone_data: Option<String>,
    /// Since when it has its session with the store.
    since: Option<DateTime<Utc>>,
    seen_at: Option<DateTime<Utc>>,
    /// How far its clock is ahead of the store's, with `-` before it if it is behind.
    clock_offset: Option<String>,
    /// The names of its tasks, the first 100.
    tasks: Vec<String>,
    /// How many jobs it has.
    jobs: Option<usize>,
    /// How many runs are in progress on it.
    runs: Option<usize>,
    /// Why it has not said how it is.
    unconfirmed: Option<String>,
}

/// The nodes of the cluster, as far as this one knows them.
#[utoipa::path(get, path = "/api/nodes",
    responses((status = 200, body = NodesAnswer)))]
pub(crate) async fn nodes(caller: Caller<Reads>) -> Result<Json<NodesAnswer>, Problem> {
    let health = caller.shared.jobs.health().await?;
    // The store does not answer, or its nodes cannot ask each other: what this one knows is shown all the same.
    let (mut nodes, complete) = match caller.shared.jobs.cluster().within(WITHIN).nodes().await {
        Ok(list) => (all(&list), true),
        Err(_) => (heard_of(&health), health.role == Role::Local),
    };
    let own = health.node.to_string();
    let at = nodes.iter().position(|node| node.node == own).unwrap_or_else(|| {
        // It has no session now.
        nodes.push(NodeView { node: own, role: health.role.as_str(), ..NodeView::default() });
        nodes.len() - 1
    });
    nodes[at].know(&health);
    Ok(Json(NodesAnswer { nodes, complete }))
}

fn all(list: &NodeList) -> Vec<NodeView> {
    let why = |node: NodeId| {
        let found = list.unconfirmed.iter().find(|unconfirmed| unconfirmed.node == node);
        found.map(|unconfirmed| UnconfirmedView::from(unconfirmed).why)
    };
    let shown = |node: &NodeStatus| NodeView {
        node: node.node.to_string(),
        name: named(&node.name),
        role: node.role.as_str(),
        term: node.term.map(|term| term.to_string()),
        version: named(&node.version),
        zone_data: named(&node.zone_data),
        since: Some(node.since),
        seen_at: node.seen_at,
        clock_offset: node.now.and_then(|now| offset(now.clock_ahead_seconds)),
        tasks: node.tasks.iter().map(ToString::to_string).collect(),
        jobs: node.now.map(|now| now.jobs),
        runs: node.now.map(|now| now.runs),
        unconfirmed: why(node.node),
        ..NodeView::default()
    };
    list.nodes.iter().map(shown).collect()
}

fn heard_of(health: &HealthReport) -> Vec<NodeView> {
    let leader = health.leader.filter(|leader| *leader != health.node);
    let shown = |leader: NodeId| NodeView { node: leader.to_string(), role: "leader", ..NodeView::default() };
    leader.map(shown).into_iter().collect()
}

/// How far a clock is ahead, in whole milliseconds.
fn offset(ahead: f64) -> Option<String> {
    let millis = Duration::try_from_secs_f64(ahead.abs()).ok()?.as_millis();
    let text = span(Duration::from_millis(u64::try_from(millis).ok()?));
    Some(if ahead < 0.0 && millis > 0 { format!("-{text}") } else { text })
}

impl NodeView {
    /// What this node knows of itself.
    fn know(&mut self, health: &HealthReport) {
        let problems = health.problems.iter().filter_map(|problem| serde_json::to_value(problem).ok());
        self.this = true;
        self.name = named(&health.name);
        self.role = health.role.as_str();
        self.term = health.term.map(|term| term.to_string());
        self.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        self.healthy = Some(health.healthy);
        self.ready = Some(health.ready);
        self.problems = problems.collect();
        self.zone_data = Some(health.zone_data.clone());
        self.seen_at = Some(Utc::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_says_whether_a_clock_is_ahead_or_behind() {
        let offsets = [0.003, -0.003, -0.000_4, 61.5, f64::NAN].map(offset);
        let expected = [Some("3ms"), Some("-3ms"), Some("0s"), Some("1m1s500ms"), None];
        assert_eq!(offsets.each_ref().map(Option::as_deref), expected);
    }
}
