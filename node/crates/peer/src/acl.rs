//! Who may use what: each resource of the peer has a policy.
//!
//! A resource such as `qscc/GetBlockByNumber` stands for a function of the peer. Resources of the
//! peer as a whole ask for an administrator or member of the peer's own organization, and no
//! channel can change that; all others have a policy of the channel's configuration, which the
//! channel's ACLs may replace (Fabric: core/aclmgmt/defaultaclprovider.go, resourceprovider.go).
//!
//! Whoever asks is read anew for every check: by the MSPs of the channel that is named, or by the
//! peer's own for a resource of the peer. What other MSPs made of the same certificate before does
//! not count (Fabric: `CheckACL` reads the signed proposal for the channel of the call).

use std::sync::Arc;
use std::time::SystemTime;

use weft_config::Bundle;
use weft_crypto::SignatureError;
use weft_msp::policy::{PolicyError, SignedData};
use weft_msp::{
    Authenticated, CurrentMsps, DeserializeError, Identity, MspManager, Principal, PrincipalError,
    PrincipalRole,
};
use weft_rpc::deliver::BoxError;
use weft_types::{MspId, Timestamp};

use crate::channel::Channel;
use crate::deliver::EventAccess;

/// The policy of a channel's readers.
pub const READERS: &str = "/Channel/Application/Readers";
/// The policy of a channel's writers.
pub const WRITERS: &str = "/Channel/Application/Writers";

/// Proposals for contracts.
pub const PEER_PROPOSE: &str = "peer/Propose";
/// A call from one contract to another.
pub const PEER_CHAINCODE_TO_CHAINCODE: &str = "peer/ChaincodeToChaincode";
/// Events of blocks.
pub const EVENT_BLOCK: &str = "event/Block";
/// Events of filtered blocks.
pub const EVENT_FILTERED_BLOCK: &str = "event/FilteredBlock";
/// The gateway's CommitStatus.
pub const GATEWAY_COMMIT_STATUS: &str = "gateway/CommitStatus";
/// The gateway's ChaincodeEvents.
pub const GATEWAY_CHAINCODE_EVENTS: &str = "gateway/ChaincodeEvents";

/// What a resource asks for where no channel says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRule {
    /// An administrator of the peer's organization; channels cannot change it.
    LocalAdmins,
    /// A member of the peer's organization; channels cannot change it.
    LocalMembers,
    /// A policy of the channel, by its path.
    Channel(&'static str),
}

