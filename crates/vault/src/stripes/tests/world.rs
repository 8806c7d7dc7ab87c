//! What the tests share: sites in folders, and stripes with known chunks.

use std::fs;
use std::path::{Path, PathBuf};

use blockhouse_crypto::hash::keyed_stream;
use blockhouse_crypto::{AccountSecret, Secret};
use blockhouse_pipeline::chunk::SealedChunk;
use blockhouse_pipeline::compress::Codec;
use blockhouse_pipeline::pack::{PackBuilder, PackKeys, PackNonces, Table};
use blockhouse_pipeline::stripe::{Stripe, StripeSigner, build_stripe};
use blockhouse_sites::{Enrolled, Expected, Marker, Patience, Site, SiteSpec};
use blockhouse_types::{ChunkId, SessionId};
use bytes::Bytes;

use super::*;
use crate::index::{Slot, StripeEntry};

pub(super) const VAULT: VaultId = VaultId::new([1; 32]);
pub(super) const SESSION: SessionId = SessionId::new([2; 32]);

pub(super) fn account(byte: u8) -> AccountSecret {
    AccountSecret::try_new(&Secret::new([byte; 32])).unwrap()
}

pub(super) fn pack_keys(byte: u8) -> PackKeys {
    PackKeys::new(&Secret::new([byte; 32]))
}

pub(super) fn code() -> Code {
    Code::try_new(4, 2).unwrap()
}

/// Bytes that depend on the seed.
pub(super) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    keyed_stream(&Secret::new([9; 32]), &seed.to_le_bytes(), &mut bytes);
    bytes
}

/// A stripe with what its pack was made of.
pub(super) struct Sealed {
    pub(super) pack: Vec<u8>,
    pub(super) table: Table,
    pub(super) stripe: Stripe,
}

impl Sealed {
    pub(super) fn slots(&self) -> impl Iterator<Item = (Slot, &[u8])> {
        self.table.entries().iter().map(|entry| {
            let (offset, sealed_len, plain_len) = (entry.offset, entry.sealed_len, entry.plain_len);
            (Slot { codec: entry.codec.tag(), offset, sealed_len, plain_len }, &self.pack[entry.range()])
        })
    }
}

/// A pack of about that length: chunks of 1 byte to 90 KiB.
pub(super) fn sealed_stripe(seed: u8, length: usize) -> Sealed {
    let mut builder = PackBuilder::with_limit(length);
    for number in 0.. {
        let plain_len = u32::from_le_bytes(bytes(number, 4).try_into().unwrap()) % 90_000 + 1;
        let sealed = bytes(u64::from(seed) << 32 | number, plain_len as usize + 28);
        let mut id = [seed; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let chunk = SealedChunk { id: ChunkId::new(id), codec: Codec::Stored, bytes: sealed, plain_len };
        if builder.push(&chunk).is_err() {
            break;
        }
    }
    let nonces = PackNonces { table: [seed; 12], trailer: [seed + 1; 12] };
    let (pack, table) = builder.finish(&pack_keys(1), nonces).unwrap().into_parts();
    let stripe = stripe_of(&account(3), VAULT, pack.clone());
    Sealed { pack, table, stripe }
}

pub(super) fn stripe_of(account: &AccountSecret, vault: VaultId, pack: Vec<u8>) -> Stripe {
    build_stripe(&Coder::new(code()), StripeSigner { vault, session: SESSION, account }, pack).unwrap()
}

/// All bytes of a pack.
pub(super) async fn whole(store: &StripeStore, entry: &StripeEntry) -> Result<Bytes, ReadStripeError> {
    store.read_bytes(entry, 0..usize::try_from(entry.pack_len).unwrap()).await
}

pub(super) async fn expect_slots(store: &StripeStore, sealed: &Sealed, entry: &StripeEntry) {
    for (slot, bytes) in sealed.slots() {
        assert_eq!(store.read_slot(entry, &slot).await.unwrap(), bytes);
    }
}

pub(super) fn marker(number: usize) -> Marker {
    let name = SiteName::parse(&format!("site-{number}")).unwrap();
    Marker { vault: VAULT, site: SiteId::new([u8::try_from(number).unwrap() + 10; 32]), name }
}

/// Folders that are sites.
pub(super) struct World {
    pub(super) scratch: tempfile::TempDir,
    pub(super) enrolled: Vec<Enrolled>,
}

impl World {
    pub(super) async fn new(sites: usize) -> Self {
        let mut world = Self { scratch: tempfile::tempdir().unwrap(), enrolled: Vec::new() };
        for number in 0..sites {
            let enrolled = world.enroll(&format!("site-{number}"), number).await;
            world.enrolled.push(enrolled);
        }
        world
    }

    pub(super) async fn enroll(&self, folder: &str, number: usize) -> Enrolled {
        let text = format!("file:{},name=site-{number}", self.scratch.path().join(folder).display());
        let spec = SiteSpec::parse(&text, Path::new("/")).unwrap();
        Site::create(&spec, &marker(number), Patience::default()).await.unwrap();
        Enrolled { spec, expected: Expected::from(&marker(number)) }
    }

    pub(super) fn site(&self, member: usize) -> PathBuf {
        self.scratch.path().join(format!("site-{member}"))
    }

    /// The sites as a new run opens them.
    pub(super) async fn store(&self) -> StripeStore {
        self.store_of(&self.enrolled).await
    }

    pub(super) async fn store_of(&self, enrolled: &[Enrolled]) -> StripeStore {
        self.store_on(Sites::open_all(enrolled, Patience::default()).await)
    }

    pub(super) fn store_on(&self, sites: Sites) -> StripeStore {
        let writers = [account(3).account()].into();
        let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(self.scratch.path()).unwrap());
        let devices = (0..6).map(|number| (marker(number).site, device)).collect();
        StripeStore::new(
            Arc::new(sites),
            StripeTerms { vault: VAULT, code: code(), writers, devices, draining: BTreeSet::new() },
        )
    }

    pub(super) fn hide(&self, members: &[usize]) {
        for member in members {
            fs::rename(self.site(*member), self.site(*member).with_extension("hidden")).unwrap();
        }
    }

    pub(super) fn show(&self, members: &[usize]) {
        for member in members {
            fs::rename(self.site(*member).with_extension("hidden"), self.site(*member)).unwrap();
        }
    }

    /// The file of a shard.
    pub(super) fn shard(&self, stripe: StripeId, holder: Holder) -> PathBuf {
        self.site(holder.member).join(ShardName { stripe, index: holder.index }.to_string())
    }
}

/// A small file system, unmounted at the end.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// None if this user may not mount.
    pub(super) fn tmpfs(path: &Path, options: &str) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mut mount = std::process::Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(path.to_owned()));
        }
        // Past the test harness, which swallows the words of tests that pass.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"\nNOT RUN: a test that needs to mount a tmpfs\n");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
