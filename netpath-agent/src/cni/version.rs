//! The versions of the CNI specification that the plugin speaks, and what each of them has.

use serde_json::{Value, json};

use super::error::{Code, Error};

/// A version of the specification. They are ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Lists of plugins; results with interfaces.
    V0_3_1,
    /// CHECK, and the previous result on DEL.
    V0_4_0,
    /// Addresses without a version of their own.
    V1_0_0,
    /// GC and STATUS; the MTU of an interface.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];
    /// The newest version: errors are written in it when the runtime's is unknown.
    pub const NEWEST: Version = Version::V1_1_0;

    /// The version as it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Reads `cniVersion`. A configuration without one is of version 0.1.0, which the plugin does not speak.
    ///
    /// # Errors
    /// [`Code::Decode`] if the text is no version, [`Code::IncompatibleVersion`] if it is none of ours.
    pub fn parse(text: Option<&str>) -> Result<Self, Error> {
        let text = match text {
            None | Some("") => "0.1.0",
            Some(text) => text,
        };
        if let Some(version) = Self::ALL.into_iter().find(|version| version.as_str() == text) {
            return Ok(version);
        }
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let is_version = numbers.split('.').count() == 3
            && numbers
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_version {
            return Err(
                Error::new(Code::Decode, format!("cniVersion {text:?} is not a version"))
                    .details(format!("write one of {}", Self::list())),
            );
        }
        Err(Error::new(
            Code::IncompatibleVersion,
            format!("CNI version {text} is not supported"),
        )
        .details(format!(
            "set cniVersion in the network configuration to one of {}",
            Self::list()
        )))
    }

    /// Refuses a command that the version does not have yet.
    ///
    /// # Errors
    /// [`Code::IncompatibleVersion`].
    pub fn require(self, since: Version, command: &str) -> Result<(), Error> {
        if self >= since {
            return Ok(());
        }
        Err(Error::new(
            Code::IncompatibleVersion,
            format!("CNI version {} has no {command}", self.as_str()),
        )
        .details(format!(
            "set cniVersion in the network configuration to {} or newer",
            since.as_str()
        )))
    }

    fn list() -> String {
        Self::ALL.map(Version::as_str).join(", ")
    }
}

/// The answer to VERSION. `asked` is the runtime's own version, which is given back if it is one of ours.
pub fn answer(asked: Option<&str>) -> Value {
    let version = Version::parse(asked).unwrap_or(Version::NEWEST);
    json!({ "cniVersion": version.as_str(), "supportedVersions": Version::ALL.map(Version::as_str) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_read_back() {
        for version in Version::ALL {
            assert_eq!(Version::parse(Some(version.as_str())), Ok(version));
        }
    }

    #[test]
    fn no_version_means_0_1_0_and_that_is_too_old() {
        for absent in [None, Some("")] {
            let error = Version::parse(absent).unwrap_err();
            assert_eq!(error.code, Code::IncompatibleVersion);
            assert_eq!(error.msg, "CNI version 0.1.0 is not supported");
        }
    }

    #[test]
    fn other_versions_are_refused_and_other_texts_are_not_decoded() {
        for (text, code) in [
            ("0.3.0", Code::IncompatibleVersion),
            ("1.2.0", Code::IncompatibleVersion),
            ("2.0.0-rc1", Code::IncompatibleVersion),
            ("1.1", Code::Decode),
            ("one", Code::Decode),
            ("1..0", Code::Decode),
            ("-1.0.0", Code::Decode),
        ] {
            assert_eq!(Version::parse(Some(text)).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn commands_appear_with_their_version() {
        assert!(Version::V0_4_0.require(Version::V0_4_0, "CHECK").is_ok());
        let error = Version::V1_0_0.require(Version::V1_1_0, "GC").unwrap_err();
        assert_eq!(
            (error.code, error.msg.as_str()),
            (Code::IncompatibleVersion, "CNI version 1.0.0 has no GC")
        );
    }

    #[test]
    fn the_answer_names_all_versions_and_echoes_the_runtimes() {
        let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(
            answer(Some("0.4.0")),
            json!({"cniVersion": "0.4.0", "supportedVersions": supported})
        );
        assert_eq!(
            answer(Some("9.9.9")),
            json!({"cniVersion": "1.1.0", "supportedVersions": supported})
        );
        assert_eq!(
            answer(None),
            json!({"cniVersion": "1.1.0", "supportedVersions": supported})
        );
    }
}
