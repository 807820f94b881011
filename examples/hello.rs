//! The smallest program: one job in plain tokio.
//!
//! ```sh
//! cargo run --example hello
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::time::Duration;

use callsheet::prelude::*;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let jobs = Callsheet::builder()
        .job(Job::new("hello", every(Duration::from_secs(5))).run(async |run| println!("{run:?}")))
        .start()
        .await?;
    tokio::signal::ctrl_c().await?;
    println!("{}", jobs.shutdown(Duration::from_secs(30)).await); // drained, cancelled, aborted
    Ok(())
}
