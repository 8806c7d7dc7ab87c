//! Pages for users: their commands run word by word, and their output is what the page shows.
//!
//! - **Owns** which parts of a page are run, where their paths lead, and what of the output may differ from run to run.
//!
//! Every `console` block of a page is run, in order, by one shell; a line that begins with `$ ` is a command, those after it its
//! output. What the page leaves running in the background ends with it. With `BLOCKHOUSE_WRITE_PAGES=1` the pages are written anew with what the commands said.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The beginning of the line that the shell writes before each command.
const MARK: &str = "@@@ command ";
/// Folders of a page that lie in the scratch folder when it is run.
const PLACES: [&str; 3] = ["/tmp/", "/mnt/", "/media/"];

/// A command of a page and the output that the page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The command, as the shell gets it.
    pub command: String,
    /// What it says.
    pub shown: Vec<String>,
}

/// The repository's root.
pub fn repository() -> PathBuf {
    // Where cargo runs it: a checkout that was moved, or shares its target folder, does not build its tests anew.
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&tests).parent().unwrap().to_owned()
}

/// The commands of a page.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks(page, "console") {
        let mut is_command = false;
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), shown: Vec::new() });
                is_command = true;
            } else if is_command && steps.last().unwrap().command.ends_with('\\') {
                let command = &mut steps.last_mut().unwrap().command;
                command.push('\n');
                command.push_str(line);
            } else {
                is_command = false;
                steps.last_mut().unwrap().shown.push(line.to_owned());
            }
        }
    }
    steps
}

/// The blocks of a page in this language.
pub fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let fence = format!("\n```{language}\n");
    page.split(&fence).skip(1).map(|after| after.split("\n```").next().unwrap()).collect()
}

/// A scratch folder in which pages are run one after the other.
#[derive(Debug)]
pub struct Walk {
    folder: PathBuf,
    /// Where the shell looks for programs.
    path: String,
}

impl Walk {
    /// Pages run in `folder`: its `tmp`, `mnt` and `media` stand for those of the system, `home/ann` is the user's home.
    pub fn in_folder(folder: &Path, binary: &Path) -> Self {
        for name in ["tmp/walk", "mnt", "media/usb", "home/ann"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
        Self { folder: folder.to_owned(), path }
    }

    /// The same, with the programs of a folder besides.
    #[must_use]
    pub fn with_programs(mut self, folder: &Path) -> Self {
        self.path = format!("{}:{}", self.path, folder.display());
        self
    }

    /// Something in the folder that the walk takes place in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs a page of the repository in one of its folders, and demands the output that it shows.
    #[track_caller]
    pub fn page(&self, name: &str, within: &str) {
        let path = repository().join(name);
        let page = fs::read_to_string(&path).unwrap();
        let steps = steps(&page);
        assert!(!steps.is_empty(), "{name} shows no command");
        let said = self.run(&steps, within);
        if std::env::var_os("BLOCKHOUSE_WRITE_PAGES").is_some() {
            fs::write(&path, rewritten(&page, &steps, &said)).unwrap();
            return;
        }
        for (step, said) in steps.iter().zip(&said) {
            let [shown, real] =
                [&step.shown, said].map(|lines| lines.iter().map(|line| plain(line)).collect::<Vec<_>>());
            assert_eq!(shown, real, "{name}: the output of `{}` is another:\n{}", step.command, said.join("\n"));
        }
    }

    fn run(&self, steps: &[Step], within: &str) -> Vec<Vec<String>> {
        let mut script = String::from("exec 2>&1\n");
        for (number, step) in steps.iter().enumerate() {
            // The mark leaves the exit code for a command that asks for it.
            let mark = format!("code=$?; printf '\\n{MARK}{number}\\n'; (exit $code)");
            writeln!(script, "{mark}\n{}", self.here(&step.command)).unwrap();
        }
        let mut shell = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BLOCKHOUSE_") {
                shell.env_remove(name);
            }
        }
        let shell = shell.env("PATH", &self.path).env("HOME", self.path("home/ann")).env("LC_ALL", "C.UTF-8");
        let shell = shell.env("BLOCKHOUSE_PASSPHRASE", "correct horse battery staple");
        let shell = shell.arg("-c").arg(script).current_dir(self.path(within)).stdin(Stdio::null());
        let text = String::from_utf8(Group::spawn(shell).output())
            .unwrap()
            .replace(&format!("{}/", self.folder.display()), "/");
        let mark = format!("\n{MARK}");
        let parts = text.split(&mark).skip(1);
        // The first line is the command's number.
        parts.map(|part| part.lines().skip(1).map(ToOwned::to_owned).collect()).collect()
    }

    /// A command with the places of the page in the scratch folder.
    fn here(&self, command: &str) -> String {
        let mut words = command.to_owned();
        for place in PLACES {
            for before in [" ", "=", "'", "\""] {
                words =
                    words.replace(&format!("{before}{place}"), &format!("{before}{}{place}", self.folder.display()));
            }
        }
        words
    }
}

/// A shell and all that it starts: none of it outlives the value.
struct Group(Child);

