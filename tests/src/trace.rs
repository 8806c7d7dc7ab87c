//! What `strace -f -y` wrote, read back, and the demand that objects were durable before something was said.
//!
//! - **Owns** the proof for one object: written, synced, named, its folder synced, each after the other had returned.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The calls that a proof needs.
pub const CALLS: &str =
    "trace=write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat";

/// One system call. Places are lines of the trace: a call that another one interrupted begins and ends at two.
#[derive(Debug, Clone)]
struct SystemCall {
    name: String,
    arguments: Vec<String>,
    result: i64,
    begin: usize,
    end: usize,
}

/// A whole trace.
#[derive(Debug)]
pub struct Trace {
    calls: Vec<SystemCall>,
}

impl Trace {
    /// Reads a trace.
    pub fn read(path: &Path) -> Self {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let (mut calls, mut unfinished) = (Vec::new(), HashMap::new());
        for (at, line) in text.lines().enumerate() {
            let Some((process, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
                unfinished.insert(process.to_owned(), (at, begun.trim_end().to_owned()));
            } else if let Some(resumed) = rest.strip_prefix("<... ") {
                let (_, tail) = resumed.split_once("resumed>").unwrap();
                if let Some((begin, head)) = unfinished.remove(process) {
                    calls.extend(call(&format!("{head}{tail}"), begin, at));
                }
            } else {
                calls.extend(call(rest, at, at));
            }
        }
        Self { calls }
    }

    /// Where the first write to stdout that holds `words` began.
    pub fn said(&self, words: &str) -> usize {
        let is_it = |call: &&SystemCall| {
            call.is_write() && call.arguments[0].starts_with("1<") && call.arguments[1..].join(",").contains(words)
        };
        self.calls.iter().find(is_it).unwrap_or_else(|| panic!("the trace has no write of {words} to stdout")).begin
    }

    /// What is not proven of the object at `path` before the line `before`: nothing if it is as it must be.
    pub fn doubt(&self, path: &Path, before: usize) -> Option<String> {
        let doubt = |what: &str| Some(format!("{}: {what}", path.display()));
        let mut named = self.calls.iter().filter_map(|call| Some((call, call.renames()?)));
        let Some((naming, (from, _))) = named.find(|(call, (_, to))| call.result == 0 && to == path) else {
            return doubt("nothing gave it its name");
        };
        let Some(written) = self.before(naming.begin).filter(|call| call.writes_to(&from)).map(|call| call.end).max()
        else {
            return doubt("no bytes were written before it got its name");
        };
        if !self.before(naming.begin).any(|call| call.begin > written && call.syncs(&from)) {
            return doubt("its bytes were not synced between the last write and its name");
        }
        self.folder_doubt(path, naming.end, before).and_then(|what| doubt(&what))
    }

    /// What is not proven of an object that was found under its name: that its folder was synced before it counted.
    pub fn adoption_doubt(&self, path: &Path, before: usize) -> Option<String> {
        let folder = path.parent().unwrap();
        let synced = self.before(before).any(|call| call.syncs(folder));
        (!synced).then(|| format!("{}: was found, and its folder was not synced", path.display()))
    }

    /// What is not proven of the folders above a name that was made at `named`.
    fn folder_doubt(&self, path: &Path, named: usize, before: usize) -> Option<String> {
        let folder = path.parent().unwrap();
        if !self.before(before).any(|call| call.begin > named && call.syncs(folder)) {
            return Some("its folder was not synced after its name was made".to_owned());
        }
        for made in self.calls.iter().filter(|call| call.result == 0) {
            let Some(made_folder) = made.makes().filter(|made| path.starts_with(made)) else { continue };
            let above = made_folder.parent().unwrap();
            if !self.before(before).any(|call| call.begin > made.end && call.syncs(above)) {
                return Some(format!("{} was made and the folder it is in was not synced", made_folder.display()));
            }
        }
        None
    }

    /// What is not proven of a file that is written in place: that it was synced after its last write before a line.
    pub fn in_place_doubt(&self, path: &Path, before: usize) -> Option<String> {
        let Some(written) = self.before(before).filter(|call| call.writes_to(path)).map(|call| call.end).max() else {
            return Some(format!("{} was not written", path.display()));
        };
        let synced = self.before(before).any(|call| call.begin > written && call.syncs(path));
        (!synced).then(|| format!("{} was not synced after its last write", path.display()))
    }

    /// The calls that had returned at a line.
    fn before(&self, line: usize) -> impl Iterator<Item = &SystemCall> {
        self.calls.iter().filter(move |call| call.end < line)
    }
}

impl SystemCall {
    fn is_write(&self) -> bool {
        matches!(self.name.as_str(), "write" | "pwrite64" | "writev" | "pwritev")
    }

