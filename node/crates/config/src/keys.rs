//! Names that groups, values and policies have in the tree. They are part of the wire protocol.

/// The root group; also the first element of every absolute policy path.
pub const CHANNEL: &str = "Channel";
/// Group of the ordering service, below the root.
pub const ORDERER: &str = "Orderer";
/// Group of the organizations that transact, below the root.
pub const APPLICATION: &str = "Application";
/// Group of the system channel of older networks; not supported.
pub const CONSORTIUMS: &str = "Consortiums";

/// Value of any of the three groups: the features its nodes must have.
pub const CAPABILITIES: &str = "Capabilities";
/// Value of the root: how headers are hashed.
pub const HASHING_ALGORITHM: &str = "HashingAlgorithm";
/// Value of the root: the shape of the hash over a block's data.
pub const BLOCK_DATA_HASHING_STRUCTURE: &str = "BlockDataHashingStructure";
/// Value of the root: orderers of the whole channel, before endpoints stood with organizations.
pub const ORDERER_ADDRESSES: &str = "OrdererAddresses";
/// Value of the root: the consortium a channel of an older network was made for.
pub const CONSORTIUM: &str = "Consortium";

/// Value of the orderer group: the consensus protocol, its state and its settings.
pub const CONSENSUS_TYPE: &str = "ConsensusType";
/// Value of the orderer group: when a block is full.
pub const BATCH_SIZE: &str = "BatchSize";
/// Value of the orderer group: how long a batch may wait.
pub const BATCH_TIMEOUT: &str = "BatchTimeout";
/// Value of the orderer group: the most channels of an older network.
pub const CHANNEL_RESTRICTIONS: &str = "ChannelRestrictions";
/// Value of the orderer group of Kafka networks; read and ignored.
pub const KAFKA_BROKERS: &str = "KafkaBrokers";
/// Value of the orderer group: consenters of a BFT channel.
pub const ORDERERS: &str = "Orderers";

/// Value of the application group: policies of the peers' resources.
pub const ACLS: &str = "ACLs";

/// Value of an organization: the definition of its MSP.
pub const MSP: &str = "MSP";
/// Value of an organization in the orderer group: where its orderers listen.
pub const ENDPOINTS: &str = "Endpoints";
/// Value of an organization in the application group: peers that others may meet first.
pub const ANCHOR_PEERS: &str = "AnchorPeers";

/// Policy: who may read blocks.
pub const READERS: &str = "Readers";
/// Policy: who may submit transactions.
pub const WRITERS: &str = "Writers";
/// Policy: who may change the configuration.
pub const ADMINS: &str = "Admins";
/// Policy: who endorses, where a chaincode does not say otherwise.
pub const ENDORSEMENT: &str = "Endorsement";
/// Policy: who must agree to a chaincode definition.
pub const LIFECYCLE_ENDORSEMENT: &str = "LifecycleEndorsement";
/// Policy of the orderer group: whose signatures make a block valid.
pub const BLOCK_VALIDATION: &str = "BlockValidation";

/// Path of the policy that blocks must satisfy.
pub const BLOCK_VALIDATION_PATH: &str = "/Channel/Orderer/BlockValidation";
/// Path of the policy of the ordering service's administrators.
pub const ORDERER_ADMINS_PATH: &str = "/Channel/Orderer/Admins";
/// Path of the policy of those who may submit transactions.
pub const CHANNEL_WRITERS_PATH: &str = "/Channel/Writers";
/// Path of the policy of those who may read blocks.
pub const CHANNEL_READERS_PATH: &str = "/Channel/Readers";
