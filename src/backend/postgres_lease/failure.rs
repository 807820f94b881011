//! What went wrong, in words with a cure, without passwords or connection strings.

use callsheet_actors::port::{LockError, RecordsError};
use tokio_postgres::{
    Error,
    error::{DbError, Severity, SqlState},
};

use crate::backend::{
    postgres::{Callback, explain, not_taken, of_connection as not_made},
    sql::lane::Failure,
};

/// What waiting may cure.
pub(super) fn unavailable(reason: impl Into<String>) -> RecordsError {
    RecordsError::Unavailable { reason: reason.into() }
}

/// What somebody has to change.
pub(super) fn refused(reason: impl Into<String>) -> RecordsError {
    RecordsError::Refused { reason: reason.into() }
}

/// An answer that this version does not understand.
pub(super) fn not_understood(what: &str) -> RecordsError {
    let cure = "check what stands between, and whether the tables are those of PostgresLease::ddl()";
    RecordsError::NotDone {
        reason: format!("the server answered {what} in a form that is not known; {cure}"),
    }
}

pub(super) const READ_ONLY: &str = "the server is read-only: a standby, or the role or the database has default_transaction_read_only; name the \
     primary in the URL, or what leads to it";
pub(super) const RIGHTS: &str = "grant this role USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on its tables, and CREATE on the \
     database, or let another role run the statements of PostgresLease::ddl() once";

/// What an error of the server, or of a pooler, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Others did something at the same time, and the server rolled this back.
    Contention,
    /// An earlier statement of the transaction failed, or the transaction is not the one that was begun.
    Follows,
    /// The connection is over, whatever was done.
    Over,
    /// This server is not the one to ask, until somebody changes something.
    Elsewhere(&'static str),
    /// It stays so until somebody changes something.
    Stays(&'static str),
    Passing(&'static str),
}

/// By the codes of SQL.
fn meaning(code: &SqlState) -> Meaning {
    match code.code() {
        "40001" | "40P01" | "55P03" => Meaning::Contention,
        // The latter: a commit divides by zero if it finds itself in another transaction.
        "25P02" | "22012" => Meaning::Follows,
        // The latter: a standby begins no transaction that writes.
        "25006" | "0A000" => Meaning::Elsewhere(READ_ONLY),
        "3F000" | "42P01" | "42703" => {
            Meaning::Elsewhere("the tables are gone, or others; see PostgresLease::ddl()")
        }
        "42501" => Meaning::Stays(RIGHTS),
        "28P01" | "28000" => Meaning::Stays(
            "check the user and the password in the URL, and whether the server lets it in from here",
        ),
        "3D000" => Meaning::Stays("create the database, or name another one in the URL"),
        "53100" => Meaning::Passing("free space on the server's disk"),
        "53300" => Meaning::Passing(
            "each node needs two connections: raise max_connections, or the pooler's pool_size",
        ),
        "57014" => Meaning::Passing("find who cancels the statements of this node, or what is slow"),
        // Ended by the server, or by the pooler, whose errors have the class of the protocol.
        code if code.starts_with("57P") || code.starts_with("08") || code == "25P03" => Meaning::Over,
        _ => Meaning::Passing("look at the server's log"),
    }
}

/// Whether asking again is enough.
pub(super) fn is_contention(error: &Error) -> bool {
    error.code().is_some_and(|code| meaning(code) == Meaning::Contention)
}

/// Whether it follows from another error.
pub(super) fn follows(error: &Error) -> bool {
    error.code().is_some_and(|code| meaning(code) == Meaning::Follows)
}

/// A COMMIT that failed: unless it was rolled back, it may be done.
pub(super) fn of_commit(error: &Error) -> Failure {
    if is_contention(error) { failure(error) } else { Failure::Broken }
}

/// Whether the server ends the connection with it.
fn is_fatal(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// A call that failed.
pub(super) fn failure(error: &Error) -> Failure {
    let Some(code) = error.code().filter(|_| !is_fatal(error)) else { return Failure::Broken };
    let not_done = |cure: &str| RecordsError::NotDone { reason: format!("{}; {cure}", explain(error)) };
    match meaning(code) {
        Meaning::Over => Failure::Broken,
        Meaning::Elsewhere(cure) => Failure::Elsewhere(not_done(cure)),
        Meaning::Stays(cure) | Meaning::Passing(cure) => Failure::Answered(not_done(cure)),
        Meaning::Contention | Meaning::Follows => Failure::Answered(not_done("it is asked again")),
    }
}

/// Why a connection was not made, or is of no use.
pub(super) fn of_connecting(error: &Error, callback: Option<&Callback>) -> RecordsError {
    not_taken(error, callback).map_or_else(|| of_connection(error), unavailable)
}

/// What an error says of a connection.
pub(super) fn of_connection(error: &Error) -> RecordsError {
    let Some(code) = error.code() else {
        return match not_made(error) {
            LockError::Refused { reason } => refused(reason),
            other => unavailable(reason_of(&other)),
        };
    };
    let told = |cure: &str| format!("{}; {cure}", explain(error));
    match meaning(code) {
        Meaning::Stays(cure) => refused(told(cure)),
        Meaning::Elsewhere(READ_ONLY) => refused(told(READ_ONLY)),
        Meaning::Elsewhere(cure) | Meaning::Passing(cure) => unavailable(told(cure)),
        Meaning::Contention | Meaning::Follows | Meaning::Over => {
            unavailable(told("check the server and the pooler before it, and their logs"))
        }
    }
}

fn reason_of(error: &LockError) -> String {
    match error {
        LockError::Unavailable { reason } => reason.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_decides_what_becomes_of_a_call() {
        let table = [
            ("40P01", Meaning::Contention),
            ("55P03", Meaning::Contention),
            ("25P02", Meaning::Follows),
            ("22012", Meaning::Follows),
            ("25P03", Meaning::Over),
            ("57P01", Meaning::Over),
            ("08P01", Meaning::Over),
            ("25006", Meaning::Elsewhere(READ_ONLY)),
            ("42501", Meaning::Stays(RIGHTS)),
            ("XX000", Meaning::Passing("look at the server's log")),
        ];
        for (code, expected) in table {
            assert_eq!(meaning(&SqlState::from_code(code)), expected, "{code}");
        }
    }
}
