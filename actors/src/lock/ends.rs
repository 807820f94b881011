//! The ends of runs on their way to the store. What a run came to is published and counted once the store has
//! answered: it may have been closed as lost meanwhile, which whoever closed it publishes and counts.
//!
//! | the store answers | the run |
//! |---|---|
//! | recorded, now or before | came to what its body made of it |
//! | stale: it was closed by somebody else, or will be | is lost; this node says only that its body is over |
//! | that it knows neither the key nor the run: its tables were created again | came to what its body made of it, as nobody else knows |
//! | nothing, and the session is lost | is asked about in the next session |

use actix::prelude::*;

use super::{actor::LockActor, holdings::Held};
use crate::{
    job::{AsksWait, RecordEnd},
    name::RunId,
};

impl LockActor {
    /// Takes an end in, unless the session that granted the run is lost, and with it the right to complete:
    /// then it is lost.
    pub(super) fn take_conclusion(&mut self, RecordEnd { conclusion, from_completion }: RecordEnd) {
        let Some((run, outcome)) = conclusion.run() else { return };
        let mut ended = Some(Box::new((conclusion, from_completion)));
        let completion = self.held.with(run, |held| {
            held.ended = ended.take();
            held.completion(run, outcome, from_completion)
        });
        if let Some(completion) = completion {
            self.take_end(completion);
        }
    }

    /// What the store has granted, in this session, or in a former one in which the end of the run got no
    /// answer.
    pub(super) fn with_held<T>(&mut self, run: RunId, look: impl Fn(&mut Held) -> T) -> Option<T> {
        self.held.with(run, &look).or_else(|| self.unanswered.get_mut(&run).map(look))
    }

    /// The same, for the last time.
    pub(super) fn let_go(&mut self, run: RunId) -> Option<Held> {
        self.held.release(run).or_else(|| self.unanswered.remove(&run))
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
