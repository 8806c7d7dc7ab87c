//! The golden files of manifests and keys, version 1: what is checked in must open for ever, and what is made from the
//! same constants today must be the same bytes.
//!
//! `tests/fixtures/v1/metadata/`, with every id and secret in `metadata.json`. `BLOCKHOUSE_WRITE_FIXTURES=1` writes them
//! anew; after the release of version 1 that must never change a byte. Wraps and key bag are compared by opening them
//! alone: `age` draws fresh keys for each file.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use blockhouse_crypto::hash::content;
use blockhouse_crypto::{
    AccountSecret, AgeIdentity, Commitment, FileProof, Identity, PaperKey, PlainRoot, RecipientSet, Role, Secret,
};
use blockhouse_pipeline::chunk::ChunkRef;
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::content::{Closing, Content, ContentBuilder, Extent};
use blockhouse_pipeline::domain::{DomainKind, VaultSecret};
use blockhouse_pipeline::host_secrets::HostSecrets;
use blockhouse_pipeline::key_bag::{BagSite, KeyBag, SealedBag};
use blockhouse_pipeline::manifest::{Facts, Manifest, SealedManifest};
use blockhouse_pipeline::readers_map::{MappedChunk, MappedStripe, ReadersMap};
use blockhouse_pipeline::snapshot::SnapshotObject;
use blockhouse_pipeline::stripe_list::{StripeList, read_list};
use blockhouse_pipeline::tree::{Body, Device, EntriesCommitment, Entry, EntryLeaves, ListingReader, ListingWriter};
use blockhouse_pipeline::wraps::Wraps;
use blockhouse_types::{
    Account, Attribute, BlockHash, ChunkId, Code, EntriesRoot, EntryKind, Link, ListHash, Metadata, SessionId, SiteId,
    SnapshotId, SourceId, StripeId, Timestamp, VaultId,
};
use serde_json::{Value, json};

const VAULT: VaultId = VaultId::new([0xa1; 32]);
const SESSION: SessionId = SessionId::new([0xb2; 32]);
const SOURCE: SourceId = SourceId::new([0xc3; 32]);
const FIRST_ACCOUNT: Account = Account::new([0xd4; 20]);
const MANIFEST_KEY: Secret = Secret::new([0x31; 32]);
const LIST_SIZES: [u32; 3] = [3, 300, 5000];
const PROVEN: &[u8] = b"%2Fdata/b\xff.txt";

type Files = BTreeMap<String, Vec<u8>>;

fn vault_secret() -> VaultSecret {
    VaultSecret::new(Secret::new([0xe5; 32]))
}

