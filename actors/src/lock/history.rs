//! What this node was granted, held against the store when a session is opened anew: it may be a server that was promoted without
//! the last commits of the one before, and which has another history of the same terms and tokens.

use std::{collections::VecDeque, time::Duration};

use actix::prelude::*;

use super::{actor::LockActor, calls::call};
use crate::{
    event::EventKind,
    name::{RunId, Term},
    port::{DIVERGED_RUNS_MAX, DivergedRun, Divergence, GRANTED_RUNS_MAX, GrantedRun, KnownHistory},
};

/// How long after runs were found to be unknown it is looked whether their ticks ran once more: the misfire policies have decided them
/// by then.
const LOOKS_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// The newest runs and the newest term that this node was granted.
#[derive(Default)]
pub(super) struct History {
    term: Option<Term>,
    runs: VecDeque<GrantedRun>,
}

impl History {
    pub(super) fn add(&mut self, run: GrantedRun) {
        if self.runs.len() == GRANTED_RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(run);
    }

    pub(super) fn lead(&mut self, term: Term) {
        self.term = self.term.max(Some(term));
    }

    fn known(&self) -> Option<KnownHistory> {
        let Self { term, runs } = self;
        let knows = term.is_some() || !runs.is_empty();
        knows.then(|| KnownHistory { term: *term, runs: runs.iter().cloned().collect() })
    }

    /// What was said once is not said again.
    fn forget(&mut self, divergence: &Divergence) -> Vec<GrantedRun> {
        self.term.take_if(|_| divergence.term.is_some());
        let is_unknown = |run: RunId| divergence.runs.iter().any(|unknown| unknown.run == run);
        let (unknown, known): (Vec<_>, _) = self.runs.drain(..).partition(|granted| is_unknown(granted.run));
        self.runs = known.into();
        unknown
    }
}

impl LockActor {
    /// Looks whether the store knows what it granted to this node before.
    pub(super) fn compare_history(&mut self, ctx: &mut Context<Self>) {
        let Some(known) = self.history.as_ref().and_then(History::known) else { return };
        let (locker, term) = (self.locker.clone(), known.term);
        let compared = async move { call(async { locker.compare(&known).await }).await };
        ctx.spawn(compared.into_actor(self).map(move |compared, actor, ctx| {
            // Without an answer the next session asks.
            let Ok(divergence) = compared else { return };
            if divergence != Divergence::default() {
                let unknown = actor.history.as_mut().map(|history| history.forget(&divergence));
                let known_term = term.filter(|_| divergence.term.is_some());
                actor.say_diverged(known_term, divergence.runs);
                actor.look_again(unknown.unwrap_or_default(), 0, ctx);
            }
        }));
    }

    fn say_diverged(&self, term: Option<Term>, mut runs: Vec<DivergedRun>) {
        let count = runs.len() as u64;
        // The newest ones.
        runs.drain(..runs.len().saturating_sub(DIVERGED_RUNS_MAX));
        self.node.meters.histories_diverged.increment(1);
        self.node.publisher.publish(|| EventKind::HistoryDiverged { term, count, runs });
    }

    /// Whether ticks of runs that the store did not know have run once more.
    fn look_again(&self, unknown: Vec<GrantedRun>, nth: usize, ctx: &mut Context<Self>) {
        let Some(pause) = LOOKS_AGAIN.get(nth).filter(|_| !unknown.is_empty()) else { return };
        ctx.run_later(*pause, move |actor, ctx| {
            let known = KnownHistory { term: None, runs: unknown };
            let locker = actor.locker.clone();
            let compared = async move {
                let compared = call(async { locker.compare(&known).await }).await;
                (known.runs, compared)
            };
            ctx.spawn(compared.into_actor(actor).map(move |(mut unknown, compared), actor, ctx| {
                let twice = compared.map(|divergence| divergence.runs).unwrap_or_default().into_iter();
                let twice: Vec<_> = twice.filter(|run| run.tick_also.is_some()).collect();
                unknown.retain(|granted| !twice.iter().any(|twice| twice.run == granted.run));
                if !twice.is_empty() {
                    actor.say_diverged(None, twice);
                }
                actor.look_again(unknown, nth + 1, ctx);
            }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{FencingToken, JobName, LockKey};

    fn granted(nth: u64) -> GrantedRun {
        let name = |name: &str| (JobName::new(name).expect("a name"), LockKey::new(name).expect("a name"));
        let (job, key) = name("job");
        let run = RunId::from(uuid::Uuid::from_u128(u128::from(nth)));
        GrantedRun { job, key, run, fire_time: None, token: FencingToken(nth) }
    }

    #[test]
    fn a_node_remembers_its_newest_runs_and_says_each_once() {
        let mut history = History::default();
        assert_eq!(history.known(), None);
        (0..GRANTED_RUNS_MAX as u64 + 5).for_each(|nth| history.add(granted(nth)));
        history.lead(Term(3));
        history.lead(Term(2));

        let known = history.known().expect("something");
        assert_eq!((known.term, known.runs.len()), (Some(Term(3)), GRANTED_RUNS_MAX));
        assert_eq!(known.runs[0], granted(5));

        let divergence = Divergence { term: Some(Term(1)), runs: vec![DivergedRun::new(&granted(7))] };
        assert_eq!(history.forget(&divergence), [granted(7)]);
        let known = history.known().expect("something");
        assert_eq!((known.term, known.runs.len()), (None, GRANTED_RUNS_MAX - 1));
        assert!(!known.runs.contains(&granted(7)));
    }
}
