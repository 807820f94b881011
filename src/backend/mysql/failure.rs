//! What went wrong, in words with a cure, without passwords or URLs.

use callsheet_actors::{adapter::one_line, port::RecordsError};
use mysql_async::{DriverError, Error, IoError, ServerError, TlsError};

use crate::backend::sql::lane::Failure;

/// The longest message of the server that is quoted, in bytes.
const MESSAGE_MAX: usize = 512;

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
    let cure = "check whether a proxy stands between, and whether the tables are those of Mysql::ddl()";
    RecordsError::NotDone {
        reason: format!("the server answered {what} in a form that is not known; {cure}"),
    }
}

pub(super) const READ_ONLY: &str = "the server is read-only: a replica, or a primary that was one until now; name the primary in the URL, or \
     what leads to it";
const RIGHTS: &str = "grant this user SELECT, INSERT, UPDATE and DELETE on callsheet_records and callsheet_sessions, and CREATE on the \
     database, or let another user run the statements of Mysql::ddl() once";
const CREDENTIALS: &str =
    "check the user and the password in the URL, and from which hosts that user may connect";
const DISK: &str = "free space on the server's disk";

/// What an error of the server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Others did something at the same time, and the server rolled this back.
    Contention,
    /// The connection is over, whatever was done.
    Over,
    /// This server is not the one to ask, until somebody changes something.
    Elsewhere(&'static str),
    /// It goes by, or somebody mends it.
    Passing(&'static str),
    /// It stays so until somebody changes something.
    Stays(&'static str),
    Unknown,
}

/// By the numbers of the server, which are the same in MySQL and MariaDB, but for those above 1,900.
fn meaning(code: u16) -> Meaning {
    match code {
        // A lock that was not had in time, a deadlock, a row that changed, a transaction that Galera aborted, and one
        // that a group of servers did not accept.
        1205 | 1213 | 1020 | 1614 | 3101 => Meaning::Contention,
        // Shut down, killed, silent for too long, errors of the network; a commit that failed on the way.
        1053 | 1080 | 1152 | 1158..=1161 | 1180 | 1184 | 1927 | 4031 => Meaning::Over,
        1290 | 1792 | 1836 | 1874 => Meaning::Elsewhere(READ_ONLY),
        1047 => Meaning::Elsewhere("the server is cut off from its cluster; bring that back"),
        1146 | 1054 | 1932 => Meaning::Elsewhere("the tables are gone, or others; see Mysql::ddl()"),
        1044 | 1142 | 1143 | 1227 | 1370 => Meaning::Stays(RIGHTS),
        1045 | 1698 | 1130 | 3118 | 4151 => Meaning::Stays(CREDENTIALS),
        1049 => Meaning::Stays("create the database, or name another one in the URL"),
        1129 => Meaning::Stays("run FLUSH HOSTS on the server, and find what fails to connect from here"),
        1665 => Meaning::Stays("set binlog_format to ROW or MIXED"),
        1286 | 1030 => Meaning::Stays("let the server have InnoDB"),
        1040 | 1203 | 1226 => {
            Meaning::Passing("each node needs two connections: raise the limit, or close others")
        }
        1021 | 1114 | 1026 | 1886 => Meaning::Passing(DISK),
        1153 => Meaning::Passing("raise max_allowed_packet"),
        1317 | 1969 | 3024 => {
            Meaning::Passing("find who cancels the statements of this node, or what is slow")
        }
        1037 | 1038 | 1041 => Meaning::Passing("give the server more memory"),
        1223 | 1192 | 1100 => Meaning::Passing("somebody has locked the tables; let them be unlocked"),
        _ => Meaning::Unknown,
    }
}

/// Whether asking again is enough.
pub(super) fn is_contention(error: &Error) -> bool {
    matches!(error, Error::Server(server) if meaning(server.code) == Meaning::Contention)
}

/// A COMMIT that failed: unless it was rolled back, it may be done.
pub(super) fn of_commit(error: &Error) -> Failure {
    if is_contention(error) { failure(error) } else { Failure::Broken }
}

/// Whether somebody else has such a row.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(error, Error::Server(server) if server.code == 1062)
}

/// A call that failed.
pub(super) fn failure(error: &Error) -> Failure {
    let Error::Server(server) = error else { return Failure::Broken };
    let not_done = |cure: &str| RecordsError::NotDone { reason: told(server, cure) };
    match meaning(server.code) {
        Meaning::Over => Failure::Broken,
        Meaning::Elsewhere(cure) => Failure::Elsewhere(not_done(cure)),
        Meaning::Passing(cure) | Meaning::Stays(cure) => Failure::Answered(not_done(cure)),
        Meaning::Contention | Meaning::Unknown => Failure::Answered(not_done("")),
    }
}

/// Why a connection was not made, or is of no use.
pub(super) fn of_connection(error: &Error, shown: &str) -> RecordsError {
    match error {
        Error::Server(server) => match meaning(server.code) {
            Meaning::Stays(cure) => refused(told(server, cure)),
            Meaning::Elsewhere(cure) if cure == READ_ONLY => refused(told(server, cure)),
            Meaning::Elsewhere(cure) | Meaning::Passing(cure) => unavailable(told(server, cure)),
            Meaning::Contention | Meaning::Over | Meaning::Unknown => {
                unavailable(format!("{shown}: {}", told(server, "look at the server's log")))
            }
        },
        Error::Io(IoError::Tls(TlsError::Tls(tls))) => of_tls(&one_line(tls, MESSAGE_MAX), shown),
        Error::Io(IoError::Tls(tls)) => of_tls(&one_line(tls, MESSAGE_MAX), shown),
        Error::Io(IoError::Io(io)) => {
            match io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => of_tls(&one_line(tls, MESSAGE_MAX), shown),
                None => unavailable(format!(
                    "{shown}: {}; check the host and the port in the URL, and whether the server runs",
                    one_line(io, MESSAGE_MAX)
                )),
            }
        }
        Error::Driver(DriverError::NoClientSslFlagFromServer) => refused(format!(
            "{shown}: the server does not encrypt connections; give it a certificate, or write sslmode=disable on a network that \
             you trust"
        )),
        Error::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled,
        ) => refused(format!(
            "{shown}: the server identifies this user in a way that is not supported; use mysql_native_password or \
             caching_sha2_password for it"
        )),
        // Its text may hold what was sent.
        Error::Driver(_) | Error::Other(_) | Error::Url(_) => unavailable(format!(
            "{shown}: it does not answer as a MySQL server does; check the host and the port in the URL"
        )),
    }
}

