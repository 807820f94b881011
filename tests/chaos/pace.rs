//! How much the machine keeps everybody waiting. A thread sleeps for a moment, again and again, and makes a
//! file durable now and then: what either takes longer than it should is time that no node and no server had.

use std::{
    fs::{self, File},
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

/// How many threads wanted a processor at an instant, for each that there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) at: DateTime<Utc>,
    pub(crate) per_processor: f64,
}

/// How many times as long as alone what computes took between two instants, on the average: one, if nothing
/// is known.
pub(crate) fn slowness(loads: &[Load], from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    let within = loads.iter().filter(|load| from <= load.at && load.at <= until);
    let (sum, count) =
        within.fold((0.0, 0_u32), |(sum, count), load| (sum + load.per_processor.max(1.0), count + 1));
    if count == 0 { 1.0 } else { sum / f64::from(count) }
}

static LOADS: Mutex<Vec<Load>> = Mutex::new(Vec::new());

/// All loads that were seen so far.
pub(crate) fn loads() -> Vec<Load> {
    LOADS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The threads that want a processor but this one, for each processor; nothing, if this system does not say
/// it.
fn load() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let is_processor = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let processors = u32::try_from(stat.lines().filter(is_processor).count()).ok()?;
    let running: u32 =
        stat.lines().find_map(|line| line.strip_prefix("procs_running "))?.trim().parse().ok()?;
    (processors > 0).then(|| f64::from(running.saturating_sub(1)) / f64::from(processors))
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
            if let Some(per_processor) = load() {
                let load = Load { at: Utc::now(), per_processor };
                LOADS.lock().unwrap_or_else(PoisonError::into_inner).push(load);
            }
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

#[test]
fn computing_takes_longer_by_the_number_of_threads_per_processor() {
    let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("an instant");
    let loads = [(0, 9.0), (1, 0.5), (2, 3.0), (3, 5.0), (4, 9.0)];
    let loads = loads.map(|(second, per_processor)| Load { at: at(second), per_processor });

    assert_eq!(slowness(&loads, at(1), at(3)), 3.0);
    assert_eq!(slowness(&loads, at(5), at(9)), 1.0);
    assert!(load().is_some_and(|load| load >= 0.0));
}
