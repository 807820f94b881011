//! Where nodes coordinate.

#[cfg(any(feature = "postgres", feature = "redis"))]
mod certificates;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod local;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "redis")]
pub use self::redis::Redis;
#[cfg(feature = "kubernetes")]
pub use self::kubernetes::Kubernetes;
pub use callsheet_actors::adapter::{Composed, Elected, OnUnproven};
pub use local::Local;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, LocalFile};