/// The default of every resource, by name.
const DEFAULTS: &[(&str, DefaultRule)] = &[
    ("_lifecycle/InstallChaincode", DefaultRule::LocalAdmins),
    ("_lifecycle/QueryInstalledChaincode", DefaultRule::LocalAdmins),
    ("_lifecycle/GetInstalledChaincodePackage", DefaultRule::LocalAdmins),
    ("_lifecycle/QueryInstalledChaincodes", DefaultRule::LocalAdmins),
    ("_lifecycle/ApproveChaincodeDefinitionForMyOrg", DefaultRule::LocalAdmins),
    ("_lifecycle/QueryApprovedChaincodeDefinition", DefaultRule::LocalAdmins),
    ("_lifecycle/QueryApprovedChaincodeDefinitions", DefaultRule::LocalAdmins),
    ("_lifecycle/CommitChaincodeDefinition", DefaultRule::Channel(WRITERS)),
    ("_lifecycle/QueryChaincodeDefinition", DefaultRule::Channel(WRITERS)),
    ("_lifecycle/QueryChaincodeDefinitions", DefaultRule::Channel(WRITERS)),
    ("_lifecycle/CheckCommitReadiness", DefaultRule::Channel(WRITERS)),
    ("snapshot/submitrequest", DefaultRule::LocalAdmins),
    ("snapshot/cancelrequest", DefaultRule::LocalAdmins),
    ("snapshot/listpending", DefaultRule::LocalAdmins),
    ("lscc/Install", DefaultRule::LocalAdmins),
    ("lscc/GetInstalledChaincodes", DefaultRule::LocalAdmins),
    ("lscc/ChaincodeExists", DefaultRule::Channel(READERS)),
    ("lscc/GetDeploymentSpec", DefaultRule::Channel(READERS)),
    ("lscc/GetChaincodeData", DefaultRule::Channel(READERS)),
    ("lscc/GetInstantiatedChaincodes", DefaultRule::Channel(READERS)),
    ("lscc/GetCollectionsConfig", DefaultRule::Channel(READERS)),
    ("qscc/GetChainInfo", DefaultRule::Channel(READERS)),
    ("qscc/GetBlockByNumber", DefaultRule::Channel(READERS)),
    ("qscc/GetBlockByHash", DefaultRule::Channel(READERS)),
    ("qscc/GetTransactionByID", DefaultRule::Channel(READERS)),
    ("qscc/GetBlockByTxID", DefaultRule::Channel(READERS)),
    ("cscc/JoinChain", DefaultRule::LocalAdmins),
    ("cscc/JoinChainBySnapshot", DefaultRule::LocalAdmins),
    ("cscc/JoinBySnapshotStatus", DefaultRule::LocalAdmins),
    ("cscc/GetChannels", DefaultRule::LocalMembers),
    ("cscc/GetConfigBlock", DefaultRule::Channel(READERS)),
    ("cscc/GetChannelConfig", DefaultRule::Channel(READERS)),
    (PEER_PROPOSE, DefaultRule::Channel(WRITERS)),
    (PEER_CHAINCODE_TO_CHAINCODE, DefaultRule::Channel(WRITERS)),
    (EVENT_BLOCK, DefaultRule::Channel(READERS)),
    (EVENT_FILTERED_BLOCK, DefaultRule::Channel(READERS)),
    (GATEWAY_COMMIT_STATUS, DefaultRule::Channel(READERS)),
    (GATEWAY_CHAINCODE_EVENTS, DefaultRule::Channel(READERS)),
];

/// The default of a resource; `None` for a name that is none.
#[must_use]
pub fn default_rule(resource: &str) -> Option<DefaultRule> {
    DEFAULTS.iter().find(|(name, _)| *name == resource).map(|(_, rule)| *rule)
}

/// Somebody may not use a resource. The texts reach clients.
#[derive(Debug, thiserror::Error)]
pub enum AclError {
    /// Nothing is said about the resource, so nobody may use it.
    #[error("no policy is defined for resource {resource}")]
    Unmapped {
        /// The resource.
        resource: String,
    },
    /// The resource belongs to a channel and none was named.
    #[error("resource {resource} belongs to a channel, and none is named")]
    NoChannel {
        /// The resource.
        resource: String,
    },
    /// The channel's policy is not satisfied.
    #[error(
        "failed evaluating policy on signed data during check policy on channel [{channel}] with policy [{policy}]: [{source}]"
    )]
    Policy {
        /// The channel.
        channel: String,
        /// Path of the policy.
        policy: String,
        /// Why not.
        source: PolicyError,
    },
    /// The identity is not one of the peer's organization.
    #[error(
        "failed deserializing proposal creator during channelless check policy with policy [{policy}]: [{source}]"
    )]
    Stranger {
        /// What is asked for.
        policy: &'static str,
        /// Why not.
        source: DeserializeError,
    },
    /// The identity is not what is asked for.
    #[error(
        "failed verifying that proposal's creator satisfies local MSP principal during channelless check policy with policy [{policy}]: [{source}]"
    )]
    Local {
        /// What is asked for.
        policy: &'static str,
        /// Why not.
        source: PrincipalError,
    },
    /// The signature does not hold.
    #[error("failed to verify the signature of the request: {0}")]
    Signature(#[source] SignatureError),
}

/// Checks access. Clones share everything.
#[derive(Debug, Clone)]
pub struct Acl {
    local: CurrentMsps,
    msp_id: MspId,
}

