//! Hints that nodes were asked something, or have answered: notifications of the server, as JSON.
//!
//! Any role that knows the channel can send one: it makes a node look, and no more.

use callsheet_actors::NodeId;
use serde::Deserialize;
use tokio::sync::watch;
use uuid::Uuid;

/// How often, in this session, it was heard that somebody is asked, and that this node has an answer.
pub(super) struct ControlHints {
    node: Uuid,
    pub(super) asked: watch::Sender<u64>,
    pub(super) answered: watch::Sender<u64>,
}

/// As the statements write it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payload {
    Asked {},
    Answered { node: Uuid },
}

/// How they begin.
const HINTS: [&str; 2] = [r#"{"asked""#, r#"{"answered""#];

impl ControlHints {
    pub(super) fn of(node: NodeId) -> Self {
        Self { node: node.as_uuid(), asked: watch::Sender::new(0), answered: watch::Sender::new(0) }
    }

    /// Hears a notification, if it is a hint.
    pub(super) fn hear(&self, payload: &str) -> bool {
        // Most are none.
        if !HINTS.iter().any(|hint| payload.starts_with(hint)) {
            return false;
        }
        match serde_json::from_str(payload) {
            Ok(Payload::Asked {}) => count(&self.asked),
            Ok(Payload::Answered { node }) if node == self.node => count(&self.answered),
            // To another node.
            Ok(Payload::Answered { .. }) => {}
            Err(_) => return false,
        }
        true
    }

    /// Some were not heard.
    pub(super) fn missed(&self) {
        count(&self.asked);
        count(&self.answered);
    }
}

fn count(hints: &watch::Sender<u64>) {
    hints.send_modify(|hints| *hints = hints.wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(hints: &ControlHints) -> (u64, u64) {
        (*hints.asked.borrow(), *hints.answered.borrow())
    }

    #[test]
    fn an_answer_is_for_the_node_that_asked() {
        let hints = ControlHints::of(NodeId::numbered(7));

        assert!(hints.hear(r#"{"asked" : {}}"#));
        assert_eq!(counts(&hints), (1, 0));
        assert!(hints.hear(r#"{"answered" : {"node" : "00000000-0000-0000-0000-000000000008"}}"#));
        assert_eq!(counts(&hints), (1, 0), "another node's");
        assert!(hints.hear(r#"{"answered" : {"node" : "00000000-0000-0000-0000-000000000007"}}"#));
        assert_eq!(counts(&hints), (1, 1));
        hints.missed();
        assert_eq!(counts(&hints), (2, 2));
    }

    #[test]
    fn what_is_no_hint_is_left_to_others() {
        let hints = ControlHints::of(NodeId::numbered(7));
        for payload in [r#"{"backfills": {}}"#, "secret", r#"{"answered": {"node": "secret"}}"#, ""] {
            assert!(!hints.hear(payload), "{payload}");
        }
        assert_eq!(counts(&hints), (0, 0));
    }
}
