//! A calendar of OpenTimestamps on this machine: it promises at once, and keeps its promises when it is told to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The calendar, running until it is dropped.
#[derive(Debug)]
pub struct Calendar {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// In hexadecimal.
    digests: Mutex<Vec<String>>,
    keeps: AtomicBool,
    ended: AtomicBool,
}

/// What it says of a digest: a promise, by its URL.
fn promise(port: u16) -> Vec<u8> {
    let url = format!("http://127.0.0.1:{port}");
    let mut payload = vec![u8::try_from(url.len()).unwrap()];
    payload.extend_from_slice(url.as_bytes());
    let tag = [0x00, 0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];
    [&tag[..], &[u8::try_from(payload.len()).unwrap()], &payload].concat()
}

/// What it says later: behind other hashes it is the root of Bitcoin's block 358391.
fn kept() -> Vec<u8> {
    let bitcoin = [0x00, 0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01, 0x03, 0xf7, 0xef, 0x15];
    [&[0xf1, 0x20][..], &[7; 32], &[0x08, 0x08], &bitcoin].concat()
}

impl Calendar {
    /// Starts it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.ended.load(Ordering::Relaxed) {
                    return;
                }
                // Who goes away early is no concern of a calendar.
                let _ = stream.and_then(|stream| answer(stream, port, &theirs));
            }
        });
        Self { port, shared }
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From here on it keeps its promises.
    pub fn keep(&self) {
        self.shared.keeps.store(true, Ordering::Relaxed);
    }
}

impl Drop for Calendar {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn answer(mut stream: TcpStream, port: u16, shared: &Shared) -> std::io::Result<()> {
    let (head, body) = request(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let is_known = |digest: &str| shared.digests.lock().unwrap().iter().any(|known| known == digest);
    let found = match path.strip_prefix("/timestamp/") {
        Some(digest) => (shared.keeps.load(Ordering::Relaxed) && is_known(digest)).then(kept),
        None => (head.starts_with("POST /digest ") && body.len() == 32).then(|| {
            let digest = body.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
            shared.digests.lock().unwrap().push(digest);
            promise(port)
        }),
    };
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let body = found.unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

fn request(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return Ok((head, bytes[end + 4..].to_vec()));
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
