//! Why a connection is closed and why a request is refused: two tables, which
//! `docs/protocol.md` repeats (a test compares them).

/// What a client does after a close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAction {
    /// Connect again at once (after the delay of `Reconnect`, or a short random one) with the
    /// ticket and the cursor.
    Resume,
    /// As `Resume`, but with a delay that doubles, with jitter.
    ResumeLater,
    /// Get a new token, then connect with it and the cursor.
    Login,
    /// The client is wrong: report it; the same bytes would be refused again.
    Fix,
    /// Do not connect again unless the user asks for it.
    Stop,
}

impl ClientAction {
    /// As it stands in the documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::ResumeLater => "resume later",
            Self::Login => "log in",
            Self::Fix => "fix",
            Self::Stop => "stop",
        }
    }
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $action:ident, $reason:literal;)*) => {
        /// Every code with which a gateway closes a connection. Below 4000 RFC 6455 section 7.4.1
        /// gives the meaning; from 4000 on they are ours (section 7.4.2).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum CloseCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl CloseCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number in the Close frame.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The code with this number; `None` if a gateway never sends it.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name in the documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The text in the Close frame; at most [`CLOSE_REASON_BYTES_MAX`] bytes.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Self::$name => $reason,)*
                }
            }

            /// What a client should do.
            #[must_use]
            pub const fn action(self) -> ClientAction {
                match self {
                    $(Self::$name => ClientAction::$action,)*
                }
            }
        }

        $(const _: () = assert!($reason.len() <= CLOSE_REASON_BYTES_MAX, $reason);)*
    };
}

/// A control frame carries 125 bytes (RFC 6455 section 5.5), two of which are the code.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

close_codes! {
    /// The gateway drains; `Reconnect` said when and where to come back.
    GoingAway = 1001, Resume, "this gateway is going away";
    /// The peer broke RFC 6455.
    ProtocolError = 1002, Fix, "not a valid WebSocket frame";
    /// A text message.
    NotBinary = 1003, Fix, "text message; frames are binary";
    /// A Close frame with a reason that is not UTF-8.
    NotUtf8 = 1007, Fix, "text that is not UTF-8";
    /// A message above `Limits.frame_bytes_max`.
    TooBig = 1009, Fix, "message above Limits.frame_bytes_max";
    /// Not a frame of this protocol: identifier, structure, or a frame only the gateway sends.
    BadFrame = 4400, Fix, "not a valid frame of mooring.v1";
    /// Token or ticket is invalid or expired.
    Unauthorised = 4401, Login, "token or ticket invalid or expired";
    /// The account or the device is locked, or the device was removed.
    Forbidden = 4403, Stop, "this account or device may not connect";
    /// `Hello.protocol_version` is not served here.
    UnsupportedVersion = 4406, Stop, "protocol version not served; update the client";
    /// Nothing was heard for three heartbeat intervals.
    HeartbeatTimeout = 4408, Resume, "nothing heard for three heartbeat intervals";
    /// The same device has opened a newer session.
    Displaced = 4409, Stop, "the same device has opened a newer session";
    /// No `Hello` within `hello_timeout`, another frame before it, or a second one.
    HelloExpected = 4410, Fix, "the first frame, and only it, must be Hello";
    /// The user or an operator has ended this session, and what it could be resumed with.
    Ended = 4411, Login, "this session was ended; log in again";
    /// The client reads more slowly than its inbox grows; nothing is lost.
    SlowConsumer = 4413, Resume, "reading too slowly; resume by cursor";
    /// Frames keep coming above `Limits.frames_per_second_max`.
    RateLimited = 4429, ResumeLater, "too many frames";
    /// The gateway is wrong.
    Internal = 4500, ResumeLater, "internal error";
    /// The gateway takes no new sessions: it drains, or sheds load.
    Unavailable = 4503, ResumeLater, "no new sessions here now";
}

macro_rules! reject_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $meaning:literal, $advice:literal;)*) => {
        /// Why a request was refused: `RejectCode` of the schema.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u16)]
        pub enum RejectCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl RejectCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number in the frame.
            #[must_use]
            pub const fn number(self) -> u16 {
                self as u16
            }

            /// The code with this number; `Unknown` for one of a later version.
            #[must_use]
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($code => Self::$name,)*
                    _ => Self::Unknown,
                }
            }

            /// Its name in the schema.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What it means, for humans.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }

            /// What a client should do, for humans.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self {
                    $(Self::$name => $advice,)*
                }
            }
        }
    };
}

reject_codes! {
    /// A code of a later version.
    Unknown = 0, "a reason of a later version", "treat it as Malformed; show `text`";
    /// A field is missing or out of range.
    Malformed = 1, "a field is missing or out of range; `text` names it",
        "fix the client; do not retry";
    /// This gateway does not know this frame or enum value.
    Unsupported = 2, "this gateway does not know this frame, kind, role or direction",
        "do without it here, or update the gateway";
    /// The channel does not exist for this user.
    NotMember = 3, "the channel does not exist for this user",
        "drop the channel from the list";
    /// A member, but without the right.
    NotPermitted = 4, "a member, but without the right", "show it; do not retry";
    /// Over a limit.
    TooLarge = 5, "body, title or member list over its limit",
        "shorten or split it by the limits of Welcome; use a new nonce";
    /// Same nonce, other content.
    NonceReused = 6, "same nonce, other content",
        "fix the client: a nonce belongs to one send";
    /// The first transmission may lie beyond what is searched.
    RetryTooOld = 7, "a retry whose first transmission may lie beyond what is searched",
        "look for the message in History; if it is missing, ask the user and use a new nonce";
    /// `group_members_max` is reached.
    ChannelFull = 8, "group_members_max is reached", "show it; a Broadcast channel holds more";
    /// Slow down.
    RateLimited = 9, "too many requests", "send it again after `retry_after_ms`, same nonce";
    /// The gateway sheds load.
    Overloaded = 10, "the gateway sheds load", "send it again after `retry_after_ms`, same nonce";
    /// The host's disk is full.
    StorageFull = 11, "the host's disk is full; reading goes on",
        "keep it in the outbox; retry after `retry_after_ms`, same nonce";
    /// The gateway is going away.
    Draining = 12, "the gateway is going away",
        "follow `Reconnect`, then send it again, same nonce, `retry` set";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::mooring::wire as fb;

    #[test]
    fn close_codes_ascend_and_are_found_by_their_number() {
        assert!(CloseCode::ALL.is_sorted_by_key(|code| code.number()));
        // Under Miri, which needs minutes for all, the numbers around those that are ours.
        let numbers = if cfg!(miri) { 4390..=4510 } else { 0..=u16::MAX };
        for number in numbers {
            let known = CloseCode::ALL.iter().copied().find(|code| code.number() == number);
            assert_eq!(CloseCode::from_number(number), known, "{number}");
        }
    }

    #[test]
    fn reject_codes_are_those_of_the_schema() {
        let of_schema: Vec<_> = fb::RejectCode::ENUM_VALUES
            .iter()
            .map(|code| (code.0, code.variant_name().unwrap()))
            .collect();
        let ours: Vec<_> =
            RejectCode::ALL.iter().map(|code| (code.number(), code.name())).collect();
        assert_eq!(ours, of_schema);
        assert_eq!(RejectCode::from_number(999), RejectCode::Unknown);
    }
}
