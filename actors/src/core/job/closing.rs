//! How a job comes to its end on this node.

use super::leaving::Leaving;

/// How a job comes to its end on this node. Nothing of this is undone.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// Nothing new starts: the engine shuts down, or the job was removed. What is granted already does.
    pub(super) draining: bool,
    /// The shutdown cancels what runs: what is granted from now on does not start.
    pub(super) cancelled_by_shutdown: bool,
    /// The job is removed, or has another schedule: what it is still to account for.
    pub(super) leaving: Option<Box<Leaving>>,
}

impl Closing {
    /// Nothing new is asked for.
    pub(super) fn has_begun(&self) -> bool {
        self.draining || self.cancelled_by_shutdown
    }

    /// What is granted now does not start. A drain does not wait for a claim that got no answer (it is
    /// `late`).
    pub(super) fn refuses_grant(&self, late: bool) -> bool {
        self.cancelled_by_shutdown || (self.draining && late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_at_the_end_starts_only_if_it_was_asked_for_in_time() {
        for (draining, cancelled_by_shutdown, refuses_in_time, refuses_late) in [
            (false, false, false, false),
            (true, false, false, true),
            (false, true, true, true),
            (true, true, true, true),
        ] {
            let closing = Closing { draining, cancelled_by_shutdown, leaving: None };

            assert_eq!(closing.has_begun(), draining || cancelled_by_shutdown);
            assert_eq!(closing.refuses_grant(false), refuses_in_time);
            assert_eq!(closing.refuses_grant(true), refuses_late);
        }
    }
}
