//! The answers to one request, as they come in.

use std::sync::Arc;

use super::{ANSWER_BYTES_MAX, AskedNode, NodeAnswer, Unconfirmed, WhyUnconfirmed};
use crate::name::NodeId;

/// Decides who has answered a request, and who has not. What nobody asked for is not heard.
#[derive(Debug)]
pub(crate) struct Gathering {
    open: Vec<AskedNode>,
    answers: Vec<(AskedNode, Arc<str>)>,
    unconfirmed: Vec<Unconfirmed>,
}

impl Gathering {
    /// Of a request to these nodes.
    pub(crate) fn of(asked: Vec<AskedNode>) -> Self {
        Self { open: asked, answers: Vec::new(), unconfirmed: Vec::new() }
    }

    /// Nobody is waited for any more.
    pub(crate) fn is_complete(&self) -> bool {
        self.open.is_empty()
    }

    /// The answers so far, in the order in which they were heard.
    pub(crate) fn answers(&self) -> &[(AskedNode, Arc<str>)] {
        &self.answers
    }

    /// The nodes of which nothing more is to be heard.
    pub(crate) fn heard(&self) -> Vec<NodeId> {
        let answered = self.answers.iter().map(|(asked, _)| asked.node);
        answered.chain(self.unconfirmed.iter().map(|unconfirmed| unconfirmed.node)).collect()
    }

    /// Takes in what the store says of the nodes.
    pub(crate) fn hear(&mut self, heard: Vec<(NodeId, NodeAnswer)>) {
        for (node, answer) in heard {
            let Some(place) = self.open.iter().position(|asked| asked.node == node) else { continue };
            match answer {
                NodeAnswer::Waiting => {}
                NodeAnswer::SessionOver => self.close(place, WhyUnconfirmed::SessionOver),
                NodeAnswer::Answered(text) if text.len() > ANSWER_BYTES_MAX => {
                    let why = format!("its answer has more than {ANSWER_BYTES_MAX} bytes");
                    self.close(place, WhyUnconfirmed::Unable(why.into()));
                }
                NodeAnswer::Answered(text) => {
                    let asked = self.open.swap_remove(place);
                    self.answers.push((asked, text));
                }
            }
        }
    }

    fn close(&mut self, place: usize, why: WhyUnconfirmed) {
        let AskedNode { node, name } = self.open.swap_remove(place);
        self.unconfirmed.push(Unconfirmed { node, name, why });
    }

    /// The answers, and who has not confirmed: whoever has not answered by now.
    pub(crate) fn end(mut self) -> (Vec<(AskedNode, Arc<str>)>, Vec<Unconfirmed>) {
        while !self.open.is_empty() {
            self.close(0, WhyUnconfirmed::NoAnswer);
        }
        self.answers.sort_by_key(|(asked, _)| asked.node);
        self.unconfirmed.sort_by_key(|unconfirmed| unconfirmed.node);
        (self.answers, self.unconfirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(node: u128) -> AskedNode {
        AskedNode { node: NodeId::numbered(node), name: format!("n{node}").into() }
    }

    fn node(node: u128) -> NodeId {
        NodeId::numbered(node)
    }

    #[test]
    fn who_has_not_answered_is_named_with_the_reason() {
        let mut gathering = Gathering::of(vec![asked(4), asked(3), asked(2), asked(1)]);

        gathering.hear(vec![
            (node(1), NodeAnswer::Answered("1".into())),
            (node(2), NodeAnswer::Waiting),
            (node(3), NodeAnswer::SessionOver),
            (node(4), NodeAnswer::Answered("4".repeat(ANSWER_BYTES_MAX + 1).into())),
        ]);

        assert!(!gathering.is_complete());
        let (answers, unconfirmed) = gathering.end();
        assert_eq!(answers, [(asked(1), "1".into())]);
        let why: Vec<_> =
            unconfirmed.iter().map(|unconfirmed| (&*unconfirmed.name, &unconfirmed.why)).collect();
        assert_eq!(why[0], ("n2", &WhyUnconfirmed::NoAnswer));
        assert_eq!(why[1], ("n3", &WhyUnconfirmed::SessionOver));
        assert!(matches!(why[2], ("n4", WhyUnconfirmed::Unable(reason)) if reason.contains("262144 bytes")));
    }

    #[test]
    fn only_the_first_answer_of_a_node_that_was_asked_counts() {
        let mut gathering = Gathering::of(vec![asked(1)]);

        gathering.hear(vec![
            (node(9), NodeAnswer::Answered("a stranger".into())),
            (node(1), NodeAnswer::Answered("first".into())),
            (node(1), NodeAnswer::Answered("second".into())),
        ]);
        gathering.hear(vec![(node(1), NodeAnswer::SessionOver)]);

        assert!(gathering.is_complete());
        assert_eq!(gathering.end(), (vec![(asked(1), "first".into())], Vec::new()));
    }
}
