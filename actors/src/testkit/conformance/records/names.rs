//! Names and bytes are kept as they are.

use super::*;
use crate::port::RECORD_ID_MAX;

/// Of which a store takes one for another that folds case, trims, ignores accents, or splits names.
const ODD: [&str; 22] = [
    "odd",
    "Odd",
    "ODD",
    "odd ",
    " odd",
    "odd/",
    "odd/a",
    "odd:a",
    "odd%",
    "odd%20",
    "odd_",
    "odd*",
    "o?d",
    "o[d]d",
    "{odd}",
    "ödd",
    "o\u{308}dd",
    "odd'",
    "odd\"",
    "odd\\",
    "\u{1f916}",
    "\u{fffd}",
];

impl Suite {
    pub(super) async fn names(&self) {
        self.ids_are_compared_byte_by_byte().await;
        self.kinds_share_no_name().await;
        self.another_scope_shares_nothing().await;
        self.bytes_are_kept_as_they_are().await;
    }

    async fn ids_are_compared_byte_by_byte(&self) {
        let (long, longer) = ("x".repeat(RECORD_ID_MAX - 1), "x".repeat(RECORD_ID_MAX));
        let robot = "\u{1f916}".repeat(RECORD_ID_MAX / 4);
        let ids: Vec<&str> = ODD.into_iter().chain([&*long, &*longer, &*robot]).collect();
        for id in &ids {
            assert_eq!(self.stored(id).await, StoredRecord::ABSENT, "{id:?} was not written yet");
            self.create(id, id.as_bytes()).await;
        }
        for (id, record) in ids.iter().zip(read(&*self.second, &ids).await) {
            assert_eq!(record.bytes, id.as_bytes(), "of {id:?}");
        }
        let twice = read(&*self.second, &["odd", "never-written", "odd"]).await;
        assert_eq!(twice[0], twice[2], "a name may occur twice in a read");
    }

    async fn kinds_share_no_name(&self) {
        for kind in RecordKind::ALL {
            let name = RecordName::new(kind, "of-a-kind");
            let bytes = kind.code().as_bytes().to_vec();
            let put = RecordChange { name, version: Version::ABSENT, change: Change::Put(bytes) };
            made(&*self.first, vec![put]).await;
        }
        let names = RecordKind::ALL.map(|kind| RecordName::new(kind, "of-a-kind"));
        let snapshot = self.second.read(&names, &[]).await.expect("an answer");
        for (kind, record) in RecordKind::ALL.iter().zip(snapshot.records) {
            assert_eq!(record.bytes, kind.code().as_bytes(), "of {kind:?}");
        }
    }

    async fn another_scope_shares_nothing(&self) {
        let version = self.create("scoped", b"1").await;
        assert_eq!(read(&*self.stranger, &["scoped"]).await, [StoredRecord::ABSENT]);
        let other = answer(&*self.stranger, vec![put("scoped", version, b"2")]).await;
        assert_eq!(other, UnitAnswer::Conflict, "it has none in that version");
        made(&*self.stranger, vec![put("scoped", Version::ABSENT, b"2")]).await;
        assert_eq!(self.stored("scoped").await.bytes, b"1");
        let page = self.stranger.list(RecordKind::Name, None, 10).await.expect("an answer");
        let ids: Vec<_> = page.records.iter().map(|listed| &*listed.id).collect();
        assert_eq!((ids, page.more), (vec!["scoped"], false));
        assert!(
            !is_alive(&*self.stranger, self.own).await,
            "a session of another scope is none of this one's"
        );
    }

    async fn bytes_are_kept_as_they_are(&self) {
        let all: Vec<u8> = (0..=255).collect();
        for (id, bytes) in [("bytes-all", &*all), ("bytes-zero", &[0, 0][..]), ("bytes-none", &[])] {
            let version = self.create(id, bytes).await;
            let bytes = bytes.to_vec();
            assert_eq!(self.stored(id).await, StoredRecord { version, bytes }, "{id}");
        }
        let empty = answer(&*self.first, vec![put("bytes-none", Version::ABSENT, b"1")]).await;
        assert_eq!(empty, UnitAnswer::Conflict, "a record without bytes is there");
    }
}
