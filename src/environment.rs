//! Where nodes coordinate, as the environment says.

use std::{
    env::{self, VarError},
    sync::Arc,
    time::Duration,
};

use callsheet_actors::{Fault, port::Backend};

use crate::schedule::parse_duration;

const BACKEND: &str = "CALLSHEET_BACKEND";
const ELECTION: &str = "CALLSHEET_ELECTION";
const SCOPE: &str = "CALLSHEET_SCOPE";
const NODE_NAME: &str = "CALLSHEET_NODE_NAME";
const LEASE: &str = "CALLSHEET_LEASE";
const LOCAL_FILE: &str = "CALLSHEET_LOCAL_FILE";
const DATABASE_URL: &str = "CALLSHEET_DATABASE_URL";
/// What stands for a value that is not shown.
const NOT_SHOWN: &str = "(not shown)";

/// What the environment says of this node.
#[derive(Default)]
pub(crate) struct Environment {
    /// `None`: this process alone, in memory.
    pub(crate) backend: Option<Arc<dyn Backend>>,
    pub(crate) node_name: Option<String>,
    pub(crate) warning: Option<Arc<str>>,
    pub(crate) faults: Vec<Fault>,
}

type Make = fn(String, Option<Duration>) -> Arc<dyn Backend>;

/// A backend that is shared by nodes.
struct Choice {
    name: &'static str,
    /// The feature that brings it.
    feature: &'static str,
    /// The variable that holds its address.
    address: &'static str,
    /// `None`: it is not compiled.
    make: Option<Make>,
}

macro_rules! choice {
    ($name:literal, $feature:tt, $address:literal, $backend:ident) => {{
        #[cfg(feature = $feature)]
        fn make(scope: String, lease: Option<Duration>) -> Arc<dyn Backend> {
            let backend = crate::backend::$backend::from_env(scope);
            match lease {
                Some(lease) => Arc::new(backend.lease(lease)),
                None => Arc::new(backend),
            }
        }
        #[cfg(feature = $feature)]
        let make: Option<Make> = Some(make);
        #[cfg(not(feature = $feature))]
        let make: Option<Make> = None;
        Choice { name: $name, feature: $feature, address: $address, make }
    }};
}

fn choices() -> Vec<Choice> {
    vec![
        choice!("postgres", "postgres", "CALLSHEET_DATABASE_URL", Postgres),
        choice!("redis", "redis", "CALLSHEET_REDIS_URL", Redis),
        redlock(),
        choice!("etcd", "etcd", "CALLSHEET_ETCD_URL", Etcd),
        choice!("consul", "consul", "CALLSHEET_CONSUL_URL", Consul),
        choice!("mysql", "mysql", "CALLSHEET_MYSQL_URL", Mysql),
        choice!("postgres_lease", "postgres", "CALLSHEET_POSTGRES_LEASE_URL", PostgresLease),
        kubernetes(),
    ]
}

/// It elects, and votes on ticks; it keeps no claims.
fn redlock() -> Choice {
    #[cfg(feature = "redis")]
    fn make(scope: String, lease: Option<Duration>) -> Arc<dyn Backend> {
        let elects = crate::backend::Redlock::from_env(scope);
        let elects = match lease {
            Some(lease) => elects.lease(lease),
            None => elects,
        };
        Arc::new(crate::backend::Elected::new(elects))
    }
    #[cfg(feature = "redis")]
    let make: Option<Make> = Some(make);
    #[cfg(not(feature = "redis"))]
    let make: Option<Make> = None;
    Choice { name: "redlock", feature: "redis", address: "CALLSHEET_REDLOCK_URLS", make }
}

/// It elects, and keeps no claims.
fn kubernetes() -> Choice {
    #[cfg(feature = "kubernetes")]
    fn make(scope: String, lease: Option<Duration>) -> Arc<dyn Backend> {
        let elects = crate::backend::Kubernetes::from_env(scope);
        let elects = match lease {
            Some(lease) => elects.lease_duration(lease),
            None => elects,
        };
        Arc::new(crate::backend::Elected::new(elects))
    }
    #[cfg(feature = "kubernetes")]
    let make: Option<Make> = Some(make);
    #[cfg(not(feature = "kubernetes"))]
    let make: Option<Make> = None;
    Choice { name: "kubernetes", feature: "kubernetes", address: "CALLSHEET_KUBERNETES_NAMESPACE", make }
}

