//! Whom restored entries belong to.

use blockhouse_types::Metadata;

use crate::files::Accounts;

/// Whom restored entries belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The user and group of the stored names, where this host has them; else the stored numbers.
    #[default]
    ByName,
    /// The stored numbers.
    ByNumber,
    /// Whoever restores.
    Mine,
}

/// What a mapping maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerKind {
    /// Users.
    User,
    /// Groups.
    Group,
}

/// Why a text is no mapping of owners.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerMappingError {
    #[error("`{text}` is no mapping: write OLD:NEW, names or numbers")]
    Form { text: String },
    #[error("this host has no {} called `{name}`", match kind { OwnerKind::User => "user", OwnerKind::Group => "group" })]
    Unknown { kind: OwnerKind, name: String },
}

/// From an owner in the snapshot to one of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerMapping {
    old: Stored,
    new: u32,
}

/// How an owner of the snapshot was named.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stored {
    Number(u32),
    Name(Vec<u8>),
}

impl OwnerMapping {
    /// Reads `OLD:NEW`. A number is a number; anything else is a name, which for `NEW` this host must have.
    pub fn of(text: &str, kind: OwnerKind, accounts: &Accounts) -> Result<Self, OwnerMappingError> {
        let form = || OwnerMappingError::Form { text: text.to_owned() };
        let (old, new) =
            text.split_once(':').filter(|(old, new)| !old.is_empty() && !new.is_empty()).ok_or_else(form)?;
        let old = old.parse().map_or_else(|_| Stored::Name(old.as_bytes().to_vec()), Stored::Number);
        let known = match (new.parse(), kind) {
            (Ok(number), _) => Some(number),
            (Err(_), OwnerKind::User) => accounts.uid(new.as_bytes()),
            (Err(_), OwnerKind::Group) => accounts.gid(new.as_bytes()),
        };
        let unknown = || OwnerMappingError::Unknown { kind, name: new.to_owned() };
        Ok(Self { old, new: known.filter(|number| *number != u32::MAX).ok_or_else(unknown)? })
    }

    fn maps(&self, number: u32, name: &[u8]) -> bool {
        match &self.old {
            Stored::Number(old) => *old == number,
            Stored::Name(old) => old == name,
        }
    }
}

/// The owner and group that an entry should have if nothing is mapped.
pub(super) fn stored(wanted: &Metadata, ownership: Ownership, accounts: &Accounts) -> (u32, u32) {
    match ownership {
        Ownership::ByNumber => (wanted.uid, wanted.gid),
        Ownership::ByName | Ownership::Mine => {
            (accounts.uid(&wanted.user).unwrap_or(wanted.uid), accounts.gid(&wanted.group).unwrap_or(wanted.gid))
        }
    }
}

/// The first mapping that fits.
pub(super) fn mapped(mappings: &[OwnerMapping], number: u32, name: &[u8]) -> Option<u32> {
    mappings.iter().find(|mapping| mapping.maps(number, name)).map(|mapping| mapping.new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(b"anna:x:1000:1000::/:/bin/sh\n", b"staff:x:50:\n")
    }

    #[test]
    fn names_win_over_numbers_where_this_host_has_them() {
        let metadata = |user: &[u8], group: &[u8]| Metadata {
            uid: 7,
            gid: 8,
            user: user.to_vec(),
            group: group.to_vec(),
            ..Metadata::default()
        };
        let stored = |user, group, ownership| stored(&metadata(user, group), ownership, &accounts());
        assert_eq!(stored(b"anna", b"staff", Ownership::ByName), (1000, 50));
        assert_eq!(stored(b"bert", b"", Ownership::ByName), (7, 8));
        assert_eq!(stored(b"anna", b"staff", Ownership::ByNumber), (7, 8));
    }

    #[test]
    fn a_mapping_fits_by_number_or_by_name() {
        let of = |text| OwnerMapping::of(text, OwnerKind::User, &accounts());
        let mappings = [of("7:anna").unwrap(), of("bert:9").unwrap(), of("7:8").unwrap()];
        assert_eq!(mapped(&mappings, 7, b"x"), Some(1000), "the first that fits");
        assert_eq!(mapped(&mappings, 1, b"bert"), Some(9));
        assert_eq!(mapped(&mappings, 1, b"7"), None);
        assert_eq!(OwnerMapping::of("a:staff", OwnerKind::Group, &accounts()).map(|mapping| mapping.new), Ok(50));
        for text in ["", "7", ":7", "7:"] {
            assert_eq!(of(text), Err(OwnerMappingError::Form { text: text.to_owned() }));
        }
        assert!(matches!(of("7:bert"), Err(OwnerMappingError::Unknown { .. })));
        assert!(matches!(of("7:4294967295"), Err(OwnerMappingError::Unknown { .. })), "no owner has that number");
    }
}
