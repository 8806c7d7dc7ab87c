//! What a test needs of the machine. Nothing is passed over in silence.
//!
//! - A program that anyone can install is demanded: without it the test fails and says what to install.
//!   `BLOCKHOUSE_WAIVE`, a list with commas, waives it, and each test that is not run then says so.
//! - A right that nobody can install (root, mounting) is not demanded; what is not run without it is said.
//!
//! What is said goes past the test harness, which swallows the words of tests that pass.

use std::io::Write;
use std::path::PathBuf;

/// The variable that names the programs to do without.
pub const WAIVE: &str = "BLOCKHOUSE_WAIVE";

/// True if the program can be used. False if it cannot and is waived; else the test ends here.
#[track_caller]
pub fn program(name: &str, package: &str, works: bool) -> bool {
    demanded(name, &format!("apt-get install {package}"), works)
}

/// True if what `./x test` sets up for the tests is there. False if it is not and is waived; else the test ends here.
#[track_caller]
pub fn set_up(name: &str, is_there: bool) -> bool {
    demanded(name, "run `./x test`, which sets it up", is_there)
}

/// The binary of an earlier release that `./x test` builds out of the history; none if it is waived.
#[track_caller]
pub fn earlier_release() -> Option<PathBuf> {
    let here = || std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("earlier/blockhouse");
    let binary = std::env::var_os("BLOCKHOUSE_EARLIER").map_or_else(here, PathBuf::from);
    set_up("earlier-release", binary.is_file()).then_some(binary)
}

/// Where `./x test` has put what others wrote for Ethereum, and for those who watch nodes.
pub fn ethereum_tools() -> PathBuf {
    // <target>/<profile>/deps/<test>
    let here = || std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tools/ethereum");
    std::env::var_os("BLOCKHOUSE_ETHEREUM_TOOLS").map_or_else(here, PathBuf::from)
}

#[track_caller]
fn demanded(name: &str, remedy: &str, works: bool) -> bool {
    if works {
        return true;
    }
    let waived = std::env::var(WAIVE).unwrap_or_default();
    let is_waived = waived.split(',').any(|word| word.trim() == name);
    assert!(
        is_waived,
        "this test needs {name}, which is missing or may not do its work here: {remedy}; \
         or set {WAIVE}={name} to go without this test"
    );
    say(&format!("{name} is waived"));
    false
}

/// True if this user has the right; if not, it is said what is not run.
pub fn right(has: bool, what: &str) -> bool {
    if !has {
        say(what);
    }
    has
}

fn say(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Who closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "\nNOT RUN: {test}, or a part of it: {why}");
}
