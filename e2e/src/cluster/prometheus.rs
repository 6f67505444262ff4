//! A Prometheus on this machine that scrapes pods through the API server.
//!
//! The programs are `$PROMETHEUS` and `$PROMTOOL`, or those on the path.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::{patience, tools};

/// A pod's metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scraped {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The port of `/metrics`.
    pub port: u16,
}

/// A running Prometheus; it ends when this is dropped.
pub struct Prometheus {
    address: String,
    _proxy: tokio::process::Child,
    server: Child,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes these pods each second.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub async fn start(targets: &[Scraped]) -> anyhow::Result<Prometheus> {
        let (proxy, api) = proxy().await?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("prometheus.yaml");
        std::fs::write(&config, serde_yaml::to_string(&configuration(targets, &api))?)?;
        let promtool = program("PROMTOOL", "promtool");
        tools::run(Command::new(promtool).args(["check", "config"]).arg(&config), "")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let server = Command::new(program("PROMETHEUS", "prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start prometheus: set PROMETHEUS")?;
        Ok(Prometheus { address, _proxy: proxy, server, _folder: folder })
    }

    /// Waits until every target was scraped without error.
    ///
    /// # Errors
    /// When that does not happen in time: what Prometheus says of the targets.
    pub async fn all_up(&self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience();
        loop {
            let answer = self.get("/api/v1/targets").await.unwrap_or_default();
            let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let up = targets.iter().filter(|target| target["health"] == "up").count();
            if up == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{up} of {count} targets are up: {answer}");
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Values of a query, by their labels.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        let expression: String = expression.bytes().map(encode).collect();
        let answer = self.get(&format!("/api/v1/query?query={expression}")).await?;
        answer["data"]["result"].as_array().cloned().context("no result")
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(&self.address).await?;
        // Version 1.0, so that the body is neither chunked nor followed by anything.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        Ok(serde_json::from_str(body)?)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What `promtool check metrics` has to say of a page of metrics, apart from names that are
/// customary in Fabric's dashboards and alerts and end otherwise than Prometheus advises.
///
/// # Errors
/// What it says.
pub fn check_metrics(text: &str) -> anyhow::Result<()> {
    let promtool = program("PROMTOOL", "promtool");
    let check = tools::run(Command::new(promtool).args(["check", "metrics"]), text);
    let Err(error) = check else { return Ok(()) };
    let said = error.to_string();
    let lines = said.lines().map(|line| line.split(" failed: ").last().unwrap_or(line));
    let rest: Vec<&str> = lines.filter(|line| !line.is_empty() && !is_customary(line)).collect();
    if rest.is_empty() { Ok(()) } else { bail!("{}", rest.join("\n")) }
}

/// Whether a remark is on the end of one of Fabric's names.
fn is_customary(remark: &str) -> bool {
    let endings = [
        " counter metrics should have \"_total\" suffix",
        " non-histogram and non-summary metrics should not have \"_count\" suffix",
    ];
    !remark.starts_with("weft_") && endings.iter().any(|ending| remark.ends_with(ending))
}

fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}

/// The API server without TLS on a local port.
async fn proxy() -> anyhow::Result<(tokio::process::Child, String)> {
    let mut child = tokio::process::Command::new("kubectl")
        .args(["proxy", "--port=0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start kubectl proxy")?;
    let output = child.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).await?;
    let address = line.rsplit(' ').next().unwrap_or_default().trim().to_owned();
    if !address.starts_with("127.0.0.1:") {
        bail!("kubectl proxy said {line:?}");
    }
    Ok((child, address))
}

fn configuration(targets: &[Scraped], api: &str) -> Value {
    let of = |one: &Scraped| {
        let Scraped { namespace, pod, port } = one;
        json!({
            "targets": [api],
            "labels": {
                "__metrics_path__": format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics"),
                "pod": pod,
            },
        })
    };
    let targets: Vec<Value> = targets.iter().map(of).collect();
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "weft", "static_configs": targets}],
    })
}
