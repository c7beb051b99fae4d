//! Frames of every type out of one `Seed`.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::client::*;
use crate::server::*;
use crate::*;

/// What a frame is made of. Fields share the numbers; which one goes where does not matter.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    pub(super) numbers: [u64; 8],
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    pub(super) users: Vec<UserId>,
    pub(super) flag: bool,
}

pub(super) const CLIENT_TYPES: usize = 16;
pub(super) const SERVER_TYPES: usize = 14;
pub(super) const EVENT_TYPES: usize = 5;

/// A seed with a different value at every place.
pub(super) fn plain() -> Seed {
    Seed {
        numbers: [3, 0x0102_0304_0506_0708, 7, 11, 13, 17, 19, 4],
        text: "tea".into(),
        bytes: b"hello".to_vec(),
        users: [5, 6, 7].map(|id| UserId::new(id).unwrap()).to_vec(),
        flag: true,
    }
}

/// Any seed, with a liking for the ends of the ranges.
pub(super) fn seeds() -> impl Strategy<Value = Seed> {
    let number = || prop_oneof![Just(0), Just(1), 0..1000u64, Just(u64::MAX), any::<u64>()];
    let users = vec((1..=u64::MAX).prop_map(|id| UserId::new(id).unwrap()), 1..20);
    let text = prop_oneof![Just(String::new()), "[a-zäß語🍵]{0,16}"];
    // Shorter under Miri, where each byte takes a millisecond to be chosen.
    let long = if cfg!(miri) { 100..120 } else { 1000..3000 };
    let bytes = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), long)];
    (proptest::array::uniform8(number()), text, bytes, users, any::<bool>())
        .prop_map(|(numbers, text, bytes, users, flag)| Seed { numbers, text, bytes, users, flag })
}

#[expect(clippy::cast_possible_truncation, reason = "any narrow number will do")]
impl Seed {
    fn half(&self, index: usize) -> u32 {
        self.numbers[index] as u32
    }

    fn short(&self, index: usize) -> u16 {
        self.numbers[index] as u16
    }

