//! The bridge between `netpath-common`'s layouts and aya's maps.

/// A layout as aya takes it for a map's key or value. `bytemuck` has proved what aya only asks to be promised: no padding,
/// and every pattern of bits is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Abi<T>(pub T);

// SAFETY: `bytemuck::Pod` guarantees all that `aya::Pod` asks for, and `repr(transparent)` keeps the layout.
unsafe impl<T: bytemuck::Pod> aya::Pod for Abi<T> {}
