//! How fast the engine is on the embedded backend, beside bare tokio timers in the same run.
//!
//! ```text
//! cargo bench --bench engine                      1 k and 100 k jobs, about two minutes
//! cargo bench --bench engine -- 1k                only one size: 1k, 10k, 100k, 1m
//! cargo bench --bench engine -- --quick           a smoke test of a few seconds
//! cargo bench --bench engine -- --million         1 M jobs as well
//! cargo bench --bench engine -- overload          only this: a tenth to ten times of what is possible, 15 minutes
//! cargo bench --bench engine -- overload 1k       the same of one size
//! cargo bench --bench engine -- seconds           only this: beside tokio-cron-scheduler, at each whole second
//! cargo bench --bench engine -- clock             only this: the clock is set, with 1 M idle jobs, about five minutes
//! cargo bench --bench engine -- clock 100k        the same with fewer jobs
//! cargo bench --bench engine -- sizes             only this: what a job that is idle takes, and of which types
//! cargo bench --bench engine -- --arbiters 2      other threads than the default; --body-threads as well
//! cargo bench --bench engine -- --peer NAME=FILE  a program of yours stands in the tables: see benches/README.md
//! cargo bench --bench engine -- --json FILE       what was found, as JSON; other tables in it stay
//! cargo bench --bench engine -- plot --json FILE  draws FILE beside it, as SVG
//! ```
//!
//! Every number comes from a process of its own (this program, started again), so that neither memory nor
//! threads of one measurement touch another. What stands beside the engine is the least that could do the
//! same work on tokio: one task per job that sleeps until its next anchored instant and then spawns a task
//! that notes how late it is. Both sides note it with the same code.
//!
//! A body counts when it starts, whichever tick it is of: an engine that is late by a second starts as many
//! as one that is not. And no job is due before all are armed: then the load would be there while jobs are
//! still added, which takes many times as long under it, and what is measured is neither. (Once both were
//! otherwise, and a million jobs were said to start none. It was the benchmark: `anchored_at` says in which
//! phase a job fires, and not from when on; that is `starting_at`.)

// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod case;
mod clock;
mod curve;
#[path = "../instruments/mod.rs"]
mod instruments;
mod notes;
mod numbers;
mod overload;
mod peers;
mod plan;
mod plot;
mod report;
mod tables;
mod timers;

use std::{env, process::ExitCode};

use crate::{
    case::{CHILD, measure},
    plan::Plan,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == CHILD => rest.join(" ").parse().and_then(|case| measure(&case)),
        _ => Plan::of(&arguments).and_then(|plan| plan.run()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
