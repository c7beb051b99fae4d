//! Requests and answers as JSON.
//!
//! Numbers that may be beyond 2^53, where JavaScript ends (epochs and nonces), are strings of
//! digits. A channel is `HIGH-LOW`: `0-42` is a group, `7-9` the conversation of users 7 and 9.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use client::{Answer, Conversation, Entry, Request, What};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wire::server::{Durability, Resume};
use wire::{ChannelId, Nonce, Seq};

use crate::problem::Problem;
use crate::window::Page;

/// What a device sends: a message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    channel: String,
    nonce: String,
    #[serde(default)]
    kind: u8,
    /// One of the two.
    text: Option<String>,
    body: Option<String>,
    /// It may have been sent before.
    #[serde(default)]
    pub(crate) retry: bool,
}

/// Up to where a device has everything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) epoch: String,
    pub(crate) after: u64,
}

impl Message {
    pub(crate) fn request(&self) -> Result<Request, Problem> {
        let channel = channel(&self.channel)?;
        let nonce = Nonce(number("nonce", &self.nonce)?);
        let body = match (&self.text, &self.body) {
            (Some(text), None) => Bytes::from(text.clone()),
            (None, Some(body)) => {
                let decoded = BASE64_STANDARD.decode(body);
                Bytes::from(decoded.map_err(|_| Problem::field("body", "must be base64"))?)
            }
            _ => return Err(Problem::field("text", "give either text, or body as base64")),
        };
        Ok(Request::Post { channel, nonce, kind: self.kind, body })
    }
}

/// A number that stands as digits.
pub(crate) fn number(field: &'static str, digits: &str) -> Result<u64, Problem> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok()).flatten();
    number.ok_or_else(|| Problem::field(field, "must be a whole number below 2^64, in digits"))
}

fn channel(name: &str) -> Result<ChannelId, Problem> {
    let halves = name.split_once('-').and_then(|(high, low)| {
        let half = |digits| number("channel", digits).ok();
        ChannelId::from_halves(half(high)?, half(low)?)
    });
    halves.ok_or_else(|| Problem::field("channel", "a channel is named HIGH-LOW, such as 0-42"))
}

fn name(channel: ChannelId) -> String {
    let (high, low) = channel.halves();
    format!("{high}-{low}")
}

const fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Accepted => "accepted",
        Durability::Durable => "durable",
        Durability::Replicated => "replicated",
    }
}

/// A page of the inbox.
#[derive(Serialize)]
pub(crate) struct InboxPage {
    epoch: String,
    /// `resumed`, `fresh`, or `reset`: then what the device keeps of its inbox is void.
    resume: &'static str,
    entries: Vec<Value>,
    /// The `after` of the next request.
    next: u64,
    /// There is more already.
    more: bool,
}

impl From<&Page> for InboxPage {
    fn from(page: &Page) -> Self {
        let resume = match page.resume {
            Resume::Resumed => "resumed",
            Resume::Fresh => "fresh",
            Resume::Reset => "reset",
        };
        Self {
            epoch: page.epoch.0.to_string(),
            resume,
            entries: page.entries.iter().map(entry).collect(),
            next: page.next.get(),
            more: page.more,
        }
    }
}

/// One entry of an inbox.
pub(crate) fn entry(entry: &Entry) -> Value {
    let mut value = what(&entry.what);
    value["place"] = json!(entry.inbox_seq.get());
    value
}

