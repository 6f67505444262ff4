//! Chaincode packages: a gzipped tar of `metadata.json` (type and label) and `code.tar.gz`
//! (Fabric: core/chaincode/persistence/chaincode_package.go). In a package of a contract that
//! runs as a service the code is a `connection.json`, which says where the service listens.

mod archive;
mod connection;
mod id;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use connection::{Connection, ConnectionError, ConnectionTls};
pub use id::{Label, LabelError, PackageId, PackageIdError};

/// The type of packages of contracts that run as a service.
pub const SERVICE_TYPE: &str = "ccaas";

/// Name of the metadata in a package.
const METADATA: &str = "metadata.json";
/// Name of the code in a package.
const CODE: &str = "code.tar.gz";
/// Name of the connection settings in the code.
const CONNECTION: &str = "connection.json";
/// Largest metadata or connection settings, bytes.
const MAX_JSON_BYTES: u64 = 1024 * 1024;
/// Largest code once the package is decompressed, bytes.
const MAX_CODE_BYTES: u64 = 512 * 1024 * 1024;
/// Most bytes read from an archive in search of a file.
const MAX_ARCHIVE_BYTES: u64 = 1024 * 1024 * 1024;

/// Bytes that are not a chaincode package, or values that do not make one.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Not a gzipped tar, or one with entries that are not files.
    #[error("failed to read {archive}: {reason}")]
    Archive {
        /// The package, or the code in it.
        archive: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is larger than allowed.
    #[error("{file} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        file: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is missing.
    #[error("did not find {file} in {archive}")]
    Missing {
        /// The file.
        file: &'static str,
        /// The package, or the code in it.
        archive: &'static str,
    },
    /// A file is not the JSON it should be.
    #[error("failed to read {file} as JSON")]
    Json {
        /// The file.
        file: &'static str,
        /// Where reading stopped, and why.
        #[source]
        source: serde_json::Error,
    },
    /// The label breaks the rules.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The connection settings contradict themselves.
    #[error("failed to use connection.json")]
    Connection(#[source] ConnectionError),
}

/// `metadata.json`, in the order of fields that Fabric writes.
#[derive(Debug, Serialize, Deserialize)]
struct Metadata {
    #[serde(default)]
    path: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    label: String,
}

/// How a peer and the contract of a package come together. Each package has one way, and its
/// contract cannot take the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The contract is a service, which the peer dials.
    Dialled(Connection),
    /// The contract dials the peer and registers: the package is of another type, or its
    /// `connection.json` has no address.
    Registers,
}

/// A chaincode package, read.
#[derive(Debug, Clone)]
pub struct Package {
    id: PackageId,
    kind: String,
    code: Bytes,
}

impl Package {
    /// Reads a package.
    ///
    /// # Errors
    /// Fails on anything but a gzipped tar of files, among them valid metadata and code.
    pub fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        const WHAT: &str = "the package";
        let mut files = archive::read(
            WHAT,
            bytes,
            &[(METADATA, MAX_JSON_BYTES), (CODE, MAX_CODE_BYTES)],
            archive::OtherEntries::MustBeFiles,
        )?;
        let missing = |file| PackageError::Missing { file, archive: WHAT };
        let code = files.remove(CODE).ok_or(missing(CODE))?;
        let metadata = files.remove(METADATA).ok_or(missing(METADATA))?;
        let metadata: Metadata = serde_json::from_slice(&metadata)
            .map_err(|source| PackageError::Json { file: METADATA, source })?;
        let label = Label::new(metadata.label)?;
        Ok(Self { id: PackageId::of(&label, bytes), kind: metadata.kind, code: code.into() })
    }

    /// Makes the bytes of a package of a contract that runs as a service. Equal input gives equal
    /// bytes and so the same package id.
    ///
    /// # Errors
    /// Fails when the archive cannot be written, which memory does not cause.
    pub fn build(label: &Label, connection: &Connection) -> Result<Bytes, PackageError> {
        let json = |file, result: Result<Vec<u8>, _>| {
            result.map_err(|source| PackageError::Json { file, source })
        };
        let connection = json(CONNECTION, serde_json::to_vec_pretty(connection))?;
        let code = archive::write("code", &[(CONNECTION, &connection)])?;
        let metadata = Metadata {
            path: String::new(),
            kind: SERVICE_TYPE.to_owned(),
            label: label.as_str().to_owned(),
        };
        let metadata = json(METADATA, serde_json::to_vec(&metadata))?;
        Ok(archive::write("the package", &[(METADATA, &metadata), (CODE, &code)])?.into())
    }

    /// The package's id: its label and the SHA-256 of its bytes.
    #[must_use]
    pub fn id(&self) -> &PackageId {
        &self.id
    }

    /// Its type, such as `ccaas`, `golang` or `node`, as written.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether its contract runs as a service. Others must be started by somebody else and
    /// register with the peer.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.kind.eq_ignore_ascii_case(SERVICE_TYPE)
    }

    /// How its contract is reached.
    ///
    /// # Errors
    /// Fails where `connection.json` is missing or wrong.
    pub fn reach(&self) -> Result<Reach, PackageError> {
        const WHAT: &str = "the package's code";
        if !self.is_service() {
            return Ok(Reach::Registers);
        }
        let mut files = archive::read(
            WHAT,
            &self.code,
            &[(CONNECTION, MAX_JSON_BYTES)],
            archive::OtherEntries::Ignored,
        )?;
        let json = files
            .remove(CONNECTION)
            .ok_or(PackageError::Missing { file: CONNECTION, archive: WHAT })?;
        let connection: Connection = serde_json::from_slice(&json)
            .map_err(|source| PackageError::Json { file: CONNECTION, source })?;
        connection.validate().map_err(PackageError::Connection)?;
        Ok(match connection.address.is_empty() {
            true => Reach::Registers,
            false => Reach::Dialled(connection),
        })
    }
}
