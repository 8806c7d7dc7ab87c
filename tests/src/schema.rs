//! What `docs/reference/json.md` says of every line of JSON, held against the lines that commands write.
//!
//! - **Owns** how the page's tables are read. They are the source of truth: nothing about fields stands here.
//!
//! # Invariants
//! - **J1** A line has every field that the page names for its type and command, but those marked `field?`, and no other.
//! - **J2** A field's value is of the type that the page's table of names gives.
//! - **J3** An object inside a line has a row of its own under the field's name, or that row says that its keys are names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::guide::repository;

/// The words of a row's first column.
type Words = Vec<String>;

/// The tables of the page.
#[derive(Debug)]
pub struct Schema {
    /// Type, commands, fields.
    types: Vec<(Words, Vec<Words>, Fields)>,
    /// Command, fields.
    summaries: Vec<(Words, Fields)>,
    /// Field, fields of the object that it holds; none if its keys are names.
    inside: BTreeMap<String, Option<Fields>>,
    /// Field, what its value may be.
    names: BTreeMap<String, BTreeSet<String>>,
}

/// The fields of a row: whether each may be missing.
#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<String, bool>);

impl Schema {
    /// The page of the repository.
    pub fn page() -> &'static Self {
        static PAGE: OnceLock<Schema> = OnceLock::new();
        PAGE.get_or_init(|| {
            let path = repository().join("docs/reference/json.md");
            Self::read(&std::fs::read_to_string(path).unwrap())
        })
    }

    fn read(page: &str) -> Self {
        let mut schema =
            Self { types: Vec::new(), summaries: Vec::new(), inside: BTreeMap::new(), names: BTreeMap::new() };
        let mut table = String::new();
        for line in page.lines() {
            let Some(row) = line.strip_prefix("| ") else { continue };
            let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
            let [first, second, rest @ ..] = cells.as_slice() else { continue };
            match (*first, *second) {
                ("type", "from") | ("of", "fields") | ("in", "its fields") | ("field", "is") => {
                    (*first).clone_into(&mut table);
                    continue;
                }
                _ => {}
            }
            match table.as_str() {
                "type" => {
                    let commands = quoted(second).iter().map(|command| words(command)).collect();
                    schema.types.push((quoted(first), commands, Fields::of(rest.first().unwrap_or(&""))));
                }
                "of" => {
                    for command in quoted(first) {
                        schema.summaries.push((words(&command), Fields::of(second)));
                    }
                }
                "in" => {
                    let fields = (!second.starts_with("by ")).then(|| Fields::of(second));
                    schema.inside.extend(quoted(first).into_iter().map(|name| (name, fields.clone())));
                }
                "field" => {
                    let kinds: BTreeSet<String> = second
                        .split([',', ';', ':'])
                        .next()
                        .unwrap()
                        .split(" or ")
                        .map(|kind| kind.trim().to_owned())
                        .collect();
                    schema.names.extend(quoted(first).into_iter().map(|name| (name, kinds.clone())));
                }
                _ => {}
            }
        }
        schema
    }

    /// What is wrong with a line that a command wrote with these arguments; nothing if all is well.
    pub fn faults(&self, arguments: &[String], line: &Value) -> Vec<String> {
        let Some(object) = line.as_object() else { return vec!["it is no object".to_owned()] };
        let Some(kind) = object.get("type").and_then(Value::as_str) else { return vec!["it has no type".to_owned()] };
        if kind == "blockhouse-receipt" {
            return Vec::new();
        }
        let found = if kind == "summary" { self.summary(arguments) } else { self.row(kind, arguments) };
        let Some(alternatives) = found else {
            return vec![format!("the page has no row for type `{kind}` of `{}`", arguments.join(" "))];
        };
        // A row that names several shapes of one type is met if any of them is.
        let judged = alternatives.iter().map(|fields| self.judge(fields, object, true));
        judged.min_by_key(Vec::len).unwrap_or_default()
    }

    fn summary(&self, arguments: &[String]) -> Option<Vec<&Fields>> {
        let fitting = self.summaries.iter().filter(|(command, _)| fits(command, arguments));
        fitting.max_by_key(|(command, _)| command.len()).map(|(_, fields)| vec![fields])
    }

    fn row(&self, kind: &str, arguments: &[String]) -> Option<Vec<&Fields>> {
        let rows = self.types.iter().filter(|(kinds, commands, _)| {
            kinds.iter().any(|it| it == kind) && commands.iter().any(|command| fits(command, arguments))
        });
        let rows: Vec<&Fields> = rows.map(|(_, _, fields)| fields).collect();
        (!rows.is_empty()).then_some(rows)
    }

    fn judge(&self, fields: &Fields, object: &Map<String, Value>, is_line: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, value) in object {
            if is_line && name == "type" {
                continue;
            }
            if !fields.0.contains_key(name) {
                faults.push(format!("the page does not name the field `{name}`"));
                continue;
            }
            faults.extend(self.value(name, value));
        }
        let missing = fields.0.iter().filter(|(name, is_optional)| !**is_optional && !object.contains_key(*name));
        faults.extend(missing.map(|(name, _)| format!("the field `{name}` of the page is missing")));
        faults
    }

    fn value(&self, name: &str, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(kinds) = self.names.get(name)
            && !kinds.iter().any(|kind| is_of(kind, value))
        {
            faults.push(format!("`{name}` is to be {kinds:?}, and is {value}"));
        }
        let objects: Vec<&Map<String, Value>> = match value {
            Value::Object(object) => vec![object],
            Value::Array(all) => all.iter().filter_map(Value::as_object).collect(),
            _ => Vec::new(),
        };
        for object in objects {
            match self.inside.get(name) {
                Some(Some(fields)) => faults
                    .extend(self.judge(fields, object, false).into_iter().map(|fault| format!("in `{name}`: {fault}"))),
                Some(None) => {}
                None => faults.push(format!("the page does not say what is in `{name}`")),
            }
        }
        faults
    }

    /// The fields that the page names and gives no type.
    pub fn without_type(&self) -> BTreeSet<String> {
        let of_types = self.types.iter().map(|(_, _, fields)| fields);
        let of_summaries = self.summaries.iter().map(|(_, fields)| fields);
        let all = of_types.chain(of_summaries).chain(self.inside.values().flatten());
        let named = all.flat_map(|fields| fields.0.keys().cloned());
        named.filter(|name| !self.names.contains_key(name)).collect()
    }

    /// The commands that have a row.
    pub fn commands(&self) -> BTreeSet<String> {
        let of_types = self.types.iter().flat_map(|(_, commands, _)| commands.clone());
        let all = of_types.chain(self.summaries.iter().map(|(command, _)| command.clone()));
        all.filter_map(|words| words.first().cloned()).collect()
    }
}

