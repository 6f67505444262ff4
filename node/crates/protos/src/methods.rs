//! The methods of all services, as their descriptors say.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::bound::descriptors;

/// What a caller sends in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// One message.
    One,
    /// A stream of messages.
    Many,
}

/// What a caller sends to the method of a path such as `/gateway.Gateway/Endorse`; `None` where
/// there is no such method.
#[must_use]
pub fn requests(path: &str) -> Option<Requests> {
    static METHODS: LazyLock<HashMap<String, Requests>> = LazyLock::new(all);
    METHODS.get(path).copied()
}

fn all() -> HashMap<String, Requests> {
    let mut methods = HashMap::new();
    for file in &descriptors().file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let requests = match method.client_streaming() {
                    true => Requests::Many,
                    false => Requests::One,
                };
                methods.insert(path, requests);
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known() {
        assert_eq!(requests("/gateway.Gateway/Endorse"), Some(Requests::One));
        assert_eq!(requests("/orderer.AtomicBroadcast/Broadcast"), Some(Requests::Many));
        assert_eq!(requests("/gossip.Gossip/GossipStream"), Some(Requests::Many));
        assert_eq!(requests("/gateway.Gateway/ChaincodeEvents"), Some(Requests::One));
        assert_eq!(requests("/gateway.Gateway/None"), None);
    }
}