impl Group {
    fn spawn(shell: &mut Command) -> Self {
        Self(shell.process_group(0).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// All that is written until the shell ends.
    fn output(mut self) -> Vec<u8> {
        let mut stdout = self.0.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).unwrap();
            bytes
        });
        self.0.wait().unwrap();
        // What runs on holds the pipe open.
        drop(self);
        reader.join().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        // It is empty if everything has ended.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The page with other output.
fn rewritten(page: &str, steps: &[Step], said: &[Vec<String>]) -> String {
    let mut text = page.to_owned();
    let mut from = 0;
    for (step, said) in steps.iter().zip(said) {
        let block = |lines: &[String]| {
            let all: Vec<&str> =
                std::iter::once(step.command.as_str()).chain(lines.iter().map(String::as_str)).collect();
            format!("$ {}\n", all.join("\n"))
        };
        let (old, new) = (block(&step.shown), block(said));
        let at = from + text[from..].find(&old).unwrap();
        text.replace_range(at..at + old.len(), &new);
        from = at + new.len();
    }
    text
}

/// A line without what differs from run to run: ids, keys, times, sizes, durations, owners, heights, and the width of columns.
fn plain(line: &str) -> String {
    const UNITS: [&str; 8] = ["B", "KiB", "MiB", "GiB", "TiB", "s", "bytes", "blocks"];
    let bare = |word: &str| word.trim_matches(|mark: char| !mark.is_ascii_alphanumeric()).to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_listed = words.first().is_some_and(|word| word.len() == 5 && word[1..].bytes().all(|b| b.is_ascii_digit()));
    let replaced = words.iter().enumerate().map(|(place, word)| {
        // Of `name=value` the name stays.
        let (before, word) = word.split_once('=').map_or(("", *word), |(name, value)| (name, value));
        let core = bare(word);
        let is_number = !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let digits = core.strip_prefix("0x").unwrap_or(&core);
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_id = digits.len() >= 12 && is_hex(digits);
        let is_code = core.len() > 4 && core.split('-').all(|group| group.len() == 4 && is_hex(group));
        let has_unit = words.get(place + 1).is_some_and(|next| UNITS.contains(&bare(next).as_str()));
        // How many transactions meet in one block of a network is a matter of moments, and so in which epoch it is.
        let is_after = |name: &str| place > 0 && words[place - 1] == name;
        let is_height = is_number && (is_after("block") || is_after("epoch") || before == "height");
        let is_owner = is_listed && (place == 1 || place == 2);
        let word = if core.starts_with("age1") && core.len() > 20 {
            word.replace(&core, "age1#")
        } else if core.len() == 20 && core.ends_with('Z') && core.contains('T') {
            word.replace(&core, "@")
        } else if is_id
            || is_code
            || is_owner
            || is_height
            || (is_number && core != "0" && (has_unit || core.len() > 8))
        {
            word.replace(&core, "#")
        } else if UNITS.contains(&core.as_str()) && place > 0 && words[place - 1].trim_matches('(') != "0" {
            word.replace(&core, "~")
        } else {
            word.to_owned()
        };
        if before.is_empty() { word } else { format!("{before}={word}") }
    });
    replaced.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Text\n\n```console\n$ one \\\n    two\nsaid\n$ three\n```\n\n```sh\nnot run\n```\n";

    #[test]
    fn commands_and_their_output_are_found_and_written_anew() {
        let found = steps(PAGE);
        let step = |command: &str, shown: &[&str]| Step {
            command: command.to_owned(),
            shown: shown.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(found, [step("one \\\n    two", &["said"]), step("three", &[])]);
        assert_eq!(blocks(PAGE, "sh"), ["not run"]);
        let anew = rewritten(PAGE, &found, &[vec![], vec!["new".to_owned()]]);
        assert_eq!(steps(&anew), [step("one \\\n    two", &[]), step("three", &["new"])]);
    }

    #[test]
    fn what_differs_from_run_to_run_is_left_out_and_nothing_else() {
        let same = |one: &str, other: &str| assert_eq!(plain(one), plain(other));
        let differ = |one: &str, other: &str| assert_ne!(plain(one), plain(other));
        same("snapshot 56304bf5d1bc", "snapshot  ffff4bf5d1bc");
        same("10 files, 2.05 MiB (4 B new) in 0.2 s", "10 files, 2.11 MiB (3 KiB new) in 10.2 s");
        differ("10 files, 2.05 MiB", "11 files, 2.05 MiB");
        differ("10 files (0 B new)", "10 files (1 B new)");
        same("code 1db5-80f2-dd3b-1104-0894", "code 0000-80f2-dd3b-1104-0894");
        differ("on 2026-11-21", "on 2026-11-22");
        same("block 12; any 1 site", "block 7; any 1 site");
        same("TamperReported node=a12b2cdf335c height=13", "TamperReported node=b12b2cdf335c height=7");
        differ("TamperReported what=block", "TamperReported what=state");
        differ("TamperReported node=a12b2cdf335c", "TamperReported by=a12b2cdf335c");
        differ("any 2 sites may vanish", "any 1 sites may vanish");
        same("-0644  1000  1000  5 2026-11-21T09:17:23Z a", "-0644 0 0 5 2025-01-21T09:17:23Z a");
        differ("-0644  1000  1000  5 2026-11-21T09:17:23Z a", "-0600 0 0 5 2025-01-21T09:17:23Z a");
    }
}
