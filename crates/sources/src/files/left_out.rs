//! What is not in a snapshot because somebody wanted it so, by reason.

/// Why an entry was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LeftOutReason {
    /// A pattern matches it.
    Pattern,
    /// An ignore file names it.
    IgnoreFile,
    /// Its folder is tagged as a cache.
    CacheTag,
    /// Its folder has the file whose presence excludes it.
    IfPresent,
    /// It is larger than wanted.
    TooLarge,
    /// It is on another file system than its root.
    OtherFileSystem,
    /// It has the attribute `nodump`.
    NoDump,
}

impl LeftOutReason {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Pattern,
        Self::IgnoreFile,
        Self::CacheTag,
        Self::IfPresent,
        Self::TooLarge,
        Self::OtherFileSystem,
        Self::NoDump,
    ];

    /// Its name in data.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::IgnoreFile => "ignore_file",
            Self::CacheTag => "cache_tag",
            Self::IfPresent => "if_present",
            Self::TooLarge => "too_large",
            Self::OtherFileSystem => "other_file_system",
            Self::NoDump => "nodump",
        }
    }
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which root it lies in.
    pub root: usize,
    /// Its path from the root.
    pub path: Vec<u8>,
    /// Why.
    pub reason: LeftOutReason,
}

/// How many entries were left out, by reason. What lies below an entry that was left out is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOutTally([u64; LeftOutReason::ALL.len()]);

impl LeftOutTally {
    /// Counts entries.
    pub fn count<'a>(&mut self, left_out: impl IntoIterator<Item = &'a LeftOut>) {
        for entry in left_out {
            if let Some(count) = self.0.get_mut(entry.reason as usize) {
                *count += 1;
            }
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many for each reason, zeros too.
    pub fn by_reason(&self) -> impl Iterator<Item = (LeftOutReason, u64)> {
        LeftOutReason::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_place_and_its_name() {
        let mut tally = LeftOutTally::default();
        for (times, reason) in LeftOutReason::ALL.into_iter().enumerate() {
            tally.count(&vec![LeftOut { root: 0, path: Vec::new(), reason }; times + 1]);
        }
        let counted: Vec<_> = tally.by_reason().collect();
        assert!(
            counted
                .iter()
                .enumerate()
                .all(|(place, (reason, count))| { *reason == LeftOutReason::ALL[place] && *count == place as u64 + 1 })
        );
        assert_eq!(tally.total(), 28);
        let names: std::collections::BTreeSet<_> = LeftOutReason::ALL.map(LeftOutReason::name).into();
        assert_eq!(names.len(), LeftOutReason::ALL.len());
    }
}
