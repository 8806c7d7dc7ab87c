//! Wraps: one snapshot's manifest key, sealed to each recipient of an approved set.
//!
//! - **Owns** the object's bytes and that its recipients are exactly those of its set hash.
//! - **Does not** know which set the owner approved: that stands on the ledger.
//!
//! # Invariants
//! - **K1** The writer can wrap only to a set whose hash the owner approved: the object names its set, a reader
//!   recomputes it, and the ledger refuses a commit with any other.
//!
//! Wrapped keys are not authenticated by their sender: whoever holds a key checks it with the snapshot id
//! (`Manifest::open`).
//!
//! Format: `docs/design/keys.md`, section *Recipients and wraps*.

use blockhouse_crypto::Secret;
use blockhouse_crypto::recipient::{AgeIdentity, RecipientKind, RecipientSet, UnwrapError, set_hash, unwrap, wrap};
use blockhouse_types::limits::{RECIPIENTS_MAX, WRAPS_MAX};
use blockhouse_types::{DecodeError, Decoder, Encoder, RecipientId, RecipientSetHash, SnapshotId};

const MAGIC: [u8; 4] = *b"BHWR";
/// The greatest length of one wrapped key.
pub const WRAPPED_MAX: usize = 1024;

/// Why no manifest key came out of wraps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenWrapsError {
    #[error("the manifest key of snapshot {snapshot} is not wrapped for {recipient}")]
    NotForThis { snapshot: SnapshotId, recipient: RecipientId },
    #[error("could not unwrap the manifest key of snapshot {snapshot} for {recipient}")]
    Unwrap {
        snapshot: SnapshotId,
        recipient: RecipientId,
        #[source]
        source: UnwrapError,
    },
}

/// The manifest key, wrapped for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// What sort of key the recipient has.
    pub kind: RecipientKind,
    /// The recipient.
    pub recipient: RecipientId,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
}

/// The manifest key of one snapshot, wrapped for a set of recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wraps {
    snapshot: SnapshotId,
    version: u32,
    set: RecipientSetHash,
    members: Vec<Wrap>,
}

impl Wraps {
    /// Wraps a manifest key for every recipient of a set.
    pub fn wrap(snapshot: SnapshotId, version: u32, set: &RecipientSet, manifest_key: &Secret) -> Self {
        let one = |member: &_| wrap(member, manifest_key);
        let wraps = set.members().iter();
        let wraps = wraps.map(|member| Wrap { kind: member.kind(), recipient: member.id(), wrapped: one(member) });
        Self { snapshot, version, set: set.hash(), members: wraps.collect() }
    }

    /// The snapshot.
    pub const fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// Which version of the snapshot's wraps: 0 is the one of its commit.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The set of recipients.
    pub const fn set(&self) -> RecipientSetHash {
        self.set
    }

    /// The wraps, by ascending recipient ids.
    pub fn wraps(&self) -> &[Wrap] {
        &self.members
    }

