//! Images of stand-in programs (this package's own), under the names of the real ones: what is
//! tested is how images are put together, and that the check finds what it is there to find.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use weft_images::archive::{self, Contents};
use weft_images::check::{self, Image, Node};
use weft_images::layer::{Entry, Layer};
use weft_images::spec::IMAGES;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft-images");
const TIME: u64 = 1_767_225_600;

fn build(folder: &Path, mode: u32, arguments: &[&str]) -> Output {
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).unwrap();
    for name in IMAGES.iter().flat_map(|image| image.programs) {
        let copy = programs.join(name);
        fs::copy(PROGRAM, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
    }
    Command::new(PROGRAM)
        .args(["build", "--revision", "0123456789abcdef", "--source"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .arg("--bin-dir")
        .arg(programs)
        .arg("--out")
        .arg(folder.join("out"))
        .args(arguments)
        .env("SOURCE_DATE_EPOCH", TIME.to_string())
        .env_remove("IMAGE_PREFIX")
        .output()
        .unwrap()
}

/// The folder of the images' archives, built once for all tests.
fn images() -> &'static Path {
    static FOLDER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, out) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let output = build(folder.path(), 0o755, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let out = folder.path().join("out");
        (folder, out)
    });
    out
}

fn archive_of(name: &str) -> Vec<u8> {
    fs::read(images().join(format!("{name}.tar"))).unwrap()
}

fn open(name: &str) -> Image {
    check::open(&archive_of(name)).unwrap()
}

/// The image again, with changes.
fn changed(image: &str, change: impl FnOnce(&mut BTreeMap<String, Node>, &mut Value)) -> Vec<u8> {
    let mut image = open(image);
    change(&mut image.nodes, &mut image.config);
    let mut layer = Layer::default();
    for (path, node) in image.nodes {
        let entry = if node.kind.is_dir() {
            Entry::Folder { mode: node.mode, owner: u32::try_from(node.user).unwrap() }
        } else {
            Entry::File { mode: node.mode, contents: node.contents }
        };
        layer.insert(&path, entry);
    }
    let layers = [layer.pack(TIME).unwrap()];
    image.config["rootfs"]["diff_ids"] = json!([layers[0].diff_id]);
    archive::write(&Contents {
        reference: &image.reference,
        config: &image.config,
        layers: &layers,
        annotations: &BTreeMap::new(),
        time: TIME,
    })
    .unwrap()
    .bytes
}

fn problems(
    image: &str,
    change: impl FnOnce(&mut BTreeMap<String, Node>, &mut Value),
) -> Vec<String> {
    check::problems(&changed(image, change)).unwrap()
}

fn file(mode: u32, contents: &[u8]) -> Node {
    Node { kind: tar::EntryType::Regular, mode, user: 0, contents: contents.to_vec() }
}

