//! Every option of RocksDB that matters here, with its why. What is not named keeps RocksDB's
//! default, and was looked at.

use rocksdb::{
    BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options as RocksOptions,
    SliceTransform,
};

use crate::engine::Table;
use crate::keys::{INBOX_PREFIX_BYTES, MESSAGES_PREFIX_BYTES, META_PREFIX_BYTES};
use crate::options::Options;

/// Files in level 0 at which compaction begins, writes are slowed, and writes stop. `Pressure`
/// is told well below the second.
const LEVEL_0_COMPACT: i32 = 4;
pub(crate) const LEVEL_0_SLOWDOWN: i32 = 20;
const LEVEL_0_STOP: i32 = 36;

/// Bytes that compaction may be behind before writes are slowed, and stopped.
pub(crate) const PENDING_COMPACTION_SLOWDOWN: usize = 16 << 30;
const PENDING_COMPACTION_STOP: usize = 64 << 30;

/// Memtables of a table, the active one included; the last one full stops writes.
pub(crate) const MEMTABLES_MAX: i32 = 4;

/// Options of the database as a whole.
pub(crate) fn database(must_exist: bool, options: &Options) -> RocksOptions {
    let mut db = RocksOptions::default();
    // A directory that was made and has lost its database must not start empty.
    db.create_if_missing(!must_exist);
    // Nor may a table that was made and is not in the manifest any more.
    db.create_missing_column_families(!must_exist);
    // Read back and verify what is opened; a damaged file is an error now, not at midnight.
    db.set_paranoid_checks(true);
    // After a power loss: keep everything up to the first torn record, nothing behind it. That is
    // the prefix property all of recovery rests on. The default, spelled out for its weight.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A log that the manifest knows and the disk does not is an error, not a silent loss.
    db.set_track_and_verify_wals_in_manifest(true);
    // Tables may be flushed apart: a batch is atomic in the log, and the log of what is not
    // flushed is kept. Atomic flush would flush all four whenever one is full.
    db.set_atomic_flush(false);
    // A table that is hardly written (meta) would pin old logs; beyond this its memtable is
    // flushed. Twice the memtables, so that in the ordinary case fullness comes first.
    let memtables_bytes = 2 * options.memtable_bytes * MEMTABLES_MAX.unsigned_abs() as usize;
    db.set_max_total_wal_size(memtables_bytes as u64);
    // One writer thread writes: nothing to pipeline, and inserting one batch by several threads
    // does not exist. Off, the memtable needs no locks of its own.
    db.set_enable_pipelined_write(false);
    db.set_unordered_write(false);
    db.set_allow_concurrent_memtable_write(false);
    // The writer asks for the sync itself; the log is written at each batch.
    db.set_manual_wal_flush(false);
    // fdatasync suffices: logs and tables are preallocated or their size is in the data.
    db.set_use_fsync(false);
    // Writes back continuously what a flush or compaction produces, instead of in one burst that
    // the next sync of the log would wait behind.
    db.set_bytes_per_sync(1 << 20);
    // The log is synced by every group; in interval mode this smooths it.
    db.set_wal_bytes_per_sync(1 << 20);
    // A log file is written over an old one, whose blocks are allocated and whose size does not
    // change: its syncs need not wait for the file system's journal.
    db.set_recycle_log_file_num(4);
    // Descriptors are for connections.
    db.set_max_open_files(i32::from(options.open_files_max));
    db.set_is_fd_close_on_exec(true);
    db.set_max_background_jobs(i32::from(options.background_jobs));
    // Compaction of one range on several threads would take the reactors' processors.
    db.set_max_subcompactions(1);
    // Its own log: warnings only, few and small files.
    db.set_log_level(LogLevel::Warn);
    db.set_max_log_file_size(8 << 20);
    db.set_keep_log_file_num(4);
    db.set_stats_dump_period_sec(0);
    db
}

