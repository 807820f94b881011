//! A connection that makes one call at a time: made when it is needed, made again when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{DurationText, adapter::Backoff, port::RecordsError};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    sync::oneshot,
    time::{Instant, error::Elapsed, timeout_at},
};

/// The pauses between attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How connections are made and given up.
pub(in crate::backend) trait Driver: Send + Sync + 'static {
    /// A connection to a server that is of use.
    type Connection: Send + 'static;

    /// Connects, within a deadline of its own.
    fn connect(&self) -> BoxFuture<'_, Result<Self::Connection, RecordsError>>;

    /// Whether it is of no use any more.
    fn is_over(connection: &Self::Connection) -> bool;

    /// Closes it at once, whatever it waits for: the server rolls back what was not committed.
    fn discard(connection: Self::Connection);
}

/// How a call failed.
#[derive(Debug)]
pub(in crate::backend) enum Failure {
    /// The server answered, nothing was done, and the connection is as before.
    Answered(RecordsError),
    /// The same, and this server has ceased to be the one to ask.
    Elsewhere(RecordsError),
    /// It is unknown whether what was asked was done.
    Broken,
}

/// The way to the server for calls that are made one after the other.
pub(in crate::backend) struct Lane<D: Driver> {
    driver: Arc<D>,
    deadline: Duration,
    /// Whose turn it is.
    turn: tokio::sync::Mutex<()>,
    state: Arc<Mutex<State<D>>>,
}

/// What an attempt to connect came to, once it has ended.
type Attempt = Shared<oneshot::Receiver<Result<(), RecordsError>>>;

struct State<D: Driver> {
    idle: Option<D::Connection>,
    /// An attempt that is under way, also if nobody waits for it any more.
    attempt: Option<Attempt>,
    /// Why the last one failed, and until when there is no other.
    failed: Option<(Instant, RecordsError)>,
    backoff: Backoff,
}

/// A connection that makes a call. It is discarded unless the call [ends](Self::end) in order: nobody knows what it
/// waits for.
pub(in crate::backend) struct Turn<'a, D: Driver> {
    lane: &'a Lane<D>,
    connection: Option<D::Connection>,
    deadline: Instant,
    /// The others wait for it.
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl<D: Driver> Drop for Turn<'_, D> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            D::discard(connection);
        }
    }
}

impl<D: Driver> Turn<'_, D> {
    /// Until when the call may take.
    pub(in crate::backend) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(in crate::backend) fn connection(&mut self) -> Result<&mut D::Connection, RecordsError> {
        self.connection.as_mut().ok_or(RecordsError::Timeout)
    }

    /// Ends the call with what became of it until its deadline.
    pub(in crate::backend) fn end<T>(
        mut self,
        answer: Result<Result<T, Failure>, Elapsed>,
    ) -> Result<T, RecordsError> {
        match answer {
            Ok(Ok(answer)) => {
                self.give_back();
                Ok(answer)
            }
            Ok(Err(Failure::Answered(error))) => {
                self.give_back();
                Err(error)
            }
            Ok(Err(Failure::Elsewhere(error))) => Err(error),
            // What was asked may be done all the same.
            Ok(Err(Failure::Broken)) | Err(_) => Err(RecordsError::Timeout),
        }
    }

    fn give_back(&mut self) {
        let connection = self.connection.take().filter(|connection| !D::is_over(connection));
        self.lane.state().idle = connection;
    }
}

impl<D: Driver> Lane<D> {
    pub(in crate::backend) fn new(driver: Arc<D>, deadline: Duration, seed: u64) -> Self {
        let backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, seed);
        let state = State { idle: None, attempt: None, failed: None, backoff };
        Self { driver, deadline, turn: tokio::sync::Mutex::default(), state: Arc::new(Mutex::new(state)) }
    }

    /// Begins a call, once those before it have ended. Nothing was asked yet if this fails.
    pub(in crate::backend) async fn turn(&self) -> Result<Turn<'_, D>, RecordsError> {
        let deadline = Instant::now() + self.deadline;
        let Ok(turn) = timeout_at(deadline, self.turn.lock()).await else {
            return Err(self.late("the calls before it took"));
        };
        let Ok(connection) = timeout_at(deadline, self.connection()).await else {
            return Err(self.late("no connection was made within"));
        };
        Ok(Turn { lane: self, connection: Some(connection?), deadline, _turn: turn })
    }

    fn late(&self, what: &str) -> RecordsError {
        let allowed = DurationText(self.deadline);
        RecordsError::Unavailable {
            reason: format!(
                "{what} {allowed}; check whether the server runs, and whether it or the network is slow"
            ),
        }
    }

    async fn connection(&self) -> Result<D::Connection, RecordsError> {
        loop {
            let (attempt, is_own) = {
                let mut state = self.state();
                let idle = state.idle.take();
                if let Some(idle) = idle.filter(|idle| !D::is_over(idle)) {
                    return Ok(idle);
                }
                match (&state.attempt, &state.failed) {
                    (Some(attempt), _) => (attempt.clone(), false),
                    (None, Some((until, error))) if Instant::now() < *until => return Err(error.clone()),
                    (None, _) => (state.attempt.insert(self.attempt()).clone(), true),
                }
            };
            match attempt.clone().await {
                Ok(connected) => connected?,
                Err(_) => self.abandon(&attempt, is_own),
            }
        }
    }

    /// Forgets an attempt whose task has ended without a word: it panicked, or its runtime has ended. One that this
    /// call has begun counts as a failure, and is followed by a pause.
    fn abandon(&self, attempt: &Attempt, is_own: bool) {
        let mut state = self.state();
        if state.attempt.as_ref().is_some_and(|current| current.ptr_eq(attempt)) {
            state.attempt = None;
        }
        if is_own {
            let pause = state.backoff.failed();
            state.failed = Some((Instant::now() + pause, gone()));
        }
    }

    /// Connects on a task of its own: whoever waits has a deadline, and may go.
    fn attempt(&self) -> Attempt {
        let (made, receiver) = oneshot::channel();
        let (driver, state) = (self.driver.clone(), self.state.clone());
        tokio::spawn(async move {
            let connected = driver.connect().await;
            let mut state = lock(&state);
            state.attempt = None;
            let told = match connected {
                Ok(connection) => {
                    state.idle = Some(connection);
                    state.failed = None;
                    state.backoff.succeeded();
                    Ok(())
                }
                Err(error) => {
                    let pause = state.backoff.failed();
                    state.failed = Some((Instant::now() + pause, error.clone()));
                    Err(error)
                }
            };
            drop(state);
            // An error: nobody waits any more.
            let _ = made.send(told);
        });
        receiver.shared()
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        lock(&self.state)
    }
}

