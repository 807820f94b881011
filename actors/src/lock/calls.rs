//! Calls to the locker: bounded in time, contained, with an answer to each request.

use std::time::Duration;

use crate::{
    CALL_DEADLINE,
    contained::{NoAnswer, contained_within},
    port::LockError,
};

pub(super) async fn call<T>(call: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
    call_within(CALL_DEADLINE, call).await
}

pub(super) async fn call_within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, LockError>>,
) -> Result<T, LockError> {
    match contained_within(deadline, call).await {
        Ok(answer) => answer,
        // Whatever it asked may have been done.
        Err(NoAnswer::Deadline | NoAnswer::Panic) => Err(LockError::Timeout),
    }
}

/// Refuses an answer that does not say something of each request: nobody may wait for one that never comes.
pub(super) fn one_each<T>(asked: usize) -> impl FnOnce(Vec<T>) -> Result<Vec<T>, LockError> {
    move |answers| if answers.len() == asked { Ok(answers) } else { Err(LockError::Timeout) }
}
