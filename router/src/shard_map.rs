//! Which shard a channel or a user lives in, and which core owns that shard.

use wire::{ChannelId, CoreId, ShardId, UserId};

/// The map from ids to shards to cores.
///
/// The first half is part of the data directory's format (`SHARDS` and the mixing function are
/// fixed when it is made); the second depends on how many cores this run has. Nothing on disk
/// mentions a core's shards, so a run with another number of cores just opens them elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct ShardMap {
    shards: u16,
    cores: u16,
}

impl ShardMap {
    /// `shards` as the data directory says, `cores` as this run has.
    ///
    /// # Panics
    /// If either is 0 or there are fewer shards than cores (a core without a shard would hold
    /// neither users nor channels): the caller checks its configuration.
    #[must_use]
    pub fn new(shards: u16, cores: u16) -> Self {
        assert!(cores > 0, "at least one core");
        assert!(shards >= cores, "at least one shard a core");
        Self { shards, cores }
    }

    /// How many cores this run has.
    #[must_use]
    pub const fn cores(self) -> u16 {
        self.cores
    }

    /// The shard a user lives in.
    #[must_use]
    pub fn shard_of_user(self, user: UserId) -> ShardId {
        self.shard(mix(user.get()))
    }

    /// The shard a channel lives in.
    #[must_use]
    pub fn shard_of_channel(self, channel: ChannelId) -> ShardId {
        let (high, low) = channel.halves();
        self.shard(mix(mix(low) ^ high))
    }

    /// The core that owns a shard: neighbours stay together, and with many more shards than cores
    /// no core has more than its share by a visible margin.
    #[must_use]
    pub fn core_of(self, shard: ShardId) -> CoreId {
        let core = u32::from(shard.0) * u32::from(self.cores) / u32::from(self.shards);
        CoreId(u16::try_from(core).expect("below cores"))
    }

    /// The core that owns a user: her inbox and her sessions.
    #[must_use]
    pub fn core_of_user(self, user: UserId) -> CoreId {
        self.core_of(self.shard_of_user(user))
    }

    /// The core that owns a channel: its log and its members.
    #[must_use]
    pub fn core_of_channel(self, channel: ChannelId) -> CoreId {
        self.core_of(self.shard_of_channel(channel))
    }

    /// Scales a hash to `0..shards` without a division and without the bias of a remainder.
    fn shard(self, hash: u64) -> ShardId {
        let scaled = (u128::from(hash) * u128::from(self.shards)) >> 64;
        ShardId(u16::try_from(scaled).expect("below shards"))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which each input bit
/// flips half of the output bits, so that consecutive ids land in unrelated shards. Part of the
/// data directory's format.
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_users_spread_evenly_over_many_cores() {
        let map = ShardMap::new(4096, 56);
        let mut held = [0_u32; 56];
        // Under Miri a twentieth, which spreads less evenly.
        let (users, expected) =
            if cfg!(miri) { (50_000, 750..1_025) } else { (1_000_000, 16_000..19_500) };
        for user in 1..=users {
            held[usize::from(map.core_of_user(UserId::new(user).unwrap()).0)] += 1;
        }
        // A ring's file table has 20,000 places on a host whose limit cannot be raised.
        assert!(held.iter().all(|count| expected.contains(count)), "{held:?}");
    }

    #[test]
    fn the_map_of_a_data_directory_never_changes() {
        let map = ShardMap::new(4096, 2);
        let user = |number| map.shard_of_user(UserId::new(number).unwrap()).0;
        let channel = |number| map.shard_of_channel(ChannelId::numbered(number).unwrap()).0;
        assert_eq!([user(1), user(2), user(u64::MAX)], [1385, 3517, 2893]);
        assert_eq!([channel(1), channel(2)], [1963, 1326]);
    }

    #[test]
    fn every_shard_has_one_core_and_every_core_a_shard() {
        for cores in [1, 2, 3, 7, 64] {
            let map = ShardMap::new(64, cores);
            let owners: Vec<u16> = (0..64).map(|shard| map.core_of(ShardId(shard)).0).collect();
            assert!(owners.is_sorted(), "{owners:?}");
            assert_eq!((owners[0], owners[63]), (0, cores - 1));
        }
    }
}
