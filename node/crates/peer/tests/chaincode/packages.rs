//! Packages: their bytes, their rules, and their store.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use weft_peer::chaincode::package::{
    Connection, Label, Package, PackageError, PackageId, PackageStore, Reach, StoreError,
};

fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

#[test]
fn equal_input_gives_equal_bytes() {
    let package = Package::build(&label("asset_1.0"), &Connection::plain("127.0.0.1:9999"));
    let package = Package::parse(&package.unwrap()).unwrap();
    assert_eq!(
        package.id().to_string(),
        "asset_1.0:ea6e53e89bfb5bbc123eb4f75a24965b2970ba99f7fbb67f0f287964673adeb1"
    );
    assert!(package.is_service());
    assert_eq!(package.reach().unwrap(), Reach::Dialled(Connection::plain("127.0.0.1:9999")));
}

fn check_label(text: &str, allowed: bool) {
    assert_eq!(Label::new(text).is_ok(), allowed, "{text:?}");
}

#[test]
fn labels() {
    check_label("asset", true);
    check_label("0", true);
    check_label("a.b+c-d_e", true);
    check_label("", false);
    check_label("-a", false);
    check_label(".a", false);
    check_label("a b", false);
    check_label("a:b", false);
    check_label("../a", false);
    check_label("é", false);
    check_label(&"a".repeat(180), true);
    check_label(&"a".repeat(181), false);
}

fn check_id(text: &str, allowed: bool) {
    let parsed = text.parse::<PackageId>();
    assert_eq!(parsed.is_ok(), allowed, "{text:?}");
    if let Ok(id) = parsed {
        assert_eq!(id.to_string(), text);
        assert_eq!(PackageId::from_file_name(&id.file_name()), Some(id));
    }
}

#[test]
fn ids() {
    let hash = "0123456789abcdef".repeat(4);
    check_id(&format!("asset:{hash}"), true);
    check_id(&format!("asset.v1.2:{hash}"), true);
    check_id(&format!("asset:{}", hash.to_uppercase()), false);
    check_id(&format!("asset:{}", &hash[1..]), false);
    check_id(&format!("../asset:{hash}"), false);
    check_id(&format!(":{hash}"), false);
    check_id("asset", false);
    check_id("asset:1.0", false);
}

/// A package of any files, compressed as other tools do.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

const METADATA: &[u8] = br#"{"type":"ccaas","label":"asset"}"#;

fn code(connection: &[u8]) -> Vec<u8> {
    archive(&[("README", b"anything"), ("connection.json", connection)])
}