#[test]
fn two_builds_are_the_same_bytes() {
    let again = tempfile::tempdir().unwrap();
    // Another folder, other permissions, other times of the files.
    let output = build(again.path(), 0o700, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for image in IMAGES {
        for name in [format!("{}.tar", image.name), format!("{}.cdx.json", image.name)] {
            let first = fs::read(images().join(&name)).unwrap();
            let second = fs::read(again.path().join("out").join(&name)).unwrap();
            assert!(first == second, "{name} differs");
        }
    }
}

#[test]
fn images_are_as_they_should_be() {
    for image in IMAGES {
        assert_eq!(check::problems(&archive_of(image.name)).unwrap(), Vec::<String>::new());
        let read = open(image.name);
        let entry = format!("/usr/bin/{}", image.programs[0]);
        let config = &read.config["config"];
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Entrypoint"], json!([entry]));
        assert_eq!(config["Labels"]["org.opencontainers.image.revision"], "0123456789abcdef");
        assert_eq!(read.config["created"], "2026-01-01T00:00:00Z");
        assert_eq!(read.manifest["annotations"], config["Labels"]);
    }
}

#[test]
fn an_image_has_programs_libraries_and_nothing_else_to_run() {
    let image = open("weft-operator");
    let elves = image.elves();
    let programs: Vec<&str> =
        elves.keys().filter_map(|path| path.strip_prefix("usr/bin/")).collect();
    assert_eq!(programs, ["weft", "weft-operator"]);
    let runnable: BTreeSet<&str> = image
        .nodes
        .iter()
        .filter(|(_, node)| node.kind.is_file() && node.mode & 0o111 != 0)
        .map(|(path, _)| path.as_str())
        .collect();
    let loader = elves["usr/bin/weft"].interpreter.clone().unwrap();
    assert_eq!(
        runnable,
        BTreeSet::from([loader.trim_start_matches('/'), "usr/bin/weft", "usr/bin/weft-operator"])
    );
    // Every library that is there is needed by something.
    let needed: BTreeSet<&str> =
        elves.values().flat_map(|elf| &elf.needed).map(String::as_str).collect();
    for path in elves.keys().filter(|path| !runnable.contains(*path)) {
        assert!(needed.contains(path.rsplit('/').next().unwrap()), "{path} is not needed");
    }
}

#[test]
fn images_share_the_layer_of_equal_libraries() {
    let base = |name: &str| open(name).manifest["layers"][0]["digest"].clone();
    assert_eq!(base("weft-operator"), base("asset-contract"));
}

#[test]
fn the_bill_names_what_is_linked_and_only_that() {
    let names = |image: &str| -> BTreeSet<String> {
        let bill = open(image).bill().unwrap();
        let components = bill["components"].as_array().unwrap().iter();
        components.map(|component| component["name"].as_str().unwrap().to_owned()).collect()
    };
    let node = names("weft-node");
    for name in ["weft-peer", "weft-orderer", "librocksdb-sys", "aws-lc-sys", "rust-std", "libc6"] {
        assert!(node.contains(name), "{name} is missing");
    }
    // Procedural macros, build scripts and tests do not end up in the program.
    for name in ["serde_derive", "prost-build", "weft-testkit", "proptest", "weft-operator"] {
        assert!(!node.contains(name), "{name} is not linked");
    }
    let operator = names("weft-operator");
    assert!(operator.contains("kube") && !operator.contains("librocksdb-sys"));
    assert!(names("asset-contract").contains("weft-contract"));
}

#[test]
fn a_shell_is_found() {
    let found = problems("weft-node", |nodes, _| {
        let program = nodes["usr/bin/weft-node"].clone();
        nodes.insert("usr/bin/sh".to_owned(), program);
        nodes.insert("usr/bin/run".to_owned(), file(0o555, b"#!/usr/bin/sh\n"));
    });
    assert!(found.contains(&"/usr/bin/sh is a shell".to_owned()), "{found:?}");
    assert!(found.contains(&"/usr/bin/run is a script".to_owned()), "{found:?}");
}

#[test]
fn root_is_found() {
    for user in ["", "0:0", "65532", "weft:weft", "65532:0"] {
        let found = problems("weft-node", |_, config| config["config"]["User"] = json!(user));
        let text = format!("user {user:?} is not a numeric user and group above 0");
        assert_eq!(found, [text]);
    }
}

#[test]
fn a_missing_library_is_found() {
    let image = open("weft-node");
    let libc = image.nodes.keys().find(|path| path.ends_with("/libc.so.6")).unwrap();
    let found = problems("weft-node", |nodes, _| drop(nodes.remove(libc)));
    let text = "/usr/bin/weft-node needs libc.so.6, which is missing".to_owned();
    assert!(found.contains(&text), "{found:?}");
}

#[test]
fn permissions_that_say_too_much_are_found() {
    let found = problems("weft-node", |nodes, _| {
        nodes.get_mut("usr/bin/weft-node").unwrap().mode = 0o4755;
        nodes.get_mut("etc/passwd").unwrap().mode = 0o666;
        nodes.insert("var/lib/weft/left".to_owned(), file(0o444, b"x"));
    });
    assert_eq!(
        found,
        [
            "/etc/passwd can be written by others than root",
            "/usr/bin/weft-node runs as its owner",
            "/var/lib/weft is not empty",
        ]
    );
}

#[test]
fn symbols_are_found() {
    let found = problems("weft-node", |nodes, _| {
        nodes.get_mut("usr/bin/weft-node").unwrap().contents = fs::read(PROGRAM).unwrap();
    });
    assert_eq!(found, ["/usr/bin/weft-node still has its symbol table"]);
}

#[test]
fn a_bill_that_is_changed_is_found() {
    let path = "usr/share/weft/sbom.cdx.json";
    let found = problems("weft-node", |nodes, _| {
        let mut bill: Value = serde_json::from_slice(&nodes[path].contents).unwrap();
        let components = bill["components"].as_array_mut().unwrap();
        components.retain(|component| component["name"] != "libc6");
        nodes.insert(path.to_owned(), file(0o444, bill.to_string().as_bytes()));
    });
    assert!(found.contains(&"the SBOM is not the one of the label".to_owned()), "{found:?}");
    assert!(found.iter().any(|text| text.contains("is no component")), "{found:?}");
    assert!(found.iter().any(|text| text.contains("libc.so.6 comes from")), "{found:?}");
}

#[test]
fn bytes_that_are_changed_are_found() {
    let mut files = archive::read(&archive_of("weft-node")).unwrap();
    let layer = files.values_mut().max_by_key(|bytes| bytes.len()).unwrap();
    layer[1000] ^= 1;
    let error = check::open(&archive::tar_of(&files, TIME).unwrap()).unwrap_err();
    assert!(error.to_string().contains("is not the digest and size of its bytes"), "{error:#}");
}

#[test]
fn archives_name_the_image_as_kubernetes_does() {
    let full = archive::full_reference;
    assert_eq!(full("weft-node:1"), "docker.io/library/weft-node:1");
    assert_eq!(full("weft/weft-node:1"), "docker.io/weft/weft-node:1");
    assert_eq!(full("localhost/weft-node:1"), "localhost/weft-node:1");
    assert_eq!(full("registry:5000/weft-node:1"), "registry:5000/weft-node:1");
}

#[test]
fn what_cannot_be_built_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let output = build(folder.path(), 0o755, &["weft-nodes"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text, "error: no image is named weft-nodes\n");
}
