//! The format of a file, by the version in its header.
//!
//! `user_version` is what it is for, and one step is a transaction. A library would add a table and a dependency:
//! `rusqlite_migration` does the same and wants a newer compiler than this package; `refinery` decides which
//! version of `rusqlite` we may have.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::Trouble;

/// What is in a file.
#[derive(Debug)]
pub(super) struct Format {
    /// Stands in the header of the file, so that it is told from those of others.
    pub(super) application: i32,
    /// What such a file is called.
    pub(super) is: &'static str,
    /// What makes it of an empty file, one step a version: version n has the first n of them.
    pub(super) steps: &'static [&'static str],
}

/// What the header of a file says.
struct Header {
    application: i32,
    version: usize,
    is_empty: bool,
}

impl Header {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let count: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        // A negative one is not ours, and greater than any of ours.
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        Ok(Self { application, version, is_empty: count == 0 && version == 0 })
    }

    /// Whether the file is one of this format, or none yet.
    fn check(&self, format: &Format) -> Result<(), Trouble> {
        let is_new = self.is_empty && self.application == 0;
        if !is_new && self.application != format.application {
            let rule = format!("it is an SQLite database, but no {}", format.is);
            return Err(Trouble::staying(rule, "name another path"));
        }
        let newest = format.steps.len();
        if self.version > newest {
            let rule = format!(
                "a newer version of callsheet has written it: its format is {}, and this version knows formats up to {newest}",
                self.version
            );
            return Err(Trouble::staying(rule, "start the newer version, or put back a copy from before it"));
        }
        Ok(())
    }
}

/// Checks that the file is of this format, and brings it up to date.
pub(super) fn migrate(connection: &mut Connection, format: &Format) -> Result<(), Trouble> {
    let trouble = |error: rusqlite::Error| Trouble::of(&error);
    let header = Header::of(connection).map_err(trouble)?;
    header.check(format)?;
    for (step, version) in format.steps.iter().zip(1..).skip(header.version) {
        apply(connection, format, step, version).map_err(trouble)?;
    }
    Ok(())
}

/// Makes one step, whole or not at all.
fn apply(connection: &mut Connection, format: &Format, step: &str, version: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "application_id", format.application)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
