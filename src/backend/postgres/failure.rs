//! What went wrong, in words with a cure, without passwords or connection strings.

use std::{error::Error as StdError, io};

use callsheet_actors::{adapter::bounded, port::LockError};
use rustls::CertificateError;
use tokio_postgres::{Error, error::SqlState};

use super::{credentials::Callback, cure, settings::Settings};

/// The longest message of the server that is quoted, in bytes.
pub(super) const MESSAGE_MAX: usize = 1_024;

pub(super) const POOLED: &str = "a pooler stands between, which may hand each transaction to another process; connect to the server itself";

/// What waiting may cure.
pub(super) fn unavailable(reason: impl Into<String>) -> LockError {
    LockError::Unavailable { reason: reason.into() }
}

/// What somebody has to change.
pub(super) fn refused(reason: impl Into<String>) -> LockError {
    LockError::Refused { reason: reason.into() }
}

/// The server process changed under the connection.
pub(super) fn switched() -> LockError {
    refused(SWITCHED.to_owned() + POOLED)
}

pub(super) const SWITCHED: &str = "the server process changed under the connection: ";

/// Why a connection was not made, or is of no use.
pub(super) fn refusal(error: &Error) -> LockError {
    let Some(db) = error.as_db_error() else { return of_connection(error) };
    let message = bounded(db.message(), MESSAGE_MAX);
    let cure = match db.code() {
        &SqlState::INVALID_PASSWORD => "check the user and the password in the URL",
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "check the user in the URL, and the server's pg_hba.conf: whether it lets this user in from here, and encrypted \
             or not (sslmode)"
        }
        &SqlState::INVALID_CATALOG_NAME => "create the database, or name another one in the URL",
        &SqlState::UNDEFINED_OBJECT => {
            "the server must be PostgreSQL 14 or newer; if it is, check the options in the URL"
        }
        &SqlState::PROTOCOL_VIOLATION
        | &SqlState::INVALID_SQL_STATEMENT_NAME
        | &SqlState::DUPLICATE_PSTATEMENT => POOLED,
        // The latter: a schema that is there, but not for this role.
        &SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::INVALID_SCHEMA_NAME => {
            "grant CREATE on the database and the schema to this role, or let another role run the statements of Postgres::ddl() and use \
             migrate(false)"
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => READ_ONLY_CURE,
        &SqlState::TOO_MANY_CONNECTIONS => {
            return unavailable(format!(
                "{message}; each node needs two, and up to two for its history: raise max_connections"
            ));
        }
        _ => return unavailable(explain(error)),
    };
    refused(format!("{message}; {cure}"))
}

/// The same for a connection with credentials that the application was asked for: waiting may cure those that
/// are wrong.
pub(super) fn refusal_with(error: &Error, callback: Option<&Callback>) -> LockError {
    not_taken(error, callback).map_or_else(|| refusal(error), unavailable)
}

/// Why the server does not take what a callback answered, if that is what is wrong.
pub(in crate::backend) fn not_taken(error: &Error, callback: Option<&Callback>) -> Option<String> {
    let wrong = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
    let (callback, error) = callback.zip(error.as_db_error().filter(|error| wrong.contains(error.code())))?;
    Some(format!("{}; {}", bounded(error.message(), MESSAGE_MAX), callback.cure()))
}

/// The tables are not there, or not all of them.
pub(super) fn no_tables(settings: &Settings) -> LockError {
    let schema = &settings.schema;
    let cure = if settings.migrate {
        "its steps were taken, but some of what they made was dropped since: restore it, or drop the schema, and it is created again"
    } else {
        "use migrate(true), or run the statements of Postgres::ddl()"
    };
    refused(format!("the schema {schema:?} is not there, or not complete: {cure}"))
}

pub(super) const READ_ONLY_CURE: &str = "check default_transaction_read_only of the role and the database";

/// Without an answer of the server's own.
pub(in crate::backend) fn of_connection(error: &Error) -> LockError {
    if let Some(tls) = causes(error).find_map(tls_error) {
        let cure = match tls {
            rustls::Error::InvalidCertificate(certificate) => of_certificate(certificate),
            _ => "check that this port is the database's, and which versions of TLS it allows",
        };
        return refused(format!("the encrypted connection was not made: {tls}; {cure}"));
    }
    let text = explain(error);
    match error.to_string().as_str() {
        // What the driver itself found; it has no codes.
        "error performing TLS handshake" if text.ends_with("server does not support TLS") => refused(
            "the server does not encrypt connections; switch ssl on there, or write sslmode=disable on a network that you trust",
        ),
        "invalid configuration" if text.ends_with("password missing") => {
            refused("the server asks for a password, and the URL has none")
        }
        "error performing TLS handshake" | "invalid configuration" | "authentication error" => refused(text),
        "error connecting to server" => unavailable(format!(
            "{text}; check the host and the port in the URL, and whether the server runs"
        )),
        _ => unavailable(text),
    }
}

/// Rustls hands its errors over inside of errors of input and output.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let inner = || error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
    error.downcast_ref().or_else(inner)
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the authority that signed it is not the one given: check sslrootcert, or Postgres::root_certificates"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the URL must name the host as the certificate does; hostaddr may give another address"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew it, or set this machine's clock",
        _ => "give the server a certificate that its authority signed for its name",
    }
}

