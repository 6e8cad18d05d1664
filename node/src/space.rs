//! Room on the disk, looked at before there is none: below `min_free_mib` the node permits nothing and says so; below an eighth
//! of it the process ends, before a write is cut off in its middle, and starts again when there is room.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use tokio_util::sync::CancellationToken;

use crate::health::{Condition, Health};
use crate::order::Fatal;

const INTERVAL: Duration = Duration::from_secs(1);
/// What is left for writes that are under way.
const LAST_PART: u64 = 8;

/// MiB that an unprivileged process may still write below a folder.
pub fn free_mib(folder: &Path) -> Result<u64, Fatal> {
    let stat =
        statvfs(folder).map_err(|e| Fatal::Storage(format!("{}: free space: {e}", folder.display())))?;
    // Their widths differ between systems.
    #[allow(clippy::useless_conversion)]
    let (blocks, size) = (u64::from(stat.blocks_available()), u64::from(stat.fragment_size()));
    Ok(((u128::from(blocks) * u128::from(size)) >> 20) as u64)
}

/// Why there is too little room, and whether so little that the next write may find none.
fn too_little(folder: &Path, min_mib: u64) -> Result<Option<(String, bool)>, Fatal> {
    let free = free_mib(folder)?;
    Ok((free < min_mib).then(|| {
        let sentence =
            format!("{free} MiB are free in {}, min_free_mib is {min_mib}: make room", folder.display());
        (sentence, free < min_mib / LAST_PART)
    }))
}

/// A start without room is refused before a store is opened: a half-written one helps nobody.
pub fn check(folder: &Path, min_mib: u64) -> Result<(), Fatal> {
    match too_little(folder, min_mib)? {
        None => Ok(()),
        Some((sentence, _)) => Err(full(&sentence)),
    }
}

fn full(sentence: &str) -> Fatal {
    Fatal::Storage(format!("{}: {sentence}", Condition::DiskFull.word()))
}

/// Looks every second.
pub async fn watch(folder: PathBuf, min_mib: u64, health: Health, shutdown: CancellationToken) {
    loop {
        let looked = folder.clone();
        // A disk that doesn't answer must not hold up the others.
        match tokio::task::spawn_blocking(move || too_little(&looked, min_mib)).await {
            Ok(Ok(None)) => health.clear(Condition::DiskFull),
            Ok(Ok(Some((sentence, false)))) => health.report(Condition::DiskFull, sentence),
            Ok(Ok(Some((sentence, true)))) => health.fail(full(&sentence)),
            Ok(Err(fatal)) => health.fail(fatal),
            Err(_) => return,
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn too_little_room_is_said_with_both_numbers_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path(), 0).is_ok());
        let refused = check(folder.path(), u64::MAX).unwrap_err().to_string();
        assert!(refused.contains("disk-full") && refused.contains("min_free_mib"), "{refused}");
        assert!(check(Path::new("/nowhere/at/all"), 1).is_err());

        let free = free_mib(folder.path()).unwrap();
        let (health, shutdown) = (Health::default(), CancellationToken::new());
        shutdown.cancel();
        // Others write to this disk, too.
        watch(folder.path().into(), free * 4, health.clone(), shutdown.clone()).await;
        assert_eq!(health.reasons()[0].condition, Condition::DiskFull);
        watch(folder.path().into(), 0, health.clone(), shutdown.clone()).await;
        assert!(health.reasons().is_empty());
        // The last part: the process ends, and it's for want of room.
        watch(folder.path().into(), u64::MAX, health.clone(), shutdown.clone()).await;
        assert!(matches!(health.failed().await, Fatal::Storage(_)));
        assert_eq!(health.reasons()[0].condition, Condition::DiskFull);
        watch(folder.path().into(), 0, health.clone(), shutdown).await;
        assert!(!health.reasons().is_empty());
    }
}
