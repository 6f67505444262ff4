//! What the images are: their programs, ports and descriptions.

/// The numeric user and group that every image runs as: the customary "nonroot" of images without
/// a distribution. Kubernetes accepts `runAsNonRoot` only for numeric users.
pub const USER: u32 = 65532;

/// The folder that the user may write to; a volume is mounted there.
pub const DATA: &str = "var/lib/weft";

/// Where an image keeps its software bill of materials.
pub const SBOM: &str = "usr/share/weft/sbom.cdx.json";

/// Where the licence of the project is.
pub const LICENCE: &str = "usr/share/weft/LICENSE";

/// One image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name without registry and tag; the archive's name as well.
    pub name: &'static str,
    /// The package that its programs are built from.
    pub package: &'static str,
    /// Programs in `/usr/bin`; the first is the entry point.
    pub programs: &'static [&'static str],
    /// One line for people.
    pub description: &'static str,
    /// TCP ports that its programs listen at with their default settings.
    pub ports: &'static [u16],
    /// Environment of the programs, as `NAME=value`.
    pub environment: &'static [&'static str],
}

/// All images.
pub const IMAGES: &[Image] = &[
    Image {
        name: "weft-node",
        package: "weft-node",
        programs: &["weft-node"],
        description: "Orderer or peer of a Weft network",
        // gRPC of orderer and peer, contracts that dial the peer, participation, operations.
        ports: &[7050, 7051, 7052, 7053, 8443, 9443],
        environment: &["PATH=/usr/bin"],
    },
    Image {
        name: "weft-operator",
        package: "weft-operator",
        programs: &["weft-operator", "weft"],
        description: "Operator of Weft networks on Kubernetes, with the weft command",
        ports: &[],
        environment: &["PATH=/usr/bin"],
    },
    Image {
        name: "asset-contract",
        package: "asset-contract",
        programs: &["asset-contract"],
        description: "Weft's sample contract: assets with owners",
        // By convention; its environment says where it listens.
        ports: &[9999],
        environment: &["PATH=/usr/bin"],
    },
];

/// The image of that name.
pub fn by_name(name: &str) -> Option<&'static Image> {
    IMAGES.iter().find(|image| image.name == name)
}
