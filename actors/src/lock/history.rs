//! What this node was granted, held against the store when a session is opened again: it may be a server that
//! was promoted without the last commits of the one before, and which has another history of the same terms
//! and tokens.

use std::{collections::VecDeque, time::Duration};

use actix::prelude::*;

use super::{actor::LockActor, calls::call};
use crate::{
    core::operation::Operation,
    event::EventKind,
    name::{RunId, Term},
    port::{DIVERGED_RUNS_MAX, DivergedRun, Divergence, GRANTED_RUNS_MAX, GrantedRun, KnownHistory},
};

/// How long after runs were found to be unknown it is looked whether their ticks ran once more: the misfire
/// policies have decided them by then.
const LOOKS_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// How long after the store could not say it is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How often in a row the store is asked in vain: for ten minutes, unless it takes long to fail.
const FAILURES_MAX: u32 = 60;

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

/// Runs that the store did not know.
struct Unknown {
    runs: Vec<GrantedRun>,
    /// How often it was looked whether their ticks ran once more.
    looks: usize,
    /// How often nothing could be learned.
    failures: u32,
}

impl Unknown {
    /// When it is looked again, if it is.
    fn pause(&self) -> Option<Duration> {
        let pause = LOOKS_AGAIN.get(self.looks)?;
        match self.failures {
            _ if self.runs.is_empty() => None,
            0 => Some(*pause),
            failures => (failures < FAILURES_MAX).then_some(AFTER_FAILURE),
        }
    }
}

impl LockActor {
    /// Looks whether the store knows what it granted to this node before. `failures`: how often this session
    /// was asked in vain.
    pub(super) fn compare_history(&mut self, failures: u32, ctx: &mut Context<Self>) {
        let Some(known) = self.history.as_ref().and_then(History::known) else { return };
        let (locker, session, term) = (self.locker.clone(), self.session, known.term);
        let compared = async move { call(async { locker.compare(&known).await }).await };
        ctx.spawn(compared.into_actor(self).map(move |compared, actor, ctx| {
            if compared.is_err() && actor.session != session {
                // The next session asks.
                return;
            }
            match actor.noted(Operation::Compare, compared) {
                Ok(divergence) => actor.on_compared(term, divergence, ctx),
                Err(_) if failures + 1 < FAILURES_MAX => {
                    ctx.run_later(AFTER_FAILURE, move |actor, ctx| {
                        if actor.session == session {
                            actor.compare_history(failures + 1, ctx);
                        }
                    });
                }
                Err(_) => {}
            }
        }));
    }

    fn on_compared(&mut self, term: Option<Term>, divergence: Divergence, ctx: &mut Context<Self>) {
        if divergence == Divergence::default() {
            return;
        }
        let runs = self.history.as_mut().map(|history| history.forget(&divergence)).unwrap_or_default();
        self.say_diverged(term.filter(|_| divergence.term.is_some()), divergence.runs);
        self.look_again(Unknown { runs, looks: 0, failures: 0 }, ctx);
    }

    fn say_diverged(&self, term: Option<Term>, mut runs: Vec<DivergedRun>) {
        let count = runs.len() as u64;
        // The newest ones.
        runs.drain(..runs.len().saturating_sub(DIVERGED_RUNS_MAX));
        self.node.meters.histories_diverged.increment(1);
        self.node.publisher.publish(|| EventKind::HistoryDiverged { term, count, runs });
    }

