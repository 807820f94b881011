//! Credentials that the application is asked for, each time that a connection is made.

use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::adapter::bounded;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{runtime, sync::oneshot, task::spawn_blocking, time::timeout};

use super::failure::{MESSAGE_MAX, causes};

/// How long the application may take to answer: an opening, which has 4.5 s, may ask twice and still has to
/// connect.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_millis(1_500);

type Cause = Box<dyn StdError + Send + Sync>;

/// A secret, or why there is none.
type Answer = Result<String, String>;

/// An error: the callback panicked.
type Question = Shared<oneshot::Receiver<Answer>>;

/// Code of the application that answers a secret.
#[derive(Clone)]
pub(in crate::backend) struct Callback {
    /// The option that it was given to.
    option: &'static str,
    ask: Arc<dyn Fn() -> BoxFuture<'static, Result<String, Cause>> + Send + Sync>,
    /// Also if nobody waits for its answer any more.
    under_way: Arc<Mutex<Option<Question>>>,
}

/// A question under way. Whoever asks after its end asks again, also if it panicked.
struct Asking(Callback);

impl Drop for Asking {
    fn drop(&mut self) {
        *self.0.under_way() = None;
    }
}

impl Callback {
    pub(in crate::backend) fn new<F, A, E>(option: &'static str, callback: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Cause>,
    {
        let ask = move || -> BoxFuture<'static, Result<String, Cause>> {
            let answer = callback();
            Box::pin(async move { answer.await.map_err(Into::into) })
        };
        Self { option, ask: Arc::new(ask), under_way: Arc::default() }
    }

    /// What the callback answers, or why it does not. Those who ask while a question is under way share its
    /// answer: nobody waits for the questions of others, and a callback that blocks holds one thread, however
    /// often it is asked.
    pub(super) async fn ask(&self) -> Answer {
        match timeout(ASK_TIMEOUT, self.question()).await {
            Ok(Ok(answer)) => answer,
            // The message of the panic is on the standard error; it may contain a secret.
            Ok(Err(_)) => Err(format!("the callback of `{}` panicked; mend it", self.option)),
            Err(_) => Err(self.silent()),
        }
    }

    /// The question under way, or a new one.
    fn question(&self) -> Question {
        let runtime = runtime::Handle::current();
        let mut under_way = self.under_way();
        if let Some(question) = &*under_way {
            return question.clone();
        }
        let (answered, answer) = oneshot::channel();
        let question = under_way.insert(answer.shared()).clone();
        drop(under_way);
        let asking = Asking(self.clone());
        // A thread of its own: on this one it could stall heartbeats, and its panic would end them.
        spawn_blocking(move || {
            let answer = {
                let asking = asking;
                runtime.block_on(asking.0.answer())
            };
            // An error: nobody waits any more.
            let _ = answered.send(answer);
        });
        question
    }

    /// What the callback answers in time: the runtime does not end before the thread of the question does.
    async fn answer(&self) -> Answer {
        match timeout(ASK_TIMEOUT, (self.ask)()).await {
            // Files end with a line break.
            Ok(Ok(secret)) => Ok(secret.trim_end_matches(['\r', '\n']).to_owned()),
            Ok(Err(error)) => {
                let error: &(dyn StdError + 'static) = &*error;
                let texts: Vec<_> = causes(error).map(ToString::to_string).collect();
                let texts = bounded(texts.join(": "), MESSAGE_MAX);
                Err(format!("the callback of `{}` failed: {texts}", self.option))
            }
            Err(_) => Err(self.silent()),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, Option<Question>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> String {
        let option = self.option;
        format!(
            "the callback of `{option}` did not answer within {ASK_TIMEOUT:?}; let it keep its answer ready"
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
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
    };

    use tokio::sync::Semaphore;

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

    #[tokio::test]
    async fn those_who_ask_at_the_same_time_share_an_answer() {
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, opened) = (asked.clone(), gate.clone());
        let slow = Callback::new("password_from", move || {
            let nth = counted.fetch_add(1, Ordering::Relaxed);
            let opened = opened.clone();
            async move {
                drop(opened.acquire().await);
                Ok::<_, io::Error>(format!("answer {nth}"))
            }
        });

        let (one, two, three, ()) =
            tokio::join!(slow.ask(), slow.ask(), slow.ask(), async { gate.add_permits(1) });

        for answer in [one, two, three] {
            assert_eq!(answer, Ok("answer 0".to_owned()));
        }
        assert_eq!(slow.ask().await, Ok("answer 1".to_owned()), "later it is asked anew");
    }
}
