//! Sets of ports as `ip_local_reserved_ports` writes them: "1-9,22,49152-65535".

use std::array;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A set of ports: a bit for each. The ranges that are meant here hold thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(Box<[u64; 1024]>);

impl Default for Ports {
    fn default() -> Self {
        Ports(Box::new([0; 1024]))
    }
}

impl Ports {
    /// The ports of both.
    pub fn with(&self, other: &Ports) -> Ports {
        Ports(Box::new(array::from_fn(|word| self.0[word] | other.0[word])))
    }

    /// The ports that `other` lacks.
    pub fn without(&self, other: &Ports) -> Ports {
        Ports(Box::new(array::from_fn(|word| self.0[word] & !other.0[word])))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn extend(&mut self, range: RangeInclusive<u16>) {
        for port in range {
            self.0[usize::from(port / 64)] |= 1 << (port % 64);
        }
    }

    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..=u16::MAX).filter(|port| self.0[usize::from(port / 64)] & 1 << (port % 64) != 0)
    }
}

impl From<RangeInclusive<u16>> for Ports {
    fn from(range: RangeInclusive<u16>) -> Self {
        let mut ports = Ports::default();
        ports.extend(range);
        ports
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
        let mut ports = Ports::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            ports.extend(number(first)?..=number(last)?);
        }
        Ok(ports)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
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
