//! The policy language, case by case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use weft_msp::{
    Principal, PrincipalRole,
    policy::dsl::{self, FormatError, ParseError},
};
use weft_protos::common::{
    MspPrincipal, OrganizationUnit, SignaturePolicy, SignaturePolicyEnvelope,
    msp_principal::Classification,
    signature_policy::{NOutOf, Type},
};

/// The rules with principals by number, then the principals in order: `2(0,1(1,2)) A.peer …`.
fn shape(policy: &SignaturePolicyEnvelope) -> String {
    let principals =
        policy.identities.iter().map(|principal| match Principal::decode(principal).unwrap() {
            Principal::Role { msp_id, role } => format!("{msp_id}.{role}"),
            other => panic!("{other:?}"),
        });
    let mut words = vec![write_rule(policy.rule.as_ref().unwrap())];
    words.extend(principals);
    words.join(" ")
}

fn write_rule(rule: &SignaturePolicy) -> String {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(index) => index.to_string(),
        Type::NOutOf(NOutOf { n, rules }) => {
            let rules: Vec<_> = rules.iter().map(write_rule).collect();
            format!("{n}({})", rules.join(","))
        }
    }
}

/// `expect` is the shape, or `position: start of the message` of the error.
fn check(input: &str, expect: &str) {
    let found = match dsl::parse(input) {
        Ok(policy) => shape(&policy),
        Err(error) => {
            let position = match &error {
                ParseError::Unexpected { position, .. }
                | ParseError::UnknownGate { position, .. }
                | ParseError::Unterminated { position }
                | ParseError::Principal { position, .. }
                | ParseError::Threshold { position, .. }
                | ParseError::TooDeep { position } => *position,
            };
            let text = error.to_string();
            let (_, reason) = text.split_once(&format!("position {position}: ")).unwrap();
            format!("{position}: {reason}")
        }
    };
    assert_eq!(found, expect, "for {input}");
}

#[test]
fn golden() {
    check("OutOf(1, 'A.member', 'B.member')", "1(0,1) A.member B.member");
    check("OutOf(2, 'A.member', 'B.member')", "2(0,1) A.member B.member");
    check("AND('A.member', 'B.member')", "2(0,1) A.member B.member");
    check("and('A.client', 'B.peer')", "2(0,1) A.client B.peer");
    check("Or('A.admin','B.orderer')", "1(0,1) A.admin B.orderer");
    check("outof(2,\"A.peer\",'B.peer',\"C.peer\")", "2(0,1,2) A.peer B.peer C.peer");
    check(" OR ( 'A.peer' ,\n\t'B.peer' ) ", "1(0,1) A.peer B.peer");
    check("AND('A.peer')", "1(0) A.peer");
    // The number may be quoted, as Fabric's tools allow.
    check("OutOf('1', 'A.member', 'B.member')", "1(0,1) A.member B.member");
    // MSP ids with dots and dashes: the role is what stands after the last dot.
    check(
        "OR('MSP.member', 'MSP.WITH.DOTS.member', 'MSP-WITH-DASHES.member', 'peer.peer')",
        "1(0,1,2,3) MSP.member MSP.WITH.DOTS.member MSP-WITH-DASHES.member peer.peer",
    );
    // Principals of gates among the arguments are numbered before those beside them.
    check("OR('A.member', AND('B.member', 'C.member'))", "1(2,2(0,1)) B.member C.member A.member");
    check(
        "OR(AND('A.member', 'B.member'), OR('C.admin', 'D.member'))",
        "1(2(0,1),1(2,3)) A.member B.member C.admin D.member",
    );
    check(
        "AND('A.peer', OR('B.peer', AND('C.peer', 'D.peer')), 'E.peer')",
        "3(3,1(2,2(0,1)),4) C.peer D.peer B.peer A.peer E.peer",
    );
    // Equal principals are not merged.
    check("AND('A.peer', 'A.peer')", "2(0,1) A.peer A.peer");
    // Always satisfied, and never.
    check("OutOf(0, 'A.member', 'B.member')", "0(0,1) A.member B.member");
    check("OutOf(3, 'A.member', 'B.member')", "3(0,1) A.member B.member");
}

