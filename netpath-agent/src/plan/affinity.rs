//! The numbers under which clients of services with session affinity are remembered: one for each port of a service, which
//! all of its frontends share, so that a client meets the same backend on each of them.

use std::collections::HashSet;

use crate::fnv;
use crate::model::{ObjectName, ServicePort};

/// The numbers that are given.
#[derive(Default)]
pub(super) struct Numbers(HashSet<u32>);

impl Numbers {
    /// A number that follows from the port's names, so that a restart finds the same again; where another port has it, the
    /// next one that is free. Never 0.
    pub fn give(&mut self, service: &ObjectName, port: &ServicePort) -> u32 {
        let name = format!("{service}:{}:{}/{}", port.name, port.port, port.protocol);
        let mut number = fnv::hash32(name.bytes()).max(1);
        while !self.0.insert(number) {
            number = number.checked_add(1).unwrap_or(1);
        }
        number
    }

    /// Takes a number back.
    pub fn free(&mut self, number: u32) {
        self.0.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, Word};

    /// The number is FNV-1a of "web/shop::80/TCP", by another implementation.
    #[test]
    fn a_number_follows_from_the_name_and_is_given_once() {
        let port = ServicePort {
            name: Word::default(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        };
        let shop = ObjectName::new("web", "shop");
        let mut numbers = Numbers::default();
        let first = numbers.give(&shop, &port);
        assert_eq!(first, 0x1dff_0e1a);
        assert_eq!(Numbers::default().give(&shop, &port), first);
        assert_eq!(numbers.give(&shop, &port), first + 1);
    }
}