impl Fields {
    /// The quoted names outside of parentheses.
    fn of(cell: &str) -> Self {
        let mut plain = String::new();
        let mut depth = 0_usize;
        for letter in cell.chars() {
            match letter {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                letter if depth == 0 => plain.push(letter),
                _ => {}
            }
        }
        let names = quoted(&plain).into_iter().map(|name| match name.strip_suffix('?') {
            Some(name) => (name.to_owned(), true),
            None => (name, false),
        });
        Self(names.collect())
    }
}

/// What stands in backquotes.
fn quoted(text: &str) -> Words {
    text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

fn words(text: &str) -> Words {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// True if a command of the page is the one that was typed: its words come first, in order, its flags anywhere.
fn fits(command: &[String], arguments: &[String]) -> bool {
    let has = |flag: &str| {
        // Two spellings of one flag.
        let other = match flag {
            "--dry-run" => "-n".to_owned(),
            "--verbose" => "-v".to_owned(),
            "-o" => "--output".to_owned(),
            flag => flag.replacen('=', " ", 1),
        };
        let line = format!(" {} ", arguments.join(" "));
        arguments.iter().any(|it| it.starts_with(&format!("{flag}=")))
            || [flag, &other].iter().any(|it| line.contains(&format!(" {it} ")))
    };
    let mut plain = arguments.iter().filter(|word| !word.starts_with('-'));
    command.iter().all(|word| if word.starts_with('-') { has(word) } else { plain.next() == Some(word) })
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "true" => value.is_boolean(),
        "number" => value.is_u64() || value.is_i64(),
        "decimal" => value.is_number(),
        "text" => value.is_string(),
        "id" => value.as_str().is_some_and(|text| {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            digits.len() >= 40 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }),
        "list" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the page gives a field the unknown type `{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PAGE: &str = "\
| type | from | fields |
|---|---|---|
| `entry` | `ls` | `path`, `size` (bytes, `null` never), `target?` |
| `entry` | `other` | `id` |

| of | fields |
|---|---|
| `backup` | `files`, `durability` |
| `backup --dry-run`, `key add` | `known` |

| in | its fields |
|---|---|
| `durability` | `d` |
| `missing` | by site |

| field | is |
|---|---|
| `files`, `size`, `d` | number, bytes |
| `target` | text or null |
| `durability`, `missing` | object |
";

    fn faults(line: &str, value: &Value) -> usize {
        Schema::read(PAGE).faults(&words(line), value).len()
    }

    #[test]
    fn lines_have_what_the_page_names_and_nothing_else() {
        assert_eq!(faults("ls latest", &json!({ "type": "entry", "path": "a", "size": 1, "target": null })), 0);
        assert_eq!(faults("ls latest", &json!({ "type": "entry", "path": "a", "size": 1 })), 0);
        assert_eq!(faults("ls latest", &json!({ "type": "entry", "path": "a" })), 1);
        assert_eq!(faults("ls latest", &json!({ "type": "entry", "path": "a", "size": 1, "more": 1 })), 1);
        assert_eq!(faults("ls latest", &json!({ "type": "entry", "path": "a", "size": "1" })), 1);
        assert_eq!(faults("diff a b", &json!({ "type": "entry", "path": "a", "size": 1 })), 1);
        assert_eq!(faults("ls", &json!({ "path": "a" })), 1);
    }

    #[test]
    fn summaries_are_those_of_the_closest_command() {
        let (full, dry) = (
            json!({ "type": "summary", "files": 1, "durability": { "d": 1 } }),
            json!({ "type": "summary", "known": true }),
        );
        assert_eq!((faults("backup x", &full), faults("backup -n x", &dry), faults("key add x", &dry)), (0, 0, 0));
        assert!(faults("backup x", &dry) > 0 && faults("key x", &dry) > 0);
        assert_eq!(faults("backup", &json!({ "type": "summary", "files": 1, "durability": { "w": 1 } })), 2);
    }

    #[test]
    fn the_page_is_whole() {
        let without = Schema::page().without_type();
        assert!(
            without.is_empty(),
            "fields of docs/reference/json.md without a row in its table of names: {without:?}"
        );
    }
}
