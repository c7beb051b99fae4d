//! Idle sessions on another server that speaks WebSocket, to hold them beside Mooring's: no token,
//! no Hello, no heartbeat, but what that server wants for something to be a session there.

use clap::Args;
use wire::server::Limits;

use crate::flags::CommonArgs;

/// Stands for the session's number in what is said to a server.
const NUMBER: &str = "{n}";

/// What another server permits: nothing of Mooring's.
pub(crate) const NO_LIMITS: Limits = Limits {
    frame_bytes_max: 0,
    body_bytes_max: 0,
    group_members_max: 0,
    sync_page_max: 0,
    history_page_max: 0,
    channel_page_max: 0,
    posts_in_flight_max: 0,
    frames_per_second_max: 0,
};

/// `run foreign`.
#[derive(Args, Debug)]
pub(crate) struct ForeignArgs {
    /// How many.
    #[arg(long, value_name = "N")]
    pub(crate) sessions: u32,
    /// The WebSocket subprotocol to ask for. Default: none.
    #[arg(long, value_name = "NAME")]
    subprotocol: Option<String>,
    /// What each session says first, as one binary message; {n} is its number, as it is in the
    /// path of --url. Default: nothing.
    #[arg(long, value_name = "TEXT", default_value = "")]
    opening: String,
    /// A session has begun when it hears this. Default: with the end of the handshake.
    #[arg(long, value_name = "TEXT", default_value = "")]
    answer: String,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// What is said to a server that is not Mooring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Foreign {
    /// What is asked for in the handshake.
    pub(crate) subprotocol: Option<String>,
    opening: String,
    answer: String,
}

impl ForeignArgs {
    /// What they say about the server.
    pub(crate) fn server(&self) -> Foreign {
        Foreign {
            subprotocol: self.subprotocol.clone(),
            opening: self.opening.clone(),
            answer: self.answer.clone(),
        }
    }
}

impl Foreign {
    /// The first message of a session; `None`: it says nothing.
    pub(crate) fn opening(&self, number: u64) -> Option<String> {
        (!self.opening.is_empty()).then(|| fill(&self.opening, number))
    }

    /// Whether a session begins with the end of its handshake.
    pub(crate) const fn begins_at_once(&self) -> bool {
        self.answer.is_empty()
    }

    /// Whether a session begins with this message.
    pub(crate) fn begins_with(&self, message: &[u8]) -> bool {
        let answer = self.answer.as_bytes();
        !answer.is_empty() && message.windows(answer.len()).any(|window| window == answer)
    }
}

/// A template with a session's number in it.
pub(crate) fn fill(template: &str, number: u64) -> String {
    template.replace(NUMBER, &number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_says_its_own_number_and_begins_with_the_answer() {
        let foreign = |opening: &str, answer: &str| Foreign {
            subprotocol: None,
            opening: opening.into(),
            answer: answer.into(),
        };
        let nats = foreign("SUB inbox.{n} 1\r\nPING\r\n", "PONG");
        assert_eq!(nats.opening(7).as_deref(), Some("SUB inbox.7 1\r\nPING\r\n"));
        let rows = [("INFO {}\r\n", false), ("+OK\r\nPONG\r\n", true), ("PON", false), ("", false)];
        for (message, begins) in rows {
            assert_eq!(nats.begins_with(message.as_bytes()), begins, "{message:?}");
        }
        let silent = foreign("", "");
        assert_eq!((silent.opening(7), silent.begins_at_once()), (None, true));
        assert!(!silent.begins_with(b"anything"));
    }
}
