//! What does not run here, and why. An honest list is part of the report.

const NO_PROCESSES: &str = "needs no processes that fail: cases for the node's and the ledger's own tests";

/// Id and reason.
pub const NOT_COVERED: &[(&str, &str)] = &[
    ("B7", "real packet loss needs netem in the kernel; a proxy of TCP streams can only delay"),
    ("C6", "needs a machine or file system that loses unsynced writes; a killed process loses none"),
    ("F3", NO_PROCESSES),
    ("F6", "clients' certificates are revoked and rotated in the node's own tests: node/tests/suite/certificates.rs"),
    ("F7", "no case of this tool; the node's certificates tests reload under open connections"),
    ("G1", "a million mutated messages are a fuzzing run of their own"),
    ("G2", NO_PROCESSES),
    ("G3", NO_PROCESSES),
    ("G5", NO_PROCESSES),
    ("G6", NO_PROCESSES),
    ("G7", NO_PROCESSES),
    ("G8", NO_PROCESSES),
    ("G10", NO_PROCESSES),
    ("G12", NO_PROCESSES),
    ("H1", "ten thousand sockets at each port are more than a default limit of open files allows"),
    ("H3", "needs a member whose node floods gossip, which assentd can't be told to do"),
    ("H4", NO_PROCESSES),
    ("H5", "a withdrawal in mid-transfer needs a transfer that is held; the node's exchange tests hold one"),
    ("H6", NO_PROCESSES),
    ("H8", "a record of 1 GB takes more disk and time than this tool may use"),
    ("I1", "there is one version of the program so far"),
    ("I2", "there is one version of the rules so far"),
    ("I3", NO_PROCESSES),
    ("I4", NO_PROCESSES),
    ("I5", "there is one schema so far"),
];
