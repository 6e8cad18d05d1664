//! The README's commands, run as they stand, and what it says they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Lines of the ```console blocks: commands with the output shown for each.
fn commands(readme: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", _) => inside = false,
            (line, true) => match line.strip_prefix("$ ") {
                Some(command) => found.push((command.to_owned(), Vec::new())),
                None => found.last_mut().unwrap().1.push(line.to_owned()),
            },
            _ => {}
        }
    }
    found
}

#[test]
fn the_quick_start_works_as_it_stands() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let commands = commands(&readme);
    assert!(commands.len() >= 10, "the README has lost its quick start");
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("cli"), folder.path().join("cli")).unwrap();
    // The same shell for all; the node gets a moment to listen, and ends with the shell.
    let mut script = String::from("set -eu\ntrap 'kill %1; wait' EXIT\n");
    for (n, (command, _)) in commands.iter().enumerate() {
        script += &format!("{command}\necho \"### {n}\"\n");
        if command.ends_with('&') {
            script += "for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/7411) 2>/dev/null && break; sleep 0.1; done\n";
        }
    }
    let binaries = Path::new(env!("CARGO_BIN_EXE_assent-testnet")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg("-c")
        .arg(script)
        .current_dir(folder.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let parts: Vec<&str> = said.split("### ").collect();
    for (n, (command, expected)) in commands.iter().enumerate() {
        for line in expected {
            assert!(
                parts[n].lines().any(|l| l == line),
                "{command}\nprinted\n{}\nwithout {line:?}",
                parts[n]
            );
        }
    }
}

#[test]
fn every_folder_and_link_of_the_readme_is_there() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let links: Vec<&str> = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 5);
    for link in links {
        assert!(root().join(link).exists(), "{link}");
    }
}
