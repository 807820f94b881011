//! Where nodes coordinate.

mod local;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;

pub use local::Local;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
