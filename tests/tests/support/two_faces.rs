//! A node with two faces: it answers as an honest one does, but for blocks from some height on, which it makes anew.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use alloy_primitives::{Address, hex};
use alloy_sol_types::SolCall as _;
use blockhouse_homes::network::NodeFolder;
use blockhouse_ledger::BlockObject;
use blockhouse_ledger::certificate::{Certificate, Committee, Finality, Vote, namespace};
use blockhouse_ledger::contracts::Validators::governorsCall;
use blockhouse_tests::network::{Network, Node};
use blockhouse_tests::tree;
use blockhouse_tests::world::{World, exit};
use blockhouse_types::Encoder;
use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_cryptography::Signer as _;
use commonware_cryptography::ed25519::PrivateKey;
use serde_json::{Value, json};

/// What it shows for blocks from its height on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Face {
    /// Bytes that are no block.
    Garbage,
    /// Other blocks, signed by one validator fewer than it takes.
    TooFew,
    /// Other blocks, certified by the validators of another ledger.
    Foreign,
    /// Other blocks, certified by a quorum of this ledger's own validators.
    Fork,
}

/// Who governs the ledger, as it says to whoever asks.
pub(crate) const STRANGER: Address = Address::repeat_byte(0x66);

const FACES: [Face; 4] = [Face::Garbage, Face::TooFew, Face::Foreign, Face::Fork];

struct Shared {
    honest: Node,
    /// The keys of the validators, ascending by their public ones.
    keys: Vec<PrivateKey>,
    height: u64,
    face: AtomicU8,
    /// How often it was asked how high it is.
    rounds: AtomicUsize,
    /// One request after another.
    turn: Mutex<()>,
}

/// The lying node.
pub(crate) struct Liar {
    port: u16,
    shared: Arc<Shared>,
}

fn public(key: &PrivateKey) -> [u8; 32] {
    key.public_key().encode()[..].try_into().unwrap()
}

