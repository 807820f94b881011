//! When the actor of a job says that the job is done, and when it stops.

use super::JobMachine;

/// How far the actor of a job is on the way to its end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lifecycle {
    /// It stops when nothing runs.
    retiring: bool,
    /// It is removed, or has another schedule, and the store does not know yet what became of the ticks
    /// before.
    leaves: bool,
    /// It said that it is done, and is to be removed.
    done_said: bool,
    /// It was told to stop: whatever else ends it is a death.
    stopped_on_purpose: bool,
}

/// What of its machine tells how far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// All its ticks are decided, its runs are over, and it is to be removed then.
    pub(crate) is_done: bool,
    /// Nothing is left for which this node accounts.
    pub(crate) has_left: bool,
    /// Nothing runs and no claim is open.
    pub(crate) is_idle: bool,
}

impl Progress {
    /// Of a job that is, or is not, to be removed when it is done.
    pub(crate) fn of(machine: &JobMachine, remove_when_done: bool) -> Self {
        Self {
            is_done: remove_when_done && machine.is_done(),
            has_left: machine.has_left(),
            is_idle: machine.is_idle(),
        }
    }
}

/// What an actor does at the end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Farewell {
    /// It says that the job is done.
    pub(crate) says_done: bool,
    /// It says that it has accounted for all ticks.
    pub(crate) says_left: bool,
    /// It stops.
    pub(crate) stops: bool,
}

impl Lifecycle {
    /// Of an actor that is told to stop already, or is not.
    pub(crate) fn new(retiring: bool) -> Self {
        Self { retiring, ..Self::default() }
    }

    /// The job was removed, or the engine is over.
    pub(crate) fn retire(&mut self) {
        self.retiring = true;
    }

    /// What is due by now is to be accounted for.
    pub(crate) fn leave(&mut self) {
        self.leaves = true;
    }

    /// Nobody answers any more what the job asks: it accounts for nothing.
    pub(crate) fn leave_at_once(&mut self) {
        self.leaves = false;
    }

    /// The job has another definition from now on, by which it is not done.
    pub(crate) fn redefine(&mut self) {
        self.done_said = false;
    }

    /// It stops when nothing runs.
    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring
    }

    /// It was told to stop, and did.
    pub(crate) fn stopped_on_purpose(&self) -> bool {
        self.stopped_on_purpose
    }

    /// What the actor does at the end of a step.
    pub(crate) fn after_step(&mut self, progress: Progress) -> Farewell {
        let says_done = progress.is_done && !self.done_said;
        self.done_said |= progress.is_done;
        let says_left = self.leaves && progress.has_left;
        self.leaves &= !progress.has_left;
        let stops = self.retiring && !self.leaves && progress.is_idle;
        self.stopped_on_purpose |= stops;
        Farewell { says_done, says_left, stops }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Progress = Progress { is_done: false, has_left: false, is_idle: false };

    #[test]
    fn an_actor_stops_once_it_is_told_to_has_left_and_is_idle() {
        for (retiring, leaves, has_left, is_idle, says_left, stops) in [
            (false, false, true, true, false, false),
            (false, true, true, true, true, false),
            (true, false, true, false, false, false),
            (true, false, true, true, false, true),
            (true, true, false, true, false, false),
            (true, true, true, false, true, false),
            (true, true, true, true, true, true),
        ] {
            let mut actor = Lifecycle::new(retiring);
            if leaves {
                actor.leave();
            }

            let farewell = actor.after_step(Progress { has_left, is_idle, ..BUSY });

            assert_eq!(farewell, Farewell { says_done: false, says_left, stops }, "{actor:?}");
            assert_eq!(actor.stopped_on_purpose(), stops);
        }
    }

    #[test]
    fn a_job_says_once_that_it_is_done_until_it_is_changed() {
        let mut actor = Lifecycle::default();
        let done = Progress { is_done: true, ..BUSY };

        assert!(!actor.after_step(BUSY).says_done);
        assert!(actor.after_step(done).says_done);
        assert!(!actor.after_step(done).says_done);
        actor.redefine();
        assert!(actor.after_step(done).says_done);
    }

    #[test]
    fn an_actor_that_nobody_answers_does_not_wait_for_an_answer() {
        let mut actor = Lifecycle::new(true);
        actor.leave();

        actor.leave_at_once();

        let farewell = actor.after_step(Progress { is_idle: true, ..BUSY });
        assert_eq!(farewell, Farewell { stops: true, ..Farewell::default() });
    }
}
