//! F: keys rotate while the load goes on.

use assent_proto::v1::GetStatusResponse;

use super::super::world::{World, SETTLE_LIMIT};
use super::crash::{BEFORE, HEAL_LIMIT};
use super::governing::{operator, reached, until, Pauses, LEAD};
use crate::error::Error;
use crate::net::create::text;
use crate::net::description::node_dir;

/// F5.
pub async fn rotate_keys(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let pauses = Pauses::watch(&world.journal);
    let all = world.organizations();
    let peer = world.one_of(&all);
    let turns = all.iter().map(|o| (o.clone(), "vote")).chain([(peer, "consensus-peer")]);
    for (organization, purpose) in turns.collect::<Vec<_>>() {
        let folder = node_dir(&world.dir, &organization);
        let witness = world.others(&[&organization])[0].clone();
        let before = world.status(&witness).await?;
        let old =
            before.validators.iter().find(|v| v.organization == organization).map(|v| v.vote_key.clone());
        let at = (world.height(&organization).await? + LEAD / 2).to_string();
        let words = ["keys", "rotate", purpose, "--dir", text(&folder)?, "--at-height", &at];
        let answer = operator(world, &organization, &words).await?;
        let height = answer["effective_height"].as_u64().unwrap_or(0);
        reached(world, &organization, height).await?;
        let signs = |s: &GetStatusResponse| {
            let own = s.validators.iter().find(|v| v.organization == organization);
            own.is_some_and(|v| {
                v.last_signed_height > height && (purpose != "vote" || Some(&v.vote_key) != old.as_ref())
            })
        };
        let what = format!("{organization} signs after its {purpose} key was rotated");
        let seconds = until(world, &witness, &what, SETTLE_LIMIT, signs).await?;
        eprintln!("     {what}: {seconds:.1} s after block {height}");
        for (file, there) in [("next", false), ("old", true)] {
            let path = folder.join(format!("keys/{purpose}.{file}.pem"));
            if path.exists() != there {
                world.wrong(format!("{}: {}", path.display(), if there { "missing" } else { "still there" }));
            }
        }
        world.heal(&what, &[organization], HEAL_LIMIT).await?;
    }
    // Each starts with what the ledger names.
    let again = world.one_of(&all);
    world.nodes.stop(&again).await?;
    let height = world.height(&world.others(&[&again])[0]).await?;
    world.nodes.start(&again)?;
    world.wait_back(&again, height).await?;
    world.heal("it was started with its new key, through it", &[again], HEAL_LIMIT).await?;
    Ok(pauses.judge(world))
}
