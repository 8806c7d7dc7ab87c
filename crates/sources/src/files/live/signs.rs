//! Which files show that an engine keeps its data in a folder.

use blockhouse_types::EntryKind;

use crate::files::list::Named;

/// How one file is recognised and what makes it live.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    /// What the user calls the software.
    pub(crate) engine: &'static str,
    name: Name,
    /// At least one of these stands beside it; none are needed if the list is empty.
    beside: &'static [Name],
    pub(crate) proof: Proof,
}

/// What makes such a file live.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Proof {
    /// Somebody holds a lock on it.
    Lock,
    /// Somebody holds a lock on it or has it open for writing.
    LockOrWriter,
    /// It begins with the number of a running process whose name contains one of these.
    ProcessNamed(&'static [&'static str]),
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    Is(&'static str),
    Begins(&'static str),
    Ends(&'static str),
}

impl Name {
    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Is(text) => name == text.as_bytes(),
            Self::Begins(text) => name.starts_with(text.as_bytes()),
            Self::Ends(text) => name.ends_with(text.as_bytes()),
        }
    }
}

use Name::{Begins, Ends, Is};

const fn sign(engine: &'static str, name: Name, beside: &'static [Name], proof: Proof) -> Sign {
    Sign { engine, name, beside, proof }
}

const BITCOIN: &str = "a node of the Bitcoin family";
const ETHEREUM: &str = "an Ethereum node";
const LEVELDB: &str = "a LevelDB, RocksDB or Pebble database";
const MDBX: &str = "an MDBX database (reth, erigon)";
const LMDB: &str = "an LMDB database (monerod)";
const MYSQL: &str = "MySQL or MariaDB";
const MONGODB: &str = "MongoDB";

/// `.lock` and `LOCK` are common names, so they count beside files of their engine only.
static SIGNS: &[Sign] = &[
    sign(
        BITCOIN,
        Is(".lock"),
        &[Is("blocks"), Is("chainstate"), Is("wallets"), Is("wallet.dat"), Is("bitcoin.conf"), Is("litecoin.conf")],
        Proof::Lock,
    ),
    sign(BITCOIN, Is(".walletlock"), &[], Proof::Lock),
    sign(ETHEREUM, Is("LOCK"), &[Is("chaindata"), Is("nodekey")], Proof::Lock),
    sign(ETHEREUM, Is("lock"), &[Is("mdbx.dat")], Proof::ProcessNamed(&["reth"])),
    sign(LEVELDB, Is("LOCK"), &[Is("CURRENT"), Begins("MANIFEST-")], Proof::Lock),
    sign(LEVELDB, Begins("MANIFEST-"), &[Is("LOCK")], Proof::LockOrWriter),
    sign(MDBX, Is("mdbx.lck"), &[Is("mdbx.dat")], Proof::Lock),
    sign(MDBX, Is("mdbx.dat"), &[], Proof::LockOrWriter),
    sign(LMDB, Is("lock.mdb"), &[Is("data.mdb")], Proof::Lock),
    sign(LMDB, Is("data.mdb"), &[Is("lock.mdb")], Proof::LockOrWriter),
    sign("a redb database", Ends(".redb"), &[], Proof::LockOrWriter),
    sign("PostgreSQL", Is("postmaster.pid"), &[Is("PG_VERSION")], Proof::ProcessNamed(&["postgres", "postmaster"])),
    sign(MYSQL, Is("ibdata1"), &[], Proof::LockOrWriter),
    sign(MYSQL, Is("aria_log_control"), &[], Proof::Lock),
    sign(MONGODB, Is("mongod.lock"), &[], Proof::Lock),
    sign(MONGODB, Is("WiredTiger.lock"), &[], Proof::Lock),
];

/// `SQLite` files bear any name; a journal or write-ahead log beside them shows that a writer is, or was, at work.
static SQLITE: Sign = sign("an SQLite database", Ends(""), &[], Proof::LockOrWriter);

/// In write-ahead mode each connection keeps a shared lock on this file for as long as it lives.
const SQLITE_SHARED: &str = "-shm";
const SQLITE_JOURNALS: [&str; 2] = ["-wal", "-journal"];

/// Whether this ending, after a file's name, makes a file that speaks for it; the empty one is the file itself.
pub(super) fn is_companion(ending: &[u8]) -> bool {
    ending.is_empty() || ending == SQLITE_SHARED.as_bytes()
}

/// The files of a folder that would show a running engine. `named` is sorted by name.
pub(super) fn in_listing(named: &[Named]) -> impl Iterator<Item = (&[u8], &'static Sign)> {
    named.iter().filter(|named| named.kind == EntryKind::File).flat_map(move |file| {
        let known = SIGNS.iter().filter(move |sign| {
            let is_beside = |name: &Name| named.iter().any(|other| name.matches(&other.name));
            sign.name.matches(&file.name) && (sign.beside.is_empty() || sign.beside.iter().any(is_beside))
        });
        known.chain(is_sqlite(named, &file.name).then_some(&SQLITE)).map(|sign| (file.name.as_slice(), sign))
    })
}

/// Whether a file is an `SQLite` database that has a journal, or the shared memory of one.
fn is_sqlite(named: &[Named], name: &[u8]) -> bool {
    let exists = |name: &[u8]| named.binary_search_by(|other| other.name.as_slice().cmp(name)).is_ok();
    match name.strip_suffix(SQLITE_SHARED.as_bytes()) {
        Some(database) => exists(database),
        None => SQLITE_JOURNALS.iter().any(|ending| exists(&[name, ending.as_bytes()].concat())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(listing: &[&str]) -> Vec<(String, &'static str)> {
        let mut named: Vec<_> =
            listing.iter().map(|name| Named { name: name.as_bytes().to_vec(), kind: EntryKind::File }).collect();
        named.sort_by(|one, other| one.name.cmp(&other.name));
        in_listing(&named).map(|(name, sign)| (String::from_utf8(name.to_vec()).unwrap(), sign.engine)).collect()
    }

    #[test]
    fn common_names_count_beside_their_engine_only() {
        assert!(
            engines(&[".lock", "LOCK", "lock", "report.odt", ".~lock.report.odt#", "main.log", "a-wall"]).is_empty()
        );
        assert_eq!(engines(&[".lock", "blocks"]), [(".lock".to_owned(), BITCOIN)]);
        assert_eq!(engines(&["LOCK", "CURRENT"]), [("LOCK".to_owned(), LEVELDB)]);
        assert_eq!(engines(&["LOCK", "nodekey"]), [("LOCK".to_owned(), ETHEREUM)]);
    }

    #[test]
    fn a_journal_makes_its_file_a_database() {
        assert!(engines(&["notes.db", "other-wal"]).is_empty());
        let found: Vec<_> = engines(&["notes", "notes-wal", "notes-shm"]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["notes", "notes-shm"]);
        assert_eq!(engines(&["notes", "notes-journal"]).len(), 1);
    }
}
