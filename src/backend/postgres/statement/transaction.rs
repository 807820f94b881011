//! Transactions of a session.

/// Opens a transaction for what is asked in one round.
pub(in super::super) const BEGIN: &str = "BEGIN";

/// Limits, until the end of the transaction, how many milliseconds ($1) a statement may take.
pub(in super::super) const LIMIT_TIME: &str = "SELECT set_config('statement_timeout', $1, true)";

/// Commits a round, or says that it was undone.
pub(in super::super) const COMMIT: &str = "COMMIT";
