//! What a client hears, owned, and as one line of text each.

use std::collections::HashMap;
use std::fmt::Write;

use wire::server::{ConversationEntry, Durability, Resume, ServerBody};
use wire::{
    ChannelId, Conversation, Deliver, DeviceId, Epoch, Event, InboxSeq, MembershipOp, Nonce,
    RejectCode, Seq, ServerFrame, Timestamp, UserId, Users,
};

/// Short names of groups, whose numbers are long.
pub(crate) type Names = HashMap<ChannelId, String>;

/// A conversation of the list, with its latest entry if that was asked for.
pub(crate) type Listed = (ChannelId, Conversation, Option<What>);

/// One frame, or the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    Welcome {
        head: InboxSeq,
        resume: Resume,
        epoch: Epoch,
        ticket: Vec<u8>,
    },
    Posted {
        channel: ChannelId,
        nonce: Nonce,
        seq: Seq,
        created_at: Timestamp,
        durability: Durability,
    },
    Ready {
        channel: ChannelId,
        nonce: Nonce,
        created_at: Timestamp,
        durability: Durability,
    },
    Rejected {
        nonce: Nonce,
        code: RejectCode,
        text: String,
        retry_after_ms: u32,
    },
    Entry(Entry),
    Page {
        entries: Vec<Entry>,
        next: InboxSeq,
        end: bool,
    },
    History {
        channel: ChannelId,
        entries: Vec<What>,
        more: bool,
    },
    List {
        conversations: Vec<Listed>,
        more: bool,
    },
    /// A service's session begins.
    Service,
    /// A service's request is done.
    Done(Durability),
    Typing {
        channel: ChannelId,
        user: UserId,
    },
    Pong(u64),
    WsPong(Vec<u8>),
    Reconnect {
        after_ms: u32,
    },
    /// The HTTP answer of a refused handshake.
    Refused {
        status: u16,
        text: String,
    },
    /// The close frame.
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection ended.
    Lost,
}

/// An inbox entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) place: InboxSeq,
    pub(crate) what: What,
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Message { channel: ChannelId, seq: Seq, by: Device, body: Option<Vec<u8>> },
    Read { channel: ChannelId, user: UserId, seq: Seq },
    Change { channel: ChannelId, seq: Seq, by: Device, op: MembershipOp, members: Vec<UserId> },
    Created { channel: ChannelId, seq: Seq, by: Device, title: String, members: Vec<UserId> },
}

/// Who did something, on which of her devices.
pub(crate) type Device = (UserId, DeviceId);

impl What {
    /// Its place in a log, if it has one.
    pub(crate) const fn logged(&self) -> Option<(ChannelId, Seq)> {
        match *self {
            Self::Message { channel, seq, .. }
            | Self::Change { channel, seq, .. }
            | Self::Created { channel, seq, .. } => Some((channel, seq)),
            Self::Read { .. } => None,
        }
    }

    /// Whether this device did it: then its copy is in no hurry.
    pub(crate) fn is_by(&self, device: Device) -> bool {
        match self {
            Self::Message { by, .. } | Self::Change { by, .. } | Self::Created { by, .. } => {
                *by == device
            }
            Self::Read { .. } => false,
        }
    }
}

impl From<Event<'_>> for What {
    fn from(event: Event<'_>) -> Self {
        let list = |users: Users<'_>| users.iter().collect();
        match event {
            Event::Message(message) => Self::Message {
                channel: message.channel,
                seq: message.seq,
                by: (message.sender, message.device),
                body: message.body.map(<[u8]>::to_vec),
            },
            Event::ReadMarker(marker) => {
                Self::Read { channel: marker.channel, user: marker.user, seq: marker.seq }
            }
            Event::MembershipChange(change) => Self::Change {
                channel: change.channel,
                seq: change.seq,
                by: (change.actor, change.device),
                op: change.op,
                members: list(change.members),
            },
            Event::ChannelCreated(created) => Self::Created {
                channel: created.channel,
                seq: created.seq,
                by: (created.creator, created.device),
                title: created.title.to_owned(),
                members: list(created.members),
            },
            Event::Unknown(number) => panic!("this gateway sends no unknown event ({number})"),
        }
    }
}

impl From<Deliver<'_>> for Entry {
    fn from(deliver: Deliver<'_>) -> Self {
        Self { place: deliver.inbox_seq, what: deliver.event.into() }
    }
}

