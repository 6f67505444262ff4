#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use weft_ops::logspec::to_directives;

#[test]
fn both_forms_are_translated() {
    let check = |spec: &str, expect: Option<&str>| {
        assert_eq!(to_directives(spec).ok().as_deref(), expect, "{spec:?}");
    };
    check("", Some("info"));
    check("debug", Some("debug"));
    check("WARNING", Some("warn"));
    check("fatal", Some("error"));
    check("info:weft_peer=debug", Some("info,weft_peer=debug"));
    check("weft_peer=debug:warn", Some("warn,weft_peer=debug"));
    check("info:weft_peer,weft_rpc=debug", Some("info,weft_peer=debug,weft_rpc=debug"));
    check("info:weft-peer.commit=trace", Some("info,weft_peer::commit=trace"));
    check("info,weft_peer=debug", Some("info,weft_peer=debug"));
    check("info,weft_peer::commit=debug,h2=off", Some("info,weft_peer::commit=debug,h2=off"));
    check(" info : a = debug ", Some("info,a=debug"));
    check("::", None);
    check("loud", None);
    check("weft_peer", None);
    check("info:weft_peer=loud", None);
    check("info:=debug", None);
    check("info:a b=debug", None);
    check("info:weft_peer,=debug", None);
    check("info:[span]=debug", None);
}

#[test]
fn errors_name_the_segment() {
    let error = to_directives("info:weft_peer=loud").unwrap_err().to_string();
    assert!(error.contains("\"weft_peer=loud\""), "{error}");
}

proptest! {
    #[test]
    fn hostile_text_gives_an_error_or_directives_that_parse(spec in "[a-z:,=.\\-\\[\\]{} /]{0,40}") {
        if let Ok(directives) = to_directives(&spec) {
            let parsed = tracing_subscriber::EnvFilter::builder().parse(&directives);
            prop_assert!(parsed.is_ok(), "{spec:?} became {directives:?}");
        }
    }

    #[test]
    fn translation_is_stable(spec in "(info|debug)(:[a-z]{1,4}=(warn|trace)){0,3}") {
        let once = to_directives(&spec).unwrap();
        prop_assert_eq!(to_directives(&once).unwrap(), once);
    }
}