impl Acl {
    /// Access to a peer of the organization `msp_id`; `local` holds that organization's MSP, as
    /// the peer's own folder defines it.
    #[must_use]
    pub fn new(local: impl Into<CurrentMsps>, msp_id: MspId) -> Self {
        Self { local: local.into(), msp_id }
    }

    /// The MSP of the peer's organization, as it is now.
    #[must_use]
    pub fn local(&self) -> Arc<MspManager> {
        self.local.current()
    }

    /// The id of the peer's organization.
    #[must_use]
    pub fn msp_id(&self) -> &MspId {
        &self.msp_id
    }

    /// Checks that whoever signed may use `resource` on the channel that `bundle` configures. The
    /// signature is verified.
    ///
    /// # Errors
    /// [`AclError`] says why not.
    pub fn check(
        &self,
        bundle: &Bundle,
        resource: &str,
        signed: &SignedData,
        now: Timestamp,
    ) -> Result<(), AclError> {
        match rule(bundle, resource)? {
            Rule::Local(role) => self.check_role(role, Caller::Signed(signed), now),
            Rule::Channel(path) => {
                evaluate(bundle, path, |policy| policy.evaluate(std::slice::from_ref(signed), now))
            }
        }
    }

    /// As [`check`](Self::check), for one whose signature the caller has verified.
    ///
    /// # Errors
    /// [`AclError`] says why not.
    pub fn check_authenticated(
        &self,
        bundle: &Bundle,
        resource: &str,
        who: &Authenticated,
        now: Timestamp,
    ) -> Result<(), AclError> {
        match rule(bundle, resource)? {
            Rule::Local(role) => self.check_role(role, Caller::Authenticated(who), now),
            Rule::Channel(path) => evaluate(bundle, path, |policy| {
                policy.evaluate_authenticated(std::slice::from_ref(who), now)
            }),
        }
    }

    /// Checks that whoever signed may use a resource of the peer as a whole.
    ///
    /// # Errors
    /// [`AclError`] says why not.
    pub fn check_local(
        &self,
        resource: &str,
        signed: &SignedData,
        now: Timestamp,
    ) -> Result<(), AclError> {
        self.check_role(local_role(resource)?, Caller::Signed(signed), now)
    }

    /// As [`check_local`](Self::check_local), for one whose signature the caller has verified.
    ///
    /// # Errors
    /// [`AclError`] says why not.
    pub fn check_local_authenticated(
        &self,
        resource: &str,
        who: &Authenticated,
        now: Timestamp,
    ) -> Result<(), AclError> {
        self.check_role(local_role(resource)?, Caller::Authenticated(who), now)
    }

    /// Checks that whoever signed administers the peer's organization, whatever the resource.
    ///
    /// # Errors
    /// [`AclError`] says why not.
    pub fn check_admin(&self, signed: &SignedData, now: Timestamp) -> Result<(), AclError> {
        self.check_role(PrincipalRole::Admin, Caller::Signed(signed), now)
    }

    /// Checks that whoever signed is a member of the peer's organization, whatever the resource.
    ///
    /// # Errors
    /// [`AclError`] says why not.
    pub fn check_member(&self, signed: &SignedData, now: Timestamp) -> Result<(), AclError> {
        self.check_role(PrincipalRole::Member, Caller::Signed(signed), now)
    }

    fn check_role(
        &self,
        role: PrincipalRole,
        caller: Caller<'_>,
        now: Timestamp,
    ) -> Result<(), AclError> {
        let policy = if role == PrincipalRole::Admin { "Admins" } else { "Members" };
        let identity = caller.read_by(&self.local());
        let identity = identity.map_err(|source| AclError::Stranger { policy, source })?;
        Principal::Role { msp_id: self.msp_id.to_string(), role }
            .check(&identity, now)
            .map_err(|source| AclError::Local { policy, source })?;
        match caller {
            // The same certificate has verified.
            Caller::Authenticated(_) => Ok(()),
            Caller::Signed(signed) => {
                identity.verify(&signed.data, &signed.signature).map_err(AclError::Signature)
            }
        }
    }
}

