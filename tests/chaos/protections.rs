//! What protects a cluster, taken out of the statements and settings of its nodes one by one, on their way to
//! the server: the product knows nothing of it. Each is missed within a stated time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{SHARED_BY, faults::Fault, proxy::Rewrite, stage::Stage, turns};

/// How long a protection may be missing: after this time no further round begins.
const WITHIN: Duration = Duration::from_secs(60);

/// A protection, and what shows that it is missing.
struct Protection {
    name: &'static str,
    /// Texts of statements and settings, and what they become without it.
    without: &'static [Rewrite],
    /// What is done to the cluster until somebody misses it.
    faults: &'static [Fault],
    /// Part of what the auditor says.
    missed: &'static str,
}

const PROTECTIONS: &[Protection] = &[
    Protection {
        name: "a cursor is moved only from where it was",
        without: &[("f.cursor <> f.expected", "false"), ("AND cursor = a.expected", "")],
        // What the leader asks comes later than what the others ask.
        faults: &[Fault::Trickle],
        missed: "has two runs",
    },
    Protection {
        name: "a key is taken only from a session that is dead",
        without: &[("WHEN (SELECT o.dead FROM owners o WHERE o.beacon = f.beacon) THEN", "WHEN true THEN")],
        faults: &[],
        missed: "was not told that it lost the key any",
    },
    Protection {
        name: "each run gets a greater token",
        without: &[
            ("d.token + 1", "1"),
            ("(date_part('epoch', d.decided_at) * 1e6)::int8", "1"),
            ("n.token + 1, (date_part('epoch', clock_timestamp()) * 1e6)::int8", "1"),
        ],
        faults: &[],
        missed: "had the token 1, then 1",
    },
    Protection {
        name: "a claim locks the leader row",
        without: &[
            (" FOR SHARE", ""),
            (" FOR KEY SHARE", ""),
            // Or the claim would be ended before it is committed.
            ("pg_terminate_backend(pid) AS ended", "false AS ended"),
        ],
        faults: &[Fault::SlowClaim],
        missed: "was claimed in term",
    },
    Protection {
        name: "a claim of a term that is over is refused",
        without: &[
            (
                "(f.term = (SELECT epoch FROM term) AND (SELECT expires_at FROM term) > clock_timestamp()) IS NOT TRUE",
                "false",
            ),
            ("FROM term WHERE epoch = $4 AND expires_at > clock_timestamp()", "FROM term WHERE $4::int8 > 0"),
        ],
        faults: &[Fault::EndTerm],
        missed: "was claimed in term",
    },
    Protection {
        name: "the server looks whether the client of a statement is still there",
        without: &[
            ("-c client_connection_check_interval=500", "-c client_connection_check_interval=0"),
            // It is looked at when a connection is made.
            ("s.setting <> asked.value", "false"),
            // Or it would be ended for its silence, after its lease.
            ("pg_terminate_backend(pid) AS ended", "false AS ended"),
        ],
        faults: &[Fault::KillInClaim],
        missed: "leader killed in a claim: nothing ran for",
    },
    Protection {
        name: "whoever waits for a silent session ends it",
        without: &[("pg_terminate_backend(pid) AS ended", "false AS ended")],
        faults: &[Fault::HalfSentProof],
        missed: "nothing ran for",
    },
    Protection {
        name: "a commit is durable before it is acknowledged",
        without: &[
            ("-c synchronous_commit=on", "-c synchronous_commit=off"),
            // It is looked at when a connection is made.
            ("s.setting <> asked.value", "false"),
        ],
        faults: &[Fault::CrashBackend],
        missed: "was not claimed for it",
    },
];

/// Does what is to be done to a cluster without the protection, once, and says all that the auditor then
/// finds.
async fn found_without(protection: &Protection, cluster: &str) -> Vec<String> {
    let mut stage = Stage::start(cluster, protection.without).await.expect("a cluster");
    for fault in protection.faults {
        stage.inflict(*fault).await.expect("it is done");
    }
    stage.hold(Duration::from_secs(2)).await;
    let mut unseen = stage.proxies[0].unseen();
    for proxy in &stage.proxies[1..] {
        unseen.retain(|text| proxy.unseen().contains(text));
    }
    let mut history = stage.close().await.expect("its books");
    // What is to be seen is there on any machine: nothing is put down to the load.
    history.loads.clear();
    let verdict = history.judge();
    assert_eq!(unseen, [""; 0], "{}: the nodes do not say this any more", protection.name);
    verdict.broken.into_iter().map(|broken| broken.what).collect()
}

/// Does what is to be done without the protection until somebody misses it.
async fn miss(nth: usize, protection: &Protection) {
    let Protection { name, missed, .. } = protection;
    let _turn = turns(1).await;
    let began = Instant::now();
    // Not every fault meets the gap that it leaves: a crash, for one, only what was just acknowledged.
    for round in 0.. {
        let broken = found_without(protection, &format!("without_{nth}_{round}")).await;
        if broken.iter().any(|broken| broken.contains(missed)) {
            break;
        }
        assert!(began.elapsed() < WITHIN, "{name}: no {missed:?} in {broken:#?}");
    }
    println!("without: {name}: seen after {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_protection_is_missed_when_it_is_taken_away() {
    let next = Arc::new(AtomicUsize::new(0));
    let all = (0..SHARED_BY).map(|_| {
        let next = next.clone();
        tokio::spawn(async move {
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let Some(protection) = PROTECTIONS.get(nth) else { break };
                miss(nth, protection).await;
            }
        })
    });
    for done in all.collect::<Vec<_>>() {
        done.await.expect("each of them is missed");
    }
}
