//! Names from outside: which are safe to use, and the names that are made from them.

use std::fmt;

use crate::fnv;

/// The longest name that a file can have, in bytes.
const MAX_FILE_NAME: usize = 255;
/// The longest name that a device can have, in bytes (`IFNAMSIZ` less the final zero).
const MAX_INTERFACE_NAME: usize = 15;

/// An attachment's identity: the specification's tuple of container and interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

impl Attachment {
    /// The name of the node's end of the attachment's veth pair: `np` and 11 hexadecimal digits. It depends on nothing but
    /// the identity, so that DEL finds what an ADD of any build began.
    pub fn device(&self) -> String {
        // FNV-1a over both names and a byte that neither can hold. 44 bits of it are enough for the pods of a node: with
        // 1,000 of them a collision has a chance of one in 35 million, and ADD then fails by name.
        let bytes = self.container_id.bytes().chain([0]).chain(self.ifname.bytes());
        let hash = fnv::hash64(bytes);
        format!("np{:011x}", (hash ^ (hash >> 44)) & 0xfff_ffff_ffff)
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of container {}", self.ifname, self.container_id)
    }
}

/// Whether a device's name is one that [`Attachment::device`] makes.
pub fn is_pod_device(name: &str) -> bool {
    name.strip_prefix("np").is_some_and(|digits| {
        digits.len() == 11 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The specification's rule for names of networks and containers; such a name is also safe as a file's.
pub fn is_identifier(name: &str) -> bool {
    name.len() <= MAX_FILE_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// The kernel's rule for names of devices (`dev_valid_name`), without `%`, which makes a name a pattern, and without control
/// characters, which only hide.
pub fn is_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE_NAME).contains(&name.len())
        && name != "."
        && name != ".."
        && !name
            .chars()
            .any(|letter| matches!(letter, '/' | ':' | '%') || letter.is_whitespace() || letter.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_is_short_stable_and_its_own() {
        let attachment = |container: &str, ifname: &str| Attachment {
            container_id: container.into(),
            ifname: ifname.into(),
        };
        let device = attachment("c0ffee", "eth0").device();
        assert_eq!(
            device, "npfd802e5d180",
            "a change of the hash strands the devices of running pods"
        );
        assert!(is_interface_name(&device) && is_pod_device(&device));
        assert_ne!(device, attachment("c0ffee", "eth1").device());
        // The boundary between the names counts.
        assert_ne!(attachment("ae", "th0").device(), attachment("a", "eth0").device());
    }

    #[test]
    fn identifiers_follow_the_specification() {
        for good in ["a", "0", "Pod_1.b-c", &"x".repeat(255)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            ".a",
            "a/b",
            "a b",
            "a\0b",
            "ä",
            "a\n",
            "../../etc",
            &"x".repeat(256),
        ] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["e", "eth0", "123456789012345", "a.b-c_d@e"] {
            assert!(is_interface_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "1234567890123456",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\u{a0}b",
            "a\0b",
        ] {
            assert!(!is_interface_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_our_own_devices_are_ours() {
        for other in [
            "np",
            "npfd802e5d18",
            "npfd802e5d1801",
            "npABCDEF01234",
            "eth0",
            "netpath0",
            "nqfd802e5d180",
        ] {
            assert!(!is_pod_device(other), "{other}");
        }
    }
}
