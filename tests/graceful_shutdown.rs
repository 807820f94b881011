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
        let (runs, left) = details.split_at(2);
        assert!(runs[0].starts_with("polite was Cancelled: run "), "{signal:?}: {lines:?}");
        assert!(runs[1].starts_with("stubborn was Aborted: run "), "{signal:?}: {lines:?}");
        assert!(left.iter().all(|line| line.contains(" fires next at ")), "{signal:?}: {lines:?}");
        // Those that the node had not come to when it was stopped are not its own to leave.
        let told = match left.len() {
            0 => String::new(),
            1 => ", left 1 fire time".to_owned(),
            times => format!(", left {times} fire times"),
        };
        assert_eq!(rest, Some(&*told), "{signal:?}: {lines:?}");
    }
}