/// Options of one table.
pub(crate) fn table(table: Table, options: &Options, cache: &Cache) -> RocksOptions {
    let mut cf = base(table);
    let memtable_bytes = match table {
        Table::Messages | Table::Inbox => options.memtable_bytes,
        // Large, so that most records are trimmed before they would be flushed; and any table's
        // full memtable begins a new log file, which syncs have to wait for.
        Table::Journal => 2 * options.memtable_bytes,
        // Members change seldom.
        Table::Meta => options.memtable_bytes / 8,
    };
    // Larger is not better: an insert into 128 MiB misses the cache more often than into 16 MiB
    // (measured: 65,000 against 82,000 messages/s).
    cf.set_write_buffer_size(memtable_bytes);
    // One being filled, the others waiting: rides out a flush that waits for the disk.
    cf.set_max_write_buffer_number(MEMTABLES_MAX);
    cf.set_min_write_buffer_number_to_merge(1);
    cf.set_level_zero_file_num_compaction_trigger(LEVEL_0_COMPACT);
    cf.set_level_zero_slowdown_writes_trigger(LEVEL_0_SLOWDOWN);
    cf.set_level_zero_stop_writes_trigger(LEVEL_0_STOP);
    cf.set_soft_pending_compaction_bytes_limit(PENDING_COMPACTION_SLOWDOWN);
    cf.set_hard_pending_compaction_bytes_limit(PENDING_COMPACTION_STOP);
    // Level 1 as large as level 0 when it is compacted: the least write amplification.
    cf.set_max_bytes_for_level_base((4 * memtable_bytes) as u64);
    cf.set_target_file_size_base(memtable_bytes.max(8 << 20) as u64);
    cf.set_level_compaction_dynamic_level_bytes(true);
    // LZ4 where data is young and rewritten; zstd at the bottom, where it is written once and
    // most of it lies. Values stay in the tree: history is range scans.
    cf.set_compression_type(DBCompressionType::Lz4);
    cf.set_bottommost_compression_type(DBCompressionType::Zstd);
    cf.set_enable_blob_files(false);
    if let Some(prefix_bytes) = prefix_bytes(table) {
        // All reads are within one channel or user: the filter spares the files without it.
        cf.set_prefix_extractor(SliceTransform::create_fixed_prefix(prefix_bytes));
        // A fiftieth of the memtable for the same question to data not yet flushed.
        cf.set_memtable_prefix_bloom_ratio(0.02);
    }
    cf.set_block_based_table_factory(&blocks(table, cache));
    cf
}

/// RocksDB's defaults, and for messages a memtable that remembers of each channel where its last
/// one went in: the next belongs right behind it, so the search from the top is spared. (The
/// binding has no setter for this option.)
fn base(table: Table) -> RocksOptions {
    let mut defaults = RocksOptions::default();
    if table != Table::Messages {
        return defaults;
    }
    defaults
        .get_options_from_string(format!(
            "memtable_insert_with_hint_prefix_extractor=fixed:{MESSAGES_PREFIX_BYTES}"
        ))
        .expect("an option of RocksDB, spelled as it does")
}

/// Bytes that all keys of one channel or user share.
pub(crate) const fn prefix_bytes(table: Table) -> Option<usize> {
    match table {
        Table::Messages => Some(MESSAGES_PREFIX_BYTES),
        Table::Inbox => Some(INBOX_PREFIX_BYTES),
        Table::Meta => Some(META_PREFIX_BYTES),
        Table::Journal => None,
    }
}

fn blocks(table: Table, cache: &Cache) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    // One cache for all: its size is the bound on what reading costs in memory, so indexes and
    // filters are charged to it as well, and kept before data.
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // A page of history is some 100 messages of 100 bytes; larger blocks compress better.
    blocks.set_block_size(16 << 10);
    blocks.set_format_version(6);
    if prefix_bytes(table).is_some() {
        // 10 bits a key: one false answer in a hundred.
        blocks.set_bloom_filter(10.0, false);
        blocks.set_optimize_filters_for_memory(true);
    }
    // Messages are read by range, and single ones (sync) exist: only the prefix tells. The others
    // are looked up by whole keys that may be absent.
    blocks.set_whole_key_filtering(!matches!(table, Table::Messages));
    blocks
}
