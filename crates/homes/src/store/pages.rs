//! The pages of the file, read beside redb and compared with the checksums that the pages above them name.
//!
//! redb compares pages only while it repairs a file, and then all of them. So a start that does not grow with the ledger looks here at the pages
//! by which redb itself goes, and no more: what is free, and where each table begins. Those of the rows follow while the file is in use.
//!
//! - **Owns** the way from the header of a file to each page that its last commit holds, and what a checksum is of: redb's file format 3, as its
//!   `docs/design.md` has it.
//! - **Does not** know what rows mean, and writes nothing.
//!
//! # Invariants
//! - **G1** Nothing in a page is followed before the page was compared with its checksum.
//! - **G2** Beside a writer, pages are looked at only while a view of the database is held that is not newer than the header that was read: what
//!   commits above that view free is not written over before it is given back.

mod page;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::Fault;
use page::{Checksum, Child, Page, Tree, number};

/// What redb writes at the beginning of each of its files.
pub(super) const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// The bit of the byte behind it that is set while a process has the file open to write.
pub(super) const UNFINISHED: u8 = 2;
/// The bit that says which of two slots has the last commit.
const SECOND: u8 = 1;
/// The bit that says that this commit was on the disk whole before it counted.
const TWO_PHASES: u8 = 4;
/// Where the slots are, one behind the other.
const SLOTS: usize = 64;
const SLOT: usize = 128;
const HEADER: usize = SLOTS + 2 * SLOT;
const FORMAT: u8 = 3;
/// The least length of a page, the same in all files.
const PAGE: u64 = 4096;
/// The table whose rows stand under no root. Every block writes it anew, with a right checksum whatever it held: it must be compared before.
const LOOSE: &[u8] = b"meta";
/// How often a header is read that a writer may be changing.
const TRIES: usize = 16;

/// How far a comparison is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagePlace {
    /// The table that is looked at.
    table: Vec<u8>,
    /// The last key of what was compared in it.
    after: Option<Vec<u8>>,
}

/// A file whose pages can be compared.
#[derive(Debug)]
pub(super) struct PageFile(File);

impl PageFile {
    pub(super) fn open(path: &Path) -> Result<Self, Fault> {
        Ok(Self(File::open(path).map_err(Fault::Io)?))
    }

    /// Compares all pages by which redb goes, and those of rows that stand under no root. False if the last commit was none of ours: redb may have to repair the file.
    pub(super) fn compare_own(&self) -> Result<bool, Fault> {
        let Some(commit) = self.commit()? else { return Ok(false) };
        let loose = commit.tables(commit.rows)?.into_iter().filter(|(name, _)| name == LOOSE);
        for (_, table) in commit.tables(commit.own)?.into_iter().chain(loose) {
            let mut walk = Walk::over(&commit, table, None);
            while walk.next()?.is_some() {}
        }
        Ok(true)
    }

    /// Goes on comparing the pages of rows from that place on, for so many bytes; gives the next place, or nothing at the end. See G2.
    pub(super) fn compare_some(&self, place: &PagePlace, mut bytes: usize) -> Result<Option<PagePlace>, Fault> {
        let commit = self.commit()?.ok_or_else(|| Fault::damaged("its last commit was made in one phase"))?;
        for (name, table) in commit.tables(commit.rows)?.into_iter().filter(|(name, _)| *name >= place.table) {
            let after = place.after.clone().filter(|_| name == place.table);
            let mut walk = Walk::over(&commit, table, after);
            while let Some(leaf) = walk.next()? {
                bytes = bytes.saturating_sub(leaf.length());
                if bytes == 0 {
                    return Ok(Some(PagePlace { table: name, after: leaf.last_key().map(<[u8]>::to_vec) }));
                }
            }
        }
        Ok(None)
    }

