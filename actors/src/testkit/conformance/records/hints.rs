//! Hints reach all clients.

use futures_util::StreamExt;
use tokio::time::timeout;

use super::*;
use crate::port::{HINT_BYTES_MAX, HINTS_WAITING_MAX, Heard, HintStream};

/// How long nothing comes that does not come.
const NOTHING_WITHIN: Duration = Duration::from_millis(100);

impl Suite {
    pub(super) async fn hints(&self) {
        if !self.first.traits().hints {
            self.a_store_without_hints_says_nothing().await;
            return;
        }
        self.what_was_done_is_told_to_all().await;
        self.a_subscriber_that_lags_is_told_so().await;
    }

    async fn tell(&self, records: Vec<RecordChange>, hints: &[&[u8]]) -> UnitAnswer {
        let hints = hints.iter().map(|hint| Arc::from(*hint)).collect();
        only(answers(&*self.first, &unguarded(vec![Unit { records, hints }])).await)
    }

    async fn a_store_without_hints_says_nothing(&self) {
        let mut heard = self.second.subscribe().await.expect("a subscription");
        self.tell(Vec::new(), &[b"unheard"]).await;
        let nothing = timeout(NOTHING_WITHIN, heard.next()).await;
        assert!(nothing.is_err(), "nothing comes, and the stream does not end: {nothing:?}");
    }

    async fn what_was_done_is_told_to_all(&self) {
        let clients = [&self.first, &self.second, &self.second];
        self.tell(Vec::new(), &[b"before anybody listened"]).await;
        let mut streams = Vec::new();
        for client in clients {
            streams.push(client.subscribe().await.expect("a subscription"));
        }
        let strange = self.stranger.subscribe().await.expect("a subscription");

        let long = vec![b'x'; HINT_BYTES_MAX];
        let binary: Vec<u8> = (0..=255).collect();
        let conflict = self.tell(vec![keep("hinted", Version(7))], &[b"not done"]).await;
        assert_eq!(conflict, UnitAnswer::Conflict);
        self.tell(vec![put("hinted", Version::ABSENT, b"1")], &[&long, b""]).await;
        self.tell(Vec::new(), &[&binary, b"last"]).await;

        for mut stream in streams {
            let mut heard = until(&mut stream, b"last").await;
            heard.sort();
            heard.dedup();
            let mut expected = vec![long.clone(), Vec::new(), binary.clone(), b"last".to_vec()];
            expected.sort();
            assert_eq!(heard, expected, "each client hears what was done since it listens");
        }
        let mut strange = strange;
        let nothing = timeout(NOTHING_WITHIN, strange.next()).await;
        assert!(nothing.is_err(), "another scope hears nothing: {nothing:?}");
    }

    async fn a_subscriber_that_lags_is_told_so(&self) {
        let mut heard = self.second.subscribe().await.expect("a subscription");
        for at in 0..2 * HINTS_WAITING_MAX {
            self.tell(Vec::new(), &[&(at as u64).to_be_bytes()[..]]).await;
        }
        self.tell(Vec::new(), &[b"the newest"]).await;
        // The adapter has had the time to receive them all.
        let mut beside = self.second.subscribe().await.expect("a subscription");
        self.tell(Vec::new(), &[b"after all"]).await;
        until(&mut beside, b"after all").await;

        let mut lagged = false;
        let mut hints = 0;
        loop {
            match timeout(SOON, heard.next()).await.expect("the newest is not dropped") {
                Some(Heard::Lagged) => lagged = true,
                Some(Heard::Hint(hint)) if *hint == b"after all"[..] => break,
                Some(Heard::Hint(_)) => hints += 1,
                None => panic!("the stream ended"),
            }
        }
        assert!(lagged, "more came than wait for a subscriber: {hints} were kept");
        assert!(hints <= HINTS_WAITING_MAX + 1, "{hints} were kept");
    }
}

/// All hints up to this one.
async fn until(stream: &mut HintStream, last: &[u8]) -> Vec<Vec<u8>> {
    let mut heard = Vec::new();
    loop {
        match timeout(SOON, stream.next()).await.expect("it is told soon") {
            Some(Heard::Hint(hint)) => {
                heard.push(hint.to_vec());
                if *hint == *last {
                    return heard;
                }
            }
            Some(Heard::Lagged) => panic!("few hints are not lost where nothing goes wrong"),
            None => panic!("the stream ended"),
        }
    }
}
