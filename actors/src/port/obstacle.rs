//! What is in the way of a session.

use std::time::Duration;

/// The most obstacles that one session tells of.
pub const OBSTACLES_MAX: usize = 8;

/// Something in the store that somebody else holds, and that this node needs, or has left there: with it something is
/// not claimed or not taken over.
///
/// [`Problem::Obstructed`](crate::Problem::Obstructed) of the node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What is held or was left, and by whom, without passwords or connection strings.
    pub reason: String,
    /// What would help.
    pub cure: String,
    /// For how long this node has known of it.
    pub held_for: Duration,
}
