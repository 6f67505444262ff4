//! Disks that fail to sync, and disks that are full. The node stops serving the channel, acknowledges
//! nothing that it could not write, and serves again once the disk does. Needs root, and Debian's
//! package strace: `make faults`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::faults::{SOME, check, is_channel, leader};
use support::{BASIC, eventually, node_named};
use weft_e2e::LocalNetwork;
use weft_e2e::load::Load;

/// Clients of the organization whose peer is not hurt.
async fn load(network: &LocalNetwork) -> Load {
    let load = Load::start(vec![network.gateway(0).unwrap()]);
    load.progress(SOME).await.unwrap();
    load
}

/// Hurts a node, and sees that it stops while the others go on, and serves again once it is well.
async fn survives<Hurt>(network: &LocalNetwork, name: &str, hurt: impl FnOnce() -> Hurt) {
    let load = load(network).await;
    let hurt = hurt();
    load.progress(SOME).await.unwrap();
    eventually(&format!("{name} tells that it failed"), || is_channel(network, name, "failed"))
        .await;
    load.progress(SOME).await.unwrap();
    drop(hurt);
    eventually(&format!("{name} serves"), || is_channel(network, name, "running")).await;
    load.progress(SOME).await.unwrap();
    let keys = load.finish().await.unwrap();
    check(network, &keys).await;
    assert!(!node_named(network, name).log().contains("panicked"), "{name} panicked");
}

/// Lets every sync of a process fail until it is dropped.
struct FailingSyncs(Child);

impl FailingSyncs {
    fn of(network: &LocalNetwork, name: &str) -> FailingSyncs {
        let pid = network.pid(name).unwrap().as_raw_nonzero().to_string();
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        strace.args(["-e", "inject=fsync,fdatasync:error=EIO", "-p", &pid]);
        FailingSyncs(strace.stdin(Stdio::null()).spawn().expect("Debian's package strace"))
    }
}

impl Drop for FailingSyncs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and packages of Debian: make faults"]
async fn a_node_whose_disk_does_not_sync_stops_and_comes_back() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    for name in [leader(&network).await, "peer0.org2"] {
        survives(&network, name, || FailingSyncs::of(&network, name)).await;
    }
}

/// A small file system in a folder, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    const MIB: usize = 256;

    /// Moves what is in a folder onto a disk of its own.
    fn under(folder: &Path) -> SmallDisk {
        let kept = folder.with_extension("kept");
        fs::rename(folder, &kept).unwrap();
        fs::create_dir(folder).unwrap();
        let options = format!("size={}m,mode=0700", Self::MIB);
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder));
        run(Command::new("cp").arg("-a").arg(kept.join(".")).arg(folder));
        SmallDisk(folder.to_owned())
    }

    fn fill(&self) -> Filler {
        let filler = self.0.join("filler");
        // Ends with an error, as there is no room for all of it.
        let _ = fs::write(&filler, vec![0; Self::MIB * 1024 * 1024]);
        Filler(filler)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Takes all the room of a disk until it is dropped.
struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and packages of Debian: make faults"]
async fn a_node_whose_disk_is_full_stops_and_comes_back() {
    let network = LocalNetwork::start(BASIC).await.unwrap();
    for name in [leader(&network).await, "peer0.org2"] {
        network.kill(name).await.unwrap();
        let disk = SmallDisk::under(&node_named(&network, name).folder.join("data"));
        network.up().await.unwrap();
        survives(&network, name, || disk.fill()).await;
        network.kill(name).await.unwrap();
        drop(disk);
        // Without that disk it has what it had before, and gets the rest from the others.
        let data = node_named(&network, name).folder.join("data");
        fs::remove_dir(&data).unwrap();
        fs::rename(data.with_extension("kept"), &data).unwrap();
        network.up().await.unwrap();
    }
}