impl Liar {
    /// It serves what `honest` does, and lies from that height on with the keys in the nodes' folders.
    pub(crate) fn start(honest: Node, folders: &[PathBuf], height: u64) -> Self {
        let mut keys: Vec<PrivateKey> = folders
            .iter()
            .map(|folder| {
                let file = NodeFolder::new(folder).read_keys().unwrap().encode();
                // Behind the header of the file.
                PrivateKey::decode(Copying(&file[8..40])).unwrap()
            })
            .collect();
        keys.sort_by_key(public);
        let (face, rounds) = (AtomicU8::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { honest, keys, height, face, rounds, turn: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&shared);
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.answer(&stream));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Shows that face from now on; gives the keys that stand under its block then, ascending. Who of them signed the other too depends on whose
    /// certificate of that is looked at: each node has its own.
    pub(crate) fn show(&self, face: Face) -> Vec<String> {
        let number = FACES.iter().position(|other| *other == face).unwrap();
        self.shared.face.store(u8::try_from(number).unwrap(), Ordering::SeqCst);
        let own = self.shared.fetch(self.shared.height).remove(0);
        let forged = self.shared.forge(&own);
        let Some(Certificate::Committee(forged)) = forged.map(|object| object.certificate) else { return Vec::new() };
        forged.votes.iter().map(|vote| hex::encode(forged.keys[vote.signer])).collect()
    }

    /// How often it was asked how high it is: what comes before every comparison, and once when a node starts.
    pub(crate) fn rounds(&self) -> usize {
        self.shared.rounds.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).ok()? > 2 {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        let answer = {
            let _turn = self.turn.lock();
            self.reply(request["method"].as_str()?, &request["params"])?
        };
        let body = json!({ "jsonrpc": "2.0", "id": request["id"], "result": answer }).to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
        write!(&*stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()
    }

    /// The result of a request; nothing where the honest node gives none.
    fn reply(&self, method: &str, params: &Value) -> Option<Value> {
        // It hands nothing on that tells of it.
        if method == "blockhouse_submitFork" {
            return None;
        }
        let is_of_governors = |data: &str| data.starts_with(&hex::encode_prefixed(governorsCall::SELECTOR));
        if method == "eth_call" && params[0]["data"].as_str().is_some_and(is_of_governors) {
            return Some(json!(hex::encode_prefixed(governorsCall::abi_encode_returns(&vec![STRANGER]))));
        }
        let honest = self.honest.try_ask(method, params).ok()?.get("result")?.clone();
        self.rounds.fetch_add(usize::from(method == "eth_blockNumber"), Ordering::SeqCst);
        if method != "blockhouse_getBlockObjects" {
            return Some(honest);
        }
        let lie = |bytes: &Value| {
            let object = decode(bytes);
            let is_lie = object.block.header.number >= self.height;
            match (is_lie, self.forge(&object)) {
                (false, _) => bytes.clone(),
                (true, Some(forged)) => json!(format!("0x{}", hex::encode(forged.encode()))),
                (true, None) => json!("0x42484203"),
            }
        };
        Some(honest.as_array()?.iter().map(lie).collect())
    }

    fn fetch(&self, height: u64) -> Vec<BlockObject> {
        let params = json!([format!("{height:#x}"), "0x1"]);
        let honest = self.honest.ask("blockhouse_getBlockObjects", &params);
        honest.as_array().unwrap().iter().map(decode).collect()
    }

    /// Another block in the place of this one, as its face has it; nothing that could be read for one.
    fn forge(&self, object: &BlockObject) -> Option<BlockObject> {
        let (keys, signers): (Vec<PrivateKey>, usize) = match FACES[usize::from(self.face.load(Ordering::SeqCst))] {
            Face::Garbage => return None,
            Face::TooFew => (self.keys.clone(), 2),
            Face::Foreign => {
                let mut keys: Vec<_> = (900..904).map(PrivateKey::from_seed).collect();
                keys.sort_by_key(public);
                (keys, 3)
            }
            Face::Fork => (self.keys.clone(), 3),
        };
        let mut forged = object.clone();
        forged.block.header.timestamp += 1;
        let view = 7 + forged.block.header.number;
        let finality = Finality { epoch: 0, view, parent: view - 1, descendants: Vec::new() };
        let mut message = Encoder::new();
        message.varint(finality.epoch).varint(finality.view).varint(finality.parent).raw(forged.hash().as_bytes());
        let name = [namespace(object.chain_id).as_slice(), b"_FINALIZE"].concat();
        // The last ones: an honest quorum may be the first.
        let votes = keys.iter().enumerate().skip(keys.len() - signers).map(|(signer, key)| Vote {
            signer,
            signature: key.sign(&name, message.as_slice()).encode()[..].try_into().unwrap(),
        });
        let (votes, keys) = (votes.collect(), keys.iter().map(public).collect());
        forged.certificate = Certificate::Committee(Committee { charter: None, keys, finality, votes });
        Some(forged)
    }
}

fn decode(bytes: &Value) -> BlockObject {
    BlockObject::decode(&hex::decode(bytes.as_str().unwrap().trim_start_matches("0x")).unwrap()).unwrap()
}

/// Those whom a proof names: at least f + 1 of four, and nobody but those who signed the second block.
pub(crate) fn named(proved: &Value, forgers: &[String]) -> Vec<String> {
    let named: Vec<String> = serde_json::from_value(proved["signers"].clone()).unwrap();
    assert!(named.len() >= 2 && named.iter().all(|key| forgers.contains(key)), "{named:?} of {forgers:?}");
    named
}

/// The evidence in a folder.
pub(crate) fn evidence(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(folder.join("forks")) else { return Vec::new() };
    files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_none()).collect()
}

/// A vault on a network of four nodes whose operators sign one by one, which may speak on the ledger.
pub(crate) fn vault_on_network(world: &World) -> Network {
    let network = Network::start(&world.path("ledger"), 4, "--signing committee");
    let init = world.init(3).arg("--enrol-key").arg(world.path("ledger/enrol.key"));
    init.arg("--ledger").arg(network.node(0).url()).run().expect(exit::DONE);
    let source = world.path("source");
    tree::plain(&source, 1, 7);
    world.back_up(&source);
    let enrol = world.unlocked("node enrol --yes");
    network.nodes().iter().fold(enrol, |call, node| call.arg(node.url())).run().expect(exit::DONE);
    network
}
