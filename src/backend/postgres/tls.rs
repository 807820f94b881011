//! Whether connections are encrypted, and whom they trust.
//!
//! The driver knows neither certificates nor the modes of libpq that verify them: both are taken out of the
//! URL here.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use callsheet_actors::Fault;
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::backend::certificates::Certificates;

/// What is taken out of a URL besides certificates.
const MODE: &str = "sslmode";
/// Parameters of libpq that neither this module nor the driver has.
const UNSUPPORTED: [&str; 16] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "replication",
    "require_auth",
    "requirepeer",
    "gssencmode",
    "passfile",
    "requiressl",
    "service",
    "sslcrl",
    "sslpassword",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

/// What was said about encryption.
#[derive(Clone)]
pub(in crate::backend) struct Tls {
    mode: Option<String>,
    certificates: Certificates,
    /// The first parameter that is not supported.
    unsupported: Option<&'static str>,
    connector: Arc<OnceLock<Result<Connector, Fault>>>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            mode: None,
            certificates: Certificates::none("postgres"),
            unsupported: None,
            connector: Arc::default(),
        }
    }
}

/// How to connect.
#[derive(Clone)]
pub(in crate::backend) struct Connector {
    /// `Disable` or `Require`: never anything that falls back.
    pub(in crate::backend) mode: SslMode,
    pub(in crate::backend) tls: MakeRustlsConnect,
}

impl Tls {
    /// Takes what was said about encryption out of a URL, or a connection string of keys and values.
    pub(super) fn take_from(url: &str) -> (String, Self) {
        let mut tls = Self::default();
        let rest = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            take_from_query(url, |key, value| tls.take(key, value))
        } else {
            take_from_pairs(url, |key, value| tls.take(key, value))
        };
        (rest, tls)
    }

    /// Whether this is a parameter for this module.
    fn take(&mut self, key: &str, value: &str) -> bool {
        if key == MODE {
            self.mode = Some(value.to_owned());
            return true;
        }
        if self.certificates.take(key, value) {
            return true;
        }
        let unsupported = UNSUPPORTED.into_iter().find(|unsupported| *unsupported == key);
        self.unsupported = self.unsupported.or(unsupported);
        unsupported.is_some()
    }

    /// The same, with the certificates that were given instead of those of the URL.
    pub(super) fn overridden_by(self, given: &Self) -> Self {
        Self { certificates: self.certificates.overridden_by(&given.certificates), ..self }
    }

    /// Trusts these certificates, whatever the URL says.
    pub(in crate::backend) fn trust(&mut self, pem: &[u8]) {
        self.certificates.trust(pem);
        self.connector = Arc::default();
    }

    /// Shows this certificate, whatever the URL says.
    pub(in crate::backend) fn identify(&mut self, certificate: &[u8], key: &[u8]) {
        self.certificates.identify(certificate, key);
        self.connector = Arc::default();
    }

    /// How to connect to what `config` names. Files are read once.
    pub(in crate::backend) fn connector(&self, config: &Config) -> Result<Connector, Fault> {
        self.connector.get_or_init(|| self.connect_to(config)).clone()
    }

    fn connect_to(&self, config: &Config) -> Result<Connector, Fault> {
        if let Some(key) = self.unsupported {
            return Err(fault(key, "(not shown)", "it is not supported here", "leave it out"));
        }
        let encrypted = self.encrypted(config)?;
        let mode = if encrypted { SslMode::Require } else { SslMode::Disable };
        // What is not encrypted needs no certificates: their files are not read.
        let none = Certificates::none("postgres");
        let certificates = if encrypted { &self.certificates } else { &none };
        let mut client: ClientConfig = certificates.client_config()?;
        // Without it a server that is spoken to with sslnegotiation=direct hangs up.
        client.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Connector { mode, tls: MakeRustlsConnect::new(client) })
    }

    fn encrypted(&self, config: &Config) -> Result<bool, Fault> {
        let mode = self.mode.as_deref().unwrap_or("prefer");
        let has_authority = self.certificates.has_authority();
        let may_be_plain = match mode {
            "disable" if has_authority || self.certificates.has_certificate() => {
                let rule = "a connection that is not encrypted verifies no certificate, and shows none";
                return Err(fault(MODE, mode, rule, "leave out sslmode=disable, or the certificates"));
            }
            "disable" => return Ok(false),
            "allow" | "prefer" => !self.certificates.has_certificate(),
            "require" | "verify-ca" | "verify-full" => false,
            _ => {
                let rule = "it is one of disable, allow, prefer, require, verify-ca, verify-full";
                return Err(fault(MODE, mode, rule, "choose one of them"));
            }
        };
        // As in libpq: there is no encryption on a socket of this machine, and no need for it.
        if config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_))) {
            return Ok(false);
        }
        if has_authority {
            return Ok(true);
        }
        if !may_be_plain {
            let rule = "an encrypted connection verifies the server's certificate, which takes a certificate authority";
            return Err(fault(MODE, mode, rule, AUTHORITY));
        }
        if is_here(config) {
            return Ok(false);
        }
        let rule = "to a host other than this machine no password is sent that may not be encrypted, and this mode, the \
                    default, falls back to plain text";
        let cure = format!("{AUTHORITY}, or write sslmode=disable on a network that you trust");
        Err(fault(MODE, mode, rule, cure))
    }
}

const AUTHORITY: &str = "add sslrootcert=/path/to/authority.pem to the URL (sslrootcert=system: whom this machine trusts), \
                         or use Postgres::root_certificates";

