//! Sets of ports as `ip_local_reserved_ports` writes them: "1-9,22,49152-65535".

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(BTreeSet<u16>);

impl Ports {
    /// The ports of both.
    pub fn with(&self, other: &Ports) -> Ports {
        Ports(self.0.union(&other.0).copied().collect())
    }

    /// The ports that `other` lacks.
    pub fn without(&self, other: &Ports) -> Ports {
        Ports(self.0.difference(&other.0).copied().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        Ports(range.collect())
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.trim()
                .parse::<u16>()
                .map_err(|error| format!("{part:?} is not a port (0 to 65535): {error}"))
        };
        let mut ports = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('-') {
                Some((first, last)) => ports.extend(number(first)?..=number(last)?),
                None => ports.extend([number(part)?]),
            }
        }
        Ok(Ports(ports))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if(|port| last.checked_add(1) == Some(*port)) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_in_the_shortest_form() {
        for (read, written) in [
            ("", ""),
            ("\n", ""),
            ("22", "22"),
            ("8080,1-3,4,9\n", "1-4,9,8080"),
            ("49152-65535", "49152-65535"),
            ("5-3", ""),
        ] {
            assert_eq!(read.parse::<Ports>().unwrap().to_string(), written, "{read:?}");
        }
    }

    #[test]
    fn what_is_no_port_is_named() {
        assert_eq!(
            "1,http".parse::<Ports>().unwrap_err(),
            "\"http\" is not a port (0 to 65535): invalid digit found in string"
        );
        assert!(
            "1-70000"
                .parse::<Ports>()
                .unwrap_err()
                .starts_with("\"70000\" is not a port")
        );
    }
}
