//! Policies as text: `AND('Org1MSP.peer', OutOf(1, 'Org2MSP.admin', "Org3MSP.member"))`.
//!
//! The language is Fabric's (common/policydsl/policyparser.go), and principals are numbered as
//! Fabric numbers them, so that the same text gives the same bytes with either tool:
//!
//! - a policy is one gate: `AND(…)`, `OR(…)` or `OutOf(n, …)`, in any case of letters;
//! - its arguments are gates and principals; the `n` of `OutOf` may be quoted, and lies between 0
//!   (always satisfied) and one more than there are arguments (never satisfied);
//! - a principal is an MSP id (letters, digits, `.`, `-` and, which Fabric refuses, `_`), a dot and
//!   one of `member`, `admin`, `client`, `peer` and `orderer`, in single or double quotes.
//!
//! Implicit meta policies have a form of two words: `MAJORITY Endorsement`.

use std::fmt::Write as _;

use weft_protos::common::{
    ImplicitMetaPolicy, MspPrincipal, SignaturePolicy, SignaturePolicyEnvelope,
    implicit_meta_policy::Rule,
    signature_policy::{NOutOf, Type},
};

use crate::principal::{Principal, PrincipalRole};

/// How deep gates may nest: well within what can be decoded again.
const MAX_DEPTH: usize = 32;

/// Text that is not a policy. Positions count octets from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something else should stand here.
    #[error("failed to read a policy at position {position}: expected {expected}, found {found}")]
    Unexpected {
        /// Where.
        position: usize,
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A gate is not one of the three.
    #[error("failed to read a policy at position {position}: {name:?} is not AND, OR or OutOf")]
    UnknownGate {
        /// Where it starts.
        position: usize,
        /// Its name.
        name: String,
    },
    /// A quoted text does not end.
    #[error("failed to read a policy at position {position}: the quotation does not end")]
    Unterminated {
        /// Where it starts.
        position: usize,
    },
    /// A quoted text is not a principal.
    #[error(
        "failed to read a policy at position {position}: {text:?} is not an MSP id, a dot and one of member, admin, client, peer, orderer"
    )]
    Principal {
        /// Where its quotation starts.
        position: usize,
        /// The text.
        text: String,
    },
    /// A threshold is negative or more than one above the number of arguments.
    #[error(
        "failed to read a policy at position {position}: {needed} out of {count} makes no sense"
    )]
    Threshold {
        /// Where the gate starts.
        position: usize,
        /// The threshold.
        needed: i64,
        /// The number of arguments.
        count: usize,
    },
    /// Gates nest too deeply.
    #[error(
        "failed to read a policy at position {position}: gates nest more than {MAX_DEPTH} deep"
    )]
    TooDeep {
        /// Where.
        position: usize,
    },
}

/// A policy that the language has no words for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A principal is not a role, or its MSP id cannot stand in the language.
    #[error(
        "failed to write a policy: principal {index} is not a role of an MSP that can be written"
    )]
    Principal {
        /// Its index.
        index: i32,
    },
    /// A rule is empty.
    #[error("failed to write a policy: it has an empty rule")]
    Empty,
}

/// Text that is not an implicit meta policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to read an implicit meta policy: {text:?} is not ANY, ALL or MAJORITY and the name of a policy"
)]
pub struct ImplicitMetaParseError {
    /// The text.
    pub text: String,
}

/// Reads a signature policy.
///
/// # Errors
/// [`ParseError`] with the position of what cannot be read.
pub fn parse(text: &str) -> Result<SignaturePolicyEnvelope, ParseError> {
    let mut parser = Parser { text, position: 0 };
    let gate = parser.gate(0)?;
    parser.expect_end()?;
    let mut identities = Vec::new();
    let rule = gate.number(&mut identities);
    Ok(SignaturePolicyEnvelope { version: 0, rule: Some(rule), identities })
}

/// Writes a signature policy: what [`parse`] reads back as the same rules.
///
/// # Errors
/// [`FormatError`] where the language has no words for it.
pub fn format(policy: &SignaturePolicyEnvelope) -> Result<String, FormatError> {
    let role = |index: i32| {
        let principal = principal_at(policy, index).and_then(role_text);
        principal.ok_or(FormatError::Principal { index })
    };
    let rule = policy.rule.as_ref().ok_or(FormatError::Empty)?;
    match &rule.r#type {
        // On its own a principal is no policy of the language.
        Some(Type::SignedBy(index)) => Ok(format!("OutOf(1, {})", role(*index)?)),
        _ => write_rule(rule, &role, false),
    }
}

