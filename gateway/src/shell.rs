//! What the cores run on: rings, or, where there are none, the portable shell.

use uring::RingError;

use crate::config::ShellConfig;

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shell {
    /// io_uring: [`crate::reactor`].
    Uring,
    /// epoll, through monoio: `portable.rs`.
    Portable,
}

impl Shell {
    /// What this host permits of what is wanted. Where `auto` comes to the portable shell, that is
    /// said in one warning: what is missing, what it costs, and how to have it otherwise.
    ///
    /// # Errors
    /// A ring is wanted and cannot be made; or one could be made here, but for want of something.
    pub fn choose(wanted: ShellConfig) -> Result<Self, RingError> {
        Self::choose_by(wanted, || uring::probe().map(drop))
    }

    fn choose_by(
        wanted: ShellConfig,
        probe: impl FnOnce() -> Result<(), RingError>,
    ) -> Result<Self, RingError> {
        if wanted == ShellConfig::Portable {
            return Ok(Self::Portable);
        }
        match probe() {
            Ok(()) => Ok(Self::Uring),
            Err(error) if wanted == ShellConfig::Auto && error.is_unavailable() => {
                tracing::warn!(
                    "running on the portable shell (epoll), since {error}; it costs more system \
                     calls and processor time for each message, and a descriptor of the process \
                     for each connection. `--io uring` refuses to start instead, `--io portable` \
                     takes it without this warning"
                );
                Ok(Self::Portable)
            }
            Err(error) => Err(error),
        }
    }

    /// As in the configuration and in the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Portable => "portable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORBIDDEN: RingError = RingError::Forbidden { advice: "permit it" };
    const NO_MEMORY: RingError = RingError::Memory { call: "io_uring_setup" };

    #[test]
    fn auto_falls_back_only_where_there_are_no_rings_at_all() {
        use ShellConfig::{Auto, Portable, Uring};
        let rows = [
            (Auto, Ok(()), Ok(Shell::Uring)),
            (Auto, Err(FORBIDDEN), Ok(Shell::Portable)),
            (Auto, Err(RingError::Missing), Ok(Shell::Portable)),
            (Auto, Err(NO_MEMORY), Err(NO_MEMORY)),
            (Uring, Ok(()), Ok(Shell::Uring)),
            (Uring, Err(FORBIDDEN), Err(FORBIDDEN)),
            (Portable, Ok(()), Ok(Shell::Portable)),
        ];
        for (wanted, found, expected) in rows {
            let case = format!("{wanted:?}, {found:?}");
            let told = |result: Result<Shell, RingError>| result.map_err(|error| error.to_string());
            assert_eq!(told(Shell::choose_by(wanted, || found)), told(expected), "{case}");
        }
    }

    #[test]
    fn the_portable_shell_does_not_look_for_rings() {
        let shell =
            Shell::choose_by(ShellConfig::Portable, || unreachable!("it was not asked for"));
        assert_eq!(shell.ok(), Some(Shell::Portable));
    }
}
