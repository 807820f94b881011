//! The messages of PostgreSQL's protocol, version 3: where they begin and end, and as much of their content
//! as a fault has to know.

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A message with its type, if it has one, and its length.
pub(crate) type Message = Vec<u8>;

/// Longer ones do not occur.
const LENGTH_MAX: usize = 64 << 20;
/// The type and the length.
const HEADER: usize = 5;

pub(crate) const PARSE: u8 = b'P';
pub(crate) const BIND: u8 = b'B';
pub(crate) const SYNC: u8 = b'S';
pub(crate) const QUERY: u8 = b'Q';
/// The server has done what was asked up to a [`SYNC`], and waits.
pub(crate) const READY_FOR_QUERY: u8 = b'Z';

/// The next message that has a type. `None`: the connection has ended.
pub(crate) async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let kind = from.read_u8().await.ok()?;
    rest(from, vec![kind]).await
}

/// The first message of a client, which has none.
pub(crate) async fn startup(from: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    rest(from, Vec::new()).await
}

async fn rest(from: &mut (impl AsyncRead + Unpin), mut message: Message) -> Option<Message> {
    let length = from.read_u32().await.ok()?;
    message.extend(length.to_be_bytes());
    let content = usize::try_from(length).ok()?.checked_sub(4).filter(|length| *length <= LENGTH_MAX)?;
    let start = message.len();
    message.resize(start + content, 0);
    from.read_exact(&mut message[start..]).await.ok()?;
    Some(message)
}

/// Puts another text in the place of one, wherever it stands in a message whose header has this many bytes
/// before its length. Answers whether it stood there.
pub(crate) fn rewrite(message: &mut Message, before_length: usize, (from, to): (&str, &str)) -> bool {
    let mut at = before_length + 4;
    let mut changed = false;
    while let Some(found) = find(&message[at..], from.as_bytes()) {
        let start = at + found;
        message.splice(start..start + from.len(), to.bytes());
        at = start + to.len();
        changed = true;
    }
    let length = u32::try_from(message.len() - before_length).expect("it is short");
    message[before_length..before_length + 4].copy_from_slice(&length.to_be_bytes());
    changed
}

/// Whether a text stands in a message.
pub(crate) fn contains(message: &Message, text: &str) -> bool {
    find(message, text.as_bytes()).is_some()
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// What a client has asked for since it was last ready: the texts of the statements.
#[derive(Default)]
pub(crate) struct Asked {
    /// The statements that it prepared, by name.
    prepared: HashMap<Vec<u8>, String>,
    batch: Vec<String>,
}

impl Asked {
    /// Reads a message of the client. Answers the texts of everything that it asked, if this is its end.
    pub(crate) fn read(&mut self, message: &Message) -> Option<Vec<String>> {
        let mut words = message[HEADER..].split(|byte| *byte == 0);
        match message[0] {
            PARSE => {
                let name = words.next()?.to_vec();
                let text = String::from_utf8_lossy(words.next()?).into_owned();
                self.prepared.insert(name, text);
                None
            }
            BIND => {
                let (_portal, statement) = (words.next()?, words.next()?);
                self.batch.extend(self.prepared.get(statement).cloned());
                None
            }
            QUERY => {
                self.batch.push(String::from_utf8_lossy(words.next()?).into_owned());
                Some(std::mem::take(&mut self.batch))
            }
            SYNC => Some(std::mem::take(&mut self.batch)),
            _ => None,
        }
    }
}

#[test]
fn a_rewritten_message_has_the_length_of_its_new_text() {
    let mut parse = b"P\0\0\0\x17s1\0LOCK a FOR SHARE\0".to_vec();

    assert!(rewrite(&mut parse, 1, (" FOR SHARE", "")));
    assert!(!rewrite(&mut parse, 1, (" FOR SHARE", "")));

    assert_eq!(parse, b"P\0\0\0\x0es1\0LOCK a\0".to_vec());
}

#[test]
fn a_client_is_known_by_the_statements_that_it_prepared() {
    let message = |kind: u8, content: &[u8]| [&[kind, 0, 0, 0, 0][..], content].concat();
    let mut asked = Asked::default();

    assert_eq!(asked.read(&message(PARSE, b"s1\0SELECT 1\0\0\0")), None);
    assert_eq!(asked.read(&message(SYNC, b"")), Some(vec![]));
    assert_eq!(asked.read(&message(BIND, b"\0s1\0\0\0")), None);
    assert_eq!(asked.read(&message(SYNC, b"")), Some(vec!["SELECT 1".to_owned()]));
    assert_eq!(asked.read(&message(QUERY, b"BEGIN\0")), Some(vec!["BEGIN".to_owned()]));
}
