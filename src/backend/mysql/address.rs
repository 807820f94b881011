//! How a URL is read: where to connect, as whom, to which database, and whether encrypted.

use std::{net::IpAddr, path::PathBuf};

use callsheet_actors::Fault;
use percent_encoding::percent_decode_str;

use crate::backend::certificates::Certificates;

/// Shown instead of what may contain a password.
pub(super) const NOT_SHOWN: &str = "(not shown)";

const PORT: u16 = 3_306;
const EXAMPLE: &str = "write mysql://user:password@host:3306/database";

/// Where to connect, and as whom.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) mode: Mode,
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Host { name: String, port: u16 },
    Socket(PathBuf),
}

/// What the URL says of encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Unsaid,
    Disabled,
    Required,
}

/// Reads a URL, without showing it, and what it says about certificates.
pub(super) fn read(url: &str) -> (Result<Address, Fault>, Certificates) {
    let mut certificates = Certificates::none("mysql");
    let address = parse(url, &mut certificates);
    (address, certificates)
}

fn parse(url: &str, certificates: &mut Certificates) -> Result<Address, Fault> {
    if url.contains(char::is_whitespace) {
        return Err(fault(
            "it has no blank and no line break",
            "take them out; a blank within a value is %20",
        ));
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("it begins with a scheme", EXAMPLE))?;
    if !["mysql", "mariadb"].contains(&scheme) {
        return Err(fault("its scheme is mysql or mariadb", EXAMPLE));
    }
    // A password may hold what separates the parts: the last `@` ends it.
    let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Parameters { socket, mode } = Parameters::read(query, certificates)?;
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (decoded(user)?, Some(decoded(password)?)),
        None => (decoded(credentials)?, None),
    };
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = decoded(database)?;
    if database.is_empty() || database.contains('/') {
        return Err(fault("it names a database", EXAMPLE));
    }
    let place = match socket {
        Some(path) if host.is_empty() || host == "localhost" => Place::Socket(path),
        Some(_) => {
            let cure = "leave out the host, or the socket: mysql://user:password@/database?socket=/run/mysqld/mysqld.sock";
            return Err(fault("it names a host or a socket", cure));
        }
        None => read_host(host)?,
    };
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Address { place, user: given(user), password: password.and_then(given), database, mode })
}

/// What stands behind the `?`.
struct Parameters {
    socket: Option<PathBuf>,
    mode: Mode,
}

impl Parameters {
    fn read(query: &str, certificates: &mut Certificates) -> Result<Self, Fault> {
        let mut parameters = Self { socket: None, mode: Mode::Unsaid };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key)?, decoded(value)?);
            match key.as_str() {
                "socket" if value.starts_with('/') => parameters.socket = Some(PathBuf::from(value)),
                "socket" => {
                    return Err(fault(
                        "its socket has an absolute path",
                        "write ?socket=/run/mysqld/mysqld.sock",
                    ));
                }
                "sslmode" => parameters.mode = read_mode(&value)?,
                _ if certificates.take(&key, &value) => {}
                // Its name is not shown: it may be a part of a password.
                _ => {
                    let rule = "its parameters are among socket, sslmode, sslrootcert, sslcert and sslkey";
                    let cure = "correct its name, or leave it out; write a `?` of the password as %3F";
                    return Err(fault(rule, cure));
                }
            }
        }
        Ok(parameters)
    }
}

fn read_mode(value: &str) -> Result<Mode, Fault> {
    match value {
        "disable" => Ok(Mode::Disabled),
        "require" | "verify-ca" | "verify-full" => Ok(Mode::Required),
        _ => Err(Fault::new(
            "mysql: sslmode",
            NOT_SHOWN,
            "it is one of disable, require, verify-ca and verify-full",
            "choose one of them",
        )),
    }
}

