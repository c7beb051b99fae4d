//! A peer that speaks just enough of the protocol to be put under load, and that can break its
//! promises on purpose. A thread a connection and a lock around everything: it need not be fast.

mod resume;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use wire::client::Credential;
use wire::server::{ChannelReady, Durability, Limits, Pong, Posted, Resume, Welcome};
use wire::{
    ChannelCreated, ChannelId, ChannelKind, ClientBody, Deliver, DeviceId, Encoder, Epoch, Event,
    InboxSeq, Message, Nonce, Seq, ServerBody, SessionId, Timestamp, UserId, Users,
};
use ws::handshake::{HandshakePolicy, Progress, read_request};

/// Where each user's inbox stands before the first run.
const INBOX_HEAD: u64 = 1000;

/// What the peer does to every tenth message of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    Lose,
    Duplicate,
    Swap,
    Alter,
    SkipSeq,
    CloseSender,
    NoAnswer,
    /// The sender's connection ends before the answer; all that a resume promises is kept.
    Break,
    /// Then the first entry behind the cursor does not come.
    BreakAndLose,
    /// Then the entry at the cursor comes again.
    BreakAndDuplicate,
    /// Then the repeated message gets another place.
    BreakAndMove,
    /// Then the next message gets a place that another one has.
    BreakAndReuse,
    /// Then the inbox is another one.
    BreakAndForget,
}

impl Fault {
    const fn breaks(self) -> bool {
        matches!(
            self,
            Self::Break
                | Self::BreakAndLose
                | Self::BreakAndDuplicate
                | Self::BreakAndMove
                | Self::BreakAndReuse
                | Self::BreakAndForget
        )
    }
}

#[derive(Default)]
struct State {
    inboxes: HashMap<UserId, (TcpStream, u64)>,
    /// What a session that resumes is given.
    kept: resume::Kept,
    groups: HashMap<ChannelId, Vec<UserId>>,
    seqs: HashMap<ChannelId, u64>,
    /// Deliveries that are held back to come after the next one.
    held: HashMap<UserId, Vec<u8>>,
}

struct Peer {
    state: Mutex<State>,
    fault: Fault,
}

/// Starts a peer; it ends with the process.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = Arc::new(Peer { state: Mutex::default(), fault });
    thread::spawn(move || {
        for stream in listener.incoming() {
            let peer = peer.clone();
            // An error is the end of a connection, as it should be.
            thread::spawn(move || {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                peer.serve(&stream);
                // The inboxes have a handle of their own, which would keep it open.
                stream.shutdown(Shutdown::Both)
            });
        }
    });
    address
}

impl Peer {
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut head = Vec::new();
        let policy = HandshakePolicy::default();
        loop {
            let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
            head.extend_from_slice(&buffer[..length]);
            let Progress::Complete(request) = read_request(&head, &policy).ok()? else { continue };
            let mut out = Vec::new();
            request.append_response(&mut out);
            stream.write_all(&out).ok()?;
            break;
        }
        let mut session = ws::Session::new(ws::Role::Server, 128 * 1024);
        let mut user = None;
        loop {
            let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
            let mut input = &mut buffer[..length];
            while let Some(event) = session.next_event(&mut input).unwrap() {
                let ws::Event::Binary(frame) = event else { return None };
                let body = wire::decode_client(frame).unwrap().body;
                user = user.or(self.handle(stream, user, &body)?);
            }
        }
    }

    /// The user, if this was Hello; `None` to close.
    fn handle(
        &self,
        stream: &TcpStream,
        user: Option<UserId>,
        body: &ClientBody<'_>,
    ) -> Option<Option<UserId>> {
        let state = &mut *self.state.lock().unwrap();
        match (user, body) {
            (None, ClientBody::Hello(hello)) => {
                let user = match hello.credential {
                    Credential::Token(token) => user_of(token),
                    Credential::Ticket(ticket) => user_of_ticket(ticket),
                };
                let inbox = state.inboxes.get(&user).map_or(INBOX_HEAD, |inbox| inbox.1);
                state.inboxes.insert(user, (stream.try_clone().unwrap(), inbox));
                let resumes = hello.epoch == Epoch(1) && self.fault != Fault::BreakAndForget;
                send(stream, welcome(user, inbox, &ticket(user), resumes));
                if resumes {
                    let cursor = match self.fault {
                        Fault::BreakAndLose => hello.cursor.get() + 1,
                        Fault::BreakAndDuplicate => hello.cursor.get() - 1,
                        _ => hello.cursor.get(),
                    };
                    state.kept.send_page(user, cursor, |page| send(stream, page));
                }
                return Some(Some(user));
            }
            (Some(user), ClientBody::Post(post)) => {
                if let Some(first) = state.kept.first_answer(user, post)
                    && self.fault != Fault::BreakAndMove
                {
                    if self.fault == Fault::BreakAndReuse {
                        *state.seqs.get_mut(&post.channel).unwrap() -= 1;
                    }
                    send(stream, first);
                    return Some(None);
                }
                let last = state.seqs.entry(post.channel).or_default();
                let is_tenth = (*last + 1).is_multiple_of(10) && !post.retry;
                if is_tenth && self.fault == Fault::CloseSender {
                    return None;
                }
                *last += 1 + u64::from(is_tenth && self.fault == Fault::SkipSeq);
                let seq = Seq::new(*last);
                let answer = Posted {
                    channel: post.channel,
                    nonce: post.nonce,
                    seq,
                    created_at: Timestamp(1),
                    durability: Durability::Durable,
                };
                let breaks = is_tenth && self.fault.breaks();
                state.kept.answer(user, answer);
                if breaks {
                    stream.shutdown(Shutdown::Both).unwrap();
                } else if !(is_tenth && self.fault == Fault::NoAnswer) {
                    send(stream, answer);
                }
                let members = match post.channel.pair() {
                    Some((one, other)) => vec![one, other],
                    None => state.groups[&post.channel].clone(),
                };
                for member in members {
                    let body = (member != user).then_some(post.body);
                    let message = message(post.channel, seq, user, post.nonce, body);
                    let fault = if is_tenth && member != user { self.fault } else { Fault::None };
                    state.deliver(member, message, fault);
                }
                if breaks {
                    return None;
                }
            }
            (Some(user), ClientBody::ChannelCreate(create)) => {
                let channel = ChannelId::numbered(1 + state.groups.len() as u64).unwrap();
                let members: Vec<_> = [user].into_iter().chain(create.members.iter()).collect();
                let (nonce, created_at) = (create.nonce, Timestamp(1));
                let durability = Durability::Durable;
                send(stream, ChannelReady { channel, nonce, created_at, durability });
                for member in &members {
                    let created = ChannelCreated {
                        channel,
                        seq: Seq::new(1),
                        created_at,
                        creator: user,
                        device: DeviceId(1),
                        nonce,
                        kind: ChannelKind::Group,
                        title: create.title,
                        members: Users::from(&*members),
                    };
                    state.deliver(*member, Event::ChannelCreated(created), Fault::None);
                }
                state.seqs.insert(channel, 1);
                state.groups.insert(channel, members);
            }
            (Some(_), ClientBody::Ping(ping)) => {
                send(stream, Pong { opaque: ping.opaque, server_time: Timestamp(1) });
            }
            (Some(_), ClientBody::CursorAck(_)) => {}
            other => panic!("{other:?}"),
        }
        Some(None)
    }
}

