use weft_config::edit;
use weft_config::genesis::{OrgProfile, PolicyRule};
use weft_protos::common::Config;
use weft_testkit::{Network, Org, clock};

use super::*;

/// Two members; the second's administrator is elsewhere.
struct Case {
    network: Network,
    bundle: Bundle,
}

impl Case {
    fn new() -> Case {
        let network = Network::new(2, 1);
        let bundle = network.bundle("supply");
        Case { network, bundle }
    }

    fn here(&self) -> Vec<&SigningIdentity> {
        vec![&self.network.orderer_org.admin, &self.network.orgs[0].admin]
    }

    fn update(&self, change: impl FnOnce(&mut Config)) -> ConfigUpdate {
        let mut config = self.bundle.config().clone();
        change(&mut config);
        update::compute(self.bundle.channel_id(), self.bundle.config(), &config).unwrap()
    }

    /// A third member: a majority of the two has to agree, which is both.
    fn new_member(&self) -> ConfigUpdate {
        let org = Org::new("Org3MSP");
        let profile = OrgProfile::transacting(&org.msp_id, org.msp_config());
        self.update(|config| edit::add_application_org(config, &profile).unwrap())
    }

    fn judge(&self, update: &ConfigUpdate, given: &[SignedUpdate]) -> Verdict {
        let here = Signatories { admins: self.here(), given, now: clock::NOW };
        here.judge(&self.bundle, update).unwrap()
    }

    fn signed_elsewhere(&self, update: &ConfigUpdate) -> SignedUpdate {
        let update: Bytes = update.encode_to_vec().into();
        let signature =
            sign_update(&update, &self.network.orgs[1].admin, nonce().unwrap()).unwrap();
        SignedUpdate { update, signatures: vec![signature] }
    }
}

#[track_caller]
fn missing(verdict: Verdict) -> NeedsSignatures {
    match verdict {
        Verdict::Missing(needed) => needed,
        Verdict::Enough(_) => panic!("enough signed"),
    }
}

#[test]
fn what_the_ordering_service_decides_needs_nobody_else() {
    let case = Case::new();
    let update = case.update(|config| {
        edit::set_batch_timeout(config, std::time::Duration::from_secs(9)).unwrap();
    });
    assert!(matches!(case.judge(&update, &[]), Verdict::Enough(_)));
}

#[test]
fn a_missing_signature_is_named_and_counts_when_it_is_given() {
    let case = Case::new();
    let update = case.new_member();
    let needed = missing(case.judge(&update, &[]));
    assert_eq!(needed.missing, ["Org2MSP"]);
    assert_eq!(needed.problem, None);
    assert!(needed.message.contains("Admins"), "{}", needed.message);
    let given = case.signed_elsewhere(&update);
    assert_eq!(given.update, needed.update);
    let Verdict::Enough(envelope) = case.judge(&update, &[given]) else { panic!("not enough") };
    assert!(case.bundle.propose(&envelope, clock::NOW).is_ok());
}

#[test]
fn signatures_of_another_update_do_not_count_and_are_told() {
    let case = Case::new();
    let policy = PolicyRule::parse("ANY Endorsement").unwrap();
    let other = case.update(|config| {
        edit::set_policy(config, "/Channel/Application", "Endorsement", &policy).unwrap();
    });
    let given = [case.signed_elsewhere(&other)];
    let needed = missing(case.judge(&case.new_member(), &given));
    assert!(needed.problem.is_some_and(|text| text.contains("another update")));
    let mut forged = case.signed_elsewhere(&case.new_member());
    let update = case.new_member();
    forged.update = update.encode_to_vec().into();
    let needed = missing(case.judge(&update, &[forged]));
    assert!(needed.problem.is_some_and(|text| text.contains("not enough, or not valid")));
}

#[test]
fn a_signed_update_is_read_bare_and_wrapped() {
    let case = Case::new();
    let given = case.signed_elsewhere(&case.new_member());
    let signed = ConfigUpdateEnvelope {
        config_update: given.update.clone(),
        signatures: given.signatures.clone(),
    };
    assert_eq!(SignedUpdate::read(&signed.encode_to_vec()).unwrap(), given);
    let admin = &case.network.orgs[1].admin;
    let channel = case.bundle.channel_id();
    let wrapped = update_envelope(channel, signed, admin, clock::NOW, nonce().unwrap()).unwrap();
    assert_eq!(SignedUpdate::read(&wrapped.encode_to_vec()).unwrap(), given);
    assert!(SignedUpdate::read(b"no update").is_err());
    assert!(SignedUpdate::read(b"").is_err());
}
