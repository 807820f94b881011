//! The wall clock of one process, which can be set. Its monotonic clock stays as it is.

use std::{fs, process::Command};

use tempfile::NamedTempFile;

pub(crate) struct WallClock {
    offset: NamedTempFile,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        let clock = Self { offset: NamedTempFile::new().expect("a file") };
        clock.set("+0");
        clock
    }

    /// How far it is from the machine's, in seconds.
    pub(crate) fn set(&self, offset: &str) {
        fs::write(self.offset.path(), offset).expect("it is written");
    }

    pub(crate) fn of(&self, mut command: Command) -> Command {
        let libraries = fs::read_dir("/usr/lib").expect("a directory").filter_map(Result::ok);
        let library = libraries
            .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists());
        let library = library.expect("libfaketime is missing: apt-get install faketime");
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", self.offset.path())
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}
