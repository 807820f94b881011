//! A file system that is full.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use chrono::Utc;
use tokio::task::block_in_place;

use super::{LONG, SHORT, Wound, servers::SERVER_MAX};
use crate::{
    harness::{self, Stop},
    stage::Stage,
    store::Store,
};

/// How much more than it has the log may take.
const ROOM: u64 = 1 << 20;
const NEXT_LOG_FILE: &str = "SELECT (pg_switch_wal() - '0/0')::int8";

/// A file system in memory, gone when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "none"])
            .arg(path))?;
        harness::give(path);
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // An error: it is in use, and goes with the last process that has it open.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.0));
        let _ = fs::remove_dir(&self.0);
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn size(directory: &Path) -> anyhow::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(directory)? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}

/// The server's log is on a file system that has room for what is there, and no more.
pub(crate) async fn full(stage: &mut Stage) -> anyhow::Result<Wound> {
    let directory = stage.store.server.socket_directory().to_owned();
    let (log, disk) = (directory.join("data/pg_wal"), directory.join("wal"));
    let disk = match Mounted::at(&disk, 1 << 30) {
        Ok(disk) => disk,
        Err(error) => {
            return Ok(Wound { not_run: Some(format!("no file system: {error}")), ..Wound::default() });
        }
    };
    // A server that starts in the last quarter of a file of the log makes the next one, for which there is no room.
    stage.store.number(NEXT_LOG_FILE).await?;
    block_in_place(|| -> anyhow::Result<()> {
        stage.store.stop(Stop::Fast);
        run(Command::new("cp").arg("-a").arg(log.join(".")).arg(&disk.0))?;
        fs::remove_dir_all(&log)?;
        std::os::unix::fs::symlink(&disk.0, &log)?;
        let bytes = size(&disk.0)? + ROOM;
        run(Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(&disk.0))?;
        stage.store.restart();
        Ok(())
    })?;
    let struck_at = Utc::now();
    // Until a file of the log is full, and no other one can be made.
    let until = std::time::Instant::now() + SERVER_MAX;
    while stage.store.number(NEXT_LOG_FILE).await.is_ok() {
        ensure!(std::time::Instant::now() < until, "the disk does not fill");
        stage.hold(SHORT / 20).await;
    }
    stage.hold(LONG).await;
    block_in_place(|| -> anyhow::Result<()> {
        run(Command::new("mount").args(["-o", "remount,size=1g"]).arg(&disk.0))?;
        if directory.join("data/postmaster.pid").exists() {
            stage.store.stop(Stop::Immediate);
        }
        fs::remove_file(&log)?;
        run(Command::new("cp").arg("-a").arg(&disk.0).arg(&log))?;
        stage.store.restart();
        Ok(())
    })
    .context("back on its own disk")?;
    drop(disk);
    Ok(Wound { struck_at: Some(struck_at), ..Wound::default() })
}
