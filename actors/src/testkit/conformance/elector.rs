//! What every elector does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join;

use super::Cluster;
use crate::{
    name::Term,
    port::{Backend, Campaign, Elector, Grant, Observation, Renewal},
};

/// How often two nodes want the term at once.
const RACES: usize = 3;
/// How long each waits for the present leader.
const PATIENCE: Duration = Duration::from_secs(1);
/// What all nodes are called.
const NAME: &str = "web-1";
/// The most campaigns until a term that is free must be won.
const CAMPAIGNS_MAX: usize = 60;

/// Checks an elector: terms that only grow, one leader at a time, hand-over at resignation and at death.
///
/// # Panics
///
/// If a check fails.
pub async fn elector(cluster: &mut impl Cluster) {
    let first = cluster.node().await;
    first.set_zone_data("2031a".into());
    first.set_node_name(NAME.into());
    first.locker().open().await.expect("a session opens");
    let term = a_free_term_is_won(&*first.elector()).await;
    the_leader_renews_and_nobody_else(&*first.elector(), term).await;
    let term = a_term_that_was_resigned_is_over(&*first.elector(), term).await;
    if cluster.nodes_max() > 1 {
        let second = cluster.node().await;
        second.set_zone_data("2031b".into());
        second.set_node_name(NAME.into());
        two_nodes_of_one_name_are_two(&*first, &*second);
        second.locker().open().await.expect("a session opens");
        if cluster.knows_followers() {
            each_node_sees_the_time_zone_data_of_the_other(&first, &second).await;
        }
        only_one_node_leads(&*second.elector()).await;
        if cluster.knows_followers() {
            a_node_sees_who_leads_and_who_stands(&*first.elector(), &*second.elector()).await;
        } else {
            a_node_sees_who_leads_and_nobody_else(&*first.elector(), &*second.elector()).await;
        }
        let term = a_resigned_term_is_won_by_another_node(&first, &second, term).await;
        let term = of_two_that_campaign_at_once_one_wins(&first, &second, term).await;
        a_dead_leader_is_succeeded(cluster, &first, &second, term).await;
    }
}

/// Every check that follows is of two nodes of one name, on one host.
fn two_nodes_of_one_name_are_two(first: &dyn Backend, second: &dyn Backend) {
    let ids = [first.node(), second.node()];
    assert!(ids[0].is_some() && ids[0] != ids[1], "two processes of one name are two nodes: {ids:?}");
}

async fn a_free_term_is_won(elector: &dyn Elector) -> Term {
    let Grant { term, lease, former_zone_data, .. } = win(elector).await;
    assert_eq!(former_zone_data, None, "nobody led before");
    assert!(term > Term(0), "a term is never 0");
    if let Some(lease) = lease {
        assert!(lease.margin < lease.duration, "the margin is less than the lease");
    }
    term
}

async fn the_leader_renews_and_nobody_else(elector: &dyn Elector, term: Term) {
    assert_eq!(
        elector.renew(term).await.expect("an answer"),
        Renewal::Renewed,
        "the leader's term is extended"
    );
    let other = elector.renew(Term(term.0 + 1)).await.expect("an answer");
    assert_eq!(other, Renewal::Deposed, "a term that was never granted is not extended");
}

async fn a_term_that_was_resigned_is_over(elector: &dyn Elector, term: Term) -> Term {
    elector.resign(term).await.expect("an answer");
    let renewed = elector.renew(term).await.expect("an answer");
    assert_eq!(renewed, Renewal::Deposed, "a resigned term is not extended");
    elector.resign(term).await.expect("giving up a term that is over is no error");
    let next = win(elector).await.term;
    assert!(next > term, "a term is greater than every one granted before: {next} after {term}");
    next
}

async fn only_one_node_leads(second: &dyn Elector) {
    let answer = second.campaign(PATIENCE).await.expect("an answer");
    assert!(matches!(answer, Campaign::Lost { .. }), "while one node leads, another one does not win");
}

async fn a_resigned_term_is_won_by_another_node(
    first: &Arc<dyn Backend>,
    second: &Arc<dyn Backend>,
    term: Term,
) -> Term {
    first.elector().resign(term).await.expect("an answer");
    let Grant { term: next, former_zone_data, .. } = win(&*second.elector()).await;
    assert!(next > term, "the successor's term is greater: {next} after {term}");
    assert_eq!(former_zone_data.as_deref(), Some("2031a"), "it hears by which data its predecessor went");
    next
}

