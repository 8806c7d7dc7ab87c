//! Stripes: a pack becomes n shards, and any k of them the pack again.
//!
//! - **Owns** the way from a pack to complete shard files and back, and the repair of lost shards.
//! - **Does not** open packs or know where shards lie: it needs no key.
//!
//! # Invariants
//! - **T2** Any k good shards of one stripe id give back the pack, bit for bit. What was computed is checked against
//!   the roots in the stripe id: a stripe that its writer coded wrong is refused, never read in two ways.
//! - **T5** All n shards of a stripe carry the same stripe id.
//!
//! Format: `docs/design/stripes.md`.

use std::fmt;

use blockhouse_crypto::AccountSecret;
use blockhouse_types::{Code, SessionId, ShardIndex, ShardRoot, StripeId, VaultId};
use bytes::Bytes;

use crate::code::{Coder, CodingError, Run};
use crate::shard::{
    ShapeError, ShardHeader, ShardName, StripeShape, StripeWriter, VerifiedRange, VerifiedShard, leaves_and_root,
    stripe_id,
};

/// In whose name stripes are made.
#[derive(Debug, Clone, Copy)]
pub struct StripeSigner<'a> {
    /// The vault.
    pub vault: VaultId,
    /// The writer's session.
    pub session: SessionId,
    /// The writer's account.
    pub account: &'a AccountSecret,
}

/// A complete shard file in two parts, so that the payload is never copied.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardFile {
    /// Which shard; as text, its path at a site.
    pub name: ShardName,
    /// Header and leaf hashes.
    pub prefix: Bytes,
    /// The payload, right after the prefix.
    pub payload: Bytes,
}

impl ShardFile {
    /// The length of the file.
    pub const fn len(&self) -> usize {
        self.prefix.len() + self.payload.len()
    }

    /// Never true: a file has at least a header.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.prefix[..], &self.payload].concat()
    }
}

impl fmt::Debug for ShardFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardFile({}, {} bytes)", self.name, self.len())
    }
}

/// A stripe whose shards are ready to be written.
#[derive(Debug, Clone)]
pub struct Stripe {
    /// Its id.
    pub id: StripeId,
    /// Code and lengths.
    pub shape: StripeShape,
    /// All n shards, by index.
    pub shards: Vec<ShardFile>,
}

impl Stripe {
    /// What keeps the memory of a stripe that was built, until it can be used again.
    pub fn room(&self) -> StripeRoom {
        StripeRoom(self.shards.first().map(|file| file.payload.clone()))
    }
}

/// The memory that the payloads of a built stripe are in.
#[derive(Debug)]
pub struct StripeRoom(Option<Bytes>);

impl StripeRoom {
    /// The memory, empty; new if somebody still holds a payload, as a write that hangs does.
    pub fn take(self) -> Vec<u8> {
        let Some(Ok(mut room)) = self.0.map(Bytes::try_into_mut) else { return Vec::new() };
        room.clear();
        room.into()
    }
}

/// Why shards do not give a stripe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    #[error("a stripe cannot be rebuilt from no shards")]
    NoShards,
    #[error("a shard of stripe {found} was offered for stripe {stripe}")]
    OtherStripe { stripe: StripeId, found: StripeId },
    #[error("stripe {stripe} has a {found} code, the coder is for {expected}")]
    OtherCode { stripe: StripeId, found: Code, expected: Code },
    #[error("stripe {stripe} has {found} of the {needed} shards it needs")]
    TooFewShards { stripe: StripeId, found: usize, needed: usize },
    #[error("stripe {stripe} has no shard {index}")]
    NoSuchShard { stripe: StripeId, index: ShardIndex },
    #[error("shard {index} of stripe {stripe} was asked for twice at once")]
    NamedTwice { stripe: StripeId, index: ShardIndex },
    #[error("the reads of stripe {stripe} are not of one range")]
    Ranges { stripe: StripeId },
    #[error("stripe {stripe} was coded wrong by its writer: shard {index} does not follow from the others")]
    Inconsistent { stripe: StripeId, index: ShardIndex },
    #[error("the runs of stripe {stripe} could not be coded")]
    Coding {
        stripe: StripeId,
        #[source]
        source: CodingError,
    },
}

