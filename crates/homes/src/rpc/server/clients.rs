//! The clients of a server by their addresses: how much each may still ask, and how many connections and calls it has.
//!
//! - **Owns** the counts. Who counts is the connection and the layer around all calls.
//! - **Does not** tell users behind one address apart.
//!
//! # Invariants
//! - **C1** There are never more entries than the limit says: an entry goes when its client is at rest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Limits;
use super::limits::ANSWER_PART;
use crate::rpc::Fault;

/// Who asks. A host with one IPv6 address has all of its /64, so these count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Client(IpAddr);

impl Client {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Self(IpAddr::V6(network.into()))
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// All clients that did something lately.
#[derive(Debug)]
pub(super) struct Clients {
    limits: Limits,
    known: Mutex<HashMap<Client, Account>>,
}

/// What one client used.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// Calls that it may still make, as of `at`.
    left: f64,
    at: Instant,
    connections: usize,
    calls: usize,
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Connected {
    clients: Arc<Clients>,
    client: Client,
}

impl Clients {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::new(HashMap::new()) }
    }

    /// Counts a connection of that client, unless it has too many.
    pub(super) fn connect(self: &Arc<Self>, client: Client, now: Instant) -> Option<Connected> {
        let allowed = self.with(client, now, |account| {
            let allowed = account.connections < self.limits.connections_per_client;
            account.connections += usize::from(allowed);
            allowed
        });
        (allowed == Some(true)).then(|| Connected { clients: Arc::clone(self), client })
    }

    /// Counts calls that begin, unless the client makes too many.
    pub(super) fn begin(self: &Arc<Self>, client: Client, calls: usize, now: Instant) -> Result<Calls, Fault> {
        let Limits { calls_at_once, .. } = self.limits;
        let taken = self.with(client, now, |account| {
            let cost = cost(calls);
            if account.left < cost {
                return Err(Fault::limited("too many requests: ask less often"));
            }
            if account.calls.saturating_add(calls) > calls_at_once {
                return Err(Fault::limited(format!("more than {calls_at_once} calls at once: wait for answers")));
            }
            account.left -= cost;
            account.calls += calls;
            Ok(())
        });
        taken.unwrap_or_else(|| Err(Fault::limited("too many clients: ask again later")))?;
        Ok(Calls { clients: Arc::clone(self), client, count: calls })
    }

    /// Works on the account of a client as of now; nothing if there is no room for one more.
    fn with<T>(&self, client: Client, now: Instant, work: impl FnOnce(&mut Account) -> T) -> Option<T> {
        let full = f64::from(self.limits.calls_burst);
        let refill = |account: &Account| {
            let rested = now.saturating_duration_since(account.at).as_secs_f64();
            full.min(account.left + rested * f64::from(self.limits.calls_per_second))
        };
        let mut known = self.known();
        if known.len() >= self.limits.clients && !known.contains_key(&client) {
            known.retain(|_, account| account.connections + account.calls > 0 || refill(account) < full);
            if known.len() >= self.limits.clients {
                return None;
            }
        }
        let account = known.entry(client).or_insert(Account { left: full, at: now, connections: 0, calls: 0 });
        account.left = refill(account);
        account.at = now;
        Some(work(account))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Client, Account>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls that run until this is dropped.
#[derive(Debug)]
pub(super) struct Calls {
    clients: Arc<Clients>,
    client: Client,
    count: usize,
}

impl Calls {
    /// A long answer counts as several calls: it may leave the client in debt.
    pub(super) fn answered(&self, length: usize) {
        if let Some(account) = self.clients.known().get_mut(&self.client) {
            account.left -= cost(length / ANSWER_PART);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(account) = self.clients.known().get_mut(&self.client) {
            account.calls = account.calls.saturating_sub(self.count);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn cost(calls: usize) -> f64 {
    calls as f64
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(account) = self.clients.known().get_mut(&self.client) {
            account.connections = account.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(text: &str) -> Client {
        Client::of(text.parse().unwrap())
    }

    fn limits() -> Limits {
        let (calls_per_second, calls_burst, calls_at_once) = (10, 20, 20);
        Limits { calls_per_second, calls_burst, calls_at_once, clients: 2, connections_per_client: 2, ..Limits::USUAL }
    }

    #[test]
    fn a_bucket_empties_and_fills_with_time() {
        let (clients, now) = (Arc::new(Clients::new(limits())), Instant::now());
        let one = client("10.0.0.1");
        let take = |client, calls, seconds| clients.begin(client, calls, now + Duration::from_secs(seconds)).is_ok();
        assert!(take(one, 20, 0));
        assert!(!take(one, 1, 0));
        assert!(take(client("10.0.0.2"), 20, 0), "others have their own");
        assert!(take(one, 10, 1));
        assert!(!take(one, 1, 1));
        assert!(!take(one, 21, 1000), "never more than the burst");
    }

    #[test]
    fn a_long_answer_counts_as_many_calls() {
        let (clients, now) = (Arc::new(Clients::new(limits())), Instant::now());
        let one = client("10.0.0.1");
        clients.begin(one, 1, now).unwrap().answered(29 * ANSWER_PART);
        assert!(clients.begin(one, 1, now).is_err(), "in debt by ten");
        assert!(clients.begin(one, 1, now + Duration::from_secs(1)).is_err());
        assert!(clients.begin(one, 10, now + Duration::from_secs(2)).is_ok());
    }

    #[test]
    fn calls_at_once_are_counted_until_they_end() {
        let limits = Limits { calls_at_once: 2, ..limits() };
        let (clients, now) = (Arc::new(Clients::new(limits)), Instant::now());
        let one = client("10.0.0.1");
        let running = clients.begin(one, 2, now);
        assert!(running.is_ok());
        assert!(clients.begin(one, 1, now).is_err());
        drop(running);
        assert!(clients.begin(one, 1, now).is_ok());
    }

    #[test]
    fn clients_at_rest_make_room_and_busy_ones_do_not() {
        let (clients, now) = (Arc::new(Clients::new(limits())), Instant::now());
        assert!(clients.begin(client("10.0.0.1"), 20, now).is_ok());
        assert!(clients.begin(client("10.0.0.2"), 20, now).is_ok());
        assert!(clients.begin(client("10.0.0.3"), 1, now).is_err());
        assert!(clients.begin(client("10.0.0.3"), 1, now + Duration::from_secs(2)).is_ok());
        assert!(clients.known().len() <= 2);
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let (clients, now) = (Arc::new(Clients::new(limits())), Instant::now());
        let one = client("10.0.0.1");
        let (first, second) = (clients.connect(one, now), clients.connect(one, now));
        assert!(first.is_some() && second.is_some());
        assert!(clients.connect(one, now).is_none());
        drop(first);
        assert!(clients.connect(one, now).is_some());
    }

    #[test]
    fn addresses_of_one_host_are_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
    }
}
