//! What backends over a store of records have in common: what a node is told, and what the engine asks of it.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use callsheet_actors::{Fault, adapter::RecordsBackend, port::Records};

#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "redis"))]
use super::certificates::Certificates;
use super::checks::{Checks, deadline_of};

/// What tells one kind of stores from others.
pub(super) struct Kind {
    /// Its name, at the beginning of a fault.
    pub(super) name: &'static str,
    /// How a node is made.
    pub(super) example: &'static str,
    pub(super) lease_min: Duration,
    pub(super) lease_default: Duration,
    /// The longest deadline unless given.
    pub(super) deadline_default: Duration,
}

/// Stores of one kind, and what nodes are told of them beside scope, lease and deadline.
pub(super) trait Store: Clone + Send + Sync + Sized + 'static {
    const KIND: Kind;

    /// A store at a URL. What is wrong with it is one of the [faults](Self::faults).
    fn at(url: &str) -> Self;

    /// What is wrong with what it was told.
    fn faults(&self) -> Vec<Fault>;
}

/// A store that this node can be a client of.
pub(super) trait RecordStore: Store {
    /// The records of a scope.
    fn records(settings: Arc<Settings<Self>>) -> Arc<dyn Records>;
}

/// What a node needs to know.
#[derive(Clone)]
pub(super) struct Settings<S> {
    pub(super) scope: String,
    pub(super) lease: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) store: S,
}

impl<S: Store> Settings<S> {
    pub(super) fn new(scope: String, url: &str) -> Self {
        Self::on(scope, S::at(url))
    }

    fn on(scope: String, store: S) -> Self {
        Self { scope, lease: S::KIND.lease_default, deadline: None, store }
    }

    /// How long one call may take. One that was not answered can be repeated while the lease lasts.
    pub(super) fn deadline(&self) -> Duration {
        deadline_of(self.deadline, S::KIND.deadline_default, self.lease)
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let Kind { name, example, lease_min, lease_default, .. } = S::KIND;
        let mut checks = Checks::of(name);
        checks.scope(&self.scope, example);
        checks.lease(self.lease, lease_min, lease_default);
        checks.deadline(self.deadline, self.lease);
        checks.faults.extend(self.store.faults());
        checks.faults
    }
}

impl<S: Store> fmt::Debug for Settings<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the URL: it may contain a password.
        let mut shown = f.debug_struct("Settings");
        shown.field("scope", &self.scope).field("lease", &self.lease);
        shown.field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

/// The servers that a URL names, and the certificates of the connections to them.
#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "redis"))]
#[derive(Clone)]
pub(super) struct Servers<A> {
    /// What is wrong with the URL, if it is none.
    pub(super) address: Result<A, Fault>,
    pub(super) certificates: Certificates,
}

#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "redis"))]
impl<A> Servers<A> {
    pub(super) fn at(url: &str, read: impl FnOnce(&str) -> (Result<A, Fault>, Certificates)) -> Self {
        let (address, certificates) = read(url);
        Self { address, certificates }
    }

    pub(super) fn address(&self) -> Result<&A, Fault> {
        self.address.as_ref().map_err(Clone::clone)
    }

    /// `scheme` begins the URL of a connection that is encrypted.
    #[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
    pub(super) fn faults(
        &self,
        store: &'static str,
        encrypted: impl FnOnce(&A) -> bool,
        scheme: &str,
    ) -> Vec<Fault> {
        let mut checks = Checks::of(store);
        match &self.address {
            Ok(address) => checks.certificates(&self.certificates, encrypted(address), scheme),
            Err(fault) => checks.faults.push(fault.clone()),
        }
        checks.faults
    }
}

/// A node on a store of records.
pub(super) struct Node<S> {
    pub(super) settings: Settings<S>,
    records: OnceLock<Arc<dyn Records>>,
    backend: OnceLock<RecordsBackend>,
}

impl<S: Store> Node<S> {
    pub(super) fn new(scope: String, url: &str) -> Self {
        Self::with(Settings::new(scope, url))
    }

    #[cfg(feature = "postgres")]
    pub(super) fn on(scope: String, store: S) -> Self {
        Self::with(Settings::on(scope, store))
    }

    fn with(settings: Settings<S>) -> Self {
        Self { settings, records: OnceLock::new(), backend: OnceLock::new() }
    }

