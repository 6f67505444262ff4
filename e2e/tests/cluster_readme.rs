//! The commands of README.md that lead from an empty cluster to a committed transaction, as they
//! stand there, and what README.md says that they print.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use weft_e2e::cluster::{Cluster, Namespace, Operator, tools};

/// Lines of a command's output that are shown, at most.
const SHOWN: usize = 30;

/// A command, and the lines below it.
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The commands of a section from the first with `helm install` on.
fn steps(page: &str, section: &str) -> Vec<Step> {
    let start = page.find(section).expect("the section is there") + section.len();
    let section = page[start..].split("\n## ").next().unwrap();
    let mut steps: Vec<Step> = Vec::new();
    let mut in_block = false;
    for line in section.lines() {
        match (line.strip_prefix("$ "), in_block) {
            _ if line.starts_with("```") => in_block = !in_block,
            (Some(command), true) => {
                steps.push(Step { command: command.to_owned(), printed: Vec::new() });
            }
            (None, true) => steps.last_mut().unwrap().printed.push(line.to_owned()),
            (_, false) => {}
        }
    }
    let first = steps.iter().position(|step| step.command.starts_with("helm install"));
    steps.split_off(first.expect("the operator is installed"))
}

/// Whether a line is what was promised; `…` stands for anything.
fn keeps(promise: &str, line: &str) -> bool {
    let mut pieces = promise.split('…');
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    for piece in pieces {
        if piece.is_empty() {
            return true;
        }
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty()
}

/// Names of objects and nodes in the first columns of tables: they are there, whatever the rest.
fn names(lines: &[String]) -> impl Iterator<Item = &str> {
    let has_columns = |line: &&String| line.contains("  ");
    lines.iter().filter(has_columns).filter_map(|line| line.split_whitespace().next())
}

/// A folder whose programs are found before all others: Helm, and those that `make build` makes.
fn programs(folder: &Path) -> PathBuf {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    if helm.contains('/') {
        symlink(helm, folder.join("helm")).unwrap();
    }
    let built = std::env::current_exe().unwrap();
    let built = built.parent().and_then(Path::parent).unwrap();
    symlink(built.join("kubectl-weft"), folder.join("kubectl-weft")).unwrap();
    folder.to_owned()
}

/// A copy of the cluster's configuration whose namespace is that of the test.
fn configuration(folder: &Path, namespace: &str) -> PathBuf {
    let text = tools::kubectl(&["config", "view", "--raw", "--minify", "--flatten"]).unwrap();
    let file = folder.join("kubeconfig");
    std::fs::write(&file, text).unwrap();
    let (path, flag) = (file.to_str().unwrap(), format!("--namespace={namespace}"));
    let arguments = ["--kubeconfig", path, "config", "set-context", "--current", &flag];
    tools::kubectl(&arguments).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: make e2e"]
async fn the_first_steps_lead_to_a_committed_transaction() {
    let cluster = Cluster::connect().await.unwrap();
    // What `helm install` is to find is a cluster without the operator.
    Operator::ensure(&cluster).await.unwrap().uninstall().unwrap();
    let namespace = Namespace::new(&cluster, "readme").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", programs(folder.path()).display(), std::env::var("PATH").unwrap());
    let configuration = configuration(folder.path(), namespace.name());

    let page = std::fs::read_to_string(tools::checkout().join("README.md")).unwrap();
    let steps = steps(&page, "\n## Run it on Kubernetes\n");
    assert!(steps[3].command.contains(" invoke "), "the fourth command submits a transaction");
    for Step { command, printed } in steps {
        println!("$ {command}");
        let mut shell = Command::new("bash");
        // What a terminal shows is both.
        shell.args(["-euc", &format!("exec 2>&1; {command}")]).current_dir(tools::checkout());
        shell.env("PATH", &path).env("KUBECONFIG", &configuration);
        let said = tools::run(&mut shell, "").unwrap();
        said.lines().take(SHOWN).for_each(|line| println!("{line}"));
        if printed.iter().any(|line| line.contains("  ")) {
            for name in names(&printed) {
                assert!(said.contains(name), "README.md promises {name:?}");
            }
            continue;
        }
        for promise in printed {
            let is_kept = said.lines().any(|line| keeps(&promise, line));
            assert!(is_kept, "README.md promises {promise:?}");
        }
    }
}

#[test]
fn anything_stands_for_anything() {
    assert!(keeps("committed …", "committed 77423988"));
    assert!(keeps("a … c … e", "a b c d e"));
    assert!(!keeps("committed …", "refused"));
    assert!(!keeps("committed", "committed 77"));
    assert!(!keeps("a … c", "a b"));
}

#[test]
fn a_page_is_taken_apart() {
    let page = "# P\n## One\n```\n$ helm install x\n```\n## Two\n```\n$ make\nok\n```\ntext\n\
                ```\n$ helm install y\nsaid\nmore\n$ next\n```\n## Three\n```\n$ no\n```\n";
    let found = steps(page, "\n## Two\n");
    let found: Vec<_> = found.iter().map(|step| (&*step.command, step.printed.len())).collect();
    assert_eq!(found, [("helm install y", 2), ("next", 0)]);
}
