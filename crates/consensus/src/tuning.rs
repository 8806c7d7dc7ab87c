//! The numbers of the engine, each with its reason. All nodes of a network must share those marked *shared*.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use blockhouse_types::limits::MIB;
use commonware_runtime::Quota;
use commonware_runtime::buffer::paged::page_size;
use commonware_utils::{NZU32, NZU64, NZUsize};

/// The greatest length of a block's RLP. *Shared*, and never lowered: peers disconnect who sends more. Half of what the
/// ledger's format allows: a block has to cross three links within a leader's turn.
pub const BLOCK_MAX: usize = 2 * MIB;
/// The greatest length of a gossiped message. *Shared.* A transaction may have 128 KiB.
pub const GOSSIP_MAX: usize = 256 * 1024;

/// How long a leader may wait for work. *Shared.* An idle network spends one view in this time, and a dead leader costs it.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a view may take in all: a block of the greatest length, verified and voted on over a slow link.
pub const CERTIFICATION_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a view that is stuck is voted down again; the first votes may be lost.
pub const TIMEOUT_RETRY: Duration = Duration::from_secs(1);
/// After how much silence a leader's turn is skipped at once. It must exceed the timeouts above.
pub const SKIP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many views without a final block may be skipped so: an idle network has about one view a second and one block a
/// minute, so the count is above what passes between two of them.
pub const SKIP_BUDGET: NonZeroU64 = NZU64!(256);
/// How many views below the last final one are kept in the vote journal; older ones are pruned.
pub const VIEW_RETENTION: u64 = 64;

/// How long a peer may take to answer a request; then another is asked.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before a request is made again: short, for what is missing stops votes.
pub const FETCH_RETRY: Duration = Duration::from_millis(200);
/// How many missing blocks are fetched at once: at 50 ms a round trip some 1,200 blocks a second.
pub const REPAIR_MAX: NonZeroUsize = NZUsize!(64);
/// How many final blocks the application makes durable together at most: each sync waits for the disk and writes down what is free in the file.
pub const SYNC_BLOCKS: usize = 16;
/// How long the first of them waits for that: so much of the ledger a node that was killed takes from its own engine again.
pub const SYNC_AFTER: Duration = Duration::from_secs(1);
/// How many final blocks may be given to the application before it made the first of them durable: those that come meanwhile too.
pub const PENDING_ACKS: NonZeroUsize = NZUsize!(2 * SYNC_BLOCKS);
/// How many blocks above the standing are given to the application at once; a node further behind catches up first.
pub const PENDING_MAX: u64 = 128;
/// How often a node that is behind looks whether it caught up, and a certificate that is not there yet is looked for.
pub const RECHECK: Duration = Duration::from_millis(50);
/// How long the certificate of a final block is looked for; what finalised it is on disk before the block is delivered,
/// so more than this is a fault of the store.
pub const CERTIFICATE_DEADLINE: Duration = Duration::from_mins(1);

/// Messages in each mailbox of the engine: some views of votes from [`PEERS_MAX`] peers.
pub const MAILBOX: NonZeroUsize = NZUsize!(1024);
/// How many unconfirmed blocks of each sender are kept in memory.
pub const BLOCKS_BUFFERED: usize = 16;
/// How many nodes a network may have, validators and followers.
pub const PEERS_MAX: usize = 256;
/// For how many followers more than it began with an engine has room: the bounds of its queues follow from how many nodes there may be.
pub const FOLLOWERS_MORE: usize = 6;
/// Gossip waiting to be read or sent: at 1,000 transactions a second a quarter of a second.
pub const GOSSIP_QUEUE: usize = 256;

/// Messages a second from one peer on the channel of votes: three a view, at more views than four nodes can make. Each
/// channel allocates room for a second's quota of every peer, so none is generous.
pub const VOTES: Quota = Quota::per_second(PER_SECOND);
/// On that of certificates.
pub const CERTIFICATES: Quota = Quota::per_second(PER_SECOND);
/// On that of certificates that were asked for.
pub const RESOLVER: Quota = Quota::per_second(NZU32!(128));
/// On that of blocks that were asked for: [`REPAIR_MAX`] at once, many times a second.
pub const BACKFILL: Quota = Quota::per_second(NZU32!(1024));
/// On that of new blocks: one a view.
pub const BLOCKS: Quota = Quota::per_second(NZU32!(128));
/// On that of gossip.
pub const GOSSIP: Quota = Quota::per_second(NZU32!(256));
const PER_SECOND: NonZeroU32 = NZU32!(512);

/// How often a participant of a key ceremony sends again what may have been lost.
pub const CEREMONY_TICK: Duration = Duration::from_millis(250);
/// Messages a second from one participant, also on the channel of letters: three a tick, and answers.
pub const CEREMONY: Quota = Quota::per_second(NZU32!(64));
/// For how many ticks who is through, or failed, still tells the others.
pub const CEREMONY_PARTING: u32 = 8;
/// For how many ticks who has the key waits for others that are not heard any more.
pub const CEREMONY_LINGER: u32 = 60;
/// For how many ticks the same participants are awaited before it is told.
pub const CEREMONY_AWAITED: u32 = 40;

/// The page of the engine's files. Fixed for the life of a folder: another size reads them as damaged.
pub const PAGE: NonZeroU16 = page_size(4096);
/// Pages kept in memory: 2 MiB.
pub const PAGES: NonZeroUsize = NZUsize!(512);
/// Blocks in one section of the archive, and the grain at which it is pruned. Fixed for the life of a folder.
pub const SECTION: NonZeroU64 = NZU64!(1024);
/// Bytes written at once by a journal.
pub const WRITE_BUFFER: NonZeroUsize = NZUsize!(64 * 1024);
/// Bytes read at once when a journal is replayed.
pub const REPLAY_BUFFER: NonZeroUsize = NZUsize!(64 * 1024);

/// By how much the clock of a peer may be ahead when it connects: clocks that are seconds off must not split a network.
pub const CLOCK_AHEAD: Duration = Duration::from_mins(1);
/// How old a greeting may be, clocks behind included.
pub const GREETING_AGE: Duration = Duration::from_secs(90);
/// The least time between two connections with one peer: a node that restarts is back within seconds.
pub const RECONNECT: Duration = Duration::from_millis(500);
/// How often one peer is dialled.
pub const DIAL: Duration = Duration::from_millis(250);
/// How often a silent connection is tried.
pub const PING: Duration = Duration::from_secs(10);
/// How long who sent what no honest node sends is kept out. Not for good: two releases may disagree by a fault of ours.
pub const BLOCKED: Duration = Duration::from_mins(5);
/// Greetings a second from one address: four nodes and their restarts on one machine.
pub const GREETINGS: Quota = Quota::per_second(NZU32!(32));
/// Greetings at one time, from all.
pub const GREETINGS_AT_ONCE: NonZeroU32 = NZU32!(128);
/// How long a greeting may take.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer is dialled.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Threads of the engine: it waits more than it computes, and the application computes elsewhere.
pub const WORKERS: usize = 2;
/// Threads for its file operations; each may wait for the disk.
pub const DISK_THREADS: usize = 8;
/// How long a stop waits for tasks to end by themselves; journals are safe at any instant.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
