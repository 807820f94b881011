//! Control: what the nodes of a scope ask of each other, and what they know of each other.
//!
//! Somebody on one node asks something of the others: a *request*, which a store keeps for a short time. It is
//! addressed to the nodes that have a session at that instant. Each of them *takes* it once, does it, and writes its
//! answer. The store reads neither.

mod gathering;
mod job_set;
mod own_jobs;
mod table;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::{
    gathering::Gathering,
    job_set::DriftWatch,
    own_jobs::{OwnJobs, Stamp},
};
pub use self::{job_set::JobSet, table::ControlTable};
use crate::{
    name::{By, NodeId, Term},
    note::Note,
};

/// The most bytes of a request, as JSON: 128 KiB.
pub const REQUEST_BYTES_MAX: usize = 131_072;
/// The most bytes of the answer of one node, as JSON: 256 KiB.
pub const ANSWER_BYTES_MAX: usize = 262_144;
/// About so many bytes of answers are read at once: 2 MiB. The one with which there are so many is the last.
pub const ANSWERS_BYTES_MAX: usize = 2_097_152;
/// The most requests of a scope that are open at once.
pub const REQUESTS_OPEN_MAX: usize = 64;
/// With so many open, none is posted that only looks: the other places are for what is to be changed.
pub const VIEWS_OPEN_MAX: usize = 48;
/// The most nodes that a request is addressed to, and that are listed.
pub const NODES_MAX: usize = 1_000;
/// The most bytes of what a node says of itself in the table of sessions, as JSON: 16 KiB.
pub const DESCRIPTION_BYTES_MAX: usize = 16_384;

/// Who is to do what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Every other node that has a session.
    Others,
    /// This node, if it has a session.
    Node(NodeId),
}

/// Something that a node asks of others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlRequest {
    /// Its id: one that is posted twice is one request.
    pub id: Uuid,
    /// The node that asks.
    pub asked_by: NodeId,
    /// What is asked, as JSON, at most [`REQUEST_BYTES_MAX`]. Whoever writes into the store by hand may write anything
    /// here.
    pub body: Arc<str>,
    /// Who asks for it, if it was said.
    pub by: Option<By>,
    /// Why, if it was said.
    pub note: Option<Note>,
}

impl ControlRequest {
    /// A request, of nobody who was named.
    pub fn new(id: Uuid, asked_by: NodeId, body: impl Into<Arc<str>>) -> Self {
        Self { id, asked_by, body: body.into(), by: None, note: None }
    }
}

/// A request that a node has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenRequest {
    /// What is asked.
    pub request: ControlRequest,
    /// How much time is left to answer it, by the store's clock. More than [`CLUSTER_WITHIN_MAX`] is not believed.
    pub left: Duration,
}

/// A node that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedNode {
    /// Its id.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
}

/// What became of a request that was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// These nodes are asked. If there are none, nothing is kept.
    Asked(Vec<AskedNode>),
    /// As many requests of the scope are open as may be: it is not kept.
    TooMany,
}

/// How far a node is that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAnswer {
    /// It has not answered yet.
    Waiting,
    /// It has not answered, and its session is over: it never will.
    SessionOver,
    /// Its answer, as JSON. Whoever writes into the store by hand may write anything here.
    Answered(Arc<str>),
}

/// A node that has a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeRow {
    /// Its id.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
    /// The version of the scheduler; empty if it is not known.
    pub version: Arc<str>,
    /// The version of its time zone data; empty if it is not known.
    pub zone_data: Arc<str>,
    /// Since when it has this session, by the store's clock.
    pub since: DateTime<Utc>,
    /// When the store heard of it last, if that may be known.
    pub seen_at: Option<DateTime<Utc>>,
    /// The term in which it leads.
    pub term: Option<Term>,
    /// What it says of itself, as JSON: see [`Control::describe`](crate::port::Control::describe).
    pub description: Option<Arc<str>>,
}

impl NodeRow {
    /// A node of which nothing else is known.
    pub fn new(node: NodeId, since: DateTime<Utc>) -> Self {
        let empty: Arc<str> = "".into();
        Self {
            node,
            name: empty.clone(),
            version: empty.clone(),
            zone_data: empty,
            since,
            seen_at: None,
            term: None,
            description: None,
        }
    }
}

/// A node that has not confirmed what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unconfirmed {
    /// The node.
    pub node: NodeId,
    /// What people call it; empty if it has no name.
    pub name: Arc<str>,
    /// Why.
    #[serde(flatten)]
    pub why: WhyUnconfirmed,
}

/// Why a node has not confirmed what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "detail", rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhyUnconfirmed {
    /// It has not answered within the deadline. It may have done it, or may still do it.
    NoAnswer,
    /// Its session with the store is over: it died, or was cut off. What it ran under a lock key is lost.
    SessionOver,
    /// It cannot do it, or nobody can read its answer: it is of another version, say. Or it could not be asked to
    /// confirm what was done, or some of its jobs have not answered it. In words.
    Unable(Arc<str>),
}

/// The shortest time within which nodes are to answer.
pub const CLUSTER_WITHIN_MIN: Duration = Duration::from_millis(100);
/// The longest time within which nodes are to answer.
pub const CLUSTER_WITHIN_MAX: Duration = Duration::from_secs(60);
/// Within which time nodes are to answer, unless it is said.
pub const CLUSTER_WITHIN_DEFAULT: Duration = Duration::from_secs(5);
