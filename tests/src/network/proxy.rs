//! What lies between nodes: a TCP proxy on the way from each to each, whose faults follow from a seed.
//!
//! - **Owns** how long bytes are on their way, which of them are late, which connections break, who is cut off, and what somebody on the wire hears.
//! - **Does not** change the bytes.
//!
//! TCP loses nothing, so this loses nothing either. What is modelled is what TCP makes of a bad network:
//! - *delay and jitter*: each piece arrives later, never before the one ahead of it;
//! - *loss*: a lost piece is sent again after 200 ms, then 400 ms, and all behind it waits;
//! - *reset*: both ends lose the connection with what is on the way;
//! - *cut, silent*: nothing arrives, also no end of a connection; what was sent arrives after the cut is healed. New connections seem to be
//!   made and hear nothing;
//! - *cut, refused*: connections break, and new ones are refused at once.
//!
//! What each connection suffers follows from the seed, the two nodes and the number of the connection between them. Which bytes a piece holds
//! and when it is sent is up to the processes: a seed gives the same faults, not the same instants.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Bytes that are on their way as one.
const PIECE: usize = 16 * 1024;
/// Pieces on their way in one direction of a connection; who sends more waits, as with TCP's window.
const PIECES: usize = 256;
/// After how long a lost piece is sent again: TCP's least.
const AGAIN: Duration = Duration::from_millis(200);
/// How often one piece is lost at most.
const LOST_MAX: u32 = 5;

/// One direction between two nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// How long a piece is on its way.
    pub delay: Duration,
    /// By how much more or less.
    pub jitter: Duration,
    /// Of a thousand pieces so many are lost and sent again.
    pub lost: u32,
    /// At so many of a thousand pieces the connection is reset.
    pub resets: u32,
    /// Whether anything passes at all.
    pub cut: Cut,
}

/// Whether anything passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cut {
    /// It does.
    #[default]
    Not,
    /// Nothing passes and nobody is told.
    Silent,
    /// Connections are reset, new ones at once.
    Refused,
}

impl Link {
    /// How long the next piece takes.
    fn wait(&self, random: &mut StdRng) -> Duration {
        let late = random.random_range(Duration::ZERO..=self.jitter * 2);
        let lost = (0..LOST_MAX).take_while(|_| random.random_ratio(self.lost, 1000)).count();
        let again: Duration = (0..lost).map(|time| AGAIN * (1 << time)).sum();
        (self.delay + late).saturating_sub(self.jitter) + again
    }
}

/// Somebody on the wire who waits for a word.
#[derive(Debug, Default)]
struct Ear {
    /// What it listens for, once it was told.
    word: OnceLock<Vec<u8>>,
    bytes: AtomicU64,
    found: AtomicU64,
}

/// What it heard since it was told the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// How many bytes passed.
    pub bytes: u64,
    /// How many pieces held the word.
    pub found: u64,
}

impl Ear {
    /// Takes a piece; `last` is the end of what passed that way before it, for a word may be cut in two.
    fn hear(&self, last: &mut Vec<u8>, piece: &[u8]) {
        let Some(word) = self.word.get() else { return };
        last.extend(piece);
        self.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        if last.windows(word.len()).any(|window| window == word) {
            self.found.fetch_add(1, Ordering::Relaxed);
        }
        last.drain(..last.len().saturating_sub(word.len() - 1));
    }
}

/// The links between all nodes: from, to.
type Links = Vec<Vec<Link>>;

/// Proxies from each node to each other one.
#[derive(Debug)]
pub struct Proxies {
    addresses: Vec<Vec<SocketAddr>>,
    links: watch::Sender<Links>,
    ear: Arc<Ear>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxies {
    /// Proxies between nodes that listen at these addresses; all links are perfect.
    pub fn start(seed: u64, nodes: &[SocketAddr]) -> Self {
        let count = nodes.len();
        let listen = |_| super::ports::quiet_listener();
        let listeners: Vec<Vec<_>> = (0..count).map(|_| (0..count).map(listen).collect()).collect();
        let address = |listener: &std::net::TcpListener| listener.local_addr().unwrap();
        let addresses = listeners.iter().map(|row| row.iter().map(address).collect()).collect();
        let links = watch::Sender::new(vec![vec![Link::default(); count]; count]);
        let (stop, stopped) = oneshot::channel::<()>();
        let ear = Arc::<Ear>::default();
        let (nodes, listening, hearing) = (nodes.to_vec(), links.clone(), Arc::clone(&ear));
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                for (from, row) in listeners.into_iter().enumerate() {
                    for (to, listener) in row.into_iter().enumerate() {
                        let way = Way { from, to, links: listening.subscribe(), ear: Arc::clone(&hearing) };
                        tokio::spawn(accept(listener, nodes[to], way, seed));
                    }
                }
                // All tasks end with the runtime.
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new().name("proxies".to_owned()).spawn(serve).unwrap();
        Self { addresses, links, ear, stop: Some(stop), thread: Some(thread) }
    }

    /// Where `from` reaches `to`.
    pub fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.addresses[from][to]
    }

