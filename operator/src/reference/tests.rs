use weft_settings::{OrdererSettings, PeerSettings, override_names};

use super::*;

#[test]
fn every_setting_has_a_row() {
    let page = node_settings().unwrap();
    let (orderer, peer) = page.split_once("\n## Peer\n").unwrap();
    for (_, path) in override_names::<OrdererSettings>() {
        assert!(orderer.contains(&format!("| `{path}` |")), "{path}");
    }
    for (_, path) in override_names::<PeerSettings>() {
        assert!(peer.contains(&format!("| `{path}` |")), "{path}");
    }
    assert!(peer.contains("| `knownPeers[].address` | string |  | `host:port`. Required. |"));
    assert!(peer.contains("| `gateway.endorsementTimeout` | string | `30s` |"), "{peer}");
    assert!(peer.contains("| `tls.clientAuth` | `optional`, `required` | `optional` |"), "{peer}");
}

#[test]
fn every_kind_has_its_fields_defaults_and_rules() {
    let page = manifest().unwrap();
    for heading in ["LedgerNetwork", "Organization", "Channel", "Chaincode"] {
        assert!(page.contains(&format!("\n## {heading}\n")), "{heading}");
    }
    assert!(page.contains("| `ordering.replicas` | integer, 1 to 25 | `3` |"), "{page}");
    assert!(page.contains("| `users[].name` |"), "{page}");
    assert!(page.contains("| `mspId` | string"), "{page}");
    assert!(page.contains("- `mspId`: an MSP id cannot change.\n"), "{page}");
}

#[test]
fn a_cell_cannot_break_its_row() {
    let mut page = String::new();
    table::append(&mut page, &["a"], &[vec!["x | y".to_owned()]]);
    assert_eq!(page, "| a |\n| --- |\n| x \\| y |\n\n");
}
