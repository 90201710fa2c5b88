//! The heap: it gives back what it does not need. The agent takes most of its memory at once, to load the programs and to read whole
//! lists, and then hardly any for weeks.

use nix::libc;

/// From this size on a block of memory, or the free end of the heap, goes back to the kernel.
const RETURNED: libc::c_int = 128 * 1024;

/// Has all threads share one heap, so that what one frees is there for another; to be called before there are any. Does nothing
/// where the C library is not GNU's.
pub fn frugal() {
    // SAFETY: mallopt takes two integers, and nobody else allocates meanwhile. What it refuses stays as it was.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED);
        libc::mallopt(libc::M_TRIM_THRESHOLD, RETURNED);
    }
}

/// Gives back what is free between what is not: a round that plans thousands of services leaves as much of that as they take. It
/// looks at all that is free, so that it is best called when nothing else is to be done. Does nothing where the C library is
/// not GNU's.
pub fn give_back() {
    // SAFETY: malloc_trim takes an integer and locks what it looks at.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
