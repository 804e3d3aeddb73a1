//! A disk of a few megabytes: a tmpfs, which root may mount.

use anyhow::{Context, Result, ensure};
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

/// Mounted at a folder until it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    bytes: u64,
}

impl SmallDisk {
    /// Makes the folder and mounts a disk of so many bytes there. Fails where this user may not.
    pub fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = CString::new(folder.as_os_str().as_bytes())?;
        mount(&path, bytes, 0)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            bytes,
        })
    }

    /// Makes it another size.
    pub fn resize(&self, bytes: u64) -> Result<()> {
        mount(
            &CString::new(self.folder.as_os_str().as_bytes())?,
            bytes,
            libc::MS_REMOUNT,
        )
    }

    /// Leaves no byte free.
    pub fn fill(&self) -> Result<()> {
        let mut filler = std::fs::File::create(self.filler())?;
        for size in [64 << 10, 512] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    /// Leaves no byte free, whatever its size: it becomes as large as what lies on it; one page where that is nothing, for no
    /// size is no limit.
    pub fn shrink(&self) -> Result<()> {
        // What is written meanwhile may make it larger than was asked for.
        let mut tries = 0;
        while let Err(error) = self.resize(self.used()?.max(PAGE)) {
            tries += 1;
            ensure!(tries < 100, "{error:#}");
        }
        Ok(())
    }

    /// Makes it as large again as it was mounted.
    pub fn grow(&self) -> Result<()> {
        self.resize(self.bytes)
    }

    fn used(&self) -> Result<u64> {
        let path = CString::new(self.folder.as_os_str().as_bytes())?;
        // SAFETY: all zeros are a value of it.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the path is a terminated string, and `found` is of the type that is filled in.
        ensure!(unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } == 0, "statvfs");
        Ok((found.f_blocks - found.f_bfree) * found.f_frsize)
    }

    /// Gives the room back that [`Self::fill`] took.
    pub fn free(&self) -> Result<()> {
        let filler = self.filler();
        if filler.exists() {
            std::fs::remove_file(filler).context("the filler")?;
        }
        Ok(())
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

fn mount(path: &CString, bytes: u64, flags: libc::c_ulong) -> Result<()> {
    let options = CString::new(format!("size={bytes},mode=0700"))?;
    let kind = c"tmpfs";
    // SAFETY: all four are terminated strings that outlive the call.
    let mounted = unsafe {
        libc::mount(
            kind.as_ptr(),
            path.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    ensure!(mounted == 0, "mount: {}", std::io::Error::last_os_error());
    Ok(())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Ok(path) = CString::new(self.folder.as_os_str().as_bytes()) {
            // SAFETY: the path is a terminated string. What still has files open there goes on with them.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}
