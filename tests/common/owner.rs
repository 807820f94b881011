//! Whom the servers of tests belong to, and which ports.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A command that runs as the ordinary user to whom the servers belong, if this process is root.
pub(crate) fn unprivileged(program: &str) -> Command {
    Owner::find().command(program)
}

/// Gives a file or a directory to that user.
pub(crate) fn give(path: &Path) {
    Owner::find().give(path);
}

/// Whom a server belongs to: PostgreSQL refuses to run as root, and no other one has to.
pub(crate) struct Owner(Option<(u32, u32)>);

impl Owner {
    pub(crate) fn find() -> Self {
        let own = fs::metadata("/proc/self").expect("a proc file system");
        if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
            return Self(None);
        }
        let users = fs::read_to_string("/etc/passwd").expect("a list of users");
        let ids = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        Self(Some(ids("postgres").or_else(|| ids("nobody")).expect("a user postgres or nobody")))
    }

    pub(crate) fn give(&self, path: &Path) {
        if let Self(Some((user, group))) = self {
            chown(path, Some(*user), Some(*group)).expect("root gives files away");
        }
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Self(Some((user, group))) = self {
            command.uid(*user).gid(*group);
        }
        // Its own process group: an interrupt at the terminal is for the tests, the watchdog must outlive them.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").current_dir("/").process_group(0);
        command
    }
}

/// Files that a server may read, in a directory that is gone when this is dropped.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-files-").expect("a temporary directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("it is written");
            owner.give(&path);
        }
        owner.give(directory.path());
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A free port on the loopback interface that nobody else is given. Who binds it with `SO_REUSEADDR`, as servers do,
/// may listen on it.
pub(crate) fn reserve_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("it is allowed");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}