/// Codes a pack and makes its complete shard files. Their payloads lie in the pack's own memory, which becomes n runs long: the data,
/// the parity behind it. [`Stripe::room`] gives it back.
pub fn build_stripe(coder: &Coder, signer: StripeSigner<'_>, mut pack: Vec<u8>) -> Result<Stripe, ShapeError> {
    let code = coder.code();
    let shape = StripeShape::try_new(code, pack.len() as u64)?;
    let run_len = shape.payload_len();
    let coded_len = run_len * code.shards();
    // Exactly: to let it grow by itself would double it. The memory of an earlier stripe has that room already.
    pack.reserve_exact(coded_len - pack.len());
    pack.resize(coded_len, 0);
    let (data, parity) = pack.split_at_mut(run_len * code.data());
    coder.parity_into(data, parity).expect("k runs of data and m of parity have one length");
    let whole = Bytes::from(pack);
    let payloads: Vec<Bytes> = runs(&whole, run_len).collect();
    let (leaves, roots): (Vec<_>, Vec<_>) = payloads.iter().map(|payload| leaves_and_root(payload)).unzip();
    let id = stripe_id(&signer.vault, shape, &roots);
    let writer = StripeWriter::sign(signer.account, &signer.vault, signer.session, id).claim();
    let mut header = ShardHeader { vault: signer.vault, stripe: id, writer, shape, index: ShardIndex(0), roots };
    let files = code.indices().zip(payloads).zip(&leaves).map(|((index, payload), leaves)| {
        header.index = index;
        ShardFile { name: header.name(), prefix: header.encode_prefix(leaves).into(), payload }
    });
    let shards = files.collect();
    Ok(Stripe { id, shape, shards })
}

fn runs(bytes: &Bytes, run_len: usize) -> impl Iterator<Item = Bytes> + '_ {
    (0..bytes.len()).step_by(run_len).map(move |start| bytes.slice(start..start + run_len))
}

/// The pack, from any k shards. Shards beyond k are not looked at when the data shards are all there.
pub fn rebuild_pack(coder: &Coder, shards: &[VerifiedShard]) -> Result<Vec<u8>, RebuildError> {
    let known = Known::gather(coder, shards)?;
    let shape = known.header.shape;
    let (code, run_len) = (shape.code(), shape.payload_len());
    let mut pack = vec![0; run_len * code.data()];
    let mut offered = Vec::with_capacity(code.shards());
    for (part, shard) in pack.chunks_mut(run_len).zip(&known.by_index) {
        offered.push(match shard {
            Some(shard) => {
                part.copy_from_slice(shard.payload());
                Run::Given(shard.payload())
            }
            None => Run::Wanted(part),
        });
    }
    offered.extend(known.by_index.iter().skip(code.data()).map(|shard| given(*shard)));
    coder.reconstruct(&mut offered).map_err(|source| RebuildError::Coding { stripe: known.header.stripe, source })?;
    for (index, part) in code.indices().zip(pack.chunks(run_len)) {
        if known.get(index).is_none() {
            known.check_root(index, &leaves_and_root(part).1)?;
        }
    }
    pack.truncate(shape.pack_len());
    Ok(pack)
}

/// Complete files of lost shards, from any k good ones, carrying the claim of `writer`.
///
/// `writer` comes from the header of a good shard and was verified: a copied signature cannot come here.
pub fn rebuild_shards(
    coder: &Coder,
    shards: &[VerifiedShard],
    wanted: &[ShardIndex],
    writer: &StripeWriter,
) -> Result<Vec<ShardFile>, RebuildError> {
    let known = Known::gather(coder, shards)?;
    let (stripe, shape) = (known.header.stripe, known.header.shape);
    if writer.stripe() != stripe {
        return Err(RebuildError::OtherStripe { stripe, found: writer.stripe() });
    }
    if let Some(index) = wanted.iter().copied().find(|index| usize::from(index.0) >= shape.code().shards()) {
        return Err(RebuildError::NoSuchShard { stripe, index });
    }
    let mut computed: Vec<Option<Vec<u8>>> = shape
        .code()
        .indices()
        .map(|index| (wanted.contains(&index) && known.get(index).is_none()).then(|| vec![0; shape.payload_len()]))
        .collect();
    let mut offered: Vec<Run<'_>> = computed
        .iter_mut()
        .zip(&known.by_index)
        .map(|(out, shard)| out.as_mut().map_or_else(|| given(*shard), |out| Run::Wanted(out)))
        .collect();
    coder.reconstruct(&mut offered).map_err(|source| RebuildError::Coding { stripe, source })?;
    let mut payload = |index: ShardIndex| match known.get(index) {
        Some(shard) => Some(shard.payload().clone()),
        None => computed.get_mut(usize::from(index.0))?.take().map(Bytes::from),
    };
    let payloads: Vec<_> = wanted.iter().filter_map(|index| Some((*index, payload(*index)?))).collect();
    payloads.into_iter().map(|(index, payload)| known.file(index, payload, writer)).collect()
}

