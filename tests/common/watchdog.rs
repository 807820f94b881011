//! A server that ends with the test process, also if that is killed.
//!
//! A shell starts and stops it. Its orders come through a pipe whose other end only the test process holds.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{Mutex, PoisonError},
    thread::sleep,
    time::Duration,
};

use tempfile::TempDir;

use super::owner::Owner;

const PAUSE: Duration = Duration::from_millis(5);

/// Starts and stops a server, and removes its directory in the end.
pub(crate) struct Watchdog {
    directory: PathBuf,
    shell: Mutex<Shell>,
}

struct Shell {
    process: Child,
    /// Its end tells the shell to end as well.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    /// For a server that works in this directory, and is not started yet. `command` is the program and its arguments.
    pub(crate) fn launch(owner: &Owner, directory: TempDir, command: &[OsString]) -> Self {
        // It answers each order with the id of the server's process. A process that is frozen is killed all the same.
        const SHELL: &str = r#"
            trap '' PIPE
            directory=$1
            shift
            server=
            while read -r order; do
                case $order in
                    start) "$@" >>"$directory/log" 2>&1 </dev/null & server=$! ;;
                    stop) kill -TERM $server; wait $server ;;
                    kill) kill -KILL $server; wait $server ;;
                    freeze) kill -STOP $server ;;
                    thaw) kill -CONT $server ;;
                esac 2>>"$directory/log"
                echo $server
            done
            kill -KILL $server
            wait $server
            rm -rf "$directory"
        "#;
        let mut process = owner
            .command("/bin/sh")
            .args(["-c", SHELL, "watchdog"])
            .arg(directory.path())
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        // From here on the shell removes it.
        Self { directory: directory.keep(), shell: Mutex::new(Shell { process, orders, answers }) }
    }

    /// Starts the server, and answers the id of its process.
    pub(crate) fn start(&self) -> i32 {
        self.order("start")
    }

    /// Ends the server in order. Blocks until it has ended.
    pub(crate) fn stop(&self) {
        self.order("stop");
    }

    /// Kills the server. Blocks until it has ended.
    pub(crate) fn kill(&self) {
        self.order("kill");
    }

    /// Stops all of the server's threads where they are: its connections stay open, and nothing is answered. Blocks until
    /// it stands still.
    pub(crate) fn freeze(&self) {
        let process = self.order("freeze");
        let stands_still = || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // The state follows the name of the program, which stands in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !stands_still() {
            sleep(PAUSE);
        }
    }

    /// Lets a server that was frozen go on.
    pub(crate) fn thaw(&self) {
        self.order("thaw");
    }

    /// What the server has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn order(&self, order: &str) -> i32 {
        // A test that panicked over an order leaves the next one in its place.
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = shell.orders.as_mut().expect("it takes orders until it is dropped");
        writeln!(orders, "{order}").expect("the shell lives");
        let mut answer = String::new();
        shell.answers.read_line(&mut answer).expect("a line");
        answer.trim_end().parse().expect("the id of a process")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let shell = self.shell.get_mut().unwrap_or_else(PoisonError::into_inner);
        shell.orders = None;
        // An error: it has ended already.
        let _ = shell.process.wait();
    }
}

/// Where a program is.
///
/// # Panics
///
/// If it is not installed: `package` has it.
pub(crate) fn program(name: &str, package: &str) -> OsString {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|place| Path::new(place).join(name));
    let found = places.into_iter().find(|place| place.exists());
    let missing = || panic!("these tests need {name}: apt-get install {package}");
    found.unwrap_or_else(missing).into_os_string()
}
