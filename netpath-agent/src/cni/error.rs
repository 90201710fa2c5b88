//! What went wrong, as a runtime reads it: the error object on standard output (CNI SPEC, section 5, "Error").

use std::fmt;

use serde_json::json;

/// The error codes that the plugin answers with. Those below 100 are the specification's, except for 8 and 999, which the
/// reference library adds; those from 100 on are our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration's version is not one that the plugin speaks, or lacks the command.
    IncompatibleVersion = 1,
    /// A key of the configuration asks for what the plugin does not do.
    UnsupportedField = 2,
    /// A variable of the environment is missing or malformed.
    BadEnvironment = 4,
    /// A file could not be read or written.
    Io = 5,
    /// Standard input is not the JSON that it should be.
    Decode = 6,
    /// The configuration contradicts itself or reality.
    BadConfig = 7,
    /// `CNI_NETNS` is not a network namespace that a pod can be attached in.
    BadNamespace = 8,
    /// A condition that passes: no address is free at the moment, or the agent is being upgraded.
    TryAgain = 11,
    /// ADD cannot work.
    NotAvailable = 50,
    /// ADD cannot work, and pods that were attached before may be cut off.
    LimitedConnectivity = 51,
    /// The kernel refused a part of an attachment.
    Attach = 100,
    /// CHECK found an attachment that differs from what ADD made.
    Differs = 101,
    /// GC or DEL could not remove everything.
    Leftovers = 102,
    /// A fault of the plugin itself.
    Internal = 999,
}

/// A failed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Its code.
    pub code: Code,
    /// What failed, by name.
    pub msg: String,
    /// Why, and what to do about it.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same error with the reason and the remedy.
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The error object: one line of JSON, in the specification's version that the runtime spoke, such as `1.1.0`.
    pub fn to_json(&self, version: &str) -> String {
        let mut object = json!({ "cniVersion": version, "code": self.code as u32, "msg": self.msg });
        if !self.details.is_empty() {
            object["details"] = json!(self.details);
        }
        object.to_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(formatter, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_keys_of_the_specification() {
        let error = Error::new(Code::BadConfig, "mtu 3 is too small").details("give at least 68");
        let object: serde_json::Value = serde_json::from_str(&error.to_json("1.0.0")).unwrap();
        assert_eq!(
            object,
            json!({"cniVersion": "1.0.0", "code": 7, "msg": "mtu 3 is too small", "details": "give at least 68"})
        );
    }

    #[test]
    fn details_are_left_out_when_there_are_none() {
        let object: serde_json::Value =
            serde_json::from_str(&Error::new(Code::TryAgain, "full").to_json("0.3.1")).unwrap();
        assert_eq!(object, json!({"cniVersion": "0.3.1", "code": 11, "msg": "full"}));
    }
}
