//! Longer prose.

#[doc = include_str!("bodies.md")]
pub mod bodies {}

#[doc = include_str!("hooks.md")]
pub mod hooks {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[doc = include_str!("health.md")]
pub mod health {}

#[doc = include_str!("tracing.md")]
pub mod tracing {}

#[cfg(feature = "testkit")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[cfg(feature = "postgres")]
#[doc = include_str!("cluster.md")]
pub mod cluster {}
