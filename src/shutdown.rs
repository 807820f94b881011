//! A shutdown that begins with a signal and fits into a stated time.

use std::{fmt, future::pending, pin::pin, time::Duration};
#[cfg(unix)]
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use callsheet_actors::{AnnounceShutdown, DurationText, Fault, Faults, SHUTDOWN_END_MAX};
use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
};
use tokio::time::{sleep, timeout};
#[cfg(unix)]
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::handle::Callsheet;

/// How long an actix-web server may take to stop beyond its own timeout: it looks once a second whether its
/// connections have ended, and stops its `System` 0.3 s later.
pub const SERVER_STOP_MAX: Duration = Duration::from_secs(2);
/// The least that a budget must leave to the runs.
const DRAIN_MIN: Duration = Duration::from_secs(1);
/// The server's own timeout unless told otherwise.
const SERVER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);

/// The time that a process has between the signal that stops it and its end, and what it is spent on.
///
/// One total is stated: less than what the orchestrator allows, which for Kubernetes is
/// `terminationGracePeriodSeconds`, 30 s by default. What the other shares leave is for the runs in progress
/// to end by themselves:
///
/// | share | default | set by |
/// |---|---|---|
/// | the node is not ready, everything goes on | 0 s | [`readiness_delay`](Self::readiness_delay) |
/// | runs, and the hooks after them, drain | **the rest**, at least 1 s | |
/// | runs that were cancelled end | 5 s | [`Builder::shutdown_abort_after`](crate::Builder::shutdown_abort_after) |
/// | runs are aborted, the store is told, threads end | 5 s | [`SHUTDOWN_END_MAX`] |
/// | requests that are in progress end | 3 s | [`server_timeout`](Self::server_timeout) |
/// | the server stops | 2 s | [`SERVER_STOP_MAX`] |
///
/// All of them are bounds: a node on which nothing runs stops in milliseconds after the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownBudget {
    total: Duration,
    readiness_delay: Duration,
    server_timeout: Duration,
}

impl ShutdownBudget {
    /// Makes a budget of so much in all, at least the sum of its shares.
    pub const fn within(total: Duration) -> Self {
        Self { total, readiness_delay: Duration::ZERO, server_timeout: SERVER_TIMEOUT_DEFAULT }
    }

    /// Sets how long the node goes on as before after it has said that it is not ready: as long as load
    /// balancers take to notice, so that no request meets a server that has stopped. Default: 0.
    #[must_use]
    pub const fn readiness_delay(mut self, delay: Duration) -> Self {
        self.readiness_delay = delay;
        self
    }

    /// Sets how long the server waits for requests in progress before it cuts them off, in whole seconds: a
    /// part of a second counts as one. Give the server the same:
    /// [`server_timeout_secs`](Self::server_timeout_secs). Default: 3 s.
    #[must_use]
    pub const fn server_timeout(mut self, timeout: Duration) -> Self {
        let whole = timeout.as_secs();
        let part = if timeout.subsec_nanos() > 0 { 1 } else { 0 };
        self.server_timeout = Duration::from_secs(whole.saturating_add(part));
        self
    }

    /// Returns the share of the server, in seconds, for `HttpServer::shutdown_timeout`. A server that is not
    /// told takes its default of 30 s, which is not part of the sum.
    pub const fn server_timeout_secs(&self) -> u64 {
        self.server_timeout.as_secs()
    }

    /// The shares, if they fit.
    fn shares(self, abort_after: Duration) -> Result<Shares, Faults> {
        let Self { total, readiness_delay, server_timeout } = self;
        let fault = |value: Duration, rule: String, cure: &str| {
            Faults::from(Fault::new("shutdown budget", DurationText(value).to_string(), rule, cure))
        };
        let server = server_timeout.saturating_add(SERVER_STOP_MAX);
        let others = [readiness_delay, abort_after, SHUTDOWN_END_MAX, server];
        let others = others.into_iter().fold(Duration::ZERO, Duration::saturating_add);
        let drain = total.saturating_sub(others);
        let shares = Shares { total, readiness_delay, drain: drain.max(DRAIN_MIN), abort_after, server };
        if drain < DRAIN_MIN {
            let rule = format!("it is at least the sum of its shares: {shares}");
            let cure = "raise it, or lower `readiness_delay`, `server_timeout` or the builder's `shutdown_abort_after`";
            return Err(fault(total, rule, cure));
        }
        Ok(shares)
    }
}

