//! How the nodes of a scope see each other, and ask things of each other.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use uuid::Uuid;

pub use crate::core::control::{
    ANSWER_BYTES_MAX, ANSWERS_BYTES_MAX, AskedNode, ControlRequest, ControlTable, DESCRIPTION_BYTES_MAX,
    JobSet, NODES_MAX, NodeAnswer, NodeRow, Posted, REQUEST_BYTES_MAX, REQUESTS_OPEN_MAX, TakenRequest, To,
    VIEWS_OPEN_MAX,
};
use crate::name::NodeId;

/// Lets the nodes of a scope see each other, and ask things of each other: see [`InCluster`](crate::InCluster). It
/// reads neither requests nor answers.
///
/// * **Addressed.** A request is for the nodes that have a session when it is posted, and for no other.
/// * **Once.** A node gets a request from [`take`](Self::take) once at most, and never after its deadline. If the
///   answer to that call is lost, the request is as well.
/// * **One answer.** Of several answers of a node the first counts. Only a node that has taken a request answers it.
/// * **Bounds.** [`REQUESTS_OPEN_MAX`] requests are open. One whose deadline has passed is none of them: whoever
///   asked may have died.
/// * **Hints** may come in vain, and may be lost with a session. The engine asks again when one was opened, and once a
///   minute.
///
/// All calls go by the session that is open, and mean the node that has it. The rules in memory are those of
/// [`ControlTable`]. The suite is `testkit::conformance::control`.
///
/// # Cancel safety
///
/// Dropping a future has the same effect as [`ControlError::Unavailable`].
pub trait Control: Send + Sync + fmt::Debug + 'static {
    /// The nodes that have a session, this one included, at most [`NODES_MAX`], the oldest session first.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: they are not known.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeRow>, ControlError>>;

    /// Keeps what this node says of itself, at most [`DESCRIPTION_BYTES_MAX`], with its session.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: it may be kept.
    fn describe(&self, description: Arc<str>) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Posts a request that is to be answered within this time, unless `open_max` are open: [`VIEWS_OPEN_MAX`] or
    /// [`REQUESTS_OPEN_MAX`]. One that is posted again, by its id, stays as it is.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: it may be posted.
    fn post<'a>(
        &'a self,
        request: &'a ControlRequest,
        to: To,
        within: Duration,
        open_max: usize,
    ) -> BoxFuture<'a, Result<Posted, ControlError>>;

    /// Takes the requests to this node, which it has not taken yet.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: some may be taken, and are lost.
    fn take(&self) -> BoxFuture<'_, Result<Vec<TakenRequest>, ControlError>>;

    /// Keeps the answer of this node, at most [`ANSWER_BYTES_MAX`], to a request that it has taken.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: it may be kept.
    fn answer(&self, request: Uuid, answer: Arc<str>) -> BoxFuture<'_, Result<(), ControlError>>;

    /// How far the nodes are that were asked, except those that were `heard`; nothing, if there is no such request.
    /// Once the answers have [`ANSWERS_BYTES_MAX`], others wait for the next call.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: it is not known.
    fn answers<'a>(
        &'a self,
        request: Uuid,
        heard: &'a [NodeId],
    ) -> BoxFuture<'a, Result<Vec<(NodeId, NodeAnswer)>, ControlError>>;

    /// Forgets a request, with its answers.
    ///
    /// # Errors
    ///
    /// [`ControlError::Unavailable`]: it may be there until its deadline.
    fn close(&self, request: Uuid) -> BoxFuture<'_, Result<(), ControlError>>;

    /// Resolves with how many hints there were in this session that this node was asked something, as soon as it is
    /// another number than `seen`. It may never resolve.
    fn asked(&self, seen: u64) -> BoxFuture<'_, u64>;

    /// As [`asked`](Self::asked), of hints that somebody has answered.
    fn answered(&self, seen: u64) -> BoxFuture<'_, u64>;
}

/// Why the store did not answer what a node asked of others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No answer: what was asked may have been done.
    #[error("the store did not answer: {reason}")]
    Unavailable {
        /// What happened, without passwords or connection strings.
        reason: String,
    },
}
