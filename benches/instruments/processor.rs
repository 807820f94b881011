//! What the system says of this process.

use std::{fs, time::Duration};

use anyhow::Context;

/// The processor time of all threads of this process, to the nanosecond.
pub(crate) fn processor_time() -> anyhow::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += line.split(' ').next().context("schedstat: no first field")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// How much memory this process has.
pub(crate) fn resident_bytes() -> anyhow::Result<u64> {
    const PAGE: u64 = 4_096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).context("statm: no second field")?;
    Ok(pages.parse::<u64>()? * PAGE)
}
