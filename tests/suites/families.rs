//! Tests that are one in both families, and run in each.

/// Makes two tests of each function, which has the family's address as its parameter.
macro_rules! in_both_families {
    ($($name:ident;)*) => {
        mod ipv4 { $(#[test] fn $name() -> anyhow::Result<()> { super::$name::<[u8; 4]>() })* }
        mod ipv6 { $(#[test] fn $name() -> anyhow::Result<()> { super::$name::<[u8; 16]>() })* }
    };
}

pub(crate) use in_both_families;
