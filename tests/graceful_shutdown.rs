//! The example `graceful_shutdown`, run as a process and stopped by signals.
//!
//! `cargo test` builds the example; `cargo test --test graceful_shutdown` runs it as it was built last.

#[path = "common/example.rs"]
mod example;
mod process;

use process::Process;
use rustix::process::Signal;

#[test]
fn it_drains_cancels_aborts_and_reports_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start(&mut example::example("graceful_shutdown"));
        // In whichever order they come.
        for _ in 0..3 {
            process.wait_for(" has started");
        }

        process.signal(signal);
        let (code, lines) = process.end();

        assert_eq!(code, Some(0), "{signal:?}: {lines:?}");
        let (report, before) = {
            let at = lines.iter().position(|line| line.starts_with("stopped: "));
            let (before, report) = lines.split_at(at.unwrap_or_else(|| panic!("{signal:?}: {lines:?}")));
            (report, before)
        };
        let said = |text: &str| before.iter().any(|line| line == text);
        assert!(said("patient has done all of its work"), "{signal:?}: {lines:?}");
        assert!(said("polite has put its tools away"), "{signal:?}: {lines:?}");
        let (summary, details) = report.split_first().expect("it was found");
        let rest = summary.strip_prefix("stopped: drained 1, cancelled 1, aborted 1");
        let [polite, stubborn] = details else { panic!("{signal:?}: {lines:?}") };
        assert!(polite.starts_with("polite was cancelled: run "), "{signal:?}: {lines:?}");
        assert!(stubborn.starts_with("stubborn was aborted: run "), "{signal:?}: {lines:?}");
        // A store of one node: nobody takes its fire times over.
        assert_eq!(rest, Some(""), "{signal:?}: {lines:?}");
    }
}