fn what(what: &What) -> Value {
    match what {
        What::Message(it) => {
            let mut value = json!({
                "event": "message",
                "channel": name(it.channel),
                "seq": it.seq.get(),
                "sender": it.sender.get(),
                "device": it.device.0,
                "created_at": it.created_at.0,
                "nonce": it.nonce.0.to_string(),
                "kind": it.kind,
            });
            // What is not UTF-8 cannot be text, whatever its kind says.
            match (it.text(), &it.body) {
                (Some(text), _) => value["text"] = json!(text),
                (None, Some(body)) => value["body"] = json!(BASE64_STANDARD.encode(body)),
                (None, None) => {}
            }
            value
        }
        What::Membership(it) => json!({
            "event": "membership",
            "channel": name(it.channel),
            "seq": it.seq.get(),
            "created_at": it.created_at.0,
            "actor": it.actor.get(),
            "op": match it.op {
                wire::MembershipOp::Add => "add",
                wire::MembershipOp::Remove => "remove",
                wire::MembershipOp::Leave => "leave",
            },
            "members": it.members.iter().map(|member| member.get()).collect::<Vec<_>>(),
        }),
        What::Created(it) => json!({
            "event": "created",
            "channel": name(it.channel),
            "seq": 1,
            "created_at": it.created_at.0,
            "creator": it.creator.get(),
            "title": it.title,
            "members": it.members.iter().map(|member| member.get()).collect::<Vec<_>>(),
        }),
        What::Read { channel, user, seq } => json!({
            "event": "read",
            "channel": name(*channel),
            "user": user.get(),
            "seq": seq.get(),
        }),
        What::Unknown => json!({ "event": "unknown" }),
    }
}

/// What came of a request.
pub(crate) fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Posted(it) => json!({
            "channel": name(it.channel),
            "nonce": it.nonce.0.to_string(),
            "seq": it.seq.get(),
            "created_at": it.created_at.0,
            "durability": durability(it.durability),
        }),
        Answer::Ready(it) => json!({
            "channel": name(it.channel),
            "nonce": it.nonce.0.to_string(),
            "created_at": it.created_at.0,
            "durability": durability(it.durability),
        }),
        Answer::History(page) => json!({
            "channel": name(page.channel),
            "entries": page.entries.iter().map(what).collect::<Vec<_>>(),
            "more": page.more,
        }),
        Answer::Channels(page) => json!({
            "conversations": page.conversations.iter().map(conversation).collect::<Vec<_>>(),
            "more": page.more,
        }),
        Answer::Done(_) | Answer::Sent => json!({}),
    }
}

fn conversation(it: &Conversation) -> Value {
    let unread = it.last_seq.since(it.read_seq);
    let seq = |seq: Seq| seq.get();
    json!({
        "channel": name(it.channel),
        "last_seq": seq(it.last_seq),
        "read_seq": seq(it.read_seq),
        "unread": unread,
        "place": it.inbox_seq.get(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<Request, String> {
        let message: Message = serde_json::from_str(json).map_err(|error| error.to_string())?;
        message.request().map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn a_message_is_read_or_refused_with_the_field_that_is_wrong() {
        let rows = [
            (r#"{"channel":"1-2","nonce":"18446744073709551615","text":"hi"}"#, ""),
            (r#"{"channel":"0-42","nonce":"7","kind":17,"body":"aGk="}"#, ""),
            (r#"{"channel":"2-1","nonce":"7","text":"hi"}"#, "\"channel\""),
            (r#"{"channel":"+1-2","nonce":"7","text":"hi"}"#, "\"channel\""),
            (r#"{"channel":"1-2","nonce":"-7","text":"hi"}"#, "\"nonce\""),
            (r#"{"channel":"1-2","nonce":"7"}"#, "\"text\""),
            (r#"{"channel":"1-2","nonce":"7","text":"a","body":"aGk="}"#, "\"text\""),
            (r#"{"channel":"1-2","nonce":"7","body":"%"}"#, "\"body\""),
            (r#"{"channel":"1-2","nonce":"7","text":"hi","x":1}"#, "unknown field `x`"),
        ];
        for (json, words) in rows {
            match request(json) {
                Ok(Request::Post { body, .. }) => {
                    assert_eq!((words, &*body), ("", &b"hi"[..]), "{json}");
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    assert!(!words.is_empty() && error.contains(words), "{json}: {error}");
                }
            }
        }
    }
}
