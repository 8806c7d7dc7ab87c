//! One page: an inner one, with the checksums and places of those below it, or a leaf, with rows.
//!
//! Every offset comes from the page itself, so nothing is taken for granted: what does not fit is no page.

use std::cmp::Ordering;

use twox_hash::XxHash3_128;

const LEAF: u8 = 1;
const BRANCH: u8 = 2;
/// A table whose keys have one value each. There are no others here, nor among redb's own.
const NORMAL: u8 = 3;
/// The width of a number that is a key: it is compared as one.
const NUMBER: usize = 8;

/// What a page is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(u128);

impl Checksum {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    pub(super) const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

/// What a page names of another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    page: u64,
    pub(super) checksum: Checksum,
}

impl Child {
    /// As roots are written: the page, and its checksum behind it.
    pub(super) fn root(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self::of(number(bytes, at)?, number(bytes, at + 8)?))
    }

    const fn of(page: [u8; 8], checksum: [u8; 16]) -> Self {
        Self { page: u64::from_le_bytes(page), checksum: Checksum(u128::from_le_bytes(checksum)) }
    }

    /// Its region, its number there among pages of its size, and how often that is twice the least.
    pub(super) const fn address(&self) -> (u64, u64, u64) {
        let order = self.page >> 59;
        ((self.page >> 20) & 0xf_ffff, self.page & (0xf_ffff >> order), order)
    }
}

/// A tree of pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) root: Option<Child>,
    /// How long keys and values are, if all of them are.
    pub(super) key: Option<usize>,
    pub(super) value: Option<usize>,
}

impl Tree {
    /// As a tree of tables has it: `kind │ rows u64 │ is there u8, root │ … │ is fixed u8, key u32 │ is fixed u8, value u32 │ …`
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let width = |at: usize| match bytes.get(at)? {
            0 => Some(None),
            _ => Some(Some(usize::try_from(u32::from_le_bytes(number(bytes, at + 1)?)).ok()?)),
        };
        if *bytes.first()? != NORMAL {
            return None;
        }
        let root = if *bytes.get(9)? == 0 { None } else { Some(Child::root(bytes, 10)?) };
        Some(Self { root, key: width(42)?, value: width(47)? })
    }
}

/// The bytes of a page, and what must be known to read them.
#[derive(Debug)]
pub(super) struct Page {
    bytes: Vec<u8>,
    key: Option<usize>,
    value: Option<usize>,
    /// Of rows, or of keys between children.
    count: usize,
    /// Where what is written ends.
    end: usize,
}

impl Page {
    pub(super) fn of(bytes: Vec<u8>, tree: &Tree) -> Option<Self> {
        let count = usize::from(u16::from_le_bytes(number(&bytes, 2)?));
        let page = Self { bytes, key: tree.key, value: tree.value, count, end: 0 };
        let last = count.checked_sub(1)?;
        let end = match *page.bytes.first()? {
            LEAF => page.value_end(last)?,
            BRANCH => page.key_end(last)?,
            _ => return None,
        };
        (end <= page.bytes.len()).then_some(Self { end, ..page })
    }

    pub(super) fn checksum(&self) -> Checksum {
        Checksum::of(self.bytes.get(..self.end).unwrap_or_default())
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.bytes.first() == Some(&LEAF)
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) const fn length(&self) -> usize {
        self.bytes.len()
    }

    /// A child of an inner page: there is one more than keys.
    pub(super) fn child(&self, index: usize) -> Option<Child> {
        let checksum = number(&self.bytes, 8 + 16 * index)?;
        Some(Child::of(number(&self.bytes, 8 + 16 * (self.count + 1) + 8 * index)?, checksum))
    }

    /// How many children of an inner page hold nothing behind that key: the key after a child is not below those in it.
    pub(super) fn children_up_to(&self, after: &[u8]) -> usize {
        (0..self.count)
            .take_while(|index| self.key(*index).is_some_and(|key| self.order(key, after) != Ordering::Greater))
            .count()
    }

    /// Whether a leaf holds nothing behind that key.
    pub(super) fn is_up_to(&self, after: &[u8]) -> bool {
        self.last_key().is_some_and(|key| self.order(key, after) != Ordering::Greater)
    }

    /// A row of a leaf.
    pub(super) fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let start = match index.checked_sub(1) {
            Some(before) => self.value_end(before)?,
            None => self.key_end(self.count.checked_sub(1)?)?,
        };
        Some((self.key(index)?, self.bytes.get(start..self.value_end(index)?)?))
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.key(self.count.checked_sub(1)?)
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        let start = match index.checked_sub(1) {
            Some(before) => self.key_end(before)?,
            None => self.keys_start(),
        };
        self.bytes.get(start..self.key_end(index)?)
    }

    fn order(&self, one: &[u8], two: &[u8]) -> Ordering {
        match (self.key, number(one, 0), number(two, 0)) {
            (Some(NUMBER), Some(one), Some(two)) => u64::from_le_bytes(one).cmp(&u64::from_le_bytes(two)),
            _ => one.cmp(two),
        }
    }

    /// Where the ends of keys are written, if they are.
    fn key_ends(&self) -> usize {
        if self.is_leaf() { 4 } else { 8 + 24 * (self.count + 1) }
    }

    fn keys_start(&self) -> usize {
        let lists = usize::from(self.key.is_none()) + usize::from(self.is_leaf() && self.value.is_none());
        self.key_ends() + 4 * self.count * lists
    }

    fn key_end(&self, index: usize) -> Option<usize> {
        match self.key {
            Some(width) => self.keys_start().checked_add(width.checked_mul(index + 1)?),
            None => self.offset(self.key_ends() + 4 * index),
        }
    }

    fn value_end(&self, index: usize) -> Option<usize> {
        match self.value {
            Some(width) => self.key_end(self.count.checked_sub(1)?)?.checked_add(width.checked_mul(index + 1)?),
            None => self.offset(self.keys_start() - 4 * self.count + 4 * index),
        }
    }

    fn offset(&self, at: usize) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(number(&self.bytes, at)?)).ok()
    }
}

/// The bytes of a number that stands there.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
