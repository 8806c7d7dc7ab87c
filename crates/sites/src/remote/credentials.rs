//! User and password of a WebDAV site: from the environment or from `~/.netrc`, never from its URL.

use std::fmt;
use std::path::PathBuf;

use crate::error::Cause;
use crate::name::SiteName;
use crate::trouble::{ServiceFailure, Trouble};
use crate::url::WebdavPlace;

/// Who we are at a server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The first that is set: the site's own variables, those for all WebDAV sites, `~/.netrc`. None for a server that
/// asks for nothing.
pub(super) fn find(place: &WebdavPlace, name: &SiteName) -> Result<Option<Login>, Cause> {
    for prefix in [format!("BLOCKHOUSE_SITE_{}", variable(name)), "BLOCKHOUSE_WEBDAV".to_owned()] {
        let set = |what: &str| std::env::var(format!("{prefix}_{what}")).ok().filter(|value| !value.is_empty());
        if let Some(password) = set("PASSWORD") {
            let user = place.user.clone().or_else(|| set("USER"));
            let missing = || ServiceFailure::new(Trouble::NoCredentials, &format!("{prefix}_USER is not set"));
            return Ok(Some(Login { user: user.ok_or_else(missing)?, password }));
        }
    }
    let Some(text) = netrc_file().and_then(|path| std::fs::read_to_string(path).ok()) else { return Ok(None) };
    Ok(from_netrc(&text, place.host(), place.user.as_deref()))
}

/// A site's name as a part of a variable's.
fn variable(name: &SiteName) -> String {
    let part = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.as_str().chars().map(part).collect()
}

fn netrc_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("NETRC").or_else(|| Some(set("HOME")?.join(".netrc")))
}

/// The entry of a host, or the default one.
fn from_netrc(text: &str, host: &str, user: Option<&str>) -> Option<Login> {
    let mut words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let (mut is_ours, mut login, mut password) = (false, None, None);
    let entry = |login: Option<&str>, password: Option<&str>| {
        let login = login.or(user)?;
        let is_asked = user.is_none_or(|user| user == login);
        let password = password.filter(|_| is_asked)?;
        Some(Login { user: login.to_owned(), password: password.to_owned() })
    };
    while let Some(word) = words.next() {
        let begins = matches!(word, "machine" | "default");
        if begins
            && is_ours
            && let Some(found) = entry(login, password)
        {
            return Some(found);
        }
        match word {
            "machine" => (is_ours, login, password) = (words.next() == Some(host), None, None),
            "default" => (is_ours, login, password) = (true, None, None),
            "login" => login = words.next(),
            "password" => password = words.next(),
            _ => {}
        }
    }
    entry(login, password).filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\nmachine a.example login ann password one\nmachine b.example\n  login bob\n  password two\n\
                        machine b.example login eve password three default login any password four";

    #[test]
    fn a_netrc_file_is_read() {
        let found = |host, user| from_netrc(TEXT, host, user).map(|login| (login.user, login.password));
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(found("a.example", None), login("ann", "one"));
        assert_eq!(found("b.example", None), login("bob", "two"));
        assert_eq!(found("b.example", Some("eve")), login("eve", "three"));
        assert_eq!(found("c.example", None), login("any", "four"));
        assert_eq!(found("c.example", Some("zoe")), None);
        assert_eq!(from_netrc("", "a", None), None);
    }

    #[test]
    fn a_name_becomes_a_part_of_a_variable() {
        assert_eq!(variable(&SiteName::parse("oslo 2-ü").unwrap()), "OSLO_2__");
    }
}