    /// Another node, with something of these settings set.
    pub(super) fn set(&self, set: impl FnOnce(&mut Settings<S>)) -> Self {
        let mut settings = self.settings.clone();
        set(&mut settings);
        Self::with(settings)
    }
}

impl<S: RecordStore> Node<S> {
    pub(super) fn records(&self) -> Arc<dyn Records> {
        self.records.get_or_init(|| S::records(Arc::new(self.settings.clone()))).clone()
    }

    pub(super) fn backend(&self) -> &RecordsBackend {
        let Settings { scope, lease, .. } = &self.settings;
        self.backend.get_or_init(|| RecordsBackend::new(self.records(), scope.as_str(), *lease))
    }
}

/// Makes a backend of a type that holds a [`Node`], and lets people see its settings.
macro_rules! backend_of_node {
    ($backend:ident) => {
        impl ::callsheet_actors::port::Backend for $backend {
            fn name(&self) -> &'static str {
                self.0.backend().name()
            }

            fn scope(&self) -> ::std::sync::Arc<str> {
                self.0.backend().scope()
            }

            fn faults(&self) -> ::std::vec::Vec<::callsheet_actors::Fault> {
                self.0.settings.faults()
            }

            fn node(&self) -> ::std::option::Option<::callsheet_actors::NodeId> {
                self.0.backend().node()
            }

            fn set_clock(&self, clock: ::std::sync::Arc<dyn ::callsheet_actors::port::Clock>) {
                self.0.backend().set_clock(clock);
            }

            fn set_zone_data(&self, version: ::std::sync::Arc<str>) {
                self.0.backend().set_zone_data(version);
            }

            fn set_node_name(&self, name: ::std::sync::Arc<str>) {
                self.0.backend().set_node_name(name);
            }

            fn elector(&self) -> ::std::sync::Arc<dyn ::callsheet_actors::port::Elector> {
                self.0.backend().elector()
            }

            fn locker(&self) -> ::std::sync::Arc<dyn ::callsheet_actors::port::Locker> {
                self.0.backend().locker()
            }

            fn lease(&self) -> ::std::time::Duration {
                self.0.settings.lease
            }

            fn capabilities(&self) -> ::callsheet_actors::port::Capabilities {
                self.0.backend().capabilities()
            }
        }

        impl ::std::fmt::Debug for $backend {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_tuple(stringify!($backend)).field(&self.0.settings).finish()
            }
        }
    };
}

pub(super) use backend_of_node;

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Nowhere(Result<String, Fault>);

    impl Store for Nowhere {
        const KIND: Kind = Kind {
            name: "nowhere",
            example: "Nowhere::new(\"billing\", url)",
            lease_min: Duration::from_secs(1),
            lease_default: Duration::from_secs(15),
            deadline_default: Duration::from_secs(2),
        };

        fn at(url: &str) -> Self {
            let none = || Fault::new("nowhere: url", url, "it begins with a scheme", "write nowhere://host");
            Self(url.strip_prefix("nowhere://").map(str::to_owned).ok_or_else(none))
        }

        fn faults(&self) -> Vec<Fault> {
            self.0.as_ref().err().cloned().into_iter().collect()
        }
    }

    fn settings(scope: &str) -> Settings<Nowhere> {
        Settings::new(scope.to_owned(), "nowhere://host")
    }

    #[test]
    fn a_deadline_leaves_time_to_ask_again_within_the_lease() {
        let deadline = |lease| Settings { lease, ..settings("scope") }.deadline();

        assert_eq!(deadline(Duration::from_secs(1)), Duration::from_millis(400));
        assert_eq!(deadline(Duration::from_secs(15)), Duration::from_secs(2));
        assert_eq!(deadline(Duration::from_hours(1)), Duration::from_secs(2));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let node = Node::<Nowhere>::new(String::new(), "somewhere");
        let bad =
            node.set(|bad| (bad.lease, bad.deadline) = (Duration::ZERO, Some(Duration::from_millis(1))));
        let told: Vec<_> = bad.settings.faults().into_iter().map(|fault| fault.subject).collect();

        assert_eq!(told, ["nowhere: scope", "nowhere: lease", "nowhere: deadline", "nowhere: url"]);
        assert_eq!(settings("billing").faults(), []);
    }
}