impl From<ServerFrame<'_>> for Heard {
    fn from(frame: ServerFrame<'_>) -> Self {
        match frame.body {
            ServerBody::Welcome(welcome) => Self::Welcome {
                head: welcome.inbox_head,
                resume: welcome.resume,
                epoch: welcome.epoch,
                ticket: welcome.ticket.to_vec(),
            },
            ServerBody::Posted(posted) => Self::Posted {
                channel: posted.channel,
                nonce: posted.nonce,
                seq: posted.seq,
                created_at: posted.created_at,
                durability: posted.durability,
            },
            ServerBody::ChannelReady(ready) => Self::Ready {
                channel: ready.channel,
                nonce: ready.nonce,
                created_at: ready.created_at,
                durability: ready.durability,
            },
            ServerBody::Rejected(rejected) => Self::Rejected {
                nonce: rejected.nonce,
                code: rejected.code,
                text: rejected.text.to_owned(),
                retry_after_ms: rejected.retry_after_ms,
            },
            ServerBody::Deliver(deliver) => Self::Entry(deliver.into()),
            ServerBody::SyncPage(page) => Self::Page {
                entries: page.entries.iter().map(Entry::from).collect(),
                next: page.next,
                end: page.end,
            },
            ServerBody::HistoryPage(page) => Self::History {
                channel: page.channel,
                entries: page.entries.iter().map(What::from).collect(),
                more: page.more,
            },
            ServerBody::ChannelPage(page) => {
                let listed = |entry: ConversationEntry<'_>| {
                    (entry.channel, entry.conversation, entry.last.map(What::from))
                };
                let conversations = page.conversations.iter().map(listed).collect();
                Self::List { conversations, more: page.more }
            }
            ServerBody::TypingFrom(typing) => {
                Self::Typing { channel: typing.channel, user: typing.user }
            }
            ServerBody::Pong(pong) => Self::Pong(pong.opaque),
            ServerBody::Reconnect(reconnect) => Self::Reconnect { after_ms: reconnect.after_ms },
            ServerBody::ServiceWelcome(_) => Self::Service,
            ServerBody::ServiceDone(done) => Self::Done(done.durability),
            ServerBody::Unknown(number) => panic!("this gateway sends no unknown frame ({number})"),
        }
    }
}

/// The line for something heard.
pub(crate) fn line(heard: &Heard, names: &Names) -> String {
    match heard {
        Heard::Welcome { head, resume, .. } => format!("welcome {head} {resume:?}"),
        Heard::Posted { nonce, seq, durability, .. } => match durability {
            Durability::Durable => format!("posted {nonce} {seq}"),
            other => format!("posted {nonce} {seq} {other:?}"),
        },
        Heard::Ready { channel, nonce, .. } => format!("ready {} {nonce}", name(*channel, names)),
        Heard::Rejected { nonce, code, retry_after_ms, .. } => match retry_after_ms {
            0 => format!("rejected {nonce} {code:?}"),
            after => format!("rejected {nonce} {code:?} after {after}"),
        },
        Heard::Entry(entry) => entry_line(entry, names),
        Heard::Page { entries, next, end } => {
            let lines = joined(entries.iter().map(|entry| entry_line(entry, names)));
            format!("page to {next}{}:{lines}", if *end { " end" } else { "" })
        }
        Heard::History { channel, entries, more } => {
            let lines = joined(entries.iter().map(|what| what_line(what, names)));
            let more = if *more { " more" } else { "" };
            format!("history {}{more}:{lines}", name(*channel, names))
        }
        Heard::List { conversations, more } => {
            let lines = joined(conversations.iter().map(|(channel, conversation, latest)| {
                let (last, read) = (conversation.last_seq, conversation.read_seq);
                let latest = latest.as_ref().map(|what| format!(" ({})", what_line(what, names)));
                let channel = name(*channel, names);
                format!("{channel} {last} read {read}{}", latest.unwrap_or_default())
            }));
            format!("list{}:{lines}", if *more { " more" } else { "" })
        }
        Heard::Service => "service".to_owned(),
        Heard::Done(durability) => match durability {
            Durability::Durable => "done".to_owned(),
            other => format!("done {other:?}"),
        },
        Heard::Typing { channel, user } => format!("typing {} {user}", name(*channel, names)),
        Heard::Pong(opaque) => format!("pong {opaque}"),
        Heard::WsPong(payload) => format!("wspong \"{}\"", payload.escape_ascii()),
        Heard::Reconnect { after_ms } => format!("reconnect {after_ms}"),
        Heard::Refused { status, text } => format!("refused {status} {text}"),
        Heard::Closed { code, .. } => format!("closed {code}"),
        Heard::Lost => "lost".to_owned(),
    }
}

fn joined(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| format!(" [{line}]")).collect()
}

fn entry_line(entry: &Entry, names: &Names) -> String {
    format!("{} {}", entry.place, what_line(&entry.what, names))
}

fn what_line(what: &What, names: &Names) -> String {
    let list = |users: &[UserId]| {
        users.iter().fold(String::new(), |mut line, user| {
            write!(line, " {user}").expect("writing to a String does not fail");
            line
        })
    };
    match what {
        What::Message { channel, seq, by: (sender, _), body } => {
            format!("{}{seq} {sender} {}", name(*channel, names), body_text(body.as_deref()))
        }
        What::Read { channel, user, seq } => {
            format!("{} {user} read {seq}", name(*channel, names))
        }
        What::Change { channel, seq, by: (actor, _), op, members } => {
            let channel = name(*channel, names);
            format!("{channel}{seq} {actor} {op:?}{}", list(members))
        }
        What::Created { channel, seq, by: (creator, _), title, members } => {
            let channel = name(*channel, names);
            format!("{channel}{seq} {creator} Create {title:?}{}", list(members))
        }
    }
}

/// A body as scripts write it: quoted, or `x*5000` for a long one of equal bytes.
fn body_text(body: Option<&[u8]>) -> String {
    match body {
        None => "own".to_owned(),
        Some([first, rest @ ..]) if rest.len() > 50 && rest.iter().all(|byte| byte == first) => {
            format!("{}*{}", char::from(*first), rest.len() + 1)
        }
        Some(body) => format!("{:?}", String::from_utf8_lossy(body)),
    }
}

/// A channel as scripts write it: its pair, or the group's short name.
pub(crate) fn name(channel: ChannelId, names: &Names) -> String {
    match channel.pair() {
        Some((one, other)) => format!("{one}:{other}"),
        None => names.get(&channel).cloned().unwrap_or_else(|| channel.to_string()),
    }
}
