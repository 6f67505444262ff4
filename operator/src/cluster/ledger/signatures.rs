//! Whether those who sign here may change a channel's config, and who else has to sign.
//!
//! An update is tried against the config on the ledger with the very rules that orderers apply
//! ([`Bundle::propose`]), so that nothing is sent that would be refused, and what is missing is
//! known beforehand.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use weft_config::Bundle;
use weft_config::update::{self, UpdateError};
use weft_msp::{Principal, SigningIdentity};
use weft_protos::common::{ConfigSignature, ConfigUpdate, ConfigUpdateEnvelope, Envelope};
use weft_types::Timestamp;
use weft_types::config::{sign_update, update_envelope};

use super::{LedgerError, told};

/// A config update with signatures that were made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct SignedUpdate {
    /// The encoded `ConfigUpdate` that they sign.
    pub update: Bytes,
    /// The signatures.
    pub signatures: Vec<ConfigSignature>,
}

impl SignedUpdate {
    /// Reads an encoded `ConfigUpdateEnvelope`, bare or in the envelope that Fabric's
    /// `peer channel signconfigtx` leaves it in.
    ///
    /// # Errors
    /// [`LedgerError::Signatures`].
    pub fn read(bytes: &[u8]) -> Result<SignedUpdate, LedgerError> {
        let bytes = Bytes::copy_from_slice(bytes);
        let wrapped = Envelope::decode(bytes.clone()).ok().and_then(|e| update::update_of(&e).ok());
        let signed = match wrapped {
            Some(signed) => signed,
            None => ConfigUpdateEnvelope::decode(bytes).map_err(unreadable)?,
        };
        let content = ConfigUpdate::decode(signed.config_update.clone()).map_err(unreadable)?;
        if content.channel_id.is_empty() || signed.signatures.is_empty() {
            return Err(unreadable("it names no channel or holds no signature"));
        }
        Ok(SignedUpdate { update: signed.config_update, signatures: signed.signatures })
    }

    fn is_of(&self, update: &[u8]) -> bool {
        let decoded = |bytes: &[u8]| ConfigUpdate::decode(bytes).ok();
        self.update == update
            || decoded(&self.update).is_some_and(|own| Some(own) == decoded(update))
    }
}

fn unreadable(what: impl ToString) -> LedgerError {
    LedgerError::Signatures { what: what.to_string() }
}

/// An update that needs the agreement of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsSignatures {
    /// The encoded `ConfigUpdate` to be signed.
    pub update: Bytes,
    /// MSP ids of organizations whose administrators can help.
    pub missing: Vec<String>,
    /// One sentence for people: what is to be changed, and which policy asks for more.
    pub message: String,
    /// Why signatures that were given do not count, if some were.
    pub problem: Option<String>,
}

/// What becomes of an update.
#[derive(Debug)]
pub enum Verdict {
    /// Enough sign: this envelope is to be sent.
    Enough(Box<Envelope>),
    /// More have to.
    Missing(NeedsSignatures),
}

/// Those who sign here, and what was signed elsewhere.
pub struct Signatories<'a> {
    /// Administrators, the one who sends first.
    pub admins: Vec<&'a SigningIdentity>,
    /// Updates that were signed elsewhere.
    pub given: &'a [SignedUpdate],
    /// The time by which certificates must be valid.
    pub now: Timestamp,
}

impl Signatories<'_> {
    /// Signs an update and tries it.
    ///
    /// # Errors
    /// [`LedgerError::Update`] when no signature can help, [`LedgerError::Sign`],
    /// [`LedgerError::Nonce`].
    pub fn judge(&self, bundle: &Bundle, update: &ConfigUpdate) -> Result<Verdict, LedgerError> {
        let encoded: Bytes = update.encode_to_vec().into();
        let given: Vec<_> = self.given.iter().filter(|given| given.is_of(&encoded)).collect();
        // Signatures hold for bytes: another encoding of the same update has to be sent as it is.
        let encoded = given.first().map_or(encoded, |given| given.update.clone());
        let foreign = given.iter().filter(|given| given.update == encoded);
        let foreign = foreign.flat_map(|given| given.signatures.iter().cloned());
        let envelope = self.sign(bundle, &encoded, foreign.collect())?;
        match bundle.propose(&envelope, self.now) {
            Ok(_) => Ok(Verdict::Enough(Box::new(envelope))),
            Err(error @ UpdateError::Refused { .. }) => {
                let needed = self.needed(bundle, encoded, &error, !given.is_empty());
                Ok(Verdict::Missing(needed))
            }
            Err(error) => Err(LedgerError::Update {
                channel: bundle.channel_id().clone(),
                what: told(&error),
            }),
        }
    }

    fn sign(
        &self,
        bundle: &Bundle,
        update: &Bytes,
        foreign: Vec<ConfigSignature>,
    ) -> Result<Envelope, LedgerError> {
        let failed = |source| LedgerError::Sign {
            what: format!("a config update of channel {}", bundle.channel_id()),
            source,
        };
        let mut signatures = Vec::with_capacity(self.admins.len() + foreign.len());
        for admin in &self.admins {
            signatures.push(sign_update(update, *admin, nonce()?).map_err(failed)?);
        }
        signatures.extend(foreign);
        let sender = *self.admins.first().ok_or_else(|| LedgerError::NoAdmin {
            holder: format!("the ordering service of channel {}", bundle.channel_id()),
        })?;
        let update = ConfigUpdateEnvelope { config_update: update.clone(), signatures };
        let channel = bundle.channel_id();
        update_envelope(channel, update, sender, self.now, nonce()?).map_err(failed)
    }

    fn needed(
        &self,
        bundle: &Bundle,
        update: Bytes,
        error: &UpdateError,
        counted: bool,
    ) -> NeedsSignatures {
        let missing = match error {
            UpdateError::Refused { policy, .. } => self.others_of(bundle, policy),
            _ => Vec::new(),
        };
        let problem = match (self.given.is_empty(), counted) {
            (true, _) => None,
            (false, true) => Some("the signatures given are not enough, or not valid".to_owned()),
            (false, false) => Some("the signatures given are of another update".to_owned()),
        };
        NeedsSignatures { update, missing, message: told(error), problem }
    }

    /// The MSPs that a policy names, without those that sign here.
    fn others_of(&self, bundle: &Bundle, policy: &str) -> Vec<String> {
        let own: BTreeSet<&str> = self.admins.iter().map(|admin| admin.msp_id().as_str()).collect();
        let named = bundle.policies().get(policy).and_then(|policy| policy.to_envelope());
        let principals = named.map(|envelope| envelope.identities).unwrap_or_default();
        let principals = principals.iter().filter_map(|one| Principal::decode(one).ok());
        let msps: BTreeSet<String> =
            principals.filter_map(|one| one.msp_id().map(str::to_owned)).collect();
        msps.into_iter().filter(|msp| !own.contains(msp.as_str())).collect()
    }
}

fn nonce() -> Result<weft_types::Nonce, LedgerError> {
    weft_crypto::random_bytes().map_err(LedgerError::Nonce)
}

#[cfg(test)]
#[path = "signatures_tests.rs"]
mod tests;
