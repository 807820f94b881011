//! By what authority a node fires a job, if it does, and what the node has declared for it.
//!
//! | the job fires on | this node leads | another node leads, or none |
//! |---|---|---|
//! | the leader | by its term | not, unless the leader lacks the job: then without a leader |
//! | any node | without a term: the cursor decides between the nodes | the same |
//! | this node only | without the store: it is never enrolled | the same |
//!
//! A node fires nothing of the first two without a session, and nothing of a job that is broken or once it
//! shuts down.
//!
//! ```text
//! the leader does not have the job    [lacks it] ── this node fires it without a leader ── [the leader schedules it] ── not
//!                                                                                        [this node leads] ── by its term
//!                                                                                        [the session is lost] ── not
//! ```

use std::{mem, sync::Arc};

use crate::{core::policy::Fires, name::Term, port::Authority};

/// What a node knows of itself that matters to who fires a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeState {
    /// The term in which it leads.
    pub(crate) term: Option<Term>,
    /// It has a session with the store.
    pub(crate) is_connected: bool,
    /// It does not shut down.
    pub(crate) is_running: bool,
}

/// How a node stands to one job.
#[derive(Debug, Default)]
pub(crate) struct Firing {
    /// As its definition says.
    fires: Fires,
    /// The leader lacks the job, so this node claims its ticks.
    fires_without_leader: bool,
    /// This session may declare the policy of the job's key without a term.
    declared_key_policy: bool,
    /// Why this node may not fire it.
    refused: Option<Box<Refusal>>,
    /// Why it does not fire until it is resumed or updated.
    broken: Option<Box<Arc<str>>>,
    /// It is to be enrolled, and the store has not answered yet.
    awaits_enrolment: bool,
}

/// Why a node may not fire a job for the time being.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Others declare another policy for its key.
    Policy(Arc<str>),
    /// It has another name elsewhere, which is in use.
    Name(Arc<str>),
}

impl Refusal {
    fn reason(&self) -> &Arc<str> {
        match self {
            Self::Policy(reason) | Self::Name(reason) => reason,
        }
    }
}

/// What a job is told when this node starts or stops leading.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TermChange {
    /// It fires no more by the term before.
    pub(crate) suspends: bool,
    /// It is to be enrolled by the new one.
    pub(crate) enrols: bool,
    /// What this node declared for its key is to be taken back.
    pub(crate) retracts: bool,
}

impl Firing {
    /// Of a job that is new to this node.
    pub(crate) fn new(fires: Fires) -> Self {
        Self { fires, ..Self::default() }
    }

    /// As its definition says.
    pub(crate) fn fires(&self) -> Fires {
        self.fires
    }

    /// By what authority this node decides the job's ticks, if it does. Whether the store takes the job's data
    /// is another question.
    pub(crate) fn authority(&self, node: NodeState) -> Option<Authority> {
        match self.fires {
            _ if self.broken.is_some() || !node.is_connected || !node.is_running => None,
            Fires::Local => None,
            Fires::AnyNode => Some(Authority::Any),
            Fires::Leader => match node.term {
                Some(term) => Some(Authority::Term(term)),
                None => self.fires_without_leader.then_some(Authority::Leaderless),
            },
        }
    }

    /// Whether a node that does not lead is to ask who has the job: the leader should.
    pub(crate) fn needs_leader(&self) -> bool {
        self.fires == Fires::Leader && self.broken.is_none() && !self.fires_without_leader
    }

    /// The leader lacks it: this node fires it.
    pub(crate) fn leader_lacks_it(&mut self) {
        self.fires_without_leader = true;
    }

    /// The leader schedules it. Answers whether what this node declared for its key is to be taken back.
    pub(crate) fn left_to_leader(&mut self) -> bool {
        self.refused = None;
        self.fires_without_leader = false;
        mem::take(&mut self.declared_key_policy)
    }

    /// It is enrolled, or stays so without a term: this session declares the policy of its key.
    pub(crate) fn declares(&mut self) {
        self.declared_key_policy = true;
    }

    /// Whether this session declares the policy of its key without a term.
    pub(crate) fn is_declared(&self) -> bool {
        self.declared_key_policy
    }

