//! What can be wrong with a frame. A [`WireError`] is of one of two kinds: the frame itself is not
//! one (the connection is closed), or it is one and a field breaks a [`Rule`] (the request is
//! refused and the session goes on).

use std::borrow::Cow;
use std::fmt;

use flatbuffers::InvalidFlatbuffer;

use crate::codes::{CloseCode, RejectCode};
use crate::limits::FRAME_BYTES_MIN;
use crate::server::Rejected;
use crate::{ChannelId, Nonce};

/// Why bytes were not accepted as a frame. Plain data: making one does not allocate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// There is no room for an identifier.
    #[error("{bytes} bytes are no frame: at least {FRAME_BYTES_MIN} are needed")]
    TooShort {
        /// How many there were.
        bytes: usize,
    },
    /// Longer than a frame can be; its content was not looked at.
    #[error("frame of {bytes} bytes: at most {bytes_max} are accepted")]
    TooLarge {
        /// How many there were.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
    /// Bytes 4 to 7 are not the identifier of a frame from this side.
    #[error("file identifier {found:02x?} in bytes 4..8, expected {expected:02x?}")]
    NotAFrame {
        /// What stands there.
        found: [u8; 4],
        /// What should stand there.
        expected: [u8; 4],
    },
    /// The verifier refused it.
    #[error("not a valid FlatBuffer of the schema: {fault}")]
    Invalid {
        /// What the verifier found.
        fault: Fault,
    },
    /// A field breaks a rule.
    #[error("request {}: {}", .0.request, .0.rule.problem())]
    Field(FieldError),
}

/// What the verifier found, without its trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// A required field is absent.
    #[error("required field `{0}` is absent")]
    FieldMissing(&'static str),
    /// A union without its type or a type without its union.
    #[error("of the union `{0}` and its type only one is set")]
    UnionInconsistent(&'static str),
    /// A union whose type says that it holds nothing.
    #[error("the union `{0}` has the type NONE")]
    UnionNone(&'static str),
    /// A string that is not UTF-8.
    #[error("the string at byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where it begins.
        at: usize,
    },
    /// A string without a zero byte behind it.
    #[error("the string at byte {at} is not followed by a zero byte")]
    NotTerminated {
        /// Where it begins.
        at: usize,
    },
    /// A value that is not aligned to its size.
    #[error("the value at byte {at} is not aligned")]
    Unaligned {
        /// Where it is.
        at: usize,
    },
    /// A value beyond the end.
    #[error("the value at byte {at} reaches beyond the end")]
    OutOfBounds {
        /// Where it would be.
        at: usize,
    },
    /// More tables than a frame can have.
    #[error("too many tables")]
    TooManyTables,
    /// So much is shared that the frame stands for more than twice its limit.
    #[error("too many offsets share their target")]
    TooMuchSharing,
    /// Tables nested deeper than a frame can be.
    #[error("tables nested too deeply")]
    TooDeep,
}

impl From<&InvalidFlatbuffer> for Fault {
    fn from(found: &InvalidFlatbuffer) -> Self {
        match found {
            InvalidFlatbuffer::MissingRequiredField { required, .. } => {
                Self::FieldMissing(name_of(required))
            }
            // The crate hands the two names over in the opposite order of its parameters: what it
            // calls the field's type is the union.
            InvalidFlatbuffer::InconsistentUnion { field_type, .. } => {
                Self::UnionInconsistent(name_of(field_type))
            }
            InvalidFlatbuffer::Utf8Error { range, .. } => Self::NotUtf8 { at: range.start },
            InvalidFlatbuffer::MissingNullTerminator { range, .. } => {
                Self::NotTerminated { at: range.start }
            }
            InvalidFlatbuffer::Unaligned { position, .. } => Self::Unaligned { at: *position },
            InvalidFlatbuffer::RangeOutOfBounds { range, .. } => {
                Self::OutOfBounds { at: range.start }
            }
            InvalidFlatbuffer::SignedOffsetOutOfBounds { position, .. } => {
                Self::OutOfBounds { at: *position }
            }
            InvalidFlatbuffer::TooManyTables => Self::TooManyTables,
            InvalidFlatbuffer::ApparentSizeTooLarge => Self::TooMuchSharing,
            InvalidFlatbuffer::DepthLimitReached => Self::TooDeep,
        }
    }
}

/// The generated code names fields by literals alone.
#[expect(clippy::ptr_arg, reason = "the literal is only in a Cow that borrows it")]
fn name_of(field: &Cow<'static, str>) -> &'static str {
    match field {
        Cow::Borrowed(name) => name,
        Cow::Owned(_) => "?",
    }
}

/// A field of a valid frame that breaks a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// Of the frame.
    pub request: u32,
    /// Of the frame, if it has one.
    pub nonce: Option<Nonce>,
    /// Of the frame, if it has one and it is not what is wrong.
    pub channel: Option<ChannelId>,
    /// Which rule.
    pub rule: Rule,
}

macro_rules! rules {
    ($($name:ident = $field:literal, $code:ident, $problem:literal;)*) => {
        /// What must hold of the fields of a frame beyond its structure.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[expect(missing_docs, reason = "each variant's `problem` is its documentation")]
        pub enum Rule {
            $($name,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The field as the schema names it.
            #[must_use]
            pub const fn field(self) -> &'static str {
                match self {
                    $(Self::$name => $field,)*
                }
            }

            /// What is wrong and what to do, for humans; it begins with the field.
            #[must_use]
            pub const fn problem(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($field, ": ", $problem),)*
                }
            }

            /// How a request that breaks it is refused.
            #[must_use]
            pub const fn code(self) -> RejectCode {
                match self {
                    $(Self::$name => RejectCode::$code,)*
                }
            }
        }
    };
}

