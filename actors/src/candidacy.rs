//! Whether a node stands as a candidate for the lead: what the application says to it, and whether bodies
//! start.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, select},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{event::StepDownReason, node::Node, starts::BodyThreads};

/// How long the application's own check may take. What takes longer counts as a no.
pub const MAY_LEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node that was asked to resign does not campaign, unless told otherwise.
pub const RESIGN_PAUSE_DEFAULT: Duration = Duration::from_secs(30);
/// The shortest such time.
pub const RESIGN_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Whether a node stands as a candidate for the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Candidacy {
    /// It leads, or leads as soon as nobody else does.
    Stands,
    /// It [prefers not to lead](crate::EngineOptions::prefer_not_to_lead), and does so only while nobody else
    /// stands.
    Reluctant,
    /// It does not campaign at present.
    Withdrawn {
        /// Why: [`Refused`](StepDownReason::Refused), [`Requested`](StepDownReason::Requested),
        /// [`Yielded`](StepDownReason::Yielded) or [`BodiesBlocked`](StepDownReason::BodiesBlocked).
        why: StepDownReason,
        /// The same in words.
        reason: Arc<str>,
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// The application's own check whether a node may lead.
#[derive(Clone)]
pub struct MayLead(Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>);

impl MayLead {
    /// Asks `check`, which runs where bodies run.
    pub fn new<F, Fut>(check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self(Arc::new(move || check().boxed()))
    }
}

impl fmt::Debug for MayLead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MayLead")
    }
}

const SAYS_NO: &str = "the application says that this node may not lead";
const NO_ANSWER: &str = "the application's check whether this node may lead does not answer";
const PANICKED: &str = "the application's check whether this node may lead panicked; see the log";

/// Asks the application, one question at a time.
pub(crate) struct Check {
    may_lead: MayLead,
    under_way: Arc<AtomicBool>,
}

/// A question under way. Dropped, it is over.
struct Question(Arc<AtomicBool>);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Check {
    pub(crate) fn new(may_lead: MayLead) -> Self {
        Self { may_lead, under_way: Arc::default() }
    }

    /// Whether the node may lead, and if not, why.
    pub(crate) fn ask(&self, node: &Arc<Node>) -> impl Future<Output = Result<(), &'static str>> + use<> {
        // What blocks its thread is not asked again before it has returned.
        let free = !self.under_way.swap(true, Ordering::AcqRel);
        let answer = free.then(|| {
            let question = Question(self.under_way.clone());
            let may_lead = self.may_lead.0.clone();
            let (reply, answer) = oneshot::channel();
            let work = async move {
                let answer = match catch_unwind(AssertUnwindSafe(|| may_lead())) {
                    Ok(asked) => AssertUnwindSafe(asked).catch_unwind().await,
                    Err(payload) => Err(payload),
                };
                drop(question);
                // Whoever asked may have given up.
                let _ = reply.send(answer.map_err(|_| PANICKED));
            };
            node.spawner.spawn(work.boxed());
            answer
        });
        let deadline = node.sleep(MAY_LEAD_TIMEOUT);
        async move {
            let Some(answer) = answer else { return Err(NO_ANSWER) };
            match select(answer, Box::pin(deadline)).await {
                Either::Left((Ok(Ok(true)), _)) => Ok(()),
                Either::Left((Ok(Ok(false)), _)) => Err(SAYS_NO),
                Either::Left((Ok(Err(panicked)), _)) => Err(panicked),
                // Its runtime dropped it.
                Either::Left((Err(_), _)) | Either::Right(_) => Err(NO_ANSWER),
            }
        }
    }
}

/// Since when the threads of bodies have been asked without an answer, by the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct BodyWatch(Arc<Mutex<Option<Duration>>>);

/// A task that says, when it is polled or dropped, that tasks start.
struct Started(Arc<Mutex<Option<Duration>>>);

impl Drop for Started {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl BodyWatch {
    /// For how long no ordinary body has started, as far as was asked. Asks, if nobody has.
    fn silence(&self, node: &Node) -> Duration {
        let now = node.clock.elapsed();
        let mut asked_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked_at) = *asked_at {
            return now.saturating_sub(asked_at);
        }
        *asked_at = Some(now);
        drop(asked_at);
        let started = Started(self.0.clone());
        node.spawner.spawn(async move { drop(started) }.boxed());
        Duration::ZERO
    }

    /// For how long no body has started, on threads of each kind.
    pub(crate) fn silences(&self, node: &Node) -> [(BodyThreads, Duration); 3] {
        let [blocking, local] = node.own_threads.silences(node.clock.elapsed());
        [(BodyThreads::Body, self.silence(node)), blocking, local]
    }

    /// The longest of them.
    pub(crate) fn longest_silence(&self, node: &Node) -> Duration {
        self.silences(node).map(|(_, silence)| silence).into_iter().max().unwrap_or_default()
    }
}