fn fault(what: &str, value: impl Into<String>, rule: impl Into<String>, cure: impl Into<String>) -> Fault {
    Fault::new(format!("postgres: {what}"), value, rule, cure)
}

/// Whether every host is this machine, as far as names tell.
fn is_here(config: &Config) -> bool {
    let loopback = |address: &IpAddr| address.is_loopback();
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().all(loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address| loopback(&address)),
    })
}

/// The parameters of a URL begin where the driver takes them to begin.
fn take_from_query(url: &str, mut take: impl FnMut(&str, &str) -> bool) -> String {
    let host = url.find('@').unwrap_or(0);
    let Some(query) = url[host..].find('?').map(|at| host + at) else { return url.to_owned() };
    let kept: Vec<_> = url[query + 1..]
        .split('&')
        .filter(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            !take(&decoded(key), &decoded(value))
        })
        .collect();
    let separator = if kept.is_empty() { "" } else { "?" };
    format!("{}{separator}{}", &url[..query], kept.join("&"))
}

/// Keys and values as the driver reads them: values may be quoted, a backslash takes the next character as it
/// is.
fn take_from_pairs(text: &str, mut take: impl FnMut(&str, &str) -> bool) -> String {
    let mut kept = String::new();
    let mut rest = text;
    loop {
        let start = rest.trim_start();
        let Some((key, after)) = start.split_once('=') else {
            kept.push_str(rest);
            return kept;
        };
        let value = after.trim_start();
        let (value, length) = read_value(value, after.len() - value.len());
        let length = key.len() + 1 + length;
        if !take(key.trim_end(), &value) {
            kept.push_str(&start[..length]);
            kept.push(' ');
        }
        rest = &start[length..];
    }
}

/// The value at the start of `text`, and `skipped` and the bytes that it takes up.
fn read_value(text: &str, skipped: usize) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return (value, skipped + at + 1),
            blank if blank.is_whitespace() && !quoted => return (value, skipped + at),
            other => value.push(other),
        }
    }
    (value, skipped + text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision: `true` is encrypted.
    fn encrypted(url: &str) -> Result<bool, String> {
        let (rest, tls) = Tls::take_from(url);
        let config: Config = rest.parse().unwrap_or_else(|error| panic!("{rest}: {error}"));
        tls.encrypted(&config).map_err(|fault| fault.to_string())
    }

    #[test]
    fn no_password_goes_to_another_machine_in_plain_text_unless_one_says_so() {
        let plain = [
            "postgres://user:pw@127.0.0.1/db",
            "postgres://user:pw@localhost:5433/db",
            "postgres://user:pw@[::1]/db?sslmode=prefer",
            "postgres://user:pw@%2Frun%2Fpostgresql/db",
            "postgres:///db?host=/run/postgresql&sslmode=require",
            "host=/run/postgresql user=me sslrootcert=/ca.pem",
            "postgres://user:pw@db.example/db?sslmode=disable",
            "host=db.example hostaddr=127.0.0.1 user=me",
        ];
        for url in plain {
            assert_eq!(encrypted(url), Ok(false), "{url}");
        }
        let verified = [
            "postgres://user:pw@db.example/db?sslrootcert=/ca.pem",
            "postgres://user:pw@db.example/db?sslmode=prefer&sslrootcert=system",
            "postgres://user:pw@127.0.0.1/db?sslmode=verify-ca&sslrootcert=/ca.pem",
            "host=db.example sslmode=verify-full sslrootcert='/my ca.pem' user=me",
        ];
        for url in verified {
            assert_eq!(encrypted(url), Ok(true), "{url}");
        }
        let refused = [
            ("postgres://user:pw@db.example/db", "falls back"),
            ("postgres://user:pw@127.0.0.1,db.example/db", "falls back"),
            ("host=localhost hostaddr=10.0.0.1 user=me", "falls back"),
            ("postgres://user:pw@db.example/db?sslmode=allow", "falls back"),
            ("postgres://user:pw@127.0.0.1/db?sslmode=require", "certificate authority"),
            ("postgres://user:pw@db.example/db?sslmode=verify-full", "certificate authority"),
            (
                "postgres://user:pw@db.example/db?sslmode=disable&sslrootcert=system",
                "verifies no certificate",
            ),
            ("postgres://user:pw@127.0.0.1/db?sslcert=/me.pem&sslkey=/me.key", "certificate authority"),
            ("postgres://user:pw@127.0.0.1/db?sslmode=disable&sslcert=/me.pem", "shows none"),
            ("postgres://user:pw@127.0.0.1/db?sslmode=yes", "one of disable"),
        ];
        for (url, rule) in refused {
            let refused = encrypted(url).expect_err(url);
            assert!(refused.contains(rule), "{url}: {refused}");
        }
    }

    #[test]
    fn what_the_driver_knows_is_left_as_it_is() {
        let cases = [
            ("postgres://u:p?w@h/db?a=1&sslmode=require&b=%20", "postgres://u:p?w@h/db?a=1&b=%20"),
            ("postgres://h/db?%73slmode=require", "postgres://h/db"),
            (r"user = 'me \' sslmode=x' sslmode = require  host=h", r"user = 'me \' sslmode=x' host=h "),
            ("sslrootcert=/ca password=a\\ b", "password=a\\ b "),
            ("nonsense", "nonsense"),
        ];
        for (url, rest) in cases {
            assert_eq!(Tls::take_from(url).0, rest, "{url}");
        }
        let (_, tls) = Tls::take_from("sslrootcert='/my ca.pem'");
        let missing = tls.certificates.client_config().expect_err("there is no such file");
        assert_eq!(missing.value, "/my ca.pem");
    }
}
