//! Values that have the right type and can't be used: each refusal names the key, the value and what is allowed.

use std::net::SocketAddr;
use std::path::Path;

use assent_ledger::encoding::is_id;
use assent_ledger::Hash;
use libp2p::multiaddr::{Multiaddr, Protocol};

use super::{Config, MIN_KEEP_BLOCKS};

/// Longest interval of empty blocks, and oldest tip that may permit, in seconds.
const MAX_SECONDS: u64 = 3_600;
/// Most free space that may be asked for: a pebibyte, in MiB.
const MAX_FREE_MIB: u64 = 1 << 30;

/// The first value that can't be used.
pub(super) fn check(config: &Config) -> Result<(), String> {
    if !is_id(&config.organization) {
        let organization = &config.organization;
        return Err(format!("organization ({organization:?}) is no id: 1 to 32 of a-z, 0-9 and -"));
    }
    times(config)?;
    for (key, path) in [
        ("genesis", &config.genesis),
        ("data_dir", &config.data_dir),
        ("keys_dir", &config.keys_dir),
        ("grpc.certificate", &config.grpc.certificate),
        ("grpc.key", &config.grpc.key),
        ("grpc.authority", &config.grpc.authority),
        ("grpc.revoked", &config.grpc.revoked),
    ] {
        path_is_one(key, path)?;
    }
    let rate = config.grpc.rate();
    if rate.per_second == 0 || rate.burst == 0 {
        return Err(format!(
            "grpc.requests_per_second ({}) and grpc.burst ({}) must be at least 1",
            rate.per_second, rate.burst
        ));
    }
    if (1..MIN_KEEP_BLOCKS).contains(&config.keep_blocks) {
        return Err(format!(
            "keep_blocks ({}) must be 0, which keeps all, or at least {MIN_KEEP_BLOCKS}",
            config.keep_blocks
        ));
    }
    if let Some(text) = config.accept_recoveries.iter().find(|text| plan(text).is_none()) {
        return Err(format!(
            "accept_recoveries ({text:?}) is not the hash of a plan: 64 hex digits, as `assentd recover` prints them"
        ));
    }
    config.limits.check()?;
    listeners(config)
}

/// The hash of a plan.
pub(super) fn plan(text: &str) -> Option<Hash> {
    hex::decode(text).ok()?.try_into().ok()
}

fn times(config: &Config) -> Result<(), String> {
    let (heartbeat, staleness) = (config.heartbeat_seconds, config.max_staleness_seconds);
    if heartbeat == 0 || staleness <= heartbeat || staleness > MAX_SECONDS {
        return Err(format!(
            "heartbeat_seconds ({heartbeat}) must be at least 1 and below max_staleness_seconds ({staleness}), which is at most {MAX_SECONDS}"
        ));
    }
    match config.min_free_mib > MAX_FREE_MIB {
        true => Err(format!("min_free_mib ({}) must be at most {MAX_FREE_MIB}", config.min_free_mib)),
        false => Ok(()),
    }
}

fn path_is_one(key: &str, path: &Path) -> Result<(), String> {
    let text = path.as_os_str().as_encoded_bytes();
    match text.is_empty() || text.contains(&0) {
        true => Err(format!("{key} ({path:?}) names no file or folder")),
        false => Ok(()),
    }
}

/// The address of a multiaddr by IP and TCP port, and nothing else.
fn address(text: &str) -> Result<SocketAddr, String> {
    let parsed: Multiaddr = text.parse().map_err(|e| format!("{e}"))?;
    let mut parts = parsed.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Err("it does not begin with /ip4 or /ip6".into()),
    };
    match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None) => Ok(SocketAddr::new(ip, port)),
        _ => Err("the IP address is followed by /tcp, a port, and nothing else".into()),
    }
}

/// Four doors or five, each with an address of its own.
fn listeners(config: &Config) -> Result<(), String> {
    let mut doors = vec![("grpc.listen", config.grpc.listen), ("admin.listen", config.admin.listen)];
    doors.extend(config.tlog.as_ref().map(|tlog| ("tlog.listen", tlog.listen)));
    for (key, swarm) in [("consensus.listen", &config.consensus), ("exchange.listen", &config.exchange)] {
        let listen = &swarm.listen;
        let address = address(listen).map_err(|why| {
            format!("{key} ({listen:?}) is not a multiaddr such as /ip4/127.0.0.1/tcp/7413: {why}")
        })?;
        doors.push((key, address));
    }
    for (n, (key, address)) in doors.iter().enumerate() {
        if address.port() == 0 {
            return Err(format!("{key} ({address}) has port 0: nobody would know where to connect"));
        }
        if let Some((other, _)) = doors[..n].iter().find(|(_, taken)| taken == address) {
            return Err(format!("{key} ({address}) is the address of {other} too"));
        }
    }
    Ok(())
}
