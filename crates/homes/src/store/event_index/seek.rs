//! The search for places that have several keys at once.
//!
//! The lists are asked in turn for their first place from the furthest one on that any of them has named: what one of them does not have, the
//! others are not asked for one by one. Each key's rows are read by a cursor that steps on while what is sought is near: a step costs a small part
//! of a look-up, which goes down the tree.

use redb::Range;

use super::super::error::Fault;
use super::{EventPlace, EventTable, Order, ROW, Sought, Tag, Wanted, place_of, row};

/// How many rows a cursor steps over before it looks the place up: about the price of one look-up.
const STEPS: usize = 16;

/// The first place from `from` on, itself included, that has what is wanted. Each place that a key is asked for takes one of `work`.
pub(in super::super) fn seek(
    table: &EventTable,
    wanted: &Wanted,
    from: EventPlace,
    order: Order,
    work: &mut u64,
) -> Result<Sought, Fault> {
    let cursors = |tags: &Vec<Tag>| tags.iter().map(|tag| Cursor::new(table, *tag, order)).collect::<Vec<_>>();
    let mut lists: Vec<_> = wanted.0.iter().map(cursors).collect();
    let (mut place, mut agreed, count) = (from, 0, lists.len());
    for at in (0..count).cycle() {
        let Some(list) = lists.get_mut(at) else { break };
        if agreed == count {
            return Ok(Sought::At(place));
        }
        let Some(left) = work.checked_sub(list.len() as u64) else {
            *work = 0;
            return Ok(Sought::Spent(place));
        };
        *work = left;
        match nearest(list, place, order)? {
            None => return Ok(Sought::Nowhere),
            Some(found) if found == place => agreed += 1,
            Some(found) => {
                place = place.further(found, order);
                agreed = 1;
            }
        }
    }
    Ok(Sought::Nowhere)
}

/// The first place from `from` on that one of these keys has.
fn nearest(list: &mut [Cursor<'_>], from: EventPlace, order: Order) -> Result<Option<EventPlace>, Fault> {
    let mut nearest: Option<EventPlace> = None;
    for cursor in list {
        if let Some(found) = cursor.advance(from)? {
            let is_nearer = nearest.is_none_or(|nearest| found.further(nearest, order) == nearest);
            nearest = if is_nearer { Some(found) } else { nearest };
        }
    }
    Ok(nearest)
}

/// The rows of one key, read in one direction.
struct Cursor<'a> {
    table: &'a EventTable,
    tag: Tag,
    order: Order,
    rows: Option<Rows>,
}

/// Where a cursor is.
struct Rows {
    /// Those behind the place.
    rest: Range<'static, &'static [u8; ROW], ()>,
    /// The first place that was not passed; none at the end.
    at: Option<EventPlace>,
}

impl<'a> Cursor<'a> {
    const fn new(table: &'a EventTable, tag: Tag, order: Order) -> Self {
        Self { table, tag, order, rows: None }
    }

    /// The first place from `from` on. What a cursor was asked for before was never further.
    fn advance(&mut self, from: EventPlace) -> Result<Option<EventPlace>, Fault> {
        if let Some(rows) = &mut self.rows {
            for _ in 0..STEPS {
                match rows.at {
                    Some(at) if at.further(from, self.order) != at => rows.at = next(&mut rows.rest, self.order)?,
                    found => return Ok(found),
                }
            }
        }
        let (least, greatest) = match self.order {
            Order::Newest => (row(self.tag, EventPlace(0)), row(self.tag, from)),
            Order::Oldest => (row(self.tag, from), row(self.tag, EventPlace(u64::MAX))),
        };
        let mut rest = self.table.range::<&[u8; ROW]>(&least..=&greatest)?;
        let at = next(&mut rest, self.order)?;
        self.rows = Some(Rows { rest, at });
        Ok(at)
    }
}

fn next(rows: &mut Range<'static, &'static [u8; ROW], ()>, order: Order) -> Result<Option<EventPlace>, Fault> {
    let row = match order {
        Order::Newest => rows.next_back(),
        Order::Oldest => rows.next(),
    };
    Ok(row.transpose()?.map(|(key, _)| place_of(key.value())))
}
