//! The account of memory: what each part of a core holds, in bytes, so that the sum can be held
//! against what the operating system reports (docs/decisions, 0012).
//!
//! A core adds up its parts once a second, from sizes and counts that it has anyway. What a part
//! has reserved and not touched is not counted, since it is not resident either.

/// A part of a core's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The table of connections, and their timers.
    Connections,
    /// How each connection is listened to.
    Listening,
    /// Which sessions each user has.
    Sessions,
    /// Users whose inbox state is in memory.
    Users,
    /// Conversations in memory.
    Conversations,
    /// Channels in memory, with their recent sends: estimated from some of them.
    Channels,
    /// Blocks for sending.
    SendBlocks,
    /// Shared bodies of messages on their way.
    Bodies,
    /// Buffers for receiving.
    ReceiveBuffers,
    /// The lanes of the mesh, and what waits for the disk.
    Queues,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Connections,
        Self::Listening,
        Self::Sessions,
        Self::Users,
        Self::Conversations,
        Self::Channels,
        Self::SendBlocks,
        Self::Bodies,
        Self::ReceiveBuffers,
        Self::Queues,
    ];

    /// The value of the metric's label `part`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Listening => "listening",
            Self::Sessions => "sessions",
            Self::Users => "users",
            Self::Conversations => "conversations",
            Self::Channels => "channels",
            Self::SendBlocks => "send_blocks",
            Self::Bodies => "bodies",
            Self::ReceiveBuffers => "receive_buffers",
            Self::Queues => "queues",
        }
    }
}

/// Bytes by part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Account([u64; Part::ALL.len()]);

impl Account {
    /// Notes what a part holds.
    pub const fn set(&mut self, part: Part, bytes: usize) {
        self.0[part as usize] = bytes as u64;
    }

    /// What was noted.
    #[must_use]
    pub const fn get(&self, part: Part) -> u64 {
        self.0[part as usize]
    }
}

/// What the operating system says that the process has in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resident {
    /// All of it, in bytes.
    pub all: u64,
    /// Of that, pages of files: the binary and its libraries.
    pub files: u64,
}

impl Resident {
    /// As `/proc/self/statm` has it; zeros where there is no such file.
    #[must_use]
    pub fn read() -> Self {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        Self::parse(&text, rustix::param::page_size() as u64).unwrap_or_default()
    }

    /// The second and the third number are resident and shared pages: proc_pid_statm(5).
    fn parse(text: &str, page_bytes: u64) -> Option<Self> {
        let mut numbers = text.split_whitespace().skip(1).map(str::parse::<u64>);
        let (all, files) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { all: all * page_bytes, files: files * page_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_own_place_and_name() {
        let mut account = Account::default();
        for (bytes, part) in (1..).zip(Part::ALL) {
            account.set(part, bytes);
        }
        for (bytes, part) in (1..).zip(Part::ALL) {
            assert_eq!(account.get(part), bytes, "{}", part.name());
        }
        let names: std::collections::BTreeSet<_> = Part::ALL.map(Part::name).into();
        assert_eq!(names.len(), Part::ALL.len());
    }

    #[test]
    fn resident_pages_are_the_second_and_third_number() {
        let parsed = Resident::parse("900 70 30 5 0 60 0\n", 4096);
        assert_eq!(parsed, Some(Resident { all: 70 * 4096, files: 30 * 4096 }));
        for bad in ["", "1 2", "a b c"] {
            assert_eq!(Resident::parse(bad, 4096), None, "{bad:?}");
        }
        assert!(Resident::read().all > 0, "of this process");
    }
}
