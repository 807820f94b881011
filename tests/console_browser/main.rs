//! The console in headless Chromium: every page and action, and what a hostile text, a reader and a crowd of jobs do.

use std::time::Duration;

use callsheet::{Job, Run, console::Access, schedule::every};

mod access;
mod actions;
mod browser;
mod calendar;
mod cluster;
mod crowd;
mod failover;
mod framed;
mod hostile;
mod keyboard;
mod lists;
mod pages;
mod vendored;

/// An hourly job that does nothing.
pub(crate) fn quiet(name: &str) -> Job {
    Job::new(name, every(Duration::from_hours(1))).run(async |_: Run| {})
}

pub(crate) fn alice() -> Access {
    Access::Edit("alice".to_owned())
}
