//! `assentd`: one organization's node.

fn main() -> std::process::ExitCode {
    assent_node::daemon::main()
}
