//! How a URL is read: where to connect, as whom, to which database, and whether encrypted.

use std::{net::IpAddr, path::PathBuf};

use callsheet_actors::Fault;

use crate::backend::{
    address::{Host, NOT_SHOWN, UrlReader},
    certificates::Certificates,
};

const PORT: u16 = 3_306;
const URL: UrlReader =
    UrlReader { store: "mysql", scheme: "mysql://", example: "mysql://user:password@host:3306/database" };

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
    Host(Host),
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
    let parts = URL.split(url)?;
    if !["mysql", "mariadb"].contains(&parts.scheme) {
        return Err(URL.fault("its scheme is mysql or mariadb", &format!("write {}", URL.example)));
    }
    let (mut socket, mut mode) = (None, Mode::Unsaid);
    URL.parameters(parts.query, "socket, sslmode, sslrootcert, sslcert and sslkey", |key, value| {
        match key {
            "socket" => socket = Some(read_socket(value)?),
            "sslmode" => mode = read_mode(value)?,
            _ => return Ok(certificates.take(key, value)),
        }
        Ok(true)
    })?;
    let (user, password) = match parts.credentials.split_once(':') {
        Some((user, password)) => (URL.decoded(user)?, Some(URL.decoded(password)?)),
        None => (URL.decoded(parts.credentials)?, None),
    };
    let database = URL.decoded(parts.path)?;
    if database.is_empty() || database.contains('/') {
        return Err(URL.fault("it names a database", &format!("write {}", URL.example)));
    }
    let place = match socket {
        Some(path) if parts.hosts.is_empty() || parts.hosts == "localhost" => Place::Socket(path),
        Some(_) => {
            let cure = "leave out the host, or the socket: mysql://user:password@/database?socket=/run/mysqld/mysqld.sock";
            return Err(URL.fault("it names a host or a socket", cure));
        }
        None => read_host(parts.hosts)?,
    };
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Address { place, user: given(user), password: password.and_then(given), database, mode })
}

fn read_socket(path: &str) -> Result<PathBuf, Fault> {
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(URL.fault("its socket has an absolute path", "write ?socket=/run/mysqld/mysqld.sock"))
}

fn read_mode(value: &str) -> Result<Mode, Fault> {
    match value {
        "disable" => Ok(Mode::Disabled),
        "require" | "verify-ca" | "verify-full" => Ok(Mode::Required),
        _ => {
            let rule = "it is one of disable, require, verify-ca and verify-full";
            Err(Fault::new("mysql: sslmode", NOT_SHOWN, rule, "choose one of them"))
        }
    }
}

fn read_host(text: &str) -> Result<Place, Fault> {
    let hosts = URL.hosts(text, PORT)?;
    match <[Host; 1]>::try_from(hosts) {
        Ok([host]) => Ok(Place::Host(host)),
        Err(_) => {
            let cure = "name the one that is written to, or what leads to it";
            Err(URL.fault("it names one host", cure))
        }
    }
}

impl Place {
    /// Whether it is on this machine, as far as names tell.
    pub(super) fn is_here(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Host(Host { name, .. }) => {
                name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(_) => f.write_str("the socket"),
            Self::Host(host) => host.fmt(f),
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
        let host = |name: &str, port| Place::Host(Host { name: name.to_owned(), port });
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
