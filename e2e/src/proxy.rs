//! A TCP proxy in front of a node, by which a test makes links slow, silent or cut.
//!
//! What one process sends through it can be treated apart from the rest (by the process at the other
//! end of the connection, which Linux tells), so that with a proxy in front of every node a test can
//! cut one node off in both directions, or in one. Bytes that a link drops are kept and go out when
//! it heals, as TCP would send them again.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Bytes read at one time, and pieces that wait on a slow link.
const PIECE: usize = 16 * 1024;
const QUEUE: usize = 1024;

/// What happens to bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They go on.
    #[default]
    Pass,
    /// They go on so much later.
    Delay(Duration),
    /// They do not, until the link heals.
    Drop,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Towards the node.
    pub to_node: Flow,
    /// From the node.
    pub from_node: Flow,
    /// Connections are closed, and no new ones opened.
    pub is_cut: bool,
}

impl Link {
    /// Both directions are the same.
    pub fn both(flow: Flow) -> Link {
        Link { to_node: flow, from_node: flow, is_cut: false }
    }

    /// Nothing is connected.
    pub fn cut() -> Link {
        Link { is_cut: true, ..Link::default() }
    }
}

/// Links by the process that opened them; the rest is like `others`.
#[derive(Clone, Debug, Default)]
struct Rules {
    others: Link,
    of: BTreeMap<u32, Link>,
}

impl Rules {
    fn of(&self, process: Option<u32>) -> Link {
        let own = process.and_then(|process| self.of.get(&process));
        own.copied().unwrap_or(self.others)
    }
}

/// A proxy. It ends, with all its connections, when it is dropped.
pub struct Proxy {
    rules: watch::Sender<Rules>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Passes connections to `listen` on to `node`.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(listen: SocketAddr, node: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind(listen).await?;
        let (rules, watched) = watch::channel(Rules::default());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(client, node, watched.clone()));
            }
        });
        Ok(Proxy { rules, accepting })
    }

    /// Changes the links of all that no other rule is for.
    pub fn set(&self, link: Link) {
        self.rules.send_modify(|rules| rules.others = link);
    }

    /// Changes the links of one process, by its id.
    pub fn set_for(&self, process: u32, link: Link) {
        self.rules.send_modify(|rules| {
            rules.of.insert(process, link);
        });
    }

    /// Every link passes everything.
    pub fn heal(&self) {
        self.rules.send_replace(Rules::default());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(client: TcpStream, node: SocketAddr, mut rules: watch::Receiver<Rules>) {
    let process = match (client.peer_addr(), client.local_addr()) {
        (Ok(from), Ok(to)) => process_of(from, to),
        _ => None,
    };
    let link = |rules: &Rules| rules.of(process);
    if link(&rules.borrow()).is_cut {
        return;
    }
    let Ok(server) = TcpStream::connect(node).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let watched = || rules.clone();
    let (up, down) = (watched(), watched());
    tokio::select! {
        () = pass(from_client, to_server, up, |rules| link(rules).to_node) => {}
        () = pass(from_server, to_client, down, |rules| link(rules).from_node) => {}
        // The proxy's end is an error here, and ends the connection too.
        _ = rules.wait_for(|rules| link(rules).is_cut) => {}
    }
}

/// Passes bytes on until one side ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut rules: watch::Receiver<Rules>,
    flow: impl Fn(&Rules) -> Flow,
) {
    let (pieces, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE);
    let reading = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            if pieces.send((Instant::now(), piece[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((came, piece)) = queue.recv().await {
            if !is_due(came, &mut rules, &flow).await || to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Waits until what came at a time may go on; `false` when the proxy has ended.
async fn is_due(
    came: Instant,
    rules: &mut watch::Receiver<Rules>,
    flow: impl Fn(&Rules) -> Flow,
) -> bool {
    loop {
        let due = match flow(&rules.borrow_and_update()) {
            Flow::Pass => return true,
            Flow::Delay(delay) => Some(came + delay),
            Flow::Drop => None,
        };
        let passed = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = passed => return true,
            changed = rules.changed() => if changed.is_err() { return false },
        }
    }
}

/// The process that holds the other end of a connection on this machine (proc(5): `net/tcp`).
fn process_of(from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let ports = (format!(":{:04X}", from.port()), format!(":{:04X}", to.port()));
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let socket = tables.iter().flatten().flat_map(|table| table.lines()).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, remote) = (fields.get(1)?, fields.get(2)?);
        let found = local.ends_with(&ports.0) && remote.ends_with(&ports.1);
        found.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    })?;
    let holds = |process: &u32| {
        let files = std::fs::read_dir(format!("/proc/{process}/fd"));
        files.into_iter().flatten().flatten().any(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|target| target.as_os_str() == socket.as_str())
        })
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        address
    }

    async fn proxied() -> (Proxy, TcpStream, SocketAddr) {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let proxy = Proxy::start(free, echo().await).await.unwrap();
        let stream = TcpStream::connect(free).await.unwrap();
        (proxy, stream, free)
    }

    async fn answers(stream: &mut TcpStream, word: &[u8; 4]) {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, word);
    }

    #[tokio::test]
    async fn what_is_dropped_comes_when_the_link_heals() {
        let (proxy, mut stream, _) = proxied().await;
        stream.write_all(b"one.").await.unwrap();
        answers(&mut stream, b"one.").await;
        for link in [
            Link { to_node: Flow::Drop, ..Link::default() },
            Link { from_node: Flow::Drop, ..Link::default() },
        ] {
            proxy.set(link);
            stream.write_all(b"two.").await.unwrap();
            let silence = Duration::from_millis(100);
            let early = tokio::time::timeout(silence, stream.read_u8()).await;
            assert!(early.is_err(), "{link:?}");
            proxy.heal();
            answers(&mut stream, b"two.").await;
        }
    }

    #[tokio::test]
    async fn a_delay_holds_in_both_directions() {
        let (proxy, mut stream, _) = proxied().await;
        stream.write_all(b"one.").await.unwrap();
        answers(&mut stream, b"one.").await;
        proxy.set(Link::both(Flow::Delay(Duration::from_millis(60))));
        let begun = Instant::now();
        stream.write_all(b"two.").await.unwrap();
        answers(&mut stream, b"two.").await;
        assert!(begun.elapsed() >= Duration::from_millis(120));
    }

    #[tokio::test]
    async fn a_process_can_be_treated_apart() {
        let (proxy, mut stream, listen) = proxied().await;
        proxy.set(Link::both(Flow::Drop));
        proxy.set_for(std::process::id(), Link::default());
        stream.write_all(b"one.").await.unwrap();
        answers(&mut stream, b"one.").await;
        proxy.set_for(std::process::id(), Link::cut());
        assert_eq!(stream.read(&mut [0; 4]).await.unwrap_or(0), 0);
        let mut again = TcpStream::connect(listen).await.unwrap();
        assert_eq!(again.read(&mut [0; 4]).await.unwrap_or(0), 0);
    }
}
