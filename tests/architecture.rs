//! The house's floor plan, enforced: which room may import which, and where `unsafe` may stand.
//!
//! Reads every file under `src/` as text, without comments and string literals, and follows each path that starts
//! at the crate's root (`crate::`, `rolecast::` in the binaries, `super::` chains that leave their room). It is a
//! lexer, not a compiler: what a macro writes is not seen. The table is that of the design, section 2.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A room and the rooms that it may import. `digest` is everybody's.
const ROOMS: &[(&str, &[&str])] = &[
    ("archive", &["deb", "solve", "store", "sys", "report", "spec", "lock"]),
    ("audit", &["deb", "lock", "report", "sys"]),
    (
        "cli",
        &[
            "archive", "audit", "deb", "format", "image", "join", "lab", "layer", "lock", "plan", "remote", "report",
            "seed", "sign", "solve", "spec", "store", "sys", "ticket", "tree",
        ],
    ),
    ("deb", &[]),
    // For what a processor hashes at once.
    ("digest", &["sys"]),
    ("format", &["tree"]),
    // Beside the design's: `sys`, for writing the manifest and opening what is inspected; `deb` and `lock`, for what
    // SBOM and provenance say of packages.
    ("image", &["deb", "lock", "plan", "tree", "format", "store", "sys", "report"]),
    ("join", &["ticket", "sys", "report"]),
    ("lab", &["seed", "image", "ticket", "spec", "sys", "report"]),
    ("layer", &["plan", "deb", "tree", "store", "sys", "report"]),
    ("lock", &["deb", "spec", "solve", "report"]),
    // Beside the design's: `deb`, for the date of a Release.
    ("plan", &["deb", "spec", "lock", "tree", "report"]),
    // `archive` fetches over HTTP, `image` knows the list of digests.
    ("relay", &["archive", "format", "image", "report", "sys"]),
    // `archive` judges signatures, `sign` makes them; `store` says what it lacks and knows no remote.
    ("remote", &["archive", "report", "sign", "store", "sys"]),
    ("report", &[]),
    ("seed", &["spec", "image", "ticket", "format", "store", "sys", "report"]),
    // `archive` judges keys and signatures, `deb` reads dates, `image` knows the list and the manifest.
    ("sign", &["archive", "deb", "image", "report", "sys"]),
    ("solve", &["deb", "report"]),
    ("spec", &["deb", "report"]),
    ("store", &["tree", "format", "sys", "report"]),
    ("sys", &["report"]),
    ("ticket", &[]),
    ("tree", &[]),
];

/// What the two programs start from.
const PROGRAMS: &[(&str, &[&str])] =
    &[("rolecast", &["cli"]), ("rolecast-join", &["archive", "join", "relay", "report"])];

#[test]
fn rooms_import_only_what_the_design_names() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ROOMS.iter().map(|(room, imports)| (*room, imports.iter().copied().collect())).collect();
    let programs: BTreeMap<&str, BTreeSet<&str>> =
        PROGRAMS.iter().map(|(program, imports)| (*program, imports.iter().copied().collect())).collect();
    let mut faults = Vec::new();
    let mut files = 0;
    for (path, module) in source_files() {
        files += 1;
        let text = fs::read_to_string(&path).expect("a source file is UTF-8");
        let (name, granted) = match module.first().map(String::as_str) {
            None => continue, // lib.rs only lists the rooms.
            Some("bin") => (module[1].clone(), programs.get(module[1].as_str())),
            Some(room) => (room.to_owned(), allowed.get(room)),
        };
        let Some(granted) = granted else {
            faults.push(format!("{}: `{name}` is not in the design's table of rooms", path.display()));
            continue;
        };
        for import in imports(&text, &module) {
            let known = import.room == name || import.room == "digest" || granted.contains(import.room.as_str());
            if !known && (allowed.contains_key(import.room.as_str())) {
                faults.push(format!("{}:{}: `{name}` may not import `{}`", path.display(), import.line, import.room));
            }
        }
    }
    assert!(files > 20, "only {files} source files found: is this the package's root?");
    assert!(faults.is_empty(), "imports that the design does not name:\n{}", faults.join("\n"));
}

#[test]
fn unsafe_code_stands_in_sys_alone() {
    let mut faults = Vec::new();
    for (path, module) in source_files() {
        if module.first().is_some_and(|room| room == "sys") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file is UTF-8");
        for token in tokens(&text) {
            if token.text == "unsafe" || token.text == "unsafe_code" {
                faults.push(format!("{}:{}", path.display(), token.line));
            }
        }
    }
    assert!(faults.is_empty(), "`unsafe` outside src/sys:\n{}", faults.join("\n"));
}

/// What `docs/threat-model.md` says of code and tests is said of some that exist.
#[test]
fn the_threat_model_names_what_is_there() {
    let text = fs::read_to_string("docs/threat-model.md").expect("the threat model is part of the project");
    let mut functions = BTreeSet::new();
    let tests = fs::read_dir("tests/integration").expect("the tests are part of the project");
    let tests = tests.map(|entry| entry.expect("tests are readable").path());
    for path in source_files().into_iter().map(|(path, _)| path).chain(tests) {
        let text = fs::read_to_string(path).expect("a source file is UTF-8");
        let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next()).map(str::to_owned);
        functions.extend(names);
    }
    let modules: BTreeSet<String> = source_files().into_iter().map(|(_, module)| module.join("::")).collect();
    let mut named = 0;
    for name in text.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
        named += 1;
        let last = name.rsplit("::").next().unwrap_or_default();
        assert!(modules.contains(name) || functions.contains(last), "there is no `{name}`");
    }
    assert!(named > 30, "only {named} places are named");
}

