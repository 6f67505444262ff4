//! Organizations as the configuration defines them: a group with an MSP.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_msp::Msp;
use weft_protos::{ext::decode, msp};
use weft_types::MspId;

use crate::{bundle::ConfigError, keys, value::GroupReader};

/// An X.509 MSP in [`msp::MspConfig`]. Fabric: `msp/configbuilder.go`.
pub const MSP_TYPE_X509: i32 = 0;

/// What both kinds of organization have.
#[derive(Debug, Clone)]
pub struct Organization {
    /// Name of its group, which need not be the MSP id.
    pub name: String,
    /// Its MSP id. It never changes while the group exists.
    pub msp_id: MspId,
    /// The definition of its MSP.
    pub msp: msp::FabricMspConfig,
}

impl Organization {
    /// Root certificates of its TLS authorities, PEM.
    #[must_use]
    pub fn tls_root_certs(&self) -> &[Bytes] {
        &self.msp.tls_root_certs
    }

    /// Intermediate certificates of its TLS authorities, PEM.
    #[must_use]
    pub fn tls_intermediate_certs(&self) -> &[Bytes] {
        &self.msp.tls_intermediate_certs
    }
}

/// Collects the MSPs that organizations define. The same one may be defined in several groups, then
/// with equal content. Fabric: `common/channelconfig/msp.go`.
#[derive(Default)]
pub(crate) struct MspCollector {
    msps: BTreeMap<MspId, (msp::MspConfig, Msp)>,
}

impl MspCollector {
    /// Reads an organization's group and takes in its MSP.
    pub(crate) fn organization(
        &mut self,
        name: &str,
        group: &GroupReader<'_>,
    ) -> Result<Organization, ConfigError> {
        group.no_groups()?;
        let path = group.path_of(keys::MSP);
        let Some(config) = group.value::<msp::MspConfig>(keys::MSP)? else {
            return Err(ConfigError::MissingValue { path });
        };
        if config.r#type != MSP_TYPE_X509 {
            return Err(ConfigError::MspKind { path, kind: config.r#type });
        }
        let definition: msp::FabricMspConfig = decode("MSP definition", config.config.clone())
            .map_err(|source| ConfigError::Decode { path: path.clone(), source })?;
        let msp_id = MspId::new(&definition.name)
            .map_err(|source| ConfigError::MspId { path: path.clone(), source })?;
        self.add(&msp_id, config, &definition, path)?;
        Ok(Organization { name: name.to_owned(), msp_id, msp: definition })
    }

    fn add(
        &mut self,
        id: &MspId,
        config: msp::MspConfig,
        definition: &msp::FabricMspConfig,
        path: String,
    ) -> Result<(), ConfigError> {
        match self.msps.get(id) {
            Some((known, _)) if *known == config => Ok(()),
            Some(_) => Err(ConfigError::MspConflict { path, msp_id: id.clone() }),
            None => {
                let msp = Msp::new(definition)
                    .map_err(|source| ConfigError::Msp { path, source: Box::new(source) })?;
                self.msps.insert(id.clone(), (config, msp));
                Ok(())
            }
        }
    }

    pub(crate) fn into_msps(self) -> impl Iterator<Item = Msp> {
        self.msps.into_values().map(|(_, msp)| msp)
    }
}