fn of_tls(text: &str, shown: &str) -> RecordsError {
    refused(format!(
        "{shown}: the encrypted connection was not made: {text}; check that its certificate is signed for this name by the authority \
         given: sslrootcert, or Mysql::root_certificates"
    ))
}

/// The message of the server on one line, of bounded length, with what mends it.
fn told(error: &ServerError, cure: &str) -> String {
    let separator = if cure.is_empty() { "" } else { "; " };
    let said = one_line(&error.message, MESSAGE_MAX);
    format!("{said} ({}){separator}{cure}", error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> Error {
        Error::Server(ServerError { code, message: "said".to_owned(), state: "HY000".to_owned() })
    }

    #[test]
    fn what_the_server_says_decides_what_becomes_of_the_connection() {
        for code in [1205, 1213, 1020] {
            assert!(is_contention(&server(code)), "{code}");
        }
        for code in [1053, 1927, 4031, 1180] {
            assert!(matches!(failure(&server(code)), Failure::Broken), "{code}");
        }
        for code in [1290, 1836, 1047, 1146] {
            assert!(matches!(failure(&server(code)), Failure::Elsewhere(_)), "{code}");
        }
        for code in [1142, 1114, 1153, 1205, 9_999] {
            assert!(matches!(failure(&server(code)), Failure::Answered(_)), "{code}");
        }
        assert!(matches!(failure(&Error::Driver(DriverError::ConnectionClosed)), Failure::Broken));
    }

    #[test]
    fn a_commit_that_failed_may_be_done_unless_it_was_rolled_back() {
        for code in [1213, 3101] {
            assert!(matches!(of_commit(&server(code)), Failure::Answered(_)), "{code}");
        }
        for code in [1021, 1197, 1290, 1317, 9_999] {
            assert!(matches!(of_commit(&server(code)), Failure::Broken), "{code}");
        }
    }

    #[test]
    fn what_stays_so_is_refused_with_its_cure_when_a_connection_is_made() {
        let reason = |code| match of_connection(&server(code), "db:3306") {
            RecordsError::Refused { reason } => format!("refused: {reason}"),
            RecordsError::Unavailable { reason } => format!("unavailable: {reason}"),
            other => panic!("{other:?}"),
        };

        assert!(reason(1045).starts_with("refused: said (1045); check the user"), "{}", reason(1045));
        assert!(reason(1142).contains("Mysql::ddl()"), "{}", reason(1142));
        assert!(reason(1290).starts_with("refused"), "{}", reason(1290));
        assert!(reason(1040).starts_with("unavailable: said (1040); each node"), "{}", reason(1040));
    }
}
