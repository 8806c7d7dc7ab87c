//! Values as people read them, and texts as values.

use blockhouse_sources::files::decode_root_name;
use blockhouse_types::EntryKind;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

/// A moment of the ledger, as text.
pub(crate) fn moment(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    stamp.map_or_else(|| format!("@{seconds}"), |stamp| stamp.to_string())
}

/// A path as text: itself where it can stand on one line, else with escapes.
pub(crate) fn path(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// A path in a snapshot's tree as text, its root as the path that was backed up.
pub(crate) fn tree_path(bytes: &[u8]) -> String {
    let (root, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len()));
    match decode_root_name(root) {
        Ok(root) => path(&[&root[..], rest].concat()),
        Err(_) => path(bytes),
    }
}

/// The beginning of an id, enough to name it by.
pub(crate) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(12).collect()
}

/// A number of things: `1 file`, `2 files`.
pub(crate) fn count(number: impl Into<u64>, thing: &str) -> String {
    match number.into() {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// How many sites may vanish, as the beginning of a sentence about it: `any 2 sites`, `no site`.
pub(crate) fn any_sites(number: u16) -> String {
    if number == 0 { "no site".to_owned() } else { format!("any {}", count(number, "site")) }
}

/// Bytes in the unit that suits.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Why a text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no time: write 2026-01-31, 2026-01-31T18:00, 2026-01-31T18:00:00Z or @SECONDS")]
pub(crate) struct TimeError {
    text: String,
}

/// Reads a time: with a zone, or in the zone of this host; a day alone means its end.
pub(crate) fn parse_time(text: &str) -> Result<u64, TimeError> {
    let failed = || TimeError { text: text.to_owned() };
    let seconds = |stamp: Timestamp| u64::try_from(stamp.as_second()).map_err(|_| failed());
    if let Some(digits) = text.strip_prefix('@') {
        return digits.parse().map_err(|_| failed());
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return seconds(stamp);
    }
    let local = |time: civil::DateTime| TimeZone::system().to_timestamp(time).map_err(|_| failed());
    if text.len() == "2026-01-31".len() {
        let day: civil::Date = text.parse().map_err(|_| failed())?;
        return seconds(local(day.at(23, 59, 59, 0))?);
    }
    seconds(local(text.parse().map_err(|_| failed())?)?)
}

/// Checks a tag.
pub(crate) fn parse_tag(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() && !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("`{}` is no tag: write KEY=VALUE", text.escape_debug())),
    }
}

/// The letter of a kind of entry, as `ls` shows it.
pub(crate) const fn letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::Directory => 'd',
        EntryKind::File => '-',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Socket => 's',
        EntryKind::Unreadable => '?',
    }
}

/// How long ago something was, in words: `3 hours ago`.
pub(crate) fn age(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    let (number, unit) = match seconds {
        0..3600 => return "less than an hour ago".to_owned(),
        3600..DAY => (seconds / 3600, "hour"),
        _ => (seconds / DAY, "day"),
    };
    format!("{} ago", count(number, unit))
}

/// Reads how many are kept; `all` keeps everything.
pub(crate) fn parse_count(text: &str) -> Result<u32, String> {
    match text {
        "all" => Ok(u32::MAX),
        text => text.parse().map_err(|_| format!("`{text}` is no number: write one, or `all`")),
    }
}

/// Reads a duration: a number and `min`, `h`, `d`, `w` or `y` (365 days). Months differ, so they have no letter.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    let end = text.find(|other: char| !other.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        "y" => 31_536_000,
        _ => 0,
    };
    let seconds = number.parse::<u64>().ok().filter(|_| unit != 0).and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| *seconds <= 1_000 * 31_536_000)
        .ok_or_else(|| format!("`{text}` is no duration: write a number with s, min, h, d, w or y, as in 30d"))
}

/// Reads a number of bytes: alone, or with K, M, G or T for powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let failed = || format!("`{text}` is no size: write a whole number, alone or with K, M, G or T");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(failed()),
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(failed)
}

/// Reads a share in percent as hundredths of a percent.
pub(crate) fn parse_percent(text: &str) -> Result<u16, String> {
    let failed = || format!("`{text}` is no share: write a number above 0 and up to 100, with at most two decimals");
    let (whole, part) = text.trim_end_matches('%').split_once('.').unwrap_or((text.trim_end_matches('%'), ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 2 || !is_number(whole) || !is_number(part) {
        return Err(failed());
    }
    let points: u16 = format!("{whole}{part:0<2}").parse().map_err(|_| failed())?;
    if (1..=10_000).contains(&points) { Ok(points) } else { Err(failed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(["0 files", "1 file", "2 files"], [0_u64, 1, 2].map(|number| count(number, "file")));
        assert_eq!(["no site", "any 1 site", "any 2 sites"], [0, 1, 2].map(any_sites));
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_time("@12"), Ok(12));
        assert_eq!(parse_time("1970-01-02T00:00:00Z"), Ok(86_400));
        assert_eq!(parse_time("1970-01-02T01:00:00+01:00"), Ok(86_400));
        let end = parse_time("2026-01-31").unwrap();
        assert_eq!(parse_time("2026-01-31T23:59:59"), Ok(end));
        for text in ["", "@", "@x", "yesterday", "2026-13-01", "2026-01-31T", "1969-01-01T00:00:00Z"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(
            ["0", "90s", "90min", "2w", "1y"].map(parse_duration),
            [Ok(0), Ok(90), Ok(5_400), Ok(1_209_600), Ok(31_536_000)]
        );
        for text in ["", "d", "3", "3m", "-1d", "1.5d", "99999999999999999999y", "2000y", "3d "] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!((parse_count("all"), parse_count("7")), (Ok(u32::MAX), Ok(7)));
        assert!(parse_count("-1").is_err() && parse_count("many").is_err());
    }

    #[test]
    fn shares_are_hundredths_of_a_percent() {
        assert_eq!(parse_percent("100"), Ok(10_000));
        assert_eq!(parse_percent("2.5%"), Ok(250));
        assert_eq!(parse_percent("0.01"), Ok(1));
        for text in ["", "0", "100.01", "101", "-1", "1.234", "x", "1.x", ".5"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_told_in_their_largest_unit() {
        let told = [0, 3599, 3600, 7200, 86_399, 86_400, 900_000].map(age);
        let hour = "less than an hour ago";
        let expected = [hour, hour, "1 hour ago", "2 hours ago", "23 hours ago", "1 day ago", "10 days ago"];
        assert_eq!(told, expected);
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "500", "10K", "4m", "2GiB", "1T"].map(|text| parse_size(text).unwrap());
        assert_eq!(sizes, [0, 500, 10 << 10, 4 << 20, 2 << 30, 1 << 40]);
        for text in ["", "K", "1X", "-1", "1.5G", "99999999999999999999", "20000000T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tags_have_a_key() {
        assert!(parse_tag("k=v").is_ok() && parse_tag("k=").is_ok());
        for text in ["", "k", "=v", "k=\n"] {
            assert!(parse_tag(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_stand_on_one_line() {
        assert_eq!(path(b"a/\xc3\xa9"), "a/é");
        assert_eq!(path(b"a\nb"), "a\\nb");
        assert_eq!(path(b"\xff"), "\\xff");
        assert_eq!(tree_path(b"%2Fhome%2Fa/b%2Fc"), "/home/a/b%2Fc");
        assert_eq!(tree_path(b"plain/b"), "plain/b");
    }
}
