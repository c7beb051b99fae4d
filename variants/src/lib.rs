//! The core, broken on purpose in one place at a time: a checker that finds none of these would be
//! worth nothing. `cargo xtask sim --variants` lives simulated lives with each of them.
//!
//! The places ask [`is`]. Without the feature `on` that is a constant, and nothing of a variant is
//! in the program.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

macro_rules! variants {
    ($($name:ident: $what:literal,)*) => {
        /// What is broken.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Variant {
            $(#[doc = $what] $name,)*
        }

        impl Variant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is broken, in words.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

variants! {
    // store
    AckBeforeSync: "a batch is told as durable before it is synced",
    NoSpaceIsDone: "a write that found no space is taken for done",
    RefusalForgotten: "batches behind a refused one are written",
    ReplayNotRecognised: "a recovery completes fan-outs that the inbox has",
    JournalEmptiedEarly: "a recovery empties the journal before it completes fan-outs",
    FormerMembersCompleted: "a recovery completes fan-outs to who has left",
    // router
    FannedOutTooFar: "the fanned-out watermark is one batch too high",
    FoldedTooFar: "the folded watermark is one batch too high",
    FanAckEarly: "a fan-out is acknowledged before it is durable",
    NoncesLost: "the window of nonces is not read back at a restart",
    UndurableForgotten: "the window of nonces forgets sends that are not durable",
    RetryNotSearched: "a retry beyond the window of nonces is not searched for",
    SeqReused: "a channel's last place is given again after a restart",
    MembershipUnchecked: "whoever posts is not looked up among the members",
    RecipientsStale: "who comes or goes does not change who gets the entries",
    MarkerBeyond: "a read marker may say more than there is",
    WakeLost: "a sleeping core is not woken on the edge from empty to not empty",
    OfferDropped: "an offer that finds its lane full is dropped",
    BacklogOvertaken: "what is owed is overtaken once the lane has room",
    ReleasedBackwards: "what a batch holds is released in the wrong order",
    CursorOfAnother: "an acknowledgement moves the cursor of the user's first device",
    CursorForgotten: "a device's cursor is not stored when it goes",
    ConversationForgotten: "a conversation is forgotten before the store has it",
    DisplacedStays: "a displaced session stays in the table of sessions",
    HeadTooEarly: "a session is told of a head that is not durable",
    // gateway
    StaleCompletion: "a completion for an ended connection is taken for its successor",
    DeliveriesBehindOffers: "deliveries wait while offers cannot be taken",
    QueueUnbounded: "a send queue takes whatever comes",
    PageEndEarly: "a page says that it is the last one when it is not",
    RepeatAnsweredEarly: "a repeat is answered before the first transmission is durable",
    BodyReused: "a body's memory is given out again while it is held",
    BlockTwice: "a send block is given back twice",
    BlockLost: "a send block is not given back when its connection ends",
    StallDropped: "what a stalled connection has sent is dropped",
    LeftoverDropped: "what follows Hello in the same bytes is dropped",
    NotReceivedAgain: "a connection that has stalled is never read again",
    OwnCopyForgotten: "a device's own copies wait for the next frame for ever",
    RefusedOutOfOrder: "refused batches are submitted again in the wrong order",
    SessionUnbounded: "a session may hold whatever it is sent or sends",
    ShareUnbounded: "the sessions of a core may hold more than its memory has room for",
    HeldForEver: "what a connection held when it ended stays counted",
    CursorTrusted: "a cursor beyond the inbox is resumed from",
}

/// Whether there are any in this build.
pub const ON: bool = cfg!(feature = "on");

/// Whether this is what is broken, on this thread.
#[cfg(not(feature = "on"))]
#[must_use]
#[inline(always)]
pub const fn is(_: Variant) -> bool {
    false
}

#[cfg(feature = "on")]
std::thread_local! {
    static CHOSEN: std::cell::Cell<Option<Variant>> = const { std::cell::Cell::new(None) };
}

/// Whether this is what is broken, on this thread.
#[cfg(feature = "on")]
#[must_use]
pub fn is(variant: Variant) -> bool {
    CHOSEN.get() == Some(variant)
}

/// What is broken on this thread from now on.
#[cfg(feature = "on")]
pub fn choose(variant: Option<Variant>) {
    CHOSEN.set(variant);
}
