//! One definition of a layout for both address families.

/// Defines a layout that holds addresses: the generic type `Name<A>`, which packet logic is written over, and for each
/// family a concrete `v4::Name` and `v6::Name`, which is what lies in the map.
///
/// The concrete ones are aligned to words: the BPF target reads what is not byte by byte.
///
/// Two kinds are needed because `bytemuck::Pod` proves the absence of padding only for concrete types. Conversions go
/// both ways and compile to nothing: both kinds are laid out alike. In the field list, `A` stands for the address.
macro_rules! per_family {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }
     sizes: $size4:literal, $size6:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(C, align(4))]
        pub struct $name<A> { $($(#[$field_meta])* pub $field: $ty,)* }

        $crate::abi::family::per_family!(@concrete v4, [u8; 4], $size4, $(#[$meta])* $name { $($(#[$field_meta])* $field: $ty,)* });
        $crate::abi::family::per_family!(@concrete v6, [u8; 16], $size6, $(#[$meta])* $name { $($(#[$field_meta])* $field: $ty,)* });
    };
    (@concrete $family:ident, $addr:ty, $size:literal, $(#[$meta:meta])* $name:ident
     { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }) => {
        const _: () = {
            type A = $addr;
            impl From<$name<A>> for $family::$name {
                #[inline(always)]
                fn from(value: $name<A>) -> Self {
                    Self { $($field: value.$field,)* }
                }
            }
            impl From<$family::$name> for $name<A> {
                #[inline(always)]
                fn from(value: $family::$name) -> Self {
                    Self { $($field: value.$field,)* }
                }
            }
            assert!(size_of::<$family::$name>() == $size && size_of::<$name<A>>() == $size);
        };
    };
}

/// Declares the modules `v4` and `v6` that hold the concrete layouts of a file.
macro_rules! families {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }
       sizes: $size4:literal, $size6:literal;)*) => {
        $($crate::abi::family::per_family! {
            $(#[$meta])* pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }
            sizes: $size4, $size6
        })*
        $crate::abi::family::families!(@module v4, "IPv4", [u8; 4], $($(#[$meta])* $name { $($(#[$field_meta])* $field: $ty,)* })*);
        $crate::abi::family::families!(@module v6, "IPv6", [u8; 16], $($(#[$meta])* $name { $($(#[$field_meta])* $field: $ty,)* })*);
    };
    (@module $family:ident, $title:literal, $addr:ty,
     $($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* })*) => {
        #[doc = concat!("The layouts of this file for ", $title, ".")]
        pub mod $family {
            #[allow(unused_imports, reason = "a layout need not name any type of its file")]
            use super::*;
            #[allow(dead_code, reason = "a layout need not hold an address")]
            type A = $addr;
            $($(#[$meta])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
            #[repr(C, align(4))]
            pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* })*
        }
    };
}

pub(crate) use {families, per_family};
