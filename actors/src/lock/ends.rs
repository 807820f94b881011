//! The ends of runs on their way to the store. What a run came to is said and counted once the store has
//! answered: it may have been closed as lost meanwhile, which whoever closed it says and counts.
//!
//! | the store answers | the run |
//! |---|---|
//! | recorded, now or before | came to what its body made of it |
//! | stale: it was closed by somebody else, or will be | is lost; this node says only that its body is over |
//! | that it knows neither the key nor the run: its tables were created again | came to what its body made of it, as nobody else knows |
//! | nothing, and the session is lost | is asked about in the next session |

use actix::prelude::*;

use super::actor::{Held, LockActor};
use crate::{
    definition::Definition,
    event::Outcome,
    job::{AsksWait, RecordEnd},
    name::RunId,
    port::Completion,
};

impl LockActor {
    /// Takes an end in, unless the session that granted the run is lost, and with it the right to complete:
    /// then it is lost.
    pub(super) fn take_conclusion(&mut self, RecordEnd { conclusion, from_completion }: RecordEnd) {
        let Some((run, outcome)) = conclusion.run() else { return };
        if let Some(held) = self.held.get_mut(&run) {
            held.ended = Some(Box::new((conclusion, from_completion)));
            let completion = held.completion(run, outcome, from_completion);
            self.take_end(completion);
        }
    }

    /// What the store has granted, in this session, or in a former one in which the end of the run got no
    /// answer.
    pub(super) fn held(&mut self, run: RunId) -> Option<&mut Held> {
        match self.held.contains_key(&run) {
            true => self.held.get_mut(&run),
            false => self.unanswered.get_mut(&run),
        }
    }

    /// The same, for the last time.
    pub(super) fn let_go(&mut self, run: RunId) -> Option<Held> {
        self.held.remove(&run).or_else(|| self.unanswered.remove(&run))
    }

    /// Asks once more for the ends that got no answer in former sessions.
    pub(super) fn ask_unanswered(&mut self, ctx: &mut Context<Self>) {
        let unanswered = self.unanswered.iter().filter_map(|(run, held)| {
            let (conclusion, from_completion) = held.ended.as_deref()?;
            Some(held.completion(*run, conclusion.run()?.1, *from_completion))
        });
        let mut unanswered: Vec<_> = unanswered.collect();
        if unanswered.is_empty() {
            return;
        }
        unanswered.sort_unstable_by_key(|end| end.run);
        self.ends.extend(unanswered);
        ctx.notify(AsksWait);
    }
}

impl Held {
    pub(super) fn completion(&self, run: RunId, outcome: Outcome, from_completion: bool) -> Completion {
        let Definition { name, policies, .. } = &*self.job.definition;
        let end = Completion::new(name.clone(), self.key.clone(), run, self.token, outcome);
        Completion { pause_after: policies.pause_after, from_completion, ..end }
    }
}