/// The file of a good shard for a further site, carrying the claim of `writer`: nothing is coded.
pub fn copy_shard(shard: &VerifiedShard, writer: &StripeWriter) -> Result<ShardFile, RebuildError> {
    let (stripe, found) = (shard.header().stripe, writer.stripe());
    if found != stripe {
        return Err(RebuildError::OtherStripe { stripe, found });
    }
    let header = ShardHeader { writer: writer.claim(), ..shard.header().clone() };
    let (leaves, _) = leaves_and_root(shard.payload());
    Ok(ShardFile {
        name: header.name(),
        prefix: header.encode_prefix(&leaves).into(),
        payload: shard.payload().clone(),
    })
}

/// A range of lost payloads, in the order in which they are named, each once, from the same range of k others: whole leaves of verified
/// shards of one stripe, which are gone through once for all.
///
/// The result is not checked against the lost shards' leaves, which are lost too: what is read from it is checked
/// by the id of its chunk.
pub fn rebuild_ranges(
    coder: &Coder,
    header: &ShardHeader,
    others: &[VerifiedRange],
    wanted: &[ShardIndex],
) -> Result<Vec<Vec<u8>>, RebuildError> {
    let stripe = header.stripe;
    check_code(coder, header)?;
    let range = others.first().ok_or(RebuildError::NoShards)?.range();
    if others.iter().any(|other| other.range() != range) {
        return Err(RebuildError::Ranges { stripe });
    }
    let mut out: Vec<Vec<u8>> = wanted.iter().map(|_| vec![0; range.len()]).collect();
    let mut offered: Vec<Run<'_>> = header
        .shape
        .code()
        .indices()
        .map(|index| others.iter().find(|other| other.index() == index))
        .map(|other| other.map_or(Run::Absent, |other| Run::Given(other.bytes())))
        .collect();
    for (index, out) in wanted.iter().copied().zip(&mut out) {
        match offered.get_mut(usize::from(index.0)) {
            None => return Err(RebuildError::NoSuchShard { stripe, index }),
            Some(Run::Wanted(_)) => return Err(RebuildError::NamedTwice { stripe, index }),
            Some(place) => *place = Run::Wanted(out),
        }
    }
    coder.reconstruct(&mut offered).map_err(|source| RebuildError::Coding { stripe, source })?;
    Ok(out)
}

fn given(shard: Option<&VerifiedShard>) -> Run<'_> {
    shard.map_or(Run::Absent, |shard| Run::Given(shard.payload()))
}

fn check_code(coder: &Coder, header: &ShardHeader) -> Result<(), RebuildError> {
    let (stripe, found, expected) = (header.stripe, header.shape.code(), coder.code());
    if found == expected { Ok(()) } else { Err(RebuildError::OtherCode { stripe, found, expected }) }
}

/// At least k good shards of one stripe.
struct Known<'a> {
    header: &'a ShardHeader,
    by_index: Vec<Option<&'a VerifiedShard>>,
}

impl<'a> Known<'a> {
    fn gather(coder: &Coder, shards: &'a [VerifiedShard]) -> Result<Self, RebuildError> {
        let header = shards.first().ok_or(RebuildError::NoShards)?.header();
        let stripe = header.stripe;
        check_code(coder, header)?;
        let mut by_index = vec![None; header.shape.code().shards()];
        for shard in shards {
            if shard.header().stripe != stripe {
                return Err(RebuildError::OtherStripe { stripe, found: shard.header().stripe });
            }
            if let Some(place) = by_index.get_mut(usize::from(shard.index().0)) {
                *place = Some(shard);
            }
        }
        let (found, needed) = (by_index.iter().flatten().count(), header.shape.code().data());
        if found < needed {
            return Err(RebuildError::TooFewShards { stripe, found, needed });
        }
        Ok(Self { header, by_index })
    }

    fn get(&self, index: ShardIndex) -> Option<&'a VerifiedShard> {
        self.by_index.get(usize::from(index.0)).copied().flatten()
    }

    fn check_root(&self, index: ShardIndex, root: &ShardRoot) -> Result<(), RebuildError> {
        if self.header.root(index) == Some(root) {
            return Ok(());
        }
        Err(RebuildError::Inconsistent { stripe: self.header.stripe, index })
    }

    fn file(&self, index: ShardIndex, payload: Bytes, writer: &StripeWriter) -> Result<ShardFile, RebuildError> {
        let (leaves, root) = leaves_and_root(&payload);
        self.check_root(index, &root)?;
        let header = ShardHeader { index, writer: writer.claim(), ..self.header.clone() };
        Ok(ShardFile { name: header.name(), prefix: header.encode_prefix(&leaves).into(), payload })
    }
}

#[cfg(test)]
mod tests;
