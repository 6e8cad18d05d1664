//! Free ports on loopback, by bind-and-drop.

use std::net::TcpListener;

use rand::seq::SliceRandom;

use crate::error::{failed, Error};

/// Lowest port that is handed out.
const LOWEST_PORT: u16 = 10_000;
/// Where Linux starts to hand out ports to outgoing connections, unless told otherwise.
const DEFAULT_OUTGOING_FROM: u16 = 32_768;

/// Ports that nobody listens on, all different.
///
/// They lie below the range of outgoing connections: between drop and bind, a node's own connection to another one
/// could take a port of that range.
pub fn free(count: usize) -> Result<Vec<u16>, Error> {
    let outgoing_from = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(DEFAULT_OUTGOING_FROM);
    let highest = if outgoing_from > LOWEST_PORT + 2_000 { outgoing_from - 1 } else { u16::MAX };
    let mut candidates: Vec<u16> = (LOWEST_PORT..=highest).collect();
    candidates.shuffle(&mut rand::thread_rng());
    // All are held until the last is found, so none comes twice.
    let held: Vec<(u16, TcpListener)> = candidates
        .into_iter()
        .filter_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
        .take(count)
        .collect();
    if held.len() < count {
        return failed(format!("only {} of {count} ports are free on 127.0.0.1", held.len()));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports = free(32).unwrap();
        let mut different = ports.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 32);
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
