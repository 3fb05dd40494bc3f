//! The command line: clap structures, settings, one file a verb, progress.