/// Reads a variable: what it holds, or that it is no text.
type Variables<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Fault>;

/// Reads a variable of this process. One that is empty is as one that is not there.
pub(crate) fn variable(name: &str) -> Result<Option<String>, Fault> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => {
            Err(Fault::new(name, NOT_SHOWN, "it is a text in UTF-8", "write it in plain characters"))
        }
    }
}

impl Environment {
    /// What the variables say; the scope is the application's, unless they name another one.
    pub(crate) fn read(scope: String, variables: Variables<'_>) -> Self {
        let mut read = Self::default();
        let mut text = |name| {
            variables(name).unwrap_or_else(|fault| {
                read.faults.push(fault);
                None
            })
        };
        let [backend, election, given_scope, node_name, lease, file, url] =
            [BACKEND, ELECTION, SCOPE, NODE_NAME, LEASE, LOCAL_FILE, DATABASE_URL].map(&mut text);
        read.node_name = node_name;
        let lease = lease.and_then(|text| read.lease(&text));
        // A database and nothing else is enough.
        let backend = backend.unwrap_or_else(|| if url.is_some() { "postgres" } else { "local" }.to_owned());
        match election.as_deref() {
            None | Some("on") => {}
            Some("off") => {
                read.local(file);
                read.warning = Some(without_election(&backend));
                return read;
            }
            Some(other) => {
                let rule = "it is `on` or `off`; without election every node runs every job";
                read.faults.push(Fault::new(ELECTION, other, rule, "leave it out to have a leader"));
            }
        }
        if backend == "local" {
            read.local(file);
        } else {
            read.shared(&backend, given_scope.as_deref(), scope, lease);
        }
        read
    }

    fn lease(&mut self, text: &str) -> Option<Duration> {
        match parse_duration(text) {
            Ok(lease) => Some(lease),
            Err(mut fault) => {
                LEASE.clone_into(&mut fault.subject);
                self.faults.push(fault);
                None
            }
        }
    }

    /// A node that shares nothing with others.
    fn local(&mut self, file: Option<String>) {
        let Some(file) = file else { return };
        #[cfg(feature = "sqlite")]
        {
            let file: Arc<dyn Backend> = Arc::new(crate::backend::Local::at(file));
            self.made(file, |subject| format!("{LOCAL_FILE}: {subject}"));
        }
        #[cfg(not(feature = "sqlite"))]
        self.faults.push(not_compiled(LOCAL_FILE, &file, "sqlite"));
    }

    fn shared(&mut self, backend: &str, given: Option<&str>, scope: String, lease: Option<Duration>) {
        let choices = choices();
        let Some(choice) = choices.iter().find(|choice| choice.name == backend) else {
            let names: Vec<_> = choices.iter().map(|choice| choice.name).collect();
            let rule = format!("it is `local`, or one of {}", names.join(", "));
            self.faults.push(Fault::new(BACKEND, backend, rule, "choose one of them"));
            return;
        };
        let Some(make) = choice.make else {
            self.faults.push(not_compiled(BACKEND, backend, choice.feature));
            return;
        };
        let made = make(given.map_or(scope, str::to_owned), lease);
        self.made(made, |subject| match subject.rsplit(": ").next() {
            Some("lease" | "lease_duration") if lease.is_some() => LEASE.to_owned(),
            Some("scope") if given.is_some() => SCOPE.to_owned(),
            Some("url") => format!("{}: {subject}", choice.address),
            Some(_) | None => subject.to_owned(),
        });
    }

    /// A backend, unless something is wrong with it: that is told by the names of the variables.
    fn made(&mut self, backend: Arc<dyn Backend>, named: impl Fn(&str) -> String) {
        let faults = backend.faults();
        if faults.is_empty() {
            self.backend = Some(backend);
        }
        for mut fault in faults {
            fault.subject = named(&fault.subject);
            self.faults.push(fault);
        }
    }
}

