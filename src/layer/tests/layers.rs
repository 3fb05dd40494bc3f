//! Layers configured in the sandbox.
