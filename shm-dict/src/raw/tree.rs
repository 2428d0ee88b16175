//! A record that was cut off is taken back with all that is in it.
//!
//! Killed on the way, nothing leads to what is left, and the next rebuild finds it.

use super::array::Array;
use super::table::table_bytes;
use super::{Container, Damaged, Item, Kind, MAX_DEPTH, Record, TableWord, Writer};

/// What may still be taken back: a damaged heap must not keep anybody for ever.
struct Left {
    words: usize,
    depth: u32,
}

impl Left {
    fn of(writer: &Writer<'_>) -> Self {
        Self {
            words: writer.dict.heap.len(),
            depth: MAX_DEPTH,
        }
    }

    /// For what is inside of a container.
    fn deeper(&mut self, container: &Container<'_>) -> Result<(), Damaged> {
        self.depth = self.depth.checked_sub(1).ok_or(Damaged {
            field: "depth of a container",
            value: container.id(),
        })?;
        Ok(())
    }
}

impl<'a> Writer<'a> {
    /// Takes a record back, and what is in it.
    #[inline]
    pub(super) fn free_record(&self, unit: u64, record: Record<'a>) -> Result<(), Damaged> {
        if let Some(container) = record.container() {
            self.free_container(&container, &mut Left::of(self))?;
        }
        self.free(unit, record.bytes())
    }

    /// Takes back what a list's items lead to.
    pub(super) fn free_items(&self, items: impl Iterator<Item = Item>) -> Result<(), Damaged> {
        self.free_all(items.filter_map(Item::unit), &mut Left::of(self))
    }

    /// Takes a table back, and the records that it leads to.
    pub(super) fn free_map(&self, table: TableWord) -> Result<(), Damaged> {
        self.free_table(table, &mut Left::of(self))
    }

    #[cold]
    fn free_container(&self, container: &Container<'a>, left: &mut Left) -> Result<(), Damaged> {
        left.deeper(container)?;
        let root = container.home()?.table_word();
        match container.shape()?.kind {
            Kind::Map => self.free_table(root, left)?,
            Kind::List => self.free_array(root, left)?,
        }
        left.depth += 1;
        Ok(())
    }

    fn free_table(&self, root: TableWord, left: &mut Left) -> Result<(), Damaged> {
        let Some((unit, log)) = root.table() else {
            return Ok(());
        };
        let table = self.dict.table(unit, log)?;
        self.free_all(table.live().map(|entry| entry.unit()), left)?;
        self.free(unit, table_bytes(log))
    }

    fn free_array(&self, root: TableWord, left: &mut Left) -> Result<(), Damaged> {
        let Some(array) = Array::at(self.dict, root)? else {
            return Ok(());
        };
        self.free_all(array.items()?.filter_map(Item::unit), left)?;
        self.free_block_of(root)
    }

    fn free_all(&self, units: impl Iterator<Item = u64>, left: &mut Left) -> Result<(), Damaged> {
        for unit in units {
            let record = self.dict.record(unit)?;
            record.count_down(unit, &mut left.words)?;
            if let Some(container) = record.container() {
                self.free_container(&container, left)?;
            }
            self.free(unit, record.bytes())?;
        }
        Ok(())
    }

    /// Takes back the block that a root leads to, and nothing else.
    pub(super) fn free_block_of(&self, root: TableWord) -> Result<(), Damaged> {
        match root.table() {
            Some((unit, log)) => self.free(unit, table_bytes(log)),
            None => Ok(()),
        }
    }
}
