//! The example `catalogue`, run as a process.

use crate::{example::example, harness::server, process::Process};

#[test]
fn the_example_stores_changes_and_deletes_jobs_on_two_nodes() {
    let mut process = Process::start(example("catalogue").env("CALLSHEET_DATABASE_URL", server().url()));

    let (code, lines) = process.end();

    assert_eq!(code, Some(0), "{lines:?}");
    let expected = [
        "stored digest: Disabled",
        "stored report: Held",
        "two runs report for alice",
        "refused: true",
        "one runs report for bob",
        "changed by carol",
        "deleted everywhere",
    ];
    assert_eq!(lines, expected);
}