/// An error with its causes, of bounded length: the server quotes what it was given.
pub(in crate::backend) fn explain(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", bounded(db.message(), MESSAGE_MAX), db.code().code());
    }
    let texts: Vec<_> = causes(error).map(ToString::to_string).collect();
    bounded(texts.join(": "), MESSAGE_MAX)
}

/// The error itself and what caused it.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// What a statement was refused for: who is to blame decides what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something that stands in the statement, or in a row that it concerns: without that item the others go
    /// through.
    ///
    /// | SQLSTATE | what |
    /// |---|---|
    /// | 22 | data: a character that the server does not know, a number or an instant out of its range |
    /// | 23, 44 | a constraint of somebody else's on our tables |
    /// | 54 | a limit: an index row that is too long |
    /// | XX001, XX002 | a page that cannot be read: a row, or the rows beside it, are lost |
    Data,
    /// The server as a whole, or this role: rights, a full disk, a read-only session, a shutdown, a table
    /// that is not there. The same statement goes through once somebody has changed that.
    ///
    /// So is what a trigger raises (P0001), unless it says which of the above it is
    /// (`RAISE … USING ERRCODE`): who writes no code mostly wants to keep everybody out.
    Server,
    /// Somebody else, at this moment: locks, deadlocks, cancelled statements. Asking again is enough.
    Contention,
}

impl Cause {
    /// By the code of the server, which has five characters; the first two are its class.
    pub(super) fn of(code: &str) -> Self {
        match (code.get(..2).unwrap_or_default(), code) {
            (_, "XX001" | "XX002") => Self::Data,
            ("22" | "23" | "44" | "54", _) => Self::Data,
            // Rolled back by the server, locks that were not had in time, and statements that were cancelled.
            ("40", _) | (_, "55P03" | "57014") => Self::Contention,
            _ => Self::Server,
        }
    }

    fn of_error(error: &Error) -> Self {
        match error.code() {
            Some(code) => Self::of(code.code()),
            None if is_unsent(error) => Self::Data,
            None => Self::Server,
        }
    }
}

/// Whether a statement was refused for something that stands in it, or in a row that it concerns.
pub(super) fn is_bad_data(error: &Error) -> bool {
    Cause::of_error(error) == Cause::Data
}

/// What a refused statement means for the caller: it was rolled back.
pub(super) fn not_done(error: &Error) -> LockError {
    match Cause::of_error(error) {
        Cause::Data => LockError::BadData { reason: explain(error) },
        Cause::Server | Cause::Contention => LockError::NotDone { reason: cure::denial(error) },
    }
}

/// Whether a parameter has no form that could be sent. Nothing was; the connection is as it was.
pub(super) fn is_unsent(error: &Error) -> bool {
    // The driver has no codes for what it finds itself.
    let text = error.to_string();
    text.starts_with("error serializing parameter") || text == "error encoding message to server"
}

/// Whether the server gave up waiting for a lock. Nothing was changed.
pub(super) fn is_lock_timeout(error: &Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_blame_for_a_refusal_follows_from_its_code() {
        let table = [
            // Characters, numbers, instants, JSON.
            ("22000", Cause::Data),
            ("22001", Cause::Data),
            ("22003", Cause::Data),
            ("22008", Cause::Data),
            ("22021", Cause::Data),
            ("22023", Cause::Data),
            ("22P02", Cause::Data),
            ("22P05", Cause::Data),
            // Constraints.
            ("23502", Cause::Data),
            ("23503", Cause::Data),
            ("23505", Cause::Data),
            ("23514", Cause::Data),
            ("23P01", Cause::Data),
            ("44000", Cause::Data),
            // Limits.
            ("54000", Cause::Data),
            ("54001", Cause::Data),
            // Lost pages.
            ("XX001", Cause::Data),
            ("XX002", Cause::Data),
            // Somebody else, at this moment.
            ("40001", Cause::Contention),
            ("40P01", Cause::Contention),
            ("55P03", Cause::Contention),
            ("57014", Cause::Contention),
            // Connections, and what poolers do.
            ("08P01", Cause::Server),
            ("08006", Cause::Server),
            ("26000", Cause::Server),
            // What is not supported, or is a mistake of the statement itself.
            ("0A000", Cause::Server),
            ("21000", Cause::Server),
            ("42601", Cause::Server),
            ("42703", Cause::Server),
            // Read-only, and transactions in a wrong state.
            ("25006", Cause::Server),
            ("25P02", Cause::Server),
            ("25P03", Cause::Server),
            // Rights and row security, and tables that are not there.
            ("28000", Cause::Server),
            ("42501", Cause::Server),
            ("42P01", Cause::Server),
            ("3F000", Cause::Server),
            // Disk, memory, connections.
            ("53000", Cause::Server),
            ("53100", Cause::Server),
            ("53200", Cause::Server),
            ("53300", Cause::Server),
            ("55000", Cause::Server),
            ("55006", Cause::Server),
            // Shutdowns.
            ("57P01", Cause::Server),
            ("57P02", Cause::Server),
            ("57P03", Cause::Server),
            ("57P05", Cause::Server),
            ("58030", Cause::Server),
            // A trigger that gives no code, and faults of the server.
            ("P0001", Cause::Server),
            ("XX000", Cause::Server),
            // No codes of the server's.
            ("", Cause::Server),
            ("é2", Cause::Server),
        ];

        for (code, cause) in table {
            assert_eq!(Cause::of(code), cause, "{code}");
        }
    }
}
