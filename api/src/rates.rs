//! How often an account or an address may do something, in this process.
//!
//! The tables of those who were seen are bounded: what was idle long enough to be as good as new is
//! dropped when one grows beyond [`SEEN_MAX`].

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use wire::UserId;

use crate::config::Rates;
use crate::extract::Address;
use crate::problem::{Kind, Problem, Result};

/// Accounts or addresses of one table; some 100 bytes each.
const SEEN_MAX: usize = 200_000;

/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u32 = 10;

/// From one address there may be so many times the logins of one account.
const ACCOUNTS_OF_ADDRESS: u32 = 10;

pub(crate) struct RateLimits {
    accounts: Table<UserId>,
    addresses: Table<IpAddr>,
    logins: Table<String>,
    logins_of_address: Table<IpAddr>,
    sign_ups: Table<IpAddr>,
}

struct Table<Key: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<Key>,
    refusal: &'static str,
}

impl<Key: Hash + Eq + Clone> Table<Key> {
    fn new(quota: Quota, refusal: &'static str) -> Self {
        Self { limiter: RateLimiter::keyed(quota), refusal }
    }

    fn take(&self, key: &Key) -> Result<()> {
        if self.limiter.len() > SEEN_MAX {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            Problem::later(Kind::TooManyRequests, self.refusal, wait.as_secs() + 1)
        })
    }
}

impl RateLimits {
    pub(crate) fn new(rates: Rates) -> Self {
        let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let second = |rate: u32| {
            let burst = rate.saturating_mul(BURST_SECONDS);
            Quota::per_second(number(rate)).allow_burst(number(burst))
        };
        let hour = |rate: u32| Quota::per_hour(number(rate));
        let of_address = rates.logins_per_hour.saturating_mul(ACCOUNTS_OF_ADDRESS);
        Self {
            accounts: Table::new(second(rates.requests_per_second), "too many of your requests"),
            addresses: Table::new(
                second(rates.address_requests_per_second),
                "too many requests from your address",
            ),
            logins: Table::new(hour(rates.logins_per_hour), "too many logins of this account"),
            logins_of_address: Table::new(hour(of_address), "too many logins from your address"),
            sign_ups: Table::new(
                hour(rates.sign_ups_per_hour),
                "too many accounts were made from your address",
            ),
        }
    }

    pub(crate) fn request_of(&self, user: UserId) -> Result<()> {
        self.accounts.take(&user)
    }

    pub(crate) fn request_from(&self, address: Address) -> Result<()> {
        self.addresses.take(&address.network())
    }

    /// A password is tried, whether there is such an account or not.
    pub(crate) fn login(&self, handle: &str, address: Address) -> Result<()> {
        self.logins_of_address.take(&address.network())?;
        self.logins.take(&handle.to_owned())
    }

    pub(crate) fn sign_up(&self, address: Address) -> Result<()> {
        self.sign_ups.take(&address.network())
    }
}
