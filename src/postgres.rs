//! What goes with the backend [`Postgres`](crate::backend::Postgres): guarded writes of runs, and connections
//! of the application that are made as those of a node.

pub use crate::backend::postgres::{Connector, Guard, GuardError, MakeRustlsConnect};
