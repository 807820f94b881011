//! Lists, page by page.

use std::collections::BTreeMap;

use futures_util::future::join;

use super::*;
use crate::port::RecordPage;

/// Of a kind that no other check writes many of.
const KIND: RecordKind = RecordKind::Pending;

impl Suite {
    pub(super) async fn lists(&self) {
        self.a_list_is_in_the_order_of_the_bytes().await;
        self.pages_go_on_while_others_write().await;
    }

    async fn page(&self, after: Option<&str>, limit: usize) -> RecordPage {
        let page = self.second.list(KIND, after, limit).await.expect("an answer");
        assert!(page.records.len() <= limit, "at most as many as asked for");
        assert!(page.records.is_sorted_by(|one, two| one.id < two.id), "in order: {:?}", page.records);
        assert!(!page.records.is_empty() || !page.more, "an empty page has no more");
        page
    }

    /// All records whose ids begin with this, by pages of so many.
    async fn listed(&self, start: &str, limit: usize) -> BTreeMap<String, StoredRecord> {
        let mut listed = BTreeMap::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.page(after.as_deref(), limit).await;
            let of_page = page.records.iter().filter(|listed| listed.id.starts_with(start));
            for record in of_page {
                let former = listed.insert(record.id.to_string(), record.record.clone());
                assert_eq!(former, None, "{} came twice", record.id);
            }
            let Some(last) = page.records.last().filter(|_| page.more) else { return listed };
            assert!(
                after.as_ref().is_none_or(|after| *after < last.id),
                "the next page is after the former one"
            );
            after = Some(last.id.clone());
        }
    }

    async fn of_kind(&self, id: &str, version: Version, change: Change) -> Version {
        let name = RecordName::new(KIND, id);
        only(made(&*self.first, vec![RecordChange { name, version, change }]).await)
    }

    async fn a_list_is_in_the_order_of_the_bytes(&self) {
        let ids = ["l-a", "l-A", "l-a/b", "l-a:b", "l-a b", "l-ä", "l-\u{1f916}", "l-~", "l-", "l-a'\"%_*["];
        let mut expected = BTreeMap::new();
        for id in ids {
            let version = self.of_kind(id, Version::ABSENT, Change::Put(id.as_bytes().to_vec())).await;
            expected.insert(id.to_owned(), StoredRecord { version, bytes: id.as_bytes().to_vec() });
        }
        for limit in [1, 3, 10, 1_000] {
            assert_eq!(self.listed("l-", limit).await, expected, "pages of {limit}");
        }

        let after = self.page(Some("l-a"), 2).await;
        assert_eq!(after.records[0].id.as_bytes(), b"l-a b", "after an id that is there");
        let after = self.page(Some("l-a9"), 2).await;
        assert_eq!(&*after.records[0].id, "l-a:b", "after an id that is not");
        let end = self.page(Some("\u{10ffff}"), 2).await;
        assert_eq!(end, RecordPage::default(), "after the last one");
        self.of_kind("l-a", expected["l-a"].version, Change::Delete).await;
        expected.remove("l-a");
        assert_eq!(self.listed("l-", 4).await, expected, "what was deleted is not listed");
    }

    async fn pages_go_on_while_others_write(&self) {
        let id = |at: usize| format!("p-{at:03}");
        for at in (0..60).step_by(2) {
            self.of_kind(&id(at), Version::ABSENT, Change::Put(Vec::new())).await;
        }
        let writer = async {
            for round in 0..3 {
                let mut versions = Vec::new();
                for at in (1..60).step_by(2) {
                    let bytes = vec![round];
                    versions.push((at, self.of_kind(&id(at), Version::ABSENT, Change::Put(bytes)).await));
                }
                for (at, version) in versions {
                    self.of_kind(&id(at), version, Change::Delete).await;
                }
            }
        };
        let reader = async {
            for limit in [1, 4, 7, 25] {
                let listed = self.listed("p-", limit).await;
                for at in (0..60).step_by(2) {
                    assert!(listed.contains_key(&id(at)), "{} was there all the time", id(at));
                }
            }
        };
        join(writer, reader).await;
    }
}
