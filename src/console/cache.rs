//! Answers that are kept for a moment, for all who ask the same.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::problem::Problem;

/// For how long a question waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(5);
/// How many answers are kept.
const KEPT_MAX: usize = 16;

/// Waits until it is one's turn to ask what costs much.
pub(crate) async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    let turn = timeout(TURN_MAX, turns.acquire()).await;
    let turn = turn.map_err(|_| Problem::too_many("others ask what costs much"))?;
    turn.map_err(|_| Problem::internal("nobody gets a turn any more"))
}

/// Some answers, each to its question.
pub(crate) struct Cache<K, V> {
    kept: Mutex<VecDeque<(K, Instant, V)>>,
    /// One answer is made at a time.
    making: tokio::sync::Mutex<()>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { kept: Mutex::default(), making: tokio::sync::Mutex::default() }
    }
}

impl<K: PartialEq, V: Clone> Cache<K, V> {
    fn recent(&self, key: &K, age_max: Duration) -> Option<V> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(other, made_at, _)| other == key && made_at.elapsed() < age_max);
        found.map(|(_, _, answer)| answer.clone())
    }

    /// The answer that was kept, unless it is too old: then another one, which is kept if it is no error.
    pub(crate) async fn get<E>(
        &self,
        key: K,
        age_max: Duration,
        make: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(recent) = self.recent(&key, age_max) {
            return Ok(recent);
        }
        let _one = self.making.lock().await;
        if let Some(recent) = self.recent(&key, age_max) {
            return Ok(recent);
        }
        self.make(key, make).await
    }

    /// The same, where making one costs much: in its turn.
    pub(crate) async fn get_in_turn(
        &self,
        turns: &Semaphore,
        key: K,
        age_max: Duration,
        make: impl AsyncFnOnce() -> Result<V, Problem>,
    ) -> Result<V, Problem> {
        if let Some(recent) = self.recent(&key, age_max) {
            return Ok(recent);
        }
        let _turn = turn(turns).await?;
        if let Some(recent) = self.recent(&key, age_max) {
            return Ok(recent);
        }
        self.make(key, make).await
    }

    async fn make<E>(&self, key: K, make: impl AsyncFnOnce() -> Result<V, E>) -> Result<V, E> {
        let made_at = Instant::now();
        let answer = make().await?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(other, ..)| *other != key);
        kept.truncate(KEPT_MAX - 1);
        kept.push_front((key, made_at, answer.clone()));
        Ok(answer)
    }
}
