//! How a URL is read: where to connect, as whom, and whether encrypted.

use std::{net::IpAddr, path::PathBuf};

use callsheet_actors::Fault;
use percent_encoding::percent_decode_str;

use crate::backend::certificates::Certificates;

/// Shown instead of what may contain a password.
pub(super) const NOT_SHOWN: &str = "(not shown)";

const PORT: u16 = 6_379;
const PORT_OF_SENTINELS: u16 = 26_379;
/// The most hosts of a URL.
pub(super) const HOSTS_MAX: usize = 16;
const EXAMPLE: &str = "write redis://user:password@host:6379/0";

/// Where to connect, and as whom.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) place: Place,
    pub(super) encrypted: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
}

/// Where servers listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first of them that is a primary.
    Hosts(Vec<Host>),
    /// The primary of this name, of which Sentinels say where it is.
    Sentinels {
        name: String,
        hosts: Vec<Host>,
    },
    Socket(PathBuf),
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// Reads a URL, without showing it, and what it says about certificates.
pub(super) fn read(url: &str) -> (Result<Address, Fault>, Certificates) {
    let mut certificates = Certificates::none("redis");
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
    let (encrypted, socket) = match scheme {
        "redis" | "valkey" => (false, false),
        "rediss" | "valkeys" => (true, false),
        "unix" | "redis+unix" | "valkey+unix" => (false, true),
        _ => {
            let rule = "its scheme is one of redis, rediss (encrypted), unix, valkey, valkeys, redis+unix, valkey+unix";
            return Err(fault(rule, EXAMPLE));
        }
    };
    // A password may hold what separates the parts: the last `@` ends it.
    let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let parameters = Parameters::read(query, certificates)?;
    let (user, password) = read_credentials(credentials)?;
    let (hosts, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, ""),
    };
    let place = if socket { read_socket(hosts, path)? } else { read_hosts(hosts, parameters.sentinel)? };
    let database = match (parameters.database, socket || path.is_empty()) {
        (Some(database), true) => database,
        (Some(_), false) => {
            return Err(fault("it names its database once", "leave out the path, or `db`"));
        }
        (None, true) => 0,
        (None, false) => read_database(path)?,
    };
    if certificates.has_authority() && !encrypted {
        let rule = "a connection that is not encrypted verifies no certificate";
        return Err(fault(rule, "begin it with rediss://, or leave out sslrootcert"));
    }
    Ok(Address { place, encrypted, user, password, database })
}

/// What stands behind the `?`.
#[derive(Default)]
struct Parameters {
    sentinel: Option<String>,
    database: Option<u32>,
}

impl Parameters {
    fn read(query: &str, certificates: &mut Certificates) -> Result<Self, Fault> {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key)?, decoded(value)?);
            match key.as_str() {
                "sentinel" if value.is_empty() => {
                    let cure = "write what the Sentinels call it: ?sentinel=mymaster";
                    return Err(fault("its parameter `sentinel` names a primary", cure));
                }
                "sentinel" => parameters.sentinel = Some(value),
                "db" => parameters.database = Some(read_database(&value)?),
                _ if certificates.take(&key, &value) => {}
                // Its name is not shown: it may be a part of a password.
                _ => {
                    let rule = "its parameters are among sentinel, db, sslrootcert, sslcert and sslkey";
                    return Err(fault(
                        rule,
                        "correct its name, or leave it out; write a `?` of the password as %3F",
                    ));
                }
            }
        }
        Ok(parameters)
    }
}

fn read_credentials(credentials: &str) -> Result<(Option<String>, Option<String>), Fault> {
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (credentials, None),
    };
    let user = decoded(user)?;
    let user = Some(user).filter(|user| !user.is_empty());
    let password = password.filter(|password| !password.is_empty());
    if user.is_some() && password.is_none() {
        return Err(fault(
            "a user has a password",
            "write redis://user:password@host, or redis://:password@host",
        ));
    }
    Ok((user, password))
}

fn read_database(text: &str) -> Result<u32, Fault> {
    text.parse().map_err(|_| fault("its database is a number", "write /0 behind the host, or leave it out"))
}

fn read_socket(hosts: &str, path: &str) -> Result<Place, Fault> {
    if !hosts.is_empty() || path.is_empty() {
        return Err(fault("a socket has an absolute path", "write unix:///run/redis/redis.sock"));
    }
    Ok(Place::Socket(PathBuf::from(format!("/{}", decoded(path)?))))
}

fn read_hosts(hosts: &str, sentinel: Option<String>) -> Result<Place, Fault> {
    let port = if sentinel.is_some() { PORT_OF_SENTINELS } else { PORT };
    let hosts = hosts.split(',').map(|host| read_host(host, port)).collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > HOSTS_MAX {
        return Err(fault(&format!("it names at most {HOSTS_MAX} hosts"), "leave some out"));
    }
    Ok(match sentinel {
        Some(name) => Place::Sentinels { name, hosts },
        None => Place::Hosts(hosts),
    })
}

