//! `weft channel sign-update`: an organization that runs elsewhere signs a change of a
//! channel's config that the operator has prepared.
//!
//! The operator puts the change into the ConfigMap `CHANNEL-update` and takes signatures from
//! Secrets labelled `weft.dev/channel-signature=CHANNEL`. Whoever signs need not reach the
//! cluster: the ConfigMap may come as a file, and the Secret leaves as one.

use std::path::{Path, PathBuf};

use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams};
use prost::Message;
use weft_config::inspect::{self, GroupView};
use weft_config::update::{sign_update, update_of};
use weft_crypto::random_bytes;
use weft_msp::SigningIdentity;
use weft_msp::folder;
use weft_protos::common::{Config, ConfigGroup, ConfigUpdate, ConfigUpdateEnvelope, Envelope};
use weft_types::{ChannelId, MspId, Nonce};

use super::context::Context;
use super::error::ClusterError;
use crate::cli::target::Target;
use crate::cli::{CommandError, Output, put};
use crate::cluster::names::{self, key, label};
use crate::local::files;

/// Arguments of `channel sign-update`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The channel.
    #[arg(value_name = "CHANNEL")]
    pub channel: String,
    /// MSP folder of an administrator of the organization (with `signcerts` and `keystore`), or
    /// the folder that holds it as `msp`.
    #[arg(long, value_name = "DIR")]
    pub msp: PathBuf,
    /// The organization's MSP id.
    #[arg(long, value_name = "MSP_ID")]
    pub msp_id: String,
    /// The change as a file, not from the cluster: the ConfigMap CHANNEL-update as YAML or JSON,
    /// an encoded ConfigUpdate, or an envelope of `peer channel signconfigtx`, whose signatures
    /// are kept.
    #[arg(long, value_name = "FILE")]
    pub update: Option<PathBuf>,
    /// Write the Secret's manifest to this file instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Put the Secret into the cluster.
    #[arg(long)]
    pub apply: bool,
}

/// Signs, and hands the Secret over.
pub(in crate::cli) async fn sign(
    target: &Target,
    args: SignArgs,
    output: Output,
) -> Result<(), CommandError> {
    let channel = ChannelId::new(&args.channel)?;
    let context = match (&args.update, args.apply) {
        (Some(_), false) => None,
        _ => Some(target.cluster("channel sign-update").await?),
    };
    let bytes = match (&args.update, &context) {
        (Some(path), _) => {
            files::read(path)?.ok_or_else(|| format!("there is no file {}", path.display()))?
        }
        (None, Some(context)) => pending(context, &channel).await?,
        (None, None) => return Err("name the change with --update, or a cluster".into()),
    };
    let update = read(&bytes, &channel)?;
    let signer = signer(&args.msp, &MspId::new(&args.msp_id)?)?;
    show(&channel, &update)?;
    let signed = add_signature(update, &signer, random_bytes()?)?;
    let secret = secret(&channel, &args.msp_id, &signed);
    if let Some(context) = context.filter(|_| args.apply) {
        apply(&context, &secret).await?;
        eprintln!("Secret {}/{} applied", context.namespace, name(&channel, &args.msp_id));
        return Ok(());
    }
    let text = match output {
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&secret)?),
        Output::Text | Output::Yaml => serde_yaml::to_string(&secret)?,
    };
    match &args.out {
        Some(path) => super::save(path, text.as_bytes(), true),
        None => put(&text),
    }
}

async fn pending(context: &Context, channel: &ChannelId) -> Result<Vec<u8>, ClusterError> {
    let name = names::pending_update(channel.as_str());
    let step = format!("read ConfigMap {}/{name}", context.namespace);
    let found = context.api::<ConfigMap>().get_opt(&name).await;
    let found = found.map_err(ClusterError::at(&*step))?;
    let needed = found.as_ref().and_then(|map| map.data.as_ref()?.get(key::NEEDED));
    if let Some(needed) = needed {
        let needed: Vec<&str> = needed.split_whitespace().collect();
        eprintln!("signatures that are missing: {}", needed.join(", "));
    }
    found.as_ref().and_then(of_config_map).ok_or(ClusterError::Refused {
        step,
        message: format!("no change of channel {channel} waits for signatures"),
    })
}

fn of_config_map(map: &ConfigMap) -> Option<Vec<u8>> {
    map.binary_data.as_ref()?.get(key::UPDATE).map(|value| value.0.clone())
}

