//! Which peer, channel and user a command means.

use std::path::Path;
use std::sync::Arc;

use weft_client::{Connection, ConnectionSpec, Gateway};
use weft_crypto::{Certificate, PrivateKey};
use weft_msp::SigningIdentity;
use weft_types::{ChannelId, MspId};

use super::CommandError;
use crate::local::LocalError;
use crate::local::connection::{ConnectionFile, OrgEntry};
use crate::local::files;
use crate::local::layout::Layout;

/// The network's connection file.
///
/// # Errors
/// [`LocalError::NoNetwork`] when there is none.
pub(super) fn connection_file(dir: &Path) -> Result<ConnectionFile, CommandError> {
    let folder = std::path::absolute(dir)?;
    let layout = Layout::new(folder.clone());
    let file = ConnectionFile::load(&layout)?;
    Ok(file.ok_or(LocalError::NoNetwork { folder })?)
}

/// The organization of that MSP id, or the first one.
pub(super) fn organization<'a>(
    file: &'a ConnectionFile,
    msp_id: Option<&str>,
) -> Result<&'a OrgEntry, CommandError> {
    let found = match msp_id {
        Some(id) => file.orgs.iter().find(|org| org.msp_id == id),
        None => file.orgs.first(),
    };
    found.ok_or_else(|| {
        let known: Vec<&str> = file.orgs.iter().map(|org| org.msp_id.as_str()).collect();
        let wanted = msp_id.unwrap_or_default();
        format!("no organization {wanted:?} in the network; there are: {}", known.join(", ")).into()
    })
}

/// A gateway client of an organization's user, on `channel` or the network's first channel.
pub(super) fn gateway(
    file: &ConnectionFile,
    org: &OrgEntry,
    peer: &str,
    channel: Option<&str>,
) -> Result<Gateway, CommandError> {
    let channel = ChannelId::new(channel.unwrap_or(&file.channel))?;
    let spec = ConnectionSpec {
        address: peer.to_owned(),
        server_name: Some(org.tls_server_name.clone()),
        roots: Certificate::all_from_pem(&text(&org.tls_ca_cert)?)?,
        client: None,
    };
    let signer = SigningIdentity::new(
        MspId::new(&org.msp_id)?,
        Certificate::from_pem(&text(&org.user.cert)?)?,
        PrivateKey::from_pkcs8_pem(&text(&org.user.key)?)?,
    )?;
    Ok(Gateway::new(Connection::new(&spec)?, channel, Arc::new(signer)))
}

fn text(path: &Path) -> Result<String, CommandError> {
    files::read_text(path)?.ok_or_else(|| format!("{} is gone", path.display()).into())
}