async fn each_node_sees_the_time_zone_data_of_the_other(first: &Arc<dyn Backend>, second: &Arc<dyn Backend>) {
    for (node, version) in [(first, "2031b"), (second, "2031a")] {
        let others = node.locker().other_zone_data().await.expect("an answer");
        let versions: Vec<&str> = others.iter().map(|other| &*other.version).collect();
        assert_eq!(versions, [version], "the data of the other node, which differs");
    }
}

/// The second leads, before and afterwards.
async fn of_two_that_campaign_at_once_one_wins(
    first: &Arc<dyn Backend>,
    second: &Arc<dyn Backend>,
    mut term: Term,
) -> Term {
    let (first, second) = (first.elector(), second.elector());
    let mut leader = &second;
    let mut races = 0;
    for _ in 0..CAMPAIGNS_MAX {
        leader.resign(term).await.expect("an answer");
        let answers = join(first.campaign(PATIENCE), second.campaign(PATIENCE)).await;
        let (grant, winner) = match (answers.0.expect("an answer"), answers.1.expect("an answer")) {
            (Campaign::Won(grant), Campaign::Lost { .. }) => (grant, &first),
            (Campaign::Lost { .. }, Campaign::Won(grant)) => (grant, &second),
            // Neither has to win at the first try.
            (Campaign::Lost { .. }, Campaign::Lost { .. }) => continue,
            (Campaign::Won(one), Campaign::Won(other)) => panic!("both lead: {one:?}, {other:?}"),
        };
        assert!(grant.term > term, "the winner's term is greater: {} after {term}", grant.term);
        (term, leader) = (grant.term, winner);
        races += 1;
        if races == RACES {
            break;
        }
    }
    assert_eq!(races, RACES, "a free term is won");
    leader.resign(term).await.expect("an answer");
    win(&*second).await.term
}

async fn a_dead_leader_is_succeeded(
    cluster: &mut impl Cluster,
    first: &Arc<dyn Backend>,
    second: &Arc<dyn Backend>,
    term: Term,
) {
    cluster.kill(second).await;
    let Grant { term: next, former_zone_data, .. } = win(&*first.elector()).await;
    assert!(next > term, "the successor's term is greater: {next} after {term}");
    assert_eq!(former_zone_data.as_deref(), Some("2031b"), "it hears by which data the dead leader went");
    let seen = first.elector().observe(true).await.expect("an answer");
    assert!(!seen.candidate, "a dead node is no candidate");
    let others = first.locker().other_zone_data().await.expect("an answer");
    assert_eq!(others, [], "the data of a dead node is not compared");
    second.locker().open().await.expect("a session opens again");
    let renewed = second.elector().renew(term).await.expect("an answer");
    assert_eq!(renewed, Renewal::Deposed, "a leader that comes back finds its term over");
}

/// The first leads.
async fn a_node_sees_who_leads_and_who_stands(first: &dyn Elector, second: &dyn Elector) {
    let seen = async |elector: &dyn Elector, stands| elector.observe(stands).await.expect("an answer");
    let of_second = seen(second, true).await;
    let leader = of_second.leader.expect("somebody leads");
    assert!(of_second.candidate, "a node stands from the opening of its session on");
    assert_eq!(seen(first, false).await, Observation { leader: Some(leader), candidate: true });
    assert_eq!(seen(second, false).await, Observation { leader: Some(leader), candidate: false });
    assert_eq!(seen(first, true).await, Observation { leader: Some(leader), candidate: false });
    let of_second = seen(second, true).await;
    assert!(of_second.candidate, "a node that stands again is a candidate again");
}

/// The first leads.
async fn a_node_sees_who_leads_and_nobody_else(first: &dyn Elector, second: &dyn Elector) {
    let seen = async |elector: &dyn Elector| elector.observe(true).await.expect("an answer");
    let leader = seen(second).await.leader;
    assert!(leader.is_some(), "somebody leads");
    for elector in [first, second] {
        assert_eq!(seen(elector).await, Observation { leader, candidate: false });
    }
}

/// Campaigns until the term is won.
async fn win(elector: &dyn Elector) -> Grant {
    for _ in 0..CAMPAIGNS_MAX {
        let began = Instant::now();
        match elector.campaign(PATIENCE).await.expect("an answer") {
            Campaign::Won(grant) => {
                assert!(
                    grant.waited <= began.elapsed(),
                    "a lease is never counted from later than the attempt"
                );
                return grant;
            }
            Campaign::Lost { retry_in, .. } => {
                tokio::time::sleep(retry_in.max(Duration::from_millis(1))).await
            }
        }
    }
    panic!("a free term was not won in {CAMPAIGNS_MAX} campaigns");
}
