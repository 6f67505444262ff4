//! Copies that the charts hold of generated files.

use crate::{check_or_write, files, text};

/// `charts/weft-operator` must hold the definitions itself: Helm reads no file outside a chart.
#[test]
fn the_chart_holds_the_definitions_of_the_kinds() {
    let ours = files("crds", ".yaml");
    assert_eq!(ours.len(), 4);
    for name in &ours {
        let copy = format!("charts/weft-operator/files/crds/{name}");
        check_or_write(&copy, &text(&format!("crds/{name}")));
    }
    assert_eq!(files("charts/weft-operator/files/crds", ".yaml"), ours);
}

/// The template puts labels and annotations in the place of this line.
#[test]
fn every_definition_has_one_line_of_metadata_to_extend() {
    for name in files("charts/weft-operator/files/crds", ".yaml") {
        let definition = text(&format!("charts/weft-operator/files/crds/{name}"));
        let lines = definition.lines().filter(|line| *line == "metadata:").count();
        assert_eq!(lines, 1, "{name}");
        assert!(!definition.contains("\n  annotations:") && !definition.contains("\n  labels:"));
    }
}

#[test]
fn charts_and_images_have_the_version_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in ["weft-operator", "weft-network"] {
        let about = crate::yaml(&format!("charts/{chart}/Chart.yaml"));
        assert_eq!(about["version"], version, "{chart}");
        assert_eq!(about["appVersion"], version, "{chart}");
        assert_eq!(about["kubeVersion"], ">=1.20.0-0", "{chart}");
        assert_eq!(about["annotations"]["artifacthub.io/license"], "Apache-2.0", "{chart}");
    }
    let values = crate::yaml("charts/weft-network/values.yaml");
    assert_eq!(values["chaincodes"][0]["image"], format!("asset-contract:{version}"));
}
