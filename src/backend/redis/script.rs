//! The scripts that run on the server.

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

use super::connection::RedisConnection;

/// What a script does stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Commit,
    List,
    Read,
    Renew,
}

impl Script {
    const ALL: [Self; 4] = [Self::Commit, Self::List, Self::Read, Self::Renew];

    const fn text(self) -> &'static str {
        match self {
            Self::Commit => include_str!("commit.lua"),
            Self::List => include_str!("list.lua"),
            Self::Read => include_str!("read.lua"),
            Self::Renew => include_str!("renew.lua"),
        }
    }
}

/// What the server calls the scripts.
#[derive(Default)]
pub(super) struct Scripts([String; 4]);

impl Scripts {
    /// Makes the scripts known to the server.
    pub(super) async fn load(connection: &RedisConnection) -> RedisResult<Self> {
        let mut scripts = Self::default();
        for script in Script::ALL {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.text());
            let name = connection.ask(&load).await?;
            scripts.0[script as usize] = redis::from_redis_value(name)?;
        }
        Ok(scripts)
    }
}

/// Runs a script with the keys and arguments that `write` writes. A server that has forgotten it, which does
/// nothing then, is told it again.
pub(super) async fn run(
    connection: &RedisConnection,
    script: Script,
    write: impl Fn(&mut Cmd),
) -> RedisResult<Value> {
    let command = |name: &str, script: &str| {
        let mut command = redis::cmd(name);
        command.arg(script);
        write(&mut command);
        command
    };
    match connection.ask(&command("EVALSHA", &connection.scripts.0[script as usize])).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            connection.ask(&command("EVAL", script.text())).await
        }
        answer => answer,
    }
}
