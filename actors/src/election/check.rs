//! The application's own check whether its node may lead.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    FutureExt,
    future::{Either, select},
};
use tokio::sync::oneshot;

use crate::{
    candidacy::{MAY_LEAD_TIMEOUT, MayLead},
    node::Node,
};

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