fn not_compiled(variable: &str, value: &str, feature: &str) -> Fault {
    let rule =
        format!("this program was built without the feature `{feature}` of callsheet, which brings it");
    let cure = format!("build it with the feature: cargo add callsheet --features {feature}");
    Fault::new(variable, value, rule, cure)
}

/// What the health and the log say of a node without election.
fn without_election(backend: &str) -> Arc<str> {
    let unused =
        if backend == "local" { String::new() } else { format!(", and {BACKEND}={backend} is not used") };
    format!(
        "{ELECTION}=off: this node runs every tick of its jobs, and so does each other node{unused}; \
         leave {ELECTION} out where a tick must run once"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// What these variables say.
    fn read(variables: &[(&str, &str)]) -> Environment {
        let variables: HashMap<&str, &str> = variables.iter().copied().collect();
        let variable = |name: &str| Ok(variables.get(name).map(|value| (*value).to_owned()));
        Environment::read("app".to_owned(), &variable)
    }

    fn faults(variables: &[(&str, &str)]) -> Vec<String> {
        read(variables).faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn without_variables_a_node_is_alone_in_memory_and_nothing_is_wrong() {
        let read = read(&[]);

        assert!(read.backend.is_none() && read.node_name.is_none() && read.warning.is_none());
        assert_eq!(read.faults, []);
    }

    #[test]
    fn every_fault_names_its_variable_and_all_are_told_at_once() {
        let told = faults(&[(BACKEND, "rediss"), (ELECTION, "no"), (LEASE, "five")]);

        assert_eq!(told.len(), 3, "{told:#?}");
        for variable in [BACKEND, ELECTION, LEASE] {
            assert!(told.iter().any(|told| told.starts_with(variable)), "{variable}: {told:#?}");
        }
        assert!(
            told.iter().any(|told| told.contains("local") && told.contains("postgres, redis, redlock, etcd")),
            "{told:#?}"
        );
    }

    #[test]
    fn a_backend_is_named_with_the_feature_that_brings_it() {
        for choice in choices().iter().filter(|choice| choice.make.is_none()) {
            let told = faults(&[(BACKEND, choice.name)]);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(BACKEND) && told[0].contains(choice.name), "{told:?}");
            assert!(told[0].contains(&format!("--features {}", choice.feature)), "{told:?}");
        }
        let told = not_compiled(BACKEND, "redis", "redis").to_string();
        assert!(told.contains("without the feature `redis`"), "{told}");
    }

    #[cfg(feature = "redis")]
    #[test]
    fn what_a_backend_finds_wrong_is_told_by_the_variable_that_holds_it() {
        // No other test of this program sets it.
        let told = faults(&[(BACKEND, "redis"), (SCOPE, "_reserved"), (LEASE, "1ms")]);

        for variable in [SCOPE, LEASE, "CALLSHEET_REDIS_URL"] {
            assert!(told.iter().any(|told| told.starts_with(variable)), "{variable}: {told:#?}");
        }
        assert!(read(&[(BACKEND, "redis")]).backend.is_none());
    }

    #[test]
    fn without_election_a_node_shares_nothing_and_a_warning_says_so() {
        let read = read(&[(ELECTION, "off"), (BACKEND, "redis"), (NODE_NAME, "web-1")]);

        assert!(read.backend.is_none());
        assert_eq!(read.faults, []);
        assert_eq!(read.node_name.as_deref(), Some("web-1"));
        let warning = read.warning.expect("a warning");
        assert!(
            warning.contains("every tick") && warning.contains("CALLSHEET_BACKEND=redis is not used"),
            "{warning}"
        );
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_local_node_keeps_what_it_knows_in_the_file_that_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("callsheet.db");
        let of = |file: &std::path::Path| read(&[(LOCAL_FILE, file.to_str().expect("text"))]);

        assert_eq!(of(&file).backend.expect("a file").name(), "sqlite");
        let nowhere = of(&directory.path().join("nowhere/callsheet.db"));
        assert!(nowhere.faults[0].to_string().starts_with(LOCAL_FILE), "{:?}", nowhere.faults);
    }
}