    /// Whether ticks of runs that the store did not know have run once more. It is not known while there is
    /// no answer.
    fn look_again(&self, unknown: Unknown, ctx: &mut Context<Self>) {
        let Some(pause) = unknown.pause() else { return };
        ctx.run_later(pause, move |actor, ctx| {
            let Unknown { runs, looks, failures } = unknown;
            let known = KnownHistory { term: None, runs };
            let (locker, session) = (actor.locker.clone(), actor.session);
            let compared = async move {
                let compared = call(async { locker.compare(&known).await }).await;
                (known.runs, compared)
            };
            ctx.spawn(compared.into_actor(actor).map(move |(mut runs, compared), actor, ctx| {
                let Ok(divergence) = compared.inspect_err(|error| {
                    // Without a session there is an error anyway.
                    if session.is_some() && actor.session == session {
                        actor.failed(Operation::Compare, error);
                    }
                }) else {
                    return actor.look_again(Unknown { runs, looks, failures: failures + 1 }, ctx);
                };
                actor.node.failures.succeeded(Operation::Compare);
                let twice: Vec<_> =
                    divergence.runs.into_iter().filter(|run| run.tick_also.is_some()).collect();
                runs.retain(|granted| !twice.iter().any(|twice| twice.run == granted.run));
                if !twice.is_empty() {
                    actor.say_diverged(None, twice);
                }
                actor.look_again(Unknown { runs, looks: looks + 1, failures: 0 }, ctx);
            }));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;

    use super::*;
    use crate::{
        EngineOptions, Job,
        name::{FencingToken, JobName, LockKey, NodeId},
        testkit::{NodeIndex, Rig, VirtualClock, fakes::Period, simulate},
    };

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

    const START: &str = "2026-01-05T00:00:00Z";

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A node that was granted some runs.
    async fn node(rig: &mut Rig) -> NodeIndex {
        let clock = VirtualClock::starting_at(DateTime::UNIX_EPOCH);
        let mut options = EngineOptions::new(Arc::new(rig.store().backend(NodeId::numbered(9), clock)));
        options.jobs.push(Job::new("often", Period::hours(1)).run(async |_| {}));
        let node = rig.node(options).await;
        rig.advance(Duration::from_hours(4)).await;
        node
    }

    fn all_unknown(known: &KnownHistory) -> Divergence {
        Divergence { term: None, runs: known.runs.iter().map(DivergedRun::new).collect() }
    }

    fn all_twice(known: &KnownHistory) -> Divergence {
        let mut divergence = all_unknown(known);
        divergence.runs.iter_mut().for_each(|run| run.tick_also = Some(granted(1).run));
        divergence
    }

    fn errors(rig: &mut Rig) -> u64 {
        rig.counter("callsheet_coordination_errors_total", "operation=compare")
    }

    /// How many events name runs, and how many of them ticks that ran twice.
    fn said(rig: &Rig) -> (usize, usize) {
        let is_twice = |kind: &EventKind| match kind {
            EventKind::HistoryDiverged { runs, .. } => Some(runs.iter().any(|run| run.tick_also.is_some())),
            _ => None,
        };
        (rig.count(|kind| is_twice(kind).is_some()), rig.count(|kind| is_twice(kind) == Some(true)))
    }

    #[test]
    fn a_comparison_that_fails_is_noted_and_asked_again() {
        simulate(START, async |rig| {
            let node = node(rig).await;
            rig.store().set_forgets(all_unknown);
            rig.store().refuse([Operation::Compare], "it takes too long");
            rig.end_session(node);
            rig.advance(secs(35)).await;
            assert_eq!((errors(rig), said(rig)), (4, (0, 0)));

            rig.store().refuse_nothing();
            rig.advance(secs(10)).await;
            assert_eq!((errors(rig), said(rig)), (4, (1, 0)));
        });
    }

    #[test]
    fn a_comparison_that_always_fails_is_given_up_until_the_next_session() {
        simulate(START, async |rig| {
            let node = node(rig).await;
            rig.store().set_forgets(all_unknown);
            rig.store().refuse([Operation::Compare], "it takes too long");
            rig.end_session(node);
            rig.advance(Duration::from_hours(1)).await;
            assert_eq!(errors(rig), u64::from(FAILURES_MAX));

            rig.store().refuse_nothing();
            rig.advance(secs(60)).await;
            assert_eq!(said(rig), (0, 0));
            rig.end_session(node);
            rig.advance(secs(5)).await;
            assert_eq!(said(rig), (1, 0));
        });
    }

    #[test]
    fn a_look_that_fails_is_no_look() {
        simulate(START, async |rig| {
            let node = node(rig).await;
            rig.store().set_forgets(all_unknown);
            rig.end_session(node);
            rig.advance(secs(15)).await;
            assert_eq!(said(rig), (1, 0));

            // Over the last look.
            rig.store().set_forgets(all_twice);
            rig.store().refuse([Operation::Compare], "it takes too long");
            rig.advance(secs(120)).await;
            assert!(errors(rig) >= 5, "{}", errors(rig));
            assert_eq!(said(rig), (1, 0));

            rig.store().refuse_nothing();
            rig.advance(secs(15)).await;
            assert_eq!(said(rig), (2, 1));
        });
    }

    #[test]
    fn looks_that_always_fail_end() {
        simulate(START, async |rig| {
            let node = node(rig).await;
            rig.store().set_forgets(all_unknown);
            rig.end_session(node);
            rig.advance(secs(5)).await;

            rig.store().refuse([Operation::Compare], "it takes too long");
            rig.advance(Duration::from_hours(1)).await;
            assert_eq!(errors(rig), u64::from(FAILURES_MAX));
        });
    }
}
