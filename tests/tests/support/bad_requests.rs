//! Requests as no client should make them, byte by byte, and transactions as no wallet should sign them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Signature, TxKind, U256};
use blockhouse_crypto::AccountSecret;
use blockhouse_tests::network::Node;
use serde_json::Value;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    /// The code of the error that it is.
    #[track_caller]
    pub(crate) fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {}", self.body))
    }
}

/// The head of a request of JSON-RPC, up to its last line.
fn head(line: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{line}\r\n\r\n")
}

/// Posts a body.
pub(crate) fn post(node: &Node, body: &str) -> Answer {
    let head = head(&format!("Content-Length: {}\r\nConnection: close", body.len()));
    exchange(node, &[head.as_bytes(), body.as_bytes()])
}

/// Posts that piece again and again, and does not say beforehand how often.
pub(crate) fn post_pieces(node: &Node, piece: &str, times: usize) -> Answer {
    let (head, chunk) = (head("Transfer-Encoding: chunked"), format!("{:x}\r\n{piece}\r\n", piece.len()));
    let mut all = vec![head.as_bytes()];
    all.extend(std::iter::repeat_n(chunk.as_bytes(), times));
    all.push(b"0\r\n\r\n");
    exchange(node, &all)
}

/// Reads while it still sends: a server may answer, and hang up, before it took all.
fn exchange(node: &Node, all: &[&[u8]]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let mut bytes = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || all.iter().try_for_each(|part| sending.write_all(part)));
        // How the connection ends is shown by what came.
        let _ = stream.read_to_end(&mut bytes);
    });
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), body: body.to_owned() }
}

/// Clients that never come to an end of what they say.
pub(crate) struct Drips {
    heads: Vec<TcpStream>,
    bodies: Vec<TcpStream>,
}

impl Drips {
    /// So many begin a head, and as many a body.
    pub(crate) fn open(node: &Node, count: usize) -> Self {
        let open = |text: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", node.port())).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let all = |text: &str| (0..count).map(|_| open(text)).collect();
        Self { heads: all("POST / HTTP/1.1\r\nHost: local"), bodies: all(&(head("Content-Length: 1000000") + "[")) }
    }

    /// Each says one byte more, if anybody listens.
    pub(crate) fn drip(&mut self) {
        for stream in self.heads.iter_mut().chain(&mut self.bodies) {
            let _ = stream.write_all(b" ");
        }
    }

    /// Whether the server let go of all that do not end their heads; none of them was answered.
    pub(crate) fn are_let_go(&mut self) -> bool {
        self.heads.retain_mut(|stream| {
            let mut bytes = [0; 1024];
            match stream.read(&mut bytes) {
                Ok(0) => false,
                Ok(count) => {
                    let text = String::from_utf8_lossy(&bytes[..count]);
                    assert!(!text.contains("200 OK"), "{text}");
                    true
                }
                Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            }
        });
        self.heads.is_empty()
    }
}

/// Transactions of an enrolled account and of a stranger that no block can hold, as `eth_sendRawTransaction` takes them, and words of why not.
pub(crate) fn bad_transactions(
    chain: u64,
    writer: &AccountSecret,
    stranger: &AccountSecret,
) -> Vec<(String, &'static str)> {
    let raw = |by: &AccountSecret, change: &dyn Fn(&mut TxEip1559)| {
        let to = TxKind::Call(Address::repeat_byte(5));
        let mut tx = TxEip1559 { chain_id: chain, gas_limit: 100_000, to, ..TxEip1559::default() };
        change(&mut tx);
        let [rs @ .., v] = by.sign(&tx.signature_hash().0);
        let signed = TxEnvelope::from(tx.into_signed(Signature::from_bytes_and_parity(&rs, v == 1)));
        format!("0x{}", hex::encode(signed.encoded_2718()))
    };
    let good = raw(writer, &|_| ());
    vec![
        ("0x".to_owned(), "the bytes are no transaction"),
        ("0x02ff".to_owned(), "the bytes are no transaction"),
        (good[..good.len() - 2].to_owned(), "the bytes are no transaction"),
        (format!("{good}00"), "the bytes are no transaction"),
        (raw(writer, &|tx| tx.input = vec![1; 128 << 10].into()), "oversized data"),
        (raw(writer, &|tx| tx.max_fee_per_gas = 1), "there are no fees"),
        (raw(writer, &|tx| tx.value = U256::from(1)), "there is no value"),
        (raw(writer, &|tx| tx.gas_limit = 20_999), "intrinsic gas too low"),
        (raw(writer, &|tx| tx.gas_limit = u64::MAX), "exceeds block gas limit"),
        (raw(writer, &|tx| tx.chain_id += 1), "invalid chain id"),
        (raw(writer, &|tx| tx.nonce = 1000), "nonce too high"),
        (raw(stranger, &|_| ()), "not enrolled"),
    ]
}
