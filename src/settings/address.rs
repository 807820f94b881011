//! The address of a server, from its URL or from its parts.

use std::net::IpAddr;

use callsheet_actors::Fault;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    secret::{Secret, read_file},
    sections::ServerSettings,
};

/// How the address of a system is written, and which parts it has.
pub(super) struct Form {
    /// The section of the settings.
    pub(super) section: &'static str,
    /// The beginning of a URL, and of one whose connection is encrypted.
    pub(super) schemes: [&'static str; 2],
    /// Whether a parameter says, instead of the scheme, that it is encrypted.
    pub(super) has_mode: bool,
    pub(super) has_user: bool,
    pub(super) has_database: bool,
    pub(super) has_schema: bool,
    /// A URL.
    pub(super) example: &'static str,
}

impl Form {
    /// The URL of a server.
    pub(super) fn url(&self, server: &ServerSettings) -> Result<Secret, Vec<Fault>> {
        let mut faults = self.unfit(server);
        let parts = given(server);
        let url = match (&server.url, &server.host) {
            (Some(url), _) => {
                let (rule, cure) = ("the URL says it all", "leave this out, or the URL");
                faults.extend(parts.iter().map(|(part, value)| self.fault(part, value, rule, cure)));
                url.clone()
            }
            (None, Some(host)) => self.compose(server, host, &mut faults),
            (None, None) if parts.is_empty() => {
                let cure = format!("write {}, or give its host and the other parts", self.example);
                faults.push(self.fault("url", "", "it says where the server is", &cure));
                return Err(faults);
            }
            (None, None) => {
                faults.push(self.fault("host", "", "it says where the server is", "name the host"));
                return Err(faults);
            }
        };
        if faults.is_empty() { Ok(url) } else { Err(faults) }
    }

    /// Parts that this system does not have.
    fn unfit(&self, server: &ServerSettings) -> Vec<Fault> {
        let parts = [
            ("user", self.has_user, &server.user),
            ("database", self.has_database, &server.database),
            ("schema", self.has_schema, &server.schema),
        ];
        let unfit = parts.into_iter().filter(|(_, has, _)| !has);
        unfit
            .filter_map(|(part, _, value)| {
                let rule = format!("the backend of this section has no {part}");
                Some(self.fault(part, value.as_ref()?, &rule, "leave it out"))
            })
            .collect()
    }

    fn compose(&self, server: &ServerSettings, host: &str, faults: &mut Vec<Fault>) -> Secret {
        let password = self.password(server).map_err(|fault| faults.push(fault)).ok().flatten();
        let user = server.user.as_deref().map(encoded).unwrap_or_default();
        let credentials = match (user, password) {
            (user, Some(password)) => format!("{user}:{}@", encoded(password.reveal())),
            (user, None) if user.is_empty() => String::new(),
            (user, None) => format!("{user}@"),
        };
        let port = server.port.map(|port| format!(":{port}")).unwrap_or_default();
        let hosts: Vec<_> = host.split(',').map(|host| format!("{}{port}", host_in_url(host))).collect();
        let database = server.database.as_deref().map(encoded).unwrap_or_default();
        let encrypted = self.encrypted(server, host, faults);
        let mut parameters = Vec::new();
        if self.has_mode {
            parameters.push(format!("sslmode={}", if encrypted { "verify-full" } else { "disable" }));
        }
        if encrypted {
            let files = [
                ("sslrootcert", server.tls_ca.as_deref().or(Some("system"))),
                ("sslcert", server.tls_certificate.as_deref()),
                ("sslkey", server.tls_key.as_deref()),
            ];
            let given = files.into_iter().filter_map(|(key, file)| Some(format!("{key}={}", encoded(file?))));
            parameters.extend(given);
        }
        let scheme = self.schemes[usize::from(encrypted)];
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let path = if database.is_empty() { String::new() } else { format!("/{database}") };
        Secret::new(format!("{scheme}://{credentials}{}{path}{query}", hosts.join(",")))
    }

    fn password(&self, server: &ServerSettings) -> Result<Option<Secret>, Fault> {
        let key = format!("{}.password_file", self.section);
        match (&server.password, &server.password_file) {
            (password, None) => Ok(password.clone()),
            (None, Some(path)) => read_file(&key, path).map(Some),
            (Some(_), Some(path)) => {
                let value = path.display().to_string();
                let rule = "the password is given itself, or in a file";
                Err(Fault::new(key, value, rule, "leave out one of the two"))
            }
        }
    }

    fn encrypted(&self, server: &ServerSettings, host: &str, faults: &mut Vec<Fault>) -> bool {
        let named = [&server.tls_ca, &server.tls_certificate, &server.tls_key];
        let is_named = named.into_iter().any(Option::is_some);
        if server.tls == Some(false) && is_named {
            let rule = "a connection that is not encrypted verifies no certificate, and shows none";
            faults.push(self.fault("tls", "off", rule, "leave it out, or the certificates"));
        }
        server.tls.unwrap_or_else(|| is_named || !host.split(',').all(is_here))
    }

