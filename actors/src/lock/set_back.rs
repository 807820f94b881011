//! Notices a store that was set back: it was restored from before, and knows less of the session than this node.

use std::time::Duration;

use crate::{core::job::ASK_AGAIN_MAX, name::RunId, port::Session};

/// After this time, whoever asked for a run and got no answer has asked what became of it.
const SURE_AFTER: Duration = ASK_AGAIN_MAX;
/// A run that nobody met for so long makes room for another one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * SURE_AFTER.as_secs());

/// The run by which the session holds a key, as the store says, and which this node does not hold.
///
/// Either a claim of it was granted and its answer was lost: whoever asked asks again. Or its end is being
/// recorded. Or its end was recorded, and is not there any more; then nobody would ever record it again.
#[derive(Debug, Default)]
pub(super) struct UnknownHolder(Option<Met>);

#[derive(Debug)]
struct Met {
    session: Session,
    run: RunId,
    first: Duration,
    last: Duration,
}

impl UnknownHolder {
    /// A claim was refused for such a run. Answers whether it is certain that its end was recorded.
    pub(super) fn meet(&mut self, session: Session, run: RunId, now: Duration) -> bool {
        match &mut self.0 {
            Some(met) if met.session == session && met.run == run => {
                met.last = now;
                now.saturating_sub(met.first) >= SURE_AFTER
            }
            // One is enough: with it, all keys of the session become free.
            Some(met) if met.session == session && now.saturating_sub(met.last) < FORGOTTEN_AFTER => false,
            other => {
                *other = Some(Met { session, run, first: now, last: now });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SESSION: Session = Session(1);

    fn run(number: u128) -> RunId {
        RunId::from(Uuid::from_u128(number))
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn it_is_certain_once_whoever_asked_for_it_would_have_been_answered() {
        let mut unknown = UnknownHolder::default();

        assert!(!unknown.meet(SESSION, run(1), secs(100)));
        assert!(!unknown.meet(SESSION, run(1), secs(104)));
        assert!(unknown.meet(SESSION, run(1), secs(105)));
    }

    #[test]
    fn another_session_begins_anew() {
        let mut unknown = UnknownHolder::default();
        assert!(!unknown.meet(SESSION, run(1), secs(100)));

        assert!(!unknown.meet(Session(2), run(1), secs(200)));
        assert!(unknown.meet(Session(2), run(1), secs(205)));
    }

    #[test]
    fn one_at_a_time_is_watched_and_makes_room_when_nobody_meets_it() {
        let mut unknown = UnknownHolder::default();
        assert!(!unknown.meet(SESSION, run(1), secs(100)));

        assert!(!unknown.meet(SESSION, run(2), secs(101)));
        assert!(!unknown.meet(SESSION, run(2), secs(109)), "the first one is watched");
        assert!(!unknown.meet(SESSION, run(2), secs(110)), "from now on the other one");
        assert!(unknown.meet(SESSION, run(2), secs(115)));
    }
}