/// Deliver asks for the resources of events.
impl EventAccess for Acl {
    fn check(
        &self,
        channel: &Channel,
        resource: &str,
        signed: &SignedData,
    ) -> Result<(), BoxError> {
        let now = Timestamp::from_system_time(SystemTime::now());
        Ok(Self::check(self, &channel.bundle(), resource, signed, now)?)
    }
}

/// Who asks.
#[derive(Clone, Copy)]
enum Caller<'a> {
    Signed(&'a SignedData),
    Authenticated(&'a Authenticated),
}

impl Caller<'_> {
    fn read_by(&self, msps: &MspManager) -> Result<Arc<Identity>, DeserializeError> {
        match self {
            Self::Signed(signed) => msps.deserialize_identity(&signed.identity),
            Self::Authenticated(who) => msps.identity_of(who),
        }
    }
}

/// Somebody as a peer of a channel: read by the channel's MSPs, valid, of one of the application's
/// organizations. `None` for everybody else, whatever other channels make of them.
#[must_use]
pub fn channel_peer(bundle: &Bundle, who: &Authenticated, now: Timestamp) -> Option<Arc<Identity>> {
    let identity = bundle.msps().identity_of(who).ok()?;
    bundle.application()?.org_of(identity.msp_id())?;
    check_peer(bundle.msps(), &identity, now).ok()?;
    Some(identity)
}

/// Checks that an identity is valid and a peer's; a member's is enough where its MSP does not tell
/// roles apart. `msps` are those that read it.
///
/// # Errors
/// [`PrincipalError`] says why not.
pub fn check_peer(
    msps: &MspManager,
    identity: &Identity,
    now: Timestamp,
) -> Result<(), PrincipalError> {
    let msp = msps.get(identity.msp_id().as_str());
    let roles = msp.is_some_and(|msp| msp.roles_enabled());
    let role = if roles { PrincipalRole::Peer } else { PrincipalRole::Member };
    Principal::Role { msp_id: identity.msp_id().to_string(), role }.check(identity, now)
}

/// What a resource asks for on a channel.
enum Rule {
    Local(PrincipalRole),
    Channel(String),
}

fn rule(bundle: &Bundle, resource: &str) -> Result<Rule, AclError> {
    let replaced = || bundle.application().and_then(|application| application.acl(resource));
    match default_rule(resource) {
        Some(DefaultRule::LocalAdmins) => Ok(Rule::Local(PrincipalRole::Admin)),
        Some(DefaultRule::LocalMembers) => Ok(Rule::Local(PrincipalRole::Member)),
        Some(DefaultRule::Channel(path)) => {
            Ok(Rule::Channel(replaced().unwrap_or_else(|| path.to_owned())))
        }
        None => replaced()
            .map(Rule::Channel)
            .ok_or_else(|| AclError::Unmapped { resource: resource.to_owned() }),
    }
}

fn local_role(resource: &str) -> Result<PrincipalRole, AclError> {
    match default_rule(resource) {
        Some(DefaultRule::LocalAdmins) => Ok(PrincipalRole::Admin),
        Some(DefaultRule::LocalMembers) => Ok(PrincipalRole::Member),
        Some(DefaultRule::Channel(_)) => Err(AclError::NoChannel { resource: resource.to_owned() }),
        None => Err(AclError::Unmapped { resource: resource.to_owned() }),
    }
}

fn evaluate(
    bundle: &Bundle,
    path: String,
    judge: impl FnOnce(&weft_msp::policy::Policy) -> Result<(), PolicyError>,
) -> Result<(), AclError> {
    let policy = bundle.policies().get(&path);
    policy.and_then(|policy| judge(policy)).map_err(|source| AclError::Policy {
        channel: bundle.channel_id().to_string(),
        policy: path,
        source,
    })
}
