//! What holds after every step.

use super::*;

impl World {
    /// What waits during a pause is said to be held, and does not wait for longer than it may.
    pub(super) fn check_held(&mut self) {
        let now = self.now();
        let machine = self.machine.as_ref().unwrap();
        assert!(machine.pause().is_some() || machine.held().next().is_none(), "{machine:?}");
        let decides = machine.fires() && machine.asked.is_nothing();
        if machine.pause().is_some() && decides {
            assert!(machine.held().eq(machine.backlog.iter().map(|waiting| waiting.tick)), "{machine:?}");
            let in_time = |waiting: &Waiting| waiting.tick.lateness(now.wall) <= waiting.window;
            assert!(machine.backlog.iter().all(in_time), "held for too long: {machine:?}");
        }
    }

    /// A tick that only the node keeps waiting is known to the node.
    pub(super) fn check_turn(&mut self) {
        let now = self.now();
        let machine = self.machine.as_ref().unwrap();
        let front = machine.backlog.front().map(|front| machine.may_start(now, front));
        let decides = machine.fires() && machine.asked.is_nothing();
        assert!(
            !decides || front != Some(May::WaitForPermit) || machine.permit.state != PermitState::None,
            "a tick waits for a permit that nobody asked for: {machine:?}"
        );
        assert!(
            !decides || front != Some(May::WaitForTurn) || self.turn_asked,
            "a tick waits for a turn that nobody asked for: {machine:?}"
        );
    }

    pub(super) fn check(&mut self) {
        let machine = self.machine.as_ref().unwrap();
        let room = machine.room();
        assert!(machine.backlog.len() <= room, "{} of {room} wait", machine.backlog.len());
        self.manuals_max = self.manuals_max.max(match self.policies.overlap {
            Overlap::Queue(max) | Overlap::Allow(max) => max as usize,
            Overlap::Skip | Overlap::Replace => 1,
        });
        // And one that was asked for in vain, and one lost run at a time.
        assert!(machine.unscheduled.queue.len() <= self.manuals_max + 2, "{:?}", machine.unscheduled);
        let waiting = waiting_to_begin(machine);
        assert!(self.permits.limited || waiting.is_empty(), "{waiting:?} wait for nothing");
        assert_eq!(waiting, self.granted, "what is granted starts, is closed, or waits for a permit");
        assert!(
            machine.unscheduled.pending_retries.len() <= PENDING_RETRIES_MAX,
            "{:?}",
            machine.unscheduled
        );
        let active: BTreeSet<_> = machine.active_runs().map(|run| run.run).collect();
        let begun: BTreeSet<_> = active.difference(&waiting).collect();
        assert!(begun.iter().copied().eq(self.open.keys()), "{begun:?} and {:?}", self.open);
        let slots: BTreeSet<_> = machine.active_runs().map(|run| run.slot).collect();
        assert_eq!(slots.len(), active.len(), "each run has a slot of its own");
        assert!(self.questions.len() <= 2, "one question about ticks and one about a run without a tick");
        if self.permits.limited {
            let in_hand = matches!(machine.permit.state, PermitState::InHand | PermitState::Pledged(_));
            let answer_comes = match machine.permit.state {
                PermitState::Pledged(Claimant::Tick) => {
                    machine.asked.claim().is_some() && !machine.timers.is_set(Timer::AskAgain)
                }
                PermitState::Pledged(Claimant::Unscheduled) => {
                    machine.unscheduled.queue.front().is_some_and(UnscheduledRun::is_asked)
                }
                PermitState::None | PermitState::Requested | PermitState::InHand => true,
            };
            assert!(answer_comes, "a permit is kept for a claim without an answer: {machine:?}");
            let held = self.bodies.len() + usize::from(in_hand) + usize::from(self.permits.on_its_way);
            assert_eq!(self.permits.held as usize, held, "{:?} and {:?}", machine.permit, self.permits);
            let asked = self.permits.waiting || self.permits.on_its_way;
            assert_eq!(machine.permit.is_requested(), asked);
        }
        let cursor = machine.cursor();
        if self.right != Right::Local {
            assert!(cursor <= self.store.cursor, "{cursor} is ahead of the store");
        } else if !self.store.from_end {
            let (base, counted) = self.counted;
            let ticks = ticks(base, cursor, self.store.period);
            let uncounted =
                if std::mem::take(&mut self.at_least) { ticks.saturating_sub(counted) } else { 0 };
            self.counted.1 += uncounted;
            assert_eq!(self.counted.1, ticks, "ticks from {base} to {cursor}");
        }
        if self.drained {
            assert!(!machine.fires(), "a drained job does not fire");
        }
    }
}
