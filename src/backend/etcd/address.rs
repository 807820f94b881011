//! How a URL is read: where to connect, as whom, and whether encrypted.

use callsheet_actors::Fault;

use crate::backend::{
    address::{Host, UrlReader},
    certificates::Certificates,
};

const PORT: u16 = 2_379;
const URL: UrlReader = UrlReader {
    store: "etcd",
    scheme: "https://",
    example: "https://user:password@host1:2379,host2:2379,host3:2379",
};

/// Where to connect, and as whom.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) hosts: Vec<Host>,
    pub(super) encrypted: bool,
    /// A name and a password.
    pub(super) user: Option<(String, String)>,
}

/// Reads a URL, without showing it, and what it says about certificates.
pub(super) fn read(url: &str) -> (Result<Address, Fault>, Certificates) {
    let mut certificates = Certificates::none("etcd");
    let address = parse(url, &mut certificates);
    (address, certificates)
}

fn parse(url: &str, certificates: &mut Certificates) -> Result<Address, Fault> {
    let parts = URL.split(url)?;
    let encrypted = match parts.scheme {
        "http" => false,
        "https" => true,
        _ => {
            let rule = "its scheme is http or https (encrypted)";
            return Err(URL.fault(rule, &format!("write {}", URL.example)));
        }
    };
    URL.parameters(parts.query, "sslrootcert, sslcert and sslkey", |key, value| {
        Ok(certificates.take(key, value))
    })?;
    let user = match URL.credentials(parts.credentials)? {
        (None, Some(_)) => {
            let cure = "write https://user:password@host; a node with a certificate of its own needs neither";
            return Err(URL.fault("a password has a user", cure));
        }
        (user, password) => user.zip(password),
    };
    if !parts.path.is_empty() {
        let rule = "it has no path: the scope separates applications";
        return Err(URL.fault(rule, "leave out what stands behind the hosts"));
    }
    if certificates.has_authority() && !encrypted {
        let rule = "a connection that is not encrypted verifies no certificate";
        return Err(URL.fault(rule, "begin it with https://, or leave out sslrootcert"));
    }
    Ok(Address { hosts: URL.hosts(parts.hosts, PORT)?, encrypted, user })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn a_url_says_where_to_connect_and_as_whom() {
        let me = |password: &str| Some(("me".to_owned(), password.to_owned()));
        let cases = [
            ("http://etcd.example", vec![host("etcd.example", 2_379)], false, None),
            ("https://a,b:1,[::1]:2/", vec![host("a", 2_379), host("b", 1), host("::1", 2)], true, None),
            ("http://me:p:a/b@s?s%20@h", vec![host("h", 2_379)], false, me("p:a/b@s?s ")),
            ("https://me:pw@h?sslrootcert=system", vec![host("h", 2_379)], true, me("pw")),
        ];
        for (url, hosts, encrypted, user) in cases {
            let read = read(url).0.unwrap_or_else(|fault| panic!("{url}: {fault}"));
            assert_eq!((read.hosts, read.encrypted, read.user), (hosts, encrypted, user), "{url}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_shown() {
        let cases = [
            ("", "begins with a scheme"),
            ("s3cret", "begins with a scheme"),
            ("etcd://s3cret@h", "its scheme is"),
            ("http://me:s3cret@h h", "no blank"),
            ("http://me:s3cret@", "names a host"),
            ("http://me:s3cret@a,", "names a host"),
            ("http://me:s3cret@h:0", "port is a number"),
            ("http://me:s3cret@[::1", "stands in brackets"),
            ("http://s3cret@h", "a user has a password"),
            ("http://:s3cret@h", "a password has a user"),
            ("http://me:s3cret@h/s3cret", "it has no path"),
            ("http://me:s3cret@h?s3cret=1", "parameters are among"),
            ("http://me:s3cret%ff@h", "UTF-8"),
            ("http://me:s3cret@h?sslrootcert=system", "verifies no certificate"),
        ];
        for (url, rule) in cases {
            let fault = read(url).0.err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(fault.rule.contains(rule), "{url}: {fault}");
            assert!(!fault.to_string().contains("s3cret"), "{url}: {fault}");
        }
    }
}
