//! Where nodes coordinate.

#[cfg(any(feature = "etcd", feature = "redis"))]
mod address;
#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
mod certificates;
#[cfg(any(feature = "etcd", feature = "redis"))]
mod checks;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(any(feature = "etcd", feature = "redis"))]
mod hints;
#[cfg(any(feature = "etcd", feature = "redis"))]
mod link;
mod local;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(any(feature = "etcd", feature = "redis"))]
mod random;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "etcd")]
pub use self::etcd::Etcd;
#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub use local::Local;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, LocalFile};
