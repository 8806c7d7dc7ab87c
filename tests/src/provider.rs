//! A provider: what stands between most users and the nodes of a chain.
//!
//! - **Owns** how often it may be asked, the ways in which it says that this was too often, and the question that it holds back.
//! - **Does not** understand what is asked: a question and its answer pass as they are.
//!
//! Whoever asks while the node is down finds the connection closed.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long anything may take before it counts as never: this machine may be very busy.
const PATIENCE: Duration = Duration::from_mins(2);
/// Of so many questions that many are too many, one after another: each of them is told in another way.
const LIMITED: (u64, u64) = (16, 3);

/// In front of a node of this machine.
#[derive(Debug)]
pub struct Provider {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: u16,
    is_limited: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    refused: u64,
    /// The words of the question that is to be held, and how many with these words pass before.
    hold: Option<(String, u64)>,
    is_held: bool,
}

impl Provider {
    /// One that passes everything to the node at that port.
    pub fn start(to: u16) -> Self {
        Self::serving(to, false)
    }

    /// One that is asked too often, again and again.
    pub fn limited(to: u16) -> Self {
        Self::serving(to, true)
    }

    fn serving(to: u16, is_limited: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { to, is_limited, state: Mutex::default(), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(client));
            }
        });
        Self { port, shared }
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many questions there were.
    pub fn asked(&self) -> u64 {
        self.shared.state.lock().unwrap().asked
    }

    /// How many of them were too many.
    pub fn refused(&self) -> u64 {
        self.shared.state.lock().unwrap().refused
    }

    /// Holds back one question with these words, after so many of them, until it is released.
    pub fn hold(&self, words: &str, after: u64) {
        self.shared.state.lock().unwrap().hold = Some((words.to_owned(), after));
    }

    /// Waits until that question came.
    pub fn wait_until_held(&self) {
        let state = self.shared.state.lock().unwrap();
        let (state, _) = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.is_held).unwrap();
        assert!(state.is_held, "it was never asked that");
    }

    /// Lets it go.
    pub fn release(&self) {
        self.shared.state.lock().unwrap().is_held = false;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) {
        let mut reader = BufReader::new(client);
        while let Some(question) = read_message(&mut reader) {
            let number = self.count(&question);
            let answer = match self.too_many(number) {
                Some(answer) => answer,
                None => match pass(self.to, &question) {
                    Ok(answer) => answer,
                    // The node is down.
                    Err(_) => return,
                },
            };
            if reader.get_mut().write_all(&answer).is_err() {
                return;
            }
        }
    }

    /// Counts a question, and holds it if it is the one; its number.
    fn count(&self, question: &[u8]) -> u64 {
        let text = String::from_utf8_lossy(question);
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let number = state.asked;
        match &mut state.hold {
            Some((words, 0)) if text.contains(words.as_str()) => {
                (state.hold, state.is_held) = (None, true);
                self.changed.notify_all();
                drop(self.changed.wait_timeout_while(state, PATIENCE, |state| state.is_held).unwrap());
            }
            Some((words, left)) if text.contains(words.as_str()) => *left -= 1,
            _ => {}
        }
        number
    }

    /// What is said to a question too many.
    fn too_many(&self, number: u64) -> Option<Vec<u8>> {
        let place = (number % LIMITED.0).checked_sub(LIMITED.0 - LIMITED.1).filter(|_| self.is_limited)?;
        self.state.lock().unwrap().refused += 1;
        let error = |code: i64, words: &str| {
            format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{{\"code\":{code},\"message\":\"{words}\"}}}}")
        };
        Some(match place {
            0 => message("429 Too Many Requests", "slow down"),
            1 => message("200 OK", &error(-32_005, "limit exceeded")),
            _ => message("200 OK", &error(429, "Your app has exceeded its compute units per second capacity")),
        })
    }
}

fn message(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A question or an answer with all its bytes; none at the end.
fn read_message(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    loop {
        let start = bytes.len();
        if reader.read_until(b'\n', &mut bytes).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&bytes[start..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    reader.read_exact(&mut bytes[start..]).ok()?;
    Some(bytes)
}

fn pass(to: u16, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut node = TcpStream::connect(("127.0.0.1", to))?;
    node.write_all(question)?;
    read_message(&mut BufReader::new(node)).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that answers everything with "yes".
    fn node() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                read_message(&mut reader).unwrap();
                reader.get_mut().write_all(&message("200 OK", "yes")).unwrap();
            }
        });
        port
    }

    fn ask(provider: &Provider, words: &str) -> String {
        let question = message("", words);
        String::from_utf8(pass(provider.port, &question).unwrap()).unwrap()
    }

    #[test]
    fn questions_too_many_are_told_in_each_way_and_all_others_pass() {
        let provider = Provider::limited(node());
        let answers: Vec<String> = (0..32).map(|_| ask(&provider, "what")).collect();
        let has = |words: &str| answers.iter().filter(|answer| answer.contains(words)).count();
        assert_eq!([has("yes"), has("429 Too"), has("-32005"), has("\"code\":429")], [26, 2, 2, 2]);
        assert_eq!((provider.asked(), provider.refused()), (32, 6));
    }

    #[test]
    fn one_question_is_held_until_it_is_released() {
        let provider = Provider::start(node());
        provider.hold("this", 1);
        ask(&provider, "this");
        ask(&provider, "that");
        std::thread::scope(|scope| {
            let held = scope.spawn(|| ask(&provider, "this"));
            provider.wait_until_held();
            ask(&provider, "this");
            assert!(!held.is_finished());
            provider.release();
            assert!(held.join().unwrap().contains("yes"));
        });
    }
}
