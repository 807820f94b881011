//! Spans for OpenTelemetry: a request, the run that it triggers, and what the run does, on standard output.
//!
//! ```sh
//! cargo run --example otel
//! ```

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::time::Duration;

use callsheet::{Error, Outcome, prelude::*, schedule::daily};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{info, instrument};
use tracing_subscriber::{EnvFilter, prelude::*};

/// What is exported: the application's own spans, and which of the scheduler's.
const FILTER: &str = "otel=info,callsheet::run=info,callsheet::election=debug";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // To a collector, it is the exporter of `opentelemetry-otlp`, in batches.
    let exporter = opentelemetry_stdout::SpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("otel"));
    tracing_subscriber::registry().with(EnvFilter::new(FILTER)).with(layer).init();

    let report = Job::new("report", daily().at("03:00")).run(async |_| render(14).await);
    let jobs = Callsheet::builder().job(report).start().await?;
    let outcome = request(&jobs).await?;
    println!("{outcome}");
    println!("{}", jobs.shutdown(Duration::from_secs(10)).await);
    // What is not exported yet.
    provider.shutdown()?;
    Ok(())
}

/// As a handler of a web service would: the run has a trace of its own, with a link to this span.
#[instrument(skip_all)]
async fn request(jobs: &Callsheet) -> Result<Outcome, Error> {
    Ok(jobs.trigger("report").await?.finished().await)
}

/// Inside the span of the run, which is its parent.
#[instrument]
async fn render(pages: u32) {
    info!("rendered");
}
