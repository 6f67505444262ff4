//! A folder as Kubernetes mounts it, replaced while it is looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::symlink;

use tempfile::TempDir;
use weft_msp::NodeRole;
use weft_testkit::Org;

use super::*;

/// A mounted secret: `msp` → `..data/msp`, `..data` → the newest version.
struct Mount {
    dir: TempDir,
    versions: usize,
}

impl Mount {
    fn new(org: &Org, signer: &SigningIdentity) -> Self {
        let mut mount = Self { dir: TempDir::new().unwrap(), versions: 0 };
        symlink("..data/msp", mount.msp()).unwrap();
        mount.put(|msp| {
            org.write_msp(msp, Some(signer));
        });
        mount
    }

    fn msp(&self) -> PathBuf {
        self.dir.path().join("msp")
    }

    fn put(&mut self, write: impl FnOnce(&Path)) {
        self.versions += 1;
        let name = format!("..version{}", self.versions);
        write(&self.dir.path().join(&name).join("msp"));
        let (link, data) = (self.dir.path().join("..data_tmp"), self.dir.path().join("..data"));
        symlink(&name, &link).unwrap();
        std::fs::rename(link, data).unwrap();
    }

    fn load(&self, org: &Org, registry: &Registry) -> MspFolder {
        let settings = MspSettings { id: org.msp_id.to_string(), dir: self.msp() };
        MspFolder::load(&settings, registry).unwrap()
    }
}

fn refused(registry: &Registry) -> bool {
    weft_ops::metrics::encode(registry).unwrap().contains("\nweft_identity_refused 1\n")
}

fn signs_as(folder: &MspFolder, identity: &SigningIdentity) -> bool {
    folder.msp().identity().current().certificate() == identity.certificate()
}

#[test]
fn a_replaced_folder_is_taken_over_and_a_bad_one_is_not() {
    let (org, registry) = (Org::new("Org1MSP"), Registry::new());
    let mut mount = Mount::new(&org, &org.peer);
    let mut folder = mount.load(&org, &registry);
    let now = weft_testkit::clock::NOW;
    folder.look(now);
    assert!(signs_as(&folder, &org.peer) && !refused(&registry));

    let renewed = org.identity("peer0.Org1MSP", NodeRole::Peer);
    mount.put(|msp| {
        org.write_msp(msp, Some(&renewed));
    });
    folder.look(now);
    assert!(signs_as(&folder, &renewed) && !refused(&registry));

    let other = Org::new("Org1MSP");
    let bad: [&dyn Fn(&Path); 4] = [
        // Somebody else's certificate, with and without somebody else's authority.
        &|msp| {
            other.write_msp(msp, Some(&other.peer));
        },
        &|msp| {
            org.write_msp(msp, Some(&other.peer));
        },
        &|msp| {
            org.write_msp(msp, Some(&org.admin));
        },
        // A certificate without its key.
        &|msp| {
            org.write_msp(msp, Some(&renewed));
            std::fs::write(msp.join("signcerts/cert.pem"), org.peer.certificate().pem()).unwrap();
        },
    ];
    for write in bad {
        mount.put(write);
        folder.look(now);
        assert!(signs_as(&folder, &renewed) && refused(&registry));
        folder.look(now);
        assert!(signs_as(&folder, &renewed) && refused(&registry));
    }
    let last = org.identity("peer0.Org1MSP", NodeRole::Peer);
    mount.put(|msp| {
        org.write_msp(msp, Some(&last));
    });
    folder.look(now);
    assert!(signs_as(&folder, &last) && !refused(&registry));
}

#[tokio::test]
async fn it_is_looked_at_by_itself() {
    let (org, registry) = (Org::new("Org1MSP"), Registry::new());
    let mut mount = Mount::new(&org, &org.orderer);
    let folder = mount.load(&org, &registry);
    let msp = Arc::clone(folder.msp());
    let _watch = folder.watch(Duration::from_millis(10)).unwrap();
    let renewed = org.identity("orderer0.Org1MSP", NodeRole::Orderer);
    mount.put(|msp| {
        org.write_msp(msp, Some(&renewed));
    });
    let taken = async {
        while msp.identity().current().certificate() != renewed.certificate() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.unwrap();
}
