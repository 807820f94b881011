//! How much the machine keeps everybody waiting. A thread sleeps for a moment, again and again, and makes a
//! file durable now and then: what either takes longer than it should is time that no node and no server had.

use std::{
    fs::File,
    io::{Seek, Write},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};

/// How long it sleeps.
const NAP: Duration = Duration::from_millis(10);
/// After how many naps it writes.
const NAPS: u32 = 20;
/// What a nap or a write may take without being late: less is what a machine takes that waits for nothing.
const USUAL: Duration = Duration::from_millis(5);

/// A time that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

impl Wait {
    /// How much of it lies between two instants.
    pub(crate) fn within(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> TimeDelta {
        (self.until.min(until) - self.from.max(from)).max(TimeDelta::zero())
    }
}

static WAITS: Mutex<Vec<Wait>> = Mutex::new(Vec::new());

fn waits() -> MutexGuard<'static, Vec<Wait>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the machine from now on, until this process ends.
pub(crate) fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| drop(thread::spawn(measure)));
}

/// All that was lost so far.
pub(crate) fn lost() -> Vec<Wait> {
    waits().clone()
}

fn measure() {
    // Where the servers of the tests have their data.
    let mut file = tempfile::tempfile().expect("a file");
    for nth in 0_u32.. {
        let began = Instant::now();
        thread::sleep(NAP);
        note(began.elapsed().saturating_sub(NAP));
        if nth % NAPS == 0 {
            let began = Instant::now();
            write(&mut file).expect("it is written");
            note(began.elapsed());
        }
    }
}

fn write(file: &mut File) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(&[0; 8_192])?;
    file.sync_data()
}

fn note(late: Duration) {
    let until = Utc::now();
    if late > USUAL {
        waits().push(Wait { from: until - late, until });
    }
}