    fn writes_to(&self, path: &Path) -> bool {
        self.is_write() && self.result > 0 && opened(&self.arguments[0]).as_deref() == Some(path)
    }

    fn syncs(&self, path: &Path) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync")
            && self.result == 0
            && opened(&self.arguments[0]).as_deref() == Some(path)
    }

    /// The old and the new name, if it gives one.
    fn renames(&self) -> Option<(PathBuf, PathBuf)> {
        match (self.name.as_str(), self.arguments.as_slice()) {
            ("rename" | "link", [from, to, ..]) => Some((quoted(from)?, quoted(to)?)),
            ("renameat" | "renameat2" | "linkat", [old, from, new, to, ..]) => Some((at(old, from)?, at(new, to)?)),
            _ => None,
        }
    }

    /// The folder that it makes.
    fn makes(&self) -> Option<PathBuf> {
        match (self.name.as_str(), self.arguments.as_slice()) {
            ("mkdir", [path, ..]) => quoted(path),
            ("mkdirat", [folder, path, ..]) => at(folder, path),
            _ => None,
        }
    }
}

/// `name(arguments) = result …`
fn call(text: &str, begin: usize, end: usize) -> Option<SystemCall> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(')'))?;
    let result = result.trim_start_matches([' ', '=']).split([' ', '<']).next()?.parse().ok()?;
    Some(SystemCall { name: name.to_owned(), arguments: split(arguments), result, begin, end })
}

/// Splits at commas outside of quotes.
fn split(arguments: &str) -> Vec<String> {
    let (mut all, mut one) = (Vec::new(), String::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for letter in arguments.chars() {
        match letter {
            ',' if !is_quoted => all.push(std::mem::take(&mut one).trim().to_owned()),
            _ => {
                is_quoted ^= letter == '"' && !is_escaped;
                one.push(letter);
            }
        }
        is_escaped = letter == '\\' && !is_escaped;
    }
    all.push(one.trim().to_owned());
    all
}

/// The path of `7</path>`.
fn opened(argument: &str) -> Option<PathBuf> {
    let (_, path) = argument.split_once('<')?;
    Some(path.strip_suffix('>')?.into())
}

fn quoted(argument: &str) -> Option<PathBuf> {
    Some(argument.strip_prefix('"')?.strip_suffix('"')?.into())
}

fn at(folder: &str, name: &str) -> Option<PathBuf> {
    // Joining an absolute name gives that name.
    Some(opened(folder)?.join(quoted(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"1 mkdirat(5</s>, "a", 0700) = 0
1 fsync(5</s>)                    = 0
2 write(7</s/.tmp/x>, "b)\", = 0"..., 9) = 9
2 fsync(7</s/.tmp/x> <unfinished ...>
1 write(2</dev/null>, "talk", 4) = 4
2 <... fsync resumed>)            = 0
2 renameat2(4</s/.tmp>, "x", 6</s/a>, "o", RENAME_NOREPLACE) = 0
2 fsync(6</s/a>)                  = 0
1 write(1<pipe:[3]>, "{\"type\":\"summary\"}\n", 20) = 20
"#;

    fn doubt(text: &str) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, text).unwrap();
        let trace = Trace::read(file.path());
        let said = trace.said(r#"\"summary\""#);
        trace.doubt(Path::new("/s/a/o"), said)
    }

    #[test]
    fn the_right_order_leaves_no_doubt() {
        assert_eq!(doubt(GOOD), None);
    }

    /// Every call but the talk and the acknowledgement is needed.
    #[test]
    fn every_call_that_is_missing_is_doubted() {
        for missing in ["fsync(5", "2 write(7", "fsync(7", "renameat2", "fsync(6"] {
            let without: Vec<&str> = GOOD.lines().filter(|line| !line.contains(missing)).collect();
            assert!(doubt(&without.join("\n")).is_some(), "without {missing}");
        }
    }

    #[test]
    fn what_comes_too_late_is_doubted() {
        let mut lines: Vec<&str> = GOOD.lines().collect();
        lines.swap(7, 8);
        assert!(doubt(&lines.join("\n")).unwrap().contains("folder was not synced"));
        let mut lines: Vec<&str> = GOOD.lines().collect();
        lines.swap(5, 6);
        assert!(doubt(&lines.join("\n")).unwrap().contains("bytes were not synced"));
    }
}
