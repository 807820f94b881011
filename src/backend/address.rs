//! What the URLs of stores have in common.

use std::{fmt, net::IpAddr};

use callsheet_actors::Fault;
use percent_encoding::percent_decode_str;

/// Shown instead of what may contain a password.
pub(super) const NOT_SHOWN: &str = "(not shown)";
/// The most hosts of a URL.
pub(super) const HOSTS_MAX: usize = 16;

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: u16,
}

/// Reads the URLs of a store, without showing them.
pub(super) struct UrlReader {
    /// The store, at the beginning of a fault.
    pub(super) store: &'static str,
    /// The beginning of a URL, up to its user.
    pub(super) scheme: &'static str,
    /// A whole URL.
    pub(super) example: &'static str,
}

/// A URL in parts, each as it is written.
pub(super) struct Parts<'a> {
    pub(super) scheme: &'a str,
    pub(super) credentials: &'a str,
    pub(super) hosts: &'a str,
    /// Without the slash at its beginning.
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl UrlReader {
    pub(super) fn split<'a>(&self, url: &'a str) -> Result<Parts<'a>, Fault> {
        if url.contains(char::is_whitespace) {
            return Err(self
                .fault("it has no blank and no line break", "take them out; a blank within a value is %20"));
        }
        let begins = || self.fault("it begins with a scheme", &format!("write {}", self.example));
        let (scheme, rest) = url.split_once("://").ok_or_else(begins)?;
        // A password may hold what separates the parts: the last `@` ends it.
        let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, ""),
        };
        Ok(Parts { scheme, credentials, hosts, path, query })
    }

    /// A user, and a password. Neither of them, or a password alone.
    #[cfg(any(feature = "etcd", feature = "redis"))]
    pub(super) fn credentials(&self, text: &str) -> Result<(Option<String>, Option<String>), Fault> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(self.decoded(password)?)),
            None => (text, None),
        };
        let user = self.decoded(user)?;
        let user = Some(user).filter(|user| !user.is_empty());
        let password = password.filter(|password| !password.is_empty());
        if user.is_some() && password.is_none() {
            let scheme = self.scheme;
            let cure = format!("write {scheme}user:password@host, or {scheme}host");
            return Err(self.fault("a user has a password", &cure));
        }
        Ok((user, password))
    }

    /// Hands each parameter to `take`, which says whether it is one of the store's. `known` lists those.
    pub(super) fn parameters(
        &self,
        query: &str,
        known: &str,
        mut take: impl FnMut(&str, &str) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !take(&self.decoded(key)?, &self.decoded(value)?)? {
                // Its name is not shown: it may be a part of a password.
                let rule = format!("its parameters are among {known}");
                let cure = "correct its name, or leave it out; write a `?` of the password as %3F";
                return Err(self.fault(&rule, cure));
            }
        }
        Ok(())
    }

    /// Hosts with commas between them, each on `port` unless it names another one.
    pub(super) fn hosts(&self, text: &str, port: u16) -> Result<Vec<Host>, Fault> {
        let hosts = text.split(',').map(|host| self.host(host, port)).collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > HOSTS_MAX {
            return Err(self.fault(&format!("it names at most {HOSTS_MAX} hosts"), "leave some out"));
        }
        Ok(hosts)
    }

    fn host(&self, text: &str, port: u16) -> Result<Host, Fault> {
        let number = |text: &str| {
            let rule = "its port is a number from 1 to 65535";
            let cure = "correct it; write a `:`, `/`, `@`, `,` or `?` of the user or the password as %3A, %2F, %40, %2C, %3F";
            text.parse().ok().filter(|port| *port > 0).ok_or_else(|| self.fault(rule, cure))
        };
        let (name, port) = match text.strip_prefix('[') {
            // An address of IPv6, which has colons of its own.
            Some(rest) => match rest.split_once(']') {
                Some((name, "")) => (name, port),
                Some((name, rest)) => (name, number(rest.strip_prefix(':').unwrap_or_default())?),
                None => {
                    let cure = format!("write {}[::1]:{port}", self.scheme);
                    return Err(self.fault("an address of IPv6 stands in brackets", &cure));
                }
            },
            None => match text.split_once(':') {
                Some((name, port)) => (name, number(port)?),
                None => (text, port),
            },
        };
        let name = self.decoded(name)?;
        if name.is_empty() {
            return Err(self.fault("it names a host", &format!("write {}", self.example)));
        }
        Ok(Host { name, port })
    }

    pub(super) fn decoded(&self, text: &str) -> Result<String, Fault> {
        let decoded = percent_decode_str(text).decode_utf8();
        let undecoded = |_| self.fault("it is written in UTF-8", "correct what stands behind a `%`");
        decoded.map(Into::into).map_err(undecoded)
    }

    pub(super) fn fault(&self, rule: &str, cure: &str) -> Fault {
        Fault::new(format!("{}: url", self.store), NOT_SHOWN, rule, cure)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.parse() {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.name, self.port),
        }
    }
}
