//! How a node asks the others of its cluster, and does what they ask of it.
//!
//! [`Gathering`](crate::core::control::Gathering) decides who has answered. Here the store is asked, and what others
//! ask is done by the messages that an application on this node would send.

mod active_runs;
mod asking;
mod calls;
mod nodes;
mod performing;
mod serving;
mod wire;

pub(super) use self::{nodes::Describing, serving::Serving, wire::Written};
