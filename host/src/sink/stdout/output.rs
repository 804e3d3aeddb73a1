//! Where lines are written to, which knows whether the last one is whole.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex};

/// Standard output. It is the process's: what a sink has torn, the next session's sees.
static STANDARD: LazyLock<Arc<Mutex<Output>>> = LazyLock::new(|| {
    // The library's own keeps what it couldn't write, or loses it: nobody could tell what went out.
    let unbuffered = io::stdout().as_fd().try_clone_to_owned();
    Output::new(match unbuffered {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::stdout()),
    })
});

pub(super) fn standard() -> Arc<Mutex<Output>> {
    Arc::clone(&STANDARD)
}

pub(super) struct Output {
    to: Box<dyn Write + Send>,
    /// Whether a write failed within a line.
    torn: bool,
}

impl Output {
    pub(super) fn new(to: Box<dyn Write + Send>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { to, torn: false }))
    }

    /// Writes whole lines, behind a line break where the last one was torn: a reader drops that alone.
    pub(super) fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.put(b"\n")?;
        }
        self.put(lines)?;
        self.to.flush()
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = bytes[written - 1] != b'\n';
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
