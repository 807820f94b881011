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

/// How much memory this process has, and how much of it is text of the program and of libraries, or other files: the
/// system may drop that, and reads it again.
pub(crate) fn resident_and_of_files() -> anyhow::Result<(u64, u64)> {
    const PAGE: u64 = 4_096;
    let statm = fs::read_to_string("/proc/self/statm")?;
    let mut fields = statm.split(' ').skip(1).map(|pages| anyhow::Ok(pages.parse::<u64>()? * PAGE));
    let mut next = |what| fields.next().with_context(|| format!("statm: no {what}"))?;
    Ok((next("resident pages")?, next("shared pages")?))
}

/// How much memory this process has.
pub(crate) fn resident_bytes() -> anyhow::Result<u64> {
    Ok(resident_and_of_files()?.0)
}
