//! The node's own MSP folder: read at the start, and looked at again while the node runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use prometheus::{IntGauge, Registry};
use tracing::{error, info, warn};
use weft_crypto::Certificate;
use weft_msp::folder::{self, FolderError};
use weft_msp::{NodeMsp, Renewal, SigningIdentity};
use weft_ops::certificates::{Expiry, register_expiry, register_refused};
use weft_rpc::tls::ReloadingTls;
use weft_settings::Msp as MspSettings;
use weft_types::{MspId, Signer as _, Timestamp};

/// What the folder defines and whom it lets the node sign as.
type Contents = (weft_protos::msp::FabricMspConfig, SigningIdentity);

/// The folder of an MSP, and what was taken over from it.
pub struct MspFolder {
    dir: PathBuf,
    id: MspId,
    msp: Arc<NodeMsp>,
    refused: IntGauge,
    /// What was told of last, so that it is told once.
    told: Option<Told>,
}

/// What a refusal was about.
#[derive(PartialEq)]
enum Told {
    Unreadable(String),
    Refused(Box<weft_protos::msp::FabricMspConfig>, bytes::Bytes),
}

/// Ends the looking when it is dropped.
pub struct Watch(tokio::task::JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl MspFolder {
    /// Reads the folder of `settings`.
    pub fn load(settings: &MspSettings, registry: &Registry) -> anyhow::Result<Self> {
        let id = MspId::new(&settings.id).context("msp.id")?;
        let dir = settings.dir.clone();
        let (definition, identity) = read(&dir, &id)
            .with_context(|| format!("failed to load the MSP folder {}", dir.display()))?;
        let msp = NodeMsp::new(definition, identity)
            .with_context(|| format!("failed to set up the MSP of {}", dir.display()))?;
        if let Err(error) = msp.check(now()) {
            let reason = reason(&error);
            warn!(folder = %dir.display(), %reason, "the node's certificate is of no use");
        }
        let refused = register_refused(registry)?;
        Ok(Self { dir, id, msp: Arc::new(msp), refused, told: None })
    }

    /// What is in use.
    pub fn msp(&self) -> &Arc<NodeMsp> {
        &self.msp
    }

    /// Looks at the folder at an interval and takes over what changed; never with an interval of
    /// zero.
    pub fn watch(mut self, interval: Duration) -> Option<Watch> {
        if interval.is_zero() {
            return None;
        }
        Some(Watch(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let looked = tokio::task::spawn_blocking(move || {
                    self.look(now());
                    self
                });
                self = match looked.await {
                    Ok(folder) => folder,
                    Err(error) => {
                        error!(%error, "the MSP folder is not looked at any more");
                        return;
                    }
                };
            }
        })))
    }

    /// Looks once. What cannot be taken over is tried again at each look, as it may be that not
    /// all of it is written, or that it becomes valid later.
    fn look(&mut self, now: Timestamp) {
        let (definition, identity) = match read(&self.dir, &self.id) {
            Ok(contents) => contents,
            Err(error) => {
                let reason = reason(&error);
                return self.refuse(Told::Unreadable(reason.clone()), &reason);
            }
        };
        let about = || Told::Refused(Box::new(definition.clone()), identity.serialized_identity());
        match self.msp.renew(definition.clone(), identity.clone(), now) {
            Ok(renewal) => self.accept(renewal),
            Err(error) => self.refuse(about(), &reason(&error)),
        }
    }

    fn accept(&mut self, renewal: Renewal) {
        self.told = None;
        self.refused.set(0);
        let folder = self.dir.display();
        let identity = self.msp.identity().current();
        let certificate = identity.certificate();
        if renewal.identity {
            let serial = hex(certificate.serial());
            let (subject, ends) = (certificate.subject_text(), certificate.not_after());
            info!(%folder, subject, serial, %ends, "signs with a renewed certificate");
        }
        if renewal.definition {
            info!(%folder, "took over a changed MSP definition");
        }
    }

    fn refuse(&mut self, about: Told, reason: &str) {
        self.refused.set(1);
        if self.told.as_ref() != Some(&about) {
            let folder = self.dir.display();
            warn!(%folder, %reason, "kept the identity and the MSP in use");
            self.told = Some(about);
        }
    }
}

/// Reads a folder. Where it is a link, as in a mounted Kubernetes secret, all of it is read from
/// where the link led at first: the link is turned to another version as a whole.
fn read(dir: &Path, id: &MspId) -> Result<Contents, FolderError> {
    let failed = |source| FolderError::Read { path: dir.to_owned(), source };
    let target = std::fs::canonicalize(dir).map_err(failed)?;
    folder::load(&target, id)
}

/// Shows when the certificates in use end.
pub fn show_expiry(
    registry: &Registry,
    msp: &Arc<NodeMsp>,
    tls: &ReloadingTls,
) -> anyhow::Result<()> {
    let (msp, tls) = (Arc::clone(msp), tls.clone());
    let signing: Expiry =
        Box::new(move || Some(msp.identity().current().certificate().not_after()));
    let tls: Expiry = Box::new(move || {
        let identity = tls.identity()?;
        let leaf = identity.chain().first()?;
        Some(Certificate::from_der(leaf).ok()?.not_after())
    });
    register_expiry(registry, vec![("signing", signing), ("tls", tls)])?;
    Ok(())
}

/// An error with what caused it.
fn reason(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
