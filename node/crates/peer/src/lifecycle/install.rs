//! Packages: install, list, read (Fabric: core/chaincode/lifecycle/lifecycle.go, cache.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use weft_protos::lifecycle::query_installed_chaincode_result::{Chaincode, References};
use weft_protos::lifecycle::query_installed_chaincodes_result as list;
use weft_protos::lifecycle::{
    GetInstalledChaincodePackageArgs, GetInstalledChaincodePackageResult, InstallChaincodeArgs,
    InstallChaincodeResult, QueryInstalledChaincodeArgs, QueryInstalledChaincodeResult,
    QueryInstalledChaincodesResult,
};

use super::definition::definitions;
use super::functions::FunctionError;
use super::sources::Sources;
use crate::blocking::blocking;
use crate::chaincode::package::{Package, PackageId, StoreError};
use crate::channel::Channels;

/// The functions of `_lifecycle` that concern the peer as a whole.
#[derive(Clone)]
pub struct Installed {
    sources: Arc<Sources>,
    channels: Arc<Channels>,
    max_bytes: usize,
}

impl Installed {
    /// The packages of `sources`, which run chaincodes on `channels`. A package may have
    /// `max_bytes`.
    #[must_use]
    pub fn new(sources: Arc<Sources>, channels: Arc<Channels>, max_bytes: usize) -> Self {
        Self { sources, channels, max_bytes }
    }

    /// The installed packages.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Keeps a package. It is on disk when this returns.
    ///
    /// # Errors
    /// [`FunctionError`], also when the package is installed already.
    pub async fn install(
        &self,
        args: InstallChaincodeArgs,
    ) -> Result<InstallChaincodeResult, FunctionError> {
        let bytes = args.chaincode_install_package;
        let (size, limit) = (bytes.len(), self.max_bytes);
        if size > limit {
            return Err(FunctionError::PackageTooLarge { size, limit });
        }
        let sources = Arc::clone(&self.sources);
        let saved = tokio::task::spawn_blocking(move || save(&sources, &bytes));
        let id = saved.await.unwrap_or(Err(FunctionError::ShuttingDown))?;
        tracing::info!(package_id = %id, "installed a chaincode package");
        Ok(InstallChaincodeResult {
            package_id: id.to_string(),
            label: id.label().as_str().to_owned(),
        })
    }

    /// One package and the chaincodes that it runs.
    ///
    /// # Errors
    /// [`FunctionError::NotInstalled`].
    pub async fn query(
        &self,
        args: QueryInstalledChaincodeArgs,
    ) -> Result<QueryInstalledChaincodeResult, FunctionError> {
        let package_id = args.package_id;
        if !self.sources.installed().contains(&package_id) {
            return Err(FunctionError::NotInstalled(package_id));
        }
        let mut references = blocking(|| self.references()).await;
        let references = references.remove(&package_id).unwrap_or_default();
        let references = references
            .into_iter()
            .map(|(channel, chaincodes)| (channel, References { chaincodes }))
            .collect();
        let label = label(&package_id);
        Ok(QueryInstalledChaincodeResult { package_id, label, references })
    }

    /// All packages and the chaincodes that they run.
    pub async fn query_all(&self) -> QueryInstalledChaincodesResult {
        let mut references = blocking(|| self.references()).await;
        let packages = self.sources.installed().into_iter().map(|package_id| {
            let used = references.remove(&package_id).unwrap_or_default();
            let references = used
                .into_iter()
                .map(|(channel, chaincodes)| (channel, in_list(chaincodes)))
                .collect();
            list::InstalledChaincode { label: label(&package_id), package_id, references }
        });
        QueryInstalledChaincodesResult { installed_chaincodes: packages.collect() }
    }

    /// The bytes of a package.
    ///
    /// # Errors
    /// [`FunctionError::Load`].
    pub async fn package(
        &self,
        args: GetInstalledChaincodePackageArgs,
    ) -> Result<GetInstalledChaincodePackageResult, FunctionError> {
        let id: PackageId = args
            .package_id
            .parse()
            .map_err(|_| FunctionError::NotInstalled(args.package_id.clone()))?;
        let packages = self.sources.packages().clone();
        let loaded = tokio::task::spawn_blocking(move || packages.load(&id)).await;
        let loaded: Result<Bytes, StoreError> = loaded.map_err(|_| FunctionError::ShuttingDown)?;
        let chaincode_install_package = loaded.map_err(FunctionError::Load)?;
        Ok(GetInstalledChaincodePackageResult { chaincode_install_package })
    }

    /// By package, and by channel: the chaincodes that it runs. What cannot be read is left out.
    fn references(&self) -> BTreeMap<String, BTreeMap<String, Vec<Chaincode>>> {
        let mut all: BTreeMap<String, BTreeMap<String, Vec<Chaincode>>> = BTreeMap::new();
        for channel in self.channels.list() {
            let state = channel.ledger().state();
            let defined = definitions(&state).unwrap_or_else(|error| {
                tracing::warn!(channel = %channel.id(), %error, "cannot list definitions");
                Vec::new()
            });
            for definition in defined {
                let package = self.sources.package_of(channel.id(), &state, &definition);
                let Ok(package) = package else { continue };
                let version = definition.parameters.version;
                let chaincode = Chaincode { name: definition.name, version };
                let channels = all.entry(package).or_default();
                channels.entry(channel.id().to_string()).or_default().push(chaincode);
            }
        }
        all
    }
}

fn save(sources: &Sources, bytes: &[u8]) -> Result<PackageId, FunctionError> {
    let package = Package::parse(bytes).map_err(FunctionError::Package)?;
    let id = package.id().clone();
    if sources.packages().is_installed(&id) {
        // It may have been put there while the peer was running.
        sources.add(id.to_string());
        return Err(FunctionError::AlreadyInstalled(id.to_string()));
    }
    sources.packages().save(bytes).map_err(FunctionError::Save)?;
    sources.add(id.to_string());
    Ok(id)
}

fn label(package_id: &str) -> String {
    package_id.split_once(':').map_or(package_id, |(label, _)| label).to_owned()
}

fn in_list(chaincodes: Vec<Chaincode>) -> list::References {
    let chaincodes = chaincodes.into_iter();
    let chaincodes = chaincodes.map(|c| list::Chaincode { name: c.name, version: c.version });
    list::References { chaincodes: chaincodes.collect() }
}