/// A signature policy as text for people: like [`format()`], with `<…>` where the language has no
/// words.
#[must_use]
pub fn describe(policy: &SignaturePolicyEnvelope) -> String {
    let role = |index: i32| {
        let principal = principal_at(policy, index);
        let text = principal.map(|p| role_text(p).unwrap_or_else(|| other_text(p)));
        Ok(text.unwrap_or_else(|| format!("<no principal {index}>")))
    };
    let rule = policy.rule.as_ref().map(|rule| write_rule(rule, &role, true));
    rule.and_then(Result::ok).unwrap_or_else(|| "<empty>".to_owned())
}

/// Reads an implicit meta policy such as `ANY Writers`.
///
/// # Errors
/// [`ImplicitMetaParseError`] when it is not two words, the first one `ANY`, `ALL` or `MAJORITY`.
pub fn parse_implicit_meta(text: &str) -> Result<ImplicitMetaPolicy, ImplicitMetaParseError> {
    let words: Vec<_> = text.split_whitespace().collect();
    let rule = words.first().and_then(|word| Rule::from_str_name(word));
    match (rule, words.as_slice()) {
        (Some(rule), [_, name]) => {
            Ok(ImplicitMetaPolicy { sub_policy: (*name).to_owned(), rule: rule.into() })
        }
        _ => Err(ImplicitMetaParseError { text: text.to_owned() }),
    }
}

/// Writes an implicit meta policy: what [`parse_implicit_meta`] reads back.
#[must_use]
pub fn format_implicit_meta(policy: &ImplicitMetaPolicy) -> String {
    let rule = Rule::try_from(policy.rule).map_or("?", |rule| rule.as_str_name());
    format!("{rule} {}", policy.sub_policy)
}

/// A gate as it was read, with its principals where they stand.
struct Gate {
    needed: i32,
    arguments: Vec<Argument>,
}

enum Argument {
    Gate(Gate),
    Principal(MspPrincipal),
}

impl Gate {
    /// Numbers the principals: those of the gates among the arguments come first, then the gate's
    /// own, because Fabric works out the arguments of a gate before the gate itself.
    fn number(self, principals: &mut Vec<MspPrincipal>) -> SignaturePolicy {
        let inner: Vec<_> = self
            .arguments
            .into_iter()
            .map(|argument| match argument {
                Argument::Gate(gate) => Ok(gate.number(principals)),
                Argument::Principal(principal) => Err(principal),
            })
            .collect();
        let rules = inner.into_iter().map(|rule| {
            rule.unwrap_or_else(|principal| {
                principals.push(principal);
                let index = i32::try_from(principals.len() - 1).unwrap_or(i32::MAX);
                SignaturePolicy { r#type: Some(Type::SignedBy(index)) }
            })
        });
        let rules = rules.collect();
        SignaturePolicy { r#type: Some(Type::NOutOf(NOutOf { n: self.needed, rules })) }
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start().len();
    }

    /// Takes the longest start of the rest that consists of such characters.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.position += end;
        rest.get(..end).unwrap_or_default()
    }

    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(wanted);
        if found {
            self.position += wanted.len_utf8();
        }
        found
    }

    fn unexpected<T>(&self, expected: &'static str) -> Result<T, ParseError> {
        let found = match self.rest().chars().next() {
            Some(character) => format!("{character:?}"),
            None => "the end".to_owned(),
        };
        Err(ParseError::Unexpected { position: self.position, expected, found })
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), ParseError> {
        if self.take(wanted) { Ok(()) } else { self.unexpected(expected) }
    }

    fn expect_end(&mut self) -> Result<(), ParseError> {
        self.skip_space();
        if self.rest().is_empty() { Ok(()) } else { self.unexpected("the end") }
    }