#[test]
fn the_reader_of_imports_follows_every_spelling() {
    let text = r##"
        //! crate::not_this
        use crate::{alpha, beta::{self, gamma}, digest::Digest}; // and crate::nor_this
        /* use crate::hidden; /* nested */ still */
        fn f<'a>(x: &'a str) -> char { let _ = "crate::text"; let _ = r#"crate::raw "quoted""#; '"' }
        fn g() -> crate::delta::Thing { super::inside(); super::super::epsilon::h() }
        mod tests { use super::super::super::zeta; fn k() { super::super::sibling(); } }
        fn h() { rolecast::eta::run(); other::crate_::x() }
    "##;
    let module = ["room".to_owned(), "file".to_owned()];
    let found: Vec<(usize, String)> =
        imports(text, &module).into_iter().map(|import| (import.line, import.room)).collect();
    let expected = [(3, "alpha"), (3, "beta"), (3, "digest"), (6, "delta"), (6, "epsilon"), (7, "zeta"), (8, "eta")];
    assert_eq!(found, expected.map(|(line, room)| (line, room.to_owned())));
}

/// Every file under `src/`, with its module path from the crate's root (`["bin", NAME]` for a program).
fn source_files() -> Vec<(PathBuf, Vec<String>)> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = module_path(&path);
                found.push((path, module));
            }
        }
    }
    found.sort();
    found
}

fn module_path(path: &Path) -> Vec<String> {
    let relative = path.strip_prefix("src").expect("found under src").with_extension("");
    let mut module: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// A path's first segment under the crate's root.
struct Import {
    line: usize,
    room: String,
}

/// What `text`, the module at `module`, reaches through the crate's root.
fn imports(text: &str, module: &[String]) -> Vec<Import> {
    let tokens = tokens(text);
    let word = |index: usize| tokens.get(index).map_or("", |token: &Token| token.text.as_str());
    let mut found = Vec::new();
    let mut depth = 0;
    // Brace depths at which an inline module opened.
    let mut inline: Vec<usize> = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        let starts_path = index == 0 || word(index - 1) != "::";
        match word(index) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.pop_if(|opened| *opened == depth);
            }
            "mod" if word(index + 2) == "{" => {
                inline.push(depth);
            }
            "crate" | "rolecast" if starts_path && word(index + 1) == "::" => {
                collect(&tokens, index + 2, &mut found);
            }
            "super" if starts_path => {
                let mut after = index;
                let mut levels = 0;
                while word(after) == "super" && word(after + 1) == "::" {
                    levels += 1;
                    after += 2;
                }
                if levels == module.len() + inline.len() && levels > 0 {
                    collect(&tokens, after, &mut found);
                }
            }
            _ => {}
        }
        index += 1;
    }
    found
}

/// The segment at `index`, or the first segment of each entry of a brace group there.
fn collect(tokens: &[Token], index: usize, found: &mut Vec<Import>) {
    let Some(first) = tokens.get(index) else { return };
    if first.text != "{" {
        found.push(Import { line: first.line, room: first.text.clone() });
        return;
    }
    let mut depth = 0;
    for (position, token) in tokens.iter().enumerate().skip(index) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        let opens_entry = matches!(tokens[position - 1].text.as_str(), "{" | ",");
        if depth == 1 && token.text != "{" && token.text != "," && opens_entry {
            found.push(Import { line: token.line, room: token.text.clone() });
        }
    }
}

/// A word or mark of Rust's text.
struct Token {
    line: usize,
    text: String,
}

/// Words, `::` and single marks of `text`; no comments, no literals.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut found: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut index = 0;
    while index < characters.len() {
        let start = index;
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < characters.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            '/' if at(index + 1) == '*' => {
                let mut depth = 0;
                while index < characters.len() {
                    match (at(index), at(index + 1)) {
                        ('/', '*') => depth += 1,
                        ('*', '/') => depth -= 1,
                        _ => {
                            index += 1;
                            continue;
                        }
                    }
                    index += 2;
                    if depth == 0 {
                        break;
                    }
                }
            }
            '"' => {
                // `r` or `br`, and hashes, stand before as tokens; a raw literal ends at the same number of hashes.
                let hashes = (1..=start).take_while(|back| at(start - back) == '#').count();
                let raw = start > hashes && at(start - hashes - 1) == 'r';
                index += 1;
                while index < characters.len() {
                    let closing = at(index) == '"' && (!raw || (1..=hashes).all(|ahead| at(index + ahead) == '#'));
                    if closing {
                        break;
                    }
                    index += if at(index) == '\\' && !raw { 2 } else { 1 };
                }
                index += if raw { 1 + hashes } else { 1 };
            }
            '\'' => {
                // A lifetime has no quote after its first character.
                if at(index + 1) == '\\' {
                    index += 3;
                    while index < characters.len() && at(index) != '\'' {
                        index += 1;
                    }
                    index += 1;
                } else if at(index + 2) == '\'' {
                    index += 3;
                } else {
                    index += 1;
                }
            }
            ':' if at(index + 1) == ':' => {
                found.push(Token { line, text: "::".to_owned() });
                index += 2;
            }
            character if character.is_alphanumeric() || character == '_' => {
                while at(index).is_alphanumeric() || at(index) == '_' {
                    index += 1;
                }
                found.push(Token { line, text: characters[start..index].iter().collect() });
            }
            character => {
                if !character.is_whitespace() {
                    found.push(Token { line, text: character.to_string() });
                }
                index += 1;
            }
        }
        line += characters[start..index.min(characters.len())].iter().filter(|one| **one == '\n').count();
    }
    found
}