    fn fault(&self, part: &str, value: &str, rule: &str, cure: &str) -> Fault {
        Fault::new(format!("{}.{part}", self.section), value, rule, cure)
    }
}

/// What is given beside a URL and a schema. What may be secret is not shown.
fn given(server: &ServerSettings) -> Vec<(&'static str, String)> {
    let text = |part, value: &Option<String>| Some((part, value.clone()?));
    let shown = [
        text("host", &server.host),
        server.port.map(|port| ("port", port.to_string())),
        text("user", &server.user),
        server.password.as_ref().map(|_| ("password", "(not shown)".to_owned())),
        server.password_file.as_ref().map(|path| ("password_file", path.display().to_string())),
        text("database", &server.database),
        server.tls.map(|tls| ("tls", if tls { "on" } else { "off" }.to_owned())),
        text("tls_ca", &server.tls_ca),
        text("tls_certificate", &server.tls_certificate),
        text("tls_key", &server.tls_key),
    ];
    shown.into_iter().flatten().collect()
}

/// Whether a host is this machine, as far as its name tells.
fn is_here(host: &str) -> bool {
    let loopback = |address: IpAddr| address.is_loopback();
    host == "localhost" || host.starts_with('/') || host.parse().is_ok_and(loopback)
}

fn host_in_url(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => encoded(host),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn form() -> Form {
        Form {
            section: "database",
            schemes: ["db", "dbs"],
            has_mode: true,
            has_user: true,
            has_database: true,
            has_schema: false,
            example: "db://host",
        }
    }

    fn url(server: &ServerSettings) -> String {
        form().url(server).expect("it is right").reveal().to_owned()
    }

    fn at(host: &str) -> ServerSettings {
        ServerSettings { host: Some(host.to_owned()), ..ServerSettings::default() }
    }

    #[test]
    fn parts_are_written_as_a_url_that_keeps_every_character() {
        let server = ServerSettings {
            port: Some(5432),
            user: Some("m e".to_owned()),
            password: Some(Secret::new("p:a/b@s?s%ü")),
            database: Some("app/1".to_owned()),
            ..at("db.example")
        };

        let written = "dbs://m%20e:p%3Aa%2Fb%40s%3Fs%25%C3%BC@db%2Eexample:5432/app%2F1?sslmode=verify-full&sslrootcert=system";
        assert_eq!(url(&server), written);
        assert_eq!(
            url(&ServerSettings { password: Some(Secret::new("t")), ..at("::1") }),
            "db://:t@[::1]?sslmode=disable"
        );
        assert_eq!(url(&at("localhost,127.0.0.1")), "db://localhost,127%2E0%2E0%2E1?sslmode=disable");
        assert_eq!(
            url(&ServerSettings { user: Some("me".to_owned()), ..at("/run/db") }),
            "db://me@%2Frun%2Fdb?sslmode=disable"
        );
    }

    #[test]
    fn only_this_machine_is_talked_to_in_plain_text_unless_told() {
        let encrypted = |server: &ServerSettings| url(server).starts_with("dbs://");
        let told = |tls| ServerSettings { tls: Some(tls), ..at("db") };
        let named = ServerSettings { tls_ca: Some("ca.pem".to_owned()), ..at("localhost") };

        assert!(encrypted(&at("db")) && encrypted(&at("localhost,db")) && encrypted(&told(true)));
        assert!(!encrypted(&at("localhost")) && !encrypted(&told(false)));
        assert!(url(&named).ends_with("?sslmode=verify-full&sslrootcert=ca%2Epem"), "{}", url(&named));
        let refused = form().url(&ServerSettings { tls: Some(false), ..named }).expect_err("a contradiction");
        assert_eq!(refused[0].subject, "database.tls");
    }

    #[test]
    fn what_contradicts_a_url_or_does_not_fit_is_told_part_by_part() {
        let server = ServerSettings {
            url: Some(Secret::new("db://host")),
            password_file: Some(PathBuf::from("/nowhere")),
            schema: Some("mine".to_owned()),
            ..at("db")
        };
        let subjects = |server: &ServerSettings| -> Vec<String> {
            form().url(server).expect_err("faults").into_iter().map(|fault| fault.subject).collect()
        };

        assert_eq!(subjects(&server), ["database.schema", "database.host", "database.password_file"]);
        assert_eq!(subjects(&ServerSettings::default()), ["database.url"]);
        assert_eq!(
            subjects(&ServerSettings { port: Some(1), ..ServerSettings::default() }),
            ["database.host"]
        );
    }
}
