//! C: what the disk does to one node.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::Rng;

use super::super::look::get;
use super::super::world::{World, POLL};
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::error::{failed, Error, While};

/// Free space on the small disk: what a node wants to be left (`min_free_mib`, 128), and what its stores reserve for their logs.
const SPACE_BYTES: u64 = 256 << 20;
/// How soon a node with a full disk must not be ready.
const NOT_READY_LIMIT: f64 = 5.0;
/// How soon it must be back once there is space.
const BACK_LIMIT: f64 = 30.0;
/// How long a full disk is left full, so that the supervisor tries in vain at least once.
const FULL: Duration = Duration::from_secs(8);

/// C1.
pub async fn truncate_log(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let mut worst = 0f64;
    for _ in 0..3 {
        let victim = world.one_of(&world.organizations());
        let others = world.others(&[&victim]);
        world.nodes.kill(&victim)?;
        let wal = world.network.node(&victim)?.data.join("consensus/wal/consensus.wal");
        let doing = || format!("cutting {}", wal.display());
        let file = OpenOptions::new().write(true).open(&wal).during(doing)?;
        let length = file.metadata().during(doing)?.len();
        let cut = world.rng.gen_range(1..=length.clamp(1, 200));
        file.set_len(length.saturating_sub(cut)).during(doing)?;
        eprintln!("     {victim}: {cut} of {length} bytes cut");
        let height = world.height(&others[0]).await?;
        world.nodes.start(&victim)?;
        worst = worst.max(world.wait_back(&victim, height).await?);
        world.heal("its log was cut, through it", &[victim], HEAL_LIMIT).await?;
    }
    Ok(worst)
}

/// A small disk, mounted over a folder; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, bytes: u64) -> Result<Self, Error> {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "assent-chaos"])
            .arg(folder)
            .stderr(std::process::Stdio::null())
            .status()
            .during(|| "mounting a small disk".into())?;
        match status.success() {
            true => Ok(Self(folder.to_owned())),
            false => failed("a small disk can't be mounted here: C3 needs root"),
        }
    }
}

/// Root may not be allowed to either, in a container.
pub fn can_mount(dir: &Path) -> Result<(), Error> {
    let folder = dir.join("small-disk");
    std::fs::create_dir_all(&folder).during(|| format!("making {}", folder.display()))?;
    SmallDisk::mount(&folder, SPACE_BYTES).map(drop)
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node may still be ending.
        if !Command::new("umount").arg("-l").arg(&self.0).status().is_ok_and(|status| status.success()) {
            eprintln!("     {} is still mounted: umount it", self.0.display());
        }
    }
}

/// C3.
pub async fn fill(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    let victim = world.one_of(&world.organizations());
    let others = world.others(&[&victim]);
    let node = world.network.node(&victim)?.clone();
    // The node's folder moves to the small disk, and back at the end, so that it is searched like the others.
    world.nodes.stop(&victim).await?;
    let aside = node.data.with_file_name("data.aside");
    rename(&node.data, &aside)?;
    std::fs::create_dir(&node.data).during(|| format!("making {}", node.data.display()))?;
    let disk = SmallDisk::mount(&node.data, size_of(&aside)? + SPACE_BYTES)?;
    move_all(&aside, &node.data)?;
    let height = world.height(&others[0]).await?;
    world.nodes.start(&victim)?;
    world.wait_back(&victim, height).await?;
    tokio::time::sleep(BEFORE).await;

    world.nodes.expect(&victim, 7)?;
    let before = world.nodes.exits_of(&victim).len();
    let ballast = node.data.join("ballast");
    let seconds = async {
        fill_up(&ballast)?;
        let full = Instant::now();
        let mut not_ready = None;
        while full.elapsed() < FULL || (not_ready.is_none() && full.elapsed().as_secs_f64() < BACK_LIMIT) {
            let page = get(&node.admin, "/readyz").await.unwrap_or_default();
            if not_ready.is_none() && !page.starts_with(b"HTTP/1.1 200") {
                not_ready = Some(full.elapsed().as_secs_f64());
            }
            tokio::time::sleep(POLL).await;
        }
        match not_ready {
            Some(seconds) if seconds <= NOT_READY_LIMIT => {}
            Some(seconds) => world.wrong(format!("{victim} was ready for {seconds:.1} s with a full disk")),
            None => world.wrong(format!("{victim} stayed ready with a full disk")),
        }
        let exits = world.nodes.exits_of(&victim).split_off(before);
        eprintln!("     {victim} not ready after {not_ready:?} s, exits {exits:?}");
        if exits.is_empty() || exits.iter().any(|code| *code != 7) {
            world.wrong(format!("{victim} ended with {exits:?} on a full disk, not with 7"));
        }
        world.heal("one disk was full, through the others", &others, HEAL_LIMIT).await?;
        let height = world.height(&others[0]).await?;
        std::fs::remove_file(&ballast).during(|| "freeing the disk".into())?;
        let seconds = world.wait_back(&victim, height).await?;
        if seconds > BACK_LIMIT {
            world.wrong(format!(
                "{victim} was back {seconds:.1} s after there was space, limit {BACK_LIMIT} s"
            ));
        }
        world.heal("there was space again, through it", std::slice::from_ref(&victim), HEAL_LIMIT).await?;
        Ok::<_, Error>(seconds)
    }
    .await;
    // Back to the large disk, whatever happened.
    world.nodes.stop(&victim).await?;
    move_all(&node.data, &aside)?;
    drop(disk);
    std::fs::remove_dir(&node.data).during(|| "removing the mount point".into())?;
    rename(&aside, &node.data)?;
    world.nodes.start(&victim)?;
    seconds
}

/// Writes until there is no space left.
fn fill_up(ballast: &Path) -> Result<(), Error> {
    let mut file = std::fs::File::create(ballast).during(|| "filling the disk".into())?;
    let mut piece = vec![0xA5; 1 << 20];
    loop {
        match file.write(&piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull && piece.len() > 1 => {
                piece.truncate(piece.len() / 2);
            }
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return failed(format!("filling the disk: {error}")),
        }
    }
}

/// Bytes that a folder takes on a disk of 4 KiB blocks.
fn size_of(folder: &Path) -> Result<u64, Error> {
    let mut bytes = 4096;
    for entry in std::fs::read_dir(folder).during(|| format!("looking at {}", folder.display()))?.flatten() {
        let path = entry.path();
        bytes += match path.is_dir() {
            true => size_of(&path)?,
            false => {
                let length = entry.metadata().during(|| format!("looking at {}", path.display()))?.len();
                length.next_multiple_of(4096)
            }
        };
    }
    Ok(bytes)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).during(|| format!("moving {} to {}", from.display(), to.display()))
}

/// Moves a folder's content to another disk.
fn move_all(from: &Path, to: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(from).during(|| format!("looking at {}", from.display()))?.flatten() {
        let status = Command::new("mv").arg("-t").arg(to).arg(entry.path()).status();
        if !status.is_ok_and(|status| status.success()) {
            return failed(format!("{} could not be moved", entry.path().display()));
        }
    }
    Ok(())
}
