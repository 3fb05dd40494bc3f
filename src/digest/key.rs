//! Keys of steps: a stable hash over named inputs.

use std::fmt::Display;

use super::{Digest, Hasher};

/// The name of a step's result: what the step is, its version, and every input that can change its output.
///
/// The inputs are kept, not only hashed, so that a miss can be explained by the input that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    step: &'static str,
    inputs: Vec<(String, String)>,
}

impl Key {
    /// A key of the step `step`; `version` changes whenever the step's code changes its output (a format break).
    pub fn new(step: &'static str, version: u32) -> Self {
        Self { step, inputs: vec![("version".to_owned(), version.to_string())] }
    }

    /// Adds one input. The order of the calls is part of the key.
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.inputs.push((name.into(), value.to_string()));
        self
    }

    /// What the step is, e.g. `layer.configure`.
    pub fn step(&self) -> &'static str {
        self.step
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[(String, String)] {
        &self.inputs
    }

    /// The key's digest.
    pub fn digest(&self) -> Digest {
        Self::digest_of(self.step, &self.inputs)
    }

    /// The digest of the key of `step` with `inputs`. Every text is preceded by its length, so that no two lists of
    /// inputs read alike.
    pub fn digest_of(step: &str, inputs: &[(String, String)]) -> Digest {
        let mut hasher = Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(step);
        for (name, value) in inputs {
            add(name);
            add(value);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_cannot_run_into_each_other() {
        let one = Key::new("step", 1).input("a", "bc");
        let other = Key::new("step", 1).input("ab", "c");
        assert_ne!(one.digest(), other.digest());
    }
}