rules! {
    CredentialCount = "token", Malformed, "set exactly one of token and ticket";
    TokenLength = "token", Malformed, "1 to 2048 bytes";
    TicketLength = "ticket", Malformed, "1 to 256 bytes";
    ClientLength = "client", Malformed, "at most 64 bytes";
    DeviceZero = "device", Malformed,
        "must not be 0 beside a ticket; say the device of the credential";
    ChannelForm = "channel", Malformed,
        "no channel has this id; say it as the gateway told it, or two users' ids ascending";
    NonceZero = "nonce", Malformed, "must not be 0; give each send its own";
    MembersEmpty = "members", Malformed, "must name at least one user";
    MemberZero = "members", Malformed, "0 is no user";
    MembersTooMany = "members", TooLarge, "at most 500 in one request; send several";
    TitleLength = "title", TooLarge, "at most 128 bytes";
    KindDirect = "kind", Malformed,
        "a Direct channel exists from its first message on; post to it instead";
    KindUnknown = "kind", Unsupported, "this gateway does not know this kind of channel";
    RoleUnknown = "role", Unsupported, "this gateway does not know this role";
    DirectionUnknown = "direction", Unsupported, "this gateway does not know this direction";
    UserZero = "user", Malformed, "0 is no user";
    SeqZero = "seq", Malformed, "must not be 0";
    InboxSeqZero = "inbox_seq", Malformed, "must not be 0";
}

impl WireError {
    /// The code with which to close the connection. For a [`WireError::Field`] it is the one for a
    /// peer that cannot be sent a `Rejected`: a device before its `Welcome`.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::TooLarge { .. } => CloseCode::TooBig,
            Self::TooShort { .. }
            | Self::NotAFrame { .. }
            | Self::Invalid { .. }
            | Self::Field(_) => CloseCode::BadFrame,
        }
    }

    /// The answer that keeps the session, with the request it belongs to; `None` if the connection
    /// must be closed.
    #[must_use]
    pub fn rejected(&self) -> Option<(u32, Rejected<'static>)> {
        let Self::Field(FieldError { request, nonce, channel, rule }) = *self else {
            return None;
        };
        let nonce = nonce.unwrap_or(Nonce(0));
        let (code, text) = (rule.code(), rule.problem());
        Some((request, Rejected { code, nonce, channel, text, retry_after_ms: 0 }))
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule.problem())
    }
}

/// Where in the traffic a field stands: what an error about it repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) request: u32,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) channel: Option<ChannelId>,
}

impl At {
    /// For what was checked before: no error will be made of it.
    pub(crate) const NOWHERE: Self = Self::request(0);

    pub(crate) const fn request(request: u32) -> Self {
        Self { request, nonce: None, channel: None }
    }

    pub(crate) const fn breaks(&self, rule: Rule) -> WireError {
        let Self { request, nonce, channel } = *self;
        WireError::Field(FieldError { request, nonce, channel, rule })
    }
}
