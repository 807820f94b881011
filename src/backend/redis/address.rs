//! How a URL is read: where to connect, as whom, and whether encrypted.

use std::path::PathBuf;

use callsheet_actors::Fault;

use crate::backend::{
    address::{Host, UrlReader},
    certificates::Certificates,
};

const PORT: u16 = 6_379;
const PORT_OF_SENTINELS: u16 = 26_379;
const URL: UrlReader =
    UrlReader { store: "redis", scheme: "redis://", example: "redis://user:password@host:6379/0" };

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

/// Reads a URL, without showing it, and what it says about certificates.
pub(super) fn read(url: &str) -> (Result<Address, Fault>, Certificates) {
    let mut certificates = Certificates::none("redis");
    let address = parse(url, &mut certificates);
    (address, certificates)
}

fn parse(url: &str, certificates: &mut Certificates) -> Result<Address, Fault> {
    let parts = URL.split(url)?;
    let (encrypted, socket) = match parts.scheme {
        "redis" | "valkey" => (false, false),
        "rediss" | "valkeys" => (true, false),
        "unix" | "redis+unix" | "valkey+unix" => (false, true),
        _ => {
            let rule = "its scheme is one of redis, rediss (encrypted), unix, valkey, valkeys, redis+unix, valkey+unix";
            return Err(URL.fault(rule, &format!("write {}", URL.example)));
        }
    };
    let parameters = Parameters::read(parts.query, certificates)?;
    let (user, password) = URL.credentials(parts.credentials)?;
    let place = if socket {
        read_socket(parts.hosts, parts.path)?
    } else {
        read_hosts(parts.hosts, parameters.sentinel)?
    };
    let database = match (parameters.database, socket || parts.path.is_empty()) {
        (Some(database), true) => database,
        (Some(_), false) => {
            return Err(URL.fault("it names its database once", "leave out the path, or `db`"));
        }
        (None, true) => 0,
        (None, false) => read_database(parts.path)?,
    };
    if certificates.has_authority() && !encrypted {
        let rule = "a connection that is not encrypted verifies no certificate";
        return Err(URL.fault(rule, "begin it with rediss://, or leave out sslrootcert"));
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
        URL.parameters(query, "sentinel, db, sslrootcert, sslcert and sslkey", |key, value| {
            match key {
                "sentinel" if value.is_empty() => {
                    let cure = "write what the Sentinels call it: ?sentinel=mymaster";
                    return Err(URL.fault("its parameter `sentinel` names a primary", cure));
                }
                "sentinel" => parameters.sentinel = Some(value.to_owned()),
                "db" => parameters.database = Some(read_database(value)?),
                _ => return Ok(certificates.take(key, value)),
            }
            Ok(true)
        })?;
        Ok(parameters)
    }
}

fn read_database(text: &str) -> Result<u32, Fault> {
    text.parse()
        .map_err(|_| URL.fault("its database is a number", "write /0 behind the host, or leave it out"))
}

fn read_socket(hosts: &str, path: &str) -> Result<Place, Fault> {
    if !hosts.is_empty() || path.is_empty() {
        return Err(URL.fault("a socket has an absolute path", "write unix:///run/redis/redis.sock"));
    }
    Ok(Place::Socket(PathBuf::from(format!("/{}", URL.decoded(path)?))))
}

fn read_hosts(hosts: &str, sentinel: Option<String>) -> Result<Place, Fault> {
    let port = if sentinel.is_some() { PORT_OF_SENTINELS } else { PORT };
    let hosts = URL.hosts(hosts, port)?;
    Ok(match sentinel {
        Some(name) => Place::Sentinels { name, hosts },
        None => Place::Hosts(hosts),
    })
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
