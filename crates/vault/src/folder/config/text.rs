//! The text of `config.toml` when it is written anew: what changed is changed, all else stays as its user wrote it.
//!
//! - **Owns** which comments and which order survive: those of every key and table whose value is as before.
//! - **Does not** decide what is written: the caller compares the result with what it meant.

use toml::Table as Plain;
use toml_edit::{DocumentMut, Item, Table};

/// The text `before` with the values of `after`; nothing if one of them is not TOML.
pub(super) fn merged(before: &str, after: &str) -> Option<String> {
    let mut document: DocumentMut = before.parse().ok()?;
    let wanted: DocumentMut = after.parse().ok()?;
    let (old, new): (Plain, Plain) = (before.parse().ok()?, after.parse().ok()?);
    merge(document.as_table_mut(), wanted.as_table(), (&old, &new));
    Some(document.to_string())
}

fn merge(table: &mut Table, wanted: &Table, (old, new): (&Plain, &Plain)) {
    let gone: Vec<String> =
        table.iter().map(|(key, _)| key.to_owned()).filter(|key| !wanted.contains_key(key)).collect();
    for key in &gone {
        table.remove(key);
    }
    for (key, item) in wanted {
        if old.get(key).is_some() && old.get(key) == new.get(key) {
            continue;
        }
        let values = (old.get(key).and_then(toml::Value::as_table), new.get(key).and_then(toml::Value::as_table));
        match (table.get_mut(key), item, values) {
            (Some(Item::Table(table)), Item::Table(wanted), (Some(old), Some(new))) => merge(table, wanted, (old, new)),
            _ => {
                table.insert(key, unplaced(item));
            }
        }
    }
}

/// A table of another document has no place in this one: without one it follows what it is put behind.
fn unplaced(item: &Item) -> Item {
    let mut item = item.clone();
    unplace(&mut item);
    item
}

fn unplace(item: &mut Item) {
    match item {
        Item::Table(table) => unplace_table(table),
        Item::ArrayOfTables(tables) => tables.iter_mut().for_each(unplace_table),
        Item::Value(_) | Item::None => {}
    }
}

fn unplace_table(table: &mut Table) {
    table.set_position(None);
    table.iter_mut().for_each(|(_, item)| unplace(item));
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# my vault
version = 1 # do not touch
list = [
  1, # one
]

[[sites]]
url = \"file:/a\" # the cellar

# what I back up at night
[profiles.night]
paths = [\"/home\"] # all of it
  [profiles.night.hooks]
  before = 'echo \"go\"'

[sources.aa]
name = \"x\"

# the end
";

    #[test]
    fn what_is_as_before_stays_as_it_was_written() {
        let value: Plain = BEFORE.parse().unwrap();
        assert_eq!(merged(BEFORE, &toml::to_string_pretty(&value).unwrap()).unwrap(), BEFORE);
    }

    #[test]
    fn what_changed_is_changed_and_nothing_else() {
        let mut value: Plain = BEFORE.parse().unwrap();
        let sources = value["sources"].as_table_mut().unwrap();
        sources["aa"].as_table_mut().unwrap().insert("host".into(), "h".into());
        sources.insert("bb".into(), Plain::from_iter([("name".to_owned(), "y".into())]).into());
        value["list"] = toml::Value::Array(vec![2.into()]);
        let text = merged(BEFORE, &toml::to_string_pretty(&value).unwrap()).unwrap();
        assert_eq!(text.parse::<Plain>().unwrap(), value, "{text}");
        for kept in [
            "# my vault",
            "# do not touch",
            "# the cellar",
            "# what I back up at night",
            "# all of it",
            "'echo \"go\"'",
        ] {
            assert!(text.contains(kept), "{kept}:\n{text}");
        }
        value.remove("profiles");
        value["sites"].as_array_mut().unwrap().push(Plain::from_iter([("url".to_owned(), "file:/b".into())]).into());
        let text = merged(&text, &toml::to_string_pretty(&value).unwrap()).unwrap();
        assert_eq!(text.parse::<Plain>().unwrap(), value, "{text}");
    }

    #[test]
    fn what_is_no_toml_is_not_merged() {
        assert_eq!(merged("a = ", "a = 1"), None);
    }
}
