//! What went wrong, in words with a cure, without passwords or connection strings.

use std::error::Error as _;

use tokio_postgres::{Error, error::SqlState};

/// Why a connection was not made.
pub(super) fn refusal(error: &Error) -> String {
    let Some(db) = error.as_db_error() else { return explain(error) };
    let cure = match db.code() {
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "check the user and the password in the URL, and the server's pg_hba.conf"
        }
        &SqlState::INVALID_CATALOG_NAME => "create the database, or name another one in the URL",
        &SqlState::UNDEFINED_OBJECT => "the server must be PostgreSQL 14 or newer",
        &SqlState::PROTOCOL_VIOLATION => {
            "if a pooler stands between, connect to the server itself: sessions do not survive transaction mode"
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => {
            "grant CREATE on the database to this role, or let another role make the schema and use migrate(false)"
        }
        &SqlState::TOO_MANY_CONNECTIONS => "each node needs two connections: raise max_connections",
        _ => return explain(error),
    };
    format!("{}; {cure}", db.message())
}

/// An error with its causes.
pub(super) fn explain(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether the server gave up waiting for a lock. Nothing was changed.
pub(super) fn is_lock_timeout(error: &Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}
