//! Nothing that is shown or told holds a key.

use std::error::Error;
use std::fmt::Debug;

use super::super::authority::decide;
use super::super::bundle::{bundle, parse};
use super::super::holder::Hold;
use super::super::{Actor, hash};
use super::*;

/// What must not be seen: keys as text, and as the numbers of their octets.
struct Canaries(Vec<String>);

impl Canaries {
    fn of(data: &[&SecretData]) -> Canaries {
        // A CA's key has the name of a TLS key.
        let names = [key::SIGN_KEY, key::TLS_KEY];
        let keys = data.iter().flat_map(|data| names.iter().filter_map(|name| data.get(*name)));
        let mut forms = vec!["PRIVATE KEY".to_owned()];
        for key in keys {
            // The first line of the body is the same in all keys of a suite.
            let body = std::str::from_utf8(&key.0).unwrap().lines().nth(2).unwrap();
            forms.push(body[..24].to_owned());
            let numbers: Vec<_> = key.0[..12].iter().map(u8::to_string).collect();
            forms.extend([", ", ","].map(|between| numbers.join(between)));
        }
        Canaries(forms)
    }

    fn check(&self, shown: &str) {
        for form in &self.0 {
            assert!(!shown.contains(form.as_str()), "{shown}");
        }
    }

    fn debug(&self, value: &dyn Debug) {
        self.check(&format!("{value:?}"));
        self.check(&format!("{value:#?}"));
    }

    fn error(&self, error: &(dyn Error + 'static)) {
        self.debug(&error);
        let causes = std::iter::successors(Some(error), |&error| error.source());
        causes.for_each(|error| self.check(&error.to_string()));
    }
}

#[test]
fn values_do_not_show_keys() {
    let made = Authority::make(&msp_id(), RootUse::Identity, &certificates(), NOW).unwrap();
    let tls = Authority::make(&msp_id(), RootUse::Tls, &certificates(), NOW).unwrap();
    let holder =
        Authorities::new(msp_id(), made.authority.clone(), tls.authority.clone(), certificates())
            .unwrap();
    let ensured = holder.ensure(&leaves(), None, Hold::Nothing, NOW).unwrap();
    let data = ensured.data.as_ref().unwrap();
    let canaries = Canaries::of(&[&made.data, &tls.data, data]);
    assert_eq!(canaries.0.len(), 1 + 4 * 3);
    let actor = Actor::read("org1-user-admin", data, &msp_id()).unwrap();
    let decision = decide(&held(&made.data), NOW).unwrap();
    for value in [
        &made as &dyn Debug,
        &made.authority,
        &holder,
        &ensured,
        &ensured.issued,
        &actor,
        &decision,
    ] {
        canaries.debug(value);
    }
    canaries.check(&hash(data));
    bundle(&holder).values().for_each(|text| canaries.check(text));
}

/// A key where something else belongs, and a key that is almost one.
#[test]
fn errors_do_not_tell_keys() {
    let made = Authority::make(&msp_id(), RootUse::Identity, &certificates(), NOW).unwrap();
    let holder = authorities();
    let data = holder.ensure(&leaves(), None, Hold::Nothing, NOW).unwrap().data.unwrap();
    let canaries = Canaries(Canaries::of(&[&made.data, &data]).0.split_off(1));
    for (name, source) in [(key::CA_KEY, &made.data), (key::SIGN_KEY, &data)] {
        let pem = text(source, name);
        let middle = pem.len() / 2;
        let cut = pem[..middle].to_owned();
        let patched = format!("{}!{}", &pem[..middle], &pem[middle..]);
        let halved = format!("{cut}\n-----END PRIVATE KEY-----\n");
        for bad in [pem, &cut, &patched, &halved] {
            for name in [key::CA_CERT, key::CA_KEY, key::SIGN_CERT, key::SIGN_KEY, key::TLS_CERT] {
                let replace = |data: &SecretData| {
                    let mut data = data.clone();
                    data.insert(name.to_owned(), value(bad));
                    data
                };
                let (authority, identity) = (replace(&made.data), replace(&data));
                if let Err(error) = decide(&held(&authority), NOW) {
                    canaries.error(&error);
                }
                if let Err(error) = holder.ensure(&leaves(), Some(&identity), Hold::Nothing, NOW) {
                    canaries.error(&error);
                }
                if let Err(error) = Actor::read("a", &identity, &msp_id()) {
                    canaries.error(&error);
                }
            }
            for name in [key::MSP_ID, key::CA_CERTS, key::CONFIG] {
                let mut public = bundle(&holder);
                public.insert(name.to_owned(), bad.to_owned());
                canaries.error(&parse(&public).unwrap_err());
            }
        }
    }
}
