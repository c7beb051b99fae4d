//! The engine on RocksDB.

use std::ops::ControlFlow;
use std::path::Path;

use rocksdb::properties::{
    ACTUAL_DELAYED_WRITE_RATE, BLOCK_CACHE_USAGE, ESTIMATE_PENDING_COMPACTION_BYTES,
    IS_WRITE_STOPPED, NUM_IMMUTABLE_MEM_TABLE, SIZE_ALL_MEM_TABLES, num_files_at_level,
};
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, Error, ErrorKind, ReadOptions, WriteBatch,
    WriteOptions,
};

use crate::engine::{Direction, Engine, Load, Op, Ops, Table, Visit};
use crate::error::EngineError;
use crate::keys::{KeyBuf, KeyRange};
use crate::mark::Durable;
use crate::options::Options;
use crate::rocks_options;

/// RocksDB.
pub struct Rocks {
    db: DB,
    synced: WriteOptions,
    unsynced: WriteOptions,
    /// `None` without a data directory around it, as in tests.
    durable: Option<Durable>,
}

impl Rocks {
    /// Opens the database in `path`; makes it unless it `must_exist`.
    ///
    /// # Errors
    /// RocksDB's own: damaged files, tables that are missing, another version, no space.
    pub fn open(path: &Path, must_exist: bool, options: &Options) -> Result<Self, EngineError> {
        let database = rocks_options::database(must_exist, options);
        let db =
            DB::open_cf_descriptors(&database, path, families(options)).map_err(engine_error)?;
        let (mut synced, mut unsynced) = (WriteOptions::default(), WriteOptions::default());
        synced.set_sync(true);
        unsynced.set_sync(false);
        Ok(Self { db, synced, unsynced, durable: None })
    }

    /// Through which change `open` would recover the database in `path`: recovers it in memory and
    /// changes nothing. Takes as long as recovering.
    ///
    /// # Errors
    /// As for `open`.
    pub(crate) fn last_change_on_disk(path: &Path, options: &Options) -> Result<u64, EngineError> {
        let database = rocks_options::database(true, options);
        let families = families(options);
        DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map(|db| db.latest_sequence_number())
            .map_err(engine_error)
    }

    /// Marks every write from now on, and notes in `durable` what is on the disk.
    pub(crate) fn set_durable(&mut self, durable: Durable) {
        self.durable = Some(durable);
    }

    /// The last change. RocksDB counts them, over all tables and runs.
    pub(crate) fn last_change(&self) -> u64 {
        self.db.latest_sequence_number()
    }

    /// Everything that was written is on the disk. One thread writes, so nothing came after it.
    fn note_durable(&self) {
        if let Some(durable) = &self.durable {
            durable.advance(self.last_change());
        }
    }

    fn table(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table is opened with the database")
    }