fn account(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

fn identity() -> Identity {
    Identity::from_keys(VAULT, AgeIdentity::from_secret(&Secret::new([0x42; 32])), account(0x43))
}

fn paper() -> PaperKey {
    PaperKey::from_entropy(Secret::new([0x44; 32]))
}

fn reader() -> AgeIdentity {
    AgeIdentity::from_secret(&Secret::new([0x45; 32]))
}

fn recipients() -> RecipientSet {
    let owner = identity().age().recipient(Role::Owner, "owner").unwrap();
    let paper = paper().age_identity().recipient(Role::Paper, "paper in the safe").unwrap();
    RecipientSet::try_new(vec![owner, paper, reader().recipient(Role::Reader, "auditor").unwrap()]).unwrap()
}

fn chunk(seed: u8, plain_len: u32) -> ChunkRef {
    ChunkRef { id: ChunkId::new([seed; 32]), key: Secret::new([seed ^ 0xff; 32]), plain_len }
}

/// Content of these extents; a list that is too long becomes one chunk per 2,000 bytes, given back too.
fn build(extents: Vec<Extent>) -> (Content, Vec<Vec<u8>>) {
    let (mut builder, mut lists) = (ContentBuilder::new(), Vec::new());
    for extent in extents {
        builder.push(extent).unwrap();
    }
    loop {
        match builder.close().unwrap() {
            Closing::Done(content) => return (content, lists),
            Closing::Cut(spill) => {
                for bytes in spill.bytes.chunks(2000) {
                    let id = ChunkId::new(content(bytes));
                    let plain_len = u32::try_from(bytes.len()).unwrap();
                    let chunk = ChunkRef { id, key: Secret::new([0x55; 32]), plain_len };
                    builder.push_list(spill.depth + 1, Extent::Chunk(chunk)).unwrap();
                    lists.push(bytes.to_vec());
                }
            }
        }
    }
}

fn entry(name: &[u8], body: Body) -> Entry {
    let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    let metadata = Metadata { mode: 0o644, uid: 1000, gid: 100, user: b"ann".to_vec(), mtime, ..Metadata::default() };
    Entry { name: name.to_vec(), metadata, body }
}

/// One entry of every kind, with everything an entry can have; and the chunks of its one long list of extents.
fn entries() -> (Vec<Entry>, Vec<Vec<u8>>) {
    let part = |offset, length| Extent::Part { chunk: chunk(2, 70_000), offset, length };
    let short = build(vec![Extent::Chunk(chunk(1, 100)), Extent::Hole { length: 1 << 40 }, part(5, 69_000)]).0;
    let (long, lists) = build((0..200).map(|at| part(at, at + 1)).collect());
    assert_eq!(long.depth(), 1);
    let mut linked = entry(b"b\xff.txt", Body::File { content: short, hash: [0x66; 32] });
    linked.metadata.link = Some(Link { device: 2049, inode: 77 });
    linked.metadata.mode = 0o4755;
    let attribute = |name: &[u8], value: &[u8]| Attribute { name: name.to_vec(), value: value.to_vec() };
    linked.metadata.attributes = vec![attribute(b"security.capability", &[0, 1]), attribute(b"user.note", b"")];
    let mut old = entry(b"h", Body::Socket);
    old.metadata.mtime = Timestamp { seconds: -1, nanoseconds: 0 };
    let device = Device { major: 8, minor: 300 };
    let entries = vec![
        entry(b"a", Body::Directory(Content::empty())),
        linked,
        entry(b"c", Body::File { content: long, hash: [0x77; 32] }),
        entry(b"d", Body::Symlink { target: b"../elsewhere".to_vec() }),
        entry(b"e", Body::Fifo),
        entry(b"f", Body::CharDevice(device)),
        entry(b"g", Body::BlockDevice(device)),
        old,
        entry(b"i", Body::Unreadable { was: EntryKind::File, reason: "permission denied".into() }),
    ];
    (entries, lists)
}

fn listing(entries: &[Entry]) -> Vec<u8> {
    let mut writer = ListingWriter::new();
    entries.iter().flat_map(|entry| writer.push(entry).unwrap()).collect()
}

/// The tree: one root `/data` with the entries above.
fn commitment() -> EntriesCommitment {
    let mut leaves = EntryLeaves::watching(&MANIFEST_KEY, PROVEN.to_vec());
    leaves.push(b"%2Fdata", &entry(b"%2Fdata", Body::Directory(Content::empty())).facts());
    for entry in entries().0 {
        leaves.push(&[&b"%2Fdata/"[..], &entry.name].concat(), &entry.facts());
    }
    leaves.finish()
}

fn manifest() -> Manifest {
    let mut facts = Facts::new();
    facts.set_host("backup-1");
    facts.set_roots(&[b"/data".to_vec()]);
    facts.set_started(1_700_000_100);
    facts.set_finished(1_700_000_160);
    facts.set_tool("blockhouse 0.1.0");
    facts.set_tags(&["env=prod".to_owned()]);
    facts.set_excludes(&["*.tmp".to_owned()]);
    facts.set_files(2);
    facts.set_bytes((1 << 40) + 89_200);
    facts.set_unreadable(1);
    let domain = vault_secret().write_secrets(FIRST_ACCOUNT).domain(DomainKind::Writer, SOURCE);
    let root_listing = listing(&[entry(b"%2Fdata", Body::Directory(build(vec![Extent::Chunk(chunk(3, 900))]).0))]);
    let root_chunk = ChunkRef::under_random_key(Secret::new([0x17; 32]), &root_listing).unwrap();
    let entries = commitment();
    Manifest {
        source: SOURCE,
        domain: domain.kind(),
        id_subkey: domain.id_subkey().clone(),
        snapshot_salt: [0x32; 32],
        parent: Some(SnapshotId::new([0x33; 32])),
        root: build(vec![Extent::Chunk(root_chunk)]).0,
        entries: entries.entries,
        entries_root: entries.root,
        facts,
    }
}

fn sealed() -> SealedManifest {
    manifest().seal(VAULT, &MANIFEST_KEY, [0x34; 12]).unwrap()
}

fn stripe_ids(count: u32) -> Vec<StripeId> {
    let mut ids: Vec<_> = (0..count).map(|i| StripeId::new(content(&i.to_le_bytes()))).collect();
    ids.sort_unstable();
    ids
}

fn snapshot_object() -> SnapshotObject {
    let SealedManifest { id, bytes } = sealed();
    let list_root = StripeList::build(&stripe_ids(LIST_SIZES[1])).unwrap().root();
    let writer = account(0xf6).account();
    SnapshotObject {
        vault: VAULT,
        snapshot: id,
        source: SOURCE,
        session: SESSION,
        writer,
        list_root,
        sealed_manifest: bytes,
    }
}

fn map() -> ReadersMap {
    let chunk = |seed, offset, codec| MappedChunk { id: ChunkId::new([seed; 32]), codec, offset, sealed_len: 300 };
    let chunks = vec![chunk(1, 0, Codec::Stored), chunk(2, 300, Codec::Zstd), chunk(3, 9000, Codec::Zstd)];
    ReadersMap { stripes: vec![MappedStripe { stripe: stripe_ids(1)[0], chunks }] }
}

fn bag() -> KeyBag {
    let site = |seed: u8| BagSite {
        id: SiteId::new([seed; 32]),
        name: format!("site-{seed}"),
        url: format!("file:///srv/site-{seed}"),
        region: if seed == 1 { "eu-north".into() } else { String::new() },
        provider: String::new(),
    };
    KeyBag {
        vault_secret: vault_secret(),
        owner: account(0x43),
        recipients: recipients(),
        sites: (1..=6).map(site).collect(),
        code: Code::try_new(4, 2).unwrap(),
        chain_id: (1 << 32) + 7,
        genesis: BlockHash::new([0x35; 32]),
        vault_contract: Account::new([0x36; 20]),
        access_contract: Account::new([0x37; 20]),
    }
}

fn host_secrets() -> HostSecrets {
    let write = vault_secret().write_secrets(FIRST_ACCOUNT);
    HostSecrets { vault: VAULT, write, writer: account(0xf6), ledger_seed: Secret::new([0x38; 32]) }
}

fn file_proof() -> FileProof {
    manifest().prove(VAULT, &MANIFEST_KEY, commitment().watched.unwrap()).unwrap()
}

fn hex0(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// The part `file` of a receipt, with the snapshot that it proves.
fn proof_json(proof: &FileProof) -> Value {
    let Commitment { vault, source, snapshot_salt, plain, manifest_key_hash } = proof.commitment;
    let PlainRoot { tree_root, entries, entries_root, fact_count, facts_root } = plain;
    json!({
        "snapshot": hex0(proof.snapshot_id().unwrap().as_bytes()),
        "file": {
            "path": hex0(&proof.path), "facts": hex0(&proof.facts), "salt": hex0(proof.salt), "leaf": proof.leaf,
            "siblings": proof.siblings.iter().map(hex0).collect::<Vec<_>>(),
            "entries": entries, "entries_root": hex0(entries_root.as_bytes()), "tree_root": hex0(tree_root),
            "fact_count": fact_count, "facts_root": hex0(facts_root), "source": hex0(source.as_bytes()),
            "snapshot_salt": hex0(snapshot_salt), "manifest_key_hash": hex0(manifest_key_hash),
            "vault_id": hex0(vault.as_bytes()),
        }
    })
}

/// Every file whose bytes follow from the constants.
fn deterministic() -> Files {
    let mut files = Files::new();
    let snapshot = sealed().id;
    files.insert("manifest.bin".into(), manifest().to_bytes());
    files.insert("manifest.sealed".into(), sealed().bytes);
    files.insert("snapshot.bin".into(), snapshot_object().to_bytes());
    files.insert("listing.bin".into(), listing(&entries().0));
    entries().1.into_iter().enumerate().for_each(|(at, list)| drop(files.insert(format!("extents-{at}.bin"), list)));
    for size in LIST_SIZES {
        let list = StripeList::build(&stripe_ids(size)).unwrap();
        // Of the longest list the root and the first node are enough: the rest would be 170 KB of hashes.
        let nodes = list.nodes().iter();
        let kept = nodes.filter(|node| size < 5000 || node.hash == list.root() || node.hash == list.nodes()[0].hash);
        kept.for_each(|node| drop(files.insert(format!("lists/{}", node.hash), node.bytes.clone())));
    }
    files.insert("map.bin".into(), map().seal(snapshot, 1, &MANIFEST_KEY, [0x39; 12]).unwrap());
    files.insert("host-secrets.bin".into(), host_secrets().to_bytes().to_vec());
    files.insert("identity.txt".into(), identity().to_file(None).unwrap().to_vec());
    files.insert("paper-key.txt".into(), format!("{}\n", *paper().words()).into_bytes());
    files.insert("file-proof.json".into(), pretty(&proof_json(&file_proof())));
    files.insert("metadata.json".into(), pretty(&summary()));
    files
}

fn summary() -> Value {
    let list_root = |size| hex0(StripeList::build(&stripe_ids(size)).unwrap().root().as_bytes());
    json!({
        "vault_id": hex0(VAULT.as_bytes()),
        "manifest_key": hex0(MANIFEST_KEY.expose()),
        "snapshot": hex0(sealed().id.as_bytes()),
        "object_hash": hex0(SnapshotObject::hash(&snapshot_object().to_bytes()).as_bytes()),
        "entries_root": hex0(commitment().root.as_bytes()),
        "list_sizes": LIST_SIZES,
        "list_roots": LIST_SIZES.map(list_root),
        "recipient_ids": recipients().ids().iter().map(|id| hex0(id.as_bytes())).collect::<Vec<_>>(),
        "set_hash": hex0(recipients().hash().as_bytes()),
        "identity_recipient": identity().age().recipient(Role::Owner, "").unwrap().public(),
        "reader_secret": *reader().to_text(),
        "paper_recipient": paper().age_identity().recipient(Role::Paper, "").unwrap().public(),
        "paper_account": hex0(paper().recovery_account().account().as_bytes()),
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    (serde_json::to_string_pretty(value).unwrap() + "\n").into_bytes()
}

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where")).join("tests/fixtures/v1/metadata")
}

/// Writes the golden files if that is asked for: once, however many tests need them.
static WRITTEN: LazyLock<()> = LazyLock::new(|| {
    if std::env::var_os("BLOCKHOUSE_WRITE_FIXTURES").is_none() {
        return;
    }
    let mut files = deterministic();
    files.insert("wraps.bin".into(), Wraps::wrap(sealed().id, 0, &recipients(), &MANIFEST_KEY).to_bytes());
    files.insert("bag.bin".into(), bag().seal(VAULT, 3).unwrap().to_bytes());
    files.insert("identity.age".into(), identity().to_file(Some("correct horse")).unwrap().to_vec());
    let _ = fs::remove_dir_all(folder());
    fs::create_dir_all(folder().join("lists")).unwrap();
    for (name, bytes) in &files {
        fs::write(folder().join(name), bytes).unwrap();
    }
});

fn golden(name: &str) -> Vec<u8> {
    LazyLock::force(&WRITTEN);
    fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_same_constants_give_the_same_bytes() {
    for (name, bytes) in deterministic() {
        assert_eq!(golden(&name), bytes, "{name}");
    }
}

#[test]
fn the_golden_manifest_opens_through_its_wraps() {
    let object = SnapshotObject::from_bytes(&golden("snapshot.bin")).unwrap();
    let wraps = Wraps::from_bytes(&golden("wraps.bin")).unwrap();
    assert_eq!((wraps.snapshot(), wraps.version(), wraps.set()), (object.snapshot, 0, recipients().hash()));
    let text = String::from_utf8(golden("paper-key.txt")).unwrap();
    let paper = PaperKey::parse(&text).unwrap().age_identity();
    let owner = Identity::open(&golden("identity.txt"), None).unwrap();
    for identity in [owner.age(), &paper, &reader()] {
        let key = wraps.open(identity).unwrap();
        let opened = Manifest::open(VAULT, object.snapshot, &key, &object.sealed_manifest).unwrap();
        assert_eq!(opened, manifest());
        let map = ReadersMap::open(object.snapshot, 1, &key, &golden("map.bin")).unwrap();
        assert_eq!(map.stripes, self::map().stripes);
    }
}

#[test]
fn the_golden_bag_opens_for_owner_and_paper() {
    let sealed = SealedBag::from_bytes(&golden("bag.bin")).unwrap();
    assert_eq!((sealed.vault(), sealed.version()), (VAULT, 3));
    for identity in [identity().age().clone(), paper().age_identity()] {
        let opened = sealed.open(&identity).unwrap();
        assert_eq!(opened.vault_secret, vault_secret());
        assert_eq!(opened.owner.account(), account(0x43).account());
        assert_eq!((opened.recipients, opened.sites), (recipients(), bag().sites));
        assert_eq!((opened.code, opened.chain_id, opened.genesis), (bag().code, bag().chain_id, bag().genesis));
        assert_eq!(opened.vault_contract, bag().vault_contract);
        assert_eq!(opened.access_contract, bag().access_contract);
    }
}

#[test]
fn the_golden_identity_opens_with_its_passphrase() {
    let opened = Identity::open(&golden("identity.age"), Some("correct horse")).unwrap();
    assert_eq!(opened.to_file(None).unwrap().to_vec(), golden("identity.txt"));
}

#[test]
fn the_golden_listing_and_its_long_list_of_extents_read_back() {
    let mut reader = ListingReader::new();
    reader.push(&golden("listing.bin"));
    let found: Vec<_> = std::iter::from_fn(|| reader.next_entry().unwrap()).collect();
    reader.finish().unwrap();
    assert_eq!(found, entries().0);
    let Body::File { content: long, .. } = &found[2].body else { panic!("the third entry is a file") };
    let lists: BTreeMap<_, _> = (0..entries().1.len())
        .map(|at| golden(&format!("extents-{at}.bin")))
        .map(|list| (ChunkId::new(content(&list)), list))
        .collect();
    let extents = long.extents(|chunk: &ChunkRef| Ok::<_, Infallible>(lists[&chunk.id].clone()));
    assert_eq!(extents.map(|extent| extent.unwrap().length()).sum::<u64>(), long.length());
}

#[test]
fn the_golden_lists_read_back() {
    let fetch = |hash: ListHash| fs::read(folder().join(format!("lists/{hash}")));
    LazyLock::force(&WRITTEN);
    for size in &LIST_SIZES[..2] {
        let root = StripeList::build(&stripe_ids(*size)).unwrap().root();
        assert_eq!(read_list(root, fetch).unwrap(), stripe_ids(*size));
    }
}

#[test]
fn the_golden_file_proof_leads_to_the_snapshot() {
    let read: Value = serde_json::from_slice(&golden("file-proof.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap();
    let file = |name: &str| bytes(&read["file"][name]);
    let hash = |name: &str| <[u8; 32]>::try_from(file(name)).unwrap();
    let number = |name: &str| read["file"][name].as_u64().unwrap();
    let plain = PlainRoot {
        tree_root: hash("tree_root"),
        entries: number("entries"),
        entries_root: EntriesRoot::new(hash("entries_root")),
        fact_count: number("fact_count"),
        facts_root: hash("facts_root"),
    };
    let commitment = Commitment {
        vault: VaultId::new(hash("vault_id")),
        source: SourceId::new(hash("source")),
        snapshot_salt: hash("snapshot_salt"),
        plain,
        manifest_key_hash: hash("manifest_key_hash"),
    };
    let siblings = read["file"]["siblings"].as_array().unwrap().iter();
    let siblings = siblings.map(|sibling| bytes(sibling).try_into().unwrap()).collect();
    let (path, facts, salt, leaf) = (file("path"), file("facts"), hash("salt"), number("leaf"));
    let proof = FileProof { path, facts, salt, leaf, siblings, commitment };
    assert_eq!(proof.snapshot_id().unwrap().as_bytes().to_vec(), bytes(&read["snapshot"]));
    for at in 0..proof.siblings.len() {
        let mut other = proof.clone();
        other.siblings[at][0] ^= 1;
        assert!(other.snapshot_id().is_err());
    }
    let changes: [fn(&mut FileProof); 4] =
        [|p| p.path[0] ^= 1, |p| p.facts[1] ^= 1, |p| p.salt[0] ^= 1, |p| p.leaf ^= 1];
    for change in changes {
        let mut other = proof.clone();
        change(&mut other);
        assert!(other.snapshot_id().is_err());
    }
}
