//! Where nodes coordinate.

#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "redis"))]
mod address;
#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "postgres", feature = "redis"))]
mod certificates;
#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "postgres", feature = "redis"))]
mod checks;
#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
mod failure;
#[cfg(any(feature = "consul", feature = "etcd", feature = "redis"))]
mod hints;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(any(feature = "etcd", feature = "redis"))]
mod link;
mod local;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "postgres")]
mod postgres_lease;
#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "postgres", feature = "redis"))]
mod random;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "consul", feature = "etcd", feature = "mysql", feature = "postgres", feature = "redis"))]
mod store;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "redis"))]
mod versions;

#[cfg(feature = "consul")]
pub use self::consul::Consul;
#[cfg(feature = "etcd")]
pub use self::etcd::Etcd;
#[cfg(feature = "kubernetes")]
pub use self::kubernetes::Kubernetes;
#[cfg(feature = "mysql")]
pub use self::mysql::Mysql;
#[cfg(feature = "redis")]
pub use self::redis::{Redis, Redlock};
pub use callsheet_actors::adapter::{Composed, Elected, OnUnproven};
pub use local::Local;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "postgres")]
pub use postgres_lease::PostgresLease;
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, LocalFile};
