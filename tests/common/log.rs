//! Everything that is logged in a test process.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    io::Write,
    sync::{Arc, Mutex, Once, OnceLock},
    time::{Duration, Instant},
};

/// How long a test waits for what is to happen in real time.
const UNTIL_MAX: Duration = Duration::from_secs(60);

/// Waits until something is so. What was logged says why it is not.
pub(crate) async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let until = Instant::now() + UNTIL_MAX;
    while !is().await {
        assert!(Instant::now() < until, "not {what}\n{}", Log::keep().text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything that is logged in this process.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The log of this process, which is kept from the first call on.
    pub(crate) fn keep() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        static KEPT: Once = Once::new();
        let log = LOG.get_or_init(Self::default).clone();
        KEPT.call_once(|| {
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(move || writer.clone())
                .finish();
            // Not `init`, which also takes what goes to the crate `log`: there the tests' own client writes each of
            // its statements, with the passwords of the roles that it makes.
            tracing::subscriber::set_global_default(subscriber).expect("the log is kept once");
        });
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panicked")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