    fn gate(&mut self, depth: usize) -> Result<Gate, ParseError> {
        self.skip_space();
        let position = self.position;
        if depth == MAX_DEPTH {
            return Err(ParseError::TooDeep { position });
        }
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            return self.unexpected("AND, OR or OutOf");
        }
        let kind = name.to_ascii_lowercase();
        if !matches!(kind.as_str(), "and" | "or" | "outof") {
            return Err(ParseError::UnknownGate { position, name: name.to_owned() });
        }
        self.expect('(', "'('")?;
        let threshold = if kind == "outof" { Some(self.threshold()?) } else { None };
        let arguments = self.arguments(depth)?;
        let count = arguments.len();
        let all = i64::try_from(count).unwrap_or(i64::MAX);
        let needed = threshold.unwrap_or(if kind == "and" { all } else { 1 });
        let fits = (0..=all.saturating_add(1)).contains(&needed);
        match i32::try_from(needed) {
            Ok(needed) if fits => Ok(Gate { needed, arguments }),
            _ => Err(ParseError::Threshold { position, needed, count }),
        }
    }

    /// The number of an `OutOf` and the comma after it.
    fn threshold(&mut self) -> Result<i64, ParseError> {
        const EXPECTED: &str = "a number";
        self.skip_space();
        let start = self.position;
        let quote = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"'));
        self.position += usize::from(quote.is_some());
        let digits = self.take_while(|c| c.is_ascii_digit() || c == '-');
        let Ok(needed) = digits.parse() else {
            self.position = start;
            return self.unexpected(EXPECTED);
        };
        if let Some(quote) = quote {
            self.expect(quote, "the end of the quotation")?;
        }
        self.expect(',', "',' and what to choose from")?;
        Ok(needed)
    }

    /// One argument or more, and the closing bracket.
    fn arguments(&mut self, depth: usize) -> Result<Vec<Argument>, ParseError> {
        let mut arguments = Vec::new();
        loop {
            arguments.push(self.argument(depth)?);
            if !self.take(',') {
                break;
            }
        }
        self.expect(')', "',' or ')'")?;
        Ok(arguments)
    }

    fn argument(&mut self, depth: usize) -> Result<Argument, ParseError> {
        self.skip_space();
        match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.principal(quote).map(Argument::Principal),
            Some(c) if c.is_ascii_alphabetic() => self.gate(depth + 1).map(Argument::Gate),
            _ => self.unexpected("a principal in quotes or a gate"),
        }
    }

    fn principal(&mut self, quote: char) -> Result<MspPrincipal, ParseError> {
        let position = self.position;
        self.position += 1;
        let text = self.take_while(|c| c != quote);
        if !self.take_closing(quote) {
            return Err(ParseError::Unterminated { position });
        }
        parse_principal(text)
            .ok_or_else(|| ParseError::Principal { position, text: text.to_owned() })
    }

    /// Unlike [`Self::take`], space before the quote belongs to the quotation.
    fn take_closing(&mut self, quote: char) -> bool {
        let found = self.rest().starts_with(quote);
        self.position += usize::from(found);
        found
    }
}

fn parse_principal(text: &str) -> Option<MspPrincipal> {
    let (msp_id, role) = text.rsplit_once('.')?;
    let role = PrincipalRole::ALL.into_iter().find(|known| known.as_str() == role)?;
    is_writable(msp_id).then(|| Principal::role(msp_id, role))
}

fn is_writable(msp_id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !msp_id.is_empty() && msp_id.chars().all(allowed)
}

fn principal_at(policy: &SignaturePolicyEnvelope, index: i32) -> Option<&MspPrincipal> {
    policy.identities.get(usize::try_from(index).ok()?)
}

fn role_text(principal: &MspPrincipal) -> Option<String> {
    match Principal::decode(principal).ok()? {
        Principal::Role { msp_id, role } if is_writable(&msp_id) => {
            Some(format!("'{msp_id}.{role}'"))
        }
        _ => None,
    }
}

fn other_text(principal: &MspPrincipal) -> String {
    match Principal::decode(principal) {
        Ok(Principal::Role { msp_id, role }) => format!("<{role} of {msp_id}>"),
        Ok(Principal::OrganizationUnit { msp_id, unit, .. }) => {
            format!("<unit {unit} of {msp_id}>")
        }
        Ok(Principal::Identity { msp_id, id }) => {
            let mut text = format!("<identity of {msp_id} ");
            for octet in id.iter().take(8) {
                // Writing to a string does not fail.
                let _ = write!(text, "{octet:02x}");
            }
            text + ">"
        }
        Ok(Principal::Nominal) => "<not anonymous>".to_owned(),
        Ok(Principal::Anonymous) => "<anonymous>".to_owned(),
        Ok(Principal::Combined(_)) => "<combination>".to_owned(),
        Err(_) => "<unreadable principal>".to_owned(),
    }
}

fn write_rule(
    rule: &SignaturePolicy,
    role: &impl Fn(i32) -> Result<String, FormatError>,
    allow_empty: bool,
) -> Result<String, FormatError> {
    match &rule.r#type {
        None => Err(FormatError::Empty),
        Some(Type::SignedBy(index)) => role(*index),
        Some(Type::NOutOf(threshold)) => {
            let rules = threshold.rules.iter().map(|rule| write_rule(rule, role, allow_empty));
            let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
            if rules.is_empty() && !allow_empty {
                return Err(FormatError::Empty);
            }
            Ok(write_gate(threshold.n, &rules))
        }
    }
}

fn write_gate(needed: i32, rules: &[String]) -> String {
    let all = i32::try_from(rules.len()) == Ok(needed);
    let mut parts = match needed {
        1 if !rules.is_empty() => return format!("OR({})", rules.join(", ")),
        _ if all && !rules.is_empty() => return format!("AND({})", rules.join(", ")),
        other => vec![other.to_string()],
    };
    parts.extend_from_slice(rules);
    format!("OutOf({})", parts.join(", "))
}
