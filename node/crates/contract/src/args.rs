//! Arguments of functions and what they return, from and to bytes.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ContractError;

/// A value that crosses the border of a contract as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json<T>(pub T);

/// A type that a function can take as an argument.
pub trait FromArgument: Sized + Send {
    /// Reads the argument.
    ///
    /// # Errors
    /// Fails with what is wrong, such as `"x" is not a whole number`.
    fn from_argument(argument: &Bytes) -> Result<Self, String>;
}

/// A type that a function can return.
pub trait IntoPayload {
    /// Writes the response's payload.
    ///
    /// # Errors
    /// Fails for values that have no form in bytes.
    fn into_payload(self) -> Result<Bytes, ContractError>;
}

fn text(argument: &Bytes) -> Result<&str, String> {
    std::str::from_utf8(argument).map_err(|_| "it is not UTF-8 text".to_owned())
}

impl FromArgument for Bytes {
    fn from_argument(argument: &Bytes) -> Result<Self, String> {
        Ok(argument.clone())
    }
}

impl FromArgument for Vec<u8> {
    fn from_argument(argument: &Bytes) -> Result<Self, String> {
        Ok(argument.to_vec())
    }
}

impl FromArgument for String {
    fn from_argument(argument: &Bytes) -> Result<Self, String> {
        text(argument).map(str::to_owned)
    }
}

impl<T: DeserializeOwned + Send> FromArgument for Json<T> {
    fn from_argument(argument: &Bytes) -> Result<Self, String> {
        serde_json::from_slice(argument)
            .map(Json)
            .map_err(|e| format!("it is not as expected: {e}"))
    }
}

impl IntoPayload for () {
    fn into_payload(self) -> Result<Bytes, ContractError> {
        Ok(Bytes::new())
    }
}

impl IntoPayload for Bytes {
    fn into_payload(self) -> Result<Bytes, ContractError> {
        Ok(self)
    }
}

impl IntoPayload for Vec<u8> {
    fn into_payload(self) -> Result<Bytes, ContractError> {
        Ok(self.into())
    }
}

impl IntoPayload for String {
    fn into_payload(self) -> Result<Bytes, ContractError> {
        Ok(self.into())
    }
}

impl IntoPayload for &'static str {
    fn into_payload(self) -> Result<Bytes, ContractError> {
        Ok(Bytes::from_static(self.as_bytes()))
    }
}

impl<T: Serialize> IntoPayload for Json<T> {
    fn into_payload(self) -> Result<Bytes, ContractError> {
        to_json("the result", &self.0)
    }
}

/// Writes a value as JSON; `what` names it in the error.
///
/// # Errors
/// Fails for values that have no form in JSON.
pub fn to_json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Bytes, ContractError> {
    let json = serde_json::to_vec(value).map_err(|source| ContractError::Json {
        step: "write",
        what: what.to_owned(),
        source,
    })?;
    Ok(json.into())
}

/// Reads a value from JSON; `what` names it in the error.
///
/// # Errors
/// Fails where the bytes are not that JSON.
pub fn from_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, ContractError> {
    serde_json::from_slice(json).map_err(|source| ContractError::Json {
        step: "read",
        what: what.to_owned(),
        source,
    })
}

/// Numbers and truth values, which travel as text.
macro_rules! as_text {
    ($what:literal: $($type:ty)*) => { $(
        impl FromArgument for $type {
            fn from_argument(argument: &Bytes) -> Result<Self, String> {
                let text = text(argument)?;
                text.parse().map_err(|_| {
                    let text: String = text.chars().take(40).collect();
                    format!(concat!("{:?} is not ", $what), text)
                })
            }
        }

        impl IntoPayload for $type {
            fn into_payload(self) -> Result<Bytes, ContractError> {
                Ok(self.to_string().into())
            }
        }
    )* };
}

as_text!("a whole number in range": u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);
as_text!("a number": f32 f64);
as_text!("true or false": bool);
