//! `[limits]`: how much of this node clients may take up. Units stand in the names; those that an operator has no reason to set are
//! constants beside their code, and node/docs/operations.md lists both.

use std::time::Duration;

use serde::Deserialize;

use crate::grpc::quota::Rate;

/// The section; what isn't there has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of clients, all together.
    pub grpc_connections: u32,
    /// Of these, of one client.
    pub grpc_connections_per_client: u32,
    /// Of these, of all who show no certificate that this node takes.
    pub grpc_connections_without_certificate: u32,
    /// TLS handshakes under way; the oldest gives way.
    pub grpc_handshakes: u32,
    /// Time for a TLS handshake, and again for the first bytes of HTTP/2.
    pub grpc_handshake_seconds: u32,
    /// A connection that answers no ping for this long is closed.
    pub grpc_silence_seconds: u32,
    /// Calls at work at once on one connection; twice as many streams may be open.
    pub grpc_calls_per_connection: u32,
    /// WatchConsents streams, all together.
    pub watch_streams: u32,
    /// Of these, of one client.
    pub watch_streams_per_client: u32,
    /// Calls a second by patients' control keys, for the whole node; withdrawals have as many apart.
    pub control_key_calls_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grpc_connections: 1_024,
            grpc_connections_per_client: 128,
            grpc_connections_without_certificate: 256,
            grpc_handshakes: 256,
            grpc_handshake_seconds: 10,
            grpc_silence_seconds: 40,
            grpc_calls_per_connection: 64,
            watch_streams: 64,
            watch_streams_per_client: 16,
            control_key_calls_per_second: 50,
        }
    }
}

/// A limit that can be set: name, value, least, most.
pub type Settable = (&'static str, u32, u32, u32);

impl Limits {
    /// All of them.
    pub fn all(&self) -> [Settable; 10] {
        [
            ("grpc_connections", self.grpc_connections, 1, 65_536),
            ("grpc_connections_per_client", self.grpc_connections_per_client, 1, 65_536),
            ("grpc_connections_without_certificate", self.grpc_connections_without_certificate, 1, 65_536),
            ("grpc_handshakes", self.grpc_handshakes, 1, 4_096),
            ("grpc_handshake_seconds", self.grpc_handshake_seconds, 1, 60),
            ("grpc_silence_seconds", self.grpc_silence_seconds, 2, 600),
            ("grpc_calls_per_connection", self.grpc_calls_per_connection, 1, 1_024),
            ("watch_streams", self.watch_streams, 1, 4_096),
            ("watch_streams_per_client", self.watch_streams_per_client, 1, 4_096),
            ("control_key_calls_per_second", self.control_key_calls_per_second, 1, 1_000),
        ]
    }

    /// The first that is out of its range: key, value and range.
    pub fn check(&self) -> Result<(), String> {
        match self.all().into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
            None => Ok(()),
            Some((key, value, least, most)) => {
                Err(format!("limits.{key} ({value}) must be at least {least} and at most {most}"))
            }
        }
    }

    /// Time for a handshake.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.grpc_handshake_seconds.into())
    }

    /// Longest silence of a connection.
    pub fn silence(&self) -> Duration {
        Duration::from_secs(self.grpc_silence_seconds.into())
    }

    /// Calls by control keys.
    pub fn control_key_calls(&self) -> Rate {
        let per_second = self.control_key_calls_per_second;
        Rate { per_second, burst: per_second }
    }
}