/// The change in any of the forms in which it may come, with the signatures it has. The
/// encodings resemble each other: it is the one that speaks of this channel.
fn read(bytes: &[u8], channel: &ChannelId) -> Result<ConfigUpdateEnvelope, CommandError> {
    let manifest = std::str::from_utf8(bytes).ok();
    let manifest = manifest.and_then(|text| serde_yaml::from_str::<ConfigMap>(text).ok());
    let unpacked = manifest.as_ref().and_then(of_config_map);
    let bytes = unpacked.as_deref().unwrap_or(bytes);
    let bare =
        ConfigUpdateEnvelope { config_update: bytes.to_vec().into(), signatures: Vec::new() };
    let forms = [
        Envelope::decode(bytes).ok().and_then(|envelope| update_of(&envelope).ok()),
        ConfigUpdateEnvelope::decode(bytes).ok(),
        Some(bare),
    ];
    let mut others = Vec::new();
    for form in forms.into_iter().flatten() {
        match ConfigUpdate::decode(&*form.config_update) {
            Ok(update) if update.channel_id == channel.as_str() => return Ok(form),
            Ok(update) if ChannelId::new(&update.channel_id).is_ok() => {
                others.push(update.channel_id);
            }
            _ => {}
        }
    }
    Err(match others.first() {
        Some(other) => format!("the change is one of channel {other:?}, not of {channel}").into(),
        None => "failed to read the change: it is no ConfigMap CHANNEL-update, no ConfigUpdate and no envelope with one".into(),
    })
}

fn signer(dir: &Path, msp_id: &MspId) -> Result<SigningIdentity, CommandError> {
    let inner = dir.join("msp");
    let dir = if inner.is_dir() { &inner } else { dir };
    Ok(folder::load_signing_identity(dir, msp_id)?)
}

fn add_signature(
    mut update: ConfigUpdateEnvelope,
    signer: &SigningIdentity,
    nonce: Nonce,
) -> Result<ConfigUpdateEnvelope, CommandError> {
    update.signatures.push(sign_update(&update.config_update, signer, nonce)?);
    Ok(update)
}

fn secret(channel: &ChannelId, msp_id: &str, signed: &ConfigUpdateEnvelope) -> Secret {
    let label = (label::CHANNEL_SIGNATURE.to_owned(), channel.to_string());
    let value = ByteString(signed.encode_to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(name(channel, msp_id)),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some([(key::SIGNATURE.to_owned(), value)].into()),
        ..Secret::default()
    }
}

/// Name of the Secret: of lower-case letters, digits, dots and dashes, as names are.
fn name(channel: &ChannelId, msp_id: &str) -> String {
    let lower = msp_id.to_ascii_lowercase().replace('_', "-");
    format!("{channel}-signature-{}", lower.trim_end_matches(['-', '.']))
}

async fn apply(context: &Context, secret: &Secret) -> Result<(), ClusterError> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let step = format!("apply Secret {}/{name}", context.namespace);
    let params = PatchParams::apply(super::MANAGER).force();
    let api = context.api::<Secret>();
    api.patch(&name, &params, &Patch::Apply(secret)).await.map_err(ClusterError::at(step))?;
    Ok(())
}

/// Tells the person what is signed.
fn show(channel: &ChannelId, update: &ConfigUpdateEnvelope) -> Result<(), CommandError> {
    let decoded = ConfigUpdate::decode(&*update.config_update)?;
    eprintln!("this change of channel {channel} is signed:");
    for line in changes(channel, &decoded) {
        eprintln!("  {line}");
    }
    if !update.signatures.is_empty() {
        eprintln!("it has {} signatures already", update.signatures.len());
    }
    Ok(())
}

/// The longest text of a value that is shown, in characters.
const LONGEST: usize = 300;

/// What an update writes: elements whose version is another than the one that is read, or that
/// are not read at all; version 0 is that of a new one (Fabric: `common/configtx/update.go`,
/// `computeDeltaSet`).
fn changes(channel: &ChannelId, update: &ConfigUpdate) -> Vec<String> {
    let view = |group: &Option<ConfigGroup>| {
        let config = Config { channel_group: group.clone(), ..Config::default() };
        inspect::view(channel, &config).channel
    };
    let mut found = Vec::new();
    if let Some(write) = view(&update.write_set) {
        group_changes("/Channel", view(&update.read_set).as_ref(), &write, &mut found);
    }
    found
}

fn group_changes(path: &str, read: Option<&GroupView>, write: &GroupView, found: &mut Vec<String>) {
    if is_written(read.map(|read| read.version), write.version) {
        found.push(format!("group {path}{}", newness(write.version)));
    }
    for (name, policy) in &write.policies {
        let before = read.and_then(|read| Some(read.policies.get(name)?.version));
        if is_written(before, policy.version) {
            let new = newness(policy.version);
            found.push(format!("policy {path}/{name}{new}: {}", policy.rule));
        }
    }
    for (name, value) in &write.values {
        let before = read.and_then(|read| Some(read.values.get(name)?.version));
        if is_written(before, value.version) {
            let new = newness(value.version);
            found.push(format!("value {path}/{name}{new}: {}", shortened(&value.value)));
        }
    }
    for (name, group) in &write.groups {
        let below = read.and_then(|read| read.groups.get(name));
        group_changes(&format!("{path}/{name}"), below, group, found);
    }
}