/// What a budget is spent on.
#[derive(Debug, Clone, Copy)]
struct Shares {
    total: Duration,
    readiness_delay: Duration,
    drain: Duration,
    abort_after: Duration,
    server: Duration,
}

impl Shares {
    /// The time until the server has to stop.
    fn jobs(&self) -> Duration {
        self.total - self.server
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { readiness_delay, drain, abort_after, server, .. } = *self;
        let shares = [readiness_delay, drain, abort_after, SHUTDOWN_END_MAX, server].map(DurationText);
        let [readiness_delay, drain, abort_after, end, server] = shares;
        write!(
            f,
            "{readiness_delay} not ready + {drain} to drain + {abort_after} from cancel to abort + \
             {end} to end + {server} for the server"
        )
    }
}

impl Callsheet {
    /// Makes a shutdown for `HttpServer::shutdown_signal`: it begins with a signal, and the server stops when
    /// it is over, so that all that a body uses still works while it drains. A connection that was opened by
    /// a request, for example, lives on the worker of the server that opened it.
    ///
    /// 1. With the first item of `signals` the node is not [ready](crate::HealthReport::ready) any more.
    ///    Everything goes on for the [delay](ShutdownBudget::readiness_delay).
    /// 2. Then it is a [`shutdown`](Self::shutdown): runs drain, are cancelled, are aborted, within their
    ///    shares of `budget`. Requests are still served; what would start a run is refused
    ///    ([`AddError::ShuttingDown`](crate::AddError::ShuttingDown) and its like, then
    ///    [`Error::Stopped`](crate::Error::Stopped)).
    /// 3. The future resolves, and the server stops: at the end of its share at the latest, even if the
    ///    engine does not end.
    ///
    /// The second item of `signals` stops the jobs [at once](Self::shutdown_now). A stream that ends before
    /// its first item counts as a signal: nobody is left who could give one. `ShutdownSignals` is the stream
    /// of SIGTERM and SIGINT; of a future, `futures::stream::once` makes a stream.
    ///
    /// A server that is told when to stop does not listen to signals itself. It may also end by itself, with
    /// an error, or through its handle; then the future is dropped with it, and the jobs go on. So call
    /// [`shutdown`](Self::shutdown) after it in any case: it answers with the report of this shutdown if
    /// there was one.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use actix_web::{App, HttpServer};
    /// use callsheet::prelude::*;
    ///
    /// #[actix_web::main]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let signals = ShutdownSignals::new()?;
    ///     let jobs = Callsheet::builder()
    ///         .job(Job::new("hello", every(Duration::from_secs(5))).run(async |_| println!("hello")))
    ///         .start()
    ///         .await?;
    ///     // Less than Kubernetes' 30 s.
    ///     let budget = ShutdownBudget::within(Duration::from_secs(28));
    ///     let server = HttpServer::new(App::new)
    ///         .shutdown_timeout(budget.server_timeout_secs())
    ///         .shutdown_signal(jobs.shutdown_on(signals, budget)?)
    ///         .bind("127.0.0.1:8080")?;
    ///     let served = server.run().await;
    ///     // After an error, too.
    ///     println!("{}", jobs.shutdown(Duration::from_secs(10)).await);
    ///     Ok(served?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Faults`] if the shares of the budget are more than its total.
    ///
    /// # Panics
    ///
    /// The future panics outside a tokio runtime with timers; those of actix and `#[tokio::main]` have them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the first signal stops nothing. Later, it does not stop the shutdown; but
    /// if it is dropped during the [delay](ShutdownBudget::readiness_delay), the jobs go on and the node
    /// stays not ready.
    pub fn shutdown_on<S>(
        &self,
        signals: S,
        budget: ShutdownBudget,
    ) -> Result<impl Future<Output = ()> + Send + use<S>, Faults>
    where
        S: Stream + Send + 'static,
        S::Item: Send,
    {
        let shares = budget.shares(self.engine.shutdown_abort_after())?;
        tracing::info!(
            target: "callsheet",
            "a shutdown takes at most {}: {shares}; give this process more time than that before it is killed",
            DurationText(shares.total)
        );
        let jobs = self.clone();
        Ok(async move {
            let mut signals = pin!(signals.fuse());
            // An end, too.
            let _ = signals.next().await;
            let again = async {
                if signals.next().await.is_none() {
                    pending().await
                }
            };
            if timeout(shares.jobs(), jobs.shut_down(shares, again)).await.is_err() {
                tracing::warn!(target: "callsheet", "the jobs have not ended in time; the server stops");
            }
        })
    }

