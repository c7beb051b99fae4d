//! What can be done to the virtual host, as plain data: a life is a list of these, and a failing
//! one is made shorter by leaving some out.

use wire::MembershipOp;

/// One thing that is done, and how many steps follow it. Each has randomness of its own, so that
/// leaving one out changes nothing about the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Act {
    pub(crate) seed: u64,
    pub(crate) steps: u16,
    pub(crate) what: What,
}

/// Devices, cores and channels are picks: taken modulo what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    // ---- What devices do.
    Connect {
        device: u8,
        core: u8,
        from: Start,
    },
    /// Its socket breaks; what it has sent arrives all the same, or not.
    Cut {
        device: u8,
        resets: bool,
    },
    Bye {
        device: u8,
    },
    /// It is restored from an older state of its own.
    Forget {
        device: u8,
    },
    Post {
        device: u8,
        channel: u8,
        bytes: u16,
        count: u8,
    },
    /// Sends something again: marked as a retry or not, and perhaps with another body.
    Repeat {
        device: u8,
        pick: u8,
        marked: bool,
        altered: bool,
    },
    /// It posts while the disk stalls, loses patience, connects anew and sends again.
    GivesUp {
        device: u8,
        channel: u8,
    },
    Create {
        device: u8,
        members: u8,
    },
    Change {
        device: u8,
        channel: u8,
        op: MembershipOp,
        members: u8,
        admins: bool,
    },
    MarkRead {
        device: u8,
        channel: u8,
    },
    Ack {
        device: u8,
    },
    /// Asks for a page of its inbox that begins so far back.
    Sync {
        device: u8,
        back: u8,
    },
    History {
        device: u8,
        channel: u8,
        forward: bool,
    },
    List {
        device: u8,
    },
    Typing {
        device: u8,
        channel: u8,
    },
    Ping {
        device: u8,
    },
    /// It reads nothing from now on, or reads again.
    Reads {
        device: u8,
        reads: bool,
    },
    // ---- What happens to the host.
    Tick {
        count: u8,
    },
    /// The process was stopped for so many ticks.
    Sleep {
        ticks: u16,
    },
    /// Somebody sets the wall clock, in seconds.
    WallClock {
        seconds: i32,
    },
    HoldCommits(bool),
    /// The watch on free space says so.
    Full(bool),
    /// The disk is full for one write alone, with more behind it.
    FullForOne,
    /// Writes fail for want of space: see `Committer`'s held group.
    NoSpace(bool),
    Pressure(bool),
    FailReads(bool),
    /// A core gets no processor: its lanes fill.
    Rest {
        core: u8,
        rests: bool,
    },
    Places {
        count: u8,
    },
    Crash {
        /// How many steps to take until something of this kind is under way; see `points`.
        waits_for: u8,
        restart: Restart,
    },
    /// The process dies in its next write: after the disk has it, or before.
    DieInWrite {
        is_kept: bool,
        restart: Restart,
    },
    /// It is asked to end, ends and is started again.
    Drain {
        restart: Restart,
    },
    // ---- What is looked at.
    /// All faults stop: what is owed must arrive.
    Calm,
}

/// How the process comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Restart {
    pub(crate) cores: u8,
    /// Before which writes of its recovery it dies again.
    pub(crate) deaths: [Option<u8>; 2],
}

/// Where a session is to begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// Where the device is, with a token or its newest ticket.
    Cursor { ticket: bool },
    /// As a device that was never connected.
    Fresh,
    /// With a cursor of another history.
    OtherEpoch,
    /// With a cursor that its inbox has not reached.
    Beyond,
}
