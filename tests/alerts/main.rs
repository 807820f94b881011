//! What `examples/ops` gives to Prometheus and Grafana: each alert fires on what a scraper read of an engine to which
//! that happened, and on nothing else; rules and dashboard name metrics and labels that a running engine exports.
//!
//! Engines run on virtual time, from the epoch of Unix on, where the clock of Prometheus' own `promtool` begins as
//! well: what was scraped each minute of them is what it evaluates.

mod dashboard;
#[path = "../common/example.rs"]
mod example;
mod exported;
#[path = "../process/mod.rs"]
mod process;
mod promql;
mod promtool;
mod rules;
mod stories;
mod timeline;
