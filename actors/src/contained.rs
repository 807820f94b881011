//! Calls into code that may panic, contained; those into adapters are bounded in time as well.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;

use crate::CALL_DEADLINE;

/// Why a call brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Deadline,
    Panic,
}

impl NoAnswer {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "the store did not answer within the deadline",
            Self::Panic => "the store's adapter panicked; see the log",
        }
    }
}

/// Waits for a call into an adapter. Whether it was done is unknown if there is no answer.
pub(crate) async fn contained<T>(call: impl Future<Output = T>) -> Result<T, NoAnswer> {
    contained_within(CALL_DEADLINE, call).await
}

/// Waits no longer than this for a call into an adapter.
pub(crate) async fn contained_within<T>(
    deadline: Duration,
    call: impl Future<Output = T>,
) -> Result<T, NoAnswer> {
    timeout(deadline, caught(call)).await.unwrap_or(Err(NoAnswer::Deadline))
}

/// A call into an adapter that takes its time. Its panics harm nobody, neither when it is made nor when it is
/// dropped: whoever gives it up, or cancels it, is an actor that would die of them.
pub(crate) fn caught<F: Future>(call: F) -> Caught<F> {
    Caught(Some(Box::pin(call)))
}

/// See [`caught`].
pub(crate) struct Caught<F>(Option<Pin<Box<F>>>);

impl<F> Caught<F> {
    fn give_up(&mut self) {
        let Some(call) = self.0.take() else { return };
        if unharmed(|| drop(call)).is_none() {
            tracing::error!(target: "callsheet", "the store's adapter panicked over a call that was dropped");
        }
    }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, NoAnswer>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        // It has answered, and nobody may ask again.
        let Some(call) = &mut self.0 else { return Poll::Pending };
        let answer = match unharmed(|| call.as_mut().poll(task)) {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(answer)) => Ok(answer),
            None => Err(NoAnswer::Panic),
        };
        self.give_up();
        Poll::Ready(answer)
    }
}

impl<F> Drop for Caught<F> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Calls something of which a panic is to harm nobody, not even by what it carries. `None`: it panicked.
pub(crate) fn unharmed<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(carried) => {
            if let Err(carried) = catch_unwind(AssertUnwindSafe(|| drop(carried))) {
                // It panics as often as it is dropped, for all that is known.
                mem::forget(carried);
            }
            None
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use std::{future::pending, panic::resume_unwind};

    use futures_util::FutureExt;

    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            resume_unwind(Box::new("dropped"));
        }
    }

    /// Answers at once, and panics when it is dropped.
    struct Answers(PanicsWhenDropped);

    impl Future for Answers {
        type Output = u8;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
            Poll::Ready(7)
        }
    }

    #[test]
    fn a_panic_over_what_is_left_of_a_call_takes_no_answer_away() {
        assert_eq!(caught(Answers(PanicsWhenDropped)).now_or_never(), Some(Ok(7)));
    }

    #[test]
    fn a_call_that_is_dropped_panics_on_nobody() {
        let call = || async {
            let _panics = PanicsWhenDropped;
            pending::<()>().await;
        };

        assert_eq!(caught(call()).now_or_never(), None);
        drop(caught(call()));
    }

    #[test]
    fn a_panic_harms_nobody_by_what_it_carries() {
        struct Carries(u8);
        impl Drop for Carries {
            fn drop(&mut self) {
                if let Some(less) = self.0.checked_sub(1) {
                    resume_unwind(Box::new(Carries(less)));
                }
            }
        }

        for depth in 0..4 {
            assert_eq!(unharmed(|| resume_unwind(Box::new(Carries(depth)))), None::<()>);
        }
        assert_eq!(unharmed(|| 7), Some(7));
    }

    #[test]
    fn a_call_that_panics_has_no_answer() {
        let call = async {
            if true {
                resume_unwind(Box::new("called"));
            }
        };

        assert_eq!(caught(call).now_or_never(), Some(Err(NoAnswer::Panic)));
    }
}
