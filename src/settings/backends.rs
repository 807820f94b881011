//! The backends, by the names by which settings choose one.

use std::sync::Arc;

use callsheet_actors::{Fault, port::Backend};

use super::Settings;
#[cfg(any(
    feature = "consul",
    feature = "etcd",
    feature = "mysql",
    feature = "postgres",
    feature = "redis"
))]
use super::address::Form;
#[cfg(feature = "postgres")]
use super::secret;

/// Makes a backend of settings and a scope. What the backend itself finds wrong is told by it.
type Make = fn(&Settings, String) -> Result<Arc<dyn Backend>, Vec<Fault>>;

/// A backend that is shared by nodes.
pub(super) struct Choice {
    pub(super) name: &'static str,
    /// The section of the settings that is about it.
    pub(super) section: &'static str,
    /// The feature that brings it.
    pub(super) feature: &'static str,
    /// `None`: it is not compiled.
    pub(super) make: Option<Make>,
}

/// Tells a backend what is not in the URL.
#[cfg(feature = "postgres")]
macro_rules! told {
    (schema, $backend:ident, $server:ident) => {
        match &$server.schema {
            Some(schema) => $backend.schema(schema.as_str()),
            None => $backend,
        }
    };
    // It may have changed since the node started.
    (password_file, $backend:ident, $server:ident) => {
        match $server.password_file.clone() {
            Some(path) => $backend.password_from(move || {
                let read = secret::read_file("password_file", &path);
                async move { read.map(|secret| secret.reveal().to_owned()) }
            }),
            None => $backend,
        }
    };
}

macro_rules! server {
    ($name:literal, $feature:tt, $section:ident, $backend:ident, [$($option:ident),*], $($form:tt)*) => {{
        #[cfg(feature = $feature)]
        fn make(settings: &Settings, scope: String) -> Result<Arc<dyn Backend>, Vec<Fault>> {
            let server = &settings.$section;
            let form = Form { section: stringify!($section), $($form)* };
            let backend = crate::backend::$backend::new(scope, form.url(server)?.reveal());
            $(let backend = told!($option, backend, server);)*
            Ok(match settings.lease {
                Some(lease) => Arc::new(backend.lease(lease)),
                None => Arc::new(backend),
            })
        }
        #[cfg(feature = $feature)]
        let make: Option<Make> = Some(make);
        #[cfg(not(feature = $feature))]
        let make: Option<Make> = None;
        Choice { name: $name, section: stringify!($section), feature: $feature, make }
    }};
}

pub(super) fn choices() -> Vec<Choice> {
    vec![
        server!("postgres", "postgres", database, Postgres, [schema, password_file],
            schemes: ["postgres", "postgres"], has_mode: true,
            has_user: true, has_database: true, has_schema: true,
            example: "postgres://user:password@host:5432/database",
        ),
        server!("redis", "redis", redis, Redis, [],
            schemes: ["redis", "rediss"], has_mode: false,
            has_user: true, has_database: true, has_schema: false,
            example: "redis://user:password@host:6379/0",
        ),
        redlock(),
        server!("etcd", "etcd", etcd, Etcd, [],
            schemes: ["http", "https"], has_mode: false,
            has_user: true, has_database: false, has_schema: false,
            example: "https://user:password@host1:2379,host2:2379,host3:2379",
        ),
        server!("consul", "consul", consul, Consul, [],
            schemes: ["http", "https"], has_mode: false,
            has_user: false, has_database: false, has_schema: false,
            example: "http://:TOKEN@127.0.0.1:8500",
        ),
        server!("mysql", "mysql", mysql, Mysql, [],
            schemes: ["mysql", "mysql"], has_mode: true,
            has_user: true, has_database: true, has_schema: false,
            example: "mysql://user:password@host:3306/database",
        ),
        server!("postgres_lease", "postgres", postgres_lease, PostgresLease, [schema, password_file],
            schemes: ["postgres", "postgres"], has_mode: true,
            has_user: true, has_database: true, has_schema: true,
            example: "postgres://user:password@host:6432/database",
        ),
        kubernetes(),
    ]
}

/// It elects, and votes on ticks; it keeps no claims.
fn redlock() -> Choice {
    #[cfg(feature = "redis")]
    fn make(settings: &Settings, scope: String) -> Result<Arc<dyn Backend>, Vec<Fault>> {
        let Some(urls) = &settings.redlock.urls else {
            let (rule, cure) = ("they say where 3 to 16 servers are", "write redis://a redis://b redis://c");
            return Err(vec![Fault::new("redlock.urls", "", rule, cure)]);
        };
        let elects = crate::backend::Redlock::new(scope, urls.iter().map(|url| url.reveal()));
        let elects = match settings.lease {
            Some(lease) => elects.lease(lease),
            None => elects,
        };
        Ok(Arc::new(crate::backend::Elected::new(elects)))
    }
    #[cfg(feature = "redis")]
    let make: Option<Make> = Some(make);
    #[cfg(not(feature = "redis"))]
    let make: Option<Make> = None;
    Choice { name: "redlock", section: "redlock", feature: "redis", make }
}

/// It elects, and keeps no claims.
fn kubernetes() -> Choice {
    #[cfg(feature = "kubernetes")]
    fn make(settings: &Settings, scope: String) -> Result<Arc<dyn Backend>, Vec<Fault>> {
        let mut elects = crate::backend::Kubernetes::new(scope);
        if let Some(namespace) = &settings.kubernetes.namespace {
            elects = elects.namespace(namespace.as_str());
        }
        if let Some(path) = &settings.kubernetes.kubeconfig {
            elects = elects.kubeconfig(path.as_path());
        }
        if let Some(lease) = settings.lease {
            elects = elects.lease_duration(lease);
        }
        Ok(Arc::new(crate::backend::Elected::new(elects)))
    }
    #[cfg(feature = "kubernetes")]
    let make: Option<Make> = Some(make);
    #[cfg(not(feature = "kubernetes"))]
    let make: Option<Make> = None;
    Choice { name: "kubernetes", section: "kubernetes", feature: "kubernetes", make }
}

/// The key of what a backend finds wrong. `is_url` says whether the address was given as one.
pub(super) fn key_of(subject: &str, section: &str, is_url: bool) -> String {
    let part = |url: &str, part: &str| format!("{section}.{}", if is_url { url } else { part });
    match (section, subject.rsplit(": ").next().unwrap_or_default()) {
        (_, "lease" | "lease_duration" | "renew_deadline" | "retry_period") => "lease".to_owned(),
        (_, "scope") => "scope".to_owned(),
        (_, "schema") => format!("{section}.schema"),
        ("redlock", _) => "redlock.urls".to_owned(),
        ("kubernetes", "namespace") => "kubernetes.namespace".to_owned(),
        ("kubernetes", _) => "kubernetes.kubeconfig".to_owned(),
        (_, "sslmode") => part("url", "tls"),
        (_, "sslrootcert") => part("url", "tls_ca"),
        (_, "sslcert") => part("url", "tls_certificate"),
        (_, "sslkey") => part("url", "tls_key"),
        (_, _) => part("url", "host"),
    }
}
