//! A line between client and server that delays, cuts and corrupts, by a seed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What goes wrong with the bytes that pass. Zero is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Line {
    /// Nothing passes any more in either direction, and nobody is told: both sides see a peer that is there and silent.
    pub silent: bool,
    /// Every piece comes so much later, in each direction; the rate stays.
    pub delay: Duration,
    /// A connection is cut, on average, after so many bytes.
    pub cut_after: u64,
    /// One bit is turned in about so many bytes that come from the server.
    pub corrupt_reads: u64,
    /// One bit is turned in about so many bytes that go to the server.
    pub corrupt_writes: u64,
}

/// A proxy in front of a port of this host.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: u16,
    line: Mutex<Line>,
    dice: Mutex<StdRng>,
    ended: AtomicBool,
    faults: AtomicU64,
}

impl Proxy {
    /// Starts it; a seed and a line give the same dice.
    pub fn start(to: u16, line: Line, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            to,
            line: Mutex::new(line),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            ended: AtomicBool::new(false),
            faults: AtomicU64::new(0),
        });
        let for_listener = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if for_listener.ended.load(Ordering::SeqCst) {
                    return;
                }
                for_listener.connect(client);
            }
        });
        Self { port, shared }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of an S3 site behind it.
    pub fn s3_url(&self, bucket: &str, prefix: &str) -> String {
        super::s3::url_at(self.port, bucket, prefix)
    }

    /// Makes the line another one, for the pieces from now on.
    pub fn set(&self, line: Line) {
        *self.shared.line.lock().unwrap() = line;
    }

    /// How often something went wrong so far.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else { return };
        for socket in [&client, &server] {
            socket.set_nodelay(true).unwrap();
        }
        let (Ok(other_client), Ok(other_server)) = (client.try_clone(), server.try_clone()) else { return };
        self.clone().pump(client, server, true);
        self.clone().pump(other_server, other_client, false);
    }

    /// Two threads for one direction: one takes pieces and notes when they are due, one gives them then.
    fn pump(self: Arc<Self>, mut from: TcpStream, mut to: TcpStream, is_write: bool) {
        let (send, receive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1024);
        std::thread::spawn(move || {
            for (due, piece) in receive {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                self.wait_while_silent();
                let line = *self.line.lock().unwrap();
                let mut piece = buffer[..count].to_vec();
                let corrupt = if is_write { line.corrupt_writes } else { line.corrupt_reads };
                if self.happens(corrupt, count) {
                    let bit = self.dice.lock().unwrap().random_range(0..count * 8);
                    piece[bit / 8] ^= 1 << (bit % 8);
                }
                if self.happens(line.cut_after, count) || send.send((Instant::now() + line.delay, piece)).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
        });
    }

    fn wait_while_silent(&self) {
        while self.line.lock().unwrap().silent && !self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// True once in about `mean` bytes.
    fn happens(&self, mean: u64, count: usize) -> bool {
        let happens = mean > 0 && self.dice.lock().unwrap().random_range(0..mean) < count as u64;
        self.faults.fetch_add(u64::from(happens), Ordering::SeqCst);
        happens
    }
}
