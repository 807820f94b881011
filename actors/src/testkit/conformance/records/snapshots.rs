//! A read sees one instant.

use futures_util::future::join;
use tokio::time::sleep;

use super::*;

/// How often a writer changes what a reader looks at.
const ROUNDS: u32 = 100;

impl Suite {
    pub(super) async fn snapshots(&self) {
        self.records_that_are_written_together_are_read_together().await;
        self.a_record_and_the_session_that_it_names_are_read_together().await;
        self.time_goes_on().await;
    }

    async fn records_that_are_written_together_are_read_together(&self) {
        let ids = ["together-1", "together-2", "together-3"];
        let (first, second) = (self.first.clone(), self.second.clone());
        let writer = async move {
            let mut versions = vec![Version::ABSENT; ids.len()];
            for round in 0..ROUNDS {
                let write = |(id, version): (&&str, &Version)| put(id, *version, &round.to_be_bytes());
                versions = made(&*first, ids.iter().zip(&versions).map(write).collect()).await;
            }
        };
        let last = (ROUNDS - 1).to_be_bytes();
        let reader = async move {
            loop {
                let records = read(&*second, &ids).await;
                let same = records.iter().all(|record| record.bytes == records[0].bytes);
                assert!(same, "one instant: {records:?}");
                if records[0].bytes == last {
                    return;
                }
            }
        };
        join(writer, reader).await;
    }

    /// A session is ended only after the record that names it was written anew.
    async fn a_record_and_the_session_that_it_names_are_read_together(&self) {
        let (first, second, long) = (self.first.clone(), self.second.clone(), self.long);
        let writer = async move {
            let mut version = Version::ABSENT;
            for _ in 0..ROUNDS / 4 {
                let session = first.open(long).await.expect("a session opens");
                for bytes in [&session.0.to_be_bytes()[..], &[]] {
                    version = only(made(&*first, vec![put("names-a-session", version, bytes)]).await);
                }
                first.end(session).await.expect("an answer");
            }
            made(&*first, vec![delete("names-a-session", version)]).await;
        };
        let reader = async move {
            let mut seen = false;
            loop {
                let record = only(read(&*second, &["names-a-session"]).await);
                seen |= record.version.is_present();
                if seen && !record.version.is_present() {
                    return;
                }
                let Ok(session) = <[u8; 8]>::try_from(&*record.bytes) else { continue };
                let session = RecordSession(u64::from_be_bytes(session));
                let snapshot = snapshot(&*second, &["names-a-session"], &[session]).await;
                let named = snapshot.records[0].version == record.version;
                assert!(!named || snapshot.alive[0], "what names it was there, and it was gone");
            }
        };
        join(writer, reader).await;
    }

    async fn time_goes_on(&self) {
        let asked = unguarded(vec![unit(vec![put("timed", Version::ABSENT, b"1")])]);
        let before = snapshot(&*self.first, &[], &[]).await.time;
        sleep(Duration::from_millis(5)).await;
        let Committed::Units { time: committed, .. } = commit(&*self.first, &asked).await else {
            panic!("it has no guards")
        };
        sleep(Duration::from_millis(5)).await;
        let after = snapshot(&*self.second, &[], &[]).await.time;
        match (self.first.traits().time, before, committed, after) {
            (true, Some(before), Some(committed), Some(after)) => {
                assert!(before < committed && committed < after, "{before} {committed} {after}");
            }
            (false, None, None, None) => {}
            (time, before, committed, after) => panic!("{time}: {before:?} {committed:?} {after:?}"),
        }
    }
}
