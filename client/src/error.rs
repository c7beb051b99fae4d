//! What can go wrong, in three sizes: a connection is [`Lost`] and another one made, a request
//! fails and the session goes on ([`RequestError`]), or the session itself is at its [`End`].

use std::time::Duration;

use wire::{InboxSeq, RejectCode};

/// Why there is no connection. The client makes another one by itself; this is for logs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Lost {
    /// No list of gateways, or no token.
    #[error("{0}")]
    Unprepared(String),
    /// The gateway's socket could not be reached.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// What answered is not a WebSocket of ours.
    #[error("handshake: {0}")]
    Handshake(ws::handshake::ResponseRefusal),
    /// The gateway closed the connection.
    #[error("closed with {code}: {reason}")]
    Closed {
        /// 1005 if it gave none.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The connection broke without a word.
    #[error("the connection broke")]
    Broken,
    /// No `Welcome` within the time for it.
    #[error("no Welcome within {0:?}")]
    Unwelcomed(Duration),
    /// Nothing was heard for so long.
    #[error("nothing heard for {0:?}")]
    Silent(Duration),
    /// The gateway broke RFC 6455.
    #[error("not a WebSocket: {0}")]
    Protocol(ws::ProtocolError),
    /// The gateway sent what is no frame.
    #[error("not a frame: {0}")]
    Frame(wire::WireError),
    /// The gateway sent a valid frame that has no business here.
    #[error("{0}")]
    Unexpected(&'static str),
    /// An entry of the inbox is missing.
    #[error("the inbox goes on at {found} after {received}")]
    Gap {
        /// The last place received.
        received: InboxSeq,
        /// What came instead of the next one.
        found: InboxSeq,
    },
}

/// Why a session is over. Nothing goes on by itself: it takes a person, or a new version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum End {
    /// We closed it.
    #[error("closed here")]
    Left,
    /// A fresh token was refused: it is expired, for another device, or signed by an unknown key.
    #[error("the gateway refuses the token ({0}); get a new one")]
    Unauthorised(String),
    /// The gateway will not have this session back.
    #[error("the gateway ended the session with {code}: {reason}")]
    Refused {
        /// See docs/protocol.md.
        code: u16,
        /// Its words.
        reason: String,
    },
}

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// The gateway refused it for good.
    #[error("refused ({code:?}): {text}")]
    Rejected {
        /// Why.
        code: RejectCode,
        /// What was wrong, and what to do.
        text: String,
    },
    /// So many requests, or so many bytes of them, wait already. This one was not taken.
    #[error("the queue is full ({requests} requests, {bytes} bytes); await some answers first")]
    QueueFull {
        /// That wait now.
        requests: usize,
        /// Of their bodies.
        bytes: usize,
    },
    /// Over a limit of the protocol or of this gateway. It was not sent.
    #[error("{what} is over the limit: {amount}, and at most {limit} are possible")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How much of it there is.
        amount: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A nonce of 0, which means "none".
    #[error("the nonce is 0, which stands for none; give each send one of its own")]
    NoNonce,
    /// No answer in time. Whether it was carried out is not known; the same request with the same
    /// nonce tells.
    #[error("no answer in time; the same request with the same nonce tells what became of it")]
    TimedOut,
    /// The queue's store failed. The request was not sent.
    #[error("cannot store the request before it is sent: {0}")]
    Store(String),
    /// The gateway answered with a frame of another kind.
    #[error("the gateway's answer is of another kind than the request")]
    OtherAnswer,
    /// The session is over.
    #[error("the session is over: {0}")]
    Ended(#[from] End),
}
