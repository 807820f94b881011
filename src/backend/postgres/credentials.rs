//! Credentials that the application is asked for, each time that a connection is made.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use callsheet_actors::core::text::bounded;
use futures_util::future::BoxFuture;
use tokio::{runtime, sync::Semaphore, task::spawn_blocking, time::timeout};

use super::failure::{MESSAGE_MAX, causes};

/// How long the application may take to answer: an opening, which has 4.5 s, may ask twice and still has to
/// connect.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_millis(1_500);

type Cause = Box<dyn StdError + Send + Sync>;

/// Code of the application that answers a secret.
#[derive(Clone)]
pub(super) struct Callback {
    /// The option that it was given to.
    option: &'static str,
    ask: Arc<dyn Fn() -> BoxFuture<'static, Result<String, Cause>> + Send + Sync>,
    /// Held by the question under way, also if nobody waits for its answer any more.
    free: Arc<Semaphore>,
}

impl Callback {
    pub(super) fn new<F, A, E>(option: &'static str, callback: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Cause>,
    {
        let ask = move || -> BoxFuture<'static, Result<String, Cause>> {
            let answer = callback();
            Box::pin(async move { answer.await.map_err(Into::into) })
        };
        Self { option, ask: Arc::new(ask), free: Arc::new(Semaphore::new(1)) }
    }

    /// What the callback answers, or why it does not.
    pub(super) async fn ask(&self) -> Result<String, String> {
        let option = self.option;
        let asked = async {
            // One at a time: a callback that blocks holds one thread, however often it is asked.
            let turn = self.free.clone().acquire_owned().await.map_err(|_| "it was closed".to_owned())?;
            let (ask, runtime) = (self.ask.clone(), runtime::Handle::current());
            // A thread of its own: on this one it could stall heartbeats, and its panic would end them.
            let answer = spawn_blocking(move || {
                let _turn = turn;
                // Not longer than anybody waits for it: the runtime does not end before this thread does.
                runtime.block_on(async move { timeout(ASK_TIMEOUT, ask()).await })
            });
            match answer.await {
                // Files end with a line break.
                Ok(Ok(Ok(secret))) => Ok(secret.trim_end_matches(['\r', '\n']).to_owned()),
                Ok(Err(_)) => Err(self.silent()),
                Ok(Ok(Err(error))) => {
                    let error: &(dyn StdError + 'static) = &*error;
                    let texts: Vec<_> = causes(error).map(ToString::to_string).collect();
                    Err(format!(
                        "the callback of `{option}` failed: {}",
                        bounded(texts.join(": "), MESSAGE_MAX)
                    ))
                }
                // The message of the panic is on the standard error; it may hold a secret.
                Err(_) => Err(format!("the callback of `{option}` panicked; mend it")),
            }
        };
        timeout(ASK_TIMEOUT, asked).await.unwrap_or_else(|_| Err(self.silent()))
    }

    fn silent(&self) -> String {
        let option = self.option;
        format!(
            "the callback of `{option}` did not answer within {ASK_TIMEOUT:?}; let it keep what it answers at hand"
        )
    }

    /// What to check when the server does not take an answer.
    pub(super) fn cure(&self) -> String {
        format!("check what the callback of `{}` answers; it is asked again for each connection", self.option)
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Callback").field(&self.option).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        io,
        sync::mpsc,
    };

    use super::*;

    async fn reason(callback: &Callback) -> String {
        callback.ask().await.expect_err("it does not answer")
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_with_its_causes() {
        let fails = Callback::new("password_from", async || {
            Err::<String, _>(io::Error::other("the vault is sealed"))
        });

        assert_eq!(reason(&fails).await, "the callback of `password_from` failed: the vault is sealed");
    }

    #[tokio::test]
    async fn a_panic_is_contained_and_what_it_says_is_not_shown() {
        let panics_late = Callback::new("password_from", async || -> Result<String, io::Error> {
            panic!("s3cret");
        });
        let panics = Callback::new("password_from", || -> std::future::Ready<Result<String, io::Error>> {
            panic!("s3cret");
        });

        for callback in [panics, panics_late] {
            assert_eq!(reason(&callback).await, "the callback of `password_from` panicked; mend it");
        }
    }

    #[tokio::test]
    async fn a_callback_without_an_answer_has_a_deadline() {
        let silent = Callback::new("url_from", pending::<Result<String, io::Error>>);

        assert!(reason(&silent).await.starts_with("the callback of `url_from` did not answer within 1.5s"));
    }

    #[tokio::test]
    async fn a_callback_that_blocks_holds_one_thread_and_is_asked_again_later() {
        let (go, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(Some(wait));
        let blocks = Callback::new("url_from", move || {
            let first = wait.lock().expect("nobody panicked").take();
            // An error: the test has let it go.
            let _ = first.map(|wait| wait.recv());
            ready(Ok::<_, io::Error>("an answer".to_owned()))
        });

        assert!(reason(&blocks).await.contains("did not answer"));
        assert!(reason(&blocks).await.contains("did not answer"), "the second was not asked meanwhile");
        drop(go);
        assert_eq!(blocks.ask().await, Ok("an answer".to_owned()));
    }
}