impl State {
    fn deliver(&mut self, user: UserId, event: Event<'_>, fault: Fault) {
        let Some((stream, inbox)) = self.inboxes.get_mut(&user) else { return };
        let times = match fault {
            Fault::Lose => 0,
            Fault::Duplicate => 2,
            _ => 1,
        };
        for _ in 0..times {
            *inbox += 1;
            let mut event = event;
            if let (Event::Message(message), Fault::Alter) = (&mut event, fault) {
                message.body = Some(b"something else");
            }
            self.kept.entry(user, *inbox, &event);
            let bytes = encode(Deliver { inbox_seq: InboxSeq::new(*inbox), event });
            if fault == Fault::Swap {
                self.held.insert(user, bytes);
                continue;
            }
            let _ = stream.write_all(&bytes);
            if let Some(held) = self.held.remove(&user) {
                let _ = stream.write_all(&held);
            }
        }
    }
}

fn message<'a>(
    channel: ChannelId,
    seq: Seq,
    sender: UserId,
    nonce: Nonce,
    body: Option<&'a [u8]>,
) -> Event<'a> {
    let (device, created_at) = (DeviceId(1), Timestamp(1));
    Event::Message(Message { channel, seq, sender, device, created_at, nonce, kind: 0, body })
}

fn welcome(user: UserId, inbox: u64, ticket: &[u8], resumes: bool) -> Welcome<'_> {
    Welcome {
        session: SessionId(1),
        user,
        device: DeviceId(1),
        server_time: Timestamp(1),
        heartbeat_interval_ms: 100,
        epoch: Epoch(1),
        inbox_head: InboxSeq::new(inbox),
        resume: if resumes { Resume::Resumed } else { Resume::Fresh },
        ticket,
        ticket_expires_at: Timestamp(1),
        limits: Limits {
            frame_bytes_max: 70_000,
            body_bytes_max: 16_384,
            group_members_max: 100,
            sync_page_max: 100,
            history_page_max: 100,
            channel_page_max: 100,
            posts_in_flight_max: 64,
            frames_per_second_max: 1000,
        },
    }
}

fn ticket(user: UserId) -> [u8; 8] {
    user.get().to_le_bytes()
}

fn user_of_ticket(ticket: &[u8]) -> UserId {
    UserId::new(u64::from_le_bytes(ticket.try_into().unwrap())).unwrap()
}

/// The claim `sub`, unverified.
fn user_of(token: &str) -> UserId {
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    UserId::new(claims["sub"].as_str().unwrap().parse().unwrap()).unwrap()
}

fn send<'a>(mut stream: &TcpStream, body: impl Into<ServerBody<'a>>) {
    let _ = stream.write_all(&encode(body));
}

fn encode<'a>(body: impl Into<ServerBody<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    ws::encoder::append_binary(&mut out, Encoder::default().server(0, body), None);
    out
}
