//! Ends of runs: each is said, counted and kept once.

use super::*;

#[test]
fn nothing_is_due_before_the_end_of_a_run_from_which_it_counts() {
    simulate(START, async |rig| {
        let rests = |name: &str| {
            Job::new(name, every(mins(1)).from_completion()).run(async |_| tokio::time::sleep(mins(10)).await)
        };
        let node = rig.node(node_with([rests("removed"), rests("changed")])).await;
        rig.advance(mins(8)).await;

        rig.send(node, RemoveJobs::new("removed")).await.expect("it is there");
        rig.reschedule(node, "changed", every(mins(60))).await.expect("it is there");
        rig.advance(mins(10)).await;

        assert_eq!(said_of_ticks(rig), (2, 0), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

#[test]
fn nothing_is_due_before_the_end_of_a_run_that_is_being_claimed() {
    simulate(START, async |rig| {
        let rests = Job::new("job", every(secs(1)).from_completion())
            .run(async |_| tokio::time::sleep(secs(10)).await);
        let node = rig.node(node_with([rests])).await;
        rig.advance(ms(999)).await;
        let id = rig.id(node);
        rig.store().script(id, [CallFault::Stall(secs(3))]);
        rig.advance(ms(2_500)).await;

        rig.reschedule(node, "job", every(mins(60))).await.expect("it is there");
        rig.advance(mins(1)).await;

        assert_eq!(said_of_ticks(rig), (1, 0), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

/// What is said, counted and kept of the ends of all runs is the same.
fn assert_ends_are_accounted_for(rig: &mut Rig) {
    let said = ends(rig);
    let kept = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Closed { run, outcome } => Some((run, vec![outcome])),
        _ => None,
    });
    assert_eq!(said, kept.collect(), "{}", rig.transcript());
    for outcome in Outcome::ALL {
        let counted = rig.counter("callsheet_runs_total", &format!("outcome={}", outcome.as_str()));
        let said = said.values().filter(|ends| **ends == [outcome]).count() as u64;
        assert_eq!(counted, said, "{outcome}: {}", rig.transcript());
    }
}

#[test]
fn an_end_that_got_no_answer_is_one_end() {
    for (fault, outcome) in
        [(CallFault::ReplyLost, Outcome::Succeeded), (CallFault::RequestLost, Outcome::Lost)]
    {
        simulate(START, async |rig| {
            let node = rig.node(node_with([hourly()])).await;
            rig.advance(secs(1)).await;
            let run = rig.send(node, TriggerJob::new("job")).await.expect("it starts");
            rig.advance(ms(4_998)).await;

            loses(rig, node, fault).await;
            // The run of the next hour closes it, if nobody did.
            rig.advance(mins(61)).await;

            assert_ends_are_accounted_for(rig);
            let id = run.run();
            assert_eq!(ends(rig)[&id], [outcome], "{fault:?}");
            assert_eq!(run.finished().await, outcome, "{fault:?}");
        });
    }
}

#[test]
fn a_body_that_ends_when_its_frozen_node_goes_on_is_no_end_of_a_lost_run() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let first = rig.node(node_with([hourly()])).await;
        let second = rig.node(node_with([hourly()])).await;
        rig.advance(mins(60) + secs(4)).await;
        assert_eq!(rig.leader(), Some(first));

        rig.freeze(first);
        rig.advance(mins(2)).await;
        assert_eq!(rig.leader(), Some(second));
        rig.thaw(first);
        rig.advance(mins(2)).await;

        assert_ends_are_accounted_for(rig);
        assert_eq!(ends(rig).into_values().collect::<Vec<_>>(), [[Outcome::Lost]]);
    });
}
