//! Why something that an application asked for was not done.

mod adding;
mod asking;
mod changing;
mod cluster;
mod kind;
mod running;

pub use self::{
    adding::{AddError, Over},
    asking::{ExplainError, FIRE_TIMES_MAX, NextFireTimesError},
    changing::{PauseError, SelectError, SkipMissedError, UpdateError},
    cluster::ClusterError,
    kind::ErrorKind,
    running::{BackfillError, TriggerError, UnknownRun},
};
pub use crate::fault::{Fault, Faults};
use crate::{core::text::bounded, name::NAME_MAX};

/// A name as it was given, which may be anything.
pub(crate) fn given_name(name: &str) -> String {
    bounded(name, NAME_MAX)
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something is wrong with the jobs or the options: everything at once.
    #[error("{0}")]
    Invalid(Faults),
    /// The store refuses this node, and asking again would not help: the reason names the cure.
    #[error("the {backend} store refuses this node: {reason}")]
    Refused {
        /// What the store is called.
        backend: &'static str,
        /// What happened.
        reason: String,
    },
    /// The store could not be reached before the connect timeout was over.
    #[error("the {backend} store could not be reached: {reason}")]
    Unreachable {
        /// What the store is called.
        backend: &'static str,
        /// What happened.
        reason: String,
    },
    /// [`Engine::start_on`](crate::Engine::start_on) runs everything where it is called, and there is no
    /// tokio runtime there.
    #[error(
        "start_on needs a tokio runtime; call it inside one, or call start, which brings its own threads"
    )]
    NoRuntime,
    /// A thread or a runtime could not be made.
    #[error("the engine's threads could not be started")]
    Threads(#[source] std::io::Error),
    /// A thread of the engine ended before it was ready.
    #[error("the engine's thread ended before it was ready; see the log for the panic")]
    Died,
}
