//! Which peer, channel and user a command on a local network means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weft_client::{Connection, ConnectionSpec, Gateway};
use weft_crypto::{Certificate, PrivateKey};
use weft_msp::SigningIdentity;
use weft_types::{ChannelId, MspId};

use super::CommandError;
use super::target::{Reached, Wanted};
use crate::local::LocalError;
use crate::local::connection::{ConnectionFile, OrgEntry, UserEntry};
use crate::local::files;
use crate::local::layout::Layout;

/// The peer and identity of a call: those of the network's connection file.
///
/// # Errors
/// [`LocalError::NoNetwork`] when there is none; what is not in the file, and what is.
pub(super) fn reach(dir: &Path, wanted: &Wanted) -> Result<Reached, CommandError> {
    let file = connection_file(dir)?;
    let org = organization(&file, wanted.org.as_deref())?;
    let user = user(org, wanted)?;
    let channel = ChannelId::new(wanted.channel.as_deref().unwrap_or(&file.channel))?;
    Ok(Reached {
        connection: connection(org, &org.peer)?,
        signer: Arc::new(signer(org, &user)?),
        channel,
        chaincode: wanted.chaincode.clone().unwrap_or_else(|| file.chaincode.clone()),
        forward: None,
    })
}

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
    let signer = signer(org, &org.user)?;
    Ok(Gateway::new(connection(org, peer)?, channel, Arc::new(signer)))
}

fn connection(org: &OrgEntry, peer: &str) -> Result<Connection, CommandError> {
    let spec = ConnectionSpec {
        address: peer.to_owned(),
        server_name: Some(org.tls_server_name.clone()),
        roots: Certificate::all_from_pem(&text(&org.tls_ca_cert)?)?,
        client: None,
    };
    Ok(Connection::new(&spec)?)
}

fn signer(org: &OrgEntry, user: &UserEntry) -> Result<SigningIdentity, CommandError> {
    Ok(SigningIdentity::new(
        MspId::new(&org.msp_id)?,
        Certificate::from_pem(&text(&user.cert)?)?,
        PrivateKey::from_pkcs8_pem(&text(&user.key)?)?,
    )?)
}

/// The keys of the user that is wanted. The file names two; the others' folders are beside
/// that of the administrator, `users/admin/msp/signcerts/cert.pem`.
fn user(org: &OrgEntry, wanted: &Wanted) -> Result<UserEntry, CommandError> {
    let Some(name) = &wanted.user else {
        return Ok(if wanted.as_admin { org.admin.clone() } else { org.user.clone() });
    };
    let users = org.admin.cert.ancestors().nth(4).unwrap_or(Path::new("."));
    let beside = |path: &Path| -> PathBuf {
        let below: PathBuf = path.strip_prefix(users.join("admin")).unwrap_or(path).to_owned();
        users.join(name).join(below)
    };
    let entry = UserEntry { cert: beside(&org.admin.cert), key: beside(&org.admin.key) };
    if !entry.cert.is_file() {
        let (org, users) = (&org.msp_id, users.display());
        return Err(format!("no user {name:?} of {org}; {users} has a folder for each").into());
    }
    Ok(entry)
}

fn text(path: &Path) -> Result<String, CommandError> {
    files::read_text(path)?.ok_or_else(|| format!("{} is gone", path.display()).into())
}
