//! `assentd`: one organization's node.

/// Also for RocksDB's own memory (feature `override`): between its blocks and ours glibc's allocator keeps half as much again that
/// nobody uses, more by the hour.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    assent_node::daemon::main()
}