fn read_host(text: &str) -> Result<Place, Fault> {
    let number = |text: &str| {
        let rule = "its port is a number from 1 to 65535";
        let cure =
            "correct it; write a `:`, `/`, `@` or `?` of the user or the password as %3A, %2F, %40, %3F";
        text.parse().ok().filter(|port| *port > 0).ok_or_else(|| fault(rule, cure))
    };
    let (name, port) = match text.strip_prefix('[') {
        // An address of IPv6, which has colons of its own.
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, PORT),
            Some((name, rest)) => (name, number(rest.strip_prefix(':').unwrap_or_default())?),
            None => {
                return Err(fault(
                    "an address of IPv6 stands in brackets",
                    "write mysql://[::1]:3306/database",
                ));
            }
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, number(port)?),
            None => (text, PORT),
        },
    };
    if text.contains(',') {
        let cure = "name the one that is written to, or what leads to it";
        return Err(fault("it names one host", cure));
    }
    let name = decoded(name)?;
    if name.is_empty() {
        return Err(fault("it names a host", EXAMPLE));
    }
    Ok(Place::Host { name, port })
}

fn decoded(text: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| fault("it is written in UTF-8", "correct what stands behind a `%`"))
}

fn fault(rule: &str, cure: &str) -> Fault {
    Fault::new("mysql: url", NOT_SHOWN, rule, cure)
}

impl Place {
    /// Whether it is on this machine, as far as names tell.
    pub(super) fn is_here(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Host { name, .. } => {
                name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(_) => f.write_str("the socket"),
            Self::Host { name, port } => match name.parse() {
                Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
                _ => write!(f, "{name}:{port}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_only(url: &str) -> Result<Address, Fault> {
        read(url).0
    }

    #[test]
    fn a_url_says_where_to_connect_as_whom_and_to_which_database() {
        let host = |name: &str, port| Place::Host { name: name.to_owned(), port };
        let cases = [
            ("mysql://db.example/app", host("db.example", 3_306), None, None, "app"),
            ("mariadb://me@[::1]:7/a", host("::1", 7), Some("me"), None, "a"),
            ("mysql://me:p:a/b@s?s@h/my%20app", host("h", 3_306), Some("me"), Some("p:a/b@s?s"), "my app"),
            (
                "mysql://me:p%40ss@localhost/a?socket=/s",
                Place::Socket("/s".into()),
                Some("me"),
                Some("p@ss"),
                "a",
            ),
            ("mysql:///a?socket=/run/s.sock", Place::Socket("/run/s.sock".into()), None, None, "a"),
        ];
        for (url, place, user, password, database) in cases {
            let read = read_only(url).unwrap_or_else(|fault| panic!("{url}: {fault}"));
            assert_eq!(read.place, place, "{url}");
            assert_eq!((read.user.as_deref(), read.password.as_deref()), (user, password), "{url}");
            assert_eq!(read.database, database, "{url}");
        }
        let mode = |url| read_only(url).map(|address| address.mode).ok();
        assert_eq!(mode("mysql://h/a"), Some(Mode::Unsaid));
        assert_eq!(mode("mysql://h/a?sslmode=disable"), Some(Mode::Disabled));
        assert_eq!(mode("mysql://h/a?sslmode=verify-full"), Some(Mode::Required));
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_shown() {
        let cases = [
            ("", "begins with a scheme"),
            ("s3cret", "begins with a scheme"),
            ("http://s3cret@h/a", "scheme is mysql"),
            ("mysql://:s3cret@h h/a", "no blank"),
            ("mysql://:s3cret@/a", "names a host"),
            ("mysql://:s3cret@h", "names a database"),
            ("mysql://:s3cret@h/", "names a database"),
            ("mysql://:s3cret@h/a/b", "names a database"),
            ("mysql://:s3cret@a,b/a", "names one host"),
            ("mysql://:s3cret@h:0/a", "port is a number"),
            ("mysql://:s3cret@h:x/a", "port is a number"),
            ("mysql://:s3cret@[::1/a", "stands in brackets"),
            ("mysql://:s3cret@h/a?s3cret=1", "parameters are among"),
            ("mysql://:s3cret@h/a?socket=x", "absolute path"),
            ("mysql://:s3cret@h/a?socket=/x", "a host or a socket"),
            ("mysql://:s3cret@h/a?sslmode=prefer", "one of disable"),
            ("mysql://:s3cret%ff@h/a", "UTF-8"),
        ];
        for (url, rule) in cases {
            let fault = read_only(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(fault.rule.contains(rule), "{url}: {fault}");
            assert!(!fault.to_string().contains("s3cret"), "{url}: {fault}");
        }
    }
}
