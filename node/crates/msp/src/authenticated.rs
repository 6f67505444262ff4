//! Who signed, before any MSP has a say in it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use weft_types::MspId;

use crate::identity::Identity;

/// The holder of a certificate's key: a signature was verified with the key of this certificate, or
/// made here with it.
///
/// It says which certificate, and nothing of what that certificate is worth: the same
/// `msp.SerializedIdentity` can be a member under the MSPs of one channel and a stranger, or revoked,
/// under those of another. So policies take this and no [`Identity`]: each reads it under its own
/// MSPs ([`MspManager::identity_of`](crate::MspManager::identity_of)). The signature is not verified
/// again, as equal bytes have the same key (Fabric: core/aclmgmt, `CheckACL` reads the signed
/// proposal anew for the channel that is named).
///
/// Made by [`Identity::authenticate`] and
/// [`SigningIdentity::authenticated`](crate::SigningIdentity::authenticated) only.
#[derive(Clone)]
pub struct Authenticated {
    serialized: Bytes,
    msp_id: MspId,
    /// As the MSPs that verified it read it: those take it from here.
    pub(crate) read: Option<Arc<Identity>>,
}

impl Authenticated {
    pub(crate) fn of(identity: &Arc<Identity>) -> Self {
        Self {
            serialized: identity.serialized().clone(),
            msp_id: identity.msp_id().clone(),
            read: Some(Arc::clone(identity)),
        }
    }

    pub(crate) fn own(serialized: Bytes, msp_id: MspId) -> Self {
        Self { serialized, msp_id, read: None }
    }

    /// The encoded `msp.SerializedIdentity`.
    #[must_use]
    pub fn serialized(&self) -> &Bytes {
        &self.serialized
    }

    /// The MSP that the identity names. Whether that MSP knows it is for the MSPs of the channel at
    /// hand to say: this is for messages, and for telling peers apart.
    #[must_use]
    pub fn claimed_msp_id(&self) -> &MspId {
        &self.msp_id
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated").field("msp_id", &self.msp_id).finish_non_exhaustive()
    }
}