fn is_written(read: Option<u64>, write: u64) -> bool {
    read != Some(write)
}

fn newness(version: u64) -> &'static str {
    if version == 0 { " (new)" } else { "" }
}

fn shortened(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use weft_protos::common::{
        ChannelHeader, ConfigPolicy, ConfigValue, Header, HeaderType, Payload,
    };

    use super::*;

    fn channel() -> ChannelId {
        ChannelId::new("supply").unwrap()
    }

    fn update() -> ConfigUpdate {
        let value = |version| ConfigValue { version, ..ConfigValue::default() };
        let group = |version, timeout| ConfigGroup {
            version,
            values: [("BatchTimeout".to_owned(), value(timeout))].into(),
            ..ConfigGroup::default()
        };
        let mut write = group(1, 4);
        write.groups.insert("Partner".to_owned(), group(0, 0));
        ConfigUpdate {
            channel_id: "supply".into(),
            read_set: Some(group(0, 3)),
            write_set: Some(write),
            ..ConfigUpdate::default()
        }
    }

    #[test]
    fn every_form_of_the_change_is_the_same_change() {
        let bare = update().encode_to_vec();
        let enveloped = ConfigUpdateEnvelope {
            config_update: bare.clone().into(),
            signatures: vec![Default::default()],
        };
        let channel_header = ChannelHeader {
            r#type: HeaderType::ConfigUpdate.into(),
            channel_id: "supply".into(),
            ..ChannelHeader::default()
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: channel_header.encode_to_vec().into(),
                ..Header::default()
            }),
            data: enveloped.encode_to_vec().into(),
        };
        let envelope = Envelope { payload: payload.encode_to_vec().into(), ..Envelope::default() };
        let map = ConfigMap {
            binary_data: Some([(key::UPDATE.to_owned(), ByteString(bare.clone()))].into()),
            ..ConfigMap::default()
        };
        let check = |bytes: &[u8], signatures: usize| {
            let found = read(bytes, &channel()).unwrap();
            assert_eq!(found.config_update, bare);
            assert_eq!(found.signatures.len(), signatures);
        };
        check(&bare, 0);
        check(&enveloped.encode_to_vec(), 1);
        check(&envelope.encode_to_vec(), 1);
        check(serde_yaml::to_string(&map).unwrap().as_bytes(), 0);
        check(serde_json::to_string(&map).unwrap().as_bytes(), 0);
    }

    #[test]
    fn a_change_of_another_channel_is_not_signed() {
        let other = ConfigUpdate { channel_id: "audit".into(), ..update() }.encode_to_vec();
        assert_eq!(
            read(&other, &channel()).unwrap_err().to_string(),
            "the change is one of channel \"audit\", not of supply"
        );
        assert!(read(b"nonsense", &channel()).is_err());
    }

    #[test]
    fn what_is_signed_is_told() {
        let mut update = update();
        let write = update.write_set.as_mut().unwrap();
        // Neither is in the read set: the one is changed, the other new.
        for (name, version) in [("Readers", 2), ("Auditors", 0)] {
            let policy = ConfigPolicy { version, ..ConfigPolicy::default() };
            write.policies.insert(name.to_owned(), policy);
        }
        assert_eq!(
            changes(&channel(), &update),
            [
                "group /Channel",
                "policy /Channel/Auditors (new): <none>",
                "policy /Channel/Readers: <none>",
                "value /Channel/BatchTimeout: \"\"",
                "group /Channel/Partner (new)",
                "value /Channel/Partner/BatchTimeout (new): \"\"",
            ]
        );
        assert_eq!(shortened(&"x".repeat(400).into()).chars().count(), LONGEST + 2);
    }

    #[test]
    fn the_secret_is_found_by_its_label() {
        let signed = ConfigUpdateEnvelope::default();
        let secret = secret(&channel(), "Partner_MSP", &signed);
        assert_eq!(secret.metadata.name.as_deref(), Some("supply-signature-partner-msp"));
        let yaml = serde_yaml::to_string(&secret).unwrap();
        assert!(yaml.contains("kind: Secret"), "{yaml}");
        assert!(yaml.contains("weft.dev/channel-signature: supply"), "{yaml}");
    }
}
