//! Output streams that are read as they come.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What a stream has given so far.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    ended: bool,
}

/// A stream that a thread reads to its end.
#[derive(Clone)]
pub(super) struct Stream(Arc<(Mutex<Flow>, Condvar)>);

impl Stream {
    pub(super) fn read(mut source: impl Read + Send + 'static) -> Self {
        let stream = Self(Arc::default());
        let writer = stream.clone();
        std::thread::spawn(move || {
            let (flow, news) = &*writer.0;
            let mut buffer = [0; 8192];
            loop {
                // A pseudoterminal whose other side is closed gives an error, not an end.
                let count = source.read(&mut buffer).unwrap_or(0);
                let mut flow = flow.lock().expect("no reader panics");
                flow.bytes.extend_from_slice(&buffer[..count]);
                flow.ended |= count == 0;
                news.notify_all();
                if flow.ended {
                    return;
                }
            }
        });
        stream
    }

    /// Waits until `found` gives something of the text so far; at the stream's end it is asked a last time.
    pub(super) fn wait<T>(
        &self,
        bound: Duration,
        found: impl Fn(&str, bool) -> Option<T>,
    ) -> Result<T> {
        let (flow, news) = &*self.0;
        let end = Instant::now() + bound;
        let mut flow = flow.lock().expect("no reader panics");
        loop {
            let text = String::from_utf8_lossy(&flow.bytes);
            if let Some(found) = found(&text, flow.ended) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(
                !flow.ended && !left.is_zero(),
                "not seen in the output:\n{text}"
            );
            drop(text);
            flow = news.wait_timeout(flow, left).expect("no reader panics").0;
        }
    }

    pub(super) fn text(&self) -> String {
        let flow = self.0.0.lock().expect("no reader panics");
        String::from_utf8_lossy(&flow.bytes).into_owned()
    }
}
