//! What a majority of votes comes to: decided here, without I/O.

use std::time::Duration;

use callsheet_actors::{
    RunId,
    port::{SkipReason, TickVoted},
};

/// What one server says of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TickAnswer {
    Yes,
    /// It voted for another run.
    Held(RunId),
    /// It is not due by the server's clock.
    Early(Duration),
    /// Its window is over by the server's clock.
    Late,
    /// The server may not remember how it voted.
    Forgot,
}

/// How many votes decide.
pub(super) fn majority(servers: usize) -> usize {
    servers / 2 + 1
}

/// Whether a majority can still be had: of so many servers, so many have said no.
pub(super) fn is_lost(servers: usize, no: usize) -> bool {
    servers.saturating_sub(no) < majority(servers)
}

/// What the answers of `servers` about one tick come to, of which so many are still to come; `None`: it depends on
/// those. An answer that failed is none.
pub(super) fn tick(servers: usize, pending: usize, answers: &[TickAnswer]) -> Option<TickVoted> {
    let needed = majority(servers);
    let yes = answers.iter().filter(|answer| **answer == TickAnswer::Yes).count();
    if yes >= needed {
        return Some(TickVoted::Given);
    }
    let votes_for = |run: RunId| answers.iter().filter(|answer| **answer == TickAnswer::Held(run)).count();
    let held = answers.iter().filter_map(|answer| match answer {
        TickAnswer::Held(run) => Some((votes_for(*run), *run)),
        TickAnswer::Yes | TickAnswer::Early(_) | TickAnswer::Late | TickAnswer::Forgot => None,
    });
    let most = held.max_by_key(|(votes, _)| *votes);
    if let Some((_, run)) = most.filter(|(votes, _)| *votes >= needed) {
        return Some(TickVoted::GivenTo(run));
    }
    // Neither ever changes: what a server forgot it does not learn again, and its clock does not go back.
    let forgot = answers.iter().filter(|answer| **answer == TickAnswer::Forgot).count();
    let late = answers.iter().filter(|answer| **answer == TickAnswer::Late).count();
    if is_lost(servers, forgot + late) {
        let reason = if forgot > 0 { SkipReason::Unproven } else { SkipReason::Misfire };
        return Some(TickVoted::Lapsed { reason });
    }
    let can_be_given = yes + pending >= needed || most.is_some_and(|(votes, _)| votes + pending >= needed);
    if pending > 0 && can_be_given {
        return None;
    }
    if answers.len() < needed {
        return (pending == 0).then(|| TickVoted::Unknown { reason: String::new() });
    }
    let mut waits: Vec<_> = answers.iter().filter_map(wait_of).collect();
    waits.sort_unstable();
    // So many more have to find it due.
    match waits.get(needed - yes - 1) {
        Some(wait) => Some(TickVoted::Early { wait: *wait }),
        None => Some(TickVoted::Split),
    }
}

fn wait_of(answer: &TickAnswer) -> Option<Duration> {
    match answer {
        TickAnswer::Early(wait) => Some(*wait),
        TickAnswer::Yes | TickAnswer::Held(_) | TickAnswer::Late | TickAnswer::Forgot => None,
    }
}

#[cfg(test)]
mod tests {
    use callsheet_actors::NodeId;
    use callsheet_actors::RunIds;
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_tick_goes_to_whom_a_majority_voted_for_and_to_nobody_else() {
        let ids = RunIds::of(NodeId::numbered(1));
        let [a, b] = [(); 2].map(|()| ids.next(DateTime::UNIX_EPOCH));
        let early = |millis| TickAnswer::Early(Duration::from_millis(millis));
        use TickAnswer::{Forgot, Held, Late, Yes};
        let unknown = || Some(TickVoted::Unknown { reason: String::new() });
        let lapsed = |reason| Some(TickVoted::Lapsed { reason });
        let cases: [(usize, usize, &[TickAnswer], Option<TickVoted>); 21] = [
            (3, 1, &[Yes, Yes], Some(TickVoted::Given)),
            (3, 2, &[Yes], None),
            (3, 0, &[Yes], unknown()),
            (3, 0, &[Yes, Held(a)], Some(TickVoted::Split)),
            (3, 1, &[Yes, Held(a)], None),
            (3, 0, &[Held(a), Held(a)], Some(TickVoted::GivenTo(a))),
            (3, 0, &[Held(a), Held(b), Yes], Some(TickVoted::Split)),
            (5, 0, &[Held(a), Held(a), Yes, Yes, Held(b)], Some(TickVoted::Split)),
            (5, 2, &[Held(a), Held(b), Yes], None),
            (5, 1, &[Held(a), Held(b), Yes, Held(b)], None),
            (5, 1, &[Held(a), Late, Yes, Held(b)], Some(TickVoted::Split)),
            (3, 0, &[Late, Late, Late], lapsed(SkipReason::Misfire)),
            (3, 1, &[Late, Late], lapsed(SkipReason::Misfire)),
            (3, 1, &[Forgot, Forgot], lapsed(SkipReason::Unproven)),
            (3, 0, &[Late, Forgot, Yes], lapsed(SkipReason::Unproven)),
            (5, 0, &[Late, Forgot, Yes, Yes, Held(a)], Some(TickVoted::Split)),
            (5, 0, &[Forgot, Forgot, Held(a), Held(a), Held(a)], Some(TickVoted::GivenTo(a))),
            (3, 0, &[Forgot, Yes, Held(a)], Some(TickVoted::Split)),
            (3, 0, &[early(5), early(9), Yes], Some(TickVoted::Early { wait: Duration::from_millis(5) })),
            (
                3,
                0,
                &[early(5), early(9), early(1)],
                Some(TickVoted::Early { wait: Duration::from_millis(5) }),
            ),
            (3, 0, &[], unknown()),
        ];
        for (servers, pending, answers, expected) in cases {
            assert_eq!(tick(servers, pending, answers), expected, "{servers}, {pending}: {answers:?}");
        }
    }

    #[test]
    fn two_majorities_always_have_a_server_in_common() {
        for servers in 1..=16 {
            assert!(2 * majority(servers) > servers, "{servers}");
            assert!(
                !is_lost(servers, servers - majority(servers))
                    && is_lost(servers, servers - majority(servers) + 1)
            );
        }
    }
}