    /// Listens on all links for a word, from now on and for this one alone.
    pub fn listen_for(&self, word: &[u8]) {
        assert!(word.len() > 1 && self.ear.word.set(word.to_vec()).is_ok(), "it listens for one word");
    }

    /// What was heard since.
    pub fn heard(&self) -> Heard {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Heard { bytes: read(&self.ear.bytes), found: read(&self.ear.found) }
    }

    /// Changes all links.
    pub fn set(&self, change: impl Fn(&mut Link)) {
        self.links.send_modify(|links| links.iter_mut().flatten().for_each(change));
    }

    /// Cuts these nodes off from all others.
    pub fn cut_off(&self, apart: &[usize], cut: Cut) {
        assert_ne!(cut, Cut::Not, "that would heal");
        self.links.send_modify(|links| {
            for (from, row) in links.iter_mut().enumerate() {
                for (to, link) in row.iter_mut().enumerate() {
                    if apart.contains(&from) != apart.contains(&to) {
                        link.cut = cut;
                    }
                }
            }
        });
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.set(|link| link.cut = Cut::Not);
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One direction, as a connection knows it.
#[derive(Clone)]
struct Way {
    from: usize,
    to: usize,
    links: watch::Receiver<Links>,
    ear: Arc<Ear>,
}

impl Way {
    fn back(&self) -> Self {
        Self { from: self.to, to: self.from, links: self.links.clone(), ear: Arc::clone(&self.ear) }
    }

    fn link(&self) -> Link {
        self.links.borrow()[self.from][self.to]
    }

    /// Waits until its cut is so. A proxy that ends changes nothing any more.
    async fn until(&mut self, is_so: impl Fn(Cut) -> bool) {
        let (from, to) = (self.from, self.to);
        if self.links.wait_for(|links| is_so(links[from][to].cut)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The faults of a connection: of its direction and number alone.
    fn random(&self, seed: u64, number: u64) -> StdRng {
        let way = (self.from * 1000 + self.to) as u64;
        StdRng::seed_from_u64(
            seed.wrapping_mul(1_000_003).wrapping_add(way).wrapping_mul(1_000_003).wrapping_add(number),
        )
    }
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

async fn accept(listener: std::net::TcpListener, target: SocketAddr, way: Way, seed: u64) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    for number in 0.. {
        if let Ok((near, _)) = listener.accept().await {
            let random = (way.random(seed, number), way.back().random(seed, number));
            tokio::spawn(carry(near, target, way.clone(), random));
        }
    }
}

/// Carries a connection to its end.
async fn carry(mut near: TcpStream, target: SocketAddr, mut way: Way, random: (StdRng, StdRng)) {
    if way.link().cut == Cut::Refused {
        let _ = near.set_zero_linger();
        return;
    }
    way.until(|cut| cut != Cut::Silent).await;
    // A node that is down refuses, and so does the proxy.
    let Ok(mut far) = TcpStream::connect(target).await else {
        let _ = near.set_zero_linger();
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let end = {
        let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
        let mut refused = way.clone();
        tokio::select! {
            end = one_way(from_near, to_far, way.clone(), random.0) => end,
            end = one_way(from_far, to_near, way.back(), random.1) => end,
            () = refused.until(|cut| cut == Cut::Refused) => End::Reset,
        }
    };
    if end == End::Reset {
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// Moves the bytes of one direction, as its link does at that time.
async fn one_way(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut way: Way, mut random: StdRng) -> End {
    let (queue, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let sending = way.clone();
    let read = async move {
        let (mut last, mut heard) = (Instant::now(), Vec::new());
        loop {
            let mut piece = vec![0; PIECE];
            let count = from.read(&mut piece).await.unwrap_or(0);
            let link = sending.link();
            if count == 0 {
                return None;
            }
            if random.random_ratio(link.resets, 1000) {
                return Some(End::Reset);
            }
            piece.truncate(count);
            sending.ear.hear(&mut heard, &piece);
            // TCP keeps the order: nothing overtakes.
            last = last.max(Instant::now() + link.wait(&mut random));
            if queue.send((last, piece)).await.is_err() {
                return None;
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            way.until(|cut| cut == Cut::Not).await;
            if to.write_all(&piece).await.is_err() {
                return End::Closed;
            }
        }
        // The end of a connection has to pass like its bytes.
        way.until(|cut| cut == Cut::Not).await;
        End::Closed
    };
    tokio::pin!(write);
    tokio::select! {
        end = &mut write => end,
        reset = read => match reset {
            Some(end) => end,
            None => write.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A node that answers every byte with the same byte.
    fn echo() -> SocketAddr {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0; 1];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        address
    }

    fn between_two() -> Proxies {
        Proxies::start(1, &[echo(), echo()])
    }

    fn dial(proxies: &Proxies) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(proxies.address(0, 1)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    fn answers(stream: &mut std::net::TcpStream) -> std::io::Result<()> {
        stream.write_all(&[7])?;
        hears(stream)
    }

    fn hears(stream: &mut std::net::TcpStream) -> std::io::Result<()> {
        let mut byte = [0];
        stream.read_exact(&mut byte)
    }

    #[test]
    fn bytes_pass_in_order_and_as_late_as_was_said() {
        let proxies = between_two();
        proxies.set(|link| {
            *link = Link { delay: Duration::from_millis(40), jitter: Duration::from_millis(30), lost: 100, ..*link }
        });
        let mut stream = dial(&proxies);
        stream.set_read_timeout(None).unwrap();
        let sent: Vec<u8> = (0..=255).collect();
        let start = std::time::Instant::now();
        let mut back = vec![0; 256];
        for (piece, back) in sent.chunks(32).zip(back.chunks_mut(32)) {
            stream.write_all(piece).unwrap();
            stream.read_exact(back).unwrap();
        }
        assert_eq!(back, sent);
        assert!(
            start.elapsed() >= Duration::from_millis(8 * 2 * 10),
            "each piece takes 10 ms at least, there and back"
        );
    }

    #[test]
    fn a_word_in_the_clear_is_heard_also_in_pieces() {
        let proxies = between_two();
        let mut stream = dial(&proxies);
        stream.set_read_timeout(None).unwrap();
        let mut say = |text: &[u8]| {
            stream.write_all(text).unwrap();
            stream.read_exact(&mut vec![0; text.len()]).unwrap();
        };
        say(b"before it was told");
        proxies.listen_for(b"told");
        say(b"to");
        assert_eq!(proxies.heard(), Heard { bytes: 4, found: 0 }, "there and back");
        say(b"ld it");
        assert_eq!(proxies.heard().bytes, 14);
        assert!(proxies.heard().found >= 2, "there and back");
    }

    #[test]
    fn a_silent_cut_holds_what_is_sent_until_it_is_healed() {
        let proxies = between_two();
        let mut stream = dial(&proxies);
        answers(&mut stream).unwrap();
        proxies.cut_off(&[1], Cut::Silent);
        answers(&mut stream).unwrap_err();
        let mut new = dial(&proxies);
        answers(&mut new).unwrap_err();
        proxies.heal();
        for stream in [&mut stream, &mut new] {
            stream.set_read_timeout(None).unwrap();
            hears(stream).unwrap();
        }
    }

    #[test]
    fn a_refused_cut_breaks_connections_and_a_reset_one_of_them() {
        let proxies = between_two();
        let mut stream = dial(&proxies);
        answers(&mut stream).unwrap();
        proxies.cut_off(&[0], Cut::Refused);
        for _ in 0..2 {
            stream.set_read_timeout(None).unwrap();
            answers(&mut stream).unwrap_err();
            stream = dial(&proxies);
        }
        proxies.heal();
        answers(&mut dial(&proxies)).unwrap();
        proxies.set(|link| link.resets = 1000);
        let mut stream = dial(&proxies);
        stream.set_read_timeout(None).unwrap();
        answers(&mut stream).unwrap_err();
    }

    #[test]
    fn a_seed_gives_the_same_faults() {
        let (_, links) = watch::channel(vec![vec![Link::default(); 2]; 2]);
        let way = Way { from: 0, to: 1, links, ear: Arc::default() };
        let link = Link { delay: Duration::from_secs(1), jitter: Duration::from_secs(1), lost: 300, ..Link::default() };
        let waits = |mut random: StdRng| (0..50).map(|_| link.wait(&mut random)).collect::<Vec<_>>();
        assert_eq!(waits(way.random(9, 3)), waits(way.random(9, 3)));
        for other in [way.random(8, 3), way.random(9, 4), way.back().random(9, 3)] {
            assert_ne!(waits(way.random(9, 3)), waits(other));
        }
    }
}
