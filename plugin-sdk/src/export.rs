//! The exports of a module.

/// Exports a [`Plugin`](crate::guest::Plugin) as this crate's module. The attribute macros use it.
#[doc(hidden)]
#[macro_export]
macro_rules! export {
    ($plugin:ty, stateful) => {
        $crate::export!($plugin);

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn rowmill_checkpoint() -> u64 {
                GUEST.call(0, 0, |guest, _| guest.checkpoint())
            }

            #[unsafe(no_mangle)]
            extern "C" fn rowmill_migrate(old_version: u32, ptr: u32, len: u32) -> u64 {
                GUEST.call(ptr, len, |guest, state| guest.migrate(old_version, state))
            }
        };
    };
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        static GUEST: $crate::export::Slot<$plugin> = $crate::export::Slot::new();

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn rowmill_abi() -> i32 {
                $crate::export::ABI_VERSION
            }

            #[unsafe(no_mangle)]
            extern "C" fn rowmill_alloc(len: u32) -> u32 {
                $crate::export::alloc(len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn rowmill_free(ptr: u32, len: u32) {
                $crate::export::free(ptr, len);
            }

            #[unsafe(no_mangle)]
            extern "C" fn rowmill_init(ptr: u32, len: u32) -> u64 {
                $crate::export::report_panics();
                GUEST.call(ptr, len, |guest, input| guest.init(input))
            }

            #[unsafe(no_mangle)]
            extern "C" fn rowmill_schema(ptr: u32, len: u32) -> u64 {
                GUEST.call(ptr, len, |guest, input| guest.schema(input))
            }

            #[unsafe(no_mangle)]
            extern "C" fn rowmill_batch(ptr: u32, len: u32) -> u64 {
                GUEST.call(ptr, len, |guest, input| guest.batch(input))
            }
        };

        // Natively nothing is exported; this keeps what only the exports use from being called unused.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() -> $crate::guest::Guest<$plugin> = ::std::default::Default::default;
    };
}

#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::at_row;
#[cfg(target_arch = "wasm32")]
pub use wasm::{ABI_VERSION, Slot, alloc, free, report_panics};

/// Tells the host which row is worked on; natively there is none.
#[cfg(not(target_arch = "wasm32"))]
#[inline]
pub(crate) fn at_row(_index: i32) {}

#[cfg(target_arch = "wasm32")]
#[expect(
    unsafe_code,
    reason = "the module's boundary: raw memory that the host reads and writes"
)]
mod wasm {
    use crate::guest::{Guest, Plugin};
    use crate::host;
    use std::alloc::Layout;
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicI32, Ordering};

    pub use rowmill_abi::ABI_VERSION;

    /// The row being worked on, exported as the global that holds its address.
    #[unsafe(no_mangle)]
    pub static rowmill_row: AtomicI32 = AtomicI32::new(rowmill_abi::NO_ROW);

    /// Tells the host which row is worked on.
    #[inline]
    pub(crate) fn at_row(index: i32) {
        rowmill_row.store(index, Ordering::Relaxed);
    }

    /// What the ABI promises of buffers.
    const ALIGNMENT: usize = 8;

    fn layout(len: u32) -> Option<Layout> {
        // A zero-sized allocation is undefined, so that an empty buffer takes a byte.
        Layout::from_size_align((len as usize).max(1), ALIGNMENT).ok()
    }

    /// `rowmill_alloc`
    pub fn alloc(len: u32) -> u32 {
        match layout(len) {
            // SAFETY: the layout's size is never zero.
            Some(layout) => unsafe { std::alloc::alloc(layout) as u32 },
            None => 0,
        }
    }

    /// `rowmill_free`
    pub fn free(ptr: u32, len: u32) {
        if let (Some(layout), true) = (layout(len), ptr != 0) {
            // SAFETY: by the ABI the host gives back what `rowmill_alloc` gave for the same length.
            unsafe { std::alloc::dealloc(ptr as *mut u8, layout) }
        }
    }

    /// Tells the host a panic's text and place before the trap.
    pub fn report_panics() {
        std::panic::set_hook(Box::new(|info| host::panic(&info.to_string())));
    }

    /// The instance's one guest.
    pub struct Slot<P: Plugin>(UnsafeCell<Option<Guest<P>>>);

    // SAFETY: an instance runs on one thread, and no export calls another.
    unsafe impl<P: Plugin> Sync for Slot<P> {}

    impl<P: Plugin> Slot<P> {
        #[expect(clippy::new_without_default, reason = "needed in a static")]
        pub const fn new() -> Self {
            Self(UnsafeCell::new(None))
        }

        /// Runs one call; the reply is packed as `ptr << 32 | len`.
        pub fn call(&self, ptr: u32, len: u32, run: impl for<'g> FnOnce(&'g mut Guest<P>, &[u8]) -> &'g [u8]) -> u64 {
            let input = match ptr {
                0 => &[],
                // SAFETY: by the ABI the host has put `len` bytes at `ptr`, a buffer from `rowmill_alloc`.
                _ => unsafe { std::slice::from_raw_parts(ptr as *const u8, len as usize) },
            };
            // SAFETY: see `Sync`: nobody else borrows the guest during the call.
            let guest = unsafe { &mut *self.0.get() }.get_or_insert_default();
            let reply = run(guest, input);
            (reply.as_ptr() as u64) << 32 | reply.len() as u64
        }
    }
}