    fn byte(&self, index: usize) -> u8 {
        self.numbers[index] as u8
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.numbers[0] as usize % from.len()]
    }

    fn device(&self) -> DeviceId {
        DeviceId(self.half(2).max(1))
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.numbers[1].max(1))
    }

    fn seq(&self) -> Seq {
        Seq::new(self.numbers[3].max(1))
    }

    fn at(&self) -> Timestamp {
        Timestamp(self.numbers[4])
    }

    fn channel(&self) -> ChannelId {
        let (one, other) = (self.users[0], *self.users.last().unwrap());
        let number = self.numbers[5];
        let numbered = ChannelId::numbered(number).filter(|_| self.flag);
        numbered.unwrap_or_else(|| ChannelId::direct(one, other))
    }

    /// The client body of the `index`th type.
    pub(super) fn client(&self, index: usize) -> ClientBody<'_> {
        let (channel, nonce, members) = (self.channel(), self.nonce(), Users::from(&*self.users));
        let [_, _, _, _, _, _, a, b] = self.numbers;
        match index % CLIENT_TYPES {
            0 => Hello {
                protocol_version: self.short(0),
                credential: match (self.flag, &*self.bytes, &*self.text) {
                    (true, _, "") | (false, [], _) => Credential::Token("t"),
                    (true, _, text) => Credential::Token(text),
                    (false, bytes, _) => Credential::Ticket(&bytes[..bytes.len().min(256)]),
                },
                device: self.device(),
                epoch: Epoch(a),
                cursor: InboxSeq::new(b),
                client: &self.text,
            }
            .into(),
            1 => {
                let (kind, body, retry) = (self.byte(6), &*self.bytes, self.flag);
                Post { channel, nonce, kind, body, retry }.into()
            }
            2 => CursorAck { inbox_seq: InboxSeq::new(a) }.into(),
            3 => Sync { after: InboxSeq::new(a), limit: self.short(7) }.into(),
            4 => {
                let direction = self.pick(Direction::ALL);
                History { channel, direction, from: Seq::new(a), limit: self.short(7) }.into()
            }
            5 => {
                let kind = self.pick(&[ChannelKind::Group, ChannelKind::Broadcast]);
                ChannelCreate { nonce, kind, title: &self.text, members }.into()
            }
            6 => ChannelAddMembers { channel, nonce, members, role: self.pick(Role::ALL) }.into(),
            7 => ChannelRemoveMembers { channel, nonce, members }.into(),
            8 => ChannelLeave { channel, nonce }.into(),
            9 => {
                let (before, limit) = (InboxSeq::new(a), self.short(7));
                ChannelList { before, limit, with_last: self.flag }.into()
            }
            10 => MarkRead { channel, seq: Seq::new(a) }.into(),
            11 => Typing { channel }.into(),
            12 => Ping { opaque: a }.into(),
            13 => SessionsEnd {
                user: self.users[0],
                device: (a != 0 && self.flag).then(|| self.device()),
                before: (b != 0).then_some(Timestamp(b)),
            }
            .into(),
            14 => UserErase { user: self.users[0] }.into(),
            _ => ClientBody::Unknown(self.byte(6).max(16)),
        }
    }

    /// The event of the `index`th type.
    pub(super) fn event(&self, index: usize) -> Event<'_> {
        let (channel, seq, created_at) = (self.channel(), self.seq(), self.at());
        let (user, device, nonce) = (self.users[0], self.device(), Nonce(self.numbers[1]));
        let members = Users::from(&*self.users);
        match index % EVENT_TYPES {
            0 => Event::Message(Message {
                channel,
                seq,
                sender: user,
                device,
                created_at,
                nonce,
                kind: self.byte(6),
                body: self.flag.then_some(&*self.bytes),
            }),
            1 => Event::ReadMarker(ReadMarker { channel, user, seq: Seq::new(self.numbers[6]) }),
            2 => Event::MembershipChange(MembershipChange {
                channel,
                seq,
                created_at,
                actor: user,
                device,
                nonce,
                op: self.pick(MembershipOp::ALL),
                role: self.pick(Role::ALL),
                members,
            }),
            3 => Event::ChannelCreated(ChannelCreated {
                channel,
                seq,
                created_at,
                creator: user,
                device,
                nonce,
                kind: self.pick(ChannelKind::ALL),
                title: &self.text,
                members,
            }),
            _ => Event::Unknown(self.byte(6).max(5)),
        }
    }

    fn deliver(&self, index: usize) -> Deliver<'_> {
        Deliver { inbox_seq: InboxSeq::new(self.numbers[7].max(1)), event: self.event(index) }
    }

    /// Hands the server body of the `index`th type to `ask`.
    pub(super) fn server<R>(&self, index: usize, ask: impl Fn(ServerBody<'_>) -> R) -> R {
        let (channel, nonce, created_at) = (self.channel(), self.nonce(), self.at());
        let durability = self.pick(Durability::ALL);
        let count = usize::from(self.byte(7) % 6);
        let body: ServerBody<'_> = match index % SERVER_TYPES {
            0 => self.welcome().into(),
            1 => Posted { channel, nonce, seq: self.seq(), created_at, durability }.into(),
            2 => Rejected {
                code: self.pick(RejectCode::ALL),
                nonce,
                channel: self.flag.then_some(channel),
                text: &self.text,
                retry_after_ms: self.half(6),
            }
            .into(),
            3 => self.deliver(self.numbers[7] as usize % EVENT_TYPES).into(),
            4 => {
                let entries: Vec<_> = (0..count).map(|entry| self.deliver(entry)).collect();
                let next = InboxSeq::new(self.numbers[6]);
                return ask(SyncPage { entries: (&*entries).into(), next, end: self.flag }.into());
            }
            5 => {
                let entries: Vec<_> = (0..count).map(|entry| self.event(entry)).collect();
                let entries = Events::from(&*entries);
                return ask(HistoryPage { channel, entries, more: self.flag }.into());
            }
            6 => {
                let conversation = Conversation {
                    last_seq: self.seq(),
                    read_seq: Seq::new(self.numbers[6]),
                    inbox_seq: InboxSeq::new(self.numbers[7]),
                };
                let with_last = |event| {
                    let last = self.flag.then(|| self.event(event));
                    ConversationEntry { channel, conversation, last }
                };
                let entries: Vec<_> = (0..count).map(with_last).collect();
                let conversations = Conversations::from(&*entries);
                return ask(ChannelPage { conversations, more: self.flag }.into());
            }
            7 => ChannelReady { channel, nonce, created_at, durability }.into(),
            8 => TypingFrom { channel, user: self.users[0] }.into(),
            9 => Pong { opaque: self.numbers[6], server_time: self.at() }.into(),
            10 => {
                let url = self.flag.then_some(&*self.text);
                Reconnect { after_ms: self.half(6), url }.into()
            }
            11 => ServiceWelcome {
                session: SessionId(self.numbers[0]),
                server_time: self.at(),
                heartbeat_interval_ms: self.half(1),
                epoch: Epoch(self.numbers[6]),
                limits: self.limits(),
            }
            .into(),
            12 => ServiceDone { durability }.into(),
            _ => ServerBody::Unknown(self.byte(6).max(14)),
        };
        ask(body)
    }

    fn welcome(&self) -> Welcome<'_> {
        Welcome {
            session: SessionId(self.numbers[0]),
            user: self.users[0],
            device: self.device(),
            server_time: self.at(),
            heartbeat_interval_ms: self.half(1),
            epoch: Epoch(self.numbers[6]),
            inbox_head: InboxSeq::new(self.numbers[7]),
            resume: self.pick(Resume::ALL),
            ticket: if self.bytes.is_empty() {
                b"ticket"
            } else {
                &self.bytes[..self.bytes.len().min(256)]
            },
            ticket_expires_at: self.at(),
            limits: self.limits(),
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            frame_bytes_max: self.half(1),
            body_bytes_max: self.half(2),
            group_members_max: self.half(3),
            sync_page_max: self.short(4),
            history_page_max: self.short(5),
            channel_page_max: self.short(6),
            posts_in_flight_max: self.short(7),
            frames_per_second_max: self.half(0),
        }
    }
}
