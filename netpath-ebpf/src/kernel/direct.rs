//! Direct packet access: views and stores between `data` and `data_end`, in the form that the verifier can follow.

use core::{arch::asm, hint::assert_unchecked, intrinsics::is_val_statically_known};

use netpath_common::reason::Reason;

/// All that is ever looked at, headers and what an ICMP error quotes, lies within this many bytes: a power of two less one.
const REACH: usize = 0x7ff;

/// The bytes of a packet that a program may touch. Any helper that changes the packet ends its life: take it anew.
#[derive(Clone, Copy)]
pub struct Window {
    /// `data` of the context.
    pub start: usize,
    /// `data_end` of the context.
    pub end: usize,
}

impl Window {
    /// The bytes between two pointers of a context, which lie in 32-bit fields at these offsets.
    ///
    /// # Safety
    /// `ctx` is the program's context, and the fields are `data` and `data_end`.
    #[inline(always)]
    pub unsafe fn of<const DATA: usize, const DATA_END: usize, C>(ctx: *const C) -> Self {
        let (start, end): (usize, usize);
        // As plain loads these could become 32-bit arguments of a function that is not inlined, and a pointer that passes
        // through 32 bits is none to the verifier.
        // SAFETY: two loads of fields that the caller vouches for.
        unsafe {
            asm!(
                "{start} = *(u32 *)({ctx} + {data})",
                "{end} = *(u32 *)({ctx} + {data_end})",
                ctx = in(reg) ctx,
                start = out(reg) start,
                end = lateout(reg) end,
                data = const DATA,
                data_end = const DATA_END,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        Self { start, end }
    }

    /// How many bytes it has.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// A pointer to `N` bytes at an offset, which are all there.
    #[inline(always)]
    fn at<const N: usize>(self, offset: usize) -> Option<*mut [u8; N]> {
        let mut pointer = self.start;
        if is_val_statically_known(offset) {
            pointer += offset;
        } else {
            // The compiler drops a bound that it knows to hold, and the verifier, which cannot see why it holds, then
            // refuses the program. And the verifier ties what was compared with `data_end` to one register, while the
            // compiler may form the same sum again in another. So both steps are hidden from the compiler. No offset of
            // ours reaches the mask.
            // SAFETY: two instructions on two registers.
            unsafe {
                asm!(
                    "{offset} &= {reach}",
                    "{pointer} += {offset}",
                    offset = inout(reg) offset => _,
                    pointer = inout(reg) pointer,
                    reach = const REACH,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
        // SAFETY: packets do not begin at address 0.
        unsafe { assert_unchecked(pointer != 0) };
        if pointer + N > self.end {
            None
        } else {
            Some(pointer as *mut [u8; N])
        }
    }

    /// `N` bytes at an offset.
    ///
    /// # Safety
    /// The window must be of the packet as it is now, and `'a` must end before the packet is changed.
    #[inline(always)]
    pub unsafe fn view<'a, const N: usize>(self, offset: usize) -> Option<&'a [u8; N]> {
        // SAFETY: `at` compared the whole range with `data_end`; byte arrays need no alignment.
        self.at(offset).map(|bytes| unsafe { &*bytes })
    }

    /// Writes `N` bytes at an offset.
    ///
    /// # Safety
    /// The window must be of the packet as it is now, and no view of it may be alive.
    ///
    /// # Errors
    /// [`Reason::Malformed`] if they do not lie within the window.
    #[inline(always)]
    pub unsafe fn store<const N: usize>(self, offset: usize, bytes: &[u8; N]) -> Result<(), Reason> {
        let target = self.at(offset).ok_or(Reason::Malformed)?;
        // SAFETY: as for `view`; and the caller vouches that nobody else looks.
        unsafe { *target = *bytes };
        Ok(())
    }
}