#[test]
fn golden_errors() {
    check("", "0: expected AND, OR or OutOf, found the end");
    check("  ", "2: expected AND, OR or OutOf, found the end");
    check("1", "0: \"1\" is not AND, OR or OutOf");
    check("'A.member'", "0: expected AND, OR or OutOf, found '\\''");
    check("XOR('A.member')", "0: \"XOR\" is not AND, OR or OutOf");
    check("OR", "2: expected '(', found the end");
    check("OR()", "3: expected a principal in quotes or a gate, found ')'");
    check("OR('A.member'", "13: expected ',' or ')', found the end");
    check("OR('A.member',)", "14: expected a principal in quotes or a gate, found ')'");
    check("OR('A.member') x", "15: expected the end, found 'x'");
    check("OR('A.member' 'B.member')", "14: expected ',' or ')', found '\\''");
    check("OR('A.member', Bmember)", "15: \"Bmember\" is not AND, OR or OutOf");
    check("OR('A.member', B)", "15: \"B\" is not AND, OR or OutOf");
    check("OR('A.member", "3: the quotation does not end");
    check("OR('A.member\")", "3: the quotation does not end");
    let principal = "is not an MSP id, a dot and one of member, admin, client, peer, orderer";
    check("OR('A.member', 'Bmember')", &format!("15: \"Bmember\" {principal}"));
    check("OR('A.boss')", &format!("3: \"A.boss\" {principal}"));
    check("OR('A.Peer')", &format!("3: \"A.Peer\" {principal}"));
    check("OR('.peer')", &format!("3: \".peer\" {principal}"));
    check("OR('A.peer ')", &format!("3: \"A.peer \" {principal}"));
    check("OR('A B.peer')", &format!("3: \"A B.peer\" {principal}"));
    check("OutOf('A.peer')", "6: expected a number, found '\\''");
    check("OutOf(true, 'A.member')", "6: expected a number, found 't'");
    check("OutOf(1)", "7: expected ',' and what to choose from, found ')'");
    check("OutOf(1, 2)", "9: expected a principal in quotes or a gate, found '2'");
    check("OutOf(-1, 'A.peer', 'B.peer')", "0: -1 out of 2 makes no sense");
    check("OutOf(4, 'A.peer', 'B.peer')", "0: 4 out of 2 makes no sense");
    check("AND('A.peer', OutOf(3, 'B.peer'))", "14: 3 out of 1 makes no sense");
    check("OutOf(99999999999999999999, 'A.peer')", "6: expected a number, found '9'");
    check("ÄND('A.peer')", "0: expected AND, OR or OutOf, found 'Ä'");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}'A.peer'{}", "OR(".repeat(depth), ")".repeat(depth));
    let deepest = dsl::parse(&nested(32)).unwrap();
    let decoded = SignaturePolicyEnvelope::decode(Bytes::from(deepest.encode_to_vec()));
    assert_eq!(decoded.unwrap(), deepest);
    assert!(matches!(dsl::parse(&nested(33)), Err(ParseError::TooDeep { position: 96 })));
    assert!(dsl::parse(&nested(100_000)).is_err());
}

#[test]
fn formatting() {
    let check = |input: &str, expect: &str| {
        assert_eq!(dsl::format(&dsl::parse(input).unwrap()).unwrap(), expect);
    };
    check("outof(2,'A.peer',\"B.peer\")", "AND('A.peer', 'B.peer')");
    check("OutOf(2, 'A.peer', 'B.peer', 'C.peer')", "OutOf(2, 'A.peer', 'B.peer', 'C.peer')");
    check("and('A.peer')", "OR('A.peer')");
    check("OutOf(0, 'A.peer')", "OutOf(0, 'A.peer')");
    check(
        "OR('A.peer', AND('B.peer', OutOf(3, 'C.peer', 'D.peer')))",
        "OR('A.peer', AND('B.peer', OutOf(3, 'C.peer', 'D.peer')))",
    );
}

