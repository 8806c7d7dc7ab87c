//! Ignore files: a folder says itself what of it is left out, in the language of git's own.
//!
//! - **Owns** reading `.blockhouseignore` and which of several such files decides: the nearest above an entry that has a word on it,
//!   and of that file the last line that matches.
//! - **Does not** parse the language: the crate `ignore` does, which other tools use as well.

use std::{ffi::OsStr, fs::File, io::Read, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};

use super::{Listed, Named, open_file};
use crate::files::list::join;

/// The name of an ignore file.
pub const IGNORE_FILE: &str = ".blockhouseignore";
/// Nothing longer is read as an ignore file.
const LENGTH_MAX: u64 = 1 << 20;

/// Something in an ignore file that leaves nothing out, for it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreProblem {
    /// Which root it lies in.
    pub root: usize,
    /// The file's path from the root.
    pub path: Vec<u8>,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

/// The ignore files in force in a folder, from its own up to that of its root.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules(Option<Arc<Nearest>>);

#[derive(Debug)]
struct Nearest {
    matcher: Gitignore,
    /// How many bytes of a path from the root lie above what the matcher sees.
    above: usize,
    rest: Rules,
}

impl Rules {
    /// Whether an entry is ignored, by its path from the root.
    pub(crate) fn ignores(&self, path: &[u8], is_folder: bool) -> bool {
        let mut rules = self;
        while let Some(nearest) = &rules.0 {
            let below = path.get(nearest.above..).unwrap_or_default();
            match nearest.matcher.matched(Path::new(OsStr::from_bytes(below)), is_folder) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => rules = &nearest.rest,
            }
        }
        false
    }

    /// The rules in a folder with these names, and what of its file could not be used.
    pub(super) fn with_file_of(&self, listed: Listed<'_>, names: &[Named]) -> (Self, Vec<IgnoreProblem>) {
        let is_there = names.binary_search_by(|named| named.name.as_slice().cmp(IGNORE_FILE.as_bytes())).is_ok();
        if !is_there {
            return (self.clone(), Vec::new());
        }
        let problem = |line: usize, why: String| IgnoreProblem {
            root: listed.root,
            path: join(listed.path, IGNORE_FILE.as_bytes()),
            line,
            why,
        };
        let text = match read(listed) {
            Ok(text) => text,
            Err(error) => return (self.clone(), vec![problem(0, error.to_string())]),
        };
        let (rules, bad) = self.with_text(listed.path, &text);
        (rules, bad.into_iter().map(|(line, why)| problem(line, why)).collect())
    }

    /// The rules in a folder at this path from the root whose ignore file says `text`, and the lines that could not be used; 0 stands
    /// for all of them.
    pub(crate) fn with_text(&self, folder: &[u8], text: &[u8]) -> (Self, Vec<(usize, String)>) {
        let (matcher, mut bad) = compile(text);
        let matcher = matcher.unwrap_or_else(|why| {
            bad.push((0, why));
            Gitignore::empty()
        });
        let above = if folder.is_empty() { 0 } else { folder.len() + 1 };
        (Self(Some(Arc::new(Nearest { matcher, above, rest: self.clone() }))), bad)
    }
}

fn read(listed: Listed<'_>) -> std::io::Result<Vec<u8>> {
    let file = File::from(open_file(listed.folder, IGNORE_FILE.as_bytes())?);
    let mut text = Vec::new();
    file.take(LENGTH_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LENGTH_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is longer than 1 MiB"));
    }
    Ok(text)
}

/// The matcher, and the lines that it could not take.
fn compile(text: &[u8]) -> (Result<Gitignore, String>, Vec<(usize, String)>) {
    let mut builder = GitignoreBuilder::new("");
    let mut bad = Vec::new();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            bad.push((number + 1, "it is not UTF-8".to_owned()));
            continue;
        };
        if let Err(error) = builder.add_line(None, &without_alternatives(line)) {
            bad.push((number + 1, error.to_string()));
        }
    }
    (builder.build().map_err(|error| error.to_string()), bad)
}

/// Braces are letters to git and alternatives to the matcher: they are escaped, but in a class, where they are letters to both.
fn without_alternatives(line: &str) -> String {
    let (mut text, mut is_escaped, mut is_in_class) = (String::with_capacity(line.len()), false, false);
    for letter in line.chars() {
        match letter {
            '{' | '}' if !is_escaped && !is_in_class => text.push('\\'),
            '[' if !is_escaped => is_in_class = true,
            ']' if !is_escaped => is_in_class = false,
            _ => {}
        }
        is_escaped = letter == '\\' && !is_escaped;
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str, is_folder: bool) -> bool {
        let (matcher, bad) = compile(text.as_bytes());
        assert_eq!(bad, []);
        let rules = Rules(Some(Arc::new(Nearest { matcher: matcher.unwrap(), above: 0, rest: Rules::default() })));
        rules.ignores(path.as_bytes(), is_folder)
    }

    #[test]
    fn the_language_is_that_of_git() {
        assert!(ignored("*.o\n", "deep/a.o", false));
        assert!(ignored("/build\n", "build", true) && !ignored("/build\n", "deep/build", true));
        assert!(!ignored("build/\n", "build", false));
        assert!(!ignored("*.o\n!keep.o\r\n", "keep.o", false));
        assert!(ignored("a{b,c}\n", "a{b,c}", false) && !ignored("a{b,c}\n", "ab", false));
        assert!(ignored("[{]x\n", "{x", false));
        assert!(!ignored("# a comment\n\n", "# a comment", false));
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named_and_the_others_count() {
        let (matcher, bad) = compile(b"a\n\xff\nb\\\nc\n");
        assert_eq!(bad.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
        let matcher = matcher.unwrap();
        assert!(matcher.matched("a", false).is_ignore() && matcher.matched("c", false).is_ignore());
    }
}
