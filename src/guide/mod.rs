//! Longer prose, a page or two each.
//!
//! | to use it | |
//! |---|---|
//! | [`bodies`] | which kind of body to choose |
//! | [`policies`] | what they do, and the line of each that surprises, asserted |
//! | [`hooks`] | code around the runs of a job |
//! | [`configuration`] | every option: default, range, what it decides |
//! | [`testing`] | how an application tests its jobs |
//! | [`coming_from`] | gocron, tokio-cron-scheduler, Quartz, apalis, Sidekiq, Celery beat |
//!
//! | to run it | |
//! |---|---|
//! | [`deploying`] | probes, the shutdown budget, rolling deployments |
//! | [`observability`] | metrics, alerts, logs, spans |
//! | [`health`] | live, ready, healthy, and what to do |
//! | [`cluster`] | several nodes: who fires what, who leads, what becomes of what |
//! | [`database`] | PostgreSQL under a cluster |
//!
//! | to know it | |
//! |---|---|
//! | [`limits`] | the guarantees, and the limits of each |
//! | [`guarantees`] | what was measured under faults |
//! | [`architecture`] | the life of a tick, an election, a claim in SQL; where to add what |
//! | [`extending`] | a schedule or a backend of your own |
//! | [`glossary`] | one word for one thing |

// Guides are read with every feature. With fewer, some of what they link to is not there.
#![cfg_attr(
    not(all(feature = "postgres", feature = "prometheus", feature = "testkit")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[doc = include_str!("bodies.md")]
pub mod bodies {}

#[cfg(feature = "testkit")]
#[doc = include_str!("policies.md")]
pub mod policies {}

#[doc = include_str!("hooks.md")]
pub mod hooks {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[cfg(feature = "testkit")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("coming_from.md")]
pub mod coming_from {}

#[doc = include_str!("deploying.md")]
pub mod deploying {}

#[doc = include_str!("observability.md")]
pub mod observability {}

#[doc = include_str!("health.md")]
pub mod health {}

#[cfg(feature = "postgres")]
#[doc = include_str!("cluster.md")]
pub mod cluster {}

#[cfg(feature = "postgres")]
#[doc = include_str!("database.md")]
pub mod database {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[cfg(feature = "testkit")]
#[doc = include_str!("extending.md")]
pub mod extending {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}
