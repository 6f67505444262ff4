//! What goes into the Secrets and ConfigMaps of certificate authorities, nodes and users. Pure.