fn signed_by(index: i32) -> SignaturePolicy {
    SignaturePolicy { r#type: Some(Type::SignedBy(index)) }
}

#[test]
fn what_the_language_has_no_words_for() {
    let envelope = |rule: Option<SignaturePolicy>, identities: Vec<MspPrincipal>| {
        SignaturePolicyEnvelope { version: 0, rule, identities }
    };
    let check = |policy: SignaturePolicyEnvelope, format: Result<&str, FormatError>, text: &str| {
        assert_eq!(dsl::format(&policy), format.map(str::to_owned));
        assert_eq!(dsl::describe(&policy), text);
    };
    let peer = Principal::role("A", PrincipalRole::Peer);
    check(envelope(Some(signed_by(0)), vec![peer.clone()]), Ok("OutOf(1, 'A.peer')"), "'A.peer'");
    check(envelope(None, vec![]), Err(FormatError::Empty), "<empty>");
    let out_of_range = Err(FormatError::Principal { index: 1 });
    check(envelope(Some(signed_by(1)), vec![peer]), out_of_range, "<no principal 1>");
    let nothing = SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n: 0, rules: vec![] })) };
    check(envelope(Some(nothing), vec![]), Err(FormatError::Empty), "OutOf(0)");
    let unit = OrganizationUnit {
        msp_identifier: "A".to_owned(),
        organizational_unit_identifier: "dept".to_owned(),
        certifiers_identifier: Bytes::new(),
    };
    let unit = MspPrincipal {
        principal_classification: Classification::OrganizationUnit.into(),
        principal: unit.encode_to_vec().into(),
    };
    let first = || Err(FormatError::Principal { index: 0 });
    check(envelope(Some(signed_by(0)), vec![unit]), first(), "<unit dept of A>");
    let odd = Principal::role("it's", PrincipalRole::Peer);
    check(envelope(Some(signed_by(0)), vec![odd]), first(), "<peer of it's>");
}

#[test]
fn implicit_meta_policies() {
    let read = |text: &str| dsl::parse_implicit_meta(text).map(|p| dsl::format_implicit_meta(&p));
    assert_eq!(read("ANY Readers").unwrap(), "ANY Readers");
    assert_eq!(read(" ALL  Writers ").unwrap(), "ALL Writers");
    assert_eq!(read("MAJORITY Admins").unwrap(), "MAJORITY Admins");
    for wrong in ["", "ANY", "SOME Readers", "any Readers", "ANY Readers Writers"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

fn gates() -> impl Strategy<Value = String> {
    let principal =
        ("[A-Za-z0-9-]{1,4}(\\.[a-z]{1,3})?", prop::sample::select(&PrincipalRole::ALL))
            .prop_map(|(msp_id, role)| format!("'{msp_id}.{role}'"));
    principal.prop_recursive(4, 24, 4, |inner| {
        let arguments = prop::collection::vec(inner, 1..4);
        (arguments, any::<prop::sample::Index>()).prop_map(|(arguments, needed)| {
            let needed = needed.index(arguments.len() + 2);
            format!("OutOf({needed}, {})", arguments.join(", "))
        })
    })
}

proptest! {
    /// Writing what was read, and reading that again, changes nothing.
    #[test]
    fn formatting_and_parsing_agree(text in gates().prop_filter("gate", |t| t.starts_with('O'))) {
        let policy = dsl::parse(&text).unwrap();
        let written = dsl::format(&policy).unwrap();
        prop_assert_eq!(dsl::parse(&written).unwrap(), policy);
    }

    /// No text makes the parser panic, and positions lie within the text.
    #[test]
    fn any_text(text in "[ANDORoutf(),'\" .0-9a-zÄ]{0,60}|\\PC{0,40}") {
        if let Err(ParseError::Unexpected { position, .. }) = dsl::parse(&text) {
            prop_assert!(text.is_char_boundary(position));
        }
    }
}
