//! A bot that answers every message with the same words, once each: over lost connections, over
//! restarts of the gateway, and over restarts of its own.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use client::{Client, Entry, Event, RequestError};
use wire::Nonce;

/// Answers until the session is over. `told` hears what happens.
///
/// # Errors
/// An answer could not be sent for good.
pub async fn echo(client: &Client, mut told: impl FnMut(&Event)) -> Result<(), RequestError> {
    let mut events = client.events();
    let mut myself = None;
    while let Some(event) = events.next().await {
        told(&event);
        match &event {
            Event::Online(online) => myself = online.user,
            Event::Inbox(entry) => {
                // An entry counts as kept when the next one is asked for: after the answer.
                answer(client, entry, myself).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

async fn answer(
    client: &Client,
    entry: &Entry,
    myself: Option<wire::UserId>,
) -> Result<(), RequestError> {
    let Some(message) = entry.message() else { return Ok(()) };
    let Some(text) = message.text() else { return Ok(()) };
    // Two bots that echo each other never end; this one does not echo itself, at least.
    if Some(message.sender) == myself {
        return Ok(());
    }
    // The nonce of the answer is the place of the question. So a question that comes twice, since
    // we ended between our answer and its being noted, is answered once: the gateway knows the
    // nonce, and gives its first answer again.
    let nonce = Nonce(message.seq.get());
    client.post(message.channel, nonce, 0, text.to_owned()).await?;
    Ok(())
}
