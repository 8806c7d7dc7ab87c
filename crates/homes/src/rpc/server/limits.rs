//! What a server gives at most, each number with its reason.

use std::num::NonZeroU32;
use std::time::Duration;

const MIB: u32 = 1024 * 1024;
/// How many seconds' calls a client that rested may make at once.
const BURST_SECS: u32 = 4;

/// How long the head of a request may be, with room for the cookies of browsers.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// How many headers it may have.
pub(super) const HEADERS: usize = 64;
/// How many bytes of an answer count as one more call.
pub(super) const ANSWER_PART: usize = 64 * 1024;

/// The bounds of a server. A client that meets one is told so; no other client is held up by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The longest request, a batch too: as in go-ethereum; a deployment of a large contract has some 100 KiB.
    pub request_bytes: u32,
    /// The longest answer: a block object of the greatest size as hexadecimal, behind others, fits in.
    pub response_bytes: u32,
    /// The most calls of one batch: go-ethereum takes 1000, yet they count against the rate of one client here.
    pub batch: u32,
    /// The most open connections: each costs up to a request and an answer in memory.
    pub connections: usize,
    /// The most of them that one client has: a fraction, so that one client cannot shut the others out.
    pub connections_per_client: usize,
    /// The most subscriptions of one connection: a wallet has a handful.
    pub subscriptions: u32,
    /// The most messages that wait for one slow WebSocket client: each may be an answer of the greatest size.
    pub messages: u32,
    /// The most blocks that are searched for logs at once: some weeks of them, read by headers.
    pub log_range: u64,
    /// The most logs of one answer: a bound on its memory.
    pub logs: usize,
    /// The most filters there are; each is small.
    pub filters: usize,
    /// The most of them that one client has.
    pub filters_per_client: usize,
    /// How long a filter lives that nobody asks: as in go-ethereum.
    pub filter_time: Duration,
    /// How many calls a client makes each second in the long run: more than a page that polls, less than a flood. A long
    /// answer counts as several calls, one for each 64 KiB.
    pub calls_per_second: u32,
    /// How many calls it may make at once after a rest: a page that opens asks for much at a time.
    pub calls_burst: u32,
    /// The most calls of one client that run or wait at the same time: each holds its request in memory.
    pub calls_at_once: usize,
    /// The most clients whose calls are counted one by one: a bound on memory; when all are busy, more are refused.
    pub clients: usize,
    /// How long a call may take; sealing may wait 15 s for a clock.
    pub call_time: Duration,
    /// How long a whole request over HTTP may take, from its head to its answer.
    pub request_time: Duration,
    /// How long the head of a request may take, and a connection be idle: who has nothing to say comes again.
    pub head_time: Duration,
    /// How long the other side may take none of what is sent to it.
    pub write_time: Duration,
    /// How often a WebSocket client is asked whether it lives; two missed answers end the connection.
    pub ping_time: Duration,
    /// The most calls that read the ledger at the same time; others wait their turn.
    pub reads: usize,
}

impl Limits {
    /// How many calls a client makes each second where the operator says nothing else.
    pub const USUAL_CALLS: NonZeroU32 = NonZeroU32::new(500).unwrap();
    /// The usual limits.
    pub const USUAL: Self = Self {
        request_bytes: 5 * MIB,
        response_bytes: 20 * MIB,
        batch: 100,
        connections: 256,
        connections_per_client: 64,
        subscriptions: 64,
        messages: 16,
        log_range: 100_000,
        logs: 10_000,
        filters: 4096,
        filters_per_client: 256,
        filter_time: Duration::from_mins(5),
        calls_per_second: Self::USUAL_CALLS.get(),
        calls_burst: Self::USUAL_CALLS.get() * BURST_SECS,
        calls_at_once: 128,
        clients: 4096,
        call_time: Duration::from_secs(30),
        request_time: Duration::from_mins(1),
        head_time: Duration::from_secs(15),
        write_time: Duration::from_secs(20),
        ping_time: Duration::from_secs(30),
        reads: 8,
    };

    /// The usual limits, with so many calls a second for each client.
    pub const fn with_calls(calls_per_second: NonZeroU32) -> Self {
        let calls_per_second = calls_per_second.get();
        Self { calls_per_second, calls_burst: calls_per_second.saturating_mul(BURST_SECS), ..Self::USUAL }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::USUAL
    }
}
