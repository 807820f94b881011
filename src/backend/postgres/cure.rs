//! What would mend a statement that the server refuses.

use tokio_postgres::{Error, error::SqlState};

use super::failure::explain;

/// Why the server refuses a statement and, after `"; "`, what would mend it.
pub(super) fn denial(error: &Error) -> String {
    format!("{}; {}", explain(error), error.code().map_or(UNKNOWN, of))
}

const UNKNOWN: &str = "look at the server's log";

fn of(code: &SqlState) -> &'static str {
    match code {
        &SqlState::INSUFFICIENT_PRIVILEGE => {
            "grant this role the rights that the first lines of Postgres::ddl() list, and check the policies of row security"
        }
        &SqlState::UNDEFINED_TABLE
        | &SqlState::INVALID_SCHEMA_NAME
        | &SqlState::UNDEFINED_COLUMN
        | &SqlState::UNDEFINED_FUNCTION => {
            "the tables of the schema are gone or are other ones: run the statements of Postgres::ddl(), or restart the node with migrate(true)"
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => {
            "let this role write: default_transaction_read_only of the server, the database and the role; is it a standby?"
        }
        &SqlState::DISK_FULL => "free space on the server's disk",
        &SqlState::LOCK_NOT_AVAILABLE => {
            "somebody keeps a row locked: find the transaction in pg_locks and pg_stat_activity, and end it"
        }
        &SqlState::QUERY_CANCELED => "find who cancels the statements of this node, or what is slow",
        &SqlState::RAISE_EXCEPTION => "a trigger of the database refuses it: drop or mend the trigger",
        code if code.code().starts_with("53") => "give the server more of the resource that it lacks",
        code if code.code().starts_with("57") => "wait until the server runs again",
        _ => UNKNOWN,
    }
}

/// A statement that was to change a row succeeded and changed none.
pub(super) fn dropped(what: &str) -> String {
    format!(
        "the server changed nothing, without an error, where it was to {what}; a trigger or row security drops the change: find and \
         mend it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_the_whole_server_has_a_cure() {
        let known = [
            "42501", "42P01", "42883", "3F000", "25006", "53100", "53200", "55P03", "57014", "57P01", "P0001",
        ];

        for code in known {
            assert_ne!(of(&SqlState::from_code(code)), UNKNOWN, "{code}");
        }
        assert_eq!(of(&SqlState::from_code("XX000")), UNKNOWN);
    }
}