#[test]
fn packages_of_other_tools() {
    let code = code(br#"{"address":"asset:9999","dial_timeout":"10s","tls_required":false}"#);
    let bytes = archive(&[("code.tar.gz", &code), ("metadata.json", METADATA), ("more", b"x")]);
    let package = Package::parse(&bytes).unwrap();
    assert_eq!(package.id().label().as_str(), "asset");
    let Reach::Dialled(connection) = package.reach().unwrap() else { panic!("it has an address") };
    assert_eq!(connection.address, "asset:9999");
    let golang = br#"{"path":"github.com/x","type":"golang","label":"asset"}"#;
    let bytes = archive(&[("metadata.json", golang), ("code.tar.gz", &code)]);
    let package = Package::parse(&bytes).unwrap();
    assert_eq!((package.kind(), package.is_service()), ("golang", false));
    assert_eq!(package.reach().unwrap(), Reach::Registers);
}

fn refusal(bytes: &[u8]) -> String {
    let result = Package::parse(bytes).and_then(|package| package.reach());
    result.unwrap_err().to_string()
}

#[test]
fn what_is_no_package() {
    assert!(refusal(b"").starts_with("failed to read the package: "));
    assert!(refusal(b"not gzip").starts_with("failed to read the package: "));
    let whole = archive(&[("metadata.json", METADATA), ("code.tar.gz", &code(b"{}"))]);
    let expect = Package::parse(&whole).unwrap().reach().unwrap();
    for cut in 0..whole.len() {
        // What ends an archive may be missing, never a part of a file.
        if let Ok(package) = Package::parse(&whole[..cut]) {
            assert_eq!(package.reach().unwrap(), expect, "cut at {cut}");
            assert!(cut > whole.len() * 3 / 4, "cut at {cut}");
        }
    }
    assert_eq!(
        refusal(&archive(&[("metadata.json", METADATA)])),
        "did not find code.tar.gz in the package"
    );
    assert_eq!(
        refusal(&archive(&[("code.tar.gz", b"x")])),
        "did not find metadata.json in the package"
    );
    let bad = archive(&[("metadata.json", b"{"), ("code.tar.gz", b"x")]);
    assert_eq!(refusal(&bad), "failed to read metadata.json as JSON");
    let bad = archive(&[("metadata.json", br#"{"type":"ccaas"}"#), ("code.tar.gz", b"x")]);
    assert!(refusal(&bad).starts_with("invalid label ''"));
    let bad = archive(&[("metadata.json", METADATA), ("code.tar.gz", b"x")]);
    assert!(refusal(&bad).starts_with("failed to read the package's code: "));
    let bad = archive(&[("metadata.json", METADATA), ("code.tar.gz", &archive(&[("x", b"x")]))]);
    assert_eq!(refusal(&bad), "did not find connection.json in the package's code");
    let tls = code(br#"{"address":"a:1","tls_required":true}"#);
    let bad = archive(&[("metadata.json", METADATA), ("code.tar.gz", &tls)]);
    assert_eq!(refusal(&bad), "failed to use connection.json");
}

#[test]
fn entries_that_are_not_files() {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "metadata.json", "/etc/passwd").unwrap();
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    assert_eq!(refusal(&bytes), "failed to read the package: metadata.json is not a regular file");
}

#[test]
fn what_expands_without_end() {
    let zeros = vec![0; 2 * 1024 * 1024];
    let bytes = archive(&[("metadata.json", &zeros), ("code.tar.gz", b"x")]);
    assert!(bytes.len() < 10_000);
    let error = Package::parse(&bytes).unwrap_err();
    assert!(matches!(error, PackageError::TooLarge { file: "metadata.json", .. }), "{error}");
}

fn store() -> (tempfile::TempDir, PackageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = PackageStore::open(dir.path().join("a/b")).unwrap();
    (dir, store)
}

#[test]
fn the_store_keeps_packages() {
    let (_dir, store) = store();
    let build =
        |name: &str, at: &str| Package::build(&label(name), &Connection::plain(at)).unwrap();
    let (one, two) = (build("one", "a:1"), build("two", "a:2"));
    let id = store.save(&one).unwrap().id().clone();
    assert_eq!(store.save(&one).unwrap().id(), &id, "again");
    let other = store.save(&two).unwrap().id().clone();
    assert_eq!(store.load(&id).unwrap(), one);
    let listed: Vec<_> = store.list().unwrap().into_iter().map(|package| package.id).collect();
    assert_eq!(listed, [id.clone(), other]);
    assert!(store.is_installed(&id));
    let missing = PackageId::of(&label("three"), b"");
    let error = store.load(&missing).unwrap_err();
    assert_eq!(error.to_string(), format!("chaincode install package '{missing}' not found"));
    assert!(matches!(store.save(b"junk"), Err(StoreError::Package(_))));
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn interrupted_writes_and_damage() {
    let (dir, store) = store();
    let path = dir.path().join("a/b");
    let package = Package::build(&label("one"), &Connection::plain("a:1")).unwrap();
    let id = store.save(&package).unwrap().id().clone();
    fs::write(path.join(".package-left"), &package[..10]).unwrap();
    fs::write(path.join("notes.txt"), "kept").unwrap();
    let store = PackageStore::open(&path).unwrap();
    assert!(!path.join(".package-left").exists());
    assert!(path.join("notes.txt").exists());
    assert_eq!(store.list().unwrap().len(), 1);
    let mut file = fs::OpenOptions::new().append(true).open(path.join(id.file_name())).unwrap();
    file.write_all(b"x").unwrap();
    assert!(matches!(store.load(&id), Err(StoreError::Damaged(damaged)) if damaged == id));
}
