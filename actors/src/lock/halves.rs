//! Asks for a page of items of which the store may refuse some for their data.

use tokio::time::{Instant, sleep_until};

use crate::{core::bisect::Bisect, port::LockError};

/// Asks for all items in one call; if that is refused for its data, for the halves, until the bad items stand
/// alone. Answers one for each, in order: an error is what the store says of one that it refuses.
///
/// # Errors
///
/// Of the first call that failed otherwise. Some may have been done.
pub(super) async fn in_halves<T: Clone, A>(
    items: &[T],
    ask: impl AsyncFn(&[T]) -> Result<Vec<A>, LockError>,
) -> Result<Vec<Result<A, String>>, LockError> {
    match ask(items).await {
        Err(LockError::BadData { reason }) => find_bad(items, reason, ask).await,
        answers => Ok(answers?.into_iter().map(Ok).collect()),
    }
}

async fn find_bad<T: Clone, A>(
    items: &[T],
    mut reason: String,
    ask: impl AsyncFn(&[T]) -> Result<Vec<A>, LockError>,
) -> Result<Vec<Result<A, String>>, LockError> {
    let started_at = Instant::now();
    let mut answers: Vec<Option<Result<A, String>>> = items.iter().map(|_| None).collect();
    let mut suspects = Bisect::default();
    let mut refused: Vec<usize> = (0..items.len()).collect();
    loop {
        if let Some(bad) = suspects.refused(started_at.elapsed(), refused) {
            answers[bad] = Some(Err(reason));
        }
        refused = loop {
            let Some(at) = suspects.wake_at() else {
                // Each was asked once.
                return answers.into_iter().collect::<Option<_>>().ok_or(LockError::Timeout);
            };
            sleep_until(started_at + at).await;
            let Some(group) = suspects.take(started_at.elapsed()) else { continue };
            let asked: Vec<T> = group.iter().map(|at| items[*at].clone()).collect();
            match ask(&asked).await {
                Err(LockError::BadData { reason: of_group }) => {
                    reason = of_group;
                    break group;
                }
                done => group.into_iter().zip(done?).for_each(|(at, answer)| answers[at] = Some(Ok(answer))),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn on_a_paused_clock(story: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(story);
    }

    #[test]
    fn bad_items_stand_alone_and_the_others_are_done_once() {
        on_a_paused_clock(async {
            let done = Mutex::new(Vec::new());
            let items: Vec<u32> = (0..1_000).collect();
            let started_at = Instant::now();

            let answers = in_halves(&items, async |page| {
                if let Some(bad) = page.iter().find(|item| [17, 900].contains(*item)) {
                    return Err(LockError::BadData { reason: format!("{bad} is bad") });
                }
                done.lock().unwrap().extend_from_slice(page);
                Ok(page.to_vec())
            });

            for (at, answer) in answers.await.expect("answers").into_iter().enumerate() {
                let item = items[at];
                let bad = [17, 900].contains(&item);
                assert_eq!(answer, if bad { Err(format!("{item} is bad")) } else { Ok(item) });
            }
            let done = done.into_inner().unwrap();
            assert_eq!(done.len(), 998, "each once");
            assert!(started_at.elapsed().as_secs() < 5, "{:?}", started_at.elapsed());
        });
    }

    #[test]
    fn what_fails_otherwise_ends_it() {
        on_a_paused_clock(async {
            let answers = in_halves(&[1, 2], async |page: &[u32]| match page {
                [_, _] => Err(LockError::BadData { reason: "one of them".to_owned() }),
                _ => Err::<Vec<()>, _>(LockError::Timeout),
            });

            assert!(matches!(answers.await, Err(LockError::Timeout)));
        });
    }
}