fn read_host(text: &str, port: u16) -> Result<Host, Fault> {
    let number = |text: &str| {
        let rule = "its port is a number from 1 to 65535";
        let cure = "correct it; write a `:`, `/`, `@`, `,` or `?` of the user or the password as %3A, %2F, %40, %2C, %3F";
        text.parse().ok().filter(|port| *port > 0).ok_or_else(|| fault(rule, cure))
    };
    let (name, port) = match text.strip_prefix('[') {
        // An address of IPv6, which has colons of its own.
        Some(rest) => match rest.split_once(']') {
            Some((name, "")) => (name, port),
            Some((name, rest)) => (name, number(rest.strip_prefix(':').unwrap_or_default())?),
            None => return Err(fault("an address of IPv6 stands in brackets", "write redis://[::1]:6379")),
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, number(port)?),
            None => (text, port),
        },
    };
    let name = decoded(name)?;
    if name.is_empty() {
        return Err(fault("it names a host", EXAMPLE));
    }
    Ok(Host { name, port })
}

fn decoded(text: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| fault("it is written in UTF-8", "correct what stands behind a `%`"))
}

fn fault(rule: &str, cure: &str) -> Fault {
    Fault::new("redis: url", NOT_SHOWN, rule, cure)
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.parse() {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    fn read_only(url: &str) -> Result<Address, Fault> {
        read(url).0
    }

    #[test]
    fn a_url_says_where_to_connect() {
        let one = |name: &str, port| Place::Hosts(vec![host(name, port)]);
        let socket = |path: &str| Place::Socket(PathBuf::from(path));
        let cases = [
            ("redis://db.example", one("db.example", 6_379)),
            ("redis://db.example:7000/", one("db.example", 7_000)),
            ("valkey://[::1]", one("::1", 6_379)),
            ("rediss://[fe80::1]:7000/3", one("fe80::1", 7_000)),
            ("redis://a,b:1,[::1]:2", Place::Hosts(vec![host("a", 6_379), host("b", 1), host("::1", 2)])),
            (
                "redis://a,b:1?sentinel=my%20master",
                Place::Sentinels {
                    name: "my master".to_owned(),
                    hosts: vec![host("a", 26_379), host("b", 1)],
                },
            ),
            ("unix:///run/redis.sock", socket("/run/redis.sock")),
            ("redis+unix://:pw@/run/redis.sock?db=2", socket("/run/redis.sock")),
        ];
        for (url, place) in cases {
            assert_eq!(read_only(url).unwrap_or_else(|fault| panic!("{url}: {fault}")).place, place, "{url}");
        }
    }

    #[test]
    fn a_url_says_as_whom_to_connect_and_to_which_database() {
        let cases = [
            ("redis://h", None, None, 0),
            ("redis://:p%40ss@h/7", None, Some("p@ss"), 7),
            ("redis://me:p:a/b@s?s@h?db=3", Some("me"), Some("p:a/b@s?s"), 3),
            ("unix://me:pw@/s?db=3", Some("me"), Some("pw"), 3),
        ];
        for (url, user, password, database) in cases {
            let read = read_only(url).unwrap_or_else(|fault| panic!("{url}: {fault}"));
            assert_eq!((read.user.as_deref(), read.password.as_deref()), (user, password), "{url}");
            assert_eq!(read.database, database, "{url}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_shown() {
        let cases = [
            ("", "begins with a scheme"),
            ("s3cret", "begins with a scheme"),
            ("http://s3cret@h", "its scheme is one of"),
            ("redis://:s3cret@h h", "no blank"),
            ("redis://:s3cret@", "names a host"),
            ("redis://:s3cret@a,", "names a host"),
            ("redis://:s3cret@h:0", "port is a number"),
            ("redis://:s3cret@h:x", "port is a number"),
            ("redis://:s3cret@[::1", "stands in brackets"),
            ("redis://s3cret@h", "a user has a password"),
            ("redis://:s3cret@h/s3cret", "database is a number"),
            ("redis://:s3cret@h/1?db=2", "its database once"),
            ("redis://:s3cret@h?s3cret=1", "parameters are among"),
            ("redis://:s3cret@h?sentinel=", "names a primary"),
            ("redis://:s3cret%ff@h", "UTF-8"),
            ("redis://:s3cret@h?sslrootcert=system", "verifies no certificate"),
            ("unix://s3cret", "absolute path"),
        ];
        for (url, rule) in cases {
            let fault = read_only(url).err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(fault.rule.contains(rule), "{url}: {fault}");
            assert!(!fault.to_string().contains("s3cret"), "{url}: {fault}");
        }
    }
}
