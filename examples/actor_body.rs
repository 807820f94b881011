//! An actor of the application does the work of a job, with a state of its own that need not be `Send`.
//!
//! ```sh
//! cargo run --example actor_body
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::{cell::Cell, rc::Rc, time::Duration};

use actix::prelude::*;
use callsheet::{EventFilter, EventName, prelude::*};

/// Pages in the tray.
const PAGES: u32 = 3;

/// Prints a page for each run, and for whoever else asks.
struct Printer {
    pages: Rc<Cell<u32>>,
}

impl Actor for Printer {
    type Context = Context<Self>;
}

/// A run is a message. The run is over, and its lock key free, when the actor has answered.
impl Handler<Run> for Printer {
    type Result = ResponseActFuture<Self, RunResult>;

    fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
        let pages = self.pages.clone();
        let print = async move {
            let Some(left) = pages.get().checked_sub(1) else {
                return Err(RunError::permanent("out of paper"));
            };
            // Nobody can take a message back from an actor: it is up to the actor to stop when the run is cancelled.
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                () = run.cancelled() => return Err("stopped".into()),
            }
            pages.set(left);
            println!("printed {:?}, {left} pages left", run.job().as_str());
            Ok(())
        };
        Box::pin(print.into_actor(self))
    }
}

#[actix::main]
async fn main() -> anyhow::Result<()> {
    let printer = Printer { pages: Rc::new(Cell::new(PAGES)) }.start();
    let jobs = Callsheet::builder()
        .job(Job::new("invoices", every(Duration::from_millis(300))).run_actor(printer))
        .start()
        .await?;
    let mut failures = jobs.events(EventFilter::new().kinds([EventName::RunFailed]).job("invoices"));
    tokio::select! {
        Some(event) = failures.next() => println!("{event}"),
        stopped = tokio::signal::ctrl_c() => stopped?,
    }
    println!("{}", jobs.shutdown(Duration::from_secs(10)).await);
    Ok(())
}
