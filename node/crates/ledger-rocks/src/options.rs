//! Settings of a database.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options,
};
use weft_ledger::kv::Column;

const MIB: usize = 1024 * 1024;

/// Values of at least this many bytes are kept in blob files, where the column says so.
const MIN_BLOB_BYTES: u64 = 1024;

/// A blob file ends at about this many bytes.
const BLOB_FILE_BYTES: u64 = 64 * MIB as u64;

/// Bits of a Bloom filter for each key: one look-up in a hundred of an absent key reads in vain.
const BLOOM_BITS: f64 = 10.0;

/// How much memory and how many files a database may use. Everything has a default that keeps
/// an idle node small; raise the sizes where one ledger has the machine to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Cache of uncompressed blocks of tables, their indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// What all columns together may hold in memory before it is written to tables, in bytes.
    pub write_buffer_bytes: usize,
    /// The size of the log at which the oldest columns are written to tables, in bytes. It
    /// bounds what must be read when the database is opened.
    pub wal_bytes: u64,
    /// How many files may be open.
    pub open_files: i32,
    /// How many threads write and merge tables.
    pub background_jobs: i32,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 8 * MIB,
            write_buffer_bytes: 16 * MIB,
            wal_bytes: 32 * MIB as u64,
            open_files: 256,
            background_jobs: 2,
        }
    }
}

/// What becomes of a database that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It is made.
    Make,
    /// It is an error: a lost `CURRENT` begins no new database over the files of the old one.
    Refuse,
}

impl RocksOptions {
    pub(crate) fn database(&self, absent: Absent) -> Options {
        let mut options = tracking();
        options.create_if_missing(absent == Absent::Make);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_db_write_buffer_size(self.write_buffer_bytes);
        options.set_max_total_wal_size(self.wal_bytes);
        options.set_max_open_files(self.open_files);
        options.set_max_background_jobs(self.background_jobs);
        // The database's own text log: a little, and not for ever.
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(MIB);
        options.set_keep_log_file_num(2);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options
    }

    pub(crate) fn columns(&self, columns: &[Column]) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        let descriptor = |column: &Column| {
            ColumnFamilyDescriptor::new(column.name(), self.column(*column, &cache))
        };
        columns.iter().map(descriptor).collect()
    }

    fn column(&self, column: Column, cache: &Cache) -> Options {
        let mut options = Options::default();
        options.set_block_based_table_factory(&tables(cache));
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(self.write_buffer_bytes / 2);
        // A column's memory grows by this much; most columns of most ledgers hold little.
        options.set_arena_block_size(64 * 1024);
        if column.large_values() {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(MIN_BLOB_BYTES);
            options.set_blob_file_size(BLOB_FILE_BYTES);
            options.set_blob_compression_type(DBCompressionType::Lz4);
        }
        options
    }
}

/// Options of which every new log says how its predecessor ended, so that the loss of an older
/// log's end is found in the newer one. The wrapper has no call for this one; RocksDB's own
/// parser knows it (since 10.1).
fn tracking() -> Options {
    Options::default().get_options_from_string("track_and_verify_wals=true").unwrap_or_default()
}

fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    // Indexes and filters count against the cache, so that memory does not grow with the chain.
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_bloom_filter(BLOOM_BITS, false);
    tables
}