    /// It has another definition. Answers whether this session had declared a policy for the key of the one
    /// before.
    pub(crate) fn redefined(&mut self, fires: Fires) -> bool {
        self.fires = fires;
        self.fires_without_leader = false;
        self.refused = None;
        mem::take(&mut self.declared_key_policy)
    }

    /// Others keep this node from firing it. Answers whether that is new, or there was another reason before.
    pub(crate) fn refuse(&mut self, why: Refusal) -> bool {
        let is_new = self.refused.as_deref() != Some(&why);
        self.refused = Some(Box::new(why));
        is_new
    }

    /// It is to be enrolled.
    pub(crate) fn await_enrolment(&mut self) {
        self.awaits_enrolment = true;
    }

    /// Its enrolment was answered, or is not to be made any more.
    pub(crate) fn enrolment_answered(&mut self) {
        self.awaits_enrolment = false;
    }

    /// Whether it is to be enrolled, and the store has not answered yet.
    pub(crate) fn awaits_enrolment(&self) -> bool {
        self.awaits_enrolment
    }

    /// The store took its enrolment.
    pub(crate) fn enrolled(&mut self) {
        self.refused = None;
    }

    /// The store refuses it for its data: it fires nothing, and what it declared is taken back whatever that
    /// was.
    pub(crate) fn parked(&mut self) {
        self.refused = None;
        self.declared_key_policy = false;
    }

    /// Why others keep this node from firing it.
    pub(crate) fn refused(&self) -> Option<&Arc<str>> {
        self.refused.as_deref().map(Refusal::reason)
    }

    /// Whether others declare another policy for its key.
    pub(crate) fn is_contradicted(&self) -> bool {
        matches!(self.refused.as_deref(), Some(Refusal::Policy(_)))
    }

    /// It does not fire until it is resumed or updated. Answers whether this session declares the policy of
    /// its key.
    pub(crate) fn broke(&mut self, reason: Arc<str>) -> bool {
        self.broken = Some(Box::new(reason));
        mem::take(&mut self.declared_key_policy)
    }

    /// Why it is broken.
    pub(crate) fn broken(&self) -> Option<&Arc<str>> {
        self.broken.as_deref()
    }

    /// It is broken no more. Answers whether it was.
    pub(crate) fn mended(&mut self) -> bool {
        self.broken.take().is_some()
    }

    /// The session is lost. Answers whether the job fired without a term: then it is to stop.
    pub(crate) fn session_lost(&mut self) -> bool {
        self.refused = None;
        self.declared_key_policy = false;
        self.fires == Fires::AnyNode || mem::take(&mut self.fires_without_leader)
    }