    /// The manifest key, for one of the recipients.
    pub fn open(&self, identity: &AgeIdentity) -> Result<Secret, OpenWrapsError> {
        let (snapshot, recipient) = (self.snapshot, identity.id());
        let mine = self.members.iter().find(|wrap| wrap.recipient == recipient);
        let mine = mine.ok_or(OpenWrapsError::NotForThis { snapshot, recipient })?;
        unwrap(identity, &mine.wrapped).map_err(|source| OpenWrapsError::Unwrap { snapshot, recipient, source })
    }

    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::with_header(MAGIC);
        encoder.raw(self.snapshot.as_bytes()).u32(self.version).raw(self.set.as_bytes());
        encoder.list(self.members.iter(), |encoder, wrap| {
            encoder.u8(wrap.kind.tag()).raw(wrap.recipient.as_bytes()).bytes(&wrap.wrapped);
        });
        encoder.finish()
    }

    /// Reads an object, all of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::with_header("an object of wraps", MAGIC, bytes)?;
        decoder.limit("length", bytes.len() as u64, WRAPS_MAX as u64)?;
        let snapshot = SnapshotId::new(decoder.array()?);
        let version = decoder.u32()?;
        let set = RecipientSetHash::new(decoder.array()?);
        let members = decoder.list("wraps", RECIPIENTS_MAX, |decoder| {
            let kind = decoder.u8()?;
            let kind =
                RecipientKind::from_tag(kind).ok_or_else(|| decoder.unknown("kind of recipient", kind.into()))?;
            let recipient = RecipientId::new(decoder.array()?);
            Ok(Wrap { kind, recipient, wrapped: decoder.bytes("wrapped key", WRAPPED_MAX)?.to_vec() })
        })?;
        let ids: Vec<_> = members.iter().map(|wrap| wrap.recipient).collect();
        if ids.is_empty() || !ids.is_sorted_by(|a, b| a < b) {
            return Err(decoder.not_canonical("its recipients are none, or not in ascending order"));
        }
        if set_hash(&ids) != set {
            return Err(decoder.not_canonical("its recipients are not those of its set"));
        }
        decoder.finish()?;
        Ok(Self { snapshot, version, set, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockhouse_crypto::Role;

    const SNAPSHOT: SnapshotId = SnapshotId::new([1; 32]);

    fn identity(seed: u8) -> AgeIdentity {
        AgeIdentity::from_secret(&Secret::new([seed; 32]))
    }

    fn set(seeds: &[u8]) -> RecipientSet {
        let members = seeds.iter().map(|seed| identity(*seed).recipient(Role::Reader, "").unwrap());
        RecipientSet::try_new(members.collect()).unwrap()
    }

    #[test]
    fn every_recipient_opens_and_no_other() {
        let key = Secret::new([7; 32]);
        let wraps = Wraps::wrap(SNAPSHOT, 0, &set(&[1, 2, 3]), &key);
        let back = Wraps::from_bytes(&wraps.to_bytes()).unwrap();
        assert_eq!(back, wraps);
        assert_eq!(back.set(), set(&[3, 2, 1]).hash());
        for seed in [1, 2, 3] {
            assert_eq!(back.open(&identity(seed)), Ok(key.clone()));
        }
        let recipient = identity(4).id();
        assert_eq!(back.open(&identity(4)), Err(OpenWrapsError::NotForThis { snapshot: SNAPSHOT, recipient }));
    }

    /// What the wraps do not protect themselves, the snapshot id does: it commits to the key.
    #[test]
    fn every_altered_byte_is_refused_or_gives_other_wraps() {
        let wraps = Wraps::wrap(SNAPSHOT, 0, &set(&[1]), &Secret::new([7; 32]));
        let bytes = wraps.to_bytes();
        for at in (0..bytes.len()).filter(|at| *at != 6) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            match Wraps::from_bytes(&flipped) {
                Err(_) => {}
                Ok(other) if at < 44 => assert!(other.snapshot() != SNAPSHOT || other.version() != 0, "byte {at}"),
                Ok(other) => assert!(other.open(&identity(1)).is_err(), "byte {at}"),
            }
            assert!(Wraps::from_bytes(&bytes[..at]).is_err(), "length {at}");
        }
        assert!(Wraps::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn recipients_must_be_those_of_the_set_in_their_order() {
        let wraps = Wraps::wrap(SNAPSHOT, 0, &set(&[1, 2]), &Secret::new([7; 32]));
        let refused = |change: fn(&mut Wraps)| {
            let mut wraps = wraps.clone();
            change(&mut wraps);
            Wraps::from_bytes(&wraps.to_bytes()).is_err()
        };
        assert!(refused(|wraps| wraps.members.swap(0, 1)));
        assert!(refused(|wraps| drop(wraps.members.pop())));
        assert!(refused(|wraps| wraps.members.clear()));
        assert!(refused(|wraps| wraps.members[1] = wraps.members[0].clone()));
        assert!(refused(|wraps| wraps.set = RecipientSetHash::new([0; 32])));
        assert!(refused(|wraps| wraps.members[0].wrapped = vec![0; WRAPPED_MAX + 1]));
    }
}
