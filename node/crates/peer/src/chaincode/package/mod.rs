//! Installed chaincode packages. What a package is, and how one is made, is for the
//! `weft-package` crate, which clients use too.

mod store;

pub use store::{InstalledPackage, PackageStore, StoreError};
pub use weft_package::{
    Connection, ConnectionError, ConnectionTls, Label, LabelError, Package, PackageError,
    PackageId, PackageIdError, Reach, SERVICE_TYPE,
};