    /// This node led, or not, and now leads in a new term, or does not.
    pub(crate) fn term_changed(&mut self, led: bool, leads: bool) -> TermChange {
        let by_leader = self.fires == Fires::Leader && self.broken.is_none();
        if led && by_leader {
            self.refused = None;
        }
        if leads {
            self.fires_without_leader = false;
        }
        // What it fired before it led, it does not fire any more either.
        let retracts = led && !leads && self.declared_key_policy && self.fires == Fires::Leader;
        self.declared_key_policy &= !retracts;
        TermChange { suspends: led && by_leader, enrols: leads && by_leader, retracts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Term = Term(3);
    const LEADER: NodeState = NodeState { term: Some(TERM), is_connected: true, is_running: true };
    const FOLLOWER: NodeState = NodeState { term: None, ..LEADER };

    fn leaderless() -> Firing {
        Firing { fires_without_leader: true, ..Firing::new(Fires::Leader) }
    }

    fn broken(fires: Fires) -> Firing {
        Firing { broken: Some(Box::new("its schedule panicked".into())), ..Firing::new(fires) }
    }

    #[test]
    fn who_fires_a_job_and_by_which_basis() {
        let (led, any, local) = (Fires::Leader, Fires::AnyNode, Fires::Local);
        for (firing, on_leader, on_follower) in [
            (Firing::new(led), Some(Authority::Term(TERM)), None),
            (leaderless(), Some(Authority::Term(TERM)), Some(Authority::Leaderless)),
            (Firing::new(any), Some(Authority::Any), Some(Authority::Any)),
            (Firing::new(local), None, None),
            (broken(led), None, None),
            (broken(any), None, None),
        ] {
            assert_eq!(firing.authority(LEADER), on_leader, "{firing:?} on the leader");
            assert_eq!(firing.authority(FOLLOWER), on_follower, "{firing:?} on a follower");
            for node in [LEADER, FOLLOWER] {
                assert_eq!(firing.authority(NodeState { is_connected: false, ..node }), None, "no session");
                assert_eq!(firing.authority(NodeState { is_running: false, ..node }), None, "it shuts down");
            }
        }
    }

    #[test]
    fn a_follower_asks_who_holds_what_the_leader_should_fire() {
        for (firing, asks) in [
            (Firing::new(Fires::Leader), true),
            (leaderless(), false),
            (broken(Fires::Leader), false),
            (Firing::new(Fires::AnyNode), false),
            (Firing::new(Fires::Local), false),
        ] {
            assert_eq!(firing.needs_leader(), asks, "{firing:?}");
        }
    }

    #[test]
    fn a_change_of_the_term_is_told_to_the_jobs_that_it_concerns() {
        let none = TermChange::default();
        let starts = TermChange { enrols: true, ..none };
        let stops = TermChange { suspends: true, ..none };
        let another = TermChange { suspends: true, enrols: true, ..none };
        for (led, leads, of_leader) in
            [(false, true, starts), (true, false, stops), (true, true, another), (false, false, none)]
        {
            let change = |mut firing: Firing| firing.term_changed(led, leads);
            assert_eq!(change(Firing::new(Fires::Leader)), of_leader, "led {led}, leads {leads}");
            for other in [Firing::new(Fires::AnyNode), Firing::new(Fires::Local), broken(Fires::Leader)] {
                assert_eq!(change(other), none, "led {led}, leads {leads}");
            }
        }
    }

    #[test]
    fn what_was_declared_is_taken_back_when_the_job_is_let_go_of() {
        let declares = |fires| Firing { declared_key_policy: true, ..Firing::new(fires) };

        let mut led = declares(Fires::Leader);
        assert!(!led.term_changed(false, true).retracts, "it fires on, by the term");
        assert!(led.term_changed(true, false).retracts && !led.is_declared());
        assert!(!declares(Fires::AnyNode).term_changed(true, false).retracts, "it fires on");

        assert!(declares(Fires::Leader).left_to_leader());
        assert!(declares(Fires::Leader).redefined(Fires::Local));
        assert!(declares(Fires::Leader).broke("it panicked".into()));
        assert!(!Firing::new(Fires::Leader).left_to_leader(), "there is nothing to take back");
        let mut lost = declares(Fires::Leader);
        lost.session_lost();
        assert!(!lost.is_declared(), "it ended with the session");
    }

    #[test]
    fn a_job_that_the_leader_lacks_is_fired_until_it_has_it() {
        let mut firing = Firing::new(Fires::Leader);
        firing.leader_lacks_it();
        assert_eq!(firing.authority(FOLLOWER), Some(Authority::Leaderless));

        let ends: [fn(&mut Firing); 4] = [
            |firing| _ = firing.left_to_leader(),
            |firing| _ = firing.redefined(Fires::Leader),
            |firing| assert!(firing.session_lost(), "it fired, and has to stop"),
            |firing| _ = firing.term_changed(false, true),
        ];
        for end in ends {
            let mut firing = leaderless();
            end(&mut firing);
            assert_eq!(firing.authority(FOLLOWER), None);
        }
    }

    #[test]
    fn a_refusal_is_said_once_for_each_reason() {
        let mut firing = Firing::new(Fires::Leader);
        let policy = |reason: &str| Refusal::Policy(reason.into());

        assert!(firing.refuse(policy("queue 2")) && firing.is_contradicted());
        assert!(!firing.refuse(policy("queue 2")));
        assert!(firing.refuse(policy("replace")));
        assert!(firing.refuse(Refusal::Name("replace".into())) && !firing.is_contradicted());

        firing.enrolled();
        assert!(firing.refused().is_none() && firing.refuse(policy("replace")), "it fired meanwhile");
    }

    #[test]
    fn only_jobs_without_a_term_stop_with_the_session() {
        for (mut firing, stops) in [
            (Firing::new(Fires::AnyNode), true),
            (leaderless(), true),
            // A node without a session loses its term, and that tells them.
            (Firing::new(Fires::Leader), false),
            (Firing::new(Fires::Local), false),
        ] {
            assert_eq!(firing.session_lost(), stops, "{firing:?}");
        }
    }
}
