//! Channels as this API names them: `HIGH-LOW`, the two halves of the protocol's `ChannelId`.
//! `0-42` is a group, `7-9` the conversation of users 7 and 9.

use wire::ChannelId;

use crate::problem::{Problem, Result};

/// The name of a channel.
pub(crate) fn name(channel: ChannelId) -> String {
    let (high, low) = channel.halves();
    format!("{high}-{low}")
}

/// The channel of a name; none if no channel has it.
pub(crate) fn read(name: &str) -> Option<ChannelId> {
    let (high, low) = name.split_once('-')?;
    let channel = ChannelId::from_halves(high.parse().ok()?, low.parse().ok()?)?;
    // One name for each: no signs, no leading zeros.
    (self::name(channel) == name).then_some(channel)
}

/// The channel of a name in a request.
pub(crate) fn required(name: &str) -> Result<ChannelId> {
    read(name).ok_or_else(|| Problem::field("path", "a channel is named HIGH-LOW, such as 0-42"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_name() {
        for text in ["0-42", "7-9", "7-7", "0-18446744073709551615"] {
            assert_eq!(read(text).map(name).as_deref(), Some(text));
        }
        for text in ["", "42", "0-0", "9-7", "+0-42", "00-42", "0-42 ", "0-18446744073709551616"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
