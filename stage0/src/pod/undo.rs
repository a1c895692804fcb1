//! Taking back what was done when a later step fails.

use anyhow::Result;

use crate::notice::warn;

type Step<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Steps that undo what was done so far, taken in reverse order unless [`Undo::keep`] is called.
#[derive(Default)]
pub struct Undo<'a>(Vec<Step<'a>>);

impl<'a> Undo<'a> {
    /// Adds how to undo what was done last.
    pub fn push(&mut self, step: impl FnOnce() -> Result<()> + 'a) {
        self.0.push(Box::new(step));
    }

    /// All went well: nothing is undone.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for step in self.0.drain(..).rev() {
            if let Err(err) = step() {
                warn(format_args!("undo: {err:#}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn undoes_in_reverse_order_unless_kept() {
        let done = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        for step in 1..=3 {
            let done = &done;
            undo.push(move || {
                done.borrow_mut().push(step);
                Ok(())
            });
        }
        drop(undo);
        assert_eq!(*done.borrow(), [3, 2, 1]);
        let mut undo = Undo::default();
        undo.push(|| {
            done.borrow_mut().push(4);
            Ok(())
        });
        undo.keep();
        assert_eq!(done.borrow().len(), 3);
    }
}
