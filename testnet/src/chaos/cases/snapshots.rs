//! C10: snapshots with a wrong root, a missing or an oversized chunk (`assentd --lie snapshot:…`). Who joins refuses them with the reason, asks
//! another peer and finishes.

use std::time::Duration;

use super::super::look::whole;
use super::super::world::World;
use super::crash::HEAL_LIMIT;
use super::governing::reached;
use super::liars::{corrupt, liar, Since};
use super::pruning::{set, LAG_HEIGHTS};
use crate::error::{Error, While};

/// Load before: a ledger that is worth a snapshot.
const LOAD: Duration = Duration::from_secs(20);
/// Blocks that it has at least.
const BLOCKS: u64 = 3 * LAG_HEIGHTS;
/// How often it has to join, until the liar was connected in time to be asked first.
const MAX_JOINS: usize = 4;
/// Lies, and the reasons that a refusal may name.
const LIES: [(&str, &[&str]); 3] = [
    ("snapshot:root", &["state-root"]),
    ("snapshot:missing", &["short"]),
    ("snapshot:oversized", &["oversized"]),
];

/// C10.
pub async fn bad_snapshots(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(LOAD).await;
    let liar = liar(world);
    let others = world.others(&[&liar]);
    let joiner = world.one_of(&others);
    let witness = world.others(&[&liar, &joiner]).remove(0);
    reached(world, &witness, BLOCKS).await?;
    // The writes end: S3 looks at all nodes, and the joiner's ledger is emptied again and again.
    if let Some(load) = world.load.take() {
        load.stop().await;
    }
    world.settle().await?;
    let mut worst = 0f64;
    for (lie, reasons) in LIES {
        corrupt(world, &liar, lie).await?;
        world.wait_back(&liar, world.height(&witness).await?).await?;
        let since = Since::now(world);
        let mut refused = None;
        for _ in 0..MAX_JOINS {
            world.nodes.stop(&joiner).await?;
            set(world, &joiner, "snapshot_lag_heights", LAG_HEIGHTS)?;
            let ledger = world.store(&joiner, "ledger")?;
            std::fs::remove_dir_all(&ledger).during(|| format!("removing {}", ledger.display()))?;
            let height = world.height(&witness).await?;
            world.nodes.start(&joiner)?;
            let seconds = world.wait_back(&joiner, height).await?;
            worst = worst.max(seconds);
            let peer = format!("peer={liar} ");
            refused = since.lines(world, &joiner, &["snapshot refused", &peer]).pop();
            if refused.is_some() {
                eprintln!("     {lie}: {joiner} finished in {seconds:.1} s");
                break;
            }
        }
        if since.lies(world, &liar).is_empty() {
            world.wrong(format!("{lie}: {liar} was never asked"));
        }
        match &refused {
            Some(line) if reasons.iter().any(|r| line.contains(&format!("reason=\"{r}\""))) => {
                eprintln!("     {}", line.trim());
            }
            other => world.wrong(format!("{lie}: {joiner} said {other:?}, not one of {reasons:?}")),
        }
        let joined = since.lines(world, &joiner, &["joined from a snapshot"]);
        match joined.last() {
            Some(line) if !line.contains(&format!("peer={liar} ")) => {}
            other => world.wrong(format!("{lie}: {joiner} joined from {other:?}, not from an honest peer")),
        }
        world.heal(&format!("{lie}, through the joiner"), std::slice::from_ref(&joiner), HEAL_LIMIT).await?;
    }
    world.nodes.stop(&liar).await?;
    world.nodes.start(&liar)?;
    world.wait_back(&liar, world.height(&witness).await?).await?;
    // The joiner has no entries of others: S3 and S4 are judged by one who has.
    world.whole = Some(whole(world, &witness).await?);
    Ok(worst)
}
