//! How a URL is read: where to connect, with which token, and whether encrypted.

use callsheet_actors::Fault;

use crate::backend::{
    address::{Host, UrlReader},
    certificates::Certificates,
};

const PORT: u16 = 8_500;
const PORT_ENCRYPTED: u16 = 8_501;
const URL: UrlReader =
    UrlReader { store: "consul", scheme: "http://", example: "http://:TOKEN@127.0.0.1:8500" };

/// Where to connect, and with which token.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) hosts: Vec<Host>,
    pub(super) encrypted: bool,
    pub(super) token: Option<String>,
}

/// Reads a URL, without showing it, and what it says about certificates.
pub(super) fn read(url: &str) -> (Result<Address, Fault>, Certificates) {
    let mut certificates = Certificates::none("consul");
    let address = parse(url, &mut certificates);
    (address, certificates)
}

fn parse(url: &str, certificates: &mut Certificates) -> Result<Address, Fault> {
    let parts = URL.split(url)?;
    let (encrypted, port) = match parts.scheme {
        "http" => (false, PORT),
        "https" => (true, PORT_ENCRYPTED),
        _ => {
            let rule = "its scheme is http or https (encrypted)";
            return Err(URL.fault(rule, &format!("write {}", URL.example)));
        }
    };
    URL.parameters(parts.query, "sslrootcert, sslcert and sslkey", |key, value| {
        Ok(certificates.take(key, value))
    })?;
    let token = match parts.credentials.split_once(':') {
        Some(("", token)) => Some(URL.decoded(token)?).filter(|token| !token.is_empty()),
        None if parts.credentials.is_empty() => None,
        _ => {
            let rule = "a token stands alone: Consul has no users";
            return Err(URL.fault(rule, &format!("write {}", URL.example)));
        }
    };
    if token.as_ref().is_some_and(|token| !token.chars().all(|character| character.is_ascii_graphic())) {
        return Err(URL.fault("a token has visible characters of ASCII only", "copy it as Consul printed it"));
    }
    if !parts.path.is_empty() {
        let rule = "it has no path: the scope separates applications";
        return Err(URL.fault(rule, "leave out what stands behind the hosts"));
    }
    if certificates.has_authority() && !encrypted {
        let rule = "a connection that is not encrypted verifies no certificate";
        return Err(URL.fault(rule, "begin it with https://, or leave out sslrootcert"));
    }
    Ok(Address { hosts: URL.hosts(parts.hosts, port)?, encrypted, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_and_with_which_token() {
        let host = |name: &str, port| Host { name: name.to_owned(), port };
        let cases = [
            ("http://127.0.0.1", vec![host("127.0.0.1", 8_500)], false, None),
            ("https://a,b:1/", vec![host("a", 8_501), host("b", 1)], true, None),
            ("http://:t%40k@h", vec![host("h", 8_500)], false, Some("t@k")),
        ];
        for (url, hosts, encrypted, token) in cases {
            let read = read(url).0.unwrap_or_else(|fault| panic!("{url}: {fault}"));
            assert_eq!((read.hosts, read.encrypted), (hosts, encrypted), "{url}");
            assert_eq!(read.token.as_deref(), token, "{url}");
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_shown() {
        let cases = [
            ("s3cret", "begins with a scheme"),
            ("consul://s3cret@h", "its scheme is"),
            ("http://:s3cret@", "names a host"),
            ("http://:s3cret@h:0", "port is a number"),
            ("http://s3cret@h", "a token stands alone"),
            ("http://me:s3cret@h", "a token stands alone"),
            ("http://:s3cret%0a@h", "visible characters"),
            ("http://:s3cret@h/s3cret", "it has no path"),
            ("http://:s3cret@h?s3cret=1", "parameters are among"),
            ("http://:s3cret@h?sslrootcert=system", "verifies no certificate"),
        ];
        for (url, rule) in cases {
            let fault = read(url).0.err().unwrap_or_else(|| panic!("{url} is taken"));
            assert!(fault.rule.contains(rule), "{url}: {fault}");
            assert!(!fault.to_string().contains("s3cret"), "{url}: {fault}");
        }
    }
}
