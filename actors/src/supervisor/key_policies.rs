//! How the supervisor asks and tells the store which policies this node declares for lock keys.
//!
//! [`Keys`] decides which keys are taken back, and when; [`conflicts`](crate::core::key_policies::conflicts),
//! whether the jobs of this node contradict each other. Here the pages are sent, and what comes back is
//! handed on.

use actix::prelude::*;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{Entry, SupervisorActor, enrolment::REFUSED_AGAIN};
use crate::{
    CALL_DEADLINE,
    core::{
        key_policies::{Declares, Keys, contradicted},
        policy::Fires,
    },
    definition::Definition,
    error::Fault,
    lock::{FindConflicts, RetractKeys},
    message::PAGE_MAX,
    name::{JobName, LockKey},
};

impl SupervisorActor {
    /// Says that this node declares no policy any more for keys of which it fires no job. A page that fails
    /// is asked again; meanwhile only jobs with a key that is being taken back are not enrolled.
    pub(super) fn retract(&mut self, keys: impl IntoIterator<Item = LockKey>, ctx: &mut Context<Self>) {
        if self.connected && !self.parts.able.single_node {
            self.keys.retract(keys);
            self.retract_next(ctx);
        }
    }

    /// Takes the next page back. An enrolment under way may declare one of them: it goes first.
    pub(super) fn retract_next(&mut self, ctx: &mut Context<Self>) {
        if self.enrolling.is_under_way() {
            return;
        }
        let mut keys = std::mem::take(&mut self.keys);
        let page = keys.next_page(PAGE_MAX, |keys, key| self.fires_with(keys, key));
        self.keys = keys;
        if page.is_empty() {
            return;
        }
        let retracted = self.parts.lock.send(RetractKeys(page));
        ctx.spawn(retracted.into_actor(self).map(|answer, actor, ctx| {
            let (page, held) = actor.keys.retracted();
            actor.enrolling.extend(held);
            if !matches!(answer, Ok(Ok(()))) {
                ctx.run_later(REFUSED_AGAIN, |actor, ctx| actor.retract(page, ctx));
            }
            actor.retract_next(ctx);
            actor.enrol(ctx);
        }));
    }

    /// Whether this node fires a job with this key. It is taken back when that job lets go of it.
    fn fires_with(&mut self, keys: &Keys, key: &LockKey) -> bool {
        let fired = self.with_key(keys, key).find(|entry| self.authority(entry).is_some());
        let fired = fired.map(|entry| entry.job.definition.name.clone());
        let fired = fired.and_then(|name| self.jobs.get_mut(&name));
        fired.map(|entry| entry.firing.declares()).is_some()
    }

    /// Which of the definitions other nodes contradict, as far as the store answers; its enrolment decides.
    /// Those whose key is their own name cost no question.
    pub(super) fn contradicted(&self, definitions: &[Definition]) -> Option<BoxFuture<'static, Vec<Fault>>> {
        let claimed = definitions.iter().filter(|definition| definition.policies.fires != Fires::Local);
        let sharing = claimed.map(Definition::declares).filter(Declares::shares_a_key);
        let asked: Vec<_> = sharing.map(Declares::to_declaration).collect();
        if asked.is_empty() || !self.connected || self.parts.able.single_node {
            return None;
        }
        let lock = self.parts.lock.clone();
        let found = async move {
            let mut faults = Vec::new();
            for page in asked.chunks(PAGE_MAX) {
                let Ok(Ok(conflicts)) = lock.send(FindConflicts(page.to_vec())).await else { break };
                let answers = page.iter().zip(conflicts);
                faults.extend(answers.filter_map(|(asked, declared)| Some(contradicted(asked, &declared?))));
            }
            faults
        };
        // Whoever is refused later is told by an event.
        Some(Box::pin(async move { timeout(CALL_DEADLINE, found).await.unwrap_or_default() }))
    }

    /// Another job of this node with this key. All that have it share one policy, so that one stands for all.
    pub(super) fn holder_of(&self, key: &LockKey, but: Option<&JobName>) -> Option<Declares<'_>> {
        let mut all = self.with_key(&self.keys, key).map(|entry| entry.job.definition.declares());
        all.find(|other| Some(other.job) != but)
    }

    /// The jobs of this node with this key.
    fn with_key<'a>(&'a self, keys: &'a Keys, key: &LockKey) -> impl Iterator<Item = &'a Entry> {
        let called_alike = self.jobs.get(key.as_str());
        let keyed = keys.jobs_of(key).filter_map(|name| self.jobs.get(name));
        called_alike.into_iter().chain(keyed).filter(move |entry| entry.job.definition.key == *key)
    }
}
