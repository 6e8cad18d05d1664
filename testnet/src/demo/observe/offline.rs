//! Step 5: `assent verify`, with the file and the genesis hash and nothing else.

use assent_ledger::receipts::BUNDLE_MAGIC;
use assent_proto::ledger::v1::RecordBundle;
use prost::Message;

use crate::demo::observed::OfflineObserved;
use crate::demo::stage::Stage;
use crate::error::{Error, While};

/// Bytes that are changed, one at a time.
const FLIPS: usize = 64;

/// Verifies the bundle, and altered copies of it.
pub async fn observe(stage: &Stage, bundle: &RecordBundle) -> Result<OfflineObserved, Error> {
    let mut bytes = BUNDLE_MAGIC.to_vec();
    bytes.extend(bundle.encode_to_vec());
    let (file, copy) = (stage.files.join("release.bundle"), stage.files.join("altered.bundle"));
    let write = |path: &std::path::Path, bytes: &[u8]| {
        std::fs::write(path, bytes).during(|| format!("writing {}", path.display()))
    };
    write(&file, &bytes)?;
    let genesis_hash = hex::encode(stage.genesis.hash);
    let mut other = stage.genesis.hash;
    other[0] ^= 1;
    let mut observed = OfflineObserved {
        exit: stage.verify(&file, &genesis_hash).await?,
        other_genesis_exit: stage.verify(&file, &hex::encode(other)).await?,
        flips: Vec::with_capacity(FLIPS),
    };
    for n in 0..FLIPS {
        let position = n * bytes.len() / FLIPS;
        let mut altered = bytes.clone();
        altered[position] ^= 1 << (n % 8);
        write(&copy, &altered)?;
        observed.flips.push((position as u64, stage.verify(&copy, &genesis_hash).await?));
    }
    Ok(observed)
}
