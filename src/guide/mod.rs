//! Longer prose, a page or two each.
//!
//! | to use it | |
//! |---|---|
//! | [`bodies`] | which kind of body to choose |
//! | [`tasks`] | bodies with a name and typed arguments: jobs as data |
//! | [`stored_jobs`] | jobs as data for all nodes: stored, changed and deleted at runtime |
//! | [`control`] | all nodes of a cluster, asked from any of them |
//! | [`policies`] | what they do, and the line of each that surprises, asserted |
//! | [`hooks`] | code around the runs of a job |
//! | [`configuration`] | every option: default, range, what it decides |
//! | [`settings`] | the same without a change of the code: variables of the environment, files |
//! | [`testing`] | how an application tests its jobs |
//! | [`coming_from`] | gocron, tokio-cron-scheduler, Quartz, apalis, Sidekiq, Celery beat |
//!
//! | to run it | |
//! |---|---|
//! | [`deploying`] | probes, the shutdown budget, rolling deployments |
//! | [`metrics`] | what a node counts, and what to alert on |
//! | [`logs`] | what a node says: logs, spans, events |
//! | [`traces`] | where the time goes: spans, and their links to requests |
//! | [`history`] | what ran, what did not, who did what |
//! | [`backfill`] | fire times of the past that are run once more |
//! | [`explain`] | why a job ran late, or not at all |
//! | [`health`] | live, ready, healthy, and what to do |
//! | [`alerts`] | what may be expected of a job, and who notices that it does not happen |
//! | [`console`] | a page and an API to see and operate the jobs: who may do what, what it costs |
//! | [`backends`] | where nodes coordinate: what each system promises, and which to choose |
//! | [`cluster`] | several nodes: who fires what, what becomes of what |
//! | [`coordination`] | a leader, claims, both or neither: what each rests on |
//! | [`leadership`] | who leads, how long a lease must be, by whose clock |
//! | [`changing_jobs`] | jobs that are removed, paused, or get another schedule |
//! | [`database`] | what a node needs of PostgreSQL |
//! | [`parked`] | what happens when the database refuses one job |
//! | [`other_connections`] | silent connections, strangers, old snapshots |
//! | [`two_histories`] | a database that lacks commits |
//! | [`scale`] | how cost grows, where one database ends, what to do then |
//!
//! | to know it | |
//! |---|---|
//! | [`limits`] | the guarantees for ticks and runs, and the limits of each |
//! | [`node_limits`] | the guarantees for nodes, and the limits of each |
//! | [`faults`] | what was measured under faults |
//! | [`audit`] | how that is measured |
//! | [`architecture`] | the rules, the actors, where to add what |
//! | [`life_of_a_tick`] | its steps, and a claim in SQL |
//! | [`election`] | how a node comes to lead |
//! | [`extending`] | a schedule or a backend of your own |
//! | [`glossary`] | one word for one thing |

// Guides are read with every feature. With fewer, some of what they link to is not there.
#![cfg_attr(
    not(all(
        feature = "console",
        feature = "mysql",
        feature = "postgres",
        feature = "redis",
        feature = "prometheus",
        feature = "testkit"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

#[doc = include_str!("bodies.md")]
pub mod bodies {}

#[doc = include_str!("tasks.md")]
pub mod tasks {}

#[doc = include_str!("stored_jobs.md")]
pub mod stored_jobs {}

#[doc = include_str!("control.md")]
pub mod control {}

#[cfg(feature = "testkit")]
#[doc = include_str!("policies.md")]
pub mod policies {}

#[doc = include_str!("hooks.md")]
pub mod hooks {}

#[doc = include_str!("configuration.md")]
pub mod configuration {}

#[doc = include_str!("settings.md")]
pub mod settings {}

#[doc = include_str!("coordination.md")]
pub mod coordination {}

#[cfg(feature = "testkit")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("coming_from.md")]
pub mod coming_from {}

#[doc = include_str!("deploying.md")]
#[doc = "```yaml"]
#[doc = include_str!("../../examples/ops/kubernetes/deployment.yaml")]
#[doc = "```"]
pub mod deploying {}

#[doc = include_str!("metrics.md")]
pub mod metrics {}

#[doc = include_str!("logs.md")]
pub mod logs {}

#[doc = include_str!("traces.md")]
pub mod traces {}

#[doc = include_str!("history.md")]
pub mod history {}

#[doc = include_str!("backfill.md")]
pub mod backfill {}

#[doc = include_str!("explain.md")]
pub mod explain {}

#[doc = include_str!("health.md")]
pub mod health {}

#[doc = include_str!("alerts.md")]
#[doc = "```yaml"]
#[doc = include_str!("../../examples/ops/alerts.yml")]
#[doc = "```"]
pub mod alerts {}

#[cfg(feature = "console")]
#[doc = include_str!("console.md")]
pub mod console {}

#[doc = include_str!("backends.md")]
pub mod backends {}

#[cfg(feature = "postgres")]
#[doc = include_str!("cluster.md")]
pub mod cluster {}

#[cfg(feature = "postgres")]
#[doc = include_str!("leadership.md")]
pub mod leadership {}

#[cfg(feature = "postgres")]
#[doc = include_str!("changing_jobs.md")]
pub mod changing_jobs {}

#[cfg(feature = "postgres")]
#[doc = include_str!("database.md")]
pub mod database {}

#[cfg(feature = "postgres")]
#[doc = include_str!("parked.md")]
pub mod parked {}

#[cfg(feature = "postgres")]
#[doc = include_str!("other_connections.md")]
pub mod other_connections {}

#[cfg(feature = "postgres")]
#[doc = include_str!("two_histories.md")]
pub mod two_histories {}

#[doc = include_str!("scale.md")]
pub mod scale {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("node_limits.md")]
pub mod node_limits {}

#[doc = include_str!("faults.md")]
pub mod faults {}

#[doc = include_str!("audit.md")]
pub mod audit {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("life_of_a_tick.md")]
pub mod life_of_a_tick {}

#[doc = include_str!("election.md")]
pub mod election {}

#[cfg(feature = "testkit")]
#[doc = include_str!("extending.md")]
pub mod extending {}

#[doc = include_str!("glossary.md")]
pub mod glossary {}
