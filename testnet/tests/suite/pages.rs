//! The pages of the project: what they link to, and the files that they name, are there. `strangers/guide.sh` runs their commands.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every page below a folder. What tools put there (`target`, `.git`, `node_modules`) is not ours.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept =
        heading.trim_start_matches('#').trim().chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// What is wrong with a link that stands in a page.
fn fault(page: &Path, link: &str) -> Option<String> {
    let (file, section) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !target.exists() {
        return Some(format!("{}: {link} is not there", page.display()));
    }
    let text = || std::fs::read_to_string(&target).unwrap();
    let there = section.is_empty() || text().lines().any(|l| l.starts_with('#') && anchor(l) == section);
    (!there).then(|| format!("{}: {link} names no heading", page.display()))
}

#[test]
fn every_link_leads_somewhere_and_every_file_that_is_named_is_there() {
    let root = root();
    let mut found = Vec::new();
    pages(&root, &mut found);
    assert!(found.len() > 8, "{found:?}");
    let (mut links, mut named, mut faults) = (0, 0, Vec::new());
    for page in found {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            links += 1;
            faults.extend(fault(&page, link));
        }
        // `node/src/config.rs`: from the project's folder.
        let code = text.split('`').skip(1).step_by(2);
        for file in
            code.filter(|c| !c.contains(char::is_whitespace) && c.contains("/src/") && c.ends_with(".rs"))
        {
            named += 1;
            if !root.join(file).is_file() {
                faults.push(format!("{}: {file} is not there", page.display()));
            }
        }
    }
    assert!(links > 40 && named > 15, "{links} links, {named} files");
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn a_broken_link_is_found() {
    let page = root().join("README.md");
    assert_eq!(fault(&page, "node/docs/operations.md#what-to-watch"), None);
    assert_eq!(fault(&page, "#limits-said-plainly"), None);
    assert!(fault(&page, "node/docs/nothing.md").unwrap().contains("is not there"));
    assert!(fault(&page, "node/docs/operations.md#nothing").unwrap().contains("names no heading"));
}