    /// The highest value of a property over the tables; 0 where RocksDB does not say.
    fn property_max(&self, name: &rocksdb::properties::PropName) -> u64 {
        let value = |table| self.db.property_int_value_cf(self.table(table), name).ok().flatten();
        Table::ALL.into_iter().filter_map(value).max().unwrap_or(0)
    }
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rocks").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl Engine for Rocks {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.db.get_cf(self.table(table), key).map_err(engine_error)
    }

    fn get_many(&self, table: Table, keys: &[KeyBuf]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        let sorted = keys.is_sorted();
        self.db
            .batched_multi_get_cf(self.table(table), keys, sorted)
            .into_iter()
            .map(|record| Ok(record.map_err(engine_error)?.map(|record| record.to_vec())))
            .collect()
    }

    fn scan(
        &self,
        table: Table,
        range: KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        if range.from >= range.to {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        // Bounds let RocksDB stop inside its own iterators: without them a scan that ends at the
        // last key walks over whatever deletions lie behind it.
        options.set_iterate_lower_bound(range.from.as_ref());
        options.set_iterate_upper_bound(range.to.as_ref());
        // The filter may be asked only where the whole range has one prefix.
        options.set_total_order_seek(!has_one_prefix(table, &range));
        options.set_auto_readahead_size(true);
        let mut iterator = self.db.raw_iterator_cf_opt(self.table(table), options);
        match direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Backward => iterator.seek_to_last(),
        }
        while let Some((key, record)) = iterator.item() {
            if visit(key, record) == ControlFlow::Break(()) {
                return Ok(());
            }
            match direction {
                Direction::Forward => iterator.next(),
                Direction::Backward => iterator.prev(),
            }
        }
        iterator.status().map_err(engine_error)
    }

    fn write(&self, groups: &mut dyn Iterator<Item = &Ops>, sync: bool) -> Result<(), EngineError> {
        // RocksDB takes the batch by value, so its buffer cannot be kept; one allocation a group.
        let mut batch = WriteBatch::new();
        // First of all: there the walk looks for it.
        if let Some(durable) = &self.durable {
            batch.put_log_data(durable.blob());
        }
        for op in groups.flat_map(Ops::iter) {
            match op {
                Op::Put { table, key, value } => batch.put_cf(self.table(table), key, value),
                Op::DeleteRange { table, from, to } => {
                    batch.delete_range_cf(self.table(table), from, to);
                }
            }
        }
        let options = if sync { &self.synced } else { &self.unsynced };
        self.db.write_opt(batch, options).map_err(engine_error)?;
        if sync {
            self.note_durable();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.db.flush_wal(true).map_err(engine_error)?;
        self.note_durable();
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        let memtables: u64 = Table::ALL
            .into_iter()
            .filter_map(|table| {
                let table = self.table(table);
                self.db.property_int_value_cf(table, SIZE_ALL_MEM_TABLES).ok().flatten()
            })
            .sum();
        // One cache for all tables: any of them tells.
        let cache = self.db.property_int_value_cf(self.table(Table::Messages), BLOCK_CACHE_USAGE);
        memtables + cache.ok().flatten().unwrap_or(0)
    }

    fn load(&self) -> Load {
        let database = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        Load {
            level_0_files: Table::ALL
                .into_iter()
                .filter_map(|table| {
                    let text = self.db.property_value_cf(self.table(table), num_files_at_level(0));
                    text.ok().flatten()?.parse().ok()
                })
                .max()
                .unwrap_or(0),
            immutable_memtables: self.property_max(NUM_IMMUTABLE_MEM_TABLE),
            pending_compaction_bytes: self.property_max(ESTIMATE_PENDING_COMPACTION_BYTES),
            write_stalled: database(IS_WRITE_STOPPED) + database(ACTUAL_DELAYED_WRITE_RATE) > 0,
        }
    }
}

/// The tables, as RocksDB wants to know them when it opens.
fn families(options: &Options) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(options.block_cache_bytes);
    let family = |name: &str, table| {
        ColumnFamilyDescriptor::new(name, rocks_options::table(table, options, &cache))
    };
    // RocksDB always has this one. With its own options its memtable of 64 MiB would count: so
    // much space would have to be free before RocksDB resumes after a full disk.
    let unused = family(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Table::Meta);
    let tables = Table::ALL.into_iter().map(|table| family(table.name(), table));
    tables.chain([unused]).collect()
}

fn has_one_prefix(table: Table, range: &KeyRange) -> bool {
    rocks_options::prefix_bytes(table).is_some_and(|bytes| {
        let from = range.from.as_ref().get(..bytes);
        from.is_some() && from == range.to.as_ref().get(..bytes)
    })
}

fn engine_error(error: Error) -> EngineError {
    let kind = error.kind();
    let text = error.into_string();
    // RocksDB's C interface keeps the kind in words only.
    if text.contains("No space left on device") || text.contains("NoSpace") {
        return EngineError::NoSpace(text);
    }
    // A file that the database's own files name and that is gone.
    let is_missing = text.contains("No such file or directory");
    match kind {
        ErrorKind::Corruption => EngineError::Corrupt(text),
        ErrorKind::IOError if is_missing => EngineError::Corrupt(text),
        _ => EngineError::Failed(text),
    }
}