fn gone() -> RecordsError {
    let reason =
        "the task that connected panicked, or its runtime has ended; look at the log of this process";
    RecordsError::Unavailable { reason: reason.to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Connections that count how many are open.
    #[derive(Default)]
    struct Counted {
        made: AtomicUsize,
        fails: AtomicUsize,
        panics: AtomicUsize,
    }

    struct Connection(usize);

    impl Driver for Counted {
        type Connection = Connection;

        fn connect(&self) -> BoxFuture<'_, Result<Connection, RecordsError>> {
            async {
                let made = self.made.fetch_add(1, Ordering::SeqCst) + 1;
                if self.panics.load(Ordering::SeqCst) > 0 {
                    self.panics.fetch_sub(1, Ordering::SeqCst);
                    panic!("a driver that panics");
                }
                if self.fails.load(Ordering::SeqCst) > 0 {
                    self.fails.fetch_sub(1, Ordering::SeqCst);
                    return Err(RecordsError::Unavailable { reason: "nobody".to_owned() });
                }
                Ok(Connection(made))
            }
            .boxed()
        }

        fn is_over(_: &Connection) -> bool {
            false
        }

        fn discard(_: Connection) {}
    }

    fn lane() -> Lane<Counted> {
        Lane::new(Arc::default(), SECOND, 1)
    }

    async fn which(lane: &Lane<Counted>) -> Result<usize, RecordsError> {
        let mut turn = lane.turn().await?;
        let made = turn.connection()?.0;
        turn.end(Ok(Ok(made)))
    }

    /// A call that ends so.
    async fn call(
        lane: &Lane<Counted>,
        answer: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), RecordsError> {
        let turn = lane.turn().await?;
        let answer = timeout_at(turn.deadline(), answer).await;
        turn.end(answer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_serves_call_after_call() {
        let lane = lane();

        assert_eq!([which(&lane).await, which(&lane).await], [Ok(1), Ok(1)]);
        let refused = RecordsError::NotDone { reason: "no".to_owned() };
        let answered = call(&lane, ready(Err(Failure::Answered(refused.clone())))).await;
        assert_eq!(answered, Err(refused));
        assert_eq!(which(&lane).await, Ok(1), "an answer does no harm to it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_which_nobody_knows_what_it_waits_for_is_discarded() {
        let lane = lane();
        assert_eq!(which(&lane).await, Ok(1));

        let late = call(&lane, pending()).await;
        assert_eq!(late, Err(RecordsError::Timeout));
        assert_eq!(which(&lane).await, Ok(2), "after a deadline");

        let dropped = call(&lane, pending()).now_or_never();
        assert!(dropped.is_none());
        assert_eq!(which(&lane).await, Ok(3), "after a call that was dropped");

        let broken = call(&lane, ready(Err(Failure::Broken))).await;
        assert_eq!(broken, Err(RecordsError::Timeout));
        assert_eq!(which(&lane).await, Ok(4), "after an error of the connection");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_a_long_call_hears_that_nothing_was_done() {
        let lane = Arc::new(lane());
        let slow = lane.clone();
        let first = tokio::spawn(async move {
            let _ = call(&slow, pending()).await;
        });
        tokio::task::yield_now().await;

        let second = which(&lane).await;

        // At the same instant the first one is given up, and either may come first.
        assert!(matches!(second, Ok(2) | Err(RecordsError::Unavailable { .. })), "{second:?}");
        first.await.expect("it ends");
        assert_eq!(which(&lane).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_panics_fails_its_call_and_blocks_no_other() {
        let lane = lane();
        lane.driver.panics.store(1, Ordering::SeqCst);

        assert_eq!(which(&lane).await, Err(gone()));
        tokio::time::sleep(PAUSE_MAX).await;
        assert_eq!(which(&lane).await, Ok(2));
    }

    #[test]
    fn an_attempt_whose_runtime_has_ended_is_made_again_at_once() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let lane = lane();
        // It is begun, and its runtime ends before it does anything.
        runtime().block_on(async { assert!(lane.connection().now_or_never().is_none()) });

        let made = runtime().block_on(which(&lane));
        assert_eq!(made, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_there_is_a_pause_in_which_its_reason_is_told() {
        let lane = lane();
        lane.driver.fails.store(2, Ordering::SeqCst);

        for _ in 0..5 {
            assert!(matches!(which(&lane).await, Err(RecordsError::Unavailable { .. })));
        }
        assert_eq!(lane.driver.made.load(Ordering::SeqCst), 1, "one attempt, and its reason");
        tokio::time::sleep(PAUSE_MAX).await;
        assert!(which(&lane).await.is_err());
        tokio::time::sleep(PAUSE_MAX).await;
        assert_eq!(which(&lane).await, Ok(3));
    }
}