    /// The last commit; nothing if it was made in one phase, so that it may not be whole.
    fn commit(&self) -> Result<Option<Commit<'_>>, Fault> {
        let mut tries = 0;
        loop {
            let mut header = [0; HEADER];
            self.read(&mut header, 0)?;
            tries += 1;
            match self.decode(&header) {
                // It may have been read while it was written.
                Err(Fault::Damaged(_)) if tries < TRIES => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    fn decode(&self, header: &[u8; HEADER]) -> Result<Option<Commit<'_>>, Fault> {
        let damaged = || Fault::damaged("its header is another one");
        let (magic, rest) = header.split_at(MAGIC.len());
        let flags = rest.first().filter(|_| magic == MAGIC).ok_or_else(|| Fault::damaged("it is no store"))?;
        if flags & TWO_PHASES == 0 {
            return Ok(None);
        }
        let start = if flags & SECOND == 0 { SLOTS } else { SLOTS + SLOT };
        let slot = header.get(start..start + SLOT).ok_or_else(damaged)?;
        let (covered, checksum) = slot.split_at(SLOT - 16);
        if slot.first() != Some(&FORMAT) || number(checksum, 0) != Some(Checksum::of(covered).to_bytes()) {
            return Err(Fault::damaged("its header does not have its checksum"));
        }
        let word = |at| number(header, at).map(u32::from_le_bytes).map(u64::from).ok_or_else(damaged);
        let [page_size, region_head, region_pages] = [word(12)?, word(16)?, word(20)?];
        if page_size != PAGE {
            return Err(damaged());
        }
        let root = |there: usize, at| slot.get(there).filter(|there| **there != 0).and_then(|_| Child::root(slot, at));
        let (rows, own) = (root(1, 8), root(2, 40));
        let length = self.0.metadata().map_err(Fault::Io)?.len();
        Ok(Some(Commit { file: self, page_size, region_head, region_pages, length, rows, own }))
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<(), Fault> {
        self.0.read_exact_at(bytes, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::damaged("it is cut off"),
            _ => Fault::Io(error),
        })
    }
}

/// A commit: the trees of tables of the rows and of redb's own, and where pages lie.
struct Commit<'a> {
    file: &'a PageFile,
    page_size: u64,
    /// How many pages come before those of a region, and how many it has.
    region_head: u64,
    region_pages: u64,
    length: u64,
    rows: Option<Child>,
    own: Option<Child>,
}

impl Commit<'_> {
    /// The tables in a tree of tables, by name.
    fn tables(&self, root: Option<Child>) -> Result<Vec<(Vec<u8>, Tree)>, Fault> {
        let mut walk = Walk::over(self, Tree { root, key: None, value: None }, None);
        let mut tables = Vec::new();
        while let Some(leaf) = walk.next()? {
            for index in 0..leaf.count() {
                let (name, definition) = leaf.entry(index).ok_or_else(|| Fault::damaged("a table has no name"))?;
                let tree = Tree::decode(definition).ok_or_else(|| Fault::damaged("a table has another form"))?;
                tables.push((name.to_vec(), tree));
            }
        }
        Ok(tables)
    }

    /// A page that has its checksum.
    fn page(&self, child: &Child, tree: &Tree) -> Result<Page, Fault> {
        let place = self.place(child);
        let (start, length) = place.ok_or_else(|| Fault::damaged("one of its pages would lie outside of it"))?;
        let mut bytes = vec![0; length];
        self.file.read(&mut bytes, start)?;
        let page = Page::of(bytes, tree).filter(|page| page.checksum() == child.checksum);
        page.ok_or_else(|| Fault::damaged(format!("the page at byte {start} does not have its checksum")))
    }

    /// Where a page starts, and how long it is.
    fn place(&self, child: &Child) -> Option<(u64, usize)> {
        let (region, index, order) = child.address();
        let size = self.page_size.checked_mul(1 << order)?;
        let region_size = self.region_head.checked_add(self.region_pages)?.checked_mul(self.page_size)?;
        let within = self.region_head.checked_mul(self.page_size)?.checked_add(index.checked_mul(size)?)?;
        let start = self.page_size.checked_add(region.checked_mul(region_size)?)?.checked_add(within)?;
        (start.checked_add(size)? <= self.length).then_some((start, usize::try_from(size).ok()?))
    }
}

/// A walk over the leaves of a tree in the order of their keys, behind a key.
struct Walk<'a> {
    commit: &'a Commit<'a>,
    tree: Tree,
    after: Option<Vec<u8>>,
    /// What is still to be looked at, the next one last.
    left: Vec<Child>,
    /// How many bytes were read: no page is named twice, so no more than there are.
    read: u64,
}

impl<'a> Walk<'a> {
    fn over(commit: &'a Commit<'a>, tree: Tree, after: Option<Vec<u8>>) -> Self {
        Self { commit, left: tree.root.into_iter().collect(), tree, after, read: 0 }
    }

    fn next(&mut self) -> Result<Option<Page>, Fault> {
        while let Some(child) = self.left.pop() {
            let page = self.commit.page(&child, &self.tree)?;
            self.read = self.read.saturating_add(page.length() as u64);
            if self.read > self.commit.length {
                return Err(Fault::damaged("its pages name one page twice"));
            }
            if page.is_leaf() {
                // No key stands behind the last leaf, and others may be higher than the leaf before them goes.
                if self.after.as_ref().is_some_and(|after| page.is_up_to(after)) {
                    continue;
                }
                return Ok(Some(page));
            }
            let first = self.after.as_ref().map_or(0, |after| page.children_up_to(after));
            let children: Option<Vec<_>> = (first..=page.count()).rev().map(|index| page.child(index)).collect();
            self.left.extend(children.ok_or_else(|| Fault::damaged("a page names no other"))?);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