    async fn shut_down(&self, shares: Shares, again: impl Future<Output = ()>) {
        let in_order = async {
            // An error: it has stopped already, and the next call says so.
            let _ = self.ask(AnnounceShutdown).await;
            sleep(shares.readiness_delay).await;
            self.shutdown(shares.drain).await;
        };
        if let Either::Right(_) = select(pin!(in_order), pin!(again)).await {
            tracing::warn!(target: "callsheet", "another signal: the jobs are stopped at once");
            self.shutdown_now().await;
        }
    }
}

/// SIGTERM and SIGINT, as a stream for [`Callsheet::shutdown_on`]: an item for each that has come. They do
/// not end the process any more once this is made.
#[cfg(unix)]
#[derive(Debug)]
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
}

#[cfg(unix)]
impl ShutdownSignals {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// What the operating system answers; or that there is no tokio runtime here.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O.
    pub fn new() -> io::Result<Self> {
        runtime::Handle::try_current().map_err(io::Error::other)?;
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

#[cfg(unix)]
impl Stream for ShutdownSignals {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<()>> {
        let terminate = self.terminate.poll_recv(task);
        if terminate.is_ready() { terminate } else { self.interrupt.poll_recv(task) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABORT_AFTER: Duration = Duration::from_secs(5);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn runs_drain_for_what_the_other_shares_leave() {
        let budget = ShutdownBudget::within(seconds(28)).readiness_delay(seconds(2));
        let shares = budget.server_timeout(seconds(4)).shares(ABORT_AFTER).unwrap();

        assert_eq!(shares.drain, seconds(28 - 2 - 5 - 5 - 4 - 2));
        assert_eq!(shares.jobs(), seconds(28 - 4 - 2));
    }

    #[test]
    fn the_least_budget_leaves_a_second_to_the_runs() {
        let least = |total| ShutdownBudget::within(total).server_timeout(seconds(1)).shares(ABORT_AFTER);

        assert_eq!(least(seconds(14)).unwrap().drain, DRAIN_MIN);
        let refused = least(Duration::from_millis(13_999)).unwrap_err().to_string();
        let sum = "0s not ready + 1s to drain + 5s from cancel to abort + 5s to end + 3s for the server";
        assert!(refused.contains("13s999ms") && refused.contains(sum), "{refused}");
        assert!(refused.contains("shutdown_abort_after"), "{refused}");
    }

    #[test]
    fn shares_of_any_length_are_refused_or_fit() {
        let lengths =
            [Duration::ZERO, Duration::from_nanos(1), seconds(60), Duration::from_hours(48), Duration::MAX];
        for total in lengths {
            for share in lengths {
                for abort_after in lengths {
                    let budget = ShutdownBudget::within(total).readiness_delay(share).server_timeout(share);
                    let Ok(shares) = budget.shares(abort_after) else { continue };
                    let Shares { readiness_delay, drain, abort_after, server, .. } = shares;
                    assert_eq!(readiness_delay + drain + abort_after + SHUTDOWN_END_MAX + server, total);
                    assert!(drain >= DRAIN_MIN);
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_second_of_the_server_counts_as_one() {
        let timeout =
            |timeout| ShutdownBudget::within(ABORT_AFTER).server_timeout(timeout).server_timeout_secs();

        assert_eq!(timeout(Duration::ZERO), 0);
        assert_eq!(timeout(Duration::from_millis(1_001)), 2);
        assert_eq!(timeout(Duration::MAX), u64::MAX);
    }
}
